"""Checks of `batch_results`: is every record that was asked for accounted for?"""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
from collections.abc import Iterator

import dagster as dg

from embedding_assets.batches.balance import CellBalance, balance
from embedding_assets.batches.collisions import Collision, collisions
from embedding_assets.batches.standing import asked_after
from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.checks.judgements import check_result
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_of, cell_partitions, partition_of
from embedding_assets.orchestration.tables import table
from embedding_assets.pipeline.kinds import as_held
from embedding_assets.pipeline.quality import REJECTS, judge_rejects

_COMPLETE = "results_are_complete"
_NAMED = 20
_BATCHES = 3  # that are named of one id; the last ones


def build_result_checks(catalog: Catalog, names: Names) -> dg.AssetChecksDefinition:
    """The checks for these collections, which look into the books once."""
    asset, cells = names.asset("batch_results"), cell_partitions(catalog)

    @dg.multi_asset_check(
        name=names.of("check_results"),
        specs=[
            # Blocking: what is built on results with unaccounted records would hide that they are missing.
            dg.AssetCheckSpec(
                _COMPLETE,
                asset=asset,
                blocking=True,
                partitions_def=cells,
                description="requested = accepted + rejected + pending, id by id. Rejected records, "
                "batches that are late, a limit of the API account, and ids that batches of other programs use for "
                "different texts are a warning, by name.",
            ),
            dg.AssetCheckSpec(
                REJECTS,
                asset=asset,
                partitions_def=cells,
                description="No more of the records were rejected than `quality.rejected_share` allows.",
            ),
        ],
        required_resource_keys={names.store},
    )
    def check_results(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        collection, day = cell_of(partition_of(context))
        objects = names.store_in(context).open()
        spec = as_held(objects, catalog.get(collection))
        books = balance(objects, spec, day)
        foreign = any(row.foreign for row in books.batches)
        colliding = collisions(objects, collection, day) if foreign else []
        yield check_result(judge_rejects(books.requested, books.rejected, spec), asset)
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=_COMPLETE,
            passed=books.balanced and not (books.rejected or books.limited or books.late or books.damaged or colliding),
            severity=dg.AssetCheckSeverity.WARN if books.balanced else dg.AssetCheckSeverity.ERROR,
            description=_books_in_words(books)
            + _late_in_words(books.late)
            + _damaged_in_words(books)
            + _colliding_in_words(colliding),
            metadata={
                "requested": books.requested,
                "accepted": books.accepted,
                "rejected": books.rejected,
                "pending": books.pending,
                "to_be_asked_again": books.again,
                "waiting_for_quota": books.limited,
                "waiting": table(
                    [{"reason": why, "records": count} for why, count in list(books.waiting.items())[:_NAMED]],
                    {"reason": "string", "records": "int"},
                ),
                "awaited_batches": books.awaited[:_NAMED],
                "unaccounted": len(books.unaccounted),
                "set_aside_batches": books.aside[:_NAMED],
                "late_batches": books.late[:_NAMED],
                "damaged_requests": [str(one) for one in books.damaged[:_NAMED]],
                "colliding_ids": len(colliding),
                "collisions": table(
                    [
                        {"id": one.id, "texts": one.texts, "batches": ", ".join(one.batches[-_NAMED:])}
                        for one in colliding[:_NAMED]
                    ],
                    {"id": "string", "texts": "int", "batches": "string"},
                ),
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

    return check_results


def _colliding_in_words(colliding: list[Collision]) -> str:
    if not colliding:
        return ""
    one = colliding[0]
    said = "the id" if len(colliding) == 1 else f"{len(colliding)} ids, such as"
    return (
        f"; batches of other programs use {said} {one.id} for different texts "
        f"({', '.join(one.batches[-_BATCHES:])}); the one submitted last counts, see `collisions`"
    )


def _late_in_words(late: list[str]) -> str:
    if not late:
        return ""
    said = "1 batch" if len(late) == 1 else f"{len(late)} batches, such as"
    return f"; late: {said} {late[0]}; `embedding-assets batches list --open` shows what can be done"


def _damaged_in_words(books: CellBalance) -> str:
    """Others go on: it is a warning, which blocks nothing."""
    count = len(books.damaged)
    if not count:
        return ""
    said = "1 record of a request is" if count == 1 else f"{count} records of requests are"
    return f"; {said} damaged, such as {books.damaged[0]}"


def _books_in_words(books: CellBalance) -> str:
    requested, unaccounted = books.requested, books.unaccounted
    if unaccounted:
        return f"{len(unaccounted)} of {requested} records are unaccounted for, such as {', '.join(unaccounted[:3])}"
    said = [f"all {requested} records are accounted for"]
    if books.rejected:
        said.append(f"{books.rejected} were rejected, see `rejections`")
    if books.pending:
        said.append(f"{books.pending} are pending")
    if books.paused_until:
        said.append(f"some are {asked_after(books.paused_until)}")
    if books.limited:
        said.append(books.limited_in_words)
    return "; ".join([*said, *books.awaited[:3]])
