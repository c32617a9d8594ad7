"""The first records of what was asked, for people to see what a cell is about."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import orjson
import pyarrow.parquet as pq

from embedding_assets.batches.requests import asked_documents, read_requests
from embedding_assets.catalog import CollectionSpec
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore

_COLUMNS = ["id", "document", "metadata"]


@dataclass(frozen=True)
class Asked:
    """A record as it was asked for."""

    id: str
    document: str
    metadata: dict[str, object]


def preview_asked(store: ObjectStore, spec: CollectionSpec, day: str, batch_ids: Collection[str]) -> list[Asked]:
    """The first records that one of these batches asked for: as many as the collection's `preview` allows.

    Raises:
        CorruptedError, StoreError: they cannot be read.
    """
    most = spec.preview.records
    wanted = set(batch_ids)
    if not most or not wanted:
        return []
    for one in read_requests(store, spec.name, day):
        if one.batch is not None and one.batch.batch_id in wanted:
            with ScratchFolder("preview") as folder:
                path = asked_documents(store, one.request, folder)
                with pq.ParquetFile(path) as file:
                    rows = next(file.iter_batches(batch_size=most, columns=_COLUMNS), None)
                    found = rows.to_pylist() if rows is not None else []
            return [Asked(row["id"], row["document"], orjson.loads(row["metadata"])) for row in found]
    return []
