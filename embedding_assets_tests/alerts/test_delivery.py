"""Every channel gets every message once: senders at once, senders that die, channels that come and go, old messages."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedding_assets.alerts import delivery, pace
from embedding_assets.alerts.channels import Channel, require_channels
from embedding_assets.alerts.delivery import KEPT_SECONDS, deliver, forget
from embedding_assets.alerts.outbox import Outbox
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets_tests.alerts.making import NOW, change, message
from embedding_assets_tests.receivers import Webhook, webhook


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def store() -> ObjectStore:
    return open_store("memory://")


def channel_of(hook: Webhook, path: str = "hooks") -> Channel:
    (channel,) = require_channels(hook.url.replace("hooks", path), {})
    return channel


def filled(store: ObjectStore, count: int, *channels: Channel) -> Outbox:
    outbox = Outbox(store, "here")
    for number in range(count):
        assert outbox.put(message(number, channels=tuple(channel.id for channel in channels)))
    return outbox


def test_of_many_senders_at_once_one_sends(hook: Webhook, any_store: ObjectStore) -> None:
    channel = channel_of(hook)
    filled(any_store, 5, channel)

    def send(_: int) -> None:
        deliver(Outbox(any_store, "here"), [channel], clock=lambda: NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    send(0)
    assert sorted(hook.ids) == sorted(set(hook.ids))
    assert len(hook.ids) == 5


def test_the_same_cause_is_put_once(store: ObjectStore) -> None:
    outbox = filled(store, 1)
    assert not outbox.put(message(0, change(NOW + 1)))
    assert [one.id for one in outbox.read().messages.values()] == [message(0).id]


def test_a_storm_comes_as_one_summary(hook: Webhook, store: ObjectStore) -> None:
    channel = channel_of(hook)
    outbox = filled(store, 100, channel)
    (done,) = deliver(outbox, [channel], per_hour=10, clock=lambda: NOW)
    assert (done.sent, done.waiting) == (100, 0)
    assert hook.titles == ["100 alerts: 100 failures"]


def test_a_new_channel_is_not_told_of_the_past_but_one_whose_url_was_corrected_gets_what_waited(
    hook: Webhook, store: ObjectStore
) -> None:
    wrong, right = channel_of(hook, "wr0ng"), channel_of(hook, "hooks")
    outbox = filled(store, 2, wrong)
    hook.status = 404
    deliver(outbox, [wrong], clock=lambda: NOW)
    hook.status = 200
    deliver(outbox, [right], clock=lambda: NOW)
    assert len(hook.ids) == 2
    deliver(outbox, [right, channel_of(hook, "third")], clock=lambda: NOW + 60)
    assert len(hook.ids) == 4  # the third one is new since, too, and cannot know that the second was the correction
    deliver(outbox, [right, channel_of(hook, "third")], clock=lambda: NOW + 60)
    assert len(hook.ids) == 4


def test_a_damaged_record_stops_nobody(hook: Webhook, store: ObjectStore) -> None:
    channel = channel_of(hook)
    outbox = filled(store, 1, channel)
    store.put_new(layout.alerts("here", "outbox", "20270101T000000-x.json"), b"\xff not json")
    store.put_new(layout.alerts("here", "channels", channel.id, "00000000.claim.json"), b"[]")
    store.put_new(layout.alerts("here", "something", "else"), b"")
    deliver(outbox, [channel], clock=lambda: NOW)
    assert len(hook.ids) == 1
    assert any("could not be read" in one.about for one in outbox.read().messages.values())


def test_what_is_long_settled_is_forgotten_and_what_still_fails_or_waits_is_not(
    hook: Webhook, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = channel_of(hook)
    outbox = Outbox(store, "here")
    to = (channel.id,)
    outbox.put(message(1, change(NOW), channels=to))
    outbox.put(message(2, change(NOW + 1, failed=False), channels=to))
    outbox.put(message(3, change(NOW, partition="lines|still"), channels=to))
    deliver(outbox, [channel], clock=lambda: NOW + 2)
    outbox.put(message(4, change(NOW, name="waits"), change(NOW + 1, name="waits", failed=False), channels=to))
    assert len(hook.ids) == 3
    assert forget(outbox, [channel], NOW + KEPT_SECONDS - 10) == 0
    assert forget(outbox, [channel], NOW + KEPT_SECONDS + 10) == 2
    left = outbox.read()
    assert sorted(left.messages) == [message(3).id, message(4).id]
    deliver(outbox, [channel], clock=lambda: NOW + KEPT_SECONDS + 10)
    assert hook.ids[3:] == [message(4).id]
    assert forget(outbox, [channel], NOW + 2 * KEPT_SECONDS + 20) == 1
    deliver(outbox, [channel], clock=lambda: NOW + 2 * KEPT_SECONDS + 30)
    assert len(hook.ids) == 4


def test_who_took_too_long_and_was_taken_for_dead_does_not_overwrite_how_it_ended(
    hook: Webhook, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = channel_of(hook)
    outbox = filled(store, 1, channel)
    real = delivery._Postman._letter

    def slow(self: delivery._Postman, *given: object) -> object:
        # While this one is still at it, its time runs out, and another one sends.
        monkeypatch.setattr(delivery._Postman, "_letter", real)
        deliver(Outbox(store, "here"), [channel], clock=lambda: NOW + pace.CLAIM_SECONDS + 60)
        return real(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(delivery._Postman, "_letter", slow)
    (done,) = deliver(outbox, [channel], clock=lambda: NOW)
    assert (done.sent, done.why) == (0, "somebody else is sending to it")
    assert len(hook.ids) == 2  # the one case in which a message comes twice
    assert deliver(outbox, [channel], clock=lambda: NOW + 999)[0].waiting == 0
    assert len(hook.ids) == 2
