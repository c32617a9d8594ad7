"""What the sources of a database say that it holds: per id the record of the greatest origin, in a few bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

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
    """

    def __init__(self, spec: DatabaseSpec, sources: Sequence[Source], *, exact: bool) -> None:
        generator = np.random.default_rng(20_240_229)
        self._projection = generator.standard_normal((spec.dimension, _PROJECTIONS)).astype(np.float32)
        self._exact = exact
        # By id: where it came from, its hash, and the row of its sketch.
        self._expected: dict[str, tuple[Origin, bytes, int]] = {}
        self._sketches: list[npt.NDArray[np.float32]] = []
        for source in sources:
            # Raw vectors are what a log is written of; what of them comes back is not for the sources to say.
            for batch in read_source(source, spec.collection, raw=exact):
                self._learn(_as_given(batch, spec) if exact else batch)
        self._sketch = np.concatenate(self._sketches) if self._sketches else np.empty((0, _PROJECTIONS + 1), np.float32)

    def _learn(self, batch: RecordBatch) -> None:
        hashes = record_hashes(batch) if self._exact else _text_hashes(batch)
        first = sum(map(len, self._sketches))
        if not self._exact:
            self._sketches.append(self._sketches_of(batch))
        expected = self._expected
        for row, (record_id, metadata) in enumerate(zip(batch.ids, batch.metadatas, strict=True)):
            origin = Origin.of(metadata)
            known = expected.get(record_id)
            if known is None or known[0] < origin:
                expected[record_id] = (origin, hashes[row], first + row)

    def check(self, batch: RecordBatch, hashes: Sequence[bytes]) -> list[str]:
        """What is wrong with these records, whose `record_hashes` are given; each is ticked off."""
        known = [self._expected.pop(record_id, None) for record_id in batch.ids]
        strangers = [row for row, one in enumerate(known) if one is None]
        problems = [f"holds {batch.ids[row]!r}, which no source has" for row in strangers]
        rows = [row for row, one in enumerate(known) if one is not None]
        found = hashes if self._exact else _text_hashes(batch)
        what = "document, metadata or vector" if self._exact else "document or metadata"
        for row in rows:
            if known[row][1] != found[row]:  # type: ignore[index]
                problems.append(f"{batch.ids[row]!r} has another {what} than its source")
        if rows and not self._exact:
            wanted = self._sketch[[known[row][2] for row in rows]]  # type: ignore[index]
            apart = np.abs(self._sketches_of(batch)[rows] - wanted)[:, :-1].max(axis=1)
            wrong = ~(apart <= _TOLERANCE * np.maximum(wanted[:, -1], 1e-30) * 8)
            problems += [f"{batch.ids[rows[at]]!r} has another vector than its source" for at in np.flatnonzero(wrong)]
        return problems

    def missing(self) -> list[str]:
        """The ids that were not ticked off, as problems."""
        if not self._expected:
            return []
        some = ", ".join(repr(record_id) for record_id in list(self._expected)[:5])
        return [f"lacks {len(self._expected)} records of its sources, such as {some}"]

    def _sketches_of(self, batch: RecordBatch) -> npt.NDArray[np.float32]:
        """Projections and length of each vector, shape (n, projections + 1)."""
        projected = batch.embeddings @ self._projection
        lengths = np.linalg.norm(batch.embeddings, axis=1).astype(np.float32)
        sketches: npt.NDArray[np.float32] = np.column_stack([projected, lengths])
        return sketches


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
