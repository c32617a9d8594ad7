"""The sensor that tells of failures and recoveries: collects what is news, and delivers it."""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
from collections.abc import Callable
from dataclasses import replace
from threading import Thread
from typing import TypeVar

import dagster as dg

from embedding_assets.alerts.channels import Channel
from embedding_assets.alerts.delivery import Delivered, deliver, forget
from embedding_assets.alerts.message import Change, Message
from embedding_assets.alerts.outbox import Contents, Outbox
from embedding_assets.alerts.text import letter, title_of
from embedding_assets.alerts.troubles import channel_troubles
from embedding_assets.errors import ConfigurationError, EmbeddingAssetsError, StoreError, StoreUnavailableError
from embedding_assets.orchestration.alerts.collect import Look, Position, collect
from embedding_assets.orchestration.alerts.own import Own, location_of
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.resources import AlertsResource, StoreResource
from embedding_assets.store import layout

SECONDS = 20  # a failed check is told within a minute: this, SETTLE_SECONDS, and the channel's own time
_TIDY_EVERY = 3600.0
_STORE_DOWN_AFTER = 3
# A store that swallows requests is found out before the daemon gives up the look, which it does after a minute.
_STORE_SECONDS = 30.0
_Answer = TypeVar("_Answer")


def build_alerts(names: Names, own: Own, status: dg.DefaultSensorStatus, seconds: int) -> dg.SensorDefinition:
    """The sensor for one set of collections; `seconds`: how often the other sensors look."""

    @dg.sensor(
        name=names.of("alerts"),
        required_resource_keys={names.store, names.alerts},
        default_status=status,
        minimum_interval_seconds=min(seconds, SECONDS),
        description="Tells each channel of failed checks, runs, sensors and schedules: once, and once they recover.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings = names.alerts_in(context)
        channels, bad = settings.channels_now()
        now, location = layout.now(), location_of(context)
        position = Position.read(context.cursor, now)
        try:
            resource, scope = names.store_in(context), scope_of(location, names.prefix)
            outbox, contents = _in_time(lambda: _opened(resource, scope))
            troubles = list(channel_troubles(contents, channels, bad, now.timestamp()))
            ids = [channel.id for channel in channels]
            look = collect(context.instance, outbox, contents, own, location, position, ids, troubles, now)
            delivered = deliver(outbox, channels, ui_url=settings.ui_url or "", per_hour=settings.per_hour)
            position = look.position
            if now.timestamp() - position.tidied_at > _TIDY_EVERY:
                forget(outbox, channels, now.timestamp())
                position = replace(position, tidied_at=now.timestamp())
        except (StoreError, ConfigurationError) as error:
            return _without_the_store(context, settings, channels, position, error)
        for message in look.told:
            context.log.info(title_of(message))
        for entry in bad:
            context.log.error(f"{entry.label}: {entry.reason}")
        return dg.SensorResult(skip_reason=_in_words(look, delivered, channels), cursor=position.write())

    return alerts


def scope_of(location: str | None, prefix: str) -> str:
    """What the alerts of a set are filed under in the store, so that several sets may share it."""
    return ".".join(part for part in (location or "local", prefix) if part)


def _opened(resource: StoreResource, scope: str) -> tuple[Outbox, Contents]:
    outbox = Outbox(resource.open(), scope)
    return outbox, outbox.read()


def _in_time(ask: Callable[[], _Answer]) -> _Answer:
    """What the store answers, or StoreUnavailableError where it takes longer than _STORE_SECONDS."""
    answers: list[_Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # whatever it is, it is raised where it was asked for
            errors.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(_STORE_SECONDS)
    if errors:
        raise errors[0]
    if not answers:
        raise StoreUnavailableError(
            "the store of the alerts", f"did not answer within {_STORE_SECONDS:g} s", "The next look tries again."
        )
    return answers[0]


def _in_words(look: Look, delivered: list[Delivered], channels: list[Channel]) -> str:
    said = [title_of(message) for message in look.told] or ["nothing has failed or recovered since"]
    said += [str(one) for one in delivered if str(one)]
    if look.more:
        said.append("there are more runs to look at: the next look goes on")
    if not channels:
        said.append("no channel is set (EMBEDDING_ASSETS_ALERTS): see `embedding-assets alerts list`")
    return "; ".join(said)


def _without_the_store(
    context: dg.SensorEvaluationContext,
    settings: AlertsResource,
    channels: list[Channel],
    position: Position,
    error: EmbeddingAssetsError,
) -> dg.SensorResult:
    """The outbox is out of reach, and mostly that is what there is to tell: once, without it."""
    down = position.store_down + 1
    if down == _STORE_DOWN_AFTER:
        change = Change(
            "job",
            "alerts",
            failed=True,
            at=layout.now().timestamp(),
            found=str(error),
            by_itself="Everything is tried again; nothing is moved or lost. Other alerts wait until the store answers.",
            to_do="See whether the store is up, and whether its credentials are still valid.",
        )
        title = "the object store, without which there are no alerts"
        note = Message(f"{layout.new_id()}-store", title, change.at, (change,), ())
        for channel in channels:
            reason = channel.send(
                replace(letter([note], settings.ui_url or "", channel.form), title=f"No access to {title}")
            )
            context.log.warning(f"{channel.label}: {reason or 'told that the store is out of reach'}")
    cursor = replace(position, store_down=down).write()
    if not error.recoverable:
        context.log.error(str(error))
    return dg.SensorResult(skip_reason=f"{error} (look {down} in a row without the store)", cursor=cursor)
