"""Opens a database as any reader would and reports what it holds; proves it against what it was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from embedding_assets.chroma import api
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.search_probe import Found, SearchProbe
from embedding_assets.chroma.sources import read_source
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.structure import Structure, check_structure
from embedding_assets.records import ContentDigest, Origin, RecordBatch

_PROJECTIONS = 4
_MOST_PROBLEMS = 20
# A cosine index holds unit vectors and norms: what comes back differs from what went in by float32 rounding, up to
# 1e-6 measured; twice through the index stays well below this.
_TOLERANCE = 1e-5
# A wrecked graph finds next to nothing. A whole one need not find everything: where many records have one vector (on
# real receipts two thirds of all lines stand more than once), HNSW's search stops among the equal ones, and with few
# links an element it misses more. Whole ones were seen to have 0.73 and more even so; those that have either excuse
# are not held to the floor at all. The numbers are reported of all.
_LEAST_RECALL = 0.5
_EXCUSED_REPEATED = 0.3
_EXCUSED_NEIGHBORS = 4


def examine(folder: Path, spec: DatabaseSpec, sources: Sequence[Source] = ()) -> Examination:
    """Open a database with chromadb and read every record.

    Args:
        folder: the database; a copy of the caller's own, because opening it may change files.
        spec: what it should hold; an empty name, an empty distance and the dimension 0 stand for any, but with no
            name there has to be exactly one collection.
        sources: if given, what it was made from: every id of theirs must be in it, once, with the document, the
            metadata and the vector of the winning origin, and nothing else may be.
    """
    # Before chromadb touches it: a damaged index can end the process, or be loaded without a word.
    structure = check_structure(folder, spec.collection or None)
    report = _Report(problems=list(structure.problems))
    if report.problems:
        return report.done()
    if not structure.refusal_is_damage:
        try:
            _examine_opened(folder, spec, sources, structure, report)
        except Exception as error:
            report.unsupported = (
                f"it was written by another version of chromadb, which {api.VERSION} cannot read: {error}"
            )
    else:
        _examine_opened(folder, spec, sources, structure, report)
    return report.done()


@dataclass
class _Report:
    """An examination on the way."""

    problems: list[str]
    digest: ContentDigest = field(default_factory=ContentDigest)
    search: Found = field(default_factory=lambda: Found(0, 0, None, 0.0))
    synced: bool = False
    held_to_floor: bool = False
    unreachable: float = 0.0
    collections: list[str] = field(default_factory=list)
    distance: str = ""
    dimension: int = 0
    opened: bool = False
    unsupported: str = ""

    def done(self) -> Examination:
        return Examination(
            count=self.digest.count,
            digest=self.digest.hex(),
            synced=self.synced,
            sampled=self.search.sampled,
            found=self.search.found,
            problems=self.problems[:_MOST_PROBLEMS],
            recall=self.search.recall,
            repeated=self.search.repeated,
            held_to_floor=self.held_to_floor,
            unreachable=self.unreachable,
            collections=self.collections,
            distance=self.distance,
            dimension=self.dimension,
            opened=self.opened,
            unsupported=self.unsupported,
        )


def _examine_opened(
    folder: Path, spec: DatabaseSpec, sources: Sequence[Source], structure: Structure, report: _Report
) -> None:
    problems = report.problems
    report.opened = True
    with api.opened(folder) as client:
        report.collections = [collection.name for collection in client.list_collections()]
        if len(report.collections) != 1 or spec.collection not in ("", report.collections[0]):
            if spec.collection:
                problems.append(f"holds collections {report.collections}, not [{spec.collection!r}]")
            return
        name = report.collections[0]
        handle = client.get_collection(name, embedding_function=None)
        settings = handle.configuration["hnsw"]
        report.distance = settings["space"]
        if spec.distance not in ("", report.distance):
            problems.append(f"its distance is {report.distance}, not {spec.distance}")
        count = handle.count()
        probe = SearchProbe(handle, report.distance, count)
        if not _read_all(handle, name, spec, sources, report, probe):
            return
        if count != report.digest.count:
            problems.append(f"count() is {count} but {report.digest.count} records can be read")
        if not problems:
            report.search = probe.judge()
    report.synced = api.is_synced(folder)
    elements = structure.records.get(name, 0) - structure.unindexed.get(name, 0) + structure.deleted.get(name, 0)
    report.unreachable = structure.unreachable.get(name, 0) / elements if elements else 0.0
    recall = report.search.recall
    many_links = int(settings["max_neighbors"]) > _EXCUSED_NEIGHBORS
    report.held_to_floor = report.search.repeated <= _EXCUSED_REPEATED and many_links
    if recall is not None and recall < _LEAST_RECALL and report.held_to_floor:
        found, sampled = report.search.found, report.search.sampled
        problems.append(
            f"searches give {recall:.0%} of what is nearest; {found} of {sampled} sampled records find themselves"
        )


def _read_all(
    handle: Any, name: str, spec: DatabaseSpec, sources: Sequence[Source], report: _Report, probe: SearchProbe
) -> bool:
    """Every record once; False where the rest is not worth a look."""
    expected: _Expectation | None = None
    seen: set[str] = set()
    if sources:
        expected = _Expectation(spec.dimension, sources, name)
    for batch in api.read_pages(handle):
        report.dimension = int(batch.embeddings.shape[1])
        if spec.dimension not in (0, report.dimension):
            report.problems.append(f"its dimension is {report.dimension}, not {spec.dimension}")
            return False
        if not np.isfinite(batch.embeddings).all():
            report.problems.append("holds vectors that are not finite")
        report.digest.add(batch)
        seen.update(batch.ids)
        probe.show(batch)
        if expected:
            report.problems.extend(expected.check(batch))
    if len(seen) != report.digest.count:
        report.problems.append(f"{report.digest.count - len(seen)} ids stand twice")
    if expected:
        report.problems.extend(expected.missing())
    return True


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
