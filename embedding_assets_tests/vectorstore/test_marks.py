"""Marks spare a look at all deltas that there ever were; whatever becomes of them, no delta is forgotten."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.planning import plan_compaction
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets.vectorstore.quarantine import execute_quarantine, execute_restore, plan_quarantine, plan_restore
from embedding_assets.vectorstore.snapshots import execute_rollback, plan_rollback
from embedding_assets.vectorstore.verification import Verdict
from embedding_assets_tests.forging import as_before_seals
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import (
    DyingReader,
    bring_up_to_date,
    deliver,
    file_of,
    flip,
    heal,
    held,
    keys,
)

LATER = layout.now() + timedelta(days=400)


def marks(store: ObjectStore) -> set[str]:
    return {key.rpartition("/")[2] for key in keys(store, "lines/waiting")}


def missing(store: ObjectStore) -> set[str]:
    return {ref.id for ref in plan_compaction(store, SPEC).missing}


def two_versions(store: ObjectStore, folder: Path) -> tuple[Manifest, Manifest]:
    deliver(store, folder, "a", numbered(0, 5))
    first = bring_up_to_date(store, folder)
    deliver(store, folder, "b", numbered(5, 9), submitted=2000)
    return first, bring_up_to_date(store, folder)


def test_a_delta_is_marked_until_a_snapshot_holds_it(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    two_versions(disk_or_s3, tmp_path)
    assert marks(disk_or_s3) == set()
    delta = deliver(disk_or_s3, tmp_path, "c", numbered(9, 12))
    assert marks(disk_or_s3) == missing(disk_or_s3) == {delta.id}
    bring_up_to_date(disk_or_s3, tmp_path)
    assert marks(disk_or_s3) == missing(disk_or_s3) == set()


def test_a_plan_asks_the_same_however_many_deltas_and_versions_there_were(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    asked = []
    for number in range(4):
        deliver(folder_store, tmp_path, f"b{number}", numbered(5 * number, 5 * number + 5))
        bring_up_to_date(folder_store, tmp_path)
        deliver(folder_store, tmp_path, f"w{number}", numbered(0, 2))
        counting = DyingReader(folder_store)
        assert len(plan_compaction(counting, SPEC).missing) == 1
        asked.append(sorted(name.split(" lines/")[0] for name in counting.names))
    assert asked[1] == asked[2] == asked[3]


def test_after_a_rollback_all_deltas_are_looked_at(folder_store: ObjectStore, tmp_path: Path) -> None:
    first, second = two_versions(folder_store, tmp_path)
    plan = plan_rollback(folder_store, "lines", first.id)
    execute_rollback(folder_store, plan, run_id="test")
    assert marks(folder_store) == set()
    assert missing(folder_store) == set(second.deltas) - set(first.deltas)
    assert bring_up_to_date(folder_store, tmp_path).count == 9
    assert log_end(folder_store, "lines").marked


def test_where_the_current_version_cannot_be_the_base_all_deltas_are_looked_at(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    _, second = two_versions(folder_store, tmp_path)
    flip(folder_store, file_of(second, "chroma.sqlite3"))
    heal(folder_store, tmp_path)
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 9))


def test_a_store_from_before_there_were_marks_is_looked_at_as_a_whole(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    two_versions(folder_store, tmp_path)
    old = deliver(folder_store, tmp_path, "c", numbered(9, 12))
    folder_store.delete(keys(folder_store, "lines/waiting"))
    as_before_seals(folder_store, layout.commit_log("lines", 2), marked=None)
    assert not log_end(folder_store, "lines").marked
    assert missing(folder_store) == {old.id}
    assert bring_up_to_date(folder_store, tmp_path).count == 12
    assert log_end(folder_store, "lines").marked


def test_a_mark_that_somebody_removed_is_missed_and_its_delta_merged(folder_store: ObjectStore, tmp_path: Path) -> None:
    two_versions(folder_store, tmp_path)
    delta = deliver(folder_store, tmp_path, "c", numbered(9, 12))
    folder_store.delete(keys(folder_store, "lines/waiting"))
    found = check_collection(folder_store, SPEC, "quick", tmp_path)
    (row,) = [row for row in found.rows if row.get("verdict") == "corrupted"]
    assert (row["kind"], row["name"]) == ("mark", layout.waiting("lines", str(delta.day), delta.id))
    repair(folder_store, SPEC, level="quick", run_id="test", scratch=tmp_path).execute()
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 12))
    assert keys(folder_store, "lines/quarantine") == []


def test_a_restored_delta_is_marked_again(folder_store: ObjectStore, tmp_path: Path) -> None:
    two_versions(folder_store, tmp_path)
    delta = deliver(folder_store, tmp_path, "c", numbered(9, 12))
    verdict = Verdict("corrupted", "a test says so")
    execute_quarantine(
        folder_store, plan_quarantine(folder_store, "lines", "delta", delta.id, delta.folder, verdict, "r")
    )
    assert missing(folder_store) == set()
    assert execute_prune(folder_store, plan_prune(folder_store, "lines", at=LATER)).failed == {}
    assert marks(folder_store) == set()
    assert execute_restore(folder_store, plan_restore(folder_store, "lines", "delta", delta.id))
    assert missing(folder_store) == {delta.id}


@pytest.mark.parametrize("young", [True, False])
def test_a_mark_whose_delta_never_came_goes_with_prune(folder_store: ObjectStore, tmp_path: Path, young: bool) -> None:
    two_versions(folder_store, tmp_path)
    waiting = deliver(folder_store, tmp_path, "c", numbered(9, 12))
    dead = layout.new_id()
    folder_store.put_new(layout.waiting("lines", str(waiting.day), dead), b"")
    assert missing(folder_store) == {waiting.id}
    execute_prune(folder_store, plan_prune(folder_store, "lines", at=None if young else LATER))
    assert marks(folder_store) == ({waiting.id, dead} if young else {waiting.id})
