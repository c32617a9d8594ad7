"""Conservation: what was requested is accepted, rejected or still pending, record by record, and proved by its ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from embedding_assets.batches.answers import GRACE_SECONDS, window_end
from embedding_assets.batches.documents import Refused
from embedding_assets.batches.latest import latest_content
from embedding_assets.batches.refusals import ACCOUNT_LIMIT_MET, ACCOUNT_LIMITS, TOKEN_LIMIT
from embedding_assets.batches.refused_documents import read_refused
from embedding_assets.batches.requests import Asked, Damaged
from embedding_assets.batches.standing import CellStanding, RequestStanding, read_standing
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

_NAMED = 1_000
_ASKED_LATER = ("unsent", "again")
BAD_LINE = "bad_line"  # of another program's input file


@dataclass(frozen=True)
class Rejected:
    """A record that was rejected, by name: its id, or the place of a document that could not be asked."""

    name: str
    reason: str
    code: str


@dataclass(frozen=True)
class BatchBalance:
    """One request of a cell and what came back for it.

    Attributes:
        age: seconds since its batch was created.
        late: whether nothing has come of it long after its window; a person is told.
        expires: when its window ends, in seconds since 1970; 0 where no batch is sent.
        limit: the code of the limit for which it failed.
        aside: whether it is set aside: it asked for vectors of another kind than the collection's.
    """

    request_id: str
    batch_id: str
    attempt: int
    foreign: bool
    status: str
    requested: int
    accepted: int
    rejected: int
    missing: int
    age: int
    reason: str = ""
    aside: bool = False
    late: bool = False
    expires: int = 0
    limit: str = ""


@dataclass(frozen=True)
class CellBalance:
    """A cell's books. A record rejected in one attempt and accepted in the next counts once, as accepted.

    Attributes:
        requested: records asked for, and documents that could not be asked.
        accepted, rejected: what is settled. `rejected` counts the refused documents too.
        pending: `unsent` + `in_flight` + `again`.
        refused: documents that could not be asked.
        reasons: how many were rejected for which reason's code.
        rejections: the first 1,000 of them by name.
        unaccounted: ids that are in none of the books; there must be none.
        paused_until: when the first of those of `again` that wait for a pause is asked, in seconds since 1970; 0: none.
        waiting: why records are still to be asked, or asked again, and until when that has to wait; how many for which
            reason.
        limited: how many of `unsent` and `again` wait until the account's quota or billing limit is lifted.
        limit: what the API said of that limit.
    """

    collection: str
    day: str
    requested: int
    accepted: int
    rejected: int
    unsent: int
    in_flight: int
    again: int
    refused: int
    reasons: Mapping[str, int]
    rejections: tuple[Rejected, ...]
    unaccounted: tuple[str, ...]
    batches: tuple[BatchBalance, ...]
    limited: int = 0
    paused_until: float = 0.0
    waiting: Mapping[str, int] = field(default_factory=dict)
    limit: str = ""

    damaged: tuple[Damaged, ...] = ()  # records of what was asked that are damaged or gone; all others count as ever

    @property
    def pending(self) -> int:
        """Records that are asked and not settled."""
        return self.unsent + self.in_flight + self.again

    @property
    def limited_in_words(self) -> str:
        """The account's limit and what waits for it; empty where nothing does."""
        if not self.limited:
            return ""
        if self.limited == 1:
            return f"{self.limit}; 1 record waits, and is asked for by itself once it is lifted"
        return f"{self.limit}; {self.limited:,} records wait, and are asked for by themselves once it is lifted"

    @property
    def awaited(self) -> list[str]:
        """What ended batches are waited for, each with its reason."""
        return [
            f"batch {row.batch_id}: {row.reason}" for row in self.batches if row.status == "in flight" and row.reason
        ]

    @property
    def aside(self) -> list[str]:
        """Its batches, or requests without one, that are set aside."""
        return [row.batch_id or row.request_id for row in self.batches if row.aside]

    @property
    def late(self) -> list[str]:
        """Its batches that should have ended long ago, each with what there is to say."""
        return [f"{row.batch_id}: {row.reason}" for row in self.batches if row.late]

    @property
    def balanced(self) -> bool:
        """Whether requested = accepted + rejected + pending, with no id left over."""
        return not self.unaccounted and self.requested == self.accepted + self.rejected + self.pending


