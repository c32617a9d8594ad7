"""Where every record of a cell stands, told from the records of what was asked and what came back.

A record here is one content of one id, told apart by its digest: a text that was corrected and asked again on the same
day counts twice. It is accepted once any batch gave it; until then its newest request decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Literal

import pyarrow as pa

from embedding_assets.batches.awaited import Late, Notes, read_notes
from embedding_assets.batches.documents import Refused
from embedding_assets.batches.files import in_parallel, read_parquet
from embedding_assets.batches.held import Held, read_held
from embedding_assets.batches.input_notes import read_input_notes
from embedding_assets.batches.kinds import fits, why_aside
from embedding_assets.batches.landing import LOST_CODE, Landing, all_landings
from embedding_assets.batches.refusals import LIMITS, TOKEN_LIMIT, pause_after
from embedding_assets.batches.requests import (
    Asked,
    Damaged,
    SentBatch,
    asked_ids,
    read_cell,
)
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

OTHER_KIND_CODE = "other_kind"
GIVEN_UP_CODE = "given_up"
Kind = Literal["accepted", "rejected", "unsent", "in_flight", "again", "unaccounted"]

# Nobody's fault: such a turn does not count as one of the collection's `attempts`.
_FREE = LIMITS | {LOST_CODE, OTHER_KIND_CODE, GIVEN_UP_CODE}
# No server is to be spared here: enqueued tokens are watched by themselves, and the others were never refused.
_AT_ONCE = frozenset({TOKEN_LIMIT, LOST_CODE, OTHER_KIND_CODE})


@dataclass(frozen=True, slots=True)
class Place:
    """Where one record stands: with which request, and why.

    Attributes:
        kind: `unsent` (asked, no batch yet), `in_flight` (a batch, nothing landed), `again` (to be asked again), ...
        request_id: the newest request that asks for it, or the one that was answered.
        failures: turns that failed so far.
        not_before: when it is asked again, in seconds since 1970, where that is after a pause.
    """

    id: str
    kind: Kind
    request_id: str
    reason: str = ""
    code: str = ""
    failures: int = 0
    not_before: float = 0.0

    @property
    def due(self) -> bool:
        """Whether it is to be asked again now."""
        return self.kind == "again" and self.not_before <= layout.now().timestamp()


def asked_after(at: float) -> str:
    """When something that waits for a pause is asked again, in words; in seconds since 1970."""
    return f"asked again after {datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class RequestStanding:
    """One request, the landing that counts for it, and what that says of its ids."""

    asked: Asked
    landing: Landing | None
    ids: pa.Table
    accepted: frozenset[str] = frozenset()
    rejected: Mapping[str, tuple[str, str, bool]] = field(default_factory=dict)
    awaited: str = ""  # why nothing of its batch is landed although it has ended
    late: Late | None = None  # how the API last called its batch after it should have ended
    complaint: str = ""  # why the landing's own counts are not believed
    refused: tuple[Refused, ...] = ()  # lines of another program's input file that are rejected by name
    tokens: frozenset[str] = frozenset()  # records that another program asked for as tokens
    aside: str = ""  # why it is set aside: it asked for vectors of another kind than the collection's
    held: Held | None = None  # what kept it from being sent

    @property
    def token_limited(self) -> bool:
        """Whether its batch met the limit of enqueued tokens."""
        return self.landing is not None and self.landing.token_limited


@dataclass(frozen=True)
class CellStanding:
    """A cell: its requests, in the order they were made, and the place of every record by content digest.

    Attributes:
        damaged: records of what was asked that are damaged or gone. Requests of which nothing is left are in no other
            field.
    """

    requests: tuple[RequestStanding, ...]
    places: Mapping[bytes, Place]
    damaged: tuple[Damaged, ...] = ()

    def again(self) -> dict[str, list[Place]]:
        """The records to be asked again now, by the request that leaves them over."""
        left: dict[str, list[Place]] = {}
        for place in self.places.values():
            if place.due:
                left.setdefault(place.request_id, []).append(place)
        return left


def read_standing(
    store: ObjectStore,
    spec: CollectionSpec,
    day: str,
    latest: Callable[[], Mapping[str, bytes]],
    records: tuple[list[Asked], list[Damaged]] | None = None,
) -> CellStanding:
    """Where every record of a cell stands.

    Args:
        latest: gives the content last asked for of each id (`latest.latest_content`); called only when records
            would be asked again, since one that has a newer text must not be.
        records: what `read_cell` gives, where the caller has read it.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    asked, damage = read_cell(store, spec.name, day) if records is None else records
    damaged = {one.key: one for one in damage}

    def note(one: Damaged) -> None:
        damaged.setdefault(one.key, one)

    landings = all_landings(store, spec.name, day)
    asked = [with_landing(item, landings) for item in asked]
    for item in asked:
        if item.damage:
            note(item.damage)
    waited_for: list[Notes] = []  # read once, and only where something is waited for

    def load(item: Asked) -> RequestStanding | None:
        try:
            ids = asked_ids(store, item.request, note)
        except CorruptedError as error:
            note(Damaged(item.request.request_id, error.subject, error.reason))
            return None
        standing = placed(item, ids)
        try:
            notes = read_input_notes(store, item.request)
        except CorruptedError as error:
            note(Damaged(item.request.request_id, error.subject, error.reason))
            return standing
        return replace(standing, refused=notes.refused, tokens=frozenset(notes.tokens))

    def placed(item: Asked, ids: pa.Table) -> RequestStanding:
        if not fits(item.request, spec):
            return RequestStanding(item, None, ids, aside=f"set aside: it {why_aside(item.request, spec)}")
        for landing in landings.get(item.batch.batch_id, []) if item.batch else []:
            try:
                return _with_landing(store, item, landing, ids)
            except CorruptedError:
                continue  # the one before it may be whole; if none is, the batch is fetched again
        if item.batch is None:
            return RequestStanding(item, None, ids, held=read_held(store, item.request))
        if not waited_for:
            waited_for.append(read_notes(store, spec.name, day))
        notes = waited_for[0]
        said, late = notes.awaited.get(item.batch.batch_id, ""), notes.late.get(item.batch.batch_id)
        return RequestStanding(item, None, ids, awaited=said, late=late)

    standings = tuple(one for one in in_parallel(load, asked) if one is not None)
    places: dict[bytes, Place] = {}
    for one in standings:
        if not one.aside:
            _count_in(one, places, spec.foreign.ask_again)
    for one in reversed(standings):
        if one.aside:
            _count_aside(one, places)
    _settle(spec, places, latest)
    return CellStanding(standings, places, tuple(damaged[key] for key in sorted(damaged)))


