"""Where every collection stands, in numbers that are computed from the store at the moment of asking."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from embedding_assets.batches.asked_log import days_of
from embedding_assets.batches.balance import CellBalance, balance
from embedding_assets.catalog import CollectionSpec
from embedding_assets.pipeline.gone_landings import gone_landings, gone_requests
from embedding_assets.pipeline.kinds import as_held, mismatch
from embedding_assets.pipeline.unstorable import count_set_aside
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import bases
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.gather import look_for_missing
from embedding_assets.vectorstore.kinds import sort_out
from embedding_assets.vectorstore.transfer import at_once

_VERSIONS_LOOKED_AT = 5


@dataclass(frozen=True)
class CollectionStatus:
    """One collection.

    Attributes:
        requested, accepted, rejected, pending, unaccounted: records over all cells; requested is the sum of the rest.
        cells: days with requests, landings or deltas.
        deltas: those in the snapshot and those that wait; `uncompacted` of them are not in the snapshot.
        version: the current snapshot; None where there is none. The fields after it are its own.
        records: in it.
        age_seconds: since it was committed.
        bytes: its files together.
        damaged: what is wrong with the current version, where an older one is shown in its place.
        waiting_for_quota: how many of the pending ones wait until the API account's quota or billing limit is lifted.
        declaration: what is wrong with the declaration, and what to type; empty where it fits.
        set_aside: the deltas and batches of another kind than the collection's, by name; they count in no other field,
            and their records are pending or accepted by other batches.
        damaged_requests: the records of what was asked that are damaged or gone, by name and key; and the requests
            that are answered in a delta and whose landing is gone.
        late: the batches that should have ended long ago, by name, with what the API said of them.
        set_aside_records: accepted records that no database takes; the quarantine has them.
    """

    collection: str
    requested: int
    accepted: int
    rejected: int
    pending: int
    unaccounted: int
    cells: int
    deltas: int
    uncompacted: int
    version: str | None
    records: int
    age_seconds: int | None
    bytes: int
    damaged: str = ""
    declaration: str = ""
    set_aside: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    waiting_for_quota: int = 0
    set_aside_records: int = 0
    damaged_requests: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def collection_status(store: ObjectStore, spec: CollectionSpec) -> CollectionStatus:
    """Where a collection stands.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    held, wrong = as_held(store, spec), mismatch(store, spec)
    books: list[CellBalance] = at_once(lambda day: balance(store, held, day), days_of(store, spec.name), threads=4)
    end = log_end(store, spec.name)
    # A damaged version is passed over, as readers do until the next compaction puts a new one in its place.
    found = list(islice(bases(store, spec.name, end), _VERSIONS_LOOKED_AT))
    damaged = next((base.problem for base in found if base.problem), "")
    base = next((base for base in found if base.manifest), None)
    commit, snapshot = (base.commit, base.manifest) if base else (None, None)
    inside = set(snapshot.deltas) if snapshot else set()
    lacking = [
        d.ref(spec.name) for d in look_for_missing(store, spec.name, end, snapshot).deltas if d.name not in inside
    ]
    waiting, aside = sort_out(store, lacking, held.vectors)
    age = layout.now() - datetime.fromisoformat(commit.committed_at) if commit else None
    return CollectionStatus(
        collection=spec.name,
        requested=sum(cell.requested for cell in books),
        accepted=sum(cell.accepted for cell in books),
        rejected=sum(cell.rejected for cell in books),
        pending=sum(cell.pending for cell in books),
        unaccounted=sum(len(cell.unaccounted) for cell in books),
        cells=len(books),
        deltas=len(inside) + len(waiting),
        uncompacted=len(waiting),
        version=snapshot.id if snapshot else None,
        records=snapshot.count if snapshot else 0,
        age_seconds=int(age.total_seconds()) if age else None,
        bytes=snapshot.size if snapshot else 0,
        damaged=damaged,
        declaration=f"{wrong.reason}. {wrong.remedy}" if wrong else "",
        set_aside=(
            *(f"delta {one.ref.id}" for one in aside),
            *(f"batch {one}" for cell in books for one in cell.aside),
        ),
        late=tuple(f"batch {one}" for cell in books for one in cell.late),
        damaged_requests=tuple(
            str(one)
            for cell in books
            for one in (*cell.damaged, *gone_requests(store, cell), *gone_landings(store, cell))
        ),
        waiting_for_quota=sum(cell.limited for cell in books),
        set_aside_records=count_set_aside(store, spec.name),
    )
