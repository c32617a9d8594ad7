"""The alerts of one set of collections in the store: messages, and each channel's log of deliveries.

Everything is written once, put-if-absent: of two who tell the same thing, or deliver to the same channel, one wins.
A delivery is claimed by creating the next number of the channel's log, and ends with how it went. The outbox is also
the memory of what failed: there is no other state that could be lost or disagree.

Every object is sealed. A message that is damaged is told as such. Of a delivery, claim and end both name the messages,
so that one of the two may be damaged; what can still be read of both counts, since nothing is to be told twice either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache

from embedding_assets.alerts.message import Message
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import decode, encode, is_at

_OUTBOX, _CHANNELS = "outbox", "channels"
_CLAIM, _END = "claim.json", "end.json"
_NUMBERED = re.compile(r"(\d{8})\.(claim|end)\.json")
_STAMP = re.compile(r"\d{8}T\d{6}")
_TEXT = re.compile(rb'"([^"\\]+)"')
_ACCEPTED = re.compile(rb'"accepted": ?true')


@dataclass(frozen=True)
class Claim:
    """That a delivery was begun; `by` tells two senders apart that claim the same at the same moment."""

    messages: tuple[str, ...]
    claimed_at: float
    by: str = ""


@dataclass(frozen=True)
class End:
    """How a delivery ended; the messages again, as earlier versions did not say."""

    ended_at: float
    accepted: bool
    reason: str = ""
    messages: tuple[str, ...] = ()


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
        damaged: keys of the objects that cannot be read.
    """

    messages: Mapping[str, Message]
    logs: Mapping[str, Sequence[Delivery]]
    damaged: Sequence[str] = ()

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
        damaged: list[str] = []
        for item in self._store.walk(layout.alerts(self.scope)):
            match item.key.split("/")[2:]:
                case [place, name] if place == _OUTBOX and name.endswith(".json"):
                    found = self._message(item.key, name.removesuffix(".json"))
                    if found:
                        messages[found.id] = found
                        damaged += [item.key] if found.unreadable else []
                case [place, name, _, *_] if place == _OUTBOX and name.endswith(".json"):
                    key = layout.alerts(self.scope, _OUTBOX, name)
                    found = _unreadable(name.removesuffix(".json"), f"{key}: is a folder where a file belongs")
                    if found.id not in messages:
                        messages[found.id] = found
                        damaged.append(key)
                case [place, channel, name] if place == _CHANNELS and (match := _NUMBERED.fullmatch(name)):
                    parts.setdefault(channel, {}).setdefault(int(match[1]), {})[match[2]] = item.key
        logs = {
            channel: [d for n, keys in sorted(log.items()) if (d := self._delivery(n, keys, messages, damaged))]
            for channel, log in parts.items()
        }
        return Contents(messages, logs, damaged)

    def put(self, message: Message) -> bool:
        """Add a message; False where the same cause has been told of already."""
        key = layout.alerts(self.scope, _OUTBOX, f"{message.id}.json")
        try:
            self._store.put_new(key, encode(message, key))
        except ObjectExistsError:
            try:
                _read_message(self._store, key)
            except CorruptedError:
                # Nobody can be told what it says; this message says it.
                self._store.replace(key, encode(message, key))
                return True
            except ObjectMissingError:
                pass
            return False
        return True

    def claim(self, channel: str, number: int, messages: Sequence[str], at: float) -> Delivery | None:
        """Begin the delivery with this number; None where somebody else has begun it."""
        key = self._key(channel, number, _CLAIM)
        try:
            self._store.put_new(key, encode(Claim(tuple(messages), at, layout.new_id()), key))
        except ObjectExistsError:
            return None
        return Delivery(number, tuple(messages), at)

    def end(self, channel: str, delivery: Delivery, *, accepted: bool, at: float, reason: str = "") -> bool:
        """Say how a delivery ended; False where it was said already."""
        key = self._key(channel, delivery.number, _END)
        try:
            self._store.put_new(key, encode(End(at, accepted, reason, delivery.messages), key))
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
            found = _read_message(self._store, key)
        except CorruptedError as error:
            return _unreadable(name, str(error))
        except ObjectMissingError:
            return None
        return found

    def _delivery(
        self, number: int, keys: Mapping[str, str], known: Mapping[str, Message], damaged: list[str]
    ) -> Delivery | None:
        claim: Claim | None = None
        end: End | None = None
        read_from: set[str] = set()  # what can still be read of damaged ones
        accepted = False
        for part, key in sorted(keys.items()):
            try:
                if part == "claim":
                    claim = _read_claim(self._store, key)
                else:
                    end = _read_end(self._store, key)
            except ObjectMissingError:
                return None
            except CorruptedError:
                damaged.append(key)
                data = self._look(key)
                read_from.update(known.keys() & {one.decode(errors="replace") for one in _TEXT.findall(data)})
                accepted |= part == "end" and bool(_ACCEPTED.search(data))
        messages = dict.fromkeys([*(claim.messages if claim else ()), *(end.messages if end else ()), *read_from])
        # A claim that cannot be read keeps its number, and counts as one whose sender died.
        at = claim.claimed_at if claim else end.ended_at if end else 0.0
        if end is None and "end" in keys:
            end = End(at, accepted, "how it ended cannot be read")
        if end is None:
            return Delivery(number, tuple(messages), at)
        return Delivery(number, tuple(messages), at, end.ended_at, end.accepted, end.reason)

    def _look(self, key: str) -> bytes:
        """The bytes of a damaged object; none of one that belongs elsewhere."""
        with suppress(ObjectMissingError):
            data = self._store.get(key)
            return data if is_at(key, data) else b""
        return b""


def scopes(store: ObjectStore) -> list[str]:
    """The sets of collections that have alerts in a store."""
    return store.folders(layout.alerts())


def _unreadable(message_id: str, why: str) -> Message:
    return Message(message_id, f"An alert could not be read: {why}", _made_at(message_id), (), (), unreadable=True)


def _made_at(message_id: str) -> float:
    """The time that a message's id begins with, in seconds since 1970; 0 where there is none."""
    match = _STAMP.match(message_id)
    with suppress(ValueError):
        if match:
            return datetime.strptime(match[0], "%Y%m%dT%H%M%S").replace(tzinfo=timezone.utc).timestamp()
    return 0.0


# Nothing here is ever changed, but for what is damaged; and that is not remembered.


@lru_cache(maxsize=5_000)
def _read_message(store: ObjectStore, key: str) -> Message:
    found = store.read(key, lambda data: decode(Message, key, data))
    if not key.endswith(f"/{found.id}.json"):
        raise CorruptedError(key, f"is the message {found.id}", "What still fails is told again.")
    return found


@lru_cache(maxsize=20_000)
def _read_claim(store: ObjectStore, key: str) -> Claim:
    return store.read(key, lambda data: decode(Claim, key, data))


@lru_cache(maxsize=20_000)
def _read_end(store: ObjectStore, key: str) -> End:
    return store.read(key, lambda data: decode(End, key, data))
