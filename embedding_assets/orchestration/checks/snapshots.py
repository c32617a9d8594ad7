"""Checks of `snapshots`: is the current one whole, and does it hold everything?"""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import collection_partitions, partition_of
from embedding_assets.pipeline.proofs import prove_snapshot
from embedding_assets.scratch import ScratchFolder
from embedding_assets.vectorstore.unstorable import in_words

_NAMED = 20


def build_snapshot_is_whole(catalog: Catalog, names: Names) -> dg.AssetChecksDefinition:
    """The check for these collections."""

    @dg.asset_check(
        asset=names.asset("snapshots"),
        blocking=True,
        partitions_def=collection_partitions(catalog),
        required_resource_keys={names.store},
    )
    def snapshot_is_whole(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        """The current snapshot opens, reads back as its manifest says, and holds every id that was ever accepted."""
        spec = catalog.get(partition_of(context))
        with ScratchFolder("check") as scratch:
            proof = prove_snapshot(names.store_in(context).open(), spec, scratch)
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
            said += f"; it was {proof.remark}" if proof.remark else ""
            said += f"; {in_words(proof.set_aside)}" if proof.set_aside else ""
        whole = not proof.problems and proof.conserved
        if proof.gone:
            said += f"; {'; '.join(proof.gone[:3])}. `embedding-assets repair` makes it again"
        return dg.AssetCheckResult(
            passed=whole and not proof.gone,
            # No data is damaged where a delta is gone: the rest of the run goes on, and a person is told.
            severity=dg.AssetCheckSeverity.WARN if whole else dg.AssetCheckSeverity.ERROR,
            description=said,
            metadata={
                "version": proof.manifest.id if proof.manifest else "none",
                "records": proof.manifest.count if proof.manifest else 0,
                "accepted": proof.accepted,
                "waiting_for_compaction": proof.waiting,
                "set_aside_records": len(proof.set_aside),
                "lost": len(proof.lost),
                "lost_ids": list(proof.lost[:_NAMED]),
                "of_unknown_batches": len(proof.unexplained),
                "damaged_landings": list(proof.damaged_landings[:_NAMED]),
                "self_search": f"{proof.found} of {proof.sampled} sampled records find themselves",
                **({} if proof.recall is None else {"recall": proof.recall}),
                "gone_deltas": list(proof.gone[:_NAMED]),
                "problems": list(proof.problems),
            },
        )

    return snapshot_is_whole
