"""Asset checks, partitioned like their assets, so that one partition's failure is never masked by another's success."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

from embedding_assets.batches.balance import balance
from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.partitions import cell_of, cell_partitions, collection_partitions
from embedding_assets.orchestration.resources import StoreResource
from embedding_assets.orchestration.tables import table
from embedding_assets.pipeline.proofs import prove_deltas, prove_snapshot

_NAMED = 20


def build_checks(catalog: Catalog) -> Sequence[dg.AssetChecksDefinition]:
    """The checks of all assets, for these collections."""
    return [_results_are_complete(catalog), _deltas_are_whole(catalog), _snapshot_is_whole(catalog)]


def _results_are_complete(catalog: Catalog) -> dg.AssetChecksDefinition:
    # Blocking: what is built on results with unaccounted records would hide that they are missing.
    @dg.asset_check(asset="batch_results", blocking=True, partitions_def=cell_partitions(catalog))
    def results_are_complete(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        """requested = accepted + rejected + pending, id by id. Rejected records are a warning, by name."""
        collection, day = cell_of(context.partition_key)
        books = balance(store.open(), catalog.get(collection), day)
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


def _deltas_are_whole(catalog: Catalog) -> dg.AssetChecksDefinition:
    # Blocking: a snapshot must not be made of damaged deltas.
    @dg.asset_check(asset="deltas", blocking=True, partitions_def=cell_partitions(catalog))
    def deltas_are_whole(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        """Every file of every delta is in the store as its manifest says, and every landed batch is in a delta."""
        collection, day = cell_of(context.partition_key)
        proof = prove_deltas(store.open(), catalog.get(collection), day)
        damaged = [delta for delta in proof.deltas if delta.problem]
        if damaged:
            said = "; ".join(f"delta {delta.ref.id}: {delta.problem}" for delta in damaged[:3])
        elif proof.waiting:
            said = f"{len(proof.waiting)} landed batches are in no delta; the next run builds it"
        else:
            said = f"{len(proof.deltas)} of {len(proof.deltas)} deltas are whole"
        return dg.AssetCheckResult(
            passed=proof.whole and not proof.waiting,
            severity=dg.AssetCheckSeverity.WARN if proof.whole else dg.AssetCheckSeverity.ERROR,
            description=said,
            metadata={
                "deltas": len(proof.deltas),
                "damaged": len(damaged),
                "batches_without_a_delta": len(proof.waiting),
                "records": sum(delta.manifest.count for delta in proof.deltas if delta.manifest),
                "verdicts": table(
                    [
                        {
                            "delta": delta.ref.id,
                            "verdict": "corrupted" if delta.problem else "valid",
                            "reason": delta.problem or "",
                            "records": delta.manifest.count if delta.manifest else None,
                            "batches": ", ".join(e.batch_id for e in delta.manifest.batches) if delta.manifest else "",
                        }
                        for delta in proof.deltas
                    ],
                    {
                        "delta": "string",
                        "verdict": "string",
                        "reason": "string",
                        "records": "int",
                        "batches": "string",
                    },
                ),
            },
        )

    return deltas_are_whole


def _snapshot_is_whole(catalog: Catalog) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="snapshots", blocking=True, partitions_def=collection_partitions(catalog))
    def snapshot_is_whole(context: dg.AssetCheckExecutionContext, store: StoreResource) -> dg.AssetCheckResult:
        """The current snapshot opens, reads back as its manifest says, and holds every id that was ever accepted."""
        spec = catalog.get(context.partition_key)
        with TemporaryDirectory(prefix="embedding-assets-") as scratch:
            proof = prove_snapshot(store.open(), spec, Path(scratch))
        if proof.problems:
            said = "; ".join(proof.problems)
        elif proof.lost:
            said = f"{len(proof.lost)} accepted records are not in the snapshot, such as {', '.join(proof.lost[:3])}"
        elif proof.manifest is None:
            said = "there is no snapshot yet"
        else:
            said = f"{proof.manifest.count} records, whole; every accepted id is there" + (
                f" or among the {proof.waiting} that wait for compaction" if proof.waiting else ""
            )
        return dg.AssetCheckResult(
            passed=not proof.problems and proof.conserved,
            description=said,
            metadata={
                "version": proof.manifest.id if proof.manifest else "none",
                "records": proof.manifest.count if proof.manifest else 0,
                "accepted": proof.accepted,
                "waiting_for_compaction": proof.waiting,
                "lost": len(proof.lost),
                "lost_ids": list(proof.lost[:_NAMED]),
                "of_unknown_batches": len(proof.unexplained),
                "damaged_landings": list(proof.damaged_landings[:_NAMED]),
                "self_search": f"{proof.found} of {proof.sampled} sampled records find themselves",
                "problems": list(proof.problems),
            },
        )

    return snapshot_is_whole
