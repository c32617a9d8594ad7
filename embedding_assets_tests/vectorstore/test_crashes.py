"""Every operation that changes the store is made to be the last one before the process dies; then it is run again.

Reading changes nothing, so that dying before a read is the same as dying before the next write. A deletion of many
objects counts as many operations.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.adopt import adopt_folders
from embedding_assets.vectorstore.commit import head, load_snapshot
from embedding_assets.vectorstore.compact import begin, finish
from embedding_assets.vectorstore.inventory import list_databases
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets.vectorstore.quarantine import (
    execute_quarantine,
    execute_restore,
    list_quarantine,
    plan_quarantine,
    plan_restore,
)
from embedding_assets.vectorstore.remove import execute_delete_deltas, plan_clean_deltas, plan_delete_deltas
from embedding_assets.vectorstore.shard import make_shard
from embedding_assets.vectorstore.snapshots import execute_delete_snapshots, plan_delete_snapshots
from embedding_assets.vectorstore.transfer import verify_files
from embedding_assets.vectorstore.verification import Verdict
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import (
    LEGACY,
    DyingStore,
    Killed,
    assert_whole,
    bring_up_to_date,
    copied,
    deliver,
    delta_ids,
    file_of,
    flip,
    heal,
    held,
    keys,
    legacy,
)

LATER = layout.now() + timedelta(days=400)


class Loop:
    """Runs something on a copy of a world, dying at every point in turn, and then again without dying."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.points = 0

    def over(
        self,
        world: ObjectStore,
        run: Callable[[ObjectStore], object],
        check: Callable[[ObjectStore], None],
        between: Callable[[ObjectStore], None] = lambda store: None,
    ) -> None:
        """`check` holds after the second run of `run`, `between` already after the first one died."""
        counting = DyingStore(copied(world, open_store("memory://")))
        run(counting)
        points = counting.done
        check(counting)
        for point in range(points):
            store = copied(world, open_store("memory://"))
            with pytest.raises(Killed):
                run(DyingStore(store, point))
            between(store)
            run(store)
            check(store)
        self.points += points
        print(f"{self.points} points of dying")
        assert points > 1


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


@pytest.fixture
def world() -> ObjectStore:
    return open_store("memory://")


def quarantined(store: ObjectStore) -> set[str]:
    return {entry.name for entry in list_quarantine(store, "lines") if entry.report}


def move(store: ObjectStore, manifest: Manifest) -> None:
    verdict = Verdict("corrupted", "a test says so")
    plan = plan_quarantine(store, "lines", manifest.kind, manifest.id, manifest.folder, verdict, "run")
    execute_quarantine(store, plan)


def test_compaction_that_heals_a_snapshot_and_a_delta(world: ObjectStore, tmp_path: Path, loop: Loop) -> None:
    deliver(world, tmp_path, "a", numbered(0, 3))
    first = bring_up_to_date(world, tmp_path)
    deliver(world, tmp_path, "b", numbered(2, 5), submitted=2000)
    second = bring_up_to_date(world, tmp_path)
    bad = deliver(world, tmp_path, "bad", numbered(5, 7))
    flip(world, file_of(second, "data_level0.bin"))
    flip(world, bad.key)
    expected = dict.fromkeys(numbered(0, 2), "a") | dict.fromkeys(numbered(2, 5), "b")

    def check(store: ObjectStore) -> None:
        assert held(store, tmp_path) == expected
        assert assert_whole(store).count == 5
        assert quarantined(store) == {second.id, bad.id}
        assert keys(store, second.folder) == keys(store, f"{bad.folder}/manifest.json") == []
        assert execute_prune(store, plan_prune(store, "lines", at=LATER)).failed == {}
        assert {key.split("/")[3] for key in keys(store, "lines/snapshot/timestamped")} == {first.id, head_of(store)}

    def old_or_new(store: ObjectStore) -> None:
        # Whatever moment it was, a reader sees the older whole version or the new one.
        with pytest.warns() if head_of(store) == second.id else _nothing():
            assert held(store, tmp_path) in (dict.fromkeys(numbered(0, 3), "a"), expected)

    loop.over(world, lambda store: heal(store, tmp_path), check, old_or_new)


