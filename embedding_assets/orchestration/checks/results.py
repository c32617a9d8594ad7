"""Checks of `batch_results`: is every record that was asked for accounted for?"""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
import dagster as dg

from embedding_assets.batches.balance import balance
from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_of, cell_partitions
from embedding_assets.orchestration.tables import table

_NAMED = 20


def build_results_are_complete(catalog: Catalog, names: Names) -> dg.AssetChecksDefinition:
    """The check for these collections."""

    # Blocking: what is built on results with unaccounted records would hide that they are missing.
    @dg.asset_check(
        asset=names.asset("batch_results"),
        blocking=True,
        partitions_def=cell_partitions(catalog),
        required_resource_keys={names.store},
    )
    def results_are_complete(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        """requested = accepted + rejected + pending, id by id. Rejected records are a warning, by name."""
        collection, day = cell_of(context.partition_key)
        books = balance(names.store_in(context).open(), catalog.get(collection), day)
        return dg.AssetCheckResult(
            passed=books.balanced and not books.rejected,
            severity=dg.AssetCheckSeverity.WARN if books.balanced else dg.AssetCheckSeverity.ERROR,
            description=_books_in_words(books.requested, books.rejected, books.pending, list(books.unaccounted)),
            metadata={
                "requested": books.requested,
                "accepted": books.accepted,
                "rejected": books.rejected,
                "pending": books.pending,
                "to_be_asked_again": books.again,
                "unaccounted": len(books.unaccounted),
                "unaccounted_ids": list(books.unaccounted[:_NAMED]),
                "batches": table(
                    [
                        {
                            "batch": row.batch_id or row.request_id,
                            "status": row.status,
                            "attempt": row.attempt,
                            "requested": row.requested,
                            "accepted": row.accepted,
                            "rejected": row.rejected,
                            "missing": row.missing,
                            "reason": row.reason,
                        }
                        for row in books.batches
                    ],
                    {
                        "batch": "string",
                        "status": "string",
                        "attempt": "int",
                        "requested": "int",
                        "accepted": "int",
                        "rejected": "int",
                        "missing": "int",
                        "reason": "string",
                    },
                ),
                "rejections": table(
                    [{"name": one.name, "code": one.code, "reason": one.reason} for one in books.rejections],
                    {"name": "string", "code": "string", "reason": "string"},
                ),
            },
        )

    return results_are_complete


def _books_in_words(requested: int, rejected: int, pending: int, unaccounted: list[str]) -> str:
    if unaccounted:
        return f"{len(unaccounted)} of {requested} records are unaccounted for, such as {', '.join(unaccounted[:3])}"
    if rejected:
        return f"all {requested} records are accounted for; {rejected} were rejected, see `rejections`"
    return f"all {requested} records are accounted for" + (f"; {pending} are pending" if pending else "")
