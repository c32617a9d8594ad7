"""Opens a database as any reader would and reports what it holds; proves it against what it was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from embedding_assets.chroma import api
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.sources import read_source
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.structure import check_structure
from embedding_assets.records import ContentDigest, Origin, RecordBatch

_SAMPLE = 32
# A wrecked graph finds next to nothing. A whole one need not find everything: where many records have one vector (on
# real receipts two thirds of all lines stand more than once), HNSW's search stops among the equal ones, and with
# chromadb's defaults misses one record in ten of the others. That is for people to see, not a damage.
_FOUND_AT_LEAST = 0.5
_PROJECTIONS = 4
_MOST_PROBLEMS = 20
# A cosine index holds unit vectors and norms: what comes back differs from what went in by float32 rounding, up to
# 1e-6 measured; twice through the index stays well below this.
_TOLERANCE = 1e-5


def examine(folder: Path, spec: DatabaseSpec, sources: Sequence[Source] = ()) -> Examination:
    """Open a database with chromadb and read every record.

    Args:
        folder: the database; a copy of the caller's own, because opening it may change files.
        spec: what it should hold.
        sources: if given, what it was made from: every id of theirs must be in it, once, with the document, the
            metadata and the vector of the winning origin, and nothing else may be.
    """
    digest = ContentDigest()
    # Before chromadb touches it: a damaged index can end the process, or be loaded without a word.
    problems = list(check_structure(folder, spec.collection).problems)
    if problems:
        return Examination(0, digest.hex(), False, 0, 0, problems[:_MOST_PROBLEMS])
    expected = _Expectation(spec.dimension, sources, spec.collection) if sources else None
    seen: set[str] = set()
    with api.opened(folder) as client:
        names = [collection.name for collection in client.list_collections()]
        if names != [spec.collection]:
            return Examination(0, digest.hex(), False, 0, 0, [f"holds collections {names}, not [{spec.collection!r}]"])
        handle = client.get_collection(spec.collection, embedding_function=None)
        space = handle.configuration["hnsw"]["space"]
        if space != spec.distance:
            problems.append(f"its distance is {space}, not {spec.distance}")
        sample = RecordBatch([], np.empty((0, spec.dimension), np.float32), [], [])
        for batch in api.read_pages(handle):
            if batch.embeddings.shape[1] != spec.dimension:
                return Examination(
                    0,
                    digest.hex(),
                    False,
                    0,
                    0,
                    [f"its dimension is {batch.embeddings.shape[1]}, not {spec.dimension}"],
                )
            if not np.isfinite(batch.embeddings).all():
                problems.append("holds vectors that are not finite")
            digest.add(batch)
            seen.update(batch.ids)
            if expected:
                problems.extend(expected.check(batch))
            if len(sample) == 0:
                sample = batch.take(list(range(0, len(batch), max(1, len(batch) // _SAMPLE)))[:_SAMPLE])
        if handle.count() != digest.count:
            problems.append(f"count() is {handle.count()} but {digest.count} records can be read")
        if len(seen) != digest.count:
            problems.append(f"{digest.count - len(seen)} ids stand twice")
        found = _find_themselves(handle, sample) if len(sample) else 0
        if found < len(sample) * _FOUND_AT_LEAST:
            problems.append(f"only {found} of {len(sample)} sampled records find themselves")
    if expected:
        problems.extend(expected.missing())
    return Examination(digest.count, digest.hex(), api.is_synced(folder), len(sample), found, problems[:_MOST_PROBLEMS])


def _find_themselves(handle: object, sample: RecordBatch) -> int:
    """How many sampled records are the nearest to their own vector, or as near as the nearest (equal texts are)."""
    answer = handle.query(query_embeddings=sample.embeddings, n_results=10, include=["distances"])  # type: ignore[attr-defined]
    found = 0
    for record_id, ids, distances in zip(sample.ids, answer["ids"], answer["distances"], strict=True):
        # With many records of one text the ten nearest need not hold this one; a distance of nought is as good.
        found += record_id in ids or (len(distances) > 0 and abs(distances[0]) <= _TOLERANCE)
    return found


class _Expectation:
    """What the sources say the database holds: per id the winning origin, a hash of the texts and a vector sketch.

    A sketch is a few random projections: 32 bytes instead of a vector, and a changed vector does not keep all of them.
    """

    def __init__(self, dimension: int, sources: Iterable[Source], collection: str) -> None:
        generator = np.random.default_rng(20_240_229)
        self._projection = generator.standard_normal((dimension, _PROJECTIONS)).astype(np.float32)
        self._expected: dict[str, tuple[Origin, bytes, npt.NDArray[np.float32], float]] = {}
        for source in sources:
            for batch in read_source(source, collection):
                self._learn(batch)

    def _learn(self, batch: RecordBatch) -> None:
        sketches, norms = self._sketch(batch)
        for row, record_id in enumerate(batch.ids):
            origin = Origin.of(batch.metadatas[row])
            known = self._expected.get(record_id)
            if known is None or known[0] < origin:
                self._expected[record_id] = (origin, _text_hash(batch, row), sketches[row], float(norms[row]))

    def check(self, batch: RecordBatch) -> list[str]:
        """What is wrong with these records; each is ticked off."""
        problems = []
        sketches, _ = self._sketch(batch)
        for row, record_id in enumerate(batch.ids):
            known = self._expected.pop(record_id, None)
            if known is None:
                problems.append(f"holds {record_id!r}, which no source has")
            elif known[1] != _text_hash(batch, row):
                problems.append(f"{record_id!r} has another document or metadata than its source")
            elif not np.allclose(sketches[row], known[2], rtol=0, atol=_TOLERANCE * max(known[3], 1e-30) * 8):
                problems.append(f"{record_id!r} has another vector than its source")
        return problems

    def missing(self) -> list[str]:
        """The ids that were not ticked off, as problems."""
        if not self._expected:
            return []
        some = ", ".join(repr(record_id) for record_id in list(self._expected)[:5])
        return [f"lacks {len(self._expected)} records of its sources, such as {some}"]

    def _sketch(self, batch: RecordBatch) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        return batch.embeddings @ self._projection, np.linalg.norm(batch.embeddings, axis=1)


def _text_hash(batch: RecordBatch, row: int) -> bytes:
    text = orjson.dumps([batch.documents[row], batch.metadatas[row]], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16).digest()
