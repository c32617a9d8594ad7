"""Submits what is not asked yet, and asks again for what was not answered.

`plan_submission` looks and changes nothing; `execute_submission` does what the plan says. Nobody pays twice: the intent
is written first, under the next number of the cell's log and under the digest of what it asks, and the batch carries
that digest and its store's id in its metadata. Whoever finds the number taken reads what took it and plans again. After
a crash the API's own list tells whether the batch was created; of two batches for one intent the store keeps one
(`batch.json`, put-if-absent) and whoever finds the other cancels it. Batches of other stores are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.api_errors import LimitError, QuotaError
from embedding_assets.batches.asked_log import OvertakenError, Request, enter
from embedding_assets.batches.batch_file import write_batch_file
from embedding_assets.batches.client import ApiMissingError, EmbeddingApi
from embedding_assets.batches.documents import Refused
from embedding_assets.batches.held import note_held
from embedding_assets.batches.identity import STORE_KEY, creator_of, identity_of
from embedding_assets.batches.plan import Planned, SubmissionPlan, documents_for, plan_submission
from embedding_assets.batches.refusals import ACCOUNT_LIMIT_MET, ACCOUNT_LIMITS, QUOTA, TOKEN_LIMIT
from embedding_assets.batches.refused_documents import record_refused
from embedding_assets.batches.requests import (
    IDS_FILE,
    SentBatch,
    asked_documents,
    batch_for,
    commit_batch,
    commit_intent,
    keep_batch,
    write_files,
)
from embedding_assets.batches.restoring import enter_earlier, read_restored
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import ApiError, ApiUnavailableError, CorruptedError, DocumentError
from embedding_assets.scratch import ScratchFolder
from embedding_assets.settings import S3Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

# Keys of a batch's metadata. OpenAI takes 16 pairs of 64 and 512 characters (reference of POST /v1/batches).
COLLECTION_KEY = "collection"
DAY_KEY = "day"
REQUEST_KEY = "embedding_assets_request"
ATTEMPT_KEY = "attempt"

_CREATIONS = 3
_DAY_SECONDS = 86_400

Action = Literal["submitted", "adopted", "known", "deferred"]


@dataclass(frozen=True)
class SentRow:
    """What was done about one request.

    Attributes:
        action: `submitted`, `adopted` (the batch had been created before a crash, or by another run), `known` (another
            run has finished it), `deferred` (see reason; a later run does it).
        cancelled: duplicates of it that were cancelled.
    """

    request_id: str
    attempt: int
    count: int
    action: Action
    batch_id: str = ""
    reason: str = ""
    cancelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submission:
    """What a submission did.

    Attributes:
        asked_before: documents that needed no asking.
        refused: documents that cannot be asked, by name.
        note: why no documents were read, or why nothing more is submitted for now.
        passed_over: what lies beside the documents and was not read, each with the reason.
        overtaken: another run asked for some of the same meanwhile: what is not in `rows` is planned again.
    """

    collection: str
    day: str
    rows: tuple[SentRow, ...] = ()
    asked_before: int = 0
    refused: tuple[Refused, ...] = ()
    note: str = ""
    passed_over: tuple[str, ...] = ()
    overtaken: bool = False

    def count(self, *actions: Action) -> int:
        """How many records are in requests about which one of these was done."""
        return sum(row.count for row in self.rows if row.action in actions)


def submit(
    api: EmbeddingApi,
    store: ObjectStore,
    spec: CollectionSpec,
    day: str,
    *,
    today: str | None = None,
    s3: S3Settings | None = None,
    folder: Path | None = None,
) -> Submission:
    """Read a cell's documents, plan, and execute.

    Documents that cannot be read do not keep what was asked before from being finished; their error comes last.

    Args:
        today: the UTC day, YYYY-MM-DD; the clock's unless given.
        s3: how to reach S3 where the documents are there.
        folder: where files lie for a moment; the system's folder for temporary files unless given.

    Raises:
        DocumentError: the source of the documents is not there or cannot be read.
        Others as `plan_submission` and `execute_submission`.
    """
    problem: DocumentError | None = None
    try:
        documents, note = documents_for(spec, day, today or layout.now().strftime("%Y-%m-%d"), s3)
    except DocumentError as error:
        documents, note, problem = None, str(error), error
    rows: list[SentRow] = []
    while True:
        records = enter_earlier(store, read_restored(store, spec.name, day))
        plan = plan_submission(store, spec, day, documents, documents_note=note, folder=folder, records=records)
        done = execute_submission(api, store, spec, plan, folder)
        rows += done.rows
        if not done.overtaken:
            break
    if problem is not None:
        raise problem
    sent = {row.request_id: row for row in reversed(rows)}
    return replace(done, rows=tuple(sorted(sent.values(), key=lambda row: row.attempt, reverse=True)))


def execute_submission(
    api: EmbeddingApi, store: ObjectStore, spec: CollectionSpec, plan: SubmissionPlan, folder: Path | None = None
) -> Submission:
    """Do what a plan says; nothing is spent before store, key, model and dimension have proved to work.

    Raises:
        ApiError: the API refuses the key, the model, or gives another dimension.
        ApiUnavailableError: it did not answer; what is done is kept and the next run goes on.
        StoreError: the store cannot be written.
    """
    note = plan.documents_note
    if plan.refused or not plan.documents_note:
        record_refused(store, spec.name, plan.day, plan.refused)
    rows: list[SentRow] = []
    overtaken = False
    if plan.unfinished or plan.again or plan.new:
        store.check_writable(layout.requests(spec.name))
        met = _probe(api, spec)
        with ScratchFolder("submit", folder) as scratch:
            planned = [*plan.again, *plan.new]
            ids = frozenset(i for one in planned for i in one.documents.column("id").to_pylist())
            since = _since(plan.unfinished)
            sender = _Sender(api, store, spec, scratch, since, identity_of(store), plan.next, ids)
            if met is not None:
                sender.hold(met)
            if not met and plan.token_limited and (active := sender.active()):
                sender.held = f"the limit of enqueued tokens was met and {active} batches are unfinished"
            rows = [_contained(partial(sender.finish, request), request) for request in plan.unfinished]
            try:
                for one in planned:
                    rows.append(_contained(partial(sender.submit, one, plan.day), one))
            except OvertakenError:
                overtaken = True
            note = sender.held or note
        if not spec.probe:
            note = "; ".join(filter(None, [note, "the probe before submitting is skipped (`probe: false`)"]))
    return Submission(
        spec.name, plan.day, tuple(rows), plan.asked_before, plan.refused, note, plan.passed_over, overtaken
    )


def _contained(send: Callable[[], SentRow], asked: Request | Planned) -> SentRow:
    """One request whose record is damaged is not sent, and does not stop the others."""
    try:
        return send()
    except CorruptedError as error:
        return SentRow(asked.request_id, asked.attempt, asked.count, "deferred", reason=str(error))


def _probe(api: EmbeddingApi, spec: CollectionSpec) -> QuotaError | None:
    """Ask for one vector before anything is paid; returns the account's limit that is met, if one is.

    Raises:
        ApiError: model or dimension are not as declared, or the server has no such route.
        ApiUnavailableError: it did not answer.
    """
    if not spec.probe:
        return None
    text = "Does this model give the dimension that is declared?"
    try:
        api.embed([text], spec.model, spec.dimensions, spec.answers_as)
    except QuotaError as error:
        return error
    except ApiMissingError as error:
        if spec.model in error.reason:
            raise
        raise ApiError(
            f"POST {api.url.rstrip('/')}/embeddings",
            f"is asked for one text before batches are submitted, and is not there ({error.reason})",
            "Check OPENAI_BASE_URL; where the server embeds in batches only, declare `probe: false` in the collection.",
        ) from None
    return None


def _since(unfinished: Iterable[Request]) -> float:
    """Before any batch of these requests, and before any batch that may be under way; clocks may differ by a day."""
    made = [at.timestamp() for request in unfinished if (at := layout.time_of(request.made))]
    return min([*made, layout.now().timestamp() - 2 * _DAY_SECONDS]) - _DAY_SECONDS


@dataclass
class _Sender:
    api: EmbeddingApi
    store: ObjectStore
    spec: CollectionSpec
    folder: Path
    since: float  # no batch that matters was created before that
    store_id: str
    number: int  # that the next request takes in the log of the cell, if nobody takes it before
    planned: AbstractSet[str]  # the ids that this run asks for
    held: str = ""  # why nothing more is created in this run
    quota: str = ""  # the account's limit, where that is why: then all is written down that waits for it
    last: ApiBatch | None = None
    _listed: dict[str, list[ApiBatch]] | None = field(default=None, repr=False)

    def hold(self, error: LimitError) -> None:
        """Create nothing more in this run."""
        self.held = str(error)
        if isinstance(error, QuotaError):
            self.quota = error.reason

    def _deferred(self, request: Request) -> SentRow:
        if self.quota:
            note_held(self.store, request, self.quota, QUOTA)
        return SentRow(request.request_id, request.attempt, request.count, "deferred", reason=self.held)

    def listed(self, afresh: bool = False) -> dict[str, list[ApiBatch]]:
        """This collection's batches by request id, from the API's list, without those of other deployments."""
        if self._listed is None or afresh:
            self._listed = {}
            for batch in self.api.list_batches(self.since):
                if (
                    batch.metadata.get(COLLECTION_KEY) == self.spec.name
                    and REQUEST_KEY in batch.metadata
                    and creator_of(batch, self.store_id) != "other"
                ):
                    self._listed.setdefault(batch.metadata[REQUEST_KEY], []).append(batch)
        return self._listed

    def active(self) -> int:
        """How many of this collection's batches are under way."""
        return sum(not b.ended and self._ours(b) for batches in self.listed().values() for b in batches)

    def _ours(self, batch: ApiBatch) -> bool:
        """Whether a batch was created for this store: by what it says, or, of an earlier version's, by its request."""
        if creator_of(batch, self.store_id) == "own":
            return True
        folder = layout.requests(self.spec.name, batch.metadata.get(DAY_KEY, ""), batch.metadata[REQUEST_KEY])
        return self.store.exists(f"{folder}/{layout.REQUEST}")

    def submit(self, planned: Planned, day: str) -> SentRow:
        """Write the intent, then create the batch for it."""
        if self.held and not self.quota:
            return SentRow(planned.request_id, planned.attempt, planned.count, "deferred", reason=self.held)
        request_folder = layout.requests(self.spec.name, day, planned.request_id)
        documents, ids = write_files(self.store, request_folder, planned.documents, self.folder)
        ours = Request(
            request_id=planned.request_id,
            collection=self.spec.name,
            model=self.spec.model,
            dimensions=self.spec.dimensions,
            day=day,
            attempt=planned.attempt,
            count=planned.count,
            made=layout.new_id(),
            documents=documents,
            ids=ids,
            repeats=planned.repeats,
        )
        written = (self.folder / IDS_FILE).read_bytes()
        entered, is_ours = enter(self.store, ours, written, self.number, self.planned)
        self.number = entered.number + 1
        request = commit_intent(self.store, entered)
        if not is_ours or request != entered:
            return self.finish(request)
        # There is a batch already where somebody deleted the record of the request.
        return self._adopt(request) or self._create(request)

    def finish(self, request: Request) -> SentRow:
        """Find the batch of an intent that somebody else wrote, or create it."""
        row = SentRow(request.request_id, request.attempt, request.count, "known")
        known = batch_for(self.store, request)
        if known is not None:
            return replace(row, batch_id=known.batch_id)
        found = self._adopt(request)
        if found is not None:
            return found
        return self._create(request)

    def _adopt(self, request: Request, afresh: bool = False) -> SentRow | None:
        batches = self.listed(afresh).get(request.request_id, [])
        if not batches:
            return None
        # A batch that ended badly is adopted too: its turn is over, and what it left is asked for in the next.
        # One that does not say whose it is was created by an earlier version, here or elsewhere: for the same texts.
        kept = min(
            batches,
            key=lambda b: (b.status in ("failed", "cancelled"), not self._own(b), b.created_at, b.id),
        )
        return self._commit(request, kept, "adopted", [b for b in batches if b is not kept])

    def _create(self, request: Request) -> SentRow:
        row = SentRow(request.request_id, request.attempt, request.count, "known")
        if self._limit_met():
            return self._deferred(request)
        documents = asked_documents(self.store, request, self.folder)
        path = write_batch_file(self.spec, documents, self.folder / f"{request.request_id}.jsonl")
        try:
            file_id = self.api.upload(path)
        except LimitError as error:
            self.hold(error)
            return self._deferred(request)
        finally:
            path.unlink()
            documents.unlink()
        known = batch_for(self.store, request)
        if known is not None:
            return replace(row, batch_id=known.batch_id)
        metadata = {
            COLLECTION_KEY: request.collection,
            DAY_KEY: request.day,
            REQUEST_KEY: request.request_id,
            ATTEMPT_KEY: str(request.attempt),
            STORE_KEY: self.store_id,
        }
        for turn in range(_CREATIONS):
            try:
                self.last = self.api.create_batch(file_id, metadata)
            except LimitError as error:
                self.hold(error)
                return self._deferred(request)
            except ApiUnavailableError:
                # The answer may have been lost on the way back, and the batch be there.
                found = self._adopt(request, afresh=True)
                if found is not None:
                    return found
                if turn == _CREATIONS - 1:
                    raise
            else:
                return self._commit(request, self.last, "submitted", [])
        raise AssertionError("unreachable")

    def _own(self, batch: ApiBatch) -> bool:
        return creator_of(batch, self.store_id) == "own"

    def _limit_met(self) -> bool:
        """Whether the batch created before met a limit meanwhile; then no more are created."""
        if self.last is not None and not self.held and (limit := self.api.retrieve(self.last.id).limit):
            what = "the limit of enqueued tokens" if limit == TOKEN_LIMIT else f"a limit of the account ({limit})"
            self.held = f"batch {self.last.id} met {what}; it is asked again later"
            if limit in ACCOUNT_LIMITS:
                self.quota = f"{ACCOUNT_LIMIT_MET} (batch {self.last.id}: {limit})"
        return bool(self.held)

    def _commit(self, request: Request, batch: ApiBatch, action: Action, others: list[ApiBatch]) -> SentRow:
        ours = SentBatch(batch.id, batch.created_at, batch.input_file_id, expires_at=batch.expires_at)
        kept = commit_batch(self.store, request.folder, ours)
        keep_batch(self.store, request, kept)
        # Only what was certainly created for this store is cancelled.
        duplicates = [
            b
            for b in (batch, *others)
            if b.id != kept.batch_id and not b.ended and (self._own(b) or action == "submitted")
        ]
        for duplicate in duplicates:
            self.api.cancel(duplicate.id)
        return SentRow(
            request.request_id,
            request.attempt,
            request.count,
            action if kept.batch_id == batch.id else "known",
            kept.batch_id,
            cancelled=tuple(b.id for b in duplicates),
        )
