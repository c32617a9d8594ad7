"""Decides what a cell still has to ask for; changes nothing, except that a new store is given its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedding_assets.batches.asked_log import Request, days_of
from embedding_assets.batches.batch_file import cut, line_sizes
from embedding_assets.batches.documents import Documents, NoDocumentsError, Refused, per_day, read_documents
from embedding_assets.batches.identity import identity_of
from embedding_assets.batches.kinds import fits
from embedding_assets.batches.landing import newer_is_hidden
from embedding_assets.batches.latest import Latest, latest_content
from embedding_assets.batches.requests import CellRecords, asked_documents, read_records, request_id_of
from embedding_assets.batches.standing import CellStanding, read_standing
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError
from embedding_assets.scratch import ScratchFolder
from embedding_assets.settings import S3Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore


@dataclass(frozen=True)
class Planned:
    """A request to be made.

    Attributes:
        documents: with DOCUMENTS_SCHEMA.
        repeats: the request whose unanswered records these are.
    """

    request_id: str
    attempt: int
    documents: pa.Table
    repeats: str | None = None

    @property
    def count(self) -> int:
        """Its records."""
        return int(self.documents.num_rows)


@dataclass(frozen=True)
class SubmissionPlan:
    """What a submission would do.

    Attributes:
        unfinished: intents without a batch: it is looked for, and created if it is not there. Those of another model
            or dimension than the collection's are not among them: their records are asked again instead.
        again: what is asked again, a request for each one that left something over.
        new: what is asked for the first time.
        asked_before: documents that need no asking.
        refused: documents that cannot be asked.
        token_limited: the last turn met the limit of enqueued tokens; nothing is created while batches are under way.
        documents_note: why no documents were read; empty where they were.
        passed_over: what lies beside the documents and was not read, each with the reason.
        next: the number that the next request takes in the log of the cell.
    """

    collection: str
    day: str
    unfinished: tuple[Request, ...] = ()
    again: tuple[Planned, ...] = ()
    new: tuple[Planned, ...] = ()
    asked_before: int = 0
    refused: tuple[Refused, ...] = ()
    token_limited: bool = False
    documents_note: str = ""
    passed_over: tuple[str, ...] = ()
    next: int = 1


def documents_for(
    spec: CollectionSpec, day: str, today: str, s3: S3Settings | None = None
) -> tuple[Documents | None, str]:
    """The documents that a cell is made of, or None and why it has none.

    A source with `{day}` belongs to its day, and one without to today: what it holds now was not there on a past day.

    Raises:
        DocumentError: the source cannot be read, or a source without `{day}` is not there.
        StoreError: the store it is in cannot be reached, or refuses.
    """
    if spec.documents is None:
        return None, "other programs submit the batches of this collection"
    if per_day(spec.documents):
        try:
            return read_documents(spec.documents, day, s3), ""
        except NoDocumentsError as error:
            return None, str(error)
    if day != today:
        return None, f"documents without a day of their own are asked for today, {today}"
    return read_documents(spec.documents, day, s3), ""


def plan_submission(
    store: ObjectStore,
    spec: CollectionSpec,
    day: str,
    documents: Documents | None,
    *,
    documents_note: str = "",
    folder: Path | None = None,
    records: CellRecords | None = None,
) -> SubmissionPlan:
    """What a cell still has to ask for.

    Args:
        documents: what it should have asked for; None where only unfinished and unanswered requests matter.
        folder: where files lie for a moment; the system's folder for temporary files unless given.
        records: what `read_records` gives, where the caller has read it.

    Raises:
        CorruptedError: a record of what was asked is damaged.
        StoreError: the store did not answer, or refuses.
    """
    store_id = identity_of(store)
    records = records or read_records(store, spec.name, day)
    history = _History(store, spec.name, day, whole=documents is not None)
    new: tuple[Planned, ...] = ()
    asked_before = 0
    refused: tuple[Refused, ...] = ()
    if documents is not None:
        new, asked_before, too_large = _new(spec, store_id, day, documents, history.latest())
        refused = (*documents.refused, *too_large)

    def latest() -> Mapping[str, bytes]:
        # What is about to be asked counts too, or an older text would be repeated beside the newer.
        found = dict(history.latest().digests)
        for planned in new:
            columns = (planned.documents.column(name).to_pylist() for name in ("id", "digest"))
            found.update(zip(*columns, strict=True))
        return found

    standing = read_standing(store, spec, day, latest, (records.asked, records.damaged))
    # A batch of another program is never created by us, whatever became of its record.
    asked = [one.asked for one in standing.requests if not (one.asked.damage or one.asked.request.foreign)]
    with ScratchFolder("plan", folder) as scratch:
        again = tuple(p for part in _again(store, spec, store_id, standing, scratch) for p in part)
    waiting = {place.request_id for place in standing.places.values() if place.kind == "again"}
    return SubmissionPlan(
        spec.name,
        day,
        tuple(a.request for a in asked if a.batch is None and fits(a.request, spec)),
        again,
        new,
        asked_before,
        refused,
        any(r.token_limited and r.asked.request.request_id in waiting for r in standing.requests),
        documents_note,
        documents.passed_over if documents else (),
        records.next,
    )


@dataclass
class _History:
    """What was last asked for, read when it is needed and once.

    Only new documents need the whole of it: nothing that was asked for before a cell is newer than what is in it.
    """

    store: ObjectStore
    collection: str
    day: str
    whole: bool
    _latest: Latest | None = None

    def latest(self) -> Latest:
        if self._latest is None:
            since, days = ("", days_of(self.store, self.collection)) if self.whole else (self.day, [])
            # What was asked just now for another day may not be listed yet.
            now = layout.now().timestamp()
            recent = {layout.day_of(now), layout.day_of(now - 86_400)} if self.whole else set()
            self._latest = latest_content(self.store, self.collection, since, {self.day, *recent, *days})
        return self._latest


def _new(
    spec: CollectionSpec, store_id: str, day: str, documents: Documents, latest: Latest
) -> tuple[tuple[Planned, ...], int, tuple[Refused, ...]]:
    """The documents whose content is not the one last asked for, cut into requests."""
    table = documents.table
    digests = table.column("digest").to_pylist()
    # A digest is that of its id, too: where a list was edited so that it stands beside another id, it counts as asked.
    asked = latest.uncertain.union(latest.digests.values())
    wanted = [digest not in asked for digest in digests]
    before = len(wanted) - sum(wanted)
    table = table.filter(pa.array(wanted, pa.bool_()))
    sizes = line_sizes(spec, table)
    fits = [size <= spec.batch_bytes for size in sizes]
    too_large = tuple(
        Refused(spec.documents or "", 0, i, f"its request has {size} bytes, a batch at most {spec.batch_bytes}")
        for i, size, fit in zip(table.column("id").to_pylist(), sizes, fits, strict=True)
        if not fit
    )
    table = table.filter(pa.array(fits, pa.bool_()))
    sizes = [size for size, fit in zip(sizes, fits, strict=True) if fit]
    return tuple(_cut(spec, _Turn(store_id, day, 1, replaces=latest.requests), table, sizes)), before, too_large


def _again(
    store: ObjectStore, spec: CollectionSpec, store_id: str, standing: CellStanding, folder: Path
) -> list[list[Planned]]:
    """What each request left over. One request each: two runs that see different landings then never ask for one
    record in two different company."""
    requests = {r.asked.request.request_id: r for r in standing.requests}
    planned = []
    for request_id, places in sorted(standing.again().items()):
        request, landing = requests[request_id].asked.request, requests[request_id].landing
        if landing is not None and newer_is_hidden(store, landing):
            continue  # what that one leaves over is asked once a listing shows it
        try:
            table = pq.read_table(asked_documents(store, request, folder))
        except CorruptedError:
            continue  # the cell's books name it
        left = table.filter(pc.is_in(table.column("id"), pa.array([p.id for p in places], pa.string())))
        sizes = line_sizes(spec, left)
        planned.append(_cut(spec, _Turn(store_id, request.day, request.attempt + 1, request_id), left, sizes))
    return planned


@dataclass(frozen=True)
class _Turn:
    store_id: str
    day: str
    attempt: int
    repeats: str | None = None
    replaces: Mapping[str, str] = field(default_factory=dict)  # the request that asked before, by id


def _cut(spec: CollectionSpec, turn: _Turn, table: pa.Table, sizes: list[int]) -> list[Planned]:
    planned = []
    for part in cut(sizes, spec.batch_requests, spec.batch_bytes):
        some = table.slice(part.start, part.stop - part.start)
        ids, digests = some.column("id").to_pylist(), some.column("digest").to_pylist()
        replaced = [turn.replaces[i] for i in ids if i in turn.replaces]
        request_id = request_id_of(turn.store_id, spec, turn.day, turn.attempt, digests, replaced)
        planned.append(Planned(request_id, turn.attempt, some, turn.repeats))
    return planned
