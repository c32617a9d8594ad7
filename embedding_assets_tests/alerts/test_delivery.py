"""Every channel gets every message once: senders at once, senders that die, channels that come and go, old messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import orjson
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


def _fresh(store: ObjectStore) -> ObjectStore:
    """The same objects for a process that remembers none of them."""
    copied = open_store("memory://")
    for item in store.walk(""):
        copied.put_new(item.key, store.get(item.key))
    return copied


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


def test_a_damaged_record_stops_nobody_and_is_told(hook: Webhook, store: ObjectStore) -> None:
    channel = channel_of(hook)
    outbox = filled(store, 1, channel)
    damaged = layout.alerts("here", "outbox", "20270101T000000-x.json")
    store.put_new(damaged, b"\xff not json")
    store.put_new(layout.alerts("here", "channels", channel.id, "00000000.claim.json"), b"[]")
    store.put_new(layout.alerts("here", "something", "else"), b"")
    for later in (0, 60):
        deliver(outbox, [channel], clock=lambda later=later: NOW + later)  # type: ignore[misc]
    assert len(hook.ids) == 2
    assert sum("could not be read" in title for title in hook.titles) == 1
    assert damaged in outbox.read().damaged
    assert forget(outbox, [channel], NOW + KEPT_SECONDS + 10) == 1


def test_a_folder_in_the_place_of_a_message_is_told_once(hook: Webhook, store: ObjectStore) -> None:
    channel = channel_of(hook)
    outbox = filled(store, 1, channel)
    key = layout.alerts("here", "outbox", "20270101T000000-x.json")
    for name in ("x", "y/z"):
        store.put_new(f"{key}/{name}", b"x")
    for later in (0, 60):
        deliver(outbox, [channel], clock=lambda later=later: NOW + later)  # type: ignore[misc]
    assert sum("could not be read" in title for title in hook.titles) == 1
    assert outbox.read().damaged.count(key) == 1


def _flipped(data: bytes, other: bytes) -> bytes:
    return data[:9] + bytes([data[9] ^ 1]) + data[10:]


def _another(data: bytes, other: bytes) -> bytes:
    return other


def _emptied(data: bytes, other: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [_flipped, _another, _emptied])
@pytest.mark.parametrize("part", ["claim", "end"])
def test_a_damaged_delivery_loses_nothing_and_doubles_nothing(
    hook: Webhook, store: ObjectStore, part: str, damage: Callable[[bytes, bytes], bytes]
) -> None:
    channel = channel_of(hook)
    outbox = filled(store, 3, channel)
    deliver(outbox, [channel], clock=lambda: NOW)
    first, second = (layout.alerts("here", "channels", channel.id, f"0000000{n}.{part}.json") for n in (0, 1))
    store.replace(first, damage(store.get(first), store.get(second)))
    outbox.put(message(3, channels=(channel.id,)))
    anew = Outbox(_fresh(store), "here")
    for later in (60, 600):
        deliver(anew, [channel], clock=lambda later=later: NOW + later)  # type: ignore[misc]
    told = sorted(hook.ids)
    # Of an end of which nothing is left nobody knows whether it was accepted: then it is told again.
    again = 1 if part == "end" and damage is not _flipped else 0
    assert set(told) == {message(n).id for n in range(4)}
    assert len(told) == 4 + again
    assert first in anew.read().damaged


def test_a_damaged_message_is_told_as_such_and_makes_room_for_the_same_cause(hook: Webhook, store: ObjectStore) -> None:
    channel = channel_of(hook)
    outbox = filled(store, 1, channel)
    key = layout.alerts("here", "outbox", f"{message(0).id}.json")
    store.replace(key, _flipped(store.get(key), b""))
    assert [one.unreadable for one in outbox.read().messages.values()] == [True]
    assert outbox.put(message(0, channels=(channel.id,)))
    deliver(outbox, [channel], clock=lambda: NOW)
    deliver(outbox, [channel], clock=lambda: NOW + 60)
    assert hook.ids == [message(0).id]


def test_alerts_of_earlier_versions_are_read(hook: Webhook, store: ObjectStore) -> None:
    channel = channel_of(hook)
    for number in range(2):
        old = {**asdict(message(number, channels=(channel.id,)))}
        del old["unreadable"]
        store.put_new(layout.alerts("here", "outbox", f"{message(number).id}.json"), orjson.dumps(old))
    claim = {"messages": [message(0).id], "claimed_at": NOW - 10, "by": layout.new_id()}
    end = {"ended_at": NOW - 9, "accepted": True, "reason": ""}
    for part, body in (("claim", claim), ("end", end)):
        key = layout.alerts("here", "channels", channel.id, f"00000000.{part}.json")
        store.put_new(key, orjson.dumps(body))
    deliver(Outbox(store, "here"), [channel], clock=lambda: NOW)
    assert hook.ids == [message(1).id]


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
