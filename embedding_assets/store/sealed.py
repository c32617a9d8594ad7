"""Sealed JSON: a small object that says what it is, where it belongs, and proves that it is as it was written.

    {"object": "request", "key": "lines/requests/2026-11-27/.../request.json", ..., "format": 2, "checksum": "..."}

`checksum` is the SHA-256 of all that stands before it. `key` tells an object from its neighbour's copy. Objects of
formats before `sealed_since` have neither; they are read as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from embedding_assets.errors import ConfigurationError, CorruptedError

FORMAT = 2  # of the values that `encode` writes; 1 was not sealed
CHECKSUM = "checksum"
_KIND, _KEY, _FORMAT = "object", "key", "format"
_REMEDY = "Run `embedding-assets repair`."

T = TypeVar("T")


def dump(content: Mapping[str, Any]) -> bytes:
    """JSON that people can read; the same content, in the same order, gives the same bytes."""
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def checksum_of(content: Mapping[str, Any]) -> str:
    """The checksum of everything else in an object. Every format to come keeps this rule, and the names of kind and
    key: by them an older version tells a newer version's object from a damaged one."""
    return hashlib.sha256(orjson.dumps(content)).hexdigest()


def seal(kind: str, key: str, content: Mapping[str, Any]) -> bytes:
    """The bytes of an object.

    Args:
        kind: what it is: `request`, `batch`, ...
        key: where it is stored.
        content: what it says, `format` included.
    """
    named = {_KIND: kind, _KEY: key, **content}
    return dump({**named, CHECKSUM: checksum_of(named)})


def unseal(kind: str, key: str, data: bytes, *, newest: int, sealed_since: int) -> dict[str, Any]:
    """The content of an object, as `seal` was given it.

    Args:
        kind, key: what it must be.
        newest: the newest format that this version reads.
        sealed_since: the first format whose objects are sealed.

    Raises:
        CorruptedError: it is not as it was written, or is another object.
        ConfigurationError: a newer version of this package wrote it.
    """
    try:
        raw = orjson.loads(data)
        if not isinstance(raw, dict):
            raise ValueError("it is not a JSON object")
        seal_of_it = raw.pop(CHECKSUM, None)
        written = raw.get(_FORMAT, 1)
        if type(written) is not int or written < 1:
            raise ValueError(f"its format is {written!r}")
        if seal_of_it is None:
            if written >= sealed_since or _KIND in raw:
                raise ValueError("its checksum is missing")
            return raw
        if seal_of_it != checksum_of(raw) or dump({**raw, CHECKSUM: seal_of_it}) != data:
            raise ValueError("its checksum does not match: it is not as it was written")
        found = raw.pop(_KIND, None), raw.pop(_KEY, None)
        if found != (kind, key):
            raise ValueError(f"it is the {found[0]} {found[1]}")
        if written > newest:
            # Not damage: to treat it as such would move aside what a newer version wrote.
            raise ConfigurationError(
                key, f"has the format {written}; this version reads {newest}", "Update embedding-assets."
            )
    except ValueError as error:
        raise CorruptedError(key, f"the {kind} is damaged ({error})", _REMEDY) from error
    return raw


def encode(value: Any, key: str) -> bytes:
    """A frozen dataclass as the sealed JSON object that is stored under a key."""
    return seal(kind_of(type(value)), key, {**asdict(value), _FORMAT: FORMAT})


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def decode(kind: type[T], key: str, data: bytes) -> T:
    """The inverse of `encode`; what earlier versions wrote without a seal is read, too.

    Raises:
        CorruptedError: it is not as it was written, or is another object.
        ConfigurationError: a newer version of this package wrote it.
    """
    raw = unseal(kind_of(kind), key, data, newest=FORMAT, sealed_since=FORMAT)
    try:
        value: T = _adapter(kind).validate_python(raw)
    except ValidationError as error:
        raise CorruptedError(key, f"is no {kind_of(kind)}", _REMEDY) from error
    return value


def kind_of(kind: type[Any]) -> str:
    """What an object of a class is called in its seal: `sent batch` for SentBatch."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()


def is_at(key: str, data: bytes) -> bool:
    """Whether a damaged object still says that it belongs to a key: then it is what lies there, and no neighbour's."""
    return f'"{_KEY}": {orjson.dumps(key).decode()}'.encode() in data
