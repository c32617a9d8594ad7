"""The steps and commands that are killed, each with what must have happened before it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import chromadb
import numpy as np
from crash_world import RUN_ID, World

from embedding_assets.errors import ObjectMissingError
from embedding_assets.pipeline import operations
from embedding_assets.pipeline.compacting import rebuild_snapshot
from embedding_assets.pipeline.healing import heal_cell
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, load_snapshot
from embedding_assets.vectorstore.delta import list_deltas
from embedding_assets.vectorstore.manifest import Manifest, load_manifest
from embedding_assets.vectorstore.publish import announce, place
from embedding_assets.vectorstore.quarantine import execute_quarantine, plan_quarantine
from embedding_assets.vectorstore.transfer import download_files
from embedding_assets.vectorstore.verification import Verdict

RECORDS = 4
Step = Callable[[World, ObjectStore], object]


@dataclass(frozen=True)
class Case:
    """One step or command: what must have happened before it, and what it does.

    Attributes:
        again: what an operator runs again after the crash; what the pipeline does by itself needs nobody.
        spends: it changes what the batch service holds, so that each point needs documents of its own.
        vanishes: a reader may find no snapshot while it is under way.
    """

    name: str
    prepare: Callable[[World], None]
    run: Step
    again: Step | None = None
    spends: bool = False
    vanishes: bool = False


def _submitted(world: World, first: int = 0, last: int = RECORDS) -> None:
    world.write_documents(first, last)
    world.submit(world.store)
    world.settle()


def _landed(world: World) -> None:
    _submitted(world)
    world.land(world.store)


def _deleted_request(world: World) -> None:
    """Landed, and what was asked is deleted; the log has it."""
    _landed(world)
    folder = layout.requests(world.spec.name)
    world.store.delete([item.key for item in world.store.walk(folder)])


def _built(world: World) -> None:
    _landed(world)
    world.build(world.store)


def _grown(world: World, times: int = 1) -> None:
    """A snapshot, and deltas that it lacks."""
    _built(world)
    world.compact(world.store)
    for turn in range(times):
        first = RECORDS + 2 * turn
        _submitted(world, first, first + 2)
        world.land(world.store)
        world.build(world.store)


def _two_versions(world: World) -> None:
    """Two versions, and a delta in each that the one before lacks."""
    _grown(world)
    world.names["older"] = _current(world).id
    world.compact(world.store)
    world.names["newer"] = _current(world).id


def _current(world: World) -> Manifest:
    commit = head(world.store, world.spec.name)
    assert commit is not None
    return load_snapshot(world.store, world.spec.name, commit)


def _newest_delta(world: World) -> Manifest:
    return load_manifest(world.store, list_deltas(world.store, world.spec.name)[-1].key)


def _damage(world: World, manifest: Manifest) -> None:
    """One byte of the largest file is another."""
    largest = max(manifest.files, key=lambda entry: entry.size)
    key = f"{manifest.folder}/{largest.path}"
    content = bytearray(world.store.get(key))
    content[len(content) // 2] ^= 1
    world.store.replace(key, bytes(content))


def _damaged_delta(world: World) -> None:
    _grown(world, times=2)
    world.names["delta"] = _newest_delta(world).id
    _damage(world, _newest_delta(world))


def _damaged_snapshot(world: World) -> None:
    _two_versions(world)
    _damage(world, _current(world))


def _damaged_only_snapshot(world: World) -> None:
    _grown(world)
    _damage(world, _current(world))


def _both_damaged(world: World) -> None:
    _damaged_delta(world)
    _damage(world, _current(world))


def _in_shards(world: World, shards: int, prepare: Callable[[World], None]) -> None:
    world.spec = world.spec.model_copy(update={"shards": shards})
    prepare(world)


def _divided(world: World, before: int, after: int) -> None:
    """Another number of shards is declared, and there is something to compact."""
    _in_shards(world, before, _grown)
    world.spec = world.spec.model_copy(update={"shards": after})


def _rolled_back(world: World) -> None:
    """To a version that lacks a delta whose mark is gone."""
    _two_versions(world)
    operations.rollback_snapshot(world.store, world.spec, world.names["older"], run_id=RUN_ID).execute()


def _garbage_in_the_log(world: World) -> None:
    _grown(world)
    world.store.replace(layout.commit_log(world.spec.name, 2), b"\xff{garbage")


def _heal_the_cell(world: World, store: ObjectStore) -> None:
    heal_cell(store, world.spec, world.day, run_id=RUN_ID, scratch=world.scratch())
    world.land(store)
    world.build(store)


def _legacy(world: World) -> None:
    _built(world)
    folder = world.folder / "legacy"
    ids = [f"old-{i}" for i in range(3)]
    vectors = np.random.default_rng(7).standard_normal((len(ids), world.spec.dimensions)).astype(np.float32)
    client = chromadb.PersistentClient(str(folder), settings=chromadb.Settings(anonymized_telemetry=False))
    made = client.create_collection(
        world.spec.name, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    made.add(ids=ids, embeddings=vectors, documents=[world.text(i) for i in ids])
    client.close()
    world.names["legacy"] = f"{world.spec.name}/delta/lines/3f2b8a52-9a0c-4ad5-8c57-6a7d8a1c9d10"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            world.store.replace(f"{world.names['legacy']}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    world.legacy = tuple(ids)


def _corrupted_legacy(world: World) -> None:
    _legacy(world)
    key = f"{world.names['legacy']}/chroma.sqlite3"
    data = world.store.get(key)
    world.store.replace(key, data[: len(data) // 2])
    world.legacy = ()


def _aside(world: World, kind: str) -> None:
    """Something whole was moved to the quarantine by mistake."""
    _two_versions(world)
    manifest = _newest_delta(world)
    world.names["delta"] = manifest.id
    plan = plan_quarantine(
        world.store, world.spec.name, "delta", manifest.id, manifest.folder, Verdict("corrupted", kind), RUN_ID
    )
    execute_quarantine(world.store, plan)


def _garbage(world: World) -> None:
    """What dead writers leave: an unfinished delta, landing and version, and a whole version that lost its race."""
    _two_versions(world)
    name, store = world.spec.name, world.store
    for folder in (
        layout.deltas(name, world.day, layout.new_id()),
        layout.results(name, world.day, "batch", layout.new_id()),
        layout.snapshots(name, layout.new_version(2)),
    ):
        for file in ("chroma.sqlite3", "accepted.parquet"):
            store.put_new(f"{folder}/{file}", b"left behind")
    lost = _current(world)
    files = world.scratch() / "files"
    download_files(store, lost, files)
    newer = Manifest(**{**vars(lost), "id": layout.new_version(2)})
    place(store, newer, files)
    announce(store, newer)


def _restore(world: World, store: ObjectStore) -> None:
    operations.restore(store, world.spec, "delta", world.names["delta"], force=False).execute()


def _restore_again(world: World, store: ObjectStore) -> None:
    with contextlib.suppress(ObjectMissingError):  # it was done
        _restore(world, store)


def _delete_snapshots(world: World, store: ObjectStore, *, timestamped: bool) -> operations.Planned:
    return operations.delete_snapshots(
        store, world.spec, timestamped=timestamped, run_id=RUN_ID, scratch=world.scratch()
    )


def _command(make: Callable[[World, ObjectStore], operations.Planned]) -> tuple[Step, Step]:
    """A command of `operations`, run and, after a crash, planned and run again."""

    def step(world: World, store: ObjectStore) -> None:
        make(world, store).execute()

    return step, step


CASES = [
    Case("embedding_requests", lambda world: world.write_documents(0, RECORDS), World.submit, spends=True),
    Case("embedding_requests, deleted ones", _deleted_request, World.submit),
    Case("batch_results", _submitted, World.land),
    Case("deltas", _landed, World.build),
    Case("snapshots, the first", _built, World.compact),
    Case("snapshots, the next", _grown, World.compact),
    Case("snapshots, of two shards", lambda world: _in_shards(world, 2, _grown), World.compact),
    Case("snapshots, two shards more", lambda world: _divided(world, 2, 4), World.compact),
    Case("snapshots, of one shard again", lambda world: _divided(world, 2, 1), World.compact),
    Case(
        "compaction, damaged shard",
        lambda world: _in_shards(world, 2, _damaged_snapshot),
        World.compact,
        again=World.compact,
    ),
    Case("compaction, after a rollback", _rolled_back, World.compact),
    Case("compaction, damaged delta", _damaged_delta, World.compact),
    Case("compaction, damaged snapshot", _damaged_snapshot, World.compact, again=World.compact),
    Case("compaction, no good snapshot", _damaged_only_snapshot, World.compact),
    Case("compaction, both damaged", _both_damaged, World.compact),
    Case("compaction, garbage in log", _garbage_in_the_log, World.compact),
    Case("cell run, damaged delta", _damaged_delta, _heal_the_cell),
    Case("adoption, valid", _legacy, World.compact),
    Case("adoption, corrupted", _corrupted_legacy, World.compact),
    Case(
        "snapshots delete",
        _two_versions,
        *_command(
            lambda w, s: operations.delete_snapshots(s, w.spec, timestamped=False, run_id=RUN_ID, scratch=w.scratch())
        ),
        vanishes=True,
    ),
    Case(
        "snapshots delete, timestamped",
        _two_versions,
        *_command(
            lambda w, s: operations.delete_snapshots(s, w.spec, timestamped=True, run_id=RUN_ID, scratch=w.scratch())
        ),
        vanishes=True,
    ),
    Case(
        "snapshots rollback",
        _two_versions,
        *_command(lambda w, s: operations.rollback_snapshot(s, w.spec, w.names["older"], run_id=RUN_ID)),
    ),
    Case(
        "snapshots rebuild",
        _two_versions,
        *_command(lambda w, s: rebuild_snapshot(s, w.spec, run_id=RUN_ID, scratch=w.scratch())),
    ),
    Case(
        "deltas delete",
        _damaged_delta,
        *_command(lambda w, s: operations.delete_deltas(s, w.spec, [w.names["delta"]], scratch=w.scratch())),
    ),
    Case(
        "deltas clean",
        _damaged_delta,
        *_command(
            lambda w, s: operations.clean_deltas(
                s,
                w.spec,
                layout.now() + timedelta(hours=1),
                corrupted_only=True,
                level="quick",
                scratch=w.scratch(),
            )
        ),
    ),
    Case("quarantine restore", lambda world: _aside(world, "by mistake"), _restore, _restore_again),
    Case(
        "quarantine purge",
        lambda world: _aside(world, "by mistake"),
        *_command(lambda w, s: operations.purge(s, w.spec, [w.names["delta"]], found_before=None)),
    ),
    Case("prune", _garbage, *_command(lambda w, s: operations.prune(s, w.spec, keep=1, grace=timedelta(0)))),
    Case(
        "repair, both damaged",
        _both_damaged,
        *_command(lambda w, s: operations.repair(s, w.spec, level="quick", run_id=RUN_ID, scratch=w.scratch())),
    ),
]