def test_publishing_shards_that_are_made(world: ObjectStore, tmp_path: Path, loop: Loop) -> None:
    spec = SPEC.model_copy(update={"shards": 2})
    deliver(world, tmp_path, "a", numbered(0, 6))
    draft = begin(world, spec, run_id="test", scratch=tmp_path).draft
    assert draft is not None
    done = [make_shard(world, spec, draft, shard, scratch=tmp_path) for shard in range(2)]

    def whole(store: ObjectStore) -> None:
        assert assert_whole(store).count == 6
        assert keys(store, "lines/waiting") == []

    def all_or_nothing(store: ObjectStore) -> None:
        if head_of(store):
            assert load_snapshot(store, "lines", head(store, "lines")).count == 6  # type: ignore[arg-type]

    loop.over(world, lambda store: finish(store, draft, done), whole, all_or_nothing)


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def head_of(store: ObjectStore) -> str | None:
    commit = head(store, "lines")
    return commit.version if commit else None


def test_moving_aside_and_back(world: ObjectStore, tmp_path: Path, loop: Loop) -> None:
    manifest = deliver(world, tmp_path, "a", numbered(0, 3))
    before = {key: world.get(key) for key in keys(world, manifest.folder)}

    def found_in_one_place(store: ObjectStore) -> None:
        assert manifest.id in delta_ids(store) or manifest.id in quarantined(store)

    def away(store: ObjectStore) -> None:
        assert quarantined(store) == {manifest.id}
        assert delta_ids(store) == set()
        (entry,) = list_quarantine(store, "lines")
        assert entry.report is not None
        assert {file.original: store.get(file.key) for file in entry.report.files} == before

    loop.over(world, lambda store: move(store, manifest), away, found_in_one_place)
    move(world, manifest)

    def restore(store: ObjectStore) -> None:
        if quarantined(store):
            assert execute_restore(store, plan_restore(store, "lines", "delta", manifest.id))

    def back(store: ObjectStore) -> None:
        assert {key: store.get(key) for key in before} == before
        assert quarantined(store) == set()

    loop.over(world, restore, back, found_in_one_place)


def test_adopting_and_moving_aside_legacy_data(world: ObjectStore, tmp_path: Path, loop: Loop) -> None:
    legacy(world, tmp_path, LEGACY, numbered(0, 3))
    torn = LEGACY[:-1] + "9"
    legacy(world, tmp_path, torn, numbered(3, 5), how="torn")

    def adopt(store: ObjectStore) -> None:
        waiting = list_databases(store, "lines").waiting_legacy()
        adopt_folders(store, SPEC, waiting, run_id="test", scratch=tmp_path)

    def check(store: ObjectStore) -> None:
        assert quarantined(store) == {layout.legacy_name(torn)}
        assert keys(store, torn) == []
        assert f"{LEGACY}/chroma.sqlite3" in keys(store)
        assert len(delta_ids(store)) in (1, 2)  # adopted twice, where it died before it could say so: the same records
        assert list_databases(store, "lines").waiting_legacy() == []

    loop.over(world, adopt, check)
    bring_up_to_date(world, tmp_path)
    assert set(held(world, tmp_path)) == set(numbered(0, 3))


