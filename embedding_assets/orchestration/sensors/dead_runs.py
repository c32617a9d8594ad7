"""The sensor that fails runs whose process has died, so that they hold no partition and no place in the queue."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
from dataclasses import dataclass, replace

import dagster as dg
import orjson

from embedding_assets.orchestration.alerts.own import Own, is_in, location_of
from embedding_assets.orchestration.heartbeat import ALIVE_TAG, BEAT_SECONDS, life_of
from embedding_assets.orchestration.names import Names
from embedding_assets.store import layout

DEAD_RUNS = "dead_runs"
SECONDS = 20
# Looks as well as seconds: a clock that jumps ahead, or a daemon that was down, lets no run look silent.
_LOOKS_IF_DEAD, _LOOKS_IF_SILENT = 3, 15
_SILENT_SECONDS = 300.0
# More than between two signs: where processes of others are hidden, one that gives signs is not taken for dead.
_DEAD_SECONDS = BEAT_SECONDS + 5
# Of a run that never gave a sign, as one that an earlier version began.
_NEVER_HEARD_SECONDS = 3600.0


@dataclass(frozen=True)
class Silence:
    """How long a run has given the same sign: seen first at `since` (seconds since 1970), and in so many looks."""

    sign: str | None
    since: float
    looks: int = 0


def build_dead_runs(names: Names, own: Own, status: dg.DefaultSensorStatus, seconds: int) -> dg.SensorDefinition:
    """The sensor for one set of collections; `seconds`: how often the other sensors look."""

    @dg.sensor(
        name=names.of(DEAD_RUNS),
        default_status=status,
        minimum_interval_seconds=min(seconds, SECONDS),
        description="Fails runs that give no sign of life any more; the other sensors ask for their work again.",
    )
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now, before = layout.now().timestamp(), _read(context.cursor)
        silent: dict[str, Silence] = {}
        failed: list[str] = []
        location, instance = location_of(context), context.instance
        filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        runs = [run for run in instance.get_runs(filters) if is_in(location, run) and _is_own(own, run)]
        for run in runs:
            sign = run.tags.get(ALIVE_TAG)
            life = life_of(sign)
            if life == "lives":
                continue
            seen = before.get(run.run_id)
            if seen is None or seen.sign != sign or seen.since > now:
                seen = Silence(sign, now)
            seen = replace(seen, looks=seen.looks + 1)
            silent[run.run_id] = seen
            if not _is_over(seen, now, certain=life == "dead"):
                continue
            # It may have ended, or given a sign, while the others were looked at.
            again = instance.get_run_by_id(run.run_id)
            if again is None or again.status != run.status or again.tags.get(ALIVE_TAG) != sign:
                continue
            instance.report_run_failed(again, _why(seen, now, certain=life == "dead"))
            failed.append(run.run_id[:8])
            del silent[run.run_id]
        said = f"{len(runs)} under way, {len(silent)} of them without a sign of life since the look before"
        if failed:
            said = f"failed, as their processes have died: {', '.join(failed)}; {said}"
            context.log.warning(said)
        return dg.SensorResult(skip_reason=said, cursor=orjson.dumps(silent).decode())

    return dead_runs


def _is_own(own: Own, run: dg.DagsterRun) -> bool:
    """Whether all that a run does is this set's: other steps give no sign of life."""
    if run.job_name in own.jobs:
        return True
    assets = {key.to_user_string() for key in run.asset_selection or ()}
    return bool(assets) and assets <= own.assets


def _is_over(seen: Silence, now: float, *, certain: bool) -> bool:
    if certain:
        return seen.looks >= _LOOKS_IF_DEAD and now - seen.since >= _DEAD_SECONDS
    seconds = _NEVER_HEARD_SECONDS if seen.sign is None else _SILENT_SECONDS
    return seen.looks >= _LOOKS_IF_SILENT and now - seen.since >= seconds


def _why(seen: Silence, now: float, *, certain: bool) -> str:
    process = "has died" if certain else f"has given no sign of life for {now - seen.since:.0f} s"
    return (
        f"the process of the run {process} (killed, out of memory, or the machine went down). "
        "Nothing that was committed is lost; the rest is done by the next run."
    )


def _read(cursor: str | None) -> dict[str, Silence]:
    try:
        return {run_id: Silence(**one) for run_id, one in orjson.loads(cursor or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}
