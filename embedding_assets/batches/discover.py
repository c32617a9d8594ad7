"""Finds the batches that other programs submitted, and gives each a request record, so that its results are landed.

A batch belongs to the collection that its metadata name (`collection`); else each of its requests belongs to the one
whose `custom_id` pattern fits it. What no collection can take is rejected by name in the books of the one that takes
most; a batch of which none can take anything is reported and left alone. Texts come from its input file. A batch that
was looked at is not fetched again: a claimed one has its record, an unclaimed one a mark beside the collections.

_unclaimed/{digest of the declared patterns}/{batch}.json   why nobody claims it; looked at again when those change
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

import orjson
import pyarrow as pa

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.client import ApiMissingError, EmbeddingApi
from embedding_assets.batches.documents import documents_table
from embedding_assets.batches.files import in_parallel, read
from embedding_assets.batches.foreign_input import Share, UnclaimedError, read_shares
from embedding_assets.batches.identity import STORE_KEY, creator_of, known_identity
from embedding_assets.batches.input_notes import write_input_notes
from embedding_assets.batches.patterns import compile_pattern
from embedding_assets.batches.requests import (
    SentBatch,
    commit_batch,
    commit_intent,
    foreign_request_id,
    write_files,
)
from embedding_assets.batches.submit import COLLECTION_KEY, DAY_KEY, REQUEST_KEY
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import ApiUnavailableError, CorruptedError, ObjectMissingError
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.store.sealed import decode, encode

UNCLAIMED = "_unclaimed"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_AT_ONCE = 4  # input files of up to 200 MB


@dataclass(frozen=True)
class Found:
    """A batch of another program; `collection` is None where nobody claims it, and `reason` says why.

    Attributes:
        count: records that are taken over.
        rejected: its requests that are rejected by name in the collection's books.
    """

    batch_id: str
    day: str
    collection: str | None
    count: int = 0
    rejected: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Discovery:
    """What looking through the API's batches gave.

    Attributes:
        claimed: batches that were given a record just now.
        unclaimed: batches that belong to no collection, or whose own request is gone from the store.
        trouble: batches that could not be looked at; they are looked at again.
        duplicates: unfinished second batches of our own requests, which were cancelled.
        known: how many batches have a record already.
        unclaimed_before: how many batches were found to belong to no collection before; the store says why.
        elsewhere: how many batches are of other deployments; they are left alone.
    """

    claimed: tuple[Found, ...] = ()
    unclaimed: tuple[Found, ...] = ()
    trouble: tuple[Found, ...] = ()
    duplicates: tuple[str, ...] = ()
    known: int = 0
    unclaimed_before: int = 0
    elsewhere: int = 0


def discover(
    api: EmbeddingApi,
    store: ObjectStore,
    catalog: Catalog,
    *,
    listed: Iterable[ApiBatch] | None = None,
    folder: Path | None = None,
) -> Discovery:
    """Give the batches that other programs submitted their records.

    Args:
        listed: the API's batches, where the caller has listed them.
        folder: where input files lie for a moment; the system's folder for temporary files unless given.

    Raises:
        ApiError, ApiUnavailableError: the API's list cannot be had.
        ConfigurationError: a pattern of the catalog is wrong.
        StoreError: the store did not answer, or refuses.
    """
    finder = _Finder(api, store, catalog)
    since = layout.now().timestamp() - catalog.foreign_days * 86_400
    start = str(catalog.start)
    batches = [
        b
        for b in (api.list_batches(since) if listed is None else listed)
        if b.created_at >= since and layout.day_of(b.created_at) >= start
    ]
    store_id = known_identity(store)
    ours = [b for b in batches if REQUEST_KEY in b.metadata and creator_of(b, store_id) != "other"]
    # A batch that failed or has no input file any more brings nothing.
    others = [b for b in batches if _worth_a_look(b)]
    # A request may be repeated in an older cell than the day that its batch is of.
    days = [layout.day_of(b.created_at) for b in batches]
    days += [day for b in ours if _DAY.fullmatch(day := b.metadata.get(DAY_KEY, ""))]
    known, marks = finder.known(min(days, default=None)), _marks(store, catalog)
    fresh = [b for b in others if foreign_request_id(b.id) not in known and layout.part(b.id) not in marks]
    with ScratchFolder("discover", folder) as scratch:
        found = in_parallel(lambda batch: finder.look(batch, scratch), fresh, _AT_ONCE)
    # What no listing shows is asked for by its key: listings of some stores lag.
    hidden = [b for b in ours if b.metadata[REQUEST_KEY] not in known]
    known |= {
        b.metadata[REQUEST_KEY] for b, there in zip(hidden, in_parallel(finder.has, hidden), strict=True) if there
    }
    unknown = [b for b in ours if b.metadata[REQUEST_KEY] not in known]
    strangers = tuple(
        Found(b.id, layout.day_of(b.created_at), None, reason="its request is gone from this store")
        for b in unknown
        if creator_of(b, store_id) == "own"
    )
    return Discovery(
        tuple(f for some, kind in found if kind == "claimed" for f in some),
        (*(f for some, kind in found if kind == "unclaimed" for f in some), *strangers),
        tuple(f for some, kind in found if kind == "trouble" for f in some),
        # What does not say that it was created for this store may be another's: it is never cancelled.
        finder.cancel_duplicates(
            [b for b in ours if b.metadata[REQUEST_KEY] in known and not b.ended and creator_of(b, store_id) == "own"]
        ),
        len(others) - len(fresh) + len(ours) - len(unknown),
        sum(layout.part(b.id) in marks for b in others),
        sum(creator_of(b, store_id) == "other" for b in batches) + len(unknown) - len(strangers),
    )


def read_unclaimed(store: ObjectStore, catalog: Catalog) -> list[Found]:
    """The batches of other programs that no collection of the catalog can take anything of, with the reasons.

    Those that are older than `foreign_days` are not among them.

    Raises:
        CorruptedError: what was written down of one is damaged.
        StoreError: the store did not answer, or refuses.
    """
    since = layout.day_of(layout.now().timestamp() - catalog.foreign_days * 86_400)
    keys = [item.key for item in store.walk(mark_folder(catalog))]
    found = in_parallel(lambda key: decode(Found, key, store.get(key)), keys)
    return sorted((one for one in found if one.day >= since), key=lambda one: (one.day, one.batch_id))


def undiscovered(
    store: ObjectStore, catalog: Catalog, listed: Iterable[ApiBatch], recorded: AbstractSet[str]
) -> list[ApiBatch]:
    """The batches that `discover` would fetch now, told by a listing of the marks alone, where any is new.

    Args:
        recorded: ids of the requests that have a record.
    """
    since = max(layout.day_of(layout.now().timestamp() - catalog.foreign_days * 86_400), str(catalog.start))
    new = {
        layout.part(b.id): b
        for b in listed
        if _worth_a_look(b) and layout.day_of(b.created_at) > since and foreign_request_id(b.id) not in recorded
    }
    marked = _known_marks(store, mark_folder(catalog))
    if not new.keys() <= marked:
        marked |= _marks(store, catalog)
    return sorted((b for part, b in new.items() if part not in marked), key=lambda b: b.id)


@lru_cache(maxsize=8)
def _known_marks(store: ObjectStore, folder: str) -> set[str]:
    """The marks that this process has seen; a mark never goes away."""
    return set()


def requests_of(batch: ApiBatch, collection: str) -> frozenset[str]:
    """The ids of the requests of a collection that a batch may answer; another program's may be several's."""
    if REQUEST_KEY in batch.metadata:
        return frozenset({batch.metadata[REQUEST_KEY]})
    return frozenset({foreign_request_id(batch.id), foreign_request_id(batch.id, collection)})


def _worth_a_look(batch: ApiBatch) -> bool:
    return not {REQUEST_KEY, STORE_KEY} & batch.metadata.keys() and batch.status != "failed"


class _Finder:
    def __init__(self, api: EmbeddingApi, store: ObjectStore, catalog: Catalog) -> None:
        self._api, self._store, self._catalog = api, store, catalog
        self._patterns = {s.name: compile_pattern(s.custom_id) for s in catalog if s.custom_id is not None}
        self._mark_folder = mark_folder(catalog)

    def known(self, first_day: str | None) -> set[str]:
        """Ids of the requests that have a record, from this day on; by listing alone."""
        if first_day is None:
            return set()
        keys = (
            item.key
            for spec in self._catalog
            for item in self._store.walk(
                layout.requests(spec.name), after=f"{layout.requests(spec.name)}/{_day_before(first_day)}"
            )
        )
        return {key.split("/")[-2] for key in keys if key.endswith(f"/{layout.REQUEST}")}

    def has(self, batch: ApiBatch) -> bool:
        """Whether the request that a batch names has a record."""
        collection, day = batch.metadata.get(COLLECTION_KEY, ""), batch.metadata.get(DAY_KEY, "")
        if collection not in self._catalog.collections or not _DAY.fullmatch(day):
            return False
        return self._store.exists(f"{layout.requests(collection, day, batch.metadata[REQUEST_KEY])}/{layout.REQUEST}")

    def cancel_duplicates(self, unfinished: list[ApiBatch]) -> tuple[str, ...]:
        """Cancel the second batches of requests that have one: their run ended before it could do so itself."""
        cancelled = []
        for batch in unfinished:
            collection, day = batch.metadata.get(COLLECTION_KEY, ""), batch.metadata.get(DAY_KEY, "")
            key = f"{layout.requests(collection, day, batch.metadata[REQUEST_KEY])}/{layout.BATCH}"
            with suppress(CorruptedError, ObjectMissingError):  # as long as nobody knows which one counts, none goes
                if collection not in self._catalog.collections:
                    continue
                kept = read(self._store, SentBatch, key).batch_id
                if kept != batch.id and batch.status != "cancelling":
                    self._api.cancel(batch.id)
                    cancelled.append(batch.id)
        return tuple(cancelled)

    def look(self, batch: ApiBatch, folder: Path) -> tuple[list[Found], str]:
        """Give one batch its records, or the mark that nobody claims it."""
        day = layout.day_of(batch.created_at)
        path = folder / f"{layout.part(batch.id)}.jsonl"
        try:
            try:
                self._named(batch)  # before anything is fetched
                self._api.download(batch.input_file_id, path)
            except ApiMissingError:
                raise UnclaimedError("its input file is gone, so that its texts are unknown") from None
            return self._claim(batch, day, path, folder / layout.part(batch.id)), "claimed"
        except UnclaimedError as error:
            found = Found(batch.id, day, None, reason=str(error))
            key = f"{self._mark_folder}/{layout.part(batch.id)}.json"
            with suppress(ObjectExistsError):
                self._store.put_new(key, encode(found, key))
            return [found], "unclaimed"
        except ApiUnavailableError as error:
            return [Found(batch.id, day, None, reason=str(error))], "trouble"
        finally:
            path.unlink(missing_ok=True)

    def _named(self, batch: ApiBatch) -> CollectionSpec | None:
        name = batch.metadata.get(COLLECTION_KEY)
        if name is None:
            if not self._patterns:
                raise UnclaimedError("its metadata name no collection")
            return None
        if name not in self._catalog.collections:
            raise UnclaimedError(f"its metadata name the collection {name!r}, which is not declared")
        return self._catalog.get(name)

    def _claim(self, batch: ApiBatch, day: str, path: Path, folder: Path) -> list[Found]:
        named = self._named(batch)
        shares = read_shares(path, batch.id, self._catalog, self._patterns, named.name if named else None)
        main = next(iter(shares))
        # The collection that takes most comes last: its request says that all of them are written.
        return [
            self._record(batch, day, name, share, foreign_request_id(batch.id, None if name == main else name), folder)
            for name, share in reversed(shares.items())
        ]

    def _record(self, batch: ApiBatch, day: str, collection: str, share: Share, request_id: str, folder: Path) -> Found:
        spec = self._catalog.get(collection)
        documents: pa.Table = documents_table(share.rows.values())
        key = layout.requests(collection, day, request_id)
        folder.mkdir(parents=True, exist_ok=True)
        stored, ids = write_files(self._store, key, documents, folder)
        notes = write_input_notes(self._store, collection, day, request_id, share.notes)
        # Before the intent, for once: an intent without a batch would be submitted.
        commit_batch(
            self._store, key, SentBatch(batch.id, batch.created_at, batch.input_file_id, True, batch.expires_at)
        )
        commit_intent(
            self._store,
            Request(
                request_id=request_id,
                collection=collection,
                model=spec.model,
                dimensions=spec.dimensions,
                day=day,
                attempt=1,
                count=documents.num_rows,
                made=layout.new_id(datetime.fromtimestamp(batch.created_at, timezone.utc)),
                documents=stored,
                ids=ids,
                foreign=True,
                input_notes=notes,
            ),
        )
        return Found(batch.id, day, collection, documents.num_rows, len(share.refused))


def mark_folder(catalog: Catalog) -> str:
    """Folder of the marks of batches that nobody claims, under the collections as declared now."""
    declared = [[s.name, s.model, s.dimensions, s.custom_id] for s in catalog]
    return f"{UNCLAIMED}/{hashlib.blake2b(orjson.dumps(declared), digest_size=8).hexdigest()}"


def _marks(store: ObjectStore, catalog: Catalog) -> set[str]:
    """Names of the batches that nobody claims, under the collections as declared now."""
    return {i.key.rsplit("/", 1)[-1].removesuffix(".json") for i in store.walk(mark_folder(catalog))}


def _day_before(day: str) -> str:
    """A key that sorts before everything of this day, since `after` leaves out what it names."""
    return layout.day_of(datetime.fromisoformat(day).replace(tzinfo=timezone.utc).timestamp() - 1) + "~"