def with_landing(item: Asked, landings: Mapping[str, list[Landing]]) -> Asked:
    """A request whose batch's record is damaged or gone, with the batch that its landing names; others as they are."""
    request = item.request
    if item.batch is not None:
        return item
    named = [some[0] for some in landings.values() if some[0].request_id == request.request_id]
    if not named:
        return item
    landing = min(named, key=lambda one: (one.accepted == 0, one.created_at, one.batch_id))
    gone = Damaged(request.request_id, f"{request.folder}/{layout.BATCH}", "is gone from the store")
    batch = SentBatch(landing.batch_id, landing.created_at, "", request.foreign)
    return replace(item, batch=batch, damage=item.damage or gone)


def _with_landing(store: ObjectStore, asked: Asked, landing: Landing, ids: pa.Table) -> RequestStanding:
    accepted = read_parquet(store, landing.folder, landing.accepted_file).column("id").to_pylist()
    table = read_parquet(store, landing.folder, landing.rejected_file)
    rejected = {row["id"]: (row["reason"], row["code"], row["retryable"]) for row in table.to_pylist()}
    wanted = set(ids.column("id").to_pylist())
    known = frozenset(accepted)
    complaint = ""
    missing = len(wanted - known - set(rejected))
    if len(known) != len(accepted) or not known <= wanted or known & set(rejected):
        complaint = "the landing's ids are not those that were asked"
    elif (len(wanted), len(known), len(rejected), missing) != (
        landing.requested,
        landing.accepted,
        landing.rejected,
        landing.missing,
    ):
        complaint = "the landing's counts are not those of its ids"
    return RequestStanding(asked, landing, ids, known, rejected, complaint=complaint)


