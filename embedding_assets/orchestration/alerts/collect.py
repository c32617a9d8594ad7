"""From what Dagster knows to messages in the outbox. Looking twice tells nothing twice, wherever a look is cut off."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import dagster as dg
import orjson

from embedding_assets.alerts.message import Change, Message
from embedding_assets.alerts.outbox import Contents, Outbox
from embedding_assets.alerts.standing import Standing, news, standing
from embedding_assets.orchestration.alerts.own import Own, is_in
from embedding_assets.orchestration.alerts.runs import about, observe_run, page_of
from embedding_assets.orchestration.alerts.ticks import observe_ticks
from embedding_assets.store import layout

# What happened so long before the first look is told as well: mostly it is what made somebody turn alerts on.
FIRST_LOOK_BACK = timedelta(hours=1)
# Runs are written to Dagster's storage by processes on other machines, whose clocks and commits may lag so much.
OVERLAP = timedelta(minutes=5)
# An audit evaluates hundreds of checks in a burst, and may then repair for an hour: what it found is told while it
# still runs, when the first failure is so old, so that a burst is one message.
SETTLE_SECONDS = 15.0
RUNS_AT_ONCE = 200
# On SQLite each run's events are a file of their own. A look that took a minute would be given up by the daemon.
BUDGET_SECONDS = 15.0

_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_UNDER_WAY = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class Position:
    """How far finished runs have been looked at; kept as the sensor's cursor, and only a hint: messages are the truth.

    Attributes:
        looked_at: the latest change of a run that was looked at, in seconds since 1970.
        seen: finished runs within OVERLAP of it that were looked at, with the times of their latest change.
        store_down: for how many looks in a row the store could not be reached.
        tidied_at: when old messages were last removed, in seconds since 1970.
    """

    looked_at: float
    seen: Mapping[str, float] = field(default_factory=dict)
    store_down: int = 0
    tidied_at: float = 0.0

    @classmethod
    def read(cls, cursor: str | None, now: datetime) -> Position:
        """From a cursor; from FIRST_LOOK_BACK on where there is none, or none of ours."""
        try:
            raw = orjson.loads(cursor or "")
            return cls(float(raw["looked_at"]), dict(raw["seen"]), int(raw["store_down"]), float(raw["tidied_at"]))
        except (ValueError, TypeError, KeyError):
            return cls((now - FIRST_LOOK_BACK).timestamp())

    def write(self) -> str:
        """As a cursor."""
        return orjson.dumps(self).decode()


@dataclass
class Look:
    """One look at Dagster.

    Attributes:
        position: where the next one goes on.
        told: the new messages.
        more: whether there are finished runs that were left for the next look.
    """

    position: Position
    told: list[Message] = field(default_factory=list)
    more: bool = False


def collect(
    instance: dg.DagsterInstance,
    outbox: Outbox,
    contents: Contents,
    own: Own,
    location: str | None,
    position: Position,
    channels: Sequence[str],
    extra: Sequence[Change] = (),
    now: datetime | None = None,
) -> Look:
    """Look at what has happened since, and put what is news into the outbox.

    Args:
        instance: whose runs and ticks.
        outbox: of the set.
        contents: what it holds.
        own: what belongs to the set.
        location: the code location that the set lives in.
        position: where the last look ended.
        channels: ids of the channels that new messages are for.
        extra: what else was observed, such as channels that cannot be used.
        now: the time.

    Raises:
        StoreError: the store did not answer, or refuses; nothing is lost, the next look starts from the same position.
    """
    at = now or layout.now()
    known = standing(contents.messages.values())
    finished, more = _finished_runs(instance, position)
    look, looked_at = Look(position, more=more), dict(position.seen)
    under_way = instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY), limit=RUNS_AT_ONCE)
    until = time.monotonic() + BUDGET_SECONDS
    # Those under way first: they are few, and must not wait until a backlog is worked off.
    for record in [*under_way, *finished]:
        if time.monotonic() > until:
            look.more = True
            break
        run = record.dagster_run
        fresh = news(known, observe_run(instance, run, own)) if is_in(location, run) else []
        if not run.is_finished and (not fresh or at.timestamp() - fresh[0].at < SETTLE_SECONDS):
            continue
        told = _tell(
            outbox, look, known, fresh, record.create_timestamp, run.run_id, about(run), page_of(run.run_id), channels
        )
        if run.is_finished and told:
            looked_at[run.run_id] = record.update_timestamp.timestamp()
    others = news(known, [*observe_ticks(instance, location, own), *extra])
    for change in others:
        happened = datetime.fromtimestamp(change.at, timezone.utc)
        name = f"{change.kind}-{change.name}"
        _tell(outbox, look, known, [change], happened, name, f"the {change.kind} {change.name}", change.page, channels)
    latest = max([position.looked_at, *looked_at.values()])
    kept = {run_id: changed for run_id, changed in looked_at.items() if changed >= latest - OVERLAP.total_seconds()}
    look.position = Position(latest, kept, 0, position.tidied_at)
    return look


def _finished_runs(instance: dg.DagsterInstance, position: Position) -> tuple[list[dg.RunRecord], bool]:
    """Finished runs that were not looked at, the first that changed first, and whether there are more of them."""
    since = datetime.fromtimestamp(position.looked_at, timezone.utc) - OVERLAP
    limit = RUNS_AT_ONCE + len(position.seen)
    records = instance.get_run_records(
        dg.RunsFilter(statuses=_FINISHED, updated_after=since),
        limit=limit,
        order_by="update_timestamp",
        ascending=True,
    )
    seen = set(position.seen)
    return [record for record in records if record.dagster_run.run_id not in seen], len(records) == limit


def _tell(
    outbox: Outbox,
    look: Look,
    known: Standing,
    changes: Sequence[Change],
    made_at: datetime,
    name: str,
    told_of: str,
    page: str,
    channels: Sequence[str],
) -> bool:
    """Put a message into the outbox, if there is something to tell; False where somebody else tells it just now."""
    if not changes:
        return True
    # The time of its first change makes the id: two that look at the same moment make the same message.
    message = Message(
        id=f"{made_at:%Y%m%dT%H%M%S}-{layout.part(name)}-{int(changes[0].at * 1000)}",
        about=told_of,
        made_at=changes[-1].at,
        changes=tuple(changes),
        channels=tuple(channels),
        page=page,
    )
    if not outbox.put(message):
        return False
    look.told.append(message)
    known.update({change.key: change for change in changes})
    return True
