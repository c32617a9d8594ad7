"""Writes a few records into a copy of a database with plain ChromaDB, and reads them back: will it be written to?

A database that was written directly can look whole and yet swallow writes: with an empty log beside a sequence id above
0, chromadb 1.5.9 drops what it is given and says nothing. Whoever takes a committed snapshot and goes on with it would
lose records. So none is committed before a copy of it has taken some.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedding_assets.chroma import api
from embedding_assets.chroma.fingerprint import known_format
from embedding_assets.chroma.index_metadata import IndexMetadata
from embedding_assets.chroma.read import count_stored, offsets_of, reading, records_at
from embedding_assets.chroma.sqlite_reader import choose, read_collections
from embedding_assets.chroma.sqlite_writer import set_sync_threshold, writable
from embedding_assets.chroma.vectors import VectorReader

_NEW = ("embedding-assets:canary:1", "embedding-assets:canary:2")
_TEXT = "a canary sings in this record"
# The copy may share its index files with the database: they must not be written.
_NEVER = 1 << 30
_TOLERANCE = 1e-5


class Canary:
    """Adds, changes and deletes records of an opened collection; hears whether chromadb gives back what that makes."""

    def __init__(self, dimension: int) -> None:
        self._vectors = np.random.default_rng(1).standard_normal((3, dimension)).astype(np.float32)
        self._before = 0
        self._old: list[str] = []

    @staticmethod
    def prepare(folder: Path, collection: str) -> None:
        """Let what is written to a copy stay in its log; before it is opened."""
        if writable(folder):
            set_sync_threshold(folder, collection, _NEVER)
        else:
            api.set_sync_threshold(folder, collection, _NEVER)

    def sing(self, handle: Any) -> list[str]:
        """Write; returns what went wrong, in words."""
        vectors = self._vectors
        self._before = handle.count()
        self._old = old = handle.get(limit=2, include=[])["ids"]
        handle.add(
            ids=list(_NEW), embeddings=vectors[:2], documents=["an egg", "another egg"], metadatas=[{"egg": 1}] * 2
        )
        problems = _expect("a client that adds two", handle.count(), self._before + 2)
        handle.update(ids=[_NEW[0]], embeddings=vectors[2:], documents=[_TEXT], metadatas=[{"egg": 0.5}])
        handle.delete(ids=[_NEW[1], *old[1:]])
        if old:
            handle.upsert(ids=old[:1], embeddings=vectors[:1], documents=["changed"])
        problems += self._compare(_given(handle, self._asked()))
        texts = handle.get(where_document={"$contains": _TEXT}, include=[])["ids"]
        problems += _expect("a search for its text", texts, [_NEW[0]])
        # That it is the record itself is more than a search can promise: it is an approximation, and finds an element
        # whose vector was changed in place less surely than others.
        answer = handle.query(query_embeddings=vectors[2:], n_results=1, include=[])["ids"][0]
        return problems + _expect("the answers to a search", len(answer), 1)

    def hear(self, folder: Path, collection: str, index: IndexMetadata | None) -> list[str]:
        """What went wrong, as the database shows once it is closed.

        Its files tell what they would give a client that opens it; to have chromadb load the whole index again costs
        more than all else here. `index` is what its index says, where that was read before; it is not written to.
        """
        if known_format(folder):
            written = _held(folder, collection, index, self._asked())
        else:
            with api.opened(folder) as client:
                written = _given(client.get_collection(collection, embedding_function=None), self._asked())
        return [f"closed again: {problem}" for problem in self._compare(written)]

    def _asked(self) -> list[str]:
        return [*_NEW, *self._old]

    def _compare(self, written: _Written) -> list[str]:
        old, vectors = self._old, self._vectors
        problems = _expect("the count", written.count, self._before + 1 - len(old[1:]))
        problems += _expect("records that were written", sorted(written.records), sorted([_NEW[0], *old[:1]]))
        for record_id, text, vector in ((_NEW[0], _TEXT, vectors[2]), *((i, "changed", vectors[0]) for i in old[:1])):
            if record_id not in written.records:
                continue
            document, metadata, given = written.records[record_id]
            problems += _expect(f"the text of {record_id!r}", document, text)
            if not np.allclose(given, vector, rtol=0, atol=_TOLERANCE * float(np.linalg.norm(vector))):
                problems.append(f"{record_id!r} has another vector than was written")
            if record_id == _NEW[0]:
                problems += _expect("its metadata", metadata, {"egg": 0.5})
        return problems


@dataclass(frozen=True)
class _Written:
    """How many records there are, and by id the document, metadata and vector of those that were asked for."""

    count: int
    records: dict[str, tuple[str, Any, Any]]


def _given(handle: Any, asked: list[str]) -> _Written:
    got = handle.get(ids=asked, include=["embeddings", "documents", "metadatas"])
    rows = zip(got["documents"], got["metadatas"], got["embeddings"], strict=True)
    return _Written(handle.count(), dict(zip(got["ids"], rows, strict=True)))


def _held(folder: Path, collection: str, index: IndexMetadata | None, asked: list[str]) -> _Written:
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), collection)
        count = count_stored(connection, chosen)
        vectors = VectorReader(connection, folder, chosen, index=index)
        batch = records_at(connection, vectors, offsets_of(connection, chosen, asked))
    rows = zip(batch.documents, batch.metadatas, batch.embeddings, strict=True)
    return _Written(count if count == len(vectors.places) else -1, dict(zip(batch.ids, rows, strict=True)))


def _expect(what: str, given: object, wanted: object) -> list[str]:
    return [] if given == wanted else [f"written to by chromadb, {what} gives {given}, not {wanted}"]
