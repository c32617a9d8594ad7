"""A record that is good in its delta and does not survive a merge is set aside alone; all others are compacted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import MergeFailedError
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.errors import CorruptedError
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore import shard, unmergeable
from embedding_assets.vectorstore.compact import Compaction, begin, compact
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets.vectorstore.gather import gather
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets.vectorstore.unstorable import Unstorable, find_unstorable
from embedding_assets_tests.making import SPEC, landed, make_records, numbered
from embedding_assets_tests.vectorstore.test_unstorable import in_quarantine
from embedding_assets_tests.vectorstore.worlds import (
    DyingStore,
    Killed,
    copied,
    deliver,
    delta_ids,
    failing,
    held,
    keys,
    spoil_merges,
)

IDS = numbered(0, 3)
BAD = IDS[1]
OTHERS = numbered(10, 12)
BEFORE = numbered(20, 24)


def compacted(store: ObjectStore, folder: Path, spec: CollectionSpec = SPEC) -> Compaction:
    done = compact(store, spec, run_id="test", scratch=folder)
    assert done is not None
    return done


def manifests(store: ObjectStore) -> list[Manifest]:
    return load_deltas(store, list_deltas(store, "lines"))


@pytest.mark.parametrize(("shards", "api"), [(1, True), (2, False)])
def test_a_record_that_does_not_survive_a_merge_is_set_aside_alone(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int, api: bool
) -> None:
    spec = SPEC.model_copy(update={"shards": shards})
    deliver(folder_store, tmp_path, "first", BEFORE, submitted=500)
    compacted(folder_store, tmp_path, spec)
    spoil_merges(monkeypatch, {BAD}, api=api)
    old = deliver(folder_store, tmp_path, "a", IDS)
    other = deliver(folder_store, tmp_path, "b", OTHERS, submitted=2000, seed=5)

    done = compacted(folder_store, tmp_path, spec)
    assert [(one.name, one.moved) for one in done.damages] == [(old.id, True)]
    assert BAD in done.damages[0].reason
    batches = {**dict.fromkeys(IDS, "a"), **dict.fromkeys(OTHERS, "b"), **dict.fromkeys(BEFORE, "first")}
    del batches[BAD]
    assert held(folder_store, tmp_path) == batches

    (new,) = [one for one in manifests(folder_store) if one.set_aside]
    (entry,) = new.batches
    assert (entry.batch_id, entry.landing_id, entry.accepted, entry.applied) == ("a", "landing-of-a", 3, 2)
    assert entry.set_aside == (BAD,)
    assert old.id not in delta_ids(folder_store)
    assert other.id in delta_ids(folder_store)
    kept = in_quarantine(folder_store)["a"]
    assert kept.ids == [BAD]
    assert np.array_equal(kept.embeddings[0], make_records(IDS).embeddings[1])

    before = keys(folder_store)
    again = compacted(folder_store, tmp_path, spec)
    assert (again.merged, again.damages) == (None, ())
    assert keys(folder_store) == before


def find_at_once(
    database: DatabaseSpec, sources: Sequence[Source], scratch: Path, **options: Any
) -> dict[str, Unstorable]:
    """What `find_unstorable` finds in these tests, without a single trial."""
    found = {}
    for source in sources:
        table = pq.read_table(source.path)
        ids = table.column("id").to_pylist()
        if BAD in ids:
            found[source.label] = Unstorable(table.take([ids.index(BAD)]), {BAD: "it is another"})
    return found


def set_aside(store: ObjectStore, folder: Path) -> list[str]:
    """Names of the deltas that are replaced."""
    draft = begin(store, SPEC, run_id="test", scratch=folder).draft
    assert draft is not None
    with ScratchFolder("test", folder) as work:
        found = gather(store, draft, 0, work)
        done = unmergeable.set_unmergeable_aside(store, SPEC, draft, found, work, lambda message: None)
    return [one.name for one in done]


def test_a_crash_between_any_two_writes_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmergeable, "find_unstorable", find_at_once)
    first = open_store((tmp_path / "first").as_uri())
    old = deliver(first, tmp_path, "a", IDS)
    deliver(first, tmp_path, "b", OTHERS, submitted=2000, seed=5)
    counting = DyingStore(copied(first, open_store((tmp_path / "counting").as_uri())))
    assert set_aside(counting, tmp_path) == [old.id]
    for dies_at in range(counting.done):
        store = copied(first, open_store((tmp_path / f"dies-at-{dies_at}").as_uri()))
        with pytest.raises(Killed):
            set_aside(DyingStore(store, dies_at), tmp_path)
        for delta in manifests(store):
            if delta.set_aside:
                assert in_quarantine(store)["a"].ids == [BAD]
        whole = [delta for delta in manifests(store) if delta.batches[0].batch_id == "a"]
        assert whole, counting.names[dies_at]
        died_with_both = len(whole) == 2 and "report" not in counting.names[dies_at]
        if died_with_both and counting.names[dies_at - 1].endswith("manifest.json"):
            # The worst: both deltas are there. The next compaction does the rest, and makes no third one.
            with monkeypatch.context() as patched:
                spoil_merges(patched, {BAD})
                compacted(store, tmp_path)
            assert set(held(store, tmp_path)) == {*IDS, *OTHERS} - {BAD}
            assert {one.id for one in manifests(store)} == {one.id for one in (*whole, *manifests(first))} - {old.id}
        else:
            set_aside(store, tmp_path)
        (left,) = [delta for delta in manifests(store) if delta.batches[0].batch_id == "a"]
        assert (left.count, left.batches[0].set_aside) == (2, (BAD,))
        assert sorted((one.kind, bool(one.report)) for one in list_quarantine(store, "lines")) == [
            ("delta", True),
            ("record", True),
        ]


@pytest.mark.parametrize("refused", [True, False])
def test_trouble_of_the_machine_sets_nothing_aside(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    deliver(folder_store, tmp_path, "a", IDS)
    before = keys(folder_store)
    for module in (shard, unmergeable):
        monkeypatch.setattr(module, "merge_in_child", failing(refused))
    with pytest.raises(MergeFailedError, match="does not work here"):
        compacted(folder_store, tmp_path)
    assert keys(folder_store) == before


def test_records_that_fail_only_together_with_the_rest_stay_where_they_are(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(folder_store, tmp_path, "a", IDS)
    before = keys(folder_store)
    whole = unmergeable.merge_in_child
    spoil_merges(monkeypatch, {BAD})
    monkeypatch.setattr(unmergeable, "merge_in_child", whole)
    with pytest.raises(CorruptedError, match=BAD):
        compacted(folder_store, tmp_path)
    assert keys(folder_store) == before


@pytest.mark.parametrize("bad", [10, 40])
def test_ten_records_are_found_among_50_000_and_a_search_for_too_many_ends(tmp_path: Path, bad: int) -> None:
    ids = numbered(0, 50_000)
    batch = landed(tmp_path, "a", ids)
    spoiled = {ids[i] for i in np.random.default_rng(1).choice(len(ids), bad, replace=False)}

    def trial(folder: Path, database: DatabaseSpec, sources: Sequence[Source], records: int) -> None:
        if spoiled.intersection(pq.read_table(sources[0].path, columns=["id"]).column("id").to_pylist()):
            raise CorruptedError("a trial", "it holds one of them", "")

    sources = [Source(batch.records, "a", "a", 1000, "delta")]
    database = DatabaseSpec("lines", 8, "cosine")
    if bad == 10:
        assert set(find_unstorable(database, sources, tmp_path, trial=trial)["a"].reasons) == spoiled
    else:
        with pytest.raises(MergeFailedError, match="too many records"):
            find_unstorable(database, sources, tmp_path, trial=trial)


@settings(max_examples=10)
@example(bad=set(), together=True)
@example(bad={7}, together=False)
@given(bad=st.sets(st.integers(0, 7)), together=st.booleans())
def test_exactly_the_records_that_are_refused_alone_are_found(
    tmp_path_factory: pytest.TempPathFactory, bad: set[int], together: bool
) -> None:
    folder = tmp_path_factory.mktemp("search")
    ids = numbered(0, 8)
    batch = landed(folder, "a", ids)
    spoiled, trials = {ids[i] for i in bad}, 0

    def trial(place: Path, database: DatabaseSpec, sources: Sequence[Source], records: int) -> None:
        nonlocal trials
        trials += 1
        held = pq.read_table(sources[0].path, columns=["id"]).column("id").to_pylist()
        # Trouble that no record has alone: the first and the last do not go together.
        if spoiled.intersection(held) or (together and {ids[0], ids[-1]} <= set(held)):
            raise CorruptedError("a trial", "it is refused", "")

    def found() -> set[str]:
        database = DatabaseSpec("lines", 8, "cosine")
        searched = find_unstorable(database, [Source(batch.records, "a", "a", 1000, "delta")], folder, trial=trial)
        return set(searched["a"].reasons) if searched else set()

    if together and not {0, 7} & bad:
        with pytest.raises(MergeFailedError, match="not together"):
            found()
    else:
        assert found() == spoiled
    assert together or trials <= 2 + 8 * max(1, len(bad))
