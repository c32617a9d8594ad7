"""Writes landed records as Parquet, a block at a time, while the next block is being gathered."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.records import ContentDigest, RecordBatch, Vectors, record_schema

_BLOCK_BYTES = 8 * 1024 * 1024  # vectors of one row group; two of them are in memory
_HASHED_AT_ONCE = 64  # while they are in the processor's cache, and a process that reads numbers has work meanwhile


class RecordsFile:
    """A Parquet file with `records.record_schema`, and the digest of what is in it.

    Vectors are written as they are: numbers that look random do not get smaller by compression, and compressing them
    costs four times what reading them from JSON does.

    Attributes:
        digest: of the records, when the file is closed.
    """

    def __init__(self, path: Path, dimensions: int) -> None:
        self.digest = ContentDigest()
        self._dimensions = dimensions
        self._schema = record_schema(dimensions)
        texts = [name for name in self._schema.names if name != "embedding"]
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            compression={**dict.fromkeys(texts, "zstd"), "embedding.list.element": "none"},
            use_dictionary=texts,
            write_statistics=texts,
        )
        rows = max(1, _BLOCK_BYTES // (4 * dimensions))
        self._vectors, self._other = np.empty((2, rows, dimensions), dtype=np.float32)
        self._ids: list[str] = []
        self._documents: list[str] = []
        self._metadatas: list[str] = []
        self._hashed = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="records")
        self._writing: Future[Any] | None = None

    def __enter__(self) -> RecordsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._flush()
                self._wait()
        finally:
            self._pool.shutdown()
            self._writer.close()

    def add(self, record_id: str, vector: Vectors, document: str, metadata: str) -> None:
        """Add one record; `metadata` is canonical JSON."""
        self._vectors[len(self._ids)] = vector
        self._ids.append(record_id)
        self._documents.append(document)
        self._metadatas.append(metadata)
        if len(self._ids) - self._hashed == _HASHED_AT_ONCE:
            self._hash()
        if len(self._ids) == len(self._vectors):
            self._flush()

    def _hash(self) -> None:
        new = slice(self._hashed, len(self._ids))
        self.digest.add(
            RecordBatch(
                self._ids[new],
                self._vectors[new],
                self._documents[new],
                [orjson.loads(metadata) for metadata in self._metadatas[new]],
            )
        )
        self._hashed = len(self._ids)

    def _flush(self) -> None:
        if not self._ids:
            return
        vectors = self._vectors[: len(self._ids)]
        columns = [
            pa.array(self._ids, pa.string()),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), self._dimensions),
            pa.array(self._documents, pa.string()),
            pa.array(self._metadatas, pa.string()),
        ]
        self._wait()  # until then the block before lies in the other half
        self._writing = self._pool.submit(self._writer.write_table, pa.table(columns, schema=self._schema))
        self._hash()
        self._vectors, self._other = self._other, self._vectors
        self._ids, self._documents, self._metadatas, self._hashed = [], [], [], 0

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None