def test_deleting_by_hand_and_pruning(world: ObjectStore, tmp_path: Path, loop: Loop) -> None:
    a = deliver(world, tmp_path, "a", numbered(0, 3))
    bring_up_to_date(world, tmp_path)
    b = deliver(world, tmp_path, "b", numbered(3, 5))
    bring_up_to_date(world, tmp_path)
    flip(world, file_of(b, "chroma.sqlite3"))
    flip(world, f"{b.folder}/manifest.json")
    world.put_new(f"lines/delta/2026-03-04/{layout.new_id()}/chroma.sqlite3", b"half")

    def readable(store: ObjectStore) -> None:
        assert set(held(store, tmp_path)) == set(numbered(0, 5))
        assert_whole(store)

    def prune(store: ObjectStore) -> None:
        execute_prune(store, plan_prune(store, "lines", keep=1, at=LATER))

    def pruned(store: ObjectStore) -> None:
        readable(store)
        assert len({key.split("/")[3] for key in keys(store, "lines/snapshot/timestamped")}) == 1
        assert {key.split("/")[3] for key in keys(store, "lines/delta")} == {a.id, b.id}

    loop.over(world, prune, pruned, readable)

    def clean(store: ObjectStore) -> None:
        execute_delete_deltas(store, SPEC, plan_clean_deltas(store, SPEC, LATER, scratch=tmp_path), tmp_path)

    def cleaned(store: ObjectStore) -> None:
        readable(store)
        assert delta_ids(store) == {a.id}

    loop.over(world, clean, cleaned, readable)

    def delete(store: ObjectStore) -> None:
        execute_delete_deltas(store, SPEC, plan_delete_deltas(store, "lines", [a.id]), tmp_path)

    def deleted(store: ObjectStore) -> None:
        readable(store)
        assert delta_ids(store) == {b.id}

    def no_ruin(store: ObjectStore) -> None:
        readable(store)
        # A deletion that was broken off leaves no delta that claims to be one.
        if a.id in delta_ids(store):
            verify_files(store, a)

    loop.over(world, delete, deleted, no_ruin)

    def delete_snapshots(store: ObjectStore) -> None:
        execute_delete_snapshots(store, plan_delete_snapshots(store, "lines", timestamped=True), run_id="test")

    def none_left(store: ObjectStore) -> None:
        assert keys(store, layout.snapshots("lines")) == []
        assert not store.exists(layout.pointer("lines"))
        assert delta_ids(store) == {a.id, b.id}
        assert head(store, "lines") is None

    loop.over(world, delete_snapshots, none_left)


class Overtaken(DyingStore):
    """While our base is being read, a rival commits the next version and removes ours."""

    def __init__(self, store: ObjectStore, rival: Callable[[], None]) -> None:
        super().__init__(store)
        self.rival: Callable[[], None] | None = rival

    def download(self, key: str, path: Path) -> str:
        with self._lock:
            rival, self.rival = self.rival, None
            if rival:
                rival()
        return super().download(key, path)


def test_a_base_that_is_pruned_while_it_is_read_is_no_damage(world: ObjectStore, tmp_path: Path) -> None:
    deliver(world, tmp_path, "a", numbered(0, 3))
    bring_up_to_date(world, tmp_path)
    deliver(world, tmp_path, "b", numbered(3, 5))

    def rival() -> None:
        bring_up_to_date(world, tmp_path)
        # Of the old version one file is left, as if the pruning were still under way.
        done = plan_prune(world, "lines", keep=1, at=LATER)
        world.delete([key for one in done.garbage for key in one.folder.keys if not key.endswith("length.bin")])

    done = heal(Overtaken(world, rival), tmp_path)
    assert (done.damages, done.lost_races, done.merged) == ((), 1, None)
    assert quarantined(world) == set()
    assert assert_whole(world).count == 5


def test_healers_builders_and_pruners_at_once_lose_nothing(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    deliver(disk_or_s3, tmp_path, "a", numbered(0, 5))
    first = bring_up_to_date(disk_or_s3, tmp_path)
    bad = deliver(disk_or_s3, tmp_path, "bad", numbered(50, 55))
    flip(disk_or_s3, bad.key)
    flip(disk_or_s3, file_of(first, "data_level0.bin"))
    work = [tmp_path / f"w{number}" for number in range(3)]
    for folder in work:
        folder.mkdir()
    jobs: list[Callable[[], object]] = [
        lambda: heal(disk_or_s3, work[0]),
        lambda: heal(disk_or_s3, work[1]),
        lambda: deliver(disk_or_s3, work[2], "b", numbered(5, 9)),
        lambda: execute_prune(disk_or_s3, plan_prune(disk_or_s3, "lines", keep=1)),
    ]
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
    bring_up_to_date(disk_or_s3, tmp_path)
    assert held(disk_or_s3, tmp_path) == dict.fromkeys(numbered(0, 5), "a") | dict.fromkeys(numbered(5, 9), "b")
    assert_whole(disk_or_s3)
    assert quarantined(disk_or_s3) == {first.id, bad.id}
