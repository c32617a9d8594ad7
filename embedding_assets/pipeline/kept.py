"""Damage to what nothing reads: manifests of committed shards, and the quarantine. It stops nothing, and is named."""

from __future__ import annotations

from collections.abc import Iterator

from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.pipeline.findings import Row
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.inventory import Inventory
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets.vectorstore.transfer import at_once


def kept_rows(store: ObjectStore, collection: str, inventory: Inventory) -> list[Row]:
    """What is damaged of the shards' own manifests, and of the quarantine, each with what it means.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    keys = [f"{one.prefix}/{layout.MANIFEST}" for one in inventory.snapshots]
    parts = [part for some in at_once(lambda key: _shards(store, key), keys) for part in some]
    flaws = at_once(lambda part: _flaw(store, part), parts)
    rows: list[Row] = [
        {"kind": "shard manifest", "name": part.key, "state": f"{flaw}; the version's own manifest says the same"}
        for part, flaw in zip(parts, flaws, strict=True)
        if flaw
    ]
    return rows + [
        {"kind": "quarantine", "name": key, "state": f"{flaw}; nothing that runs reads it"}
        for key, flaw in _quarantine_flaws(store, collection)
    ]


def _shards(store: ObjectStore, key: str) -> tuple[Manifest, ...]:
    try:
        manifest = load_manifest(store, key)
    except (CorruptedError, ObjectMissingError):  # which its verification says
        return ()
    return manifest.databases if manifest.shards else ()


def _flaw(store: ObjectStore, part: Manifest) -> str:
    try:
        found = load_manifest(store, part.key)
    except CorruptedError as error:
        return f"damaged: {error.reason}"
    except ObjectMissingError:
        return "it is gone from the store"
    said = [(one.id, one.shard, one.vectors, one.count, one.digest, one.files) for one in (found, part)]
    return "" if said[0] == said[1] else "damaged: it is not what the version's manifest says of this shard"


def _quarantine_flaws(store: ObjectStore, collection: str) -> Iterator[tuple[str, str]]:
    """The reports that cannot be read, and the files that are not as their report says, each with the reason."""
    for entry in list_quarantine(store, collection):
        sizes = {item.key: item.size for item in entry.objects}
        report = f"{entry.prefix}/{layout.REPORT}"
        if entry.report is None and report in sizes:
            yield report, "damaged: it is no report of this entry"
        for file in entry.report.files if entry.report else ():
            if file.key not in sizes:
                yield file.key, "it is gone from the store"
            elif sizes[file.key] != file.size:
                yield file.key, f"damaged: it has {sizes[file.key]} bytes of {file.size}"
