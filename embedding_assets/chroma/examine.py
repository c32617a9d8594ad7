"""Reports what a database holds, as any reader would find it; proves it against what it was made from.

Every record is read: directly where the format is known, through chromadb otherwise. Where it was read directly,
chromadb is asked all the same: it has to open the database, count the records, give the same ids in the same order,
the same content for a sample of them, and find what is nearest to these. That both give the same for every record in
every state of a database is what the tests of the direct reader show, to the bit.

The one exception is a database that has a log and nothing else, see `log_probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embedding_assets.chroma import api
from embedding_assets.chroma.canary import Canary
from embedding_assets.chroma.expectation import Expectation
from embedding_assets.chroma.log_probe import LogProbe
from embedding_assets.chroma.read import every_record, offsets_of, reading, records_at, records_of
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.search_probe import Found, SearchProbe, evenly, sample_of
from embedding_assets.chroma.sources import read_source, read_sources
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.sqlite_reader import UnknownFormatError, choose, read_collections
from embedding_assets.chroma.sqlite_writer import writable
from embedding_assets.chroma.structure import Structure, check_structure
from embedding_assets.chroma.touched import find_touched
from embedding_assets.chroma.vectors import VectorReader, as_cosine_gives
from embedding_assets.errors import CorruptedError
from embedding_assets.records import ContentDigest, RecordBatch

_MOST_PROBLEMS = 20
_ROWS = 1000  # records in hand at once, and as many more under way
# A wrecked graph finds next to nothing. A whole one need not find everything: where many records have one vector (on
# real receipts two thirds of all lines stand more than once), HNSW's search stops among the equal ones, and with few
# links an element it misses more. Whole ones were seen to have 0.73 and more even so; those that have either excuse
# are not held to the floor at all. Nor need it find what is nearest where nothing is near (15,000 random vectors of
# 1,536 dimensions: 0.51), but then what is searched for by its own vector is found. The numbers are reported of all.
_LEAST_RECALL = 0.5
_LEAST_FOUND = 0.5
_EXCUSED_REPEATED = 0.3
_EXCUSED_NEIGHBORS = 4


def examine(
    folder: Path, spec: DatabaseSpec, sources: Sequence[Source] = (), *, to_be_written: bool = False
) -> Examination:
    """Read every record of a database, and have chromadb open it.

    Args:
        folder: the database; a copy of the caller's own, because chromadb may change files when it opens it. One that
            has a log and nothing else is not opened, and so not changed.
        spec: what it should hold; an empty name, an empty distance and the dimension 0 stand for any, but with no
            name there has to be exactly one collection.
        sources: if given, what it was made from: every id of theirs must be in it, once, with the document, the
            metadata and the vector of the winning origin, and nothing else may be.
        to_be_written: whether chromadb has to take a few records, too, as it must of a database that may be gone on
            with; its `chroma.sqlite3` is changed by that, its index files are not.
    """
    report = _Report()

    def read(sofar: Structure) -> None:
        with report.noting_contradictions():
            if sofar.log_only and writable(folder):
                _examine_log(folder, spec, _expected(spec, sources, report, exact=True), sofar, report)
            else:
                report.direct = _read_directly(folder, spec, sources, sofar, report)

    # Before chromadb touches it: a damaged index can end the process, or be loaded without a word.
    structure = check_structure(folder, spec.collection or None, to_be_read=True, meanwhile=read)
    if structure.problems:
        return _Report(list(structure.problems)).done()
    if report.problems or report.log_only:
        return report.done()
    try:
        _examine_opened(folder, spec, sources, structure, report, to_be_written)
    except Exception as error:
        if structure.refusal_is_damage:
            raise
        report.unsupported = f"it was written by another version of chromadb, which {api.VERSION} cannot read: {error}"
    return report.done()


@dataclass
class _Report:
    """An examination on the way."""

    problems: list[str] = field(default_factory=list)
    digest: ContentDigest = field(default_factory=ContentDigest)
    search: Found = field(default_factory=lambda: Found(0, 0, None, 0.0))
    synced: bool = False
    held_to_floor: bool = False
    unreachable: float = 0.0
    collections: list[str] = field(default_factory=list)
    distance: str = ""
    dimension: int = 0
    opened: bool = False
    log_only: bool = False
    direct: _Direct | None = None
    unsupported: str = ""

    @contextmanager
    def noting_contradictions(self) -> Iterator[None]:
        """What the files contradict themselves in becomes a problem."""
        try:
            yield
        except CorruptedError as error:
            self.problems.append(error.reason)

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


def _examine_log(
    folder: Path, spec: DatabaseSpec, expected: Expectation | None, structure: Structure, report: _Report
) -> None:
    """A database that has a log and nothing else."""
    report.log_only = True
    with reading(folder) as connection:
        chosen = choose(read_collections(connection), spec.collection or None)
        report.collections = [chosen.name]
        _note_distance(chosen.space, spec, report)
        database = DatabaseSpec(chosen.name, chosen.dimension or 0, chosen.space)
        batches = every_record(connection, folder, chosen, _ROWS, raw=True)
        with LogProbe(folder, database, structure.records[chosen.name]) as probe:
            if _take_in(batches, spec, report, expected, probe.show, raw_of=chosen.space):
                report.problems.extend(probe.judge())


def _expected(spec: DatabaseSpec, sources: Sequence[Source], report: _Report, *, exact: bool) -> Expectation | None:
    """What all records of the sources say; the report is told which source is not what its manifest says."""
    if not sources:
        return None
    records: Iterator[RecordBatch]
    if exact:  # of landed files, which have no digest of what a database makes of them
        records = (batch for source in sources for batch in read_source(source, spec.collection, raw=True))
    else:
        records = read_sources(sources, spec.collection, report.problems)
    return Expectation(spec, records, exact=exact)


def _examine_opened(
    folder: Path,
    spec: DatabaseSpec,
    sources: Sequence[Source],
    structure: Structure,
    report: _Report,
    to_be_written: bool,
) -> None:
    """A database that chromadb opens."""
    problems, direct = report.problems, report.direct
    report.opened = True
    canary = Canary(spec.dimension) if to_be_written else None
    if canary:
        canary.prepare(folder, spec.collection)
    with api.opened(folder) as client:
        report.collections = [collection.name for collection in client.list_collections()]
        if len(report.collections) != 1 or spec.collection not in ("", report.collections[0]):
            if spec.collection:
                problems.append(f"holds collections {report.collections}, not [{spec.collection!r}]")
            return
        name = report.collections[0]
        handle = client.get_collection(name, embedding_function=None)
        settings = handle.configuration["hnsw"]
        _note_distance(settings["space"], spec, report)
        count = handle.count()
        if direct is None:
            probe = SearchProbe(report.distance, *sample_of(handle, count))
            expected = _expected(spec, sources, report, exact=False)
            if not _take_in(api.read_pages(handle), spec, report, expected, lambda batch: probe.show(batch.embeddings)):
                return
        else:
            probe = direct.probe
            problems.extend(_differences(handle, direct))
        if count != report.digest.count:
            problems.append(f"count() is {count} but {report.digest.count} records can be read")
        if not problems:
            report.search = probe.judge(handle)
        report.synced = api.is_synced(folder)
        if canary and not problems:
            problems.extend(canary.sing(handle))
    if canary and not problems:
        problems.extend(canary.hear(folder, name, structure.indexes.get(name)))
    elements = structure.records.get(name, 0) - structure.unindexed.get(name, 0)
    report.unreachable = structure.unreachable.get(name, 0) / elements if elements else 0.0
    recall = report.search.recall
    many_links = int(settings["max_neighbors"]) > _EXCUSED_NEIGHBORS
    report.held_to_floor = report.search.repeated <= _EXCUSED_REPEATED and many_links
    found, sampled = report.search.found, report.search.sampled
    wrecked = recall is not None and recall < _LEAST_RECALL and found < _LEAST_FOUND * sampled
    if wrecked and report.held_to_floor:
        problems.append(
            f"searches give {recall:.0%} of what is nearest; {found} of {sampled} sampled records find themselves"
        )


@dataclass
class _Direct:
    """What was read without chromadb: all ids in order, a sample of the records, and what a search has to find."""

    ids: list[str]
    probe: SearchProbe
    sample: dict[str, tuple[str, Any, bytes]] = field(default_factory=dict)

    def take_sample(self, batch: RecordBatch, wanted: set[str]) -> None:
        """Keep the records that are wanted."""
        for row in [row for row, record_id in enumerate(batch.ids) if record_id in wanted]:
            self.sample[batch.ids[row]] = (
                batch.documents[row],
                batch.metadatas[row],
                batch.embeddings[row].tobytes(),
            )


def _read_directly(
    folder: Path, spec: DatabaseSpec, sources: Sequence[Source], structure: Structure, report: _Report
) -> _Direct | None:
    """Read every record, or those that a merge touched; None where the direct reader does not know all that is used."""
    with reading(folder) as connection:
        collections = read_collections(connection)
        if len(collections) != 1:
            return None
        chosen = choose(collections, spec.collection or None)
        vectors = VectorReader(connection, folder, chosen, index=structure.indexes[chosen.name])
        ids = structure.ids[chosen.name]
        chosen_ids = [ids[at] for at in evenly(len(ids))]
        direct = _Direct(ids, SearchProbe(chosen.space, chosen_ids, vectors.vectors(chosen_ids)))
        wanted = set(chosen_ids)

        def show(batch: RecordBatch) -> None:
            direct.probe.show(batch.embeddings)
            direct.take_sample(batch, wanted)

        try:
            touched = find_touched(connection, chosen, vectors, sources)
            if touched is None:
                expected = _expected(spec, sources, report, exact=False)
                _take_in(records_of(connection, chosen, vectors, _ROWS), spec, report, expected, show)
            else:
                expected = Expectation(spec, touched.of_sources(report.problems), exact=False)
                batches = touched.of_database(connection, chosen, vectors)
                if _take_in(batches, spec, report, expected, lambda batch: None):
                    report.digest = touched.digest(report.digest)
                for live in vectors.live(_ROWS):
                    direct.probe.show(live)
                direct.take_sample(records_at(connection, vectors, offsets_of(connection, chosen, chosen_ids)), wanted)
        except UnknownFormatError:
            report.digest, report.problems[:] = ContentDigest(), []
            return None
    return direct


def _differences(handle: Any, direct: _Direct) -> list[str]:
    """Where chromadb gives something else than what was read directly."""
    if not direct.ids:
        return []
    if handle.get(include=[])["ids"] != direct.ids:
        return ["chromadb gives other ids than its files hold"]
    got = handle.get(ids=list(direct.sample), include=["documents", "metadatas", "embeddings"])
    problems = []
    columns = (got["ids"], got["documents"], got["metadatas"], np.asarray(got["embeddings"], dtype=np.float32))
    for record_id, document, metadata, vector in zip(*columns, strict=True):
        if (document or "", dict(metadata or {}), vector.tobytes()) != direct.sample[record_id]:
            problems.append(f"chromadb gives another {record_id!r} than its files hold")
    if len(got["ids"]) != len(direct.sample):
        problems.append(f"chromadb gives {len(got['ids'])} records of {len(direct.sample)} that were asked for")
    return problems


def _take_in(
    batches: Iterable[RecordBatch],
    spec: DatabaseSpec,
    report: _Report,
    expected: Expectation | None,
    show: Callable[[RecordBatch], None],
    raw_of: str = "",
) -> bool:
    """Every record once; False where the rest is not worth a look.

    `raw_of` is the distance, where vectors come as they were written.
    """
    seen: set[str] = set()

    def take(read: RecordBatch) -> None:
        batch = read
        if raw_of == "cosine":
            batch = RecordBatch(read.ids, as_cosine_gives(read.embeddings), read.documents, read.metadatas)
        if not np.isfinite(batch.embeddings).all():
            report.problems.append("holds vectors that are not finite")
        report.digest.add(batch)
        seen.update(batch.ids)
        show(batch)
        if expected:
            expected.observe(read)

    # One batch is hashed and compared while the next is read: both leave Python's lock alone for most of the time.
    with ThreadPoolExecutor(1, thread_name_prefix="taking") as pool:
        under_way: Future[None] | None = None
        for read in batches:
            if under_way:
                under_way.result()
            report.dimension = int(read.embeddings.shape[1])
            if spec.dimension not in (0, report.dimension):
                report.problems.append(f"its dimension is {report.dimension}, not {spec.dimension}")
                return False
            under_way = pool.submit(take, read)
        if under_way:
            under_way.result()
    if len(seen) != report.digest.count:
        report.problems.append(f"{report.digest.count - len(seen)} ids stand twice")
    if expected:
        report.problems.extend(expected.problems())
    return True


def _note_distance(distance: str, spec: DatabaseSpec, report: _Report) -> None:
    report.distance = distance
    if spec.distance not in ("", distance):
        report.problems.append(f"its distance is {distance}, not {spec.distance}")
