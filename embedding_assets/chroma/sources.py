"""Reads the records of a source, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet as pq

from embedding_assets.chroma import api
from embedding_assets.chroma.spec import Source
from embedding_assets.records import BATCH_KEY, DELTA_KEY, SUBMITTED_KEY, Metadata, RecordBatch


def read_source(source: Source, collection: str, *, vectors: bool = True) -> Iterator[RecordBatch]:
    """The records of a source with their reserved metadata; without vectors the embeddings have shape (n, 0)."""
    if source.path.is_dir():
        with api.opened(source.path) as client:
            yield from api.read_pages(client.get_collection(collection, embedding_function=None), vectors=vectors)
        return
    origin: Metadata = {BATCH_KEY: source.batch_id, SUBMITTED_KEY: source.submitted, DELTA_KEY: source.delta_id}
    with pq.ParquetFile(source.path) as file:
        for rows in file.iter_batches(batch_size=api.PAGE):
            records = RecordBatch.from_arrow(rows)
            yield RecordBatch(
                records.ids,
                records.embeddings if vectors else records.embeddings[:, :0],
                records.documents,
                [{**metadata, **origin} for metadata in records.metadatas],
            )
