"""What came back for one batch, as the store keeps it: a landing, immutable, its manifest written last.

{collection}/results/{day}/{batch}/{landing_id}/records.parquet    the accepted records (records.record_schema)
{collection}/results/{day}/{batch}/{landing_id}/accepted.parquet   their ids alone: enough to prove the balance
{collection}/results/{day}/{batch}/{landing_id}/rejected.parquet   id, reason, code, retryable
{collection}/results/{day}/{batch}/{landing_id}/again              only there when records are to be asked again
{collection}/results/{day}/{batch}/{landing_id}/other-models     only there when records are of a model of another name
{collection}/results/{day}/{batch}/{landing_id}/manifest.json      last, put-if-absent: without it there is no landing
{collection}/results/{day}/{batch}/newer-{number}.json             names a landing that has others before it

Of several landings of a batch, the one with the most accepted records counts; of those, the newest. So no landing that
is written later takes accepted records away. What does not prove itself is moved to the quarantine.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.files import (
    StoredFile,
    fetch_file,
    find,
    in_parallel,
    read,
    read_parquet,
    store_file,
)
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.records import ContentDigest, RecordBatch, digest_of, record_schema
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import FORMAT, encode

AGAIN = "again"
OTHER_MODELS = "other-models"
LOST = "lost"  # status of a landing whose results neither the API nor the store holds any more
LOST_CODE = "result_lost"
_DEPTH = 3  # batch, landing, file
_HASHED_AT_ONCE = 1_000  # records; many landings are read side by side

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

    def __post_init__(self) -> None:
        layout.require_names(self.collection, self.day, self.landing_id)

    @property
    def folder(self) -> str:
        """Its folder in the store."""
        return layout.results(self.collection, self.day, self.batch_id, self.landing_id)

    @property
    def files(self) -> tuple[StoredFile, StoredFile, StoredFile]:
        """Its files, with size and SHA-256."""
        return self.records_file, self.accepted_file, self.rejected_file

    @property
    def rank(self) -> tuple[int, str]:
        """Of the landings of one batch, the one with the greatest counts."""
        return self.accepted, self.landing_id


def outcome_of(
    status: str,
    digest: str,
    accepted: int,
    rejected: Iterable[tuple[str, str, str, bool]],
    missing: int,
    repeated: int,
    stray: int,
) -> str:
    """A digest of all that was learnt of a batch; equal for equal files in whatever order their lines are.

    Args:
        rejected: id, code, reason, and whether it may be asked again.
    """
    said = [status, digest, accepted, sorted(rejected), missing, repeated, stray]
    return hashlib.blake2b(orjson.dumps(said), digest_size=16).hexdigest()


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


@dataclass(frozen=True)
class NewerLanding:
    """That a batch is landed once more; numbered from 1, so that it is found by its key before any listing shows it."""

    batch_id: str
    landing_id: str


def commit(store: ObjectStore, landing: Landing, again: bool, *, newer: bool = False) -> Landing:
    """Write the manifest, last; before it the mark that some records are to be asked again.

    Args:
        newer: whether its batch has a landing already.
    """
    if newer:
        _note_newer(store, landing)
    if again:
        store.put_new(f"{landing.folder}/{AGAIN}", b"")
    if landing.other_models:
        store.put_new(f"{landing.folder}/{OTHER_MODELS}", b"")
    key = f"{landing.folder}/{layout.MANIFEST}"
    store.put_new(key, encode(landing, key))
    return landing


def _note_newer(store: ObjectStore, landing: Landing) -> None:
    for key in _newer_keys(landing):
        with suppress(ObjectExistsError):
            store.put_new(key, encode(NewerLanding(landing.batch_id, landing.landing_id), key))
            return


def newer_is_hidden(store: ObjectStore, landing: Landing) -> bool:
    """Whether the batch has a landing that counts before the one that a listing shows: listings may lag."""
    for key in _newer_keys(landing):
        with suppress(CorruptedError, ObjectMissingError):  # one that was not finished, or is no landing any more
            note = find(store, NewerLanding, key)
            if note is None:
                return False
            folder = layout.results(landing.collection, landing.day, landing.batch_id, note.landing_id)
            newer = read_landing(store, f"{folder}/{layout.MANIFEST}")
            if newer.rank > landing.rank:
                return True
    return False


def _newer_keys(landing: Landing) -> Iterator[str]:
    folder = layout.results(landing.collection, landing.day, landing.batch_id)
    return (f"{folder}/newer-{number:04d}.json" for number in range(1, 10_000))


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


@dataclass(frozen=True)
class DamagedLanding:
    """A landing that does not prove itself: its folder, and why."""

    folder: str
    reason: str


def all_landings(store: ObjectStore, collection: str, day: str) -> dict[str, list[Landing]]:
    """The landings of a cell by batch id, the one that counts first. One whose manifest is damaged is none."""
    return read_landings(store, collection, day)[0]


def read_landings(
    store: ObjectStore, collection: str, day: str
) -> tuple[dict[str, list[Landing]], list[DamagedLanding]]:
    """The landings of a cell as `all_landings`, and those whose manifests are damaged."""
    folder = layout.results(collection, day)
    parts = [item.key.removeprefix(f"{folder}/").split("/") for item in store.walk(folder)]
    keys = ["/".join([folder, *some]) for some in parts if len(some) == _DEPTH and some[-1] == layout.MANIFEST]

    def load(key: str) -> Landing | DamagedLanding | None:
        try:
            return read_landing(store, key)
        except CorruptedError as error:
            return DamagedLanding(key.rpartition("/")[0], error.reason)
        except ObjectMissingError:  # moved aside since it was listed
            return None

    found: dict[str, list[Landing]] = defaultdict(list)
    damaged: list[DamagedLanding] = []
    for one in in_parallel(load, keys):
        if isinstance(one, Landing):
            found[one.batch_id].append(one)
        elif one is not None:
            damaged.append(one)
    for landings in found.values():
        landings.sort(key=lambda item: item.rank, reverse=True)
    return dict(found), damaged


def counting_landings(store: ObjectStore, collection: str, day: str) -> list[Landing]:
    """The landing that counts of every batch of a cell that has one, by (created_at, batch id).

    Those of failed and lost batches are among them, with no accepted records.
    """
    counting = [landings[0] for landings in all_landings(store, collection, day).values()]
    return sorted(counting, key=lambda item: (item.created_at, item.batch_id))


def fetch_landing(store: ObjectStore, landing: Landing, folder: Path) -> Path:
    """Download a landing's records into a folder, held against their SHA-256 and against the landing's digest.

    Returns:
        A Parquet file with `records.record_schema(landing.dimensions)`; metadata without reserved keys.

    Raises:
        CorruptedError: they are gone or damaged; `poll(..., only={landing.batch_id})` heals it.
        StoreError: the store did not answer, or refuses.
    """
    path = fetch_file(store, landing.folder, landing.records_file, folder / f"{landing.landing_id}.parquet")
    digest = ContentDigest()
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            if file.schema_arrow == record_schema(landing.dimensions):
                digest = digest_of(RecordBatch.from_arrow(part) for part in file.iter_batches(_HASHED_AT_ONCE))
    except (pa.ArrowException, ValueError, OSError):
        pass  # then it holds nothing that was landed
    if (digest.count, digest.hex()) != (landing.accepted, landing.digest):
        path.unlink()
        reason = "does not hold the records that were landed"
        raise CorruptedError(f"{landing.folder}/{landing.records_file.name}", reason, "Its batch is polled again.")
    return path


def flaw_of(store: ObjectStore, landing: Landing, folder: Path) -> str:
    """Why a landing does not prove itself; empty where it does. Reads all of it.

    Args:
        folder: where its records lie for a moment.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    try:
        path = fetch_landing(store, landing, folder)
        ids = pq.read_table(path, columns=["id"]).column("id").to_pylist()
        path.unlink()
        accepted = read_parquet(store, landing.folder, landing.accepted_file).column("id").to_pylist()
        table = read_parquet(store, landing.folder, landing.rejected_file)
        columns = [table.column(name).to_pylist() for name in ("id", "code", "reason", "retryable")]
    except CorruptedError as error:
        return f"{error.subject} {error.reason}"
    except (pa.ArrowException, KeyError) as error:
        return f"a list of it cannot be read ({type(error).__name__})"
    if len(set(ids)) != len(ids) or sorted(ids) != sorted(accepted):
        return "its list of accepted ids is not that of its records"
    rejected = list(zip(*columns, strict=True))
    counts = landing.missing, landing.repeated, landing.stray
    if landing.outcome != outcome_of(landing.status, landing.digest, len(ids), rejected, *counts):
        return "its rejected records or its counts are not those that were landed"
    if (landing.rejected, landing.requested) != (len(rejected), len(ids) + len(rejected) + landing.missing):
        return "its counts are not those of its lists"
    return ""
