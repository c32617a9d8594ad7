"""The batches of a collection, as our own records and the API have them; and what a person does about one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.asked_log import days_of
from embedding_assets.batches.balance import BatchBalance, balance
from embedding_assets.batches.cell_names import read_names
from embedding_assets.batches.client import ApiMissingError, EmbeddingApi
from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.identity import creator_of, identity_of
from embedding_assets.batches.requests import Asked, SentBatch, give_up, read_requests
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import ApiError, ApiUnavailableError, ConfigurationError, EmbeddingAssetsError
from embedding_assets.pipeline.cells import land_cell
from embedding_assets.pipeline.findings import Findings, Planned, Row
from embedding_assets.pipeline.kinds import as_held
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

OpenApi = Callable[[], EmbeddingApi]
_OPEN = ("in flight", "given up")
_UNKNOWN = "unknown to the API"


def list_batches(store: ObjectStore, spec: CollectionSpec, open_api: OpenApi, *, only_open: bool = False) -> Findings:
    """The batches that were sent, and what came of each.

    Args:
        store, spec: the collection.
        open_api: makes a client, for the API's own word for what is not landed.
        only_open: only those of which nothing has landed.
    """
    held = as_held(store, spec)
    found = [
        (day, row, books.again)
        for day in days_of(store, spec.name)
        for books in [balance(store, held, day)]
        for row in books.batches
        if row.batch_id and (not only_open or row.status in _OPEN)
    ]
    waiting = [row.batch_id for _, row, _ in found if row.status in _OPEN]
    words, trouble = _words_of_the_api(open_api, waiting)
    rows: tuple[Row, ...] = tuple(
        {
            "name": row.batch_id,
            "day": day,
            "state": row.status,
            "api": words.get(row.batch_id),
            "requested": row.requested,
            "accepted": row.accepted,
            "rejected": row.rejected,
            "missing": row.missing,
            "age_hours": row.age // 3600,
            "expires": layout.minute_of(row.expires),
            "waits_for": _waits_for(row, again),
            "reason": row.reason,
        }
        for day, row, again in found
    )
    late = sum(row.late for _, row, _ in found)
    said = f"nothing has landed of {len(waiting)}, {late} of them late"
    return Findings(spec.name, rows, "; ".join(filter(None, [said, trouble])))


def _waits_for(row: BatchBalance, again: int) -> str:
    """What a batch waits for, in a word or two; empty where it is settled."""
    if row.aside:
        return "set aside"
    if row.status == "given up":
        return "nothing: its records are asked again"
    if row.late:
        return "the API: late"
    if row.status == "in flight":
        return "answers that the API says it has" if row.reason else "the API"
    return f"a limit ({row.limit})" if row.limit and again else ""


def _words_of_the_api(open_api: OpenApi, ids: Sequence[str]) -> tuple[Mapping[str, str], str]:
    """The API's statuses by batch id, and why there are none where it did not answer."""
    if not ids:
        return {}, ""
    try:
        api = open_api()
        return dict(zip(ids, in_parallel(lambda one: _word(_retrieve(api, one)), ids), strict=True)), ""
    except (ApiError, ApiUnavailableError, ConfigurationError) as error:
        return {}, f"the API was not asked, or did not answer: {error.reason}"


def _retrieve(api: EmbeddingApi, batch_id: str) -> ApiBatch | None:
    try:
        return api.retrieve(batch_id)
    except ApiMissingError:
        return None


def _word(batch: ApiBatch | None) -> str:
    return batch.status if batch else _UNKNOWN


def sent_batches(store: ObjectStore, collection: str) -> list[str]:
    """The ids of the batches of a collection."""
    return [batch.batch_id for _, batch in _sent(store, collection)]


def open_batches(store: ObjectStore, collection: str) -> list[str]:
    """The ids of the batches that may be given up: those of which nothing has landed."""
    return [batch.batch_id for _, batch in _sent(store, collection, only_open=True)]


def _sent(store: ObjectStore, collection: str, only_open: bool = False) -> list[tuple[Asked, SentBatch]]:
    found: list[tuple[Asked, SentBatch]] = []
    for day in days_of(store, collection):
        landed = read_names(store, collection, day).landed if only_open else {}
        found += [
            (asked, asked.batch)
            for asked in read_requests(store, collection, day)
            if asked.batch and layout.part(asked.batch.batch_id) not in landed
        ]
    return found


