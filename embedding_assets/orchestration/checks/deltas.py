"""Checks of `deltas`: are they in the store as their manifests say?"""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_of, cell_partitions, partition_of
from embedding_assets.orchestration.tables import table
from embedding_assets.pipeline.proofs import prove_deltas
from embedding_assets.vectorstore.unstorable import in_words


def build_deltas_are_whole(catalog: Catalog, names: Names) -> dg.AssetChecksDefinition:
    """The check for these collections."""

    # Blocking: a snapshot must not be made of damaged deltas.
    @dg.asset_check(
        asset=names.asset("deltas"),
        blocking=True,
        partitions_def=cell_partitions(catalog),
        required_resource_keys={names.store},
    )
    def deltas_are_whole(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        """Every file of every delta is in the store as its manifest says, and every landed batch is in a delta."""
        collection, day = cell_of(partition_of(context))
        proof = prove_deltas(names.store_in(context).open(), catalog.get(collection), day)
        damaged = [delta for delta in proof.deltas if delta.problem]
        if damaged:
            said = "; ".join(f"delta {delta.ref.id}: {delta.problem}" for delta in damaged[:3])
        elif proof.waiting:
            said = f"{len(proof.waiting)} landed batches are in no delta; the next run builds it"
        else:
            said = f"{len(proof.deltas)} of {len(proof.deltas)} deltas are whole"
            said += "".join(f"; delta {delta.ref.id} was {delta.remark}" for delta in proof.deltas if delta.remark)
        if proof.set_aside:
            said += f"; {in_words(proof.set_aside)}"
        return dg.AssetCheckResult(
            passed=proof.whole and not proof.waiting and not proof.set_aside,
            severity=dg.AssetCheckSeverity.WARN if proof.whole else dg.AssetCheckSeverity.ERROR,
            description=said,
            metadata={
                "deltas": len(proof.deltas),
                "damaged": len(damaged),
                "batches_without_a_delta": len(proof.waiting),
                "set_aside_records": len(proof.set_aside),
                "records": sum(delta.manifest.count for delta in proof.deltas if delta.manifest),
                "verdicts": table(
                    [
                        {
                            "delta": delta.ref.id,
                            "verdict": "corrupted" if delta.problem else "valid",
                            "reason": delta.problem or delta.remark,
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
