"""Reads back what the databases hold of batches: the deltas of a cell and, where one of them is gone, the snapshot."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

from embedding_assets.batches.documents import canonical
from embedding_assets.batches.relanding import Held
from embedding_assets.chroma.sources import read_source, read_sources
from embedding_assets.chroma.spec import Source
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.records import BATCH_KEY, RecordBatch
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import bases
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.contents import download_database
from embedding_assets.vectorstore.delta import list_deltas, readable_deltas
from embedding_assets.vectorstore.manifest import BatchEntry, Manifest

_VERSIONS_LOOKED_AT = 5


@dataclass
class HeldRecords:
    """What the databases of a collection hold of the batches of one cell. Each database is fetched once.

    Attributes:
        scratch: an existing folder on a disk with room for those databases.
    """

    store: ObjectStore
    collection: str
    day: str
    scratch: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def deltas(self) -> list[Manifest]:
        """The cell's deltas that can be read."""
        return readable_deltas(self.store, list_deltas(self.store, self.collection, self.day))

    def entries(self, batch_id: str) -> list[tuple[Manifest, BatchEntry]]:
        """The deltas that say that they hold a batch, the one with the most of its records first."""
        found = [(delta, entry) for delta in self.deltas for entry in delta.batches if entry.batch_id == batch_id]
        return sorted(found, key=lambda item: item[1].applied, reverse=True)

    def find(self, batch_id: str) -> Held | None:
        """What they hold of a batch; None where they hold nothing of it.

        Raises:
            StoreError: the store did not answer, or refuses.
        """
        for delta, entry in self.entries(batch_id):
            if self._fetched(delta):
                return Held(self._records(delta, batch_id), entry.set_aside, f"delta {delta.id}")
        snapshot = self._snapshot
        if snapshot is None or not self._fetched(snapshot):
            return None
        if not any(len(some) for some in self._records(snapshot, batch_id)):
            return None
        return Held(self._records(snapshot, batch_id), (), f"snapshot {snapshot.id}")

    def as_asked(self, batch_id: str) -> list[tuple[str, str, str]]:
        """What they hold of a batch as it was asked: id, document, canonical metadata. Errors as `find`."""
        held = self.find(batch_id)
        return [
            (record_id, document, canonical(metadata))
            for some in (held.records if held else ())
            for record_id, document, metadata in zip(some.ids, some.documents, some.metadatas, strict=True)
        ]

    @cached_property
    def _snapshot(self) -> Manifest | None:
        """The current snapshot, where it holds a delta that is gone."""
        end = log_end(self.store, self.collection)
        found = islice(bases(self.store, self.collection, end), _VERSIONS_LOOKED_AT)
        current = next((base.manifest for base in found if base.manifest), None)
        if current is None:
            return None
        there = {ref.id for ref in list_deltas(self.store, self.collection)}
        return current if set(current.deltas) - there else None

    def _fetched(self, manifest: Manifest) -> bool:
        """Whether a database is in the scratch folder, and whole."""
        with self._lock:
            for part in manifest.databases:
                folder = self._folder(part)
                if folder.exists():
                    continue
                try:
                    download_database(self.store, part, folder)
                    whole = self._holds_what_it_says(part, folder)
                except (CorruptedError, ObjectMissingError):
                    whole = False
                if not whole:
                    shutil.rmtree(folder, ignore_errors=True)
                    return False
            return True

    def _holds_what_it_says(self, part: Manifest, folder: Path) -> bool:
        """Whether its records are those of its manifest's digest; checksums of files can be made to fit."""
        problems: list[str] = []
        source = Source(folder, part.id, digest=part.digest, count=part.count)
        for _ in read_sources([source], self.collection, problems):
            pass
        return not problems

    def _folder(self, part: Manifest) -> Path:
        return self.scratch / part.id / (part.shard or "database")

    def _records(self, manifest: Manifest, batch_id: str) -> Iterator[RecordBatch]:
        """The records of a batch, without their reserved metadata."""
        for part in manifest.databases:
            for some in read_source(Source(self._folder(part), part.id), self.collection, raw=True):
                rows = [row for row, values in enumerate(some.metadatas) if values.get(BATCH_KEY) == batch_id]
                if rows:
                    yield some.take(rows).without_origin()
