"""Mends the records of what was asked, where something else in the store says the same.

What a request asked is in its two files, which their names prove; in its landing; and in the source of the documents,
whose contents their digests prove. Its id is a digest of what it asks, so that a guess at the rest is proved as well.
The damaged original is moved to the quarantine first. What nothing says again is left, and its books name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.documents import (
    Documents,
    content_digest,
    documents_table,
    read_documents,
)
from embedding_assets.batches.files import NAMED_BY_CONTENT, StoredFile, find, is_named_by
from embedding_assets.batches.identity import known_identity
from embedding_assets.batches.landing import LOST, Landing, all_landings, fetch_landing
from embedding_assets.batches.mending import damaged_documents, damaged_ids
from embedding_assets.batches.refused_documents import REFUSED, read_refused, record_refused
from embedding_assets.batches.requests import (
    NO_REQUEST,
    Asked,
    Damaged,
    SentBatch,
    foreign_request_id,
    keep_batch,
    read_history,
    request_id_of,
    write_files,
)
from embedding_assets.batches.restoring import damaged_entries, read_restored, write_entry
from embedding_assets.batches.standing import with_landing
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError, DocumentError, ObjectMissingError, StoreError
from embedding_assets.pipeline.aside import mend_notes, move_aside
from embedding_assets.pipeline.held_records import HeldRecords
from embedding_assets.pipeline.moved import put_back
from embedding_assets.scratch import ScratchFolder
from embedding_assets.settings import S3Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.store.sealed import encode
from embedding_assets.vectorstore.manifest import BatchEntry
from embedding_assets.vectorstore.misplaced import REASON, make_room

_MADE = re.compile(rb'"made": "(\d{8}T\d{12}-[0-9a-f]{8})"')
_NOTES = re.compile(r"input-[0-9a-f]{16}\.json")
_SUFFIXES = (".json", ".parquet")
_ATTEMPTS = 50
_LISTS = 100  # of refused documents, that are looked through for one that is whole
_FAR_SECONDS = 7 * 86_400


def mend_cell(
    store: ObjectStore,
    spec: CollectionSpec,
    day: str,
    *,
    run_id: str = "",
    s3: S3Settings | None = None,
    read_all: bool = False,
) -> list[Damaged]:
    """Mend what is damaged of a cell's requests; nothing is asked of the API.

    Args:
        read_all: whether to read all documents, and not only those whose answers are not landed.

    Returns:
        What was mended.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    done = _misplaced(store, spec.name, day, run_id)
    records = read_restored(store, spec.name, day)
    moved = [one for one in records.damaged if put_back(store, spec.name, day, one, run_id)]
    if moved:
        done += moved
        records = read_restored(store, spec.name, day)
    of_log = damaged_entries(store, [item.request for item in records.asked])
    contradicted = [one for one in of_log if one.key.endswith(f"/{layout.REQUEST}")]
    for one in contradicted:
        move_aside(store, spec.name, one, run_id)
    if contradicted:
        done += contradicted
        records = read_restored(store, spec.name, day)
        of_log = damaged_entries(store, [item.request for item in records.asked])
    asked, damaged = records.asked, records.damaged
    landings = all_landings(store, spec.name, day)
    needed = [item.request for item in asked if read_all or not item.batch or item.batch.batch_id not in landings]
    seen = {one.key for one in damaged}
    unseen = damaged_ids(store, [item.request for item in asked]) + damaged_documents(store, needed)
    damaged += [one for one in unseen if one.key not in seen]
    hurt: dict[str, list[Damaged]] = {}
    for one in damaged:
        if one.request_id != NO_REQUEST:
            hurt.setdefault(one.request_id, []).append(one)
    entries = [one for one in damaged if one.request_id == NO_REQUEST]
    entries += of_log
    asked = [with_landing(item, landings) for item in asked]
    known = {item.request.request_id: item for item in asked}
    for item in asked:
        if item.batch and any(one.key == layout.asked_batch(spec.name, day, item.request.number) for one in done):
            keep_batch(store, item.request, item.batch)
    for item in asked:
        if item.damage and item.damage not in damaged:
            hurt.setdefault(item.damage.request_id, []).append(item.damage)
    done += mend_notes(store, [item.request for item in asked], run_id)
    of_request = {some[0].request_id: some for some in landings.values() if some[0].status != LOST}
    for request_id in of_request.keys() - known.keys() - hurt.keys():
        key = f"{layout.requests(spec.name, day, request_id)}/{layout.REQUEST}"
        if not store.exists(key):
            hurt[request_id] = [Damaged(request_id, key, "is gone from the store")]
    with ScratchFolder("mend") as scratch:
        databases = HeldRecords(store, spec.name, day, scratch)
        mender = _Mender(store, spec, day, run_id, s3, scratch, databases)
        done += mender.mend_refused(moved=any(one.request_id == REFUSED for one in done))
        answered = {item.batch.batch_id for item in asked if item.batch} | landings.keys()
        alone = {entry.batch_id: entry for delta in databases.deltas for entry in delta.batches}
        for batch_id in sorted(alone.keys() - answered):
            mended = mender.ask_again(alone[batch_id], known)
            if mended is not None:
                hurt.pop(mended.request_id, None)
                done.append(mended)
        for request_id, some in sorted(hurt.items()):
            if mender.mend(request_id, known.get(request_id), of_request.get(request_id, []), some):
                done += some
        done += [one for one in entries if mender.mend_entry(one, known.get(one.request_id))]
    return done