def poll_batches(open_api: OpenApi, store: ObjectStore, spec: CollectionSpec, ids: Sequence[str]) -> Planned:
    """Poll batches now and land what there is, as a run with their ids in its configuration does."""
    wanted = [(asked, batch) for asked, batch in _sent(store, spec.name) if batch.batch_id in ids]
    rows = tuple(_row("poll", asked, batch) for asked, batch in wanted)

    def execute() -> Findings:
        api, done = open_api(), list[Row]()
        for day in sorted({asked.request.day for asked, _ in wanted}):
            forced = frozenset(batch.batch_id for asked, batch in wanted if asked.request.day == day)
            done += [
                {
                    "name": row.batch_id,
                    "day": day,
                    "state": row.state,
                    "api": row.status or None,
                    "accepted": row.landing.accepted if row.landing else 0,
                    "reason": row.aside or row.reason,
                }
                for row in land_cell(api, store, spec, day, forced).batches
                if row.batch_id in forced
            ]
        landed = sum(row["state"] == "landed" for row in done)
        return Findings(spec.name, tuple(done), f"{landed} newly landed; the next run of their day does the rest")

    return Planned(spec.name, rows, execute)


def cancel_batches(open_api: OpenApi, store: ObjectStore, spec: CollectionSpec, ids: Sequence[str]) -> Planned:
    """Cancel batches that were created for this store and have not ended.

    Raises:
        EmbeddingAssetsError: one of them was created by another program or for another store; nothing is done.
        ApiUnavailableError: the API did not answer.
    """
    wanted = [(asked, batch) for asked, batch in _sent(store, spec.name) if batch.batch_id in ids]
    if not wanted:
        return Planned(spec.name, (), lambda: Findings(spec.name, ()))
    api, store_id = open_api(), identity_of(store)
    found = [_retrieve(api, batch.batch_id) for _, batch in wanted]
    foreign = [
        sent.batch_id
        for (asked, sent), batch in zip(wanted, found, strict=True)
        if sent.foreign or asked.request.foreign or (batch and creator_of(batch, store_id) == "other")
    ]
    if foreign:
        one = len(foreign) == 1
        raise EmbeddingAssetsError(
            f"batch{'' if one else 'es'} {', '.join(foreign)}",
            f"{'was' if one else 'were'} not created by this store; nothing was done",
            "Cancel it where it was submitted. `embedding-assets batches give-up` ends the waiting for it here.",
        )
    # What has ended, or is gone, needs no cancelling.
    under_way = [
        (_row("cancel", asked, sent) | {"api": batch.status})
        for (asked, sent), batch in zip(wanted, found, strict=True)
        if batch and not batch.ended and batch.status != "cancelling"
    ]

    def execute() -> Findings:
        done = list[Row]()
        for row in under_way:
            api.cancel(str(row["name"]))
            done.append(row | {"api": _word(_retrieve(api, str(row["name"])))})
        return Findings(spec.name, tuple(done), "what they have done is landed once they have ended")

    warning = "what they have not done is asked again, which uses up an attempt; `give-up` uses up none"
    return Planned(spec.name, tuple(under_way), execute, warning if under_way else "")


def give_up_batches(store: ObjectStore, spec: CollectionSpec, ids: Sequence[str]) -> Planned:
    """Give batches up: the next run of their day asks for their records again, without using up an attempt."""
    wanted = [
        (asked, batch)
        for asked, batch in _sent(store, spec.name, only_open=True)
        if batch.batch_id in ids and not asked.given_up
    ]
    rows = tuple(_row("give up", asked, batch) for asked, batch in wanted)

    def execute() -> Findings:
        for asked, batch in wanted:
            give_up(store, asked.request, batch)
        return Findings(spec.name, rows, "the next run of their day asks for their records again")

    warning = "if the API finishes such a batch after all, its records are paid for twice; `cancel` it first"
    return Planned(spec.name, rows, execute, warning if rows else "")


def _row(action: str, asked: Asked, batch: SentBatch) -> Row:
    return {"action": action, "name": batch.batch_id, "day": asked.request.day, "records": asked.request.count}
