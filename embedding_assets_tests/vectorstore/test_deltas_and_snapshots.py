"""From landed batches to deltas to snapshots, with real databases."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_assets.errors import ConfigurationError, CorruptedError, StoreUnavailableError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore import shard as making_shards
from embedding_assets.vectorstore.commit import head, load_snapshot, repair_pointer
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import DeltaFailedError, build_delta, group_batches, list_deltas, load_deltas
from embedding_assets.vectorstore.marks import unmark
from embedding_assets.vectorstore.planning import plan_compaction
from embedding_assets.vectorstore.transfer import verify_files
from embedding_assets_tests.making import SPEC, landed, numbered
from embedding_assets_tests.vectorstore.worlds import DAY, bring_up_to_date, deliver, read


def test_a_delta_is_whole_in_the_store_and_says_what_is_in_it(any_store: ObjectStore, tmp_path: Path) -> None:
    a, b = landed(tmp_path, "a", numbered(0, 60)), landed(tmp_path, "b", numbered(50, 90), submitted=1001)
    manifest = build_delta(any_store, SPEC, DAY, [b, a], run_id="run-7", scratch=tmp_path)
    assert manifest.count == 90
    assert {(e.batch_id, e.accepted, e.applied) for e in manifest.batches} == {("a", 60, 50), ("b", 40, 40)}
    assert (manifest.run_id, manifest.day, manifest.model) == ("run-7", DAY, SPEC.model)
    verify_files(any_store, manifest)
    assert load_deltas(any_store, list_deltas(any_store, "lines", DAY)) == [manifest]


def test_the_first_snapshot_starts_from_nothing_and_the_next_from_it(any_store: ObjectStore, tmp_path: Path) -> None:
    assert compact(any_store, SPEC, run_id="test", scratch=tmp_path) is None
    deliver(any_store, tmp_path, "a", numbered(0, 30))
    first = bring_up_to_date(any_store, tmp_path)
    deliver(any_store, tmp_path, "b", numbered(20, 50), submitted=2000, text="newer")
    second = bring_up_to_date(any_store, tmp_path)
    assert (first.generation, first.count, first.parent) == (1, 30, None)
    assert (second.generation, second.count, second.parent) == (2, 50, first.id)
    assert any_store.get(layout.pointer("lines")).decode() == second.id
    with read(any_store, tmp_path) as lines:
        assert lines.count() == 50
        assert [r.document for r in lines.get(["id-00010", "id-00025"])] == ["text of id-00010", "newer id-00025"]
        record = lines.get(["id-00025"])[0]
        assert (record.batch_id, record.submitted) == ("b", 2000)
        assert record.metadata == {"n": 5, "x": float(f"{5 / 7:.15g}"), "even": False, "name": "id-00025"}


def test_a_snapshot_that_lacks_nothing_is_left_as_it_is(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    first = bring_up_to_date(folder_store, tmp_path)
    before = [(item.key, item.modified) for item in folder_store.walk("")]
    assert bring_up_to_date(folder_store, tmp_path) == first
    assert [(item.key, item.modified) for item in folder_store.walk("")] == before


def test_a_committed_snapshot_is_a_plain_synced_chromadb_folder(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 7))
    manifest = bring_up_to_date(folder_store, tmp_path)
    names = {Path(entry.path).name for entry in manifest.files}
    assert {"chroma.sqlite3", "data_level0.bin", "header.bin", "length.bin", "index_metadata.pickle"} <= names


deliveries = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=4
)  # (submitted, first id, how many)


@settings(max_examples=6, deadline=None)
@given(deliveries, st.randoms(use_true_random=False), st.data())
def test_last_submitted_wins_whatever_the_order_and_grouping_of_deltas(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, int, int]], random: Any, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("order")
    store = open_store(f"file://{folder}/store")
    expected: dict[str, tuple[int, str]] = {}
    arrivals = []
    for number, (submitted, first, length) in enumerate(batches):
        batch_id, ids = f"batch-{number}", numbered(first, first + length)
        arrivals.append((batch_id, ids, submitted, number))
        for record_id in ids:
            expected[record_id] = max(expected.get(record_id, (-1, "")), (submitted, batch_id))
    random.shuffle(arrivals)
    arrivals += data.draw(st.lists(st.sampled_from(arrivals), max_size=2))  # some are delivered twice
    for batch_id, ids, submitted, seed in arrivals:
        deliver(store, folder, batch_id, ids, submitted=submitted, seed=seed, text=batch_id)
        if data.draw(st.booleans()):
            bring_up_to_date(store, folder)
    bring_up_to_date(store, folder)
    with read(store, folder) as lines:
        found = {r.id: (r.submitted, r.batch_id) for r in lines.get()}
        assert found == expected
        assert all(r.document == f"{r.batch_id} {r.id}" for r in lines.get())


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 50))
def test_grouping_keeps_every_batch_once_and_in_order_and_exceeds_the_size_for_single_batches_only(
    sizes: list[int], limit: int
) -> None:
    groups = group_batches(sizes, limit)
    assert [position for group in groups for position in group] == list(range(len(sizes)))
    assert all(len(group) == 1 or sum(sizes[p] for p in group) <= limit for group in groups)


def test_many_compactors_at_once_lose_nothing(any_store: ObjectStore, tmp_path: Path) -> None:
    for number in range(3):
        deliver(any_store, tmp_path, f"b{number}", numbered(10 * number, 10 * number + 10))
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: bring_up_to_date(any_store, tmp_path), range(3)))
    assert {manifest.count for manifest in results} == {30}
    commit = head(any_store, "lines")
    assert commit is not None
    kept = load_snapshot(any_store, "lines", commit)
    assert kept.count == 30
    # The losers removed what they had uploaded.
    versions = {item.key.split("/")[3] for item in any_store.walk(layout.snapshots("lines"))}
    assert len(versions) == commit.generation


def test_a_lost_race_starts_again_from_the_winners_snapshot(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    real_publish, rival = making_shards.prove_and_publish, []

    def publish_slowly(*arguments: Any) -> Any:
        published = real_publish(*arguments)
        if not rival:
            rival.append(True)
            deliver(folder_store, tmp_path, "b", numbered(5, 9))
            bring_up_to_date(folder_store, tmp_path)
        return published

    monkeypatch.setattr(making_shards, "prove_and_publish", publish_slowly)
    done = compact(folder_store, SPEC, run_id="slow", scratch=tmp_path)
    assert done is not None
    assert (done.manifest.count, done.lost_races) == (9, 1)


@pytest.mark.parametrize(
    "pointer", [None, b"", b"garbage \xff", b"0000000001-20200101T000000000000-00000000", b"0000000099-x"]
)
def test_the_head_is_found_whatever_the_pointer_says(
    folder_store: ObjectStore, tmp_path: Path, pointer: bytes | None
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 3))
    bring_up_to_date(folder_store, tmp_path)
    deliver(folder_store, tmp_path, "b", numbered(3, 6))
    newest = bring_up_to_date(folder_store, tmp_path)
    if pointer is None:
        folder_store.delete([layout.pointer("lines")])
    else:
        folder_store.replace(layout.pointer("lines"), pointer)
    commit = head(folder_store, "lines")
    assert commit is not None
    assert commit.version == newest.id
    repair_pointer(folder_store, "lines")
    assert folder_store.get(layout.pointer("lines")).decode() == newest.id


class CorruptingStore(ObjectStore):
    """Writes something else than it was told, for the first so many uploads."""

    def __init__(self, store: ObjectStore, uploads: int) -> None:
        super().__init__(store._backend, store.url)
        self.left = uploads

    def upload(self, key: str, path: Path) -> None:
        if self.left > 0 and path.name == "chroma.sqlite3":
            self.left -= 1
            broken = bytearray(path.read_bytes())
            broken[50] ^= 1
            self.replace(key, bytes(broken))
        else:
            super().upload(key, path)


class UnavailableStore(ObjectStore):
    """Every upload fails."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store._backend, store.url)

    def upload(self, key: str, path: Path) -> None:
        raise StoreUnavailableError(key, "the store is down", "Later.")


