"""The alerts of one set of collections in the store: messages, and each channel's log of deliveries.

Everything is written once, put-if-absent: of two who tell the same thing, or deliver to the same channel, one wins.
A delivery is claimed by creating the next number of the channel's log, and ends with how it went. The outbox is also
the memory of what failed: there is no other state that could be lost or disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from embedding_assets.alerts.message import Message
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore

_OUTBOX, _CHANNELS = "outbox", "channels"
_CLAIM, _END = "claim.json", "end.json"
_NUMBERED = re.compile(r"(\d{8})\.(claim|end)\.json")


@dataclass(frozen=True)
class Delivery:
    """One entry of a channel's log.

    Attributes:
        number: its place in the log.
        messages: ids of what it carries.
        claimed_at: seconds since 1970, as are all times here.
        ended_at: None: it is under way, or its sender died.
        accepted: whether the channel took it.
        reason: why it did not.
    """

    number: int
    messages: tuple[str, ...]
    claimed_at: float
    ended_at: float | None = None
    accepted: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Contents:
    """What the store holds of a set's alerts, at one moment.

    Attributes:
        messages: by id, in the order of ids.
        logs: deliveries by channel, in the order of numbers.
    """

    messages: Mapping[str, Message]
    logs: Mapping[str, Sequence[Delivery]]

    def accepted_by(self, channel: str) -> set[str]:
        """Ids of the messages that a channel took."""
        return {one for delivery in self.logs.get(channel, ()) if delivery.accepted for one in delivery.messages}


class Outbox:
    """The alerts of one set of collections; `scope` names the set among those that share the store."""

    def __init__(self, store: ObjectStore, scope: str) -> None:
        self._store, self.scope = store, scope

    def read(self) -> Contents:
        """All that there is: a listing, and each object's content the first time that it is seen.

        Raises:
            StoreError: the store did not answer, or refuses.
        """
        messages: dict[str, Message] = {}
        parts: dict[str, dict[int, dict[str, str]]] = {}
        for item in self._store.walk(layout.alerts(self.scope)):
            match item.key.split("/")[2:]:
                case [place, name] if place == _OUTBOX and name.endswith(".json"):
                    found = self._message(item.key, name.removesuffix(".json"))
                    if found:
                        messages[found.id] = found
                case [place, channel, name] if place == _CHANNELS and (match := _NUMBERED.fullmatch(name)):
                    parts.setdefault(channel, {}).setdefault(int(match[1]), {})[match[2]] = item.key
        logs = {
            channel: [d for n, keys in sorted(log.items()) if (d := self._delivery(n, keys))]
            for channel, log in parts.items()
        }
        return Contents(messages, logs)

    def put(self, message: Message) -> bool:
        """Add a message; False where the same cause has been told of already."""
        try:
            self._store.put_new(layout.alerts(self.scope, _OUTBOX, f"{message.id}.json"), message.to_bytes())
        except ObjectExistsError:
            return False
        return True

    def claim(self, channel: str, number: int, messages: Sequence[str], at: float) -> Delivery | None:
        """Begin the delivery with this number; None where somebody else has begun it."""
        delivery = Delivery(number, tuple(messages), at)
        # The nonce tells two senders apart that claim the same at the same moment.
        body = {"messages": messages, "claimed_at": at, "by": layout.new_id()}
        try:
            self._store.put_new(self._key(channel, number, _CLAIM), orjson.dumps(body))
        except ObjectExistsError:
            return None
        return delivery

    def end(self, channel: str, number: int, *, accepted: bool, at: float, reason: str = "") -> bool:
        """Say how a delivery ended; False where it was said already."""
        body = {"ended_at": at, "accepted": accepted, "reason": reason}
        try:
            self._store.put_new(self._key(channel, number, _END), orjson.dumps(body))
        except ObjectExistsError:
            return False
        return True

    def remove(self, messages: Iterable[str], deliveries: Iterable[tuple[str, int]]) -> None:
        """Forget messages and deliveries (channel and number); messages first: they are what would be told again."""
        self._store.delete(layout.alerts(self.scope, _OUTBOX, f"{one}.json") for one in messages)
        gone = [(channel, number) for channel, number in deliveries]
        self._store.delete(self._key(channel, number, part) for channel, number in gone for part in (_CLAIM, _END))

    def _key(self, channel: str, number: int, part: str) -> str:
        return layout.alerts(self.scope, _CHANNELS, channel, f"{number:08d}.{part}")

    def _message(self, key: str, name: str) -> Message | None:
        try:
            return _read_message(self._store, key)
        except CorruptedError as error:
            return Message(name, f"An alert could not be read: {error}", 0.0, (), ())
        except ObjectMissingError:
            return None

    def _delivery(self, number: int, keys: Mapping[str, str]) -> Delivery | None:
        try:
            said: dict[str, object] = {"messages": [], "claimed_at": 0.0}
            for part in ("claim", "end"):
                if part in keys:
                    said |= orjson.loads(_read(self._store, keys[part]))
            said.pop("by", None)
            return Delivery(**{**said, "number": number, "messages": tuple(said["messages"])})  # type: ignore[arg-type]
        except (ValueError, TypeError, AttributeError):
            # A damaged entry keeps its number and counts as one whose sender died.
            return Delivery(number, (), 0.0)
        except ObjectMissingError:
            return None


def scopes(store: ObjectStore) -> list[str]:
    """The sets of collections that have alerts in a store."""
    return store.folders(layout.alerts())


@lru_cache(maxsize=5_000)
def _read_message(store: ObjectStore, key: str) -> Message:
    return Message.from_bytes(store.get(key), key)


@lru_cache(maxsize=20_000)
def _read(store: ObjectStore, key: str) -> bytes:
    # Nothing here is ever changed.
    return store.get(key)
