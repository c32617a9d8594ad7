"""A standing look at how fresh the collections are: when nothing runs, no run would notice."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources and configuration as objects.
from collections.abc import Iterator

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.orchestration.checks.judgements import severity
from embedding_assets.orchestration.names import Names
from embedding_assets.pipeline.quality import FRESH, Judgement, judge_freshness

FRESHNESS_JOB = "check_freshness"


def build_freshness_job(catalog: Catalog, names: Names) -> list[dg.JobDefinition]:
    """The job for the collections that declare `freshness`; none where no one does."""
    expected = [spec for spec in catalog if spec.freshness]
    if not expected:
        return []

    @dg.op(
        name=names.of("look_at_freshness"),
        description="Evaluate `snapshot_is_fresh` for every collection that declares `freshness`.",
        out={},
        required_resource_keys={names.store},
    )
    def look_at_freshness(context: dg.OpExecutionContext) -> Iterator[dg.AssetCheckEvaluation]:
        made = []
        for spec in expected:
            try:
                judged = judge_freshness(names.store_in(context).open(), spec)
            except EmbeddingAssetsError as error:
                judged = Judgement(FRESH, False, f"could not be judged: {error}")
            if judged is not None:
                made.append((spec.name, judged))
        # The failed ones last: a check's page opens with the latest evaluation of any partition.
        for name, judged in sorted(made, key=lambda one: not one[1].passed):
            context.log.info(f"{name}: {judged.said}")
            yield dg.AssetCheckEvaluation(
                asset_key=names.asset("snapshots"),
                check_name=FRESH,
                passed=judged.passed,
                severity=severity(judged),
                description=judged.said,
                metadata=dict(judged.numbers),
                partition=name,
            )

    @dg.job(
        name=names.of(FRESHNESS_JOB),
        description="Looks at how old the newest delta of every snapshot is; changes nothing.",
        executor_def=dg.in_process_executor,
    )
    def check_freshness() -> None:
        look_at_freshness()

    return [check_freshness]
