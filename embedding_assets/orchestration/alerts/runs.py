"""What runs tell: evaluations of checks, from assets' runs and from audits alike, and steps that did not end well.

Open-source Dagster alerts on no check: a failed one that does not block leaves its run successful, and on some storages
evaluations cannot be listed across runs. So the events of each run are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import dagster as dg

from embedding_assets.alerts.message import Change, Severity
from embedding_assets.orchestration.alerts import advice
from embedding_assets.orchestration.alerts.own import Own
from embedding_assets.orchestration.attempts import ATTEMPT_TAG, LAST_ATTEMPT_TAG, PARTITION_TAG
from embedding_assets.orchestration.checks.requests import CLAIMED

_PARTITION_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_CHECK_FAILED = "DagsterAssetCheckFailedError"
_AT_ONCE = 1000

_EVALUATION = dg.DagsterEventType.ASSET_CHECK_EVALUATION
_PLANNED = {dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}
_OF_FINISHED = {
    _EVALUATION,
    *_PLANNED,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
}


def observe_run(instance: dg.DagsterInstance, run: dg.DagsterRun, own: Own) -> list[Change]:
    """What a run shows of a set's checks, steps and jobs: failures and successes, in the order of time.

    Of a run that is under way only its evaluations so far: that it fails is not certain before its end.
    """
    events = _events(instance, run.run_id, _OF_FINISHED if run.is_finished else {_EVALUATION})
    found = [change for event in events if (change := _evaluation(event, run, own))]
    if run.is_finished:
        found += _steps(events, run, own)
    return sorted(found, key=lambda change: change.at)


def about(run: dg.DagsterRun) -> str:
    """A run in words."""
    name = "materialization" if run.job_name.startswith("__ASSET_JOB") else run.job_name
    return f"run {run.run_id[:8]} of {name}"


def page_of(run_id: str) -> str:
    """Path of a run's page in the UI."""
    return f"runs/{run_id}"


def _events(instance: dg.DagsterInstance, run_id: str, types: set[dg.DagsterEventType]) -> Sequence[dg.EventLogEntry]:
    found: list[dg.EventLogEntry] = []
    cursor = None
    while True:
        page = instance.get_records_for_run(run_id, cursor=cursor, of_type=types, limit=_AT_ONCE)
        found += [record.event_log_entry for record in page.records]
        if not page.has_more:
            return found
        cursor = page.cursor


def _evaluation(event: dg.EventLogEntry, run: dg.DagsterRun, own: Own) -> Change | None:
    if event.dagster_event is None or event.dagster_event.event_type != _EVALUATION:
        return None
    one = event.dagster_event.asset_check_evaluation_data
    asset = one.asset_key.to_user_string()
    if asset not in own.assets:
        return None
    severity: Severity = "WARN" if one.severity == dg.AssetCheckSeverity.WARN else "ERROR"
    by_itself, to_do = advice.for_check(one.check_name, severity)
    return Change(
        kind="check",
        name=one.check_name,
        failed=not one.passed,
        at=event.timestamp,
        severity=severity,
        asset=asset,
        # What belongs to no cell is told once, whichever cell's run finds it.
        partition="" if one.check_name == CLAIMED else one.partition or _partition(run),
        found=one.description or ("" if one.passed else "it gave no description"),
        by_itself="" if one.passed else by_itself,
        to_do="" if one.passed else to_do,
        page=f"assets/{asset}?view=checks&checkDetail={one.check_name}",
    )


def _steps(events: Sequence[dg.EventLogEntry], run: dg.DagsterRun, own: Own) -> list[Change]:
    """What ended well and what did not; of a run that died without a word, what it had still to do."""
    ended: dict[str, Change] = {}
    planned: dict[str, None] = {}
    why, at = "it ended without a word", 0.0
    of_assets = any(e.dagster_event and e.dagster_event.event_type in _PLANNED for e in events)
    for event in events:
        told = event.dagster_event
        if told is None:
            continue
        at = max(at, event.timestamp)
        step = _whole(told.step_key or "")
        if told.event_type == dg.DagsterEventType.RUN_FAILURE:
            why = _sentence(told.message or why)
        elif told.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED and step:
            planned[step] = None
        elif step and told.event_type in (dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE):
            if step not in own.steps and run.job_name not in own.jobs:
                continue
            reason = _failure(told)
            # Of an asset that is made in several steps a failed one counts, and that some ended well means nothing.
            if not reason and (
                (step in ended and ended[step].failed) or (step != told.step_key and not run.is_success)
            ):
                continue
            ended[step] = _change(run, "step", step if of_assets else f"{run.job_name}.{step}", reason, event.timestamp)
    found = list(ended.values())
    if run.status == dg.DagsterRunStatus.CANCELED:
        # Somebody ended it on purpose: a step that was interrupted did not fail, whatever its error looks like.
        return [change for change in found if not change.failed]
    if run.status == dg.DagsterRunStatus.FAILURE and not any(change.failed for change in found):
        if not any(_checked(event) for event in events):  # it failed because a check did, which is told as such
            left = [step for step in planned if step in own.steps and step not in ended]
            found += [_change(run, "step", step, why, at) for step in left]
            if not left and run.job_name in own.jobs:
                found.append(_change(run, "job", run.job_name, why, at))
    elif run.status == dg.DagsterRunStatus.SUCCESS and run.job_name in own.jobs:
        found.append(_change(run, "job", run.job_name, "", at))
    return found


def _change(run: dg.DagsterRun, kind: str, name: str, reason: str, at: float) -> Change:
    severity: Severity = "STOPPED" if LAST_ATTEMPT_TAG in run.tags else "ERROR"
    by_itself, to_do = advice.for_run(requested=ATTEMPT_TAG in run.tags, severity=severity)
    return Change(
        kind="job" if kind == "job" else "step",
        name=name,
        failed=bool(reason),
        at=at,
        severity=severity,
        partition=_partition(run),
        found=reason,
        by_itself=by_itself if reason else "",
        to_do=to_do if reason else "",
        page=page_of(run.run_id),
    )


def _whole(step: str) -> str:
    """The step that a step belongs to: `compact_shards` of `compact_shards.make_shard[3]`."""
    return step.partition(".")[0].partition("[")[0]


def _failure(event: dg.DagsterEvent) -> str:
    """Why a step failed, by its first cause; nothing where it did not, or only did because a check of it failed."""
    if not event.is_step_failure:
        return ""
    error = event.step_failure_data.error
    if error is not None and error.cls_name == _CHECK_FAILED:
        return ""
    while error is not None and error.cause is not None:
        error = error.cause
    return _sentence(error.message if error else event.message or "it failed") or "it failed"


def _checked(event: dg.EventLogEntry) -> bool:
    told = event.dagster_event
    error = told.step_failure_data.error if told and told.is_step_failure else None
    return error is not None and error.cls_name == _CHECK_FAILED


def _partition(run: dg.DagsterRun) -> str:
    if PARTITION_TAG in run.tags:
        return run.tags[PARTITION_TAG]
    first, last = (run.tags.get(tag, "") for tag in _PARTITION_RANGE)
    return f"{first}...{last}" if first else ""


def _sentence(text: str) -> str:
    # Errors of this package's carry their class's long name before what they say.
    return re.sub(r"^[\w.]+\.(\w*Error)\b", r"\1", " ".join(text.split()))
