"""`check` goes the way of a reader, from the pointer to the files; what it names is healed, and readers say so."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from embedding_assets.pipeline.findings import Findings
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.proofs import prove_snapshot
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.cache import DamagedSnapshotWarning
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import bring_up_to_date, copied, deliver, held, keys, read

Harm = Callable[[ObjectStore, Manifest], None]
FIRST, SECOND = layout.commit_log("lines", 1), layout.commit_log("lines", 2)
NEWEST = f"{layout.snapshots('lines')}/0000000002"
POINTER, TIMESTAMPED = layout.pointer("lines"), layout.snapshots("lines")
EVERY = set(numbered(0, 10))


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectStore, Manifest]:
    """A store of two deltas and two versions; not to be changed."""
    store, folder = open_store("memory://"), tmp_path_factory.mktemp("two")
    deliver(store, folder, "a", numbered(0, 5))
    bring_up_to_date(store, folder)
    deliver(store, folder, "b", numbered(5, 10), submitted=2000)
    return store, bring_up_to_date(store, folder)


def garbage(key: str) -> Harm:
    return lambda store, _: store.replace(key, b"\xff garbage")


def gone(*prefixes: str) -> Harm:
    return lambda store, _: store.delete([key for key in keys(store) if key.startswith(prefixes)])


def both(*harms: Harm) -> Harm:
    def harm(store: ObjectStore, manifest: Manifest) -> None:
        for one in harms:
            one(store, manifest)

    return harm


# What is done; the name of what is wrong, or nothing; which ids readers get until it is healed; whether they are told.
CASES: dict[str, tuple[Harm, str, int, bool]] = {
    "newest entry garbage": (garbage(SECOND), SECOND, 10, False),
    "newest entry gone": (gone(SECOND), SECOND, 10, False),
    "newest entry garbage, its version gone": (both(garbage(SECOND), gone(NEWEST)), SECOND, 5, True),
    "newest entry and its version gone": (gone(SECOND, NEWEST), SECOND, 5, True),
    "log gone": (gone("lines/snapshot/log"), SECOND, 10, False),
    "log and pointer gone": (gone("lines/snapshot/log", POINTER), "lines/snapshot/log", 0, False),
    "current version gone": (lambda s, m: gone(m.folder)(s, m), "", 5, True),
    "manifest of the current version gone": (lambda s, m: s.delete([m.key]), "", 5, True),
    "versions gone": (gone(TIMESTAMPED), "", 0, False),
    "snapshot folder gone": (gone("lines/snapshot"), "lines/snapshot/log", 0, False),
    "pointer garbage": (garbage(POINTER), POINTER, 10, False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_reader_meets_is_named_and_healed(
    two_versions: tuple[ObjectStore, Manifest], tmp_path: Path, case: str
) -> None:
    store, manifest = copied(two_versions[0], open_store("memory://")), two_versions[1]
    harm, name, left, told = CASES[case]
    harm(store, manifest)
    named = [str(row["name"]) for row in check(store, tmp_path).rows if row.get("verdict") == "corrupted"]
    assert (name or manifest.id) in named
    execute_prune(store, plan_prune(store, "lines", grace=timedelta(0)))
    if left:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with read(store, tmp_path) as reader:
                assert (reader.count(), bool(reader.fallback)) == (left, told)
        assert any(one.category is DamagedSnapshotWarning for one in caught) == told
    planned = repair(store, SPEC, level="quick", run_id="test", scratch=tmp_path)
    assert planned.rows
    planned.execute()
    # These deltas were made without landings, which is told of them alone.
    faults = [row for row in check(store, tmp_path).rows if row.get("verdict", "valid") != "valid"]
    assert {row["kind"] for row in faults} <= {"landing"}
    assert set(held(store, tmp_path)) == EVERY


@pytest.mark.parametrize("case", ["newest entry garbage", "log and pointer gone", "pointer garbage"])
def test_the_proof_of_a_snapshot_begins_where_a_reader_does(
    two_versions: tuple[ObjectStore, Manifest], tmp_path: Path, case: str
) -> None:
    store = copied(two_versions[0], open_store("memory://"))
    harm, name, *_ = CASES[case]
    harm(store, two_versions[1])
    assert any(name in problem for problem in prove_snapshot(store, SPEC, tmp_path).problems)


@pytest.mark.parametrize("harm", [garbage(FIRST), gone(FIRST), gone(POINTER)], ids=["garbage", "gone", "pointer"])
def test_what_later_commits_have_made_good_is_told_and_no_fault(
    two_versions: tuple[ObjectStore, Manifest], tmp_path: Path, harm: Harm
) -> None:
    store = copied(two_versions[0], open_store("memory://"))
    harm(store, two_versions[1])
    assert not check(store, tmp_path).count("corrupted")
    assert set(held(store, tmp_path)) == EVERY


def test_a_compaction_alone_merges_what_a_lost_version_held(
    two_versions: tuple[ObjectStore, Manifest], tmp_path: Path
) -> None:
    store = copied(two_versions[0], open_store("memory://"))
    gone(SECOND, NEWEST)(store, two_versions[1])
    bring_up_to_date(store, tmp_path)
    assert set(held(store, tmp_path)) == EVERY


def test_an_entry_far_beyond_the_log_is_named(two_versions: tuple[ObjectStore, Manifest], tmp_path: Path) -> None:
    store = copied(two_versions[0], open_store("memory://"))
    stranger = layout.commit_log("lines", 9_999_999_999)
    store.replace(stranger, b"{}")
    (row,) = [row for row in check(store, tmp_path).rows if row.get("verdict", "valid") != "valid"]
    assert (row["name"], row["verdict"]) == (stranger, "unknown")


def check(store: ObjectStore, folder: Path) -> Findings:
    return check_collection(store, SPEC, "quick", folder)
