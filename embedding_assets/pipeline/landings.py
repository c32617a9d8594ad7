"""Landings that do not prove themselves: found, and moved to the quarantine, so that their batches are landed again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from embedding_assets.batches.landing import DamagedLanding, flaw_of, read_landings
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.quarantine import execute_quarantine, plan_quarantine
from embedding_assets.vectorstore.transfer import at_once
from embedding_assets.vectorstore.verification import Level, Verdict


def damaged_landings(
    store: ObjectStore, collection: str, day: str, level: Level, scratch: Path | None = None
) -> list[DamagedLanding]:
    """The landings of a cell that are damaged: by their manifests; at `full`, all that counts is read as well.

    Args:
        scratch: where records lie for a moment; the system's folder for temporary files unless given.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    landings, damaged = read_landings(store, collection, day)
    if level != "full":
        return damaged
    counting = [some[0] for some in landings.values()]
    with ScratchFolder("landings", scratch) as folder:
        flaws = at_once(lambda one: flaw_of(store, one, folder), counting, threads=8)
    return damaged + [DamagedLanding(one.folder, flaw) for one, flaw in zip(counting, flaws, strict=True) if flaw]


def move_landings_aside(
    store: ObjectStore, collection: str, damaged: Iterable[DamagedLanding], run_id: str
) -> list[DamagedLanding]:
    """Move damaged landings to the quarantine; those that somebody else has moved are not among what is returned."""
    moved = []
    for one in damaged:
        batch, landing_id = one.folder.split("/")[-2:]
        plan = plan_quarantine(
            store, collection, "landing", f"{batch}-{landing_id}", one.folder, Verdict("corrupted", one.reason), run_id
        )
        if execute_quarantine(store, plan):
            moved.append(one)
    return moved


def name_of(one: DamagedLanding) -> str:
    """What a damaged landing is called: by its place below the results of its day."""
    return "/".join(one.folder.split("/")[-2:])
