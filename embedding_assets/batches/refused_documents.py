"""The documents of a cell that could not be asked, by name.

{collection}/requests/{day}/refused/{id}.json    a list of them; the newest that can be read counts
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from embedding_assets.batches.documents import Refused
from embedding_assets.batches.files import read
from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.store.sealed import FORMAT, encode

REFUSED = "refused"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class RefusedDocuments:
    """The documents of a cell that could not be asked."""

    documents: tuple[Refused, ...]
    format: int = FORMAT


def record_refused(store: ObjectStore, collection: str, day: str, refused: Iterable[Refused]) -> bool:
    """Write down the documents that could not be asked; nothing where that is known. Returns whether it was news.

    The newest list of a day is the one that holds. One that says what an earlier day's newest says is not repeated,
    since a source without `{day}` is read every day.
    """
    documents = tuple(refused)
    try:
        known = _newest_refused(store, collection, day)
        if documents == (known or ()):
            return False
        if known is None and any(documents == _newest_refused(store, collection, d) for d in _days(store, collection)):
            return False
    except CorruptedError:
        pass  # a damaged list is news: the new one takes its place
    key = f"{layout.requests(collection, day)}/{REFUSED}/{layout.new_id()}.json"
    store.put_new(key, encode(RefusedDocuments(documents), key))
    return True


def read_refused(store: ObjectStore, collection: str, day: str) -> list[Refused]:
    """The documents of a cell that could not be asked, by name.

    Raises:
        CorruptedError: their list is damaged.
        StoreError: the store did not answer, or refuses.
    """
    return list(_newest_refused(store, collection, day) or ())


def _newest_refused(store: ObjectStore, collection: str, day: str) -> tuple[Refused, ...] | None:
    keys = [item.key for item in store.walk(f"{layout.requests(collection, day)}/{REFUSED}")]
    if not keys:
        return None
    if not keys[-1].endswith(".jsonl"):
        return read(store, RefusedDocuments, keys[-1]).documents
    try:  # as earlier versions wrote it: a line each, no seal
        return tuple(Refused(**orjson.loads(line)) for line in store.get(keys[-1]).splitlines())
    except (ValueError, TypeError) as error:
        raise CorruptedError(keys[-1], "is no list of documents", "Run `embedding-assets repair`.") from error


def _days(store: ObjectStore, collection: str) -> list[str]:
    return [day for day in store.folders(layout.requests(collection)) if _DAY.fullmatch(day)]
