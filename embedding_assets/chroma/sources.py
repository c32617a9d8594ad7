"""Reads the records of a source, whatever it is: directly where the format is known, through chromadb otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from embedding_assets.chroma import api
from embedding_assets.chroma.read import is_readable, read_ids, read_origins, read_origins_among, read_records
from embedding_assets.chroma.spec import Source
from embedding_assets.records import (
    BATCH_KEY,
    DELTA_KEY,
    SUBMITTED_KEY,
    ContentDigest,
    Metadata,
    Origin,
    RecordBatch,
    shard_of,
)

_ROWS = 1000  # in memory at once; more is not faster


def read_sources(sources: Iterable[Source], collection: str, problems: list[str]) -> Iterator[RecordBatch]:
    """The records of these sources, as `read_source` gives them; each is held against its count and content digest.

    Args:
        sources, collection: which.
        problems: told which source holds other records than it was committed with, when it has been read to the end.
    """
    for source in sources:
        digest = ContentDigest() if source.digest else None
        yield from read_source(source, collection, digest=digest)
        if digest is not None and (digest.count, digest.hex()) != (source.count, source.digest):
            problems.append(f"{source.label} holds other records than those that its manifest's digest was made of")


def read_source(
    source: Source, collection: str, *, raw: bool = False, digest: ContentDigest | None = None
) -> Iterator[RecordBatch]:
    """The records of a source with their reserved metadata; `raw` as in `read_records`.

    `digest` counts in all that it holds, records of other shards included.
    """
    for batch in _read_all(source, collection, raw):
        if digest is not None:
            digest.add(batch)
        rows = _rows_meant(source, batch.ids)
        if rows is None:
            yield batch
        elif rows:
            yield batch.take(rows)


def read_source_origins(source: Source, collection: str) -> Iterator[tuple[list[str], list[Origin]]]:
    """The ids of a source's records with their origins; reads no vectors where that can be avoided."""
    for ids, origins in _read_all_origins(source, collection):
        rows = _rows_meant(source, ids)
        if rows is None:
            yield ids, origins
        elif rows:
            yield [ids[row] for row in rows], [origins[row] for row in rows]


def read_source_ids(source: Source, collection: str) -> Iterator[list[str]]:
    """The ids of a source's records; reads nothing else where that can be avoided."""
    for ids in _read_all_ids(source, collection):
        rows = _rows_meant(source, ids)
        yield ids if rows is None else [ids[row] for row in rows]


def origins_among(folder: Path, collection: str, wanted: Iterable[str]) -> tuple[int, dict[str, Origin]]:
    """How many records a database holds, and the origins of those of these ids that are among them.

    It costs what is wanted, not what there is, where the format is known and the log is applied to the end.
    """
    looked_up = read_origins_among(folder, collection, wanted) if is_readable(folder, collection) else None
    if looked_up is not None:
        return looked_up
    every = {
        record_id: origin
        for ids, origins in read_source_origins(Source(folder, "base"), collection)
        for record_id, origin in zip(ids, origins, strict=True)
    }
    return len(every), {record_id: every[record_id] for record_id in wanted if record_id in every}


def _rows_meant(source: Source, ids: list[str]) -> list[int] | None:
    """The positions of the records that are of the source's shard; None: all are."""
    if source.shards == 1:
        return None
    return [row for row, record_id in enumerate(ids) if shard_of(record_id, source.shards) == source.shard]


def _read_all(source: Source, collection: str, raw: bool) -> Iterator[RecordBatch]:
    collection = source.collection or collection
    if source.path.is_file():
        yield from _read_landed(source)
    elif is_readable(source.path, collection):
        yield from read_records(source.path, collection, _ROWS, raw=raw)
    else:
        with api.opened(source.path) as client:
            yield from api.read_pages(client.get_collection(collection, embedding_function=None))


def _read_all_origins(source: Source, collection: str) -> Iterator[tuple[list[str], list[Origin]]]:
    collection = source.collection or collection
    if source.path.is_file():
        origin = Origin(source.submitted, source.batch_id, source.delta_id)
        with pq.ParquetFile(source.path) as file:
            for rows in file.iter_batches(batch_size=api.PAGE, columns=["id"]):
                yield rows.column("id").to_pylist(), [origin] * rows.num_rows
    elif is_readable(source.path, collection):
        yield from read_origins(source.path, collection)
    else:
        with api.opened(source.path) as client:
            for batch in api.read_pages(client.get_collection(collection, embedding_function=None), vectors=False):
                yield batch.ids, [Origin.of(metadata) for metadata in batch.metadatas]


def _read_all_ids(source: Source, collection: str) -> Iterator[list[str]]:
    if source.path.is_dir() and is_readable(source.path, source.collection or collection):
        yield read_ids(source.path, source.collection or collection)
    else:
        for ids, _ in _read_all_origins(source, collection):
            yield ids


def _read_landed(source: Source) -> Iterator[RecordBatch]:
    origin: Metadata = {BATCH_KEY: source.batch_id, SUBMITTED_KEY: source.submitted, DELTA_KEY: source.delta_id}
    with pq.ParquetFile(source.path) as file:
        for rows in file.iter_batches(batch_size=_ROWS):
            records = RecordBatch.from_arrow(rows)
            yield RecordBatch(
                records.ids,
                records.embeddings,
                records.documents,
                [{**metadata, **origin} for metadata in records.metadatas],
            )
