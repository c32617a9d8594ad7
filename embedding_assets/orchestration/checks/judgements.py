"""Judgements as the results and evaluations of asset checks."""

from __future__ import annotations

import dagster as dg

from embedding_assets.pipeline.quality import Judgement


def severity(judgement: Judgement) -> dg.AssetCheckSeverity:
    """How bad it is if it did not pass."""
    return dg.AssetCheckSeverity.ERROR if judgement.severe else dg.AssetCheckSeverity.WARN


def check_result(judgement: Judgement, asset: dg.AssetKey) -> dg.AssetCheckResult:
    """The result of a check in a run of its partition."""
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=judgement.check,
        passed=judgement.passed,
        severity=severity(judgement),
        description=judgement.said,
        metadata=dict(judgement.numbers),
    )
