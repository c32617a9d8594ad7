"""What the sources of a database say that it holds: per id the record of the greatest origin, in a few bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import orjson

from embedding_assets.chroma.sources import read_source
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.vectors import as_cosine_gives
from embedding_assets.records import Origin, RecordBatch, record_hashes

_PROJECTIONS = 4
# A cosine index holds unit vectors and norms: what comes back differs from what went in by float32 rounding, up to
# 1e-6 measured; twice through the index stays well below this.
_TOLERANCE = 1e-5


class Expectation:
    """What the sources say, to be held against what is read.

    Exactly: a hash of each record, vector included, as `get` has to give it. Or not: a hash of the texts, and a sketch
    of the vector. A sketch is a few random projections: 32 bytes, and a changed vector does not keep all of them.

    The sources are read in a thread of their own while the database is: decoding and hashing leave Python's lock alone.
    """

    def __init__(self, spec: DatabaseSpec, sources: Sequence[Source], *, exact: bool) -> None:
        generator = np.random.default_rng(20_240_229)
        self._projection = generator.standard_normal((spec.dimension, _PROJECTIONS)).astype(np.float32)
        self._spec, self._exact = spec, exact
        self._found = _Columns()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="expectation")
        self._learning = self._pool.submit(self._learn, sources)

    def observe(self, batch: RecordBatch, hashes: Sequence[bytes]) -> None:
        """Take note of records of the database, whose `record_hashes` are given."""
        self._found.add(batch.ids, hashes if self._exact else _text_hashes(batch), self._sketches_of(batch))

    def problems(self) -> list[str]:
        """What is wrong with what was observed: records that no source has, that are another, or that are missing."""
        with self._pool:
            wanted, rows = self._learning.result()
        found, problems, pairs = self._found, [], []
        for row, record_id in enumerate(found.ids):
            expected = rows.pop(record_id, None)
            if expected is None:
                problems.append(f"holds {record_id!r}, which no source has")
            elif wanted.hashes[expected[1]] != found.hashes[row]:
                what = "document, metadata or vector" if self._exact else "document or metadata"
                problems.append(f"{record_id!r} has another {what} than its source")
            else:
                pairs.append((expected[1], row))
        if pairs and not self._exact:
            left = np.concatenate(wanted.sketches)[[one for one, _ in pairs]]
            right = np.concatenate(found.sketches)[[other for _, other in pairs]]
            apart = np.abs(right - left)[:, :-1].max(axis=1)
            wrong = ~(apart <= _TOLERANCE * np.maximum(left[:, -1], 1e-30) * 8)
            others = [found.ids[pairs[at][1]] for at in np.flatnonzero(wrong)]
            problems += [f"{record_id!r} has another vector than its source" for record_id in others]
        if rows:
            some = ", ".join(repr(record_id) for record_id in list(rows)[:5])
            problems.append(f"lacks {len(rows)} records of its sources, such as {some}")
        return problems

    def _learn(self, sources: Sequence[Source]) -> tuple[_Columns, dict[str, tuple[Origin, int]]]:
        """The records of the sources, and by id where the one of the greatest origin stands among them."""
        wanted = _Columns()
        rows: dict[str, tuple[Origin, int]] = {}
        for source in sources:
            # Raw vectors are what a log is written of; what of them comes back is not for the sources to say.
            for records in read_source(source, self._spec.collection, raw=self._exact):
                batch = _as_given(records, self._spec) if self._exact else records
                first = len(wanted.ids)
                hashes = record_hashes(batch) if self._exact else _text_hashes(batch)
                wanted.add(batch.ids, hashes, self._sketches_of(batch))
                for row, (record_id, metadata) in enumerate(zip(batch.ids, batch.metadatas, strict=True), start=first):
                    origin = Origin.of(metadata)
                    known = rows.get(record_id)
                    if known is None or known[0] < origin:
                        rows[record_id] = (origin, row)
        return wanted, rows

    def _sketches_of(self, batch: RecordBatch) -> npt.NDArray[np.float32]:
        """Projections and length of each vector, shape (n, projections + 1)."""
        if self._exact:
            return np.empty((0, 0), np.float32)
        projected = batch.embeddings @ self._projection
        lengths = np.linalg.norm(batch.embeddings, axis=1).astype(np.float32)
        sketches: npt.NDArray[np.float32] = np.column_stack([projected, lengths])
        return sketches


class _Columns:
    """Ids, hashes and sketches of records, in order."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.hashes: list[bytes] = []
        self.sketches: list[npt.NDArray[np.float32]] = []

    def add(self, ids: Sequence[str], hashes: Sequence[bytes], sketches: npt.NDArray[np.float32]) -> None:
        self.ids.extend(ids)
        self.hashes.extend(hashes)
        self.sketches.append(sketches)


def _as_given(batch: RecordBatch, spec: DatabaseSpec) -> RecordBatch:
    """The records as `get` gives them once they are in a database."""
    if spec.distance != "cosine":
        return batch
    return RecordBatch(batch.ids, as_cosine_gives(batch.embeddings), batch.documents, batch.metadatas)


def _text_hashes(batch: RecordBatch) -> list[bytes]:
    return [
        hashlib.blake2b(orjson.dumps(texts, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
        for texts in zip(batch.documents, batch.metadatas, strict=True)
    ]
