"""The demo's second part: damages that opening a database does not notice, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.catalog import CollectionSpec, load_catalog
from embedding_assets.chroma import api as chroma_api
from embedding_assets.cli.demo_run import DemoDagster, land_all
from embedding_assets.cli.shown import show_findings
from embedding_assets.cli.status import status_table
from embedding_assets.cli.terminal import Terminal
from embedding_assets.errors import ConfigurationError, CorruptedError
from embedding_assets.orchestration.assemble import resources_of
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.pipeline.proofs import prove_snapshot
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.upkeep import check_collection, list_quarantined
from embedding_assets.scratch import ScratchFolder
from embedding_assets.settings import load_settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.commit import head, load_snapshot
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets.vectorstore.manifest import Manifest

_COLLECTION = "lines"


def run_damage(console: Terminal, documents: Path) -> None:
    """Damage a delta and the current snapshot, find it, let a new batch come, and prove that every id is there."""
    settings = load_settings()
    catalog = load_catalog(settings.collections_file)
    spec = catalog.get(_COLLECTION)
    store, api = open_store(settings.store_url, settings.s3), EmbeddingApi(settings.api)
    dagster = DemoDagster(catalog, resources_of(settings), console)

    console.rule("1. A delta and the current snapshot are damaged")
    delta, snapshot = _newest(store, spec)
    _damage(store, delta, "chroma.sqlite3", _without_a_part_of_a_vector)
    console.print(f"delta {delta.id}: 64 bytes of a vector in chroma.sqlite3 are zeroed")
    _damage(store, snapshot, "data_level0.bin", lambda content: content[:5000] + b"\x00" * 64 + content[5064:])
    console.print(f"snapshot {snapshot.id}: 64 bytes of data_level0.bin are zeroed")

    console.rule("2. Opening them with chromadb notices nothing")
    for manifest in (delta, snapshot):
        console.print(f"{manifest.kind} {manifest.id}: opens, count() says {_count(store, manifest)}")

    console.rule("3. `embedding-assets check` does")
    with ScratchFolder("demo") as scratch:
        show_findings(console, check_collection(store, spec, "quick", scratch))

    console.rule("4. A new document arrives, and the pipeline runs as always")
    _write_document(documents)
    today = str(layout.now().date())
    dagster.run(CELL_JOB, cell_key(spec.name, today), ["embedding_requests"], ["submitted_records"])
    # The damaged delta heals in its own cell, which is another day's where the demo ran before midnight.
    for day in sorted({today, str(delta.day)}):
        dagster.run(
            CELL_JOB,
            cell_key(spec.name, day),
            ["batch_results", "deltas"],
            ["submitted_records", "quarantined_deltas", "built_deltas"],
        )
    land_all(api, store, catalog, dagster, console)
    dagster.run(COMPACTION_JOB, spec.name, ["snapshots"], ["records", "merged_deltas", "quarantined"])

    console.rule("5. What was damaged lies in the quarantine; what it held is healed")
    show_findings(console, list_quarantined(store, spec))
    with ScratchFolder("demo") as scratch:
        proof = prove_snapshot(store, spec, scratch)
    if proof.problems or proof.lost or proof.waiting:
        problems = [*proof.problems, *([f"{len(proof.lost)} ids are lost"] if proof.lost else [])]
        problems += [f"{proof.waiting} of {proof.accepted} ids wait for a compaction"] if proof.waiting else []
        raise CorruptedError(f"collection {spec.name}", f"is not healed: {'; '.join(problems)}", "Please report this.")
    console.print(status_table([collection_status(store, spec)]))
    console.print(
        f"[bold green]Healed[/]: all {proof.accepted} accepted ids are in the snapshot, each as its batch returned it."
    )


def _newest(store: ObjectStore, spec: CollectionSpec) -> tuple[Manifest, Manifest]:
    deltas = load_deltas(store, list_deltas(store, spec.name))
    commit = head(store, spec.name)
    if not deltas or commit is None or commit.version is None:
        raise ConfigurationError("the demo", "has no delta and snapshot yet", "Run `embedding-assets demo` first.")
    return max(deltas, key=lambda manifest: manifest.count), load_snapshot(store, spec.name, commit)


def _damage(store: ObjectStore, manifest: Manifest, name: str, change: Callable[[bytes], bytes]) -> None:
    key = next(f"{manifest.folder}/{entry.path}" for entry in manifest.files if entry.path.endswith(name))
    store.replace(key, change(store.get(key)))


def _without_a_part_of_a_vector(content: bytes) -> bytes:
    """In a row of the log a vector stands before the name of its encoding."""
    start = content.rindex(b"FLOAT32") - 512
    return content[:start] + bytes(64) + content[start + 64 :]


def _count(store: ObjectStore, manifest: Manifest) -> int:
    """What the check by hand of former days did: download, open, count."""
    with ScratchFolder("demo") as folder:
        for entry in manifest.files:
            store.download(f"{manifest.folder}/{entry.path}", folder / entry.path)
        with chroma_api.opened(folder) as client:
            return int(client.get_collection(manifest.collection, embedding_function=None).count())


def _write_document(documents: Path) -> None:
    made = layout.new_id()
    with (documents / f"{_COLLECTION}-{made}.jsonl").open("w") as file:
        file.write(json.dumps({"id": f"late#{made}", "text": "a line that arrived late", "metadata": {}}) + "\n")
