"""Upkeep of what is on this machine, and in no store: scratch folders and readers' copies."""

from __future__ import annotations

from pathlib import Path

from embedding_assets.pipeline.findings import Findings, Planned, Row
from embedding_assets.scratch import dead_folders, remove_dead
from embedding_assets.vectorstore.cache import working_places

HERE = "this machine"  # in the place of a collection


def prune_scratch(cache_folder: Path | None) -> Planned:
    """Remove the scratch folders and, if there is a cache, the readers' copies that killed processes left here."""
    places = (None, *(working_places(cache_folder) if cache_folder else ()))
    rows: tuple[Row, ...] = tuple(
        {
            "action": "delete",
            "name": str(dead.path),
            "kind": "scratch folder",
            "reason": "its process has ended",
            "bytes": dead.size,
        }
        for place in places
        for dead in dead_folders(place)
    )

    def execute() -> Findings:
        removed = [dead for place in places for dead in remove_dead(place)]
        summary = f"{len(removed)} removed, {sum(dead.size for dead in removed)} bytes"
        return Findings(HERE, rows, summary)

    return Planned(HERE, rows, execute)
