"""Run requests that ask again: the runs of a partition, as Dagster knows them, say when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

import dagster as dg

from embedding_assets.pipeline.attempts import ATTEMPTS, PastRun, next_attempt
from embedding_assets.store import layout

PARTITION_TAG = "dagster/partition"
REASON_TAG = "embedding_assets/reason"
STATE_TAG = "embedding_assets/state"
ATTEMPT_TAG = "embedding_assets/attempt"
LAST_ATTEMPT_TAG = "embedding_assets/last_attempt"
_LOOKED_AT = 50


def request_run(
    instance: dg.DagsterInstance,
    job: str,
    assets: Iterable[dg.AssetKey],
    partition: str,
    state: str,
    reason: str,
    *,
    selection: Sequence[dg.AssetKey] | None = None,
    once: bool = False,
    now: float | None = None,
) -> dg.RunRequest | str:
    """A request for a run on a partition, or in words why there is none now.

    Two looks at the same state make the same run key, so that the daemon makes one run of them; a run that is queued or
    under way on the partition, whoever launched it, lets nothing be asked for.

    Args:
        instance: whose runs are looked at.
        job: the job's name.
        assets: what it makes; a run by hand that makes one of them counts as well.
        partition: the partition key.
        state: what there is to do; changes whenever there is something else to do.
        reason: why, in words, for the run's tags.
        selection: run only these of the job's assets.
        once: whether a run that ended well is enough, though the state stays as it is.
        now: seconds since 1970, the time unless given.
    """
    past = _past_runs(instance, job, frozenset(assets), partition)
    attempt = next_attempt(state, past, layout.now().timestamp() if now is None else now, once=once)
    if attempt.kind == "under way":
        return f"{partition}: a run is queued or under way"
    if attempt.kind == "done":
        return f"{partition}: {reason}; a run has told of it"
    if attempt.kind == "later":
        at = f"{datetime.fromtimestamp(attempt.at, timezone.utc):%H:%M:%S} UTC"
        if attempt.hopeless:
            return f"{partition}: {ATTEMPTS} attempts have failed; the next one is due at {at}. " + (
                "Remove the cause, and launch it once by hand to have it done at once"
            )
        return f"{partition}: {reason}; attempt {attempt.number} of {ATTEMPTS} is due at {at}"
    made = sum(run.state == state for run in past) + 1
    return dg.RunRequest(
        run_key=f"{partition}/{state}/{made}",
        partition_key=partition,
        asset_selection=selection,
        tags={
            REASON_TAG: reason,
            STATE_TAG: state,
            ATTEMPT_TAG: str(attempt.number),
            **({LAST_ATTEMPT_TAG: "true"} if attempt.last else {}),
        },
    )


def _past_runs(instance: dg.DagsterInstance, job: str, assets: frozenset[dg.AssetKey], partition: str) -> list[PastRun]:
    """The latest runs on a partition that make one of the assets, the newest first."""
    found = []
    for record in instance.get_run_records(dg.RunsFilter(tags={PARTITION_TAG: partition}), limit=_LOOKED_AT):
        run = record.dagster_run
        if run.job_name != job and not assets & (run.asset_selection or frozenset()):
            continue
        ended = (record.end_time or record.update_timestamp.timestamp()) if run.is_finished else None
        cancelled = run.status == dg.DagsterRunStatus.CANCELED
        found.append(PastRun(run.tags.get(STATE_TAG), ended, run.is_success, cancelled))
    return found
