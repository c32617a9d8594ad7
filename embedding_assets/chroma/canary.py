"""Writes a few records into a copy of a database with plain ChromaDB, and reads them back: will it be written to?

A database that was written directly can look whole and yet swallow writes: with an empty log beside a sequence id above
0, chromadb 1.5.9 drops what it is given and says nothing. Whoever takes a committed snapshot and goes on with it would
lose records. So none is committed before a copy of it has taken some.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from embedding_assets.chroma import api
from embedding_assets.chroma.spec import DatabaseSpec

_NEW = ("embedding-assets:canary:1", "embedding-assets:canary:2")
_TEXT = "a canary sings in this record"
# The copy may share its index files with the database: they must not be written.
_NEVER = 1 << 30
_TOLERANCE = 1e-5


def sing(folder: Path, spec: DatabaseSpec) -> list[str]:
    """Add, change and delete records, then open the database again; returns what went wrong, in words.

    Args:
        folder: a copy of the caller's own, whose `chroma.sqlite3` is changed and whose index files are not.
        spec: what it holds.
    """
    api.set_sync_threshold(folder, spec.collection, _NEVER)
    vectors = np.random.default_rng(1).standard_normal((3, spec.dimension)).astype(np.float32)
    with api.opened(folder) as client:
        handle = client.get_collection(spec.collection, embedding_function=None)
        before = handle.count()
        old = handle.get(limit=2, include=[])["ids"]
        handle.add(
            ids=list(_NEW), embeddings=vectors[:2], documents=["an egg", "another egg"], metadatas=[{"egg": 1}] * 2
        )
        problems = _expect("a client that adds two", handle.count(), before + 2)
        handle.update(ids=[_NEW[0]], embeddings=vectors[2:], documents=[_TEXT], metadatas=[{"egg": 0.5}])
        handle.delete(ids=[_NEW[1], *old[1:]])
        if old:
            handle.upsert(ids=old[:1], embeddings=vectors[:1], documents=["changed"])
        problems += _look(handle, vectors, before, old)
    with api.opened(folder) as client:
        handle = client.get_collection(spec.collection, embedding_function=None)
        problems += [f"opened again: {problem}" for problem in _look(handle, vectors, before, old)]
    return problems


def _look(handle: Any, vectors: Any, before: int, old: list[str]) -> list[str]:
    problems = _expect("the count", handle.count(), before + 1 - len(old[1:]))
    got = handle.get(ids=[*_NEW, *old], include=["embeddings", "documents", "metadatas"])
    found = {record_id: row for row, record_id in enumerate(got["ids"])}
    problems += _expect("records that were written", sorted(found), sorted([_NEW[0], *old[:1]]))
    for record_id, text, vector in ((_NEW[0], _TEXT, vectors[2]), *((i, "changed", vectors[0]) for i in old[:1])):
        if record_id not in found:
            continue
        row = found[record_id]
        problems += _expect(f"the text of {record_id!r}", got["documents"][row], text)
        if not np.allclose(got["embeddings"][row], vector, rtol=0, atol=_TOLERANCE * float(np.linalg.norm(vector))):
            problems.append(f"{record_id!r} has another vector than was written")
        if record_id == _NEW[0]:
            problems += _expect("its metadata", got["metadatas"][row], {"egg": 0.5})
    texts = handle.get(where_document={"$contains": _TEXT}, include=[])["ids"]
    problems += _expect("a search for its text", texts, [_NEW[0]])
    # That it is the record itself is more than a search can promise: it is an approximation, and finds an element whose
    # vector was changed in place less surely than others.
    answer = handle.query(query_embeddings=vectors[2:], n_results=1, include=[])["ids"][0]
    problems += _expect("the answers to a search", len(answer), 1)
    return problems


def _expect(what: str, given: object, wanted: object) -> list[str]:
    return [] if given == wanted else [f"written to by chromadb, {what} gives {given}, not {wanted}"]
