"""Polls the batches of a cell and lands what came back.

The API is asked afresh each time. Where it no longer has a batch's files, the best landing that proves itself takes
their place; where there is none either, the databases that hold its records do. What nobody has is asked again.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.awaited import (
    PATIENCE_SECONDS,
    Awaited,
    is_late,
    not_come,
    note,
    note_late,
    patient,
    tells_all,
)
from embedding_assets.batches.by_id import listed
from embedding_assets.batches.client import ApiMissingError, EmbeddingApi
from embedding_assets.batches.files import WORKERS, in_parallel
from embedding_assets.batches.input_notes import read_input_notes
from embedding_assets.batches.kinds import as_asked
from embedding_assets.batches.landing import (
    LOST,
    LOST_CODE,
    DamagedLanding,
    Landing,
    commit,
    declared_since,
    flaw_of,
    read_landings,
    write_files,
)
from embedding_assets.batches.landing_files import Landed, land_lines, requested_documents
from embedding_assets.batches.lines import pieces_of
from embedding_assets.batches.parse import Answer
from embedding_assets.batches.relanding import RECOVERED, FindHeld, land_held
from embedding_assets.batches.requests import (
    Asked,
    SentBatch,
    asked_documents,
    read_requests,
)
from embedding_assets.batches.standing import with_landing
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import ApiUnavailableError, CorruptedError
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

# A landing of 50,000 x 1,536 takes 0.3 GB of disk and half as much memory; few of those at once.
_LARGE = 5_000
_LARGE_AT_ONCE = 2

State = Literal["landed", "unchanged", "kept", "lost", "pending", "unsent", "skipped", "trouble"]


@dataclass(frozen=True)
class BatchRow:
    """One batch of a cell, as it was found.

    Attributes:
        state: `landed` (newly written), `unchanged` (as landed before), `kept` (the API gives less than was landed;
            the landing holds), `lost` (neither has it: its records are asked again), `pending` (not finished, or
            not all of its answers came yet; see reason),
            `unsent` (asked, no batch yet), `skipped` (as the caller wished), `trouble` (see reason; tried again).
        status: the batch's status, in the API's words; empty where it was not asked.
        reason: what there is to say: an unknown status, why the batch failed, what the trouble is.
        landing: the one that counts now, if there is one.
        age: seconds since the batch was created.
        aside: why it is set aside: it is of another kind than the collection's; empty where it counts.
    """

    batch_id: str
    request_id: str
    attempt: int
    foreign: bool
    requested: int
    state: State
    status: str = ""
    reason: str = ""
    landing: Landing | None = None
    age: int = 0
    aside: str = ""


@dataclass(frozen=True)
class CellResults:
    """What polling a cell gave, one row for every request.

    Attributes:
        damaged: landings that do not prove themselves; until they are moved aside, they may count.
    """

    collection: str
    day: str
    batches: tuple[BatchRow, ...]
    damaged: tuple[DamagedLanding, ...] = ()

    def count(self, *states: State) -> int:
        """How many batches are in one of these states."""
        return sum(row.state in states for row in self.batches)

    @property
    def landings(self) -> list[Landing]:
        """The landings that count, of the batches that have one."""
        return [row.landing for row in self.batches if row.landing is not None and not row.aside]

    @property
    def tokens(self) -> int:
        """Tokens charged for what is landed."""
        return sum(row.landing.tokens for row in self.batches if row.landing is not None)


def poll(
    api: EmbeddingApi,
    store: ObjectStore,
    spec: CollectionSpec,
    day: str,
    *,
    skip: AbstractSet[str] = frozenset(),
    only: AbstractSet[str] = frozenset(),
    find_held: FindHeld = lambda batch_id: None,
    folder: Path | None = None,
) -> CellResults:
    """Poll the batches of a cell and land the finished ones.

    Args:
        day: the cell's, YYYY-MM-DD.
        skip: batch ids that need no polling, such as those with a valid delta. Those of which records were rejected
            for a model's name that is declared by now are polled all the same, and so are those without a landing.
        only: batch ids that are polled whatever `skip` says; if there are any, no others are.
        find_held: gives what the databases hold of a batch; asked where neither the API nor a landing has its records.
        folder: where downloads lie for a moment; the system's folder for temporary files unless given.

    Raises:
        ApiError: the API refuses the key, or a request as such. One batch's trouble is in its row instead.
        StoreError: the store did not answer, or refuses.
    """
    landings, damaged = read_landings(store, spec.name, day)
    afresh = {batch_id for batch_id, some in landings.items() if declared_since(some[0], spec)}
    asked = [with_landing(item, landings) for item in read_requests(store, spec.name, day)]
    done = skip & {batch_id for batch_id, some in landings.items() if any(one.status != LOST for one in some)} - afresh
    wanted = [
        item.batch
        for item in asked
        if item.batch and (item.batch.batch_id in only if only else item.batch.batch_id not in done)
    ]
    with ScratchFolder("results", folder) as scratch:
        poller = _Poller(api, store, spec, landings, afresh.union(only), scratch, listed(api, wanted), skip, find_held)

        ids = {batch.batch_id for batch in wanted}

        def row(item: Asked) -> BatchRow:
            if item.batch is None and item.damage is not None:
                return _row(item, "trouble", reason=str(item.damage))
            if item.batch is None:
                return _row(item, "unsent")
            if item.batch.batch_id not in ids:
                return _row(item, "skipped", landing=next(iter(landings.get(item.batch.batch_id, [])), None))
            return poller.poll(item, item.batch)

        rows = tuple(in_parallel(row, asked, WORKERS))
        flaws = [DamagedLanding(folder, flaw) for folder, flaw in sorted(poller.flaws.items()) if flaw]
        return CellResults(spec.name, day, rows, (*damaged, *flaws))


def _row(item: Asked, state: State, status: str = "", reason: str = "", landing: Landing | None = None) -> BatchRow:
    request, batch = item.request, item.batch
    age = max(0, int(layout.now().timestamp()) - batch.created_at) if batch else 0
    return BatchRow(
        batch.batch_id if batch else "",
        request.request_id,
        request.attempt,
        request.foreign,
        request.count,
        state,
        status,
        reason,
        landing,
        age,
    )


@dataclass
class _Poller:
    api: EmbeddingApi
    store: ObjectStore
    spec: CollectionSpec
    landings: dict[str, list[Landing]]
    forced: AbstractSet[str]
    folder: Path
    listed: Mapping[str, ApiBatch]
    held: AbstractSet[str]  # batches that a delta holds: there is nothing to wait for
    find_held: FindHeld
    flaws: dict[str, str] = field(default_factory=dict)  # what is wrong with each landing that was looked at, if it is
    large: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_LARGE_AT_ONCE))

    def poll(self, item: Asked, sent: SentBatch) -> BatchRow:
        """One batch's row; its trouble is said there, so that it does not stop the others."""
        try:
            return self._poll(item, sent)
        except (ApiUnavailableError, CorruptedError) as error:
            before = self.landings.get(sent.batch_id, [])
            return _row(item, "trouble", reason=str(error), landing=before[0] if before else None)

    def _poll(self, item: Asked, sent: SentBatch) -> BatchRow:
        before = self.landings.get(sent.batch_id, [])
        newest = before[0] if before else None
        try:
            batch = self.listed.get(sent.batch_id) or self.api.retrieve(sent.batch_id)
        except ApiMissingError as error:
            if patient(sent.created_at) and not self._any_has(sent, before):
                return _row(item, "trouble", reason=str(error))
            with self._turn(item):
                return self._without_api(item, sent, before, "the API does not know the batch")
        if not batch.ended:
            if not before and is_late(batch):
                note_late(self.store, item.request.collection, item.request.day, batch)
            reason = "" if batch.status_known else f"the status {batch.status!r} is unknown; waiting until it is final"
            return _row(item, "pending", batch.status, reason, newest)
        settled = (
            newest is not None and newest.accepted == 0 and newest.status == batch.status and tells_all(newest, batch)
        )
        if settled and sent.batch_id not in self.forced:
            # No delta will ever come of it, so nobody else would end the polling.
            return _row(item, "unchanged", batch.status, batch.reason, newest)
        with self._turn(item):
            return self._land(item, sent, batch, before)

    def _turn(self, item: Asked) -> AbstractContextManager[object]:
        return self.large if item.request.count > _LARGE else nullcontext()

    def _land(self, item: Asked, sent: SentBatch, batch: ApiBatch, before: list[Landing]) -> BatchRow:
        folder = self.folder / item.request.request_id
        try:
            requested = requested_documents(asked_documents(self.store, item.request, folder))
            notes = read_input_notes(self.store, item.request)
            errors: list[Path] = []
            no_error_file = False
            if batch.error_file_id is not None:
                path = folder / "error.jsonl"
                try:
                    self.api.download(batch.error_file_id, path)
                    errors.append(path)
                except ApiMissingError:
                    no_error_file = True

            def land(*output: tuple[str, Iterable[bytes]]) -> Landed:
                sources = dict([*output, *((path.stem, pieces_of(path)) for path in errors)])
                spec = as_asked(item.request, self.spec)
                return land_lines(spec, requested, sources, folder / "landing", notes.several, notes.others)

            try:
                # Read as it comes: it need not lie on a disk first.
                output = batch.output_file_id
                landed = self.api.read(output, lambda pieces: land(("output", pieces))) if output else land()
            except ApiMissingError:
                if patient(batch.created_at, batch.ended_at) and not self._any_has(sent, before):
                    return self._wait(item, batch, "the API does not have the output file that it names")
                return self._without_api(item, sent, before, "the API no longer has the batch's output")
            short = not_come(batch, landed) or (landed.missing if no_error_file else 0)
            if short and patient(batch.created_at, batch.ended_at):
                whole = self._whole(before)
                if whole is None or whole.accepted < len(landed.accepted):
                    answers = f"{short} answer{'s' if short > 1 else ''}"
                    lacking = "that the API says it has"
                    if no_error_file:
                        lacking = "in the error file, which the API does not have"
                    return self._wait(item, batch, f"waiting for {answers} {lacking}", whole)
            return self._compare(item, sent, batch, landed, before)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _holds(self, landing: Landing) -> bool:
        """Whether a landing proves itself; each is looked at once."""
        if landing.folder not in self.flaws:
            folder = self.folder / f"proof-{landing.landing_id}"
            folder.mkdir()
            self.flaws[landing.folder] = flaw_of(self.store, landing, folder)
            shutil.rmtree(folder, ignore_errors=True)
        return not self.flaws[landing.folder]

    def _any_has(self, sent: SentBatch, before: list[Landing]) -> bool:
        """Whether a database holds a batch, or a landing of it is whole; one that says that all is lost may be."""
        if sent.batch_id in self.held or self.find_held(sent.batch_id):
            return True
        return any(self._holds(one) for one in before)

    def _whole(self, before: list[Landing]) -> Landing | None:
        """The landing that counts of those that prove themselves; one that says that all is lost does not."""
        return next((one for one in before if one.status != LOST and self._holds(one)), None)

    def _wait(self, item: Asked, batch: ApiBatch, what: str, landing: Landing | None = None) -> BatchRow:
        reason = f"{what}; polled again until {PATIENCE_SECONDS // 3600} hours after the batch's end"
        note(self.store, item.request.collection, item.request.day, Awaited(batch.id, reason))
        return _row(item, "pending", batch.status, reason, landing)

    def _compare(
        self, item: Asked, sent: SentBatch, batch: ApiBatch, landed: Landed, before: list[Landing]
    ) -> BatchRow:
        """Write a landing unless a whole one says the same, or says more."""
        outcome = landed.outcome(batch.status)
        whole = self._whole(before)
        if whole is not None and (whole.outcome == outcome or whole.accepted > len(landed.accepted)):
            if whole.outcome == outcome and whole is before[0]:
                return _row(item, "unchanged", batch.status, batch.reason, whole)
            reason = f"the API gives {len(landed.accepted)} records, {whole.accepted} are landed"
            return _row(item, "kept", batch.status, reason, whole)
        if whole is None and sent.batch_id in self.held and len(landed.accepted) < item.request.count:
            folder = self.folder / f"{item.request.request_id}-held"
            held = self._of_databases(item, sent, landed.requested, folder)
            if held is not None and len(held.accepted) > len(landed.accepted):
                reason = f"the API gives {len(landed.accepted)} records, a delta holds {len(held.accepted)}"
                return _row(item, "kept", batch.status, reason, self._write(item.request, sent, RECOVERED, held, None))
        landing = self._write(item.request, sent, batch.status, landed, batch)
        return _row(item, "landed", batch.status, batch.reason, landing)

    def _without_api(self, item: Asked, sent: SentBatch, before: list[Landing], why: str) -> BatchRow:
        """The best landing that holds; if there is none, a landing which says that all is lost."""
        whole = self._whole(before)
        if whole is not None:
            return _row(item, "kept", whole.status, why, whole)
        lost = next((one for one in before if one.status == LOST and self._holds(one)), None)
        if lost is not None:
            return _row(item, "lost", LOST, why, lost)
        folder = self.folder / f"{item.request.request_id}-lost"
        try:
            requested = requested_documents(asked_documents(self.store, item.request, folder))
            landed = self._of_databases(item, sent, requested, folder / "held")
            if landed is not None:
                landing = self._write(item.request, sent, RECOVERED, landed, None)
                return _row(item, "kept", RECOVERED, f"{why}; its records are landed again from a database", landing)
            landed = land_lines(as_asked(item.request, self.spec), requested, {}, folder)
            reason = f"{why}, and no landing of it is whole"
            landed.rejected.update({i: Answer(i, None, LOST_CODE, reason, True) for i in requested})
            landed.write_lists()
            landing = self._write(item.request, sent, LOST, landed, None)
            return _row(item, "lost", LOST, reason, landing)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _of_databases(
        self, item: Asked, sent: SentBatch, requested: Mapping[str, tuple[str, str]], folder: Path
    ) -> Landed | None:
        """What the databases hold of a batch; None where that is nothing."""
        held = self.find_held(sent.batch_id)
        landed = land_held(as_asked(item.request, self.spec), requested, held, folder) if held else None
        return landed if landed and landed.accepted else None

    def _write(self, request: Request, sent: SentBatch, status: str, landed: Landed, batch: ApiBatch | None) -> Landing:
        landing_id = layout.new_id()
        folder = layout.results(request.collection, request.day, sent.batch_id, landing_id)
        records, accepted, rejected = write_files(self.store, folder, landed.files)
        landing = Landing(
            landing_id=landing_id,
            collection=request.collection,
            day=request.day,
            request_id=request.request_id,
            batch_id=sent.batch_id,
            created_at=sent.created_at,
            status=status,
            model=request.model,
            dimensions=request.dimensions,
            requested=len(landed.requested),
            accepted=len(landed.accepted),
            rejected=len(landed.rejected),
            missing=landed.missing,
            repeated=landed.repeated,
            stray=landed.stray,
            tokens=landed.tokens or (batch.tokens if batch else 0),
            digest=landed.digest,
            outcome=landed.outcome(status),
            records_file=records,
            accepted_file=accepted,
            rejected_file=rejected,
            problem=batch.reason if batch else "",
            token_limited=batch.token_limited if batch else False,
            limit=batch.limit if batch else "",
            other_models=landed.other_models,
            remarks=tuple(landed.remarks),
        )
        return commit(self.store, landing, landed.again, newer=bool(self.landings.get(sent.batch_id)))
