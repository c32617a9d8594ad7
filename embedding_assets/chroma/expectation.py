"""What the sources of a database say that it holds: per id the record of the greatest origin, in a few bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from embedding_assets.chroma.spec import DatabaseSpec
from embedding_assets.records import Metadata, Origin, RecordBatch, Vectors, slices, without_minus_zero

_BLOCK = 64  # vectors whose products stay in the processor's cache
_PROJECTIONS = 4
# A cosine index holds unit vectors and norms: what comes back differs from what went in by float32 rounding, up to
# 1e-6 measured; twice through the index stays well below this.
_TOLERANCE = 1e-5


class Expectation:
    """What the sources say, to be held against what is read: of each record a hash of its texts and one of its vector.

    Exactly: 64 bits of the vector as it was written; a change of any one number in it always changes them. Or not: a
    sketch, a few random projections in 32 bytes, of which a changed vector does not keep all.

    The sources are read in a thread of their own while the database is: decoding and hashing leave Python's lock alone.
    """

    def __init__(self, spec: DatabaseSpec, records: Iterable[RecordBatch], *, exact: bool) -> None:
        """Begin to read.

        Args:
            spec: what the database holds.
            records: all that the sources have, in any order; for an exact comparison with their vectors as written.
            exact: whether the vectors have to be the very same.
        """
        self._exact = exact
        self._mark = _prints(spec.dimension) if exact else _sketches(spec.dimension)
        self._found = _Columns()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="expectation")
        self._learning = self._pool.submit(self._learn, records)

    def observe(self, batch: RecordBatch) -> None:
        """Take note of records of the database; for an exact comparison with their vectors as they were written."""
        self._found.add(batch, self._mark)

    def problems(self) -> list[str]:
        """What is wrong with what was observed: records that no source has, that are another, or that are missing."""
        with self._pool:
            wanted, rows = self._learning.result()
        found, problems, pairs = self._found, [], []
        for row, record_id in enumerate(found.ids):
            expected = rows.pop(record_id, None)
            if expected is None:
                problems.append(f"holds {record_id!r}, which no source has")
            elif wanted.texts[expected[1]] != found.texts[row]:
                problems.append(f"{record_id!r} has another document or metadata than its source")
            else:
                pairs.append((expected[1], row))
        if pairs:
            left = np.concatenate(wanted.marks)[[one for one, _ in pairs]]
            right = np.concatenate(found.marks)[[other for _, other in pairs]]
            wrong = left != right if self._exact else _apart(left, right)
            others = [found.ids[pairs[at][1]] for at in np.flatnonzero(wrong)]
            problems += [f"{record_id!r} has another vector than its source" for record_id in others]
        if rows:
            some = ", ".join(repr(record_id) for record_id in list(rows)[:5])
            problems.append(f"lacks {len(rows)} records of its sources, such as {some}")
        return problems

    def _learn(self, records: Iterable[RecordBatch]) -> tuple[_Columns, dict[str, tuple[Origin, int]]]:
        """The records of the sources, and by id where the one of the greatest origin stands among them."""
        wanted = _Columns()
        rows: dict[str, tuple[Origin, int]] = {}
        for batch in records:
            first = len(wanted.ids)
            wanted.add(batch, self._mark)
            for row, (record_id, metadata) in enumerate(zip(batch.ids, batch.metadatas, strict=True), start=first):
                origin = Origin.of(metadata)
                known = rows.get(record_id)
                if known is None or known[0] < origin:
                    rows[record_id] = (origin, row)
        return wanted, rows


_Marks = npt.NDArray[Any]


class _Columns:
    """Of records, in order: ids, hashes of their texts, and what their vectors are known by."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.texts: list[bytes] = []
        self.marks: list[_Marks] = []

    def add(self, batch: RecordBatch, mark: Callable[[Vectors], _Marks]) -> None:
        self.ids.extend(batch.ids)
        self.texts.extend(_text_hashes(batch))
        self.marks.append(mark(batch.embeddings))


def _prints(dimension: int) -> Callable[[Vectors], _Marks]:
    """Makes 64 bits of each vector: its words times odd numbers drawn at random, added up modulo 2^64."""
    words, kind = (dimension // 2, "<u8") if dimension % 2 == 0 else (dimension, "<u4")
    factors = np.random.default_rng(20_240_229).integers(0, 2**63, words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

    def mark(vectors: Vectors) -> _Marks:
        prints = np.empty(len(vectors), dtype=np.uint64)
        for some in slices(len(vectors), _BLOCK):
            # -0.0 is written as it is, and is another number here than 0.0.
            rows = np.ascontiguousarray(vectors[some], dtype="<f4").view(kind)
            prints[some] = (rows * factors).sum(axis=1, dtype=np.uint64)
        return prints

    return mark


def _sketches(dimension: int) -> Callable[[Vectors], _Marks]:
    """Makes of each vector its projections and its length, shape (n, projections + 1)."""
    generator = np.random.default_rng(20_240_229)
    projection = generator.standard_normal((dimension, _PROJECTIONS)).astype(np.float32)

    def mark(vectors: Vectors) -> _Marks:
        lengths = np.linalg.norm(vectors, axis=1).astype(np.float32)
        return np.column_stack([vectors @ projection, lengths])

    return mark


def _apart(wanted: _Marks, found: _Marks) -> npt.NDArray[np.bool_]:
    """Which sketches are of two vectors."""
    apart = np.abs(found - wanted)[:, :-1].max(axis=1)
    different: npt.NDArray[np.bool_] = ~(apart <= _TOLERANCE * np.maximum(wanted[:, -1], 1e-30) * 8)
    return different


def _text_hashes(batch: RecordBatch) -> list[bytes]:
    return [
        hashlib.blake2b(_text(document, metadata), digest_size=16).digest()
        for document, metadata in zip(batch.documents, batch.metadatas, strict=True)
    ]


def _text(document: str, metadata: Metadata) -> bytes:
    text = orjson.dumps((document, metadata), option=orjson.OPT_SORT_KEYS)
    if b"-0.0" in text:  # landings and logs of earlier versions may hold minus zero, tables of SQLite cannot
        text = orjson.dumps((document, without_minus_zero(metadata)), option=orjson.OPT_SORT_KEYS)
    return text
