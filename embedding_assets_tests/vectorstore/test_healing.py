"""Whatever is damaged in the store, the next compaction notices, moves it aside and heals it."""

from __future__ import annotations

import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.chroma.reports import MergeReport
from embedding_assets.errors import CorruptedError, StoreUnavailableError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore import shard
from embedding_assets.vectorstore.cache import DamagedSnapshotWarning
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.planning import plan_compaction
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets.vectorstore.verify import verify
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import (
    DAMAGES,
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


def test_damaged_deltas_of_every_kind_are_moved_aside_and_the_good_ones_are_compacted(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    bad = {damage: deliver(folder_store, tmp_path, f"bad-{n}", numbered(0, 5)) for n, damage in enumerate(DAMAGES)}
    good = deliver(folder_store, tmp_path, "good", numbered(5, 9))
    for damage, manifest in bad.items():
        DAMAGES[damage](folder_store, manifest)
    before = {key: folder_store.get(key) for m in bad.values() for key in keys(folder_store, m.folder)}
    done = heal(folder_store, tmp_path)
    assert {(d.kind, d.name, d.moved) for d in done.damages} == {("delta", m.id, True) for m in bad.values()}
    assert assert_whole(folder_store).deltas == (good.id,)
    assert set(held(folder_store, tmp_path).values()) == {"good"}
    assert delta_ids(folder_store) == {good.id}
    reports = {e.name: e.report for e in list_quarantine(folder_store, "lines") if e.report}
    assert {f.original: folder_store.get(f.key) for r in reports.values() for f in r.files} == before
    assert {r.name: r.reason for r in reports.values()} == {d.name: d.reason for d in done.damages}
    for number, (damage, manifest) in enumerate(bad.items()):
        report = reports[manifest.id]
        assert (report.kind, report.folder, report.run_id) == ("delta", manifest.folder, "healer")
        assert keys(folder_store, manifest.folder) == []
        if not damage.startswith("manifest"):
            assert (report.batches, report.count, report.day) == ((f"bad-{number}",), 5, manifest.day)


@pytest.mark.parametrize(
    "damage", ["sqlite flipped", "file missing", "manifest garbage", "gone", "all but the manifest gone"]
)
def test_a_damaged_snapshot_is_moved_aside_and_made_again_from_the_one_before(
    folder_store: ObjectStore, tmp_path: Path, damage: str
) -> None:
    store = folder_store
    deliver(store, tmp_path, "a", numbered(0, 5))
    first = bring_up_to_date(store, tmp_path)
    deliver(store, tmp_path, "b", numbered(5, 9), submitted=2000)
    second = bring_up_to_date(store, tmp_path)
    if damage in DAMAGES:
        DAMAGES[damage](store, second)
    else:
        store.delete(
            [key for key in keys(store, second.folder) if damage == "gone" or not key.endswith("manifest.json")]
        )
    with pytest.warns(DamagedSnapshotWarning, match=second.id):
        assert set(held(store, tmp_path).values()) == {"a"}
    # No new delta: it is healed all the same.
    done = heal(store, tmp_path)
    assert done.manifest is not None
    assert [(d.kind, d.name, d.moved) for d in done.damages] == [("snapshot", second.id, damage != "gone")]
    assert (done.base, done.manifest.generation, done.manifest.parent) == (first.id, 3, first.id)
    assert held(store, tmp_path) == dict.fromkeys(numbered(0, 5), "a") | dict.fromkeys(numbered(5, 9), "b")
    assert_whole(store)
    assert keys(store, second.folder) == []
    assert heal(store, tmp_path).merged is None


def test_without_any_whole_snapshot_it_is_rebuilt_from_all_deltas(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    versions = []
    for number in range(2):
        deliver(disk_or_s3, tmp_path, f"b{number}", numbered(5 * number, 5 * number + 5))
        versions.append(bring_up_to_date(disk_or_s3, tmp_path))
    for version in versions:
        flip(disk_or_s3, file_of(version, "data_level0.bin"))
    with pytest.raises(CorruptedError, match="repair` does at once"):
        read(disk_or_s3, tmp_path / "r")
    done = heal(disk_or_s3, tmp_path)
    assert {d.name for d in done.damages} == {version.id for version in versions}
    assert done.base is None
    assert set(held(disk_or_s3, tmp_path)) == set(numbered(0, 10))
    assert assert_whole(disk_or_s3).generation == 3


def test_an_old_delta_uploaded_half_and_no_snapshot_left(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    deliver(disk_or_s3, tmp_path, "a", numbered(0, 5))
    bring_up_to_date(disk_or_s3, tmp_path)
    legacy(disk_or_s3, tmp_path, LEGACY, numbered(50, 60), how="torn")
    disk_or_s3.delete(keys(disk_or_s3, "lines/snapshot"))
    deliver(disk_or_s3, tmp_path, "b", numbered(5, 9))
    done = heal(disk_or_s3, tmp_path)
    assert [(one.folder, one.action) for one in done.adoptions] == [(LEGACY, "quarantined")]
    assert set(held(disk_or_s3, tmp_path)) == set(numbered(0, 9))
    assert keys(disk_or_s3, LEGACY) == []
    (entry,) = list_quarantine(disk_or_s3, "lines")
    assert entry.report is not None
    assert (entry.report.folder, entry.report.manifest) == (LEGACY, None)
    assert entry.report.reason


def test_a_corrupted_snapshot_while_new_batches_arrive(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    deliver(disk_or_s3, tmp_path, "a", numbered(0, 5))
    first = bring_up_to_date(disk_or_s3, tmp_path)
    flip(disk_or_s3, file_of(first, "chroma.sqlite3"))
    deliver(disk_or_s3, tmp_path, "b", numbered(4, 9), submitted=2000)
    done = heal(disk_or_s3, tmp_path)
    assert [d.name for d in done.damages] == [first.id]
    assert held(disk_or_s3, tmp_path) == dict.fromkeys(numbered(0, 4), "a") | dict.fromkeys(numbered(4, 9), "b")


def test_both_at_once_and_a_damaged_new_delta_too(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    deliver(disk_or_s3, tmp_path, "a", numbered(0, 5))
    first = bring_up_to_date(disk_or_s3, tmp_path)
    legacy(disk_or_s3, tmp_path, LEGACY, numbered(50, 60), how="torn")
    flip(disk_or_s3, file_of(first, "data_level0.bin"))
    bad = deliver(disk_or_s3, tmp_path, "bad", numbered(20, 25))
    flip(disk_or_s3, bad.key)
    deliver(disk_or_s3, tmp_path, "b", numbered(5, 9))
    done = heal(disk_or_s3, tmp_path)
    assert {d.name for d in done.damages} == {first.id, bad.id}
    assert [one.action for one in done.adoptions] == ["quarantined"]
    assert set(held(disk_or_s3, tmp_path)) == set(numbered(0, 9))
    assert len(list_quarantine(disk_or_s3, "lines")) == 3
    assert_whole(disk_or_s3)


def test_whole_legacy_data_is_adopted_and_stays_where_its_readers_look(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    legacy(disk_or_s3, tmp_path, LEGACY, numbered(0, 10), name="receipt_lines")
    legacy(disk_or_s3, tmp_path, LATEST, numbered(8, 20))
    before = {key: disk_or_s3.get(key) for key in keys(disk_or_s3)}
    deliver(disk_or_s3, tmp_path, "a", numbered(5, 9))
    assert plan_compaction(disk_or_s3, SPEC).due
    done = heal(disk_or_s3, tmp_path)
    assert {(one.folder, one.action) for one in done.adoptions} == {(LEGACY, "adopted"), (LATEST, "adopted")}
    found = held(disk_or_s3, tmp_path)
    assert set(found) == set(numbered(0, 20))
    assert {i for i, batch in found.items() if batch == "a"} == set(numbered(5, 9))
    with read(disk_or_s3, tmp_path) as lines:
        assert lines.get(["id-00001"])[0].metadata == {}
        assert lines.get(["id-00001"])[0].document == "legacy id-00001"
    assert {key: disk_or_s3.get(key) for key in before} == before
    again = heal(disk_or_s3, tmp_path)
    assert (again.merged, again.adoptions) == (None, ())
    assert not plan_compaction(disk_or_s3, SPEC).due


def test_legacy_data_with_lists_in_its_metadata_is_adopted_beside_other_deltas(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    lists = {"tags": ["red", "green"], "n": [1, 2], "f": [0.5], "b": [True, False]}
    legacy(folder_store, tmp_path, LEGACY, numbered(0, 5), metadata=lists)
    deliver(folder_store, tmp_path, "a", numbered(5, 9))
    done = heal(folder_store, tmp_path)
    assert [(one.folder, one.action, one.reason) for one in done.adoptions] == [(LEGACY, "adopted", "")]
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 9))
    with read(folder_store, tmp_path) as lines:
        assert lines.get(["id-00001"])[0].metadata == lists
    assert assert_whole(folder_store).count == 9


def leave_journal(store: ObjectStore, scratch: Path, journal: str) -> None:
    """As if the program that wrote the legacy folder had been cut off."""
    scratch.mkdir()
    database = scratch / "chroma.sqlite3"
    database.write_bytes(store.get(f"{LEGACY}/chroma.sqlite3"))
    before = database.read_bytes()
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode={'WAL' if journal == '-wal' else 'DELETE'}")
        if journal == "-journal":
            db.execute("PRAGMA cache_size=1")
            db.execute("BEGIN")
        db.execute("UPDATE embedding_metadata SET string_value = 'changed ' || string_value")
        db.execute("UPDATE embedding_fulltext_search SET string_value = 'changed ' || string_value")
        db.execute("UPDATE embeddings_queue SET metadata = replace(metadata, '\"legacy', '\"changed legacy')")
        if journal == "-journal":
            db.execute("CREATE TABLE filler AS SELECT zeroblob(500000) AS x")
            assert database.read_bytes() != before
        for path in (database, Path(f"{database}{journal}")):
            store.replace(f"{LEGACY}/{path.name}", path.read_bytes())


@pytest.mark.parametrize(("journal", "text"), [("-wal", "changed legacy"), ("-journal", "legacy")])
def test_legacy_data_with_a_journal_is_recovered_in_a_copy_and_adopted(
    folder_store: ObjectStore, tmp_path: Path, journal: str, text: str
) -> None:
    legacy(folder_store, tmp_path, LEGACY, numbered(0, 5))
    leave_journal(folder_store, tmp_path / "cut off", journal)
    before = {key: folder_store.get(key) for key in keys(folder_store)}
    assert f"{LEGACY}/chroma.sqlite3{journal}" in before
    done = heal(folder_store, tmp_path)
    assert [(one.action, one.reason) for one in done.adoptions] == [("adopted", "")]
    with read(folder_store, tmp_path) as lines:
        assert lines.get(["id-00001"])[0].document == f"{text} id-00001"
    assert {key: folder_store.get(key) for key in before} == before


@pytest.mark.parametrize("place", [0, 30, 60, 5000])
def test_legacy_data_whose_wal_is_damaged_is_moved_aside_with_the_reason(
    folder_store: ObjectStore, tmp_path: Path, place: int
) -> None:
    legacy(folder_store, tmp_path, LEGACY, numbered(0, 5))
    leave_journal(folder_store, tmp_path / "cut off", "-wal")
    key = f"{LEGACY}/chroma.sqlite3-wal"
    content = bytearray(folder_store.get(key))
    content[place] ^= 1
    folder_store.replace(key, bytes(content))
    found = verify(folder_store, LEGACY, SPEC, level="full", scratch=tmp_path)
    assert found.verdict.kind == "corrupted"
    assert "chroma.sqlite3-wal was left behind and is damaged" in found.verdict.reason


def test_legacy_data_of_another_dimension_is_left_and_said_to_be(folder_store: ObjectStore, tmp_path: Path) -> None:
    from embedding_assets.vectorstore.adopt import plan_adoption

    legacy(folder_store, tmp_path, LEGACY, numbered(0, 5))
    before = keys(folder_store)
    plan = plan_adoption(folder_store, SPEC.model_copy(update={"dimensions": 9}), tmp_path)
    assert plan.verdicts[LEGACY].kind == "unknown"
    assert "8 dimensions" in plan.verdicts[LEGACY].reason
    assert plan_adoption(folder_store, SPEC, tmp_path).verdicts[LEGACY].kind == "valid"
    assert keys(folder_store) == before


@pytest.mark.parametrize("what", ["commit", "commit and pointer", "older commit", "whole log", "log and pointer"])
def test_a_damaged_log_stops_nobody(folder_store: ObjectStore, tmp_path: Path, what: str) -> None:
    store = folder_store
    versions = []
    for number in range(2):
        deliver(store, tmp_path, f"b{number}", numbered(5 * number, 5 * number + 5))
        versions.append(bring_up_to_date(store, tmp_path))
    if "commit" in what:
        store.replace(layout.commit_log("lines", 1 if "older" in what else 2), b"garbage \xff")
    else:
        store.delete([layout.commit_log("lines", 1), layout.commit_log("lines", 2)])
    if "pointer" in what:
        store.replace(layout.pointer("lines"), b"garbage")
    deliver(store, tmp_path, "new", numbered(10, 15))
    done = heal(store, tmp_path)
    assert done.manifest is not None
    assert (done.manifest.generation, done.damages) == (1 if what == "log and pointer" else 3, ())
    # A version whose commit is lost counts still. Where the log is lost, the pointer says which version was committed.
    base = {"log and pointer": None}
    assert done.base == base.get(what, versions[1].id)
    assert set(held(store, tmp_path)) == set(numbered(0, 15))
    assert_whole(store)


def test_the_loser_of_a_generation_counts_for_nothing(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    first = bring_up_to_date(folder_store, tmp_path)
    loser = f"{layout.snapshots('lines')}/{layout.new_version(1)}"
    for key in keys(folder_store, first.folder):
        folder_store.replace(key.replace(first.folder, loser), folder_store.get(key))
    flip(folder_store, file_of(first, "data_level0.bin"))
    done = heal(folder_store, tmp_path)
    assert (done.base, [d.name for d in done.damages]) == (None, [first.id])


class Unreadable(DyingStore):
    """Files of some folder cannot be read just now."""

    def __init__(self, store: ObjectStore, part: str) -> None:
        super().__init__(store)
        self.part = part

    def on_disk(self, key: str) -> None:
        """Nothing of it can be had but through the store."""

    def download(self, key: str, path: Path) -> str:
        if self.part in key:
            raise StoreUnavailableError(key, "slow down", "Later.")
        return super().download(key, path)


def test_what_cannot_be_read_just_now_ends_the_run_and_moves_nothing(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    first = bring_up_to_date(folder_store, tmp_path)
    bad = deliver(folder_store, tmp_path, "bad", numbered(5, 9))
    flip(folder_store, bad.key)
    deliver(folder_store, tmp_path, "b", numbered(9, 12))
    before = keys(folder_store)
    for part in (first.id, "/delta/"):
        with pytest.raises(StoreUnavailableError):
            heal(Unreadable(folder_store, part), tmp_path)
        assert keys(folder_store) == before


def test_all_lost_is_said_and_heals_when_the_deltas_come_back(folder_store: ObjectStore, tmp_path: Path) -> None:
    bad = deliver(folder_store, tmp_path, "a", numbered(0, 5))
    first = bring_up_to_date(folder_store, tmp_path)
    flip(folder_store, file_of(first, "data_level0.bin"))
    flip(folder_store, file_of(bad, "chroma.sqlite3"))
    done = heal(folder_store, tmp_path)
    assert done.manifest is None
    assert {d.name for d in done.damages} == {first.id, bad.id}
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    assert heal(folder_store, tmp_path).manifest is not None
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 5))


def test_a_delta_whose_bytes_are_right_and_whose_database_is_wrong_is_found_when_the_merge_fails(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    import dataclasses
    import hashlib

    from embedding_assets.vectorstore.manifest import FileEntry

    bad = deliver(folder_store, tmp_path, "bad", numbered(0, 5))
    deliver(folder_store, tmp_path, "good", numbered(5, 9))
    key = file_of(bad, "chroma.sqlite3")
    folder_store.replace(key, folder_store.get(key)[:8192])
    data = folder_store.get(key)
    entries = tuple(
        FileEntry(e.path, len(data), hashlib.sha256(data).hexdigest()) if e.path == "chroma.sqlite3" else e
        for e in bad.files
    )
    folder_store.replace(bad.key, dataclasses.replace(bad, files=entries).to_bytes())
    done = heal(folder_store, tmp_path)
    assert [d.name for d in done.damages] == [bad.id]
    assert set(held(folder_store, tmp_path)) == set(numbered(5, 9))


def test_a_healed_delta_of_the_same_batch_takes_the_place_of_the_old_records(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    old = deliver(folder_store, tmp_path, "a", numbered(0, 5), seed=1, text="old")
    deliver(folder_store, tmp_path, "b", numbered(3, 7), submitted=2000, text="newer")
    bring_up_to_date(folder_store, tmp_path)
    folder_store.delete(keys(folder_store, old.folder))
    deliver(folder_store, tmp_path, "a", numbered(0, 5), seed=2, text="polled again")
    bring_up_to_date(folder_store, tmp_path)
    with read(folder_store, tmp_path) as lines:
        texts = {record.id: record.document for record in lines.get()}
    assert texts == {i: f"polled again {i}" for i in numbered(0, 3)} | {i: f"newer {i}" for i in numbered(3, 7)}


def test_readers_are_never_warned_for_nothing(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    assert len(delta_ids(folder_store)) == 1
    bring_up_to_date(folder_store, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(held(folder_store, tmp_path)) == 5
    assert head(folder_store, "lines") is not None


@pytest.mark.parametrize("with_base", [False, True])
def test_where_merging_directly_fails_chromadb_merges(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_base: bool
) -> None:
    if with_base:
        deliver(folder_store, tmp_path, "one", numbered(0, 5))
        heal(folder_store, tmp_path)
    deliver(folder_store, tmp_path, "two", numbered(3, 9))
    real = shard.merge_in_child

    def merge(folder: Path, *arguments: Any, hindrance: str = "", **options: Any) -> MergeReport:
        merged = real(folder, *arguments, hindrance=hindrance, **options)
        if not hindrance:  # it wrote something that is not as it should be
            (folder / "chroma.sqlite3").write_bytes(b"SQLite format 3\x00 but no more")
        return merged

    monkeypatch.setattr(shard, "merge_in_child", merge)
    done = heal(folder_store, tmp_path)
    assert (done.merged is not None, done.damages) == (True, ())
    manifest = assert_whole(folder_store)
    assert manifest.engine.startswith("api: merged directly, ")
    assert set(held(folder_store, tmp_path).values()) == ({"one", "two"} if with_base else {"two"})
