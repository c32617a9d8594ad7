"""Landed batches that no delta holds: what a run left behind that ended between the two, or what was moved aside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from embedding_assets.batches.cell_names import CellNames
from embedding_assets.batches.kinds import fits
from embedding_assets.batches.landing import Landing, declared_since, read_landing
from embedding_assets.batches.position import Cell
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.records import slices
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.delta import DeltaRef, list_deltas
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets.vectorstore.transfer import at_once

_LANDINGS = 50  # read at a time


def undelivered(store: ObjectStore, names: CellNames, spec: CollectionSpec) -> list[str]:
    """Ids of a cell's landings of the collection's kind whose records no delta of its kind holds.

    That is one listing where nothing is new to this process.

    Where there are very many, some without a record may be among them.
    """
    if not names.landed:
        return []
    refs = list_deltas(store, names.collection, names.day)
    deltas = [manifest for manifest in at_once(lambda ref: _delta(store, ref), refs) if manifest is not None]
    alike = [delta for delta in deltas if delta.vectors == spec.vectors]
    held = {(layout.part(entry.batch_id), entry.landing_id) for delta in alike for entry in delta.batches}
    # By names alone first: reading hundreds of landings at every look would be too dear.
    rest = sorted(item for item in names.landed.items() if len(item[1]) > 1 or (item[0], item[1][0]) not in held)
    found: list[str] = []
    for part in slices(len(rest), _LANDINGS):
        for (batch, ids), one in zip(rest[part], _counting(store, names, rest[part]), strict=True):
            if one is None:
                # Where no landing of a batch can be read, a run polls it afresh, as if nothing had been landed.
                found.append(ids[-1])
            elif one.accepted and fits(one, spec) and (batch, one.landing_id) not in held:
                found.append(one.landing_id)
        if found:
            # That is enough to ask for a run; whether the others hold records, the run sees for itself.
            return [*found, *(ids[-1] for _, ids in rest[part.stop :])]
    return []


def without_landing(store: ObjectStore, names: CellNames, spec: CollectionSpec) -> list[str]:
    """The batches of a cell, by their part of the key, that a delta holds and of which no landing is left."""
    if names.asked and not names.waiting:
        return []
    deltas = at_once(lambda ref: _delta(store, ref), list_deltas(store, names.collection, names.day))
    held = {layout.part(e.batch_id) for d in deltas if d and d.vectors == spec.vectors for e in d.batches}
    return sorted(held.difference(names.landed))


def _counting(
    store: ObjectStore, names: CellNames, landed: Iterable[tuple[str, tuple[str, ...]]]
) -> list[Landing | None]:
    """For each of these batches the landing that counts; None where none can be read."""

    def read_all(item: tuple[str, tuple[str, ...]]) -> Landing | None:
        batch, ids = item
        some = [_landing(store, names.collection, names.day, batch, landing_id) for landing_id in ids]
        return max((one for one in some if one), key=lambda one: one.rank, default=None)

    return at_once(read_all, landed)


def declared_by_now(store: ObjectStore, names: CellNames, spec: CollectionSpec) -> list[str]:
    """Ids of a cell's landings of which records were rejected for the name of a model that is declared by now."""
    landings = _counting(store, names, [(batch, names.landed[batch]) for batch in sorted(names.other_models)])
    return [one.landing_id for one in landings if one is not None and declared_since(one, spec)]


def quarantined_state(store: ObjectStore, catalog: Catalog) -> str:
    """A digest of the names of what lies in the quarantine; changes when a delta is moved aside."""
    names = at_once(lambda spec: store.folders(layout.quarantine(spec.name, "delta")), list(catalog))
    return hashlib.blake2b(repr(names).encode(), digest_size=8).hexdigest()


def quarantined_cells(store: ObjectStore, catalog: Catalog) -> list[Cell]:
    """The cells of the deltas in the quarantine: however long ago, what was moved aside is to be built again."""
    return [
        (spec.name, entry.report.day)
        for spec in catalog
        for entry in list_quarantine(store, spec.name)
        if entry.report and entry.kind == "delta"
    ]


@lru_cache(maxsize=20_000)
def _delta(store: ObjectStore, ref: DeltaRef) -> Manifest | None:
    """A delta's manifest, which never changes; None where it is damaged (the check of the deltas reports that)."""
    try:
        return load_manifest(store, ref.key)
    except (CorruptedError, ObjectMissingError):
        return None


@lru_cache(maxsize=20_000)
def _landing(store: ObjectStore, collection: str, day: str, batch: str, landing_id: str) -> Landing | None:
    """A landing's manifest, which never changes; None where it is damaged."""
    try:
        return read_landing(store, f"{layout.results(collection, day)}/{batch}/{landing_id}/{layout.MANIFEST}")
    except (CorruptedError, ObjectMissingError):
        return None