def _misplaced(store: ObjectStore, collection: str, day: str, run_id: str) -> list[Damaged]:
    """Folders where objects of requests, or entries of the log, belong; what is in them moves to the quarantine."""
    parts = [item.key.split("/") for item in store.walk(layout.requests(collection, day))]
    found = {"/".join(part[:5]): part[3] for part in parts if len(part) > 5 and part[4].endswith(_SUFFIXES)}
    parts = [item.key.split("/") for item in store.walk(layout.asked(collection, day))]
    found |= {"/".join(part[:4]): NO_REQUEST for part in parts if len(part) > 4 and part[3].endswith(_SUFFIXES)}
    return [Damaged(of, key, REASON) for key, of in sorted(found.items()) if make_room(store, collection, key, run_id)]


@dataclass
class _Mender:
    store: ObjectStore
    spec: CollectionSpec
    day: str
    run_id: str
    s3: S3Settings | None
    scratch: Path
    databases: HeldRecords

    def mend(self, request_id: str, item: Asked | None, landings: list[Landing], damages: list[Damaged]) -> bool:
        """Mend one request; whether all of it could be."""
        folder = layout.requests(self.spec.name, self.day, request_id)
        batch = item.batch if item else self._batch_of(request_id, landings) or self._batch_in(folder)
        request, mended = item.request if item else None, None
        if any(not one.key.endswith(f"/{layout.BATCH}") for one in damages):
            documents = self._documents(folder, landings, item, batch, {one.key for one in damages})
            if documents is None:
                return False
            request = request or self._identified(request_id, folder, documents, landings, batch)
            if request is None:
                return False
            for one in damages:
                self._move_aside(one)
            files = write_files(self.store, folder, documents, self.scratch / request_id)
            mended = replace(request, documents=files[0], ids=files[1], count=documents.num_rows)
        for one in damages:
            if one.key.endswith(f"/{layout.BATCH}"):
                self._move_aside(one)
        # Without a landing it is looked for at the API, as the batch of any intent is.
        self._write_batch(folder, batch)
        lacking = mended and not self.store.exists(f"{folder}/{layout.REQUEST}")
        if mended and (item is None or mended != request or lacking):
            self.store.replace(f"{folder}/{layout.REQUEST}", encode(mended, f"{folder}/{layout.REQUEST}"))
        return True

    def mend_entry(self, one: Damaged, item: Asked | None) -> bool:
        """Write an entry of the log again; one that no request names goes, so that it is not met at every turn."""
        self._move_aside(one)
        with suppress(CorruptedError):
            if item is not None:
                write_entry(self.store, item.request, item.batch)
            return True
        return False

    def mend_refused(self, moved: bool) -> list[Damaged]:
        """Move damaged lists of documents that could not be asked aside; the source says which those are.

        Args:
            moved: whether something in the place of such a list was moved aside already.
        """
        done: list[Damaged] = []
        for _ in range(_LISTS):
            try:
                read_refused(self.store, self.spec.name, self.day)
                break
            except CorruptedError as error:
                done.append(Damaged(REFUSED, error.subject, error.reason))
                self._move_aside(done[-1])
        if (done or moved) and self._source is not None:
            record_refused(self.store, self.spec.name, self.day, self._source.refused)
        return done

    def ask_again(self, entry: BatchEntry, known: Mapping[str, Asked]) -> Damaged | None:
        """Write down what was asked in a batch that a delta alone tells of, as far as its records tell."""
        rows = self.databases.as_asked(entry.batch_id)
        if not rows:
            return None
        documents, batch = documents_table(rows), SentBatch(entry.batch_id, entry.submitted, "")
        holder, _ = self.databases.entries(entry.batch_id)[0]
        asked = self.spec.model_copy(update={"model": holder.model, "dimensions": holder.dimension})
        digests = documents.column("digest").to_pylist()
        # Where all of its records were accepted, this is the id that it was asked under.
        request_id = request_id_of(known_identity(self.store), asked, self.day, 1, digests)
        folder = layout.requests(self.spec.name, self.day, request_id)
        found = known.get(request_id)
        if found is None:
            stored, ids = write_files(self.store, folder, documents, self.scratch / request_id)
            made = self._made(folder, batch)
            request = Request(
                request_id, self.spec.name, asked.model, asked.dimensions, self.day, 1, documents.num_rows, made,
                stored, ids,
            )  # fmt: skip
            self._write_batch(folder, batch)
            self.store.replace(f"{folder}/{layout.REQUEST}", encode(request, f"{folder}/{layout.REQUEST}"))
        elif found.batch is not None:
            return None
        elif found.damage:
            self._move_aside(found.damage)
        self._write_batch(folder, batch)
        lost = layout.REQUEST if found is None else layout.BATCH
        return Damaged(
            request_id, f"{folder}/{lost}", f"is gone from the store, and delta {holder.id} holds its records"
        )

    def _write_batch(self, folder: str, batch: SentBatch | None) -> None:
        """Write the record of a batch where there is none; before the intent, which would be submitted without it."""
        key = f"{folder}/{layout.BATCH}"
        if batch is not None and not self.store.exists(key):
            self.store.replace(key, encode(batch, key))

    def _batch_of(self, request_id: str, landings: list[Landing]) -> SentBatch | None:
        """The batch that a landing names."""
        if not landings:
            return None
        names = (foreign_request_id(landings[0].batch_id), foreign_request_id(landings[0].batch_id, self.spec.name))
        return SentBatch(landings[0].batch_id, landings[0].created_at, "", request_id in names)

    def _batch_in(self, folder: str) -> SentBatch | None:
        """The batch of a request's own record, where that can be read."""
        with suppress(CorruptedError):
            return find(self.store, SentBatch, f"{folder}/{layout.BATCH}")
        return None

    def _move_aside(self, one: Damaged) -> None:
        move_aside(self.store, self.spec.name, one, self.run_id)

    def _documents(
        self,
        folder: str,
        landings: list[Landing],
        item: Asked | None,
        batch: SentBatch | None,
        damaged: AbstractSet[str],
    ) -> pa.Table | None:
        """All documents of a request, by whatever proves them; None where there is no proof of all."""
        whole = self._whole_files(folder, damaged)
        if "documents" in whole:
            return whole["documents"]
        rows = dict(self._of_source)
        for landing in landings:
            rows |= {content_digest(*row): row for row in self._landed(landing)}
        if "ids" in whole:
            wanted = whole["ids"].column("digest").to_pylist()
            if batch and not all(one in rows for one in wanted):
                rows |= {content_digest(*row): row for row in self.databases.as_asked(batch.batch_id)}
            return documents_table(rows[one] for one in wanted) if all(one in rows for one in wanted) else None
        for landing in landings:
            if landing.accepted == landing.requested and len(landed := self._landed(landing)) == landing.requested:
                return documents_table(landed)
        if item and batch and len(held := self.databases.as_asked(batch.batch_id)) == item.request.count:
            return documents_table(held)
        return None

    def _whole_files(self, folder: str, damaged: AbstractSet[str]) -> dict[str, pa.Table]:
        found: dict[str, pa.Table] = {}
        for item in self.store.walk(folder):
            name = item.key.rsplit("/", 1)[1]
            match = NAMED_BY_CONTENT.fullmatch(name) if item.key not in damaged else None
            with suppress(ObjectMissingError, pa.ArrowInvalid):
                if match and is_named_by(name, data := self.store.get(item.key)):
                    found[match.group(1)] = pq.read_table(pa.BufferReader(data))
        return found

    def _landed(self, landing: Landing) -> list[tuple[str, str, str]]:
        try:
            path = fetch_landing(self.store, landing, self.scratch)
        except CorruptedError:
            return []
        table = pq.read_table(path, columns=["id", "document", "metadata"])
        return list(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True))

    @cached_property
    def _source(self) -> Documents | None:
        """What the source says today; None where there is none, or none that can be read."""
        if self.spec.documents is None:
            return None
        try:
            return read_documents(self.spec.documents, self.day, self.s3)
        except (DocumentError, StoreError):
            return None

    @cached_property
    def _of_source(self) -> dict[bytes, tuple[str, str, str]]:
        """The documents as their source says them today, by digest."""
        if self._source is None:
            return {}
        table = self._source.table
        rows = zip(*(table.column(name).to_pylist() for name in ("id", "document", "metadata")), strict=True)
        return {content_digest(*row): row for row in rows}

    def _identified(
        self, request_id: str, folder: str, documents: pa.Table, landings: list[Landing], batch: SentBatch | None
    ) -> Request | None:
        """A request whose `request.json` says nothing, as its id or its landing proves it; None without proof."""
        digests = documents.column("digest").to_pylist()
        landing = landings[0] if landings else None
        spec = self.spec
        model, dimensions = (landing.model, landing.dimensions) if landing else (spec.model, spec.dimensions)
        asked = spec.model_copy(update={"model": model, "dimensions": dimensions})
        attempt = self._attempt(request_id, asked, digests)
        foreign = batch is not None and batch.foreign
        if attempt is None and landing is None and not foreign:
            return None
        if landing is not None and landing.requested != documents.num_rows:
            return None
        not_yet = StoredFile("-", 0, "")
        keys = [item.key.rsplit("/", 1)[1] for item in self.store.walk(folder)]
        return Request(
            request_id=request_id,
            collection=spec.name,
            model=model,
            dimensions=dimensions,
            day=self.day,
            attempt=attempt or 1,  # only first attempts have ids that depend on more than what is known here
            count=documents.num_rows,
            made=self._made(folder, batch),
            documents=not_yet,
            ids=not_yet,
            foreign=foreign,
            input_notes=next((name for name in keys if _NOTES.fullmatch(name)), None),
        )

    def _attempt(self, request_id: str, asked: CollectionSpec, digests: Iterable[bytes]) -> int | None:
        store_id, some = known_identity(self.store), list(digests)
        for attempt in range(1, _ATTEMPTS):
            if request_id_of(store_id, asked, self.day, attempt, some) == request_id:
                return attempt
        for other in read_history(self.store, self.spec.name):
            if request_id_of(store_id, asked, self.day, 1, some, [other.request_id]) == request_id:
                return 1
        return None

    def _made(self, folder: str, batch: SentBatch | None) -> str:
        """When the intent was written: as the damaged object says, where that can be; else about then."""
        times = [
            item.modified for item in self.store.walk(folder) if NAMED_BY_CONTENT.fullmatch(item.key.rsplit("/", 1)[1])
        ]
        about = datetime.fromtimestamp(batch.created_at, timezone.utc) if batch else min(times, default=layout.now())
        with suppress(ObjectMissingError):
            match = _MADE.search(self.store.get(f"{folder}/{layout.REQUEST}"))
            said = match.group(1).decode() if match else ""
            at = layout.time_of(said)
            if at is not None and abs((at - about).total_seconds()) < _FAR_SECONDS:
                return said
        return layout.new_id(about)
