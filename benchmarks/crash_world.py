"""One collection in a store of its own, with the real batch service; and the invariants that must hold of it."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.pipeline.cells import build_cell_deltas, land_cell, submit_cell
from embedding_assets.pipeline.operations import prune
from embedding_assets.pipeline.pending import cells_to_run, compaction_due
from embedding_assets.pipeline.proofs import prove_deltas, prove_snapshot
from embedding_assets.reading import Collection
from embedding_assets.settings import Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.cache import DamagedSnapshotWarning
from embedding_assets.vectorstore.commit import pointed_generation
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets.vectorstore.transfer import at_once

RUN_ID = "crash-matrix"


@dataclass
class World:
    """One collection, its store, its documents and its batches.

    Attributes:
        store, api, spec, folder: as everywhere; the folder is the world's own.
        day: its only cell.
        legacy: ids of the records of older systems.
        names: what a case's preparation made known to its command.
    """

    store: ObjectStore
    api: EmbeddingApi
    spec: CollectionSpec
    folder: Path
    day: str = field(default_factory=lambda: str(layout.now().date()))
    legacy: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)

    def submit(self, store: ObjectStore) -> None:
        submit_cell(self.api, store, self.spec, self.day)

    def land(self, store: ObjectStore) -> None:
        land_cell(self.api, store, self.spec, self.day)

    def build(self, store: ObjectStore) -> None:
        build_cell_deltas(store, self.spec, self.day, run_id=RUN_ID, scratch=self.scratch())

    def compact(self, store: ObjectStore) -> None:
        compact(store, self.spec, run_id=RUN_ID, scratch=self.scratch())

    def scratch(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def settle(self) -> None:
        """Until the batch service has done what it was asked for."""
        deadline = time.monotonic() + 60
        while any(not batch.ended for batch in self._batches()):
            if time.monotonic() > deadline:
                raise RuntimeError("the batch service does not finish")
            time.sleep(0.02)

    def write_documents(self, first: int, last: int) -> None:
        with (self.folder / "documents.jsonl").open("a") as file:
            for i in range(first, last):
                document = {"id": f"id-{i}", "text": self.text(f"id-{i}"), "metadata": {"n": i}}
                file.write(json.dumps(document) + "\n")

    def text(self, record_id: str) -> str:
        return f"text of {record_id} of {self.spec.name}"

    def finish(self) -> None:
        """Everything that the pipeline does by itself, until there is nothing left to do."""
        catalog = Catalog(collections={self.spec.name: self.spec})
        for _ in range(4):
            self.submit(self.store)
            self.settle()
            if cells_to_run(self.api, self.store, catalog)[0]:
                self.land(self.store)
                self.build(self.store)
            elif compaction_due(self.store, self.spec) is None:
                return
            self.compact(self.store)
        raise RuntimeError("there is still something to do")

    def content(self) -> dict[str, bytes]:
        """The whole store."""
        keys = [item.key for item in self.store.walk("")]
        return dict(zip(keys, at_once(self.store.get, keys), strict=True))

    def copy(self, content: dict[str, bytes], store: ObjectStore, folder: Path) -> World:
        """The same world in another store: what was asked and paid for is the same."""
        at_once(lambda item: store.replace(*item), content.items())
        shutil.copy(self.folder / "documents.jsonl", folder)
        spec = self.spec.model_copy(update={"documents": str(folder / "documents.jsonl")})
        return World(store, self.api, spec, folder, self.day, self.legacy, self.names)

    def _batches(self) -> list[Any]:
        return [b for b in self.api.list_batches() if b.metadata.get("collection") == self.spec.name]

    def read(self) -> Any:
        """What a reader with an empty cache sees now: id to document, or why it sees nothing."""
        settings = Settings("crash", self.store.url, Path("unused"), self.scratch())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DamagedSnapshotWarning)
                with Collection(self.store, self.spec, settings) as collection:
                    records = collection.get()
        except ObjectMissingError:
            return "none"
        except CorruptedError:
            return "damaged"
        if len(records) != collection.manifest.count:
            raise RuntimeError(f"{len(records)} records in a snapshot of {collection.manifest.count}")
        return {record.id: record.document for record in records}

    def sweep(self) -> list[str]:
        """Prune without grace; what is left over all the same."""
        for _ in range(2):
            prune(self.store, self.spec, keep=5, grace=timedelta(0)).execute()
        left = prune(self.store, self.spec, keep=5, grace=timedelta(0)).rows
        there = take_inventory(self.store, self.spec.name)
        orphans = (*there.unfinished_deltas, *there.unfinished_snapshots, *there.unfinished_landings)
        return [
            *(f"left by prune: {row['name']}" for row in left),
            *(f"an orphan: {folder.prefix}" for folder in orphans),
            *(f"a stray: {item.key}" for item in there.strays),
            *(f"a mark: {item.key}" for item in there.marks),
        ]

    def problems(self) -> list[str]:
        """The invariants that do not hold, in words."""
        found = []
        asked = [json.loads(line)["id"] for line in (self.folder / "documents.jsonl").read_text().splitlines()]
        deltas = prove_deltas(self.store, self.spec, self.day)
        found += [f"delta {d.ref.id}: {d.problem}" for d in deltas.deltas if d.problem]
        found += [f"batch {landing.batch_id} is in no delta" for landing in deltas.waiting]
        proof = prove_snapshot(self.store, self.spec, self.scratch())
        found += list(proof.problems) + [f"lost {i}" for i in proof.lost]
        seen = self.read()
        if seen != {i: self.text(i) for i in (*asked, *self.legacy)}:
            found.append(f"the snapshot holds {sorted(seen)}")
        pointed = pointed_generation(self.store, self.spec.name)
        if proof.manifest and pointed != proof.manifest.generation:
            found.append(f"the pointer names generation {pointed}, not {proof.manifest.id}")
        paid = sum(batch.requests[1] for batch in self._batches())
        if paid != len(asked):
            found.append(f"{paid} embeddings were paid for, not {len(asked)}")
        return found
