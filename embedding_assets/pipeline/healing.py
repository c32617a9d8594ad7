"""Looks at a cell's deltas and moves aside what is corrupted, so that its batches are polled and built again."""

from __future__ import annotations

from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import StoreError
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.damage import Damage, move_aside
from embedding_assets.vectorstore.delta import list_deltas
from embedding_assets.vectorstore.verification import Level
from embedding_assets.vectorstore.verify import verify


def heal_cell(
    store: ObjectStore, spec: CollectionSpec, day: str, *, run_id: str, scratch: Path, level: Level = "quick"
) -> list[Damage]:
    """Verify every delta of a cell and move the corrupted ones to the quarantine: their batches are pending again.

    Returns:
        What was moved aside, and why.

    Raises:
        StoreError: the store did not answer, or refuses; nothing was moved.
    """
    damages = []
    for ref in list_deltas(store, spec.name, day):
        found = verify(store, ref, spec, level=level, scratch=scratch)
        if isinstance(found.cause, StoreError):
            raise found.cause
        # One that went away since it was listed was deleted or moved aside by somebody else.
        if found.verdict.kind == "corrupted" and store.exists(ref.key):
            damages.append(Damage("delta", ref.id, found.folder, found.verdict.reason))
    return move_aside(store, spec.name, damages, 0, run_id)