def _count_in(one: RequestStanding, places: dict[bytes, Place], ask_again: bool) -> None:
    """Move the places of a request's records to where this request leaves them."""
    request_id, attempt = one.asked.request.request_id, one.asked.request.attempt
    landed_at = layout.time_of(one.landing.landing_id) if one.landing else None
    for record_id, digest in zip(one.ids.column("id").to_pylist(), one.ids.column("digest").to_pylist(), strict=True):
        before = places.get(digest)
        # A first attempt of our own for a content that was asked before means that another text stood in between; it
        # begins anew. Otherwise what was accepted stays so.
        anew = one.asked.request.attempt == 1 and not one.asked.request.foreign
        if before is not None and before.kind == "accepted" and not anew:
            continue
        failures = before.failures if before is not None and not anew else 0
        kind, reason, code = _outcome(one, record_id, ask_again)
        # What a batch that was given up does not answer in the end is not counted either.
        counts = kind == "again" and code not in _FREE and not one.asked.given_up
        pause = pause_after(attempt, code) if kind == "again" and code not in _AT_ONCE else 0.0
        due = landed_at.timestamp() + pause if landed_at is not None and pause else 0.0
        places[digest] = Place(record_id, kind, request_id, reason, code, failures + counts, due)


def _count_aside(one: RequestStanding, places: dict[bytes, Place]) -> None:
    """Records that only requests of another kind asked for are asked again, under what the collection holds."""
    request = one.asked.request
    # Nobody buys again, unasked, what another program asked for.
    kind: Kind = "rejected" if request.foreign else "again"
    for record_id, digest in zip(one.ids.column("id").to_pylist(), one.ids.column("digest").to_pylist(), strict=True):
        places.setdefault(digest, Place(record_id, kind, request.request_id, one.aside, OTHER_KIND_CODE))


def _outcome(one: RequestStanding, record_id: str, ask_again: bool) -> tuple[Kind, str, str]:
    if one.asked.damage and one.asked.batch is None:
        return "in_flight", f"the record of its batch is damaged: {one.asked.damage.reason}", ""
    if one.asked.batch is None:
        return ("unsent", one.held.reason, one.held.code) if one.held else ("unsent", "no batch was created yet", "")
    landing = one.landing
    if landing is None and one.asked.given_up:
        reason = "its batch was given up by hand"
        if one.asked.request.foreign and not ask_again:
            return "rejected", f"{reason}; what another program asked is not asked again unasked", GIVEN_UP_CODE
        return "again", reason, GIVEN_UP_CODE
    if landing is None:
        return "in_flight", one.awaited or "nothing came back yet", ""
    if record_id in one.accepted:
        return "accepted", "", ""
    if one.complaint:
        return "unaccounted", one.complaint, ""
    if record_id in one.rejected:
        reason, code, retryable = one.rejected[record_id]
        if not retryable:
            return "rejected", reason, code
    else:
        reason, code = f"the {landing.status} batch does not mention it", "missing"
        if landing.problem:
            reason = f"the batch failed ({landing.problem})"
        if landing.limit or landing.token_limited:
            code = landing.limit or TOKEN_LIMIT
    if one.asked.request.foreign and landing.status in ("cancelled", "failed"):
        # Whoever cancels a batch does not want it; repeating it is for its submitter.
        return "rejected", f"another program's batch ended as {landing.status}", code
    if one.asked.request.foreign and not ask_again:
        return "rejected", f"{reason}; what another program asked is not asked again unasked", code
    if record_id in one.tokens:
        return "rejected", f"{reason}; its text is unknown, as another program sent tokens", code
    return "again", reason, code


def _settle(spec: CollectionSpec, places: dict[bytes, Place], latest: Callable[[], Mapping[str, bytes]]) -> None:
    """Give up what was tried often enough, and what has a newer text."""
    left = [(digest, place) for digest, place in places.items() if place.kind == "again"]
    if not left:
        return
    newest = latest()
    for digest, place in left:
        if newest.get(place.id, digest) != digest:
            reason, code = "a newer text of it was asked for", "superseded"
        elif place.failures >= spec.attempts and place.code not in _FREE:
            reason, code = f"given up after {place.failures} attempts: {place.reason}", place.code
        else:
            if not place.due:
                places[digest] = replace(place, reason=f"{place.reason}; {asked_after(place.not_before)}")
            continue
        places[digest] = Place(place.id, "rejected", place.request_id, reason, code, place.failures)
