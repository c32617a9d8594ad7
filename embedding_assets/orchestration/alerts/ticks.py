"""What the ticks of sensors and schedules tell: which keep failing."""

from __future__ import annotations

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorType, TickStatus

from embedding_assets.alerts.message import Change
from embedding_assets.orchestration.alerts import advice
from embedding_assets.orchestration.alerts.own import Own

IN_A_ROW = 3  # one failed tick is a hiccup
_ENDED = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]


def observe_ticks(instance: dg.DagsterInstance, location: str | None, own: Own) -> list[Change]:
    """Each sensor and schedule of a set: failed, where its last IN_A_ROW ticks did; well, where its last one went well.

    Two reads of each one's latest ticks; there are a handful.
    """
    found: list[Change] = []
    if instance.schedule_storage is None:  # an instance that forgets has no ticks either
        return found
    for state in instance.all_instigator_state():
        origin = state.origin.repository_origin.code_location_origin
        if state.instigator_name not in own.instigators or location not in (None, origin.location_name):
            continue
        change = _observe(instance, state)
        if change:
            found.append(change)
    return found


def _observe(instance: dg.DagsterInstance, state: InstigatorState) -> Change | None:
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=IN_A_ROW, statuses=_ENDED)
    if not ticks:
        return None
    failed = ticks[0].status == TickStatus.FAILURE
    if failed and (len(ticks) < IN_A_ROW or any(tick.status != TickStatus.FAILURE for tick in ticks)):
        return None
    sensor = state.instigator_type == InstigatorType.SENSOR
    error = ticks[0].error
    while error is not None and error.cause is not None:
        error = error.cause
    by_itself, to_do = advice.for_instigator("sensor" if sensor else "schedule")
    return Change(
        kind="sensor" if sensor else "schedule",
        name=state.instigator_name,
        failed=failed,
        at=ticks[0].timestamp,
        found=" ".join(error.message.split()) if failed and error else "",
        by_itself=by_itself if failed else "",
        to_do=to_do if failed else "",
        page=f"locations/{_label(state)}/{'sensors' if sensor else 'schedules'}/{state.instigator_name}",
    )


def _label(state: InstigatorState) -> str:
    repository = state.origin.repository_origin
    return f"{repository.repository_name}@{repository.code_location_origin.location_name}"
