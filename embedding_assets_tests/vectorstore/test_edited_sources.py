"""Deltas and snapshots that were edited so that every checksum of a file fits: the next compaction alone finds them."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedding_assets.chroma.api import opened, seal
from embedding_assets.chroma.read import read_records
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.upkeep import UNMERGED, check_collection
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.cache import fetch_current
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import list_deltas
from embedding_assets.vectorstore.manifest import Manifest, describe_files, load_manifest
from embedding_assets.vectorstore.transfer import download_files
from embedding_assets_tests.forging import forge
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import bring_up_to_date, copied, deliver, keys

Edit = Callable[[Path], None]


def in_the_log(statement: str, *values: object) -> Edit:
    """An edit of a database that is a log and nothing else."""

    def edit(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "chroma.sqlite3")) as database, database:
            assert database.execute(statement, values).rowcount > 0

    return edit


def swap_in_the_log(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as database, database:
        (one, first), (two, second) = database.execute("SELECT seq_id, id FROM embeddings_queue LIMIT 2").fetchall()
        database.execute("UPDATE embeddings_queue SET id = ? WHERE seq_id = ?", (second, one))
        database.execute("UPDATE embeddings_queue SET id = ? WHERE seq_id = ?", (first, two))


def trigger(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as database, database:
        database.execute("CREATE TRIGGER more AFTER INSERT ON acquire_write BEGIN DELETE FROM embeddings; END")


VECTOR = np.arange(1, 9, dtype="<f4").tobytes()
FIRST = "seq_id = (SELECT min(seq_id) FROM embeddings_queue)"
LOG_EDITS: dict[str, Edit] = {
    "text": in_the_log(
        f"UPDATE embeddings_queue SET metadata = json_set(metadata, '$.\"chroma:document\"', 'forged') WHERE {FIRST}"
    ),
    "metadata": in_the_log(f"UPDATE embeddings_queue SET metadata = json_set(metadata, '$.n', 77) WHERE {FIRST}"),
    "vector": in_the_log(f"UPDATE embeddings_queue SET vector = ? WHERE {FIRST}", VECTOR),
    "ids swapped": swap_in_the_log,
    "row dropped": in_the_log(f"DELETE FROM embeddings_queue WHERE {FIRST}"),
    "all rows dropped": in_the_log("DELETE FROM embeddings_queue"),
    "trigger": trigger,
    "row added": in_the_log(
        "INSERT INTO embeddings_queue SELECT max(seq_id) + 1, created_at, operation, topic, 'extra', vector, encoding, "
        "metadata FROM embeddings_queue"
    ),
}


def through_chromadb(change: Callable[[Any], None]) -> Edit:
    """An edit as a program makes it; the index holds it, too."""

    def edit(folder: Path) -> None:
        with opened(folder) as client:
            change(client.get_collection("lines", embedding_function=None))
        seal(folder, "lines")

    return edit


def forge_text(handle: Any) -> None:
    got = handle.get(ids=["id-00000"], include=["embeddings"])
    handle.update(ids=got["ids"], embeddings=got["embeddings"], documents=["forged"])


def swap(handle: Any) -> None:
    got = handle.get(ids=["id-00000", "id-00001"], include=["embeddings", "documents"])
    handle.update(ids=got["ids"], embeddings=got["embeddings"][::-1], documents=got["documents"][::-1])


BASE_EDITS: dict[str, Edit] = {
    "text": through_chromadb(forge_text),
    "vector": through_chromadb(lambda handle: handle.update(ids=["id-00000"], embeddings=[[1.0] * 8])),
    "ids swapped": through_chromadb(swap),
    "trigger": trigger,
    "row dropped": through_chromadb(lambda handle: handle.delete(ids=["id-00000"])),
}


def put_edited(store: ObjectStore, manifest: Manifest, edit: Edit, folder: Path) -> Manifest:
    """Edit a database in the store, and write a manifest to match, but for the digest of its records."""
    download_files(store, manifest, folder)
    edit(folder)
    held = manifest.count if edit is trigger else sum(len(batch) for batch in read_records(folder))
    forged = replace(manifest, files=describe_files(folder), count=held)
    store.delete([f"{manifest.folder}/{entry.path}" for entry in manifest.files])
    for entry in forged.files:
        store.replace(f"{forged.folder}/{entry.path}", (folder / entry.path).read_bytes())
    store.replace(forged.key, forged.to_bytes())
    shutil.rmtree(folder)
    return forged


Served = dict[str, tuple[str, tuple[float, ...]]]


def served(store: ObjectStore, folder: Path) -> Served:
    """Id -> text and vector, as a reader with an empty cache gets them; an index may change the last digits."""
    fetched = fetch_current(store, "lines", folder / f"cache-{layout.new_id()}")
    assert fetched is not None
    found = {}
    for part in fetched.manifest.databases:
        for batch in read_records(fetched.folder / part.shard):
            for row, record_id in enumerate(batch.ids):
                vector = tuple(round(float(one), 4) + 0.0 for one in batch.embeddings[row])
                found[record_id] = (batch.documents[row], vector)
    fetched.close()
    return found


@dataclass(frozen=True)
class World:
    """A store with a snapshot of one delta, and another delta; and what its snapshot is to hold in the end."""

    store: ObjectStore
    base: Manifest
    delta: Manifest
    wanted: Served


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Not to be changed."""
    store, folder = open_store("memory://"), tmp_path_factory.mktemp("world")
    deliver(store, folder, "a", numbered(0, 8))
    base = bring_up_to_date(store, folder)
    delta = deliver(store, folder, "b", numbered(8, 12), submitted=2000)
    whole = copied(store, open_store("memory://"))
    bring_up_to_date(whole, folder)
    return World(store, base, delta, served(whole, folder))


