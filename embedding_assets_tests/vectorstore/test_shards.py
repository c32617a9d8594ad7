"""A collection with several shards holds, gives and survives what one with a single one does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.read import read_origins
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.pending import compaction_due
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.reading import Collection
from embedding_assets.records import shard_of
from embedding_assets.settings import Settings
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.cache import fetch_current
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.compact import Compaction, begin, compact, finish
from embedding_assets.vectorstore.draft import Draft
from embedding_assets.vectorstore.manifest import FORMAT, Manifest
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets.vectorstore.shard import make_shard
from embedding_assets.vectorstore.snapshots import execute_rollback, plan_rollback
from embedding_assets.vectorstore.verify import verify
from embedding_assets_tests.forging import forge
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import (
    assert_whole,
    deliver,
    file_of,
    flip,
    held,
    keys,
)

LATER = layout.now() + timedelta(days=400)


def sharded(shards: int) -> CollectionSpec:
    return SPEC.model_copy(update={"shards": shards})


def compacted(store: ObjectStore, folder: Path, shards: int, **how: Any) -> Compaction:
    done = compact(store, sharded(shards), run_id="test", scratch=folder, **how)
    assert done is not None
    return done


def current(store: ObjectStore, folder: Path, shards: int, **how: Any) -> Manifest:
    manifest = compacted(store, folder, shards, **how).manifest
    assert manifest is not None
    return manifest


def opened(store: ObjectStore, folder: Path) -> Collection:
    return Collection(store, SPEC, Settings("test", store.url, Path("unused"), folder / "cache"))


def in_their_shards(store: ObjectStore, folder: Path) -> dict[str, str]:
    """Id -> batch of all records, each of which must be in the shard that it belongs to."""
    fetched = fetch_current(store, "lines", folder / f"reader-{layout.new_id()}")
    assert fetched is not None
    manifest, copy = fetched.manifest, fetched.folder
    found: dict[str, str] = {}
    for number, part in enumerate(manifest.parts):
        if part is None:
            continue
        pairs = [p for ids, origins in read_origins(copy / part.shard, "lines") for p in zip(ids, origins, strict=True)]
        assert len(pairs) == part.count
        assert all(shard_of(record_id, len(manifest.parts)) == number for record_id, _ in pairs)
        found |= {record_id: origin.batch_id for record_id, origin in pairs}
    assert len(found) == manifest.count
    return found


deliveries = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(1, 20), st.sampled_from([1, 2, 3])),
    min_size=1,
    max_size=2,
)  # (submitted, first id, how many, shards from now on)


@settings(max_examples=3)
@given(deliveries)
def test_whatever_the_number_of_shards_was_the_content_is_that_of_a_single_one(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, int, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    store = open_store(f"file://{folder}/store")
    for number, (submitted, first, length, shards) in enumerate(batches):
        ids = numbered(first, first + length)
        deliver(store, folder, f"b{number}", ids, submitted=submitted, seed=number)
        manifest = current(store, folder, shards)
        assert len(manifest.parts) == shards
    divided = in_their_shards(store, folder)
    single = current(store, folder, 1)
    assert (single.count, single.shards) == (manifest.count, ())
    assert held(store, folder) == divided


def test_a_reader_gets_the_same_from_several_shards(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 60))
    deliver(folder_store, tmp_path, "b", numbered(50, 70), submitted=2000, seed=1, text="newer")

    def everything(shards: int) -> tuple[dict[str, Any], dict[str, Any]]:
        current(folder_store, tmp_path, shards)
        with opened(folder_store, tmp_path) as lines:
            pages = [record.id for start in range(0, 80, 7) for record in lines.get(limit=7, offset=start)]
            assert sorted(pages) == numbered(0, 70)
            wanted = lines.get(["id-00055"], embeddings=True)[0]
            return {
                "count": lines.count(),
                "some": {r.id: (r.document, r.metadata, r.batch_id) for r in lines.get(["id-00003", "id-00055", "no"])},
                "where": sorted(r.id for r in lines.get(where={"even": True})),
                "page": len(lines.get(where={"even": True}, limit=10, offset=5)),
                "query": [(r.id, round(r.distance or 0, 5)) for r in lines.query(embedding=wanted.embedding, n=12)],
            }, {r.id: r.embedding for r in lines.get(embeddings=True)}

    (single, vectors), (divided, others) = everything(1), everything(4)
    assert single == divided
    # A vector that is put into another index is brought to length one again, which may cost its last bit.
    assert all(np.allclose(vectors[i], others[i], atol=1e-6) for i in vectors)


def test_each_shard_is_a_plain_chromadb_folder_and_one_without_records_has_none(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    deliver(folder_store, tmp_path, "a", ["id-00001", "id-00002"])
    manifest = current(folder_store, tmp_path, 8)
    assert manifest.format == FORMAT
    there = {key.split("/")[4] for key in keys(folder_store, manifest.folder) if key.count("/") > 4}
    assert there == {layout.shard_name(shard_of(i, 8), 8) for i in ("id-00001", "id-00002")}
    assert all(part is None or f"{part.folder}/chroma.sqlite3" in keys(folder_store) for part in manifest.parts)
    # An empty one fills up later.
    deliver(folder_store, tmp_path, "b", numbered(0, 40), submitted=2000)
    assert current(folder_store, tmp_path, 8).count == 40
    assert set(in_their_shards(folder_store, tmp_path).values()) == {"b"}


def test_a_verified_snapshot_is_verified_shard_by_shard(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 30))
    manifest = current(folder_store, tmp_path, 3)
    commit = head(folder_store, "lines")
    assert commit is not None
    for level in ("quick", "full"):
        found = verify(folder_store, commit, sharded(3), level=level, scratch=tmp_path)  # type: ignore[arg-type]
        assert (found.verdict.kind, found.count, found.bytes) == ("valid", 30, manifest.size)
    flip(folder_store, f"{manifest.folder}/{next(e.path for e in manifest.files if 'shard-001' in e.path)}")
    found = verify(folder_store, commit, sharded(3), level="quick", scratch=tmp_path)
    assert found.verdict.kind == "corrupted"
    assert found.verdict.reason.startswith("shard-001-of-003: ")


@pytest.mark.parametrize("more", [False, True])
def test_one_damaged_shard_is_made_again_and_the_others_stay(
    folder_store: ObjectStore, tmp_path: Path, more: bool
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 30))
    current(folder_store, tmp_path, 3)
    deliver(folder_store, tmp_path, "b", numbered(20, 40), submitted=2000)
    second = current(folder_store, tmp_path, 3)
    part = second.parts[1]
    assert part is not None
    flip(folder_store, file_of(part, "data_level0.bin"))
    if more:
        deliver(folder_store, tmp_path, "c", numbered(35, 45), submitted=3000)
    done = compacted(folder_store, tmp_path, 3)
    assert [(d.kind, d.name, d.moved) for d in done.damages] == [("snapshot", f"{second.id}.{part.shard}", True)]
    assert keys(folder_store, part.folder) == []
    aside = {entry.name: entry.report for entry in list_quarantine(folder_store, "lines")}
    assert aside.keys() == {second.id, f"{second.id}.{part.shard}"}
    assert aside[f"{second.id}.{part.shard}"].folder == part.folder  # type: ignore[union-attr]
    wanted = dict.fromkeys(numbered(0, 20), "a") | dict.fromkeys(numbered(20, 40), "b")
    assert in_their_shards(folder_store, tmp_path) == wanted | (dict.fromkeys(numbered(35, 45), "c") if more else {})
    assert_whole(folder_store)
    assert not compaction_due(folder_store, sharded(3))


def test_a_repair_moves_aside_only_the_damaged_shard(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 30))
    version = current(folder_store, tmp_path, 3)
    part = version.parts[2]
    assert part is not None
    flip(folder_store, file_of(part, "chroma.sqlite3"))
    done = repair(folder_store, sharded(3), level="quick", run_id="test", scratch=tmp_path).execute()
    assert next(row["name"] for row in done.rows if row["action"] == "quarantined") == f"{version.id}.{part.shard}"
    assert set(in_their_shards(folder_store, tmp_path)) == set(numbered(0, 30))
    found = check_collection(folder_store, sharded(3), "quick", tmp_path).rows
    # This delta was made without a landing, which is told of it alone.
    assert {row["kind"] for row in found if row.get("verdict") == "corrupted"} == {"landing"}


def test_damage_to_what_nothing_reads_is_named_and_stops_nothing(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 30))
    version = current(folder_store, tmp_path, 3)
    first, second, third = (part for part in version.parts if part is not None)
    flip(folder_store, file_of(third, "chroma.sqlite3"))
    repair(folder_store, sharded(3), level="quick", run_id="test", scratch=tmp_path).execute()
    before = check_collection(folder_store, sharded(3), "quick", tmp_path)
    assert not [row for row in before.rows if row["kind"] in ("shard manifest", "quarantine")]

    commit = head(folder_store, "lines")
    assert commit is not None
    folder = layout.snapshots("lines", commit.version)
    gone, bad, other = (f"{folder}/{part.shard}/{layout.MANIFEST}" for part in (first, second, third))
    folder_store.delete([gone])
    folder_store.replace(bad, b"{}")
    forge(folder_store, other, count=99)
    aside = {entry.name: entry for entry in list_quarantine(folder_store, "lines")}
    report = f"{aside[version.id].prefix}/{layout.REPORT}"
    folder_store.replace(report, b"")
    moved = aside[f"{version.id}.{third.shard}"].report
    assert moved is not None
    folder_store.replace(moved.files[0].key, b"x")
    found = check_collection(folder_store, sharded(3), "quick", tmp_path)
    named = {row["name"] for row in found.rows if row["kind"] in ("shard manifest", "quarantine")}
    assert named == {gone, bad, other, report, moved.files[0].key}
    assert found.count("corrupted") == before.count("corrupted")
    assert set(in_their_shards(folder_store, tmp_path)) == set(numbered(0, 30))


def test_a_declaration_of_another_number_makes_a_compaction_due(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 30))
    before = current(folder_store, tmp_path, 2)
    assert compaction_due(folder_store, sharded(2)) is None
    due = compaction_due(folder_store, sharded(4))
    assert due is not None
    assert (due.due, due.reason) == (True, "its snapshot has 2 shards, and is to have 4")
    assert in_their_shards(folder_store, tmp_path) == dict.fromkeys(numbered(0, 30), "a")
    after = current(folder_store, tmp_path, 4)
    assert (after.count, after.parent) == (before.count, before.id)
    plan = plan_rollback(folder_store, "lines", before.id)
    assert execute_rollback(folder_store, plan, run_id="test") == before
    assert in_their_shards(folder_store, tmp_path) == dict.fromkeys(numbered(0, 30), "a")


def drafted(store: ObjectStore, folder: Path, shards: int) -> Draft:
    draft = begin(store, sharded(shards), run_id="test", scratch=folder).draft
    assert draft is not None
    return draft


def test_a_shard_that_is_made_is_not_made_again_and_finishing_twice_changes_nothing(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 30))
    draft = drafted(folder_store, tmp_path, 3)
    make_shard(folder_store, sharded(3), draft, 1, scratch=tmp_path)
    assert head(folder_store, "lines") is None
    before = {item.key: item.modified for item in folder_store.walk("lines/snapshot")}
    done = [make_shard(folder_store, sharded(3), draft, shard, scratch=tmp_path) for shard in range(3)]
    after = {item.key: item.modified for item in folder_store.walk("lines/snapshot")}
    assert before.items() <= after.items()
    manifest = finish(folder_store, draft, done).manifest
    assert manifest is not None
    assert finish(folder_store, draft, done).manifest == manifest
    assert set(in_their_shards(folder_store, tmp_path)) == set(numbered(0, 30))
    assert assert_whole(folder_store) == manifest


def test_of_two_drafts_one_is_committed_and_nothing_is_left_of_the_other(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 30))
    drafts = [drafted(folder_store, tmp_path, 2), drafted(folder_store, tmp_path, 3)]
    made = [
        [make_shard(folder_store, sharded(d.shards), d, shard, scratch=tmp_path) for shard in range(d.shards)]
        for d in drafts
    ]
    first = finish(folder_store, drafts[1], made[1])
    second = finish(folder_store, drafts[0], made[0])
    assert first.manifest is not None
    assert (second.manifest, second.lost_races) == (None, 1)
    assert keys(folder_store, layout.snapshots("lines", drafts[0].version)) == []
    assert assert_whole(folder_store) == first.manifest
    assert make_shard(folder_store, sharded(2), drafts[0], 0, scratch=tmp_path).lost


def test_many_compactors_of_shards_at_once_lose_nothing(disk_or_s3: ObjectStore, tmp_path: Path) -> None:
    for number in range(2):
        deliver(disk_or_s3, tmp_path, f"b{number}", numbered(10 * number, 10 * number + 10))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: current(disk_or_s3, tmp_path, 2), range(2)))
    assert {manifest.count for manifest in found} == {20}
    assert set(in_their_shards(disk_or_s3, tmp_path)) == set(numbered(0, 20))


def test_what_a_dead_compaction_left_of_its_shards_is_pruned(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 30))
    version = current(folder_store, tmp_path, 3)
    deliver(folder_store, tmp_path, "b", numbered(30, 40))
    draft = drafted(folder_store, tmp_path, 3)
    make_shard(folder_store, sharded(3), draft, 2, scratch=tmp_path)
    execute_prune(folder_store, plan_prune(folder_store, "lines", at=LATER))
    assert {key.split("/")[3] for key in keys(folder_store, "lines/snapshot/timestamped")} == {version.id}
    assert current(folder_store, tmp_path, 3).count == 40
    assert_whole(folder_store)


def test_a_sharded_base_comes_from_the_cache(folder_store: ObjectStore, tmp_path: Path) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 30))
    first = current(folder_store, tmp_path, 2, cache_folder=tmp_path / "cache")
    with opened(folder_store, tmp_path) as lines:
        assert lines.count() == 30
    deliver(folder_store, tmp_path, "b", numbered(20, 40), submitted=2000)
    done = compacted(folder_store, tmp_path, 4, cache_folder=tmp_path / "cache")
    # Each old shard is read for two new ones, and both times from here.
    assert done.traffic.cached == 2 * first.size
    assert set(in_their_shards(folder_store, tmp_path)) == set(numbered(0, 40))
