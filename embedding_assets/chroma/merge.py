"""The one merge: records of any sources into one database, last submitted wins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from embedding_assets.chroma import api
from embedding_assets.chroma.merge_direct import merge_directly, obstacle
from embedding_assets.chroma.reports import MergeReport
from embedding_assets.chroma.sources import origins_among, read_source, read_source_ids, read_source_origins
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.stopwatch import Stopwatch
from embedding_assets.records import Origin, RecordBatch, slices

_DELETE_AT_ONCE = 2000
_ROWS = 1000  # records written directly at once


def merge(folder: Path, spec: DatabaseSpec, sources: Sequence[Source], hindrance: str = "") -> MergeReport:
    """Merge sources into the database in `folder`, which is created if it is not there, and seal it.

    The folder must be the caller's own: where there is a base, it is changed in place. Of the records with one id
    that of the greatest origin wins, whatever the order of the sources; merging a source again changes nothing.

    Written directly where the format is known, through ChromaDB's own interface otherwise, or where there is another
    hindrance; the report says which.
    """
    watch = Stopwatch()
    has_base = folder.exists()
    if not has_base:
        api.create(folder, spec)
    with watch("plan"):
        winners, repeated = _brought(spec, sources)
        held, base = origins_among(folder, spec.collection, winners) if has_base else (0, {})
        if repeated or base:
            winners = {
                record_id: index
                for record_id, (origin, index) in best_among(spec, sources).items()
                if record_id not in base or base[record_id] < origin
            }
        replaced = [record_id for record_id in winners if record_id in base]
        hindered = hindrance or obstacle(folder, spec, sources)
    applied = {source.label: 0 for source in sources}
    batches = _gathered(winning_records(spec, sources, winners, applied), api.PAGE if hindered else _ROWS)
    rebuilt = False
    if hindered:
        _merge_by_api(folder, spec, replaced, batches, watch)
    elif winners:
        rebuilt = merge_directly(folder, spec, replaced, batches, len(winners), watch)
    return MergeReport(
        kept=held - len(replaced),
        replaced=len(replaced),
        added=len(winners) - len(replaced),
        applied=applied,
        chromadb_version=api.VERSION,
        engine="api" if hindered else "direct",
        obstacle=hindered,
        rebuilt=rebuilt,
        seconds={part: round(seconds, 3) for part, seconds in watch.seconds.items()},
    )


def _merge_by_api(
    folder: Path, spec: DatabaseSpec, replaced: list[str], batches: Iterator[RecordBatch], watch: Stopwatch
) -> None:
    """Write records through ChromaDB's own interface."""
    with watch("chromadb"):
        api.prepare_bulk(folder, spec.collection)
        with api.opened(folder) as client:
            handle = client.get_collection(spec.collection, embedding_function=None)
            # delete + add is three times as fast as upsert, and it drops metadata keys that the new record lacks.
            for some in slices(len(replaced), _DELETE_AT_ONCE):
                handle.delete(ids=replaced[some])
            limit = client.get_max_batch_size()
            for batch in batches:
                for some in slices(len(batch), limit):
                    handle.add(
                        ids=batch.ids[some],
                        embeddings=batch.embeddings[some],
                        documents=batch.documents[some],
                        # Records of legacy data may have no metadata at all, to which chromadb wants None, not {}.
                        metadatas=[metadata or None for metadata in batch.metadatas[some]],
                    )
        api.seal(folder, spec.collection)


def _brought(spec: DatabaseSpec, sources: Sequence[Source]) -> tuple[dict[str, int], bool]:
    """For every id of the sources the index of one that has it, and whether there is an id in two places.

    Where there is none, nothing has to win over anything, and the origins need not be read.
    """
    brought: dict[str, int] = {}
    count = 0
    for index, source in enumerate(sources):
        for ids in read_source_ids(source, spec.collection):
            count += len(ids)
            brought.update(dict.fromkeys(ids, index))
    return brought, count > len(brought)


def best_among(spec: DatabaseSpec, sources: Sequence[Source]) -> dict[str, tuple[Origin, int]]:
    """For every id of the sources: its greatest origin, and the index of the source that has it."""
    best: dict[str, tuple[Origin, int]] = {}
    for index, source in enumerate(sources):
        for ids, origins in read_source_origins(source, spec.collection):
            for record_id, origin in zip(ids, origins, strict=True):
                if record_id not in best or best[record_id][0] < origin:
                    best[record_id] = (origin, index)
    return best


def winning_records(
    spec: DatabaseSpec, sources: Sequence[Source], winners: dict[str, int], applied: dict[str, int]
) -> Iterator[RecordBatch]:
    """The records that win, counted in `applied` by their source's label."""
    for index, source in enumerate(sources):
        # As they were written: a cosine index makes of them what it made of them in the source, to the last bit.
        for batch in read_source(source, spec.collection, raw=True):
            rows = [row for row, record_id in enumerate(batch.ids) if winners.get(record_id) == index]
            if rows:
                applied[source.label] += len(rows)
                yield batch if len(rows) == len(batch) else batch.take(rows)


def _gathered(batches: Iterator[RecordBatch], size: int) -> Iterator[RecordBatch]:
    """The same records in batches of `size`: 459 small sources would otherwise be 459 small calls."""
    waiting: list[RecordBatch] = []
    held = 0
    for batch in batches:
        waiting.append(batch)
        held += len(batch)
        while held >= size:
            joined = _joined(waiting)
            yield joined.take(list(range(size)))
            rest = joined.take(list(range(size, held)))
            waiting, held = [rest], len(rest)
    if held:
        yield _joined(waiting)


def _joined(batches: list[RecordBatch]) -> RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return RecordBatch(
        [record_id for batch in batches for record_id in batch.ids],
        np.concatenate([batch.embeddings for batch in batches]),
        [document for batch in batches for document in batch.documents],
        [metadata for batch in batches for metadata in batch.metadatas],
    )