@pytest.fixture
def world(made: World) -> World:
    """One to be damaged."""
    return replace(made, store=copied(made.store, open_store("memory://")))


def compacted(store: ObjectStore, folder: Path, shards: int = 1) -> list[str]:
    """Compact; the names of what was moved aside."""
    spec = SPEC.model_copy(update={"shards": shards})
    done = compact(store, spec, run_id="test", scratch=folder)
    assert done is not None
    return list(dict.fromkeys(damage.name for damage in done.damages))


def assert_healed(world: World, folder: Path, shards: int = 1) -> None:
    """Once the delta's batch is polled again, everything is there, and as it was."""
    deliver(world.store, folder, "b", numbered(8, 12), submitted=2000)
    assert compacted(world.store, folder, shards) == []
    assert served(world.store, folder) == world.wanted


@pytest.mark.parametrize("edit", LOG_EDITS)
def test_an_edited_delta_is_moved_aside_by_the_compaction_that_reads_it(
    world: World, tmp_path: Path, edit: str
) -> None:
    put_edited(world.store, world.delta, LOG_EDITS[edit], tmp_path / "edited")
    assert compacted(world.store, tmp_path) == [world.delta.id]
    assert served(world.store, tmp_path) == {one: world.wanted[one] for one in numbered(0, 8)}


@pytest.mark.parametrize(("edit", "shards"), [("text", 2), ("row dropped", 2), ("all rows dropped", 1)])
def test_an_edited_delta_starts_no_snapshot_either(world: World, tmp_path: Path, edit: str, shards: int) -> None:
    world.store.delete(keys(world.store, "lines/snapshot"))
    put_edited(world.store, world.delta, LOG_EDITS[edit], tmp_path / "edited")
    assert compacted(world.store, tmp_path, shards) == [world.delta.id]
    assert_healed(world, tmp_path, shards)


def test_a_delta_whose_only_fault_is_its_count_is_moved_aside(world: World, tmp_path: Path) -> None:
    forge(world.store, world.delta.key, count=3)
    assert compacted(world.store, tmp_path) == [world.delta.id]
    assert_healed(world, tmp_path)


@pytest.mark.parametrize("edit", ["text", "row dropped"])
def test_an_edited_snapshot_is_noticed_by_its_entry_in_the_log(world: World, tmp_path: Path, edit: str) -> None:
    put_edited(world.store, world.base, BASE_EDITS[edit], tmp_path / "edited")
    assert compacted(world.store, tmp_path) == [world.base.id]
    assert served(world.store, tmp_path) == world.wanted


@pytest.mark.parametrize(("edit", "shards"), [*((edit, 1) for edit in BASE_EDITS), ("row dropped", 2)])
def test_an_edited_snapshot_whose_entry_in_the_log_is_lost_is_read_whole(
    world: World, tmp_path: Path, edit: str, shards: int
) -> None:
    put_edited(world.store, world.base, BASE_EDITS[edit], tmp_path / "edited")
    world.store.replace(layout.commit_log("lines", 1), b"garbage")
    assert compacted(world.store, tmp_path, shards) == [world.base.id]
    assert served(world.store, tmp_path) == world.wanted


def test_a_trigger_in_a_snapshot_is_never_run_whatever_fits(world: World, tmp_path: Path) -> None:
    forged = put_edited(world.store, world.base, trigger, tmp_path / "edited")
    sha256 = hashlib.sha256(forged.to_bytes()).hexdigest()
    forge(world.store, layout.commit_log("lines", 1), manifest_sha256=sha256)
    assert compacted(world.store, tmp_path) == [world.base.id]
    assert served(world.store, tmp_path) == world.wanted


def test_a_whole_snapshot_whose_entry_in_the_log_is_lost_is_gone_on_with(world: World, tmp_path: Path) -> None:
    world.store.replace(layout.commit_log("lines", 1), b"garbage")
    done = compact(world.store, SPEC, run_id="test", scratch=tmp_path)
    assert done is not None
    assert (done.base, done.damages) == (world.base.id, ())
    assert served(world.store, tmp_path) == world.wanted


def damaged(store: ObjectStore, folder: Path) -> set[str]:
    """What a full check says of the databases; nothing here was asked for, so that it says more of the books."""
    rows = check_collection(store, SPEC, "full", folder).rows
    kinds = ("delta", "snapshot", UNMERGED)
    return {str(row["name"]) for row in rows if row.get("verdict") == "corrupted" and row["kind"] in kinds}


@pytest.mark.parametrize("edit", ["text", "trigger"])
@pytest.mark.parametrize("what", ["a delta that waits", "a delta that is merged", "the snapshot"])
def test_a_full_check_names_what_was_edited_and_repair_loses_nothing(
    world: World, tmp_path: Path, edit: str, what: str
) -> None:
    store, base = world.store, world.base
    (merged,) = (ref.key for ref in list_deltas(store, "lines") if ref.id in base.deltas)
    chosen = {"a delta that waits": world.delta, "the snapshot": base}.get(what) or load_manifest(store, merged)
    forged = put_edited(store, chosen, (BASE_EDITS if chosen is base else LOG_EDITS)[edit], tmp_path / "edited")
    if chosen is base:
        sha256 = hashlib.sha256(forged.to_bytes()).hexdigest()
        forge(store, layout.commit_log("lines", 1), manifest_sha256=sha256)
    assert damaged(store, tmp_path) == {chosen.id}
    repair(store, SPEC, level="full", run_id="test", scratch=tmp_path).execute()
    assert damaged(store, tmp_path) == set()
    if what == "a delta that waits":
        assert_healed(world, tmp_path)
    assert served(store, tmp_path) == world.wanted
