"""The standing audit: verifies everything daily, a rotating part of it in full, and repairs if so configured."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timezone

import dagster as dg
from pydantic import Field

from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.orchestration.forms import LevelOption, LookForm, chosen, level_of
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.orchestration.tables import rows_table
from embedding_assets.pipeline.findings import Findings, Row
from embedding_assets.pipeline.gone import GONE
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.scratch import ScratchFolder
from embedding_assets.vectorstore.gone import RecordsWouldGoError

AUDIT_JOB = "audit"


class AuditConfig(LookForm):
    """Options of the audit."""

    level: LevelOption = Field(default=LevelOption.quick, description="`quick`, or `full` for everything.")
    full_share: float = Field(
        default=1 / 7, ge=0, le=1, description="At `quick`, this share is verified in full, another one each day."
    )
    repair: bool = Field(default=True, description="Move aside what is corrupted, and compact from what is good.")


def build_audit(catalog: Catalog, names: Names) -> dg.JobDefinition:
    """The audit of these collections, as a job."""

    @dg.op(
        name=names.of("verify_everything"),
        description="Verify every delta and snapshot, report it as check evaluations, repair what is corrupted.",
        out={},
        required_resource_keys={names.store},
    )
    def verify_everything(context: dg.OpExecutionContext, config: AuditConfig) -> Iterator[dg.AssetCheckEvaluation]:
        turn, level, objects = (
            datetime.now(timezone.utc).toordinal(),
            level_of(config.level),
            names.store_in(context).open(),
        )
        made: list[dg.AssetCheckEvaluation] = []
        corrupted: list[tuple[CollectionSpec, Findings]] = []
        with ScratchFolder("audit") as scratch:
            for spec in chosen(catalog, config.collections):
                found = check_collection(objects, spec, level, scratch, full_share=config.full_share, turn=turn)
                context.log.info(f"{spec.name}: {found.summary}")
                made += evaluations(found, names)
                if found.count("corrupted") or any(row.get("kind") == GONE for row in found.rows):
                    corrupted.append((spec, found))
            # The failed ones last: a check's page opens with the latest evaluation of any partition. They are events
            # of this run: of those without a run Dagster stores but one per check and partition, ever. And they are
            # told before anything is repaired, which may fail.
            yield from sorted(made, key=lambda one: not one.passed)
            refused: list[RecordsWouldGoError] = []
            for spec, found in corrupted if config.repair else ():
                try:
                    planned = repair(objects, spec, level=level, run_id=context.run_id, scratch=scratch, found=found)
                    done = planned.execute()
                except RecordsWouldGoError as error:  # the other collections come first
                    context.log.warning(str(error))
                    refused.append(error)
                    continue
                context.log.warning(f"{spec.name}: repaired: {done.summary}")
                for row in done.rows:
                    context.log.warning(str({key: value for key, value in row.items() if value}))
            if refused:
                raise refused[0]

    @dg.job(
        name=names.of(AUDIT_JOB),
        description="Verifies everything; each cell and collection gets a check evaluation.",
        executor_def=dg.in_process_executor,
    )
    def audit() -> None:
        verify_everything()

    return audit


def evaluations(found: Findings, names: Names) -> list[dg.AssetCheckEvaluation]:
    """An evaluation of `deltas_are_whole` per cell and one of `snapshot_is_whole` for the collection."""
    cells: dict[str, list[Row]] = defaultdict(list)
    whole: list[Row] = []
    for row in found.rows:
        if row.get("kind") in ("delta", "records") and row.get("day"):
            cells[str(row["day"])].append(row)
        elif row.get("verdict"):
            whole.append(row)
    made = [
        _evaluation(names.asset("deltas"), "deltas_are_whole", cell_key(found.collection, day), rows)
        for day, rows in sorted(cells.items())
    ]
    return [*made, _evaluation(names.asset("snapshots"), "snapshot_is_whole", found.collection, whole)]


def _remarks(rows: list[Row]) -> str:
    return "".join(f"; {row['kind']} {row['name']} was {row['reason']}" for row in rows if row["reason"])


def _remedy(row: Row) -> str:
    return f". {str(row['remedy']).rstrip('.')}" if row.get("remedy") else ""


def _evaluation(asset: dg.AssetKey, check: str, partition: str, rows: list[Row]) -> dg.AssetCheckEvaluation:
    aside = [row for row in rows if row["kind"] == "records"]
    rows = [row for row in rows if row["kind"] != "records"]
    corrupted = [row for row in rows if row["verdict"] == "corrupted"]
    unknown = [row for row in rows if row["verdict"] == "unknown"]
    wrong = corrupted or unknown
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=check,
        passed=not wrong and not aside,
        # What could not be read just now is for a person to know, and no damage.
        severity=dg.AssetCheckSeverity.ERROR if corrupted else dg.AssetCheckSeverity.WARN,
        description="audit: "
        + (
            "; ".join(f"{r['kind']} {r['name']}: {r['reason']}{_remedy(r)}" for r in wrong[:3])
            or f"{len(rows)} valid" + _remarks(rows)
        )
        + "".join(f"; {row['state']}" for row in aside),
        # The names that the checks use, too, so that both are in one plot.
        metadata={
            "damaged": len(corrupted),
            "unknown": len(unknown),
            "set_aside_records": sum(int(row["records"] or 0) for row in aside),
            "verdicts": rows_table(rows),
        },
        partition=partition,
    )
