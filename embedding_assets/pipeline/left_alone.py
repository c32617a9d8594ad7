"""What lies in the store, or at the API, and no declared collection goes on with: left alone, and said."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from embedding_assets.batches.cell_names import read_names
from embedding_assets.batches.discover import Found, read_unclaimed
from embedding_assets.batches.identity import identity_problem
from embedding_assets.catalog import Catalog
from embedding_assets.pipeline.findings import Findings, Row
from embedding_assets.pipeline.kinds import catalog_as_held
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.transfer import at_once


@dataclass(frozen=True)
class LeftAlone:
    """One thing that is left alone.

    Attributes:
        kind: `batch` (of another program, of no collection), `collection` (not declared), `day` (before `start`).
        name: its id or name.
        reason: in words, whole sentences.
    """

    kind: str
    name: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """As plain JSON values."""
        return asdict(self)


def unclaimed_batches(store: ObjectStore, catalog: Catalog) -> list[Found]:
    """The batches of other programs that belong to no collection, as they are looked for: under what collections hold.

    Raises:
        CorruptedError: what was written down of one is damaged.
        StoreError: the store did not answer, or refuses.
    """
    return read_unclaimed(store, catalog_as_held(store, catalog))


def left_alone(store: ObjectStore, catalog: Catalog) -> list[LeftAlone]:
    """All that is left alone: one listing of the store's top folders, and one of each collection's days.

    Raises:
        CorruptedError: what was written down of an unclaimed batch is damaged.
        StoreError: the store did not answer, or refuses.
    """
    found = [
        LeftAlone("batch", one.batch_id, f"of another program ({one.day}), belongs to no collection: {one.reason}")
        for one in unclaimed_batches(store, catalog)
    ]
    others = [name for name in store.folders("") if not name.startswith(("_", ".")) and name not in catalog.names]
    for name, count in zip(others, at_once(lambda name: _batches(store, name), others), strict=True):
        if count:
            said = f"{_many(count)} of {name}, which is not declared, {_are(count)} left alone; declare it to go on"
            found.append(LeftAlone("collection", name, said))
    cells = [
        (name, day)
        for name in catalog.names
        for day in store.folders(layout.requests(name))
        if day < str(catalog.start)
    ]
    for names in at_once(lambda cell: read_names(store, *cell), cells):
        open_ones = len(names.sent) - len(names.landed) + len(names.unsent)
        if open_ones > 0:
            said = (
                f"{_many(open_ones)} of {names.collection} {_are(open_ones)} left alone, as the day is before `start` "
                f"({catalog.start}); set `start` back to go on with {'it' if open_ones == 1 else 'them'}"
            )
            found.append(LeftAlone("day", names.day, said))
    return found


def check_store(store: ObjectStore, catalog: Catalog) -> Findings | None:
    """What belongs to no collection and a check names: what is left alone, and a damaged identity; None for nothing."""
    rows: list[Row] = [{"kind": one.kind, "name": one.name, "state": one.reason} for one in left_alone(store, catalog)]
    left = len(rows)
    problem = identity_problem(store)
    if problem:
        reason, remedy = problem, "Its copy counts; the next submission puts it right."
        rows.append({"kind": "identity", "name": layout.IDENTITY, "verdict": "corrupted", "reason": reason})
        rows[-1]["remedy"] = remedy
    if not rows:
        return None
    return Findings("the store", tuple(rows), f"{left} left alone, {len(rows) - left} corrupted")


def _batches(store: ObjectStore, name: str) -> int:
    """How many batches were sent for a collection, as far as a folder is one."""
    return sum(item.key.endswith(f"/{layout.BATCH}") for item in store.walk(layout.requests(name)))


def _many(count: int) -> str:
    return "1 batch" if count == 1 else f"{count} batches"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
