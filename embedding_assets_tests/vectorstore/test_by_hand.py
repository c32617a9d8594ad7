"""What an operator does by hand: each step planned first, changing nothing, then carried out."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from embedding_assets.errors import CommitConflictError, CorruptedError, ObjectMissingError, StoreUnavailableError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.inventory import take_inventory
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.planning import plan_compaction
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets.vectorstore.quarantine import (
    execute_purge,
    execute_quarantine,
    execute_restore,
    list_quarantine,
    plan_purge,
    plan_quarantine,
    plan_restore,
)
from embedding_assets.vectorstore.remove import execute_delete_deltas, plan_clean_deltas, plan_delete_deltas
from embedding_assets.vectorstore.snapshots import (
    execute_delete_snapshots,
    execute_rollback,
    plan_delete_snapshots,
    plan_rollback,
)
from embedding_assets.vectorstore.verification import Verdict
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import (
    LATEST,
    LEGACY,
    DyingStore,
    assert_whole,
    bring_up_to_date,
    deliver,
    delta_ids,
    file_of,
    flip,
    heal,
    held,
    keys,
    legacy,
    read,
)

LATER = layout.now() + timedelta(days=400)


def objects(store: ObjectStore, prefix: str = "") -> dict[str, bytes]:
    return {item.key: store.get(item.key) for item in store.walk(prefix)}


def quarantine(store: ObjectStore, manifest: Manifest, reason: str = "a test says so") -> None:
    plan = plan_quarantine(
        store, "lines", manifest.kind, manifest.id, manifest.folder, Verdict("corrupted", reason), "run-1"
    )
    assert execute_quarantine(store, plan) is not None


def two_versions(store: ObjectStore, folder: Path) -> tuple[Manifest, Manifest]:
    deliver(store, folder, "a", numbered(0, 5))
    first = bring_up_to_date(store, folder)
    deliver(store, folder, "b", numbered(5, 9), submitted=2000)
    return first, bring_up_to_date(store, folder)


def test_an_inventory_puts_every_object_in_its_place(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    manifest = deliver(disk_or_s3, tmp_path, "a", numbered(0, 5))
    snapshot = bring_up_to_date(disk_or_s3, tmp_path)
    unfinished = f"lines/delta/2026-03-04/{layout.new_id()}"
    disk_or_s3.put_new(f"{unfinished}/chroma.sqlite3", b"half")
    disk_or_s3.put_new(f"{layout.snapshots('lines', layout.new_version(2))}/chroma.sqlite3", b"half")
    legacy(disk_or_s3, tmp_path, LEGACY, numbered(0, 3))
    disk_or_s3.put_new(f"{LATEST}/chroma.sqlite3", b"old")
    disk_or_s3.put_new("lines/snapshot/timestamped/20200101/x/data_level0.bin", b"a ruin")
    disk_or_s3.put_new("lines/delta/readme.txt", b"?")
    disk_or_s3.put_new("lines/requests/.write-check-1", b"?")
    disk_or_s3.put_new(f"lines/results/2026-03-04/b/{layout.new_id()}/records.parquet", b"half")
    found = take_inventory(disk_or_s3, "lines")
    assert [(d.name, d.day, d.size) for d in found.deltas] == [
        (manifest.id, manifest.day, manifest.size + len(manifest.to_bytes()))
    ]
    assert [d.prefix for d in found.unfinished_deltas] == [unfinished]
    assert [d.prefix for d in found.legacy_deltas] == [LEGACY]
    assert [d.name for d in found.snapshots] == [snapshot.id]
    assert len(found.unfinished_snapshots) == 1
    assert [d.prefix for d in found.legacy_snapshots] == [LATEST, "lines/snapshot/timestamped/20200101"]
    assert [item.key for item in found.commits] == [layout.commit_log("lines", 1)]
    assert found.pointer is not None
    assert len(found.unfinished_landings) == 1
    assert [item.key for item in found.strays] == ["lines/delta/readme.txt", "lines/requests/.write-check-1"]


def test_only_what_is_corrupted_is_moved_aside(folder_store: ObjectStore, tmp_path: Path) -> None:
    manifest = deliver(folder_store, tmp_path, "a", numbered(0, 5))
    for kind in ("valid", "unknown"):
        with pytest.raises(ValueError, match="stays where it is"):
            plan_quarantine(
                folder_store,
                "lines",
                "delta",
                manifest.id,
                manifest.folder,
                Verdict(kind, "x"),
                "r",  # type: ignore[arg-type]
            )


def test_what_was_moved_aside_comes_back_as_it_was(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    manifest = deliver(disk_or_s3, tmp_path, "a", numbered(0, 5))
    before = objects(disk_or_s3)
    quarantine(disk_or_s3, manifest)
    assert delta_ids(disk_or_s3) == set()
    plan = plan_restore(disk_or_s3, "lines", "delta", manifest.id)
    assert plan.verdict.kind == "valid"
    assert execute_restore(disk_or_s3, plan)
    assert objects(disk_or_s3) == before
    with pytest.raises(ObjectMissingError, match="quarantine"):
        plan_restore(disk_or_s3, "lines", "delta", manifest.id)


def test_what_is_corrupted_comes_back_by_force_only(folder_store: ObjectStore, tmp_path: Path) -> None:
    manifest = deliver(folder_store, tmp_path, "a", numbered(0, 5))
    flip(folder_store, file_of(manifest, "chroma.sqlite3"))
    quarantine(folder_store, manifest)
    plan = plan_restore(folder_store, "lines", "delta", manifest.id)
    assert plan.verdict.kind == "corrupted"
    assert "chroma.sqlite3" in plan.verdict.reason
    before = objects(folder_store)
    assert not execute_restore(folder_store, plan)
    assert objects(folder_store) == before
    assert execute_restore(folder_store, plan_restore(folder_store, "lines", "delta", manifest.id, force=True))
    assert delta_ids(folder_store) == {manifest.id}


def test_the_quarantine_is_purged_when_asked_and_only_of_what_is_named(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    a, b = (deliver(folder_store, tmp_path, name, numbered(0, 3)) for name in "ab")
    quarantine(folder_store, a)
    quarantine(folder_store, b)
    plan = plan_purge(folder_store, "lines", {a.id})
    assert ([e.name for e in plan.entries], list(plan.kept)) == ([a.id], [b.id])
    assert len(list_quarantine(folder_store, "lines")) == 2
    assert execute_purge(folder_store, plan) == [a.id]
    assert [e.name for e in list_quarantine(folder_store, "lines")] == [b.id]
    assert plan_purge(folder_store, "lines", found_before=LATER - timedelta(days=800)).entries == ()


@pytest.mark.parametrize("timestamped", [False, True])
def test_deleted_snapshots_are_made_again_from_all_deltas(
    disk_or_s3: ObjectStore, tmp_path: Path, timestamped: bool
) -> None:
    two_versions(disk_or_s3, tmp_path)
    disk_or_s3.put_new(f"{LATEST}/chroma.sqlite3", b"from an older system")
    before = objects(disk_or_s3)
    plan = plan_delete_snapshots(disk_or_s3, "lines", timestamped=timestamped)
    assert objects(disk_or_s3) == before
    assert (plan.generation, plan.pointer) == (3, True)
    execute_delete_snapshots(disk_or_s3, plan, run_id="operator")
    execute_delete_snapshots(disk_or_s3, plan, run_id="operator")  # once more changes nothing
    assert keys(disk_or_s3, LATEST) == []
    assert not disk_or_s3.exists(layout.pointer("lines"))
    assert (keys(disk_or_s3, layout.snapshots("lines")) == []) is timestamped
    assert {k: v for k, v in before.items() if "/delta/" in k} == objects(disk_or_s3, "lines/delta")
    assert head(disk_or_s3, "lines") is None
    done = heal(disk_or_s3, tmp_path)
    assert done.manifest is not None
    assert (done.base, done.manifest.generation, done.damages) == (None, 4, ())
    assert set(held(disk_or_s3, tmp_path)) == set(numbered(0, 9))


def test_plans_of_before_another_commit_are_refused(folder_store: ObjectStore, tmp_path: Path) -> None:
    first, _ = two_versions(folder_store, tmp_path)
    deletion = plan_delete_snapshots(folder_store, "lines", timestamped=True)
    rollback = plan_rollback(folder_store, "lines", first.id)
    deliver(folder_store, tmp_path, "c", numbered(9, 12))
    bring_up_to_date(folder_store, tmp_path)
    before = objects(folder_store)
    with pytest.raises(CommitConflictError, match="Plan it again"):
        execute_delete_snapshots(folder_store, deletion, run_id="operator")
    with pytest.raises(CommitConflictError, match="Plan it again"):
        execute_rollback(folder_store, rollback, run_id="operator")
    assert objects(folder_store) == before


def test_a_rollback_makes_an_older_version_current_until_the_next_compaction(
    disk_or_s3: ObjectStore, tmp_path: Path
) -> None:
    first, second = two_versions(disk_or_s3, tmp_path)
    plan = plan_rollback(disk_or_s3, "lines", first.id)
    assert (plan.current, plan.generation) == (second.id, 3)
    assert plan.dropped == tuple(set(second.deltas) - set(first.deltas))
    execute_rollback(disk_or_s3, plan, run_id="operator")
    execute_rollback(disk_or_s3, plan, run_id="operator")
    with read(disk_or_s3, tmp_path) as lines:
        assert (lines.version, lines.count()) == (first.id, 5)
    assert assert_whole(disk_or_s3).id == first.id
    done = heal(disk_or_s3, tmp_path)
    assert done.manifest is not None
    assert (done.base, done.manifest.generation, done.manifest.count) == (first.id, 4, 9)


def test_only_a_whole_version_can_be_rolled_back_to(folder_store: ObjectStore, tmp_path: Path) -> None:
    first, _ = two_versions(folder_store, tmp_path)
    with pytest.raises(ObjectMissingError, match="not in the log"):
        plan_rollback(folder_store, "lines", layout.new_version(1))
    flip(folder_store, file_of(first, "chroma.sqlite3"))
    with pytest.raises(CorruptedError, match="chroma"):
        plan_rollback(folder_store, "lines", first.id)


def test_a_rebuild_merges_all_deltas_and_readers_keep_the_old_one_meanwhile(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    _, second = two_versions(folder_store, tmp_path)
    plan = plan_compaction(folder_store, SPEC, rebuild=True)
    assert (plan.base, len(plan.missing)) == (None, 2)
    done = heal(folder_store, tmp_path, rebuild=True)
    assert done.manifest is not None
    assert (done.base, done.manifest.generation, done.manifest.digest) == (None, 3, second.digest)


def test_deleted_deltas_are_missing_for_their_batches_and_stay_in_the_snapshot(
    disk_or_s3: ObjectStore, tmp_path: Path
) -> None:
    a = deliver(disk_or_s3, tmp_path, "a", numbered(0, 5))
    b = deliver(disk_or_s3, tmp_path, "b", numbered(5, 9))
    bring_up_to_date(disk_or_s3, tmp_path)
    before = objects(disk_or_s3)
    plan = plan_delete_deltas(disk_or_s3, "lines", [a.id, "nonsense"])
    assert ([d.folder.name for d in plan.deletions], plan.unknown) == ([a.id], ("nonsense",))
    assert objects(disk_or_s3) == before
    execute_delete_deltas(disk_or_s3, SPEC, plan, tmp_path)
    assert delta_ids(disk_or_s3) == {b.id}
    assert keys(disk_or_s3, a.folder) == []
    assert execute_delete_deltas(disk_or_s3, SPEC, plan, tmp_path)
    assert set(held(disk_or_s3, tmp_path)) == set(numbered(0, 9))


def test_the_legacy_folder_of_a_deleted_delta_is_not_adopted_again(folder_store: ObjectStore, tmp_path: Path) -> None:
    legacy(folder_store, tmp_path, LEGACY, numbered(0, 5))
    done = heal(folder_store, tmp_path)
    adopted = done.adoptions[0].delta
    assert adopted is not None
    plan = plan_delete_deltas(folder_store, "lines", [adopted.id])
    assert [folder.prefix for folder in plan.left_out] == [LEGACY]
    execute_delete_deltas(folder_store, SPEC, plan, tmp_path)
    assert heal(folder_store, tmp_path).adoptions == ()
    assert delta_ids(folder_store) == set()
    assert folder_store.exists(f"{LEGACY}/chroma.sqlite3")


class Slow(DyingStore):
    """One delta cannot be read just now."""

    part = "none"

    def get(self, key: str) -> bytes:
        if self.part in key:
            raise StoreUnavailableError(key, "slow down", "Later.")
        return super().get(key)


def test_cleaning_removes_old_corrupted_deltas_and_nothing_else(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    good, bad, unreadable = (deliver(disk_or_s3, tmp_path, name, numbered(0, 5)) for name in "abc")
    flip(disk_or_s3, file_of(bad, "chroma.sqlite3"))
    flip(disk_or_s3, file_of(unreadable, "chroma.sqlite3"))
    legacy(disk_or_s3, tmp_path, LEGACY, numbered(0, 5), how="torn")
    slow = Slow(disk_or_s3)
    slow.part = unreadable.id
    plan = plan_clean_deltas(slow, SPEC, LATER, scratch=tmp_path)
    assert [d.folder.prefix for d in plan.deletions] == [bad.folder, LEGACY]
    assert plan.kept[good.folder] == "is valid"
    assert "cannot be judged just now" in plan.kept[unreadable.folder]
    assert plan_clean_deltas(disk_or_s3, SPEC, LATER - timedelta(days=800), scratch=tmp_path).deletions == ()
    assert len(delta_ids(disk_or_s3)) == 3
    assert len(execute_delete_deltas(disk_or_s3, SPEC, plan, tmp_path)) == 2
    assert delta_ids(disk_or_s3) == {good.id, unreadable.id}
    assert keys(disk_or_s3, LEGACY) == []


def test_a_delta_that_was_mended_since_it_was_planned_is_not_deleted(folder_store: ObjectStore, tmp_path: Path) -> None:
    bad = deliver(folder_store, tmp_path, "a", numbered(0, 5))
    flip(folder_store, file_of(bad, "chroma.sqlite3"))
    plan = plan_clean_deltas(folder_store, SPEC, LATER, scratch=tmp_path)
    flip(folder_store, file_of(bad, "chroma.sqlite3"))
    assert execute_delete_deltas(folder_store, SPEC, plan, tmp_path) == []
    assert delta_ids(folder_store) == {bad.id}


def littered(store: ObjectStore, folder: Path) -> Manifest:
    """Three versions, and something left behind of every kind; the current version."""
    two_versions(store, folder)
    deliver(store, folder, "c", numbered(9, 12))
    current = bring_up_to_date(store, folder)
    loser = f"{layout.snapshots('lines')}/{layout.new_version(2)}"
    for key in keys(store, current.folder):
        store.replace(key.replace(current.folder, loser), store.get(key))
    store.put_new(f"lines/delta/2026-03-04/{layout.new_id()}/chroma.sqlite3", b"half")
    store.put_new(f"{layout.snapshots('lines', layout.new_version(4))}/chroma.sqlite3", b"half")
    store.put_new("lines/requests/x/.write-check-1", b"?")
    store.put_new(f"lines/results/2026-03-04/b/{layout.new_id()}/records.parquet", b"half")
    return current


def test_pruning_removes_what_dead_writers_left_and_old_versions(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    current = littered(disk_or_s3, tmp_path)
    before = objects(disk_or_s3)
    young = plan_prune(disk_or_s3, "lines")
    assert (young.garbage, len(young.kept)) == ((), 5)
    plan = plan_prune(disk_or_s3, "lines", keep=2, at=LATER)
    kinds = sorted(one.kind for one in plan.garbage)
    assert kinds == ["lost race", "old", "unfinished delta", "unfinished landing", "unfinished snapshot", "write check"]
    assert objects(disk_or_s3) == before
    assert len(execute_prune(disk_or_s3, plan).removed) == 6
    assert plan_prune(disk_or_s3, "lines", keep=2, at=LATER).garbage == ()
    assert len(take_inventory(disk_or_s3, "lines").snapshots) == 2
    assert assert_whole(disk_or_s3).id == current.id
    assert set(held(disk_or_s3, tmp_path)) == set(numbered(0, 12))
    after = objects(disk_or_s3)
    # The generation of the unfinished version, so that a writer that lives could not commit it any more.
    assert current.id.encode() in after.pop(layout.commit_log("lines", 4))
    assert {k: v for k, v in before.items() if k in after} == after


def test_pruning_spares_what_is_finished_or_current_by_the_time_it_is_carried_out(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    first, _ = two_versions(folder_store, tmp_path)
    unfinished = deliver(folder_store, tmp_path, "c", numbered(9, 12))
    folder_store.delete([unfinished.key])
    plan = plan_prune(folder_store, "lines", keep=1, at=LATER)
    assert sorted(one.kind for one in plan.garbage) == ["mark", "old", "unfinished delta"]
    folder_store.put_new(unfinished.key, unfinished.to_bytes())
    execute_rollback(folder_store, plan_rollback(folder_store, "lines", first.id), run_id="operator")
    done = execute_prune(folder_store, plan)
    assert (done.removed, len(done.spared)) == ((), 3)


def test_pruning_keeps_old_versions_while_the_current_one_is_damaged(folder_store: ObjectStore, tmp_path: Path) -> None:
    _, second = two_versions(folder_store, tmp_path)
    folder_store.delete([file_of(second, "length.bin")])
    assert plan_prune(folder_store, "lines", keep=1, at=LATER).garbage == ()


class NotDeleting(DyingStore):
    """Deletes nothing."""

    def delete(self, keys: object) -> None:
        raise StoreUnavailableError("lines", "no", "Later.")


def test_garbage_that_cannot_be_deleted_is_no_error(folder_store: ObjectStore, tmp_path: Path) -> None:
    littered(folder_store, tmp_path)
    plan = plan_prune(folder_store, "lines", keep=1, at=LATER)
    done = execute_prune(NotDeleting(folder_store), plan)
    assert (done.removed, len(done.failed)) == ((), len(plan.garbage))
