"""The databases of the damage matrix: one of each kind to damage, and any number of whole ones."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from damages import MANIFEST, Files
from sample_databases import Setup, fill, fill_at_random

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import examine_in_child
from embedding_assets.chroma.spec import DatabaseSpec
from embedding_assets.records import RecordBatch
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.commit import Commit, head
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import DeltaRef, LandedBatch, build_delta
from embedding_assets.vectorstore.manifest import Manifest, describe_files, load_manifest
from embedding_assets.vectorstore.publish import announce, place

DAY = "2026-03-04"
# What it is, how many records, of which dimension, and for those that chromadb alone makes, how.
KINDS: dict[str, tuple[int, Setup]] = {
    "snapshot, 3,000 records": (3000, Setup(dimension=16)),
    "legacy, synced, 2,500 records": (2500, Setup("any_name", "cosine", 16, 100, 16)),
    "delta, 3,000 records": (3000, Setup(dimension=16)),
    "delta, 40 records": (40, Setup(dimension=8)),
    "delta, unsynced": (60, Setup(dimension=8, sync_threshold=100_000)),
    "delta, half synced": (150, Setup(dimension=8, space="l2", sync_threshold=60)),
    "snapshot, 40 records": (40, Setup(dimension=8)),
    "legacy, synced": (120, Setup("old", "cosine", 12, 5, 8)),
    "legacy, half synced": (150, Setup("old", "cosine", 12, 60, 8)),
    "legacy, unsynced": (60, Setup("old", "l2", 12, 100_000)),
}


@dataclass(frozen=True)
class Subject:
    """A database in a store in a folder, and what the damages need beside it."""

    kind: str
    home: Path
    store: ObjectStore
    what: DeltaRef | Commit | str
    spec: CollectionSpec
    folder: Path
    manifest: Manifest | None = None
    other_manifest: Manifest | None = None
    sibling: Files = field(default_factory=dict)
    older: Files = field(default_factory=dict)
    files: Files = field(default_factory=dict)


def make_subject(kind: str, home: Path) -> Subject:
    """A database of this kind, a sibling, and where it can be had an older state of itself."""
    count, setup = KINDS[kind]
    (home / "scratch").mkdir(parents=True)
    store = open_store(f"file://{home}/store")
    if kind.startswith("legacy"):
        return _legacy(kind, home, store, setup, count)
    spec = CollectionSpec(name="lines", model="test-model", dimensions=setup.dimension, distance=setup.space)  # type: ignore[arg-type]
    if "synced" in kind:
        return _handmade(kind, home, store, spec, setup, count)
    first = _deliver(store, spec, home, "a", count, 1)
    if kind.startswith("delta"):
        second = _deliver(store, spec, home, "b", count, 2)
        return _subject(kind, home, store, DeltaRef(first.id, DAY, spec.name), spec, first, second, {})
    older = _compact(store, spec, home)
    old_files = {**read_files(home / "store" / older.folder)}
    _deliver(store, spec, home, "c", count // 2, 3)
    newest = _compact(store, spec, home)
    commit = head(store, spec.name)
    assert commit is not None
    # An index that was copied from the older version, under the names of the newer.
    aligned = _under_names_of(read_files(home / "store" / newest.folder), old_files)
    return _subject(kind, home, store, commit, spec, newest, older, aligned)


def _deliver(store: ObjectStore, spec: CollectionSpec, home: Path, batch: str, count: int, seed: int) -> Manifest:
    rng = np.random.default_rng(seed)
    ids = [f"{batch}-{i}" for i in range(count)]
    records = RecordBatch(
        ids,
        rng.normal(size=(count, spec.dimensions)).astype(np.float32),
        [f"text of {i}, {rng.integers(10**9)}" for i in ids],
        [{"n": n, "x": n / 8, "t": i, "b": n % 2 == 0} for n, i in enumerate(ids)],
    )
    path = home / f"{batch}.parquet"
    pq.write_table(records.to_arrow(), path)
    landed = LandedBatch(batch, 1000 + seed, f"landing-{batch}", count, path)
    return build_delta(store, spec, DAY, [landed], run_id="matrix", scratch=home / "scratch")


def _compact(store: ObjectStore, spec: CollectionSpec, home: Path) -> Manifest:
    done = compact(store, spec, run_id="matrix", scratch=home / "scratch")
    assert done is not None
    return done.manifest


def _legacy(kind: str, home: Path, store: ObjectStore, setup: Setup, count: int) -> Subject:
    tail = 20 if "half" in kind else 0
    prefix = "lines/delta/lines/receipt_lines/one"
    folder = home / "store" / prefix
    folder.parent.mkdir(parents=True)
    fill(folder, setup, count=count, seed=1, deleted=0 if "unsynced" in kind else 3)
    older = read_files(folder)
    fill_more(folder, setup, tail or count // 3)
    fill(home / "sibling", setup, count=count - 9, seed=2, tail=tail)
    spec = CollectionSpec(name="lines", model="test-model", dimensions=setup.dimension, distance=setup.space)  # type: ignore[arg-type]
    return Subject(
        kind, home, store, prefix, spec, folder,
        sibling=read_files(home / "sibling"), older=older, files=read_files(folder),
    )  # fmt: skip


def fill_more(folder: Path, setup: Setup, count: int) -> None:
    """Go on writing to a database that `fill` made."""
    fill(folder, setup, count=count, seed=77)


def _handmade(kind: str, home: Path, store: ObjectStore, spec: CollectionSpec, setup: Setup, count: int) -> Subject:
    manifests = []
    older: Files = {}
    for seed in (1, 2):
        folder = home / f"made-{seed}"
        fill(folder, setup, count=count, seed=seed)
        if seed == 1:
            older = read_files(folder)
        fill_more(folder, setup, 20 if "half" in kind else 8)
        manifests.append(publish_made(store, spec, folder))
    ref = DeltaRef(manifests[0].id, DAY, spec.name)
    return _subject(kind, home, store, ref, spec, manifests[0], manifests[1], older)


def publish_made(store: ObjectStore, spec: CollectionSpec, folder: Path) -> Manifest:
    """Publish a folder as a delta."""
    copy = folder.with_name(folder.name + "-copy")
    shutil.copytree(folder, copy)
    database = DatabaseSpec(spec.name, spec.dimensions, spec.distance)
    report = examine_in_child(copy, database, records=1000, subject=str(folder))
    assert not report.problems, report.problems
    manifest = Manifest(
        kind="delta", id=layout.new_id(), collection=spec.name, model=spec.model, dimension=spec.dimensions,
        distance=spec.distance, count=report.count, digest=report.digest, files=describe_files(folder),
        created_at=layout.now().isoformat(), run_id="matrix", chromadb_version="1.5.9", day=DAY,
    )  # fmt: skip
    place(store, manifest, folder)
    announce(store, manifest)
    return manifest


def _subject(
    kind: str,
    home: Path,
    store: ObjectStore,
    what: DeltaRef | Commit,
    spec: CollectionSpec,
    manifest: Manifest,
    other: Manifest,
    older: Files,
) -> Subject:
    folder = home / "store" / manifest.folder
    assert load_manifest(store, manifest.key) == manifest
    return Subject(
        kind, home, store, what, spec, folder, manifest, other,
        sibling=read_files(home / "store" / other.folder), older=older, files=read_files(folder),
    )  # fmt: skip


def _under_names_of(files: Files, old: Files) -> Files:
    """Old files by the paths that the files of the same name have now."""
    by_name = {path.rpartition("/")[2]: content for path, content in old.items()}
    return {path: by_name[name] for path in files if (name := path.rpartition("/")[2]) in by_name and name != MANIFEST}


def read_files(folder: Path) -> Files:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def healthy(seed: int, home: Path) -> Subject:
    """A whole database as odd as chromadb makes them; every third with a manifest."""
    (home / "scratch").mkdir(parents=True)
    store = open_store(f"file://{home}/store")
    folder = home / "store" / "lines/delta/legacy" if seed % 3 else home / "made"
    folder.parent.mkdir(parents=True, exist_ok=True)
    setup = fill_at_random(folder, seed)
    name = setup.name if seed % 3 == 0 else "lines"
    spec = CollectionSpec(name=name, model="test-model", dimensions=setup.dimension, distance=setup.space)  # type: ignore[arg-type]
    if seed % 3:
        return Subject(f"legacy {setup}", home, store, "lines/delta/legacy", spec, folder)
    manifest = publish_made(store, spec, folder)
    return Subject(f"delta {setup}", home, store, DeltaRef(manifest.id, DAY, name), spec, folder, manifest)