def balance(store: ObjectStore, spec: CollectionSpec, day: str) -> CellBalance:
    """A cell's books, computed from the ids that were asked and those that came back.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    standing = read_standing(store, spec, day, lambda: latest_content(store, spec.name, since=day).digests)
    try:
        refused = read_refused(store, spec.name, day)
    except CorruptedError as error:
        refused, damage = [], Damaged("-", error.subject, error.reason)
        standing = replace(standing, damaged=(*standing.damaged, damage))
    return balance_of(spec.name, day, standing, refused)


def balance_of(collection: str, day: str, standing: CellStanding, refused: Iterable[Refused]) -> CellBalance:
    """The books of a cell whose standing is known, and the documents that could not be asked."""
    turned_away = [Rejected(item.name, item.reason, "bad_document") for item in refused]
    turned_away += [Rejected(item.name, item.reason, BAD_LINE) for one in standing.requests for item in one.refused]
    # What was asked is counted from the requests themselves, what became of it from the places: were one lost on the
    # way from the first to the second, it would show here.
    asked = {digest for one in standing.requests for digest in one.ids.column("digest").to_pylist()}
    kinds = Counter(place.kind for place in standing.places.values())
    unaccounted = {p.id for p in standing.places.values() if p.kind == "unaccounted"}
    unaccounted |= {digest.hex() for digest in asked - set(standing.places)}
    unaccounted |= {_short(one) for one in standing.requests if one.ids.num_rows != one.asked.request.count}
    rejected = [
        *turned_away,
        *(Rejected(p.id, p.reason, p.code) for p in standing.places.values() if p.kind == "rejected"),
    ]
    limited = [p for p in standing.places.values() if p.kind in _ASKED_LATER and p.code in ACCOUNT_LIMITS]
    return CellBalance(
        collection,
        day,
        len(asked) + len(turned_away),
        kinds["accepted"],
        len(rejected),
        kinds["unsent"],
        kinds["in_flight"],
        kinds["again"],
        len(turned_away),
        dict(Counter(item.code for item in rejected)),
        tuple(rejected[:_NAMED]),
        tuple(sorted(unaccounted)),
        tuple(_row(one) for one in standing.requests),
        len(limited),
        min((p.not_before for p in standing.places.values() if p.kind == "again" and not p.due), default=0.0),
        dict(Counter(p.reason for p in standing.places.values() if p.kind in _ASKED_LATER and p.reason)),
        next((_limit(place.reason) for place in limited), ""),
        standing.damaged,
    )


def _limit(reason: str) -> str:
    return reason if reason.startswith(ACCOUNT_LIMIT_MET) else f"{ACCOUNT_LIMIT_MET} ({reason})"


def _short(one: RequestStanding) -> str:
    return f"{one.asked.request.request_id}: {one.ids.num_rows} ids of {one.asked.request.count}"


def _row(one: RequestStanding) -> BatchBalance:
    request, batch, landing = one.asked.request, one.asked.batch, one.landing
    age = max(0, int(layout.now().timestamp()) - batch.created_at) if batch else 0
    late = _late_in_words(one)
    return BatchBalance(
        request.request_id,
        batch.batch_id if batch else "",
        request.attempt,
        request.foreign,
        "set aside" if one.aside else landing.status if landing else _waiting_in_words(one.asked),
        request.count,
        len(one.accepted),
        len(one.rejected),
        request.count - len(one.accepted) - len(one.rejected) if landing else 0,
        age,
        one.complaint or one.aside or (landing.problem if landing else one.awaited or late),
        bool(one.aside),
        bool(late),
        window_end(batch.created_at, batch.expires_at) if batch else 0,
        landing.limit or (TOKEN_LIMIT if landing.token_limited else "") if landing else "",
    )


def _waiting_in_words(asked: Asked) -> str:
    if asked.batch is None:
        return "unsent"
    return "given up" if asked.given_up else "in flight"


def _late_in_words(one: RequestStanding) -> str:
    """What there is to say of a batch that should have ended long ago; empty where it should not have."""
    batch, now = one.asked.batch, layout.now().timestamp()
    if batch is None or one.landing is not None or one.aside or one.asked.given_up:
        return ""
    end = window_end(batch.created_at, batch.expires_at)
    # What is awaited has ended.
    if one.awaited or (not one.late and now <= end + GRACE_SECONDS):
        return ""
    word = f"is still `{one.late.status}`" if one.late else "has not ended"
    hours = max(0, int(now) - batch.created_at) // 3600
    sent, ended = layout.minute_of(batch.created_at), layout.minute_of(end)
    return f"it {word} {hours} hours after it was sent ({sent}); its window ended {ended}"
