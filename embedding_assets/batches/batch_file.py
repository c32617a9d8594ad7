"""A batch's input file: one request line for each record, within the limits of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.answers import ENDPOINT
from embedding_assets.batches.client import takes_dimensions
from embedding_assets.catalog import CollectionSpec

_ROWS = 5_000


def request_line(spec: CollectionSpec, record_id: str, text: str) -> bytes:
    """One line, newline included. The record's id is the custom_id: OpenAI documents no limit to its length."""
    body = {"model": spec.model, "input": text, "encoding_format": "base64"}
    if takes_dimensions(spec.model):
        body["dimensions"] = spec.dimensions  # type: ignore[assignment]
    return orjson.dumps({"custom_id": record_id, "method": "POST", "url": ENDPOINT, "body": body}) + b"\n"


def cut(sizes: Sequence[int], most_requests: int, most_bytes: int) -> Iterator[slice]:
    """Consecutive slices of lines that fit a batch each; together they are all lines, in order.

    Args:
        sizes: bytes of each line; none may be greater than `most_bytes`.
    """
    start = total = 0
    for i, size in enumerate(sizes):
        if i > start and (i - start >= most_requests or total + size > most_bytes):
            yield slice(start, i)
            start, total = i, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def line_sizes(spec: CollectionSpec, documents: pa.Table) -> list[int]:
    """Bytes of the request line of each document."""
    return [
        len(request_line(spec, record_id, text))
        for part in documents.select(["id", "document"]).to_batches(max_chunksize=_ROWS)
        for record_id, text in zip(part.column(0).to_pylist(), part.column(1).to_pylist(), strict=True)
    ]


def write_batch_file(spec: CollectionSpec, documents: Path, path: Path) -> Path:
    """Write the input file for the documents of a Parquet file."""
    with path.open("wb") as file, pq.ParquetFile(documents) as source:
        for part in source.iter_batches(_ROWS, columns=["id", "document"]):
            for record_id, text in zip(part.column(0).to_pylist(), part.column(1).to_pylist(), strict=True):
                file.write(request_line(spec, record_id, text))
    return path