def test_an_upload_that_arrives_damaged_is_noticed_and_tried_again(folder_store: ObjectStore, tmp_path: Path) -> None:
    store = CorruptingStore(folder_store, uploads=2)
    manifest = deliver(store, tmp_path, "a", numbered(0, 5))
    assert store.left == 0
    verify_files(folder_store, manifest)
    assert {item.key.split("/")[3] for item in folder_store.walk(layout.deltas("lines"))} == {manifest.id}


@pytest.mark.parametrize("broken", [lambda store: CorruptingStore(store, uploads=99), UnavailableStore])
def test_after_three_tries_there_is_a_clear_error_and_nothing_is_left(
    folder_store: ObjectStore, tmp_path: Path, broken: Callable[[ObjectStore], ObjectStore]
) -> None:
    with pytest.raises(DeltaFailedError, match=r"3 tries.*stay pending"):
        deliver(broken(folder_store), tmp_path, "a", numbered(0, 5))
    assert list(folder_store.walk("")) == []
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "store"] == []


def test_a_reader_never_opens_a_snapshot_that_arrived_damaged(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    manifest = bring_up_to_date(folder_store, tmp_path)
    folder_store.replace(f"{manifest.folder}/chroma.sqlite3", b"not what it was")
    with pytest.raises(CorruptedError, match=r"chroma\.sqlite3"):
        read(folder_store, tmp_path)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_reader_moves_on_to_a_newer_version_when_told(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    bring_up_to_date(folder_store, tmp_path)
    with read(folder_store, tmp_path) as lines:
        deliver(folder_store, tmp_path, "b", numbered(5, 7))
        newest = bring_up_to_date(folder_store, tmp_path)
        assert lines.count() == 5
        assert lines.refresh()
        assert (lines.count(), lines.version) == (7, newest.id)
        assert not lines.refresh()


def test_a_query_finds_the_record_of_its_own_vector(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 40))
    bring_up_to_date(folder_store, tmp_path)
    with read(folder_store, tmp_path) as lines:
        wanted = lines.get(["id-00017"], embeddings=True)[0]
        nearest = lines.query(embedding=wanted.embedding, n=3)
        assert nearest[0].id == "id-00017"
        assert [r.distance for r in nearest] == sorted(r.distance or 0.0 for r in nearest)
        assert {r.id for r in lines.get(where={"even": True})} == {f"id-{i:05d}" for i in range(0, 40, 2)}
        with pytest.raises(ConfigurationError, match="3 dimensions, the collection 8"):
            lines.query(embedding=[1.0, 2.0, 3.0])


def test_vectors_of_another_model_are_never_merged(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    bring_up_to_date(folder_store, tmp_path)
    other = SPEC.model_copy(update={"model": "another-model"})
    aside = build_delta(
        folder_store, other, DAY, [landed(tmp_path, "b", numbered(3, 9))], run_id="test", scratch=tmp_path
    )
    deliver(folder_store, tmp_path, "c", numbered(5, 7))
    # Whatever is declared, the snapshot goes on as what it is, and the other delta stays where it is, marked.
    for spec in (other, SPEC):
        plan = plan_compaction(folder_store, spec)
        assert ([ref.id for ref in plan.missing], [one.ref.id for one in plan.aside]) == ([ANY], [aside.id])
    done = compact(folder_store, other, run_id="test", scratch=tmp_path)
    assert done is not None
    assert done.manifest is not None
    assert (done.manifest.vectors, done.manifest.count) == (SPEC.vectors, 7)
    assert [str(one) for one in done.aside] == [
        f"delta {aside.id} is set aside: it holds another-model, 8 dimensions, cosine; "
        "the collection holds test-model, 8 dimensions, cosine"
    ]
    plan = plan_compaction(folder_store, SPEC)
    assert (plan.due, plan.missing, [one.ref.id for one in plan.aside]) == (False, (), [aside.id])


def test_a_delta_of_another_kind_without_a_mark_gets_one(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    other = SPEC.model_copy(update={"distance": "ip"})
    aside = build_delta(
        folder_store, other, DAY, [landed(tmp_path, "b", numbered(3, 9))], run_id="test", scratch=tmp_path
    )
    unmark(folder_store, "lines", [aside.id])
    bring_up_to_date(folder_store, tmp_path)
    assert [one.ref.id for one in plan_compaction(folder_store, SPEC).aside] == [aside.id]


def test_a_plan_names_what_is_missing_and_changes_nothing(folder_store: ObjectStore, tmp_path: Path) -> None:
    manifest = deliver(folder_store, tmp_path, "a", numbered(0, 5))
    before = [item.key for item in folder_store.walk("")]
    plan = plan_compaction(folder_store, SPEC)
    assert (plan.base, [ref.id for ref in plan.missing], plan.generation) == (None, [manifest.id], 1)
    assert [item.key for item in folder_store.walk("")] == before
