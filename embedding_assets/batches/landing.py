"""What came back for one batch, as the store keeps it: a landing, immutable, its manifest written last.

{collection}/results/{day}/{batch}/{landing_id}/records.parquet    the accepted records (records.record_schema)
{collection}/results/{day}/{batch}/{landing_id}/accepted.parquet   their ids alone: enough to prove the balance
{collection}/results/{day}/{batch}/{landing_id}/rejected.parquet   id, reason, code, retryable
{collection}/results/{day}/{batch}/{landing_id}/again              only there when records are to be asked again
{collection}/results/{day}/{batch}/{landing_id}/other-models     only there when records are of a model of another name
{collection}/results/{day}/{batch}/{landing_id}/manifest.json      last, put-if-absent: without it there is no landing

The newest landing of a batch is the one that counts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from embedding_assets.batches.files import FORMAT, StoredFile, encode, fetch_file, in_parallel, read, store_file
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

AGAIN = "again"
OTHER_MODELS = "other-models"
LOST = "lost"  # status of a landing whose results neither the API nor the store holds any more
LOST_CODE = "result_lost"

REJECTED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("retryable", pa.bool_(), nullable=False),
    ]
)
ACCEPTED_SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False)])


@dataclass(frozen=True)
class Landing:
    """The manifest of what came back for one batch.

    Attributes:
        created_at: the batch's, in seconds since 1970.
        status: the batch's, or `lost`.
        requested: records asked; each is accepted, rejected or missing.
        repeated: lines about a record that had a good line already.
        stray: lines that could not be put to a record that was asked.
        tokens: tokens charged, as the lines say.
        digest: ContentDigest of the accepted records.
        outcome: digest of everything that this landing says; equal outcomes need no second landing.
        problem: the API's reason where the batch failed as a whole.
        token_limited: it failed because of the limit of enqueued tokens; that uses up no attempt.
        limit: the code of the limit for which it failed, of whatever kind.
        other_models: names of other models for which records were rejected.
        remarks: some of the stray and repeated lines, in words.
    """

    landing_id: str
    collection: str
    day: str
    request_id: str
    batch_id: str
    created_at: int
    status: str
    model: str
    dimensions: int
    requested: int
    accepted: int
    rejected: int
    missing: int
    repeated: int
    stray: int
    tokens: int
    digest: str
    outcome: str
    records_file: StoredFile
    accepted_file: StoredFile
    rejected_file: StoredFile
    problem: str = ""
    token_limited: bool = False
    remarks: tuple[str, ...] = ()
    limit: str = ""
    other_models: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def folder(self) -> str:
        """Its folder in the store."""
        return layout.results(self.collection, self.day, self.batch_id, self.landing_id)

    @property
    def files(self) -> tuple[StoredFile, StoredFile, StoredFile]:
        """Its files, with size and SHA-256."""
        return self.records_file, self.accepted_file, self.rejected_file


@dataclass(frozen=True)
class LandedFiles:
    """The files of a landing on disk, before it is written."""

    records: Path
    accepted: Path
    rejected: Path


def write_files(store: ObjectStore, folder: str, files: LandedFiles) -> tuple[StoredFile, StoredFile, StoredFile]:
    """Upload a landing's files; they count for nothing until its manifest is there."""
    return (
        store_file(store, folder, files.records),
        store_file(store, folder, files.accepted),
        store_file(store, folder, files.rejected),
    )


def commit(store: ObjectStore, landing: Landing, again: bool) -> Landing:
    """Write the manifest, last; before it the mark that some records are to be asked again."""
    if again:
        store.put_new(f"{landing.folder}/{AGAIN}", b"")
    if landing.other_models:
        store.put_new(f"{landing.folder}/{OTHER_MODELS}", b"")
    key = f"{landing.folder}/{layout.MANIFEST}"
    store.put_new(key, encode(landing, key))
    return landing


def declared_since(landing: Landing, spec: CollectionSpec) -> bool:
    """Whether records were rejected for the name of a model that is declared by now: they are to be read afresh."""
    return any(spec.answers_as(model) for model in landing.other_models)


def read_landing(store: ObjectStore, key: str) -> Landing:
    """A landing by its manifest's key.

    Raises:
        CorruptedError: it is no manifest.
        ObjectMissingError: it is not there.
    """
    landing = read(store, Landing, key)
    if f"{landing.folder}/{layout.MANIFEST}" != key:
        raise CorruptedError(key, f"it is the manifest of {landing.folder}", "Its batch is polled again.")
    return landing


def all_landings(store: ObjectStore, collection: str, day: str) -> dict[str, list[Landing]]:
    """The landings of a cell by batch id, the newest first. One whose manifest is damaged is none."""
    keys = [i.key for i in store.walk(layout.results(collection, day)) if i.key.endswith(f"/{layout.MANIFEST}")]

    def load(key: str) -> Landing | None:
        try:
            return read_landing(store, key)
        except CorruptedError:
            return None

    found: dict[str, list[Landing]] = defaultdict(list)
    for landing in in_parallel(load, keys):
        if landing is not None:
            found[landing.batch_id].append(landing)
    for landings in found.values():
        landings.sort(key=lambda item: item.landing_id, reverse=True)
    return dict(found)


def newest_landings(store: ObjectStore, collection: str, day: str) -> list[Landing]:
    """The newest landing of every batch of a cell that has one, by (created_at, batch id).

    Those of failed and lost batches are among them, with no accepted records.
    """
    newest = [landings[0] for landings in all_landings(store, collection, day).values()]
    return sorted(newest, key=lambda item: (item.created_at, item.batch_id))


def fetch_landing(store: ObjectStore, landing: Landing, folder: Path) -> Path:
    """Download a landing's records into a folder, held against their SHA-256.

    Returns:
        A Parquet file with `records.record_schema(landing.dimensions)`; metadata without reserved keys.

    Raises:
        CorruptedError: they are gone or damaged; `poll(..., only={landing.batch_id})` heals it.
        StoreError: the store did not answer, or refuses.
    """
    return fetch_file(store, landing.folder, landing.records_file, folder / f"{landing.landing_id}.parquet")


def holds(store: ObjectStore, landing: Landing) -> bool:
    """Whether all files of a landing are what they must be; reads them back."""
    for file in landing.files:
        key = f"{landing.folder}/{file.name}"
        if not store.exists(key) or store.sha256(key) != (file.size, file.sha256):
            return False
    return True
