"""A record that no database takes is set aside alone, by name, with its vector; the rest is stored."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedding_assets.floats import comes_back
from embedding_assets.records import Metadata, RecordBatch
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore import delta as deltas
from embedding_assets.vectorstore import unstorable
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import DeltaFailedError, LandedBatch, build_delta, list_deltas
from embedding_assets.vectorstore.manifest import Manifest, parse_manifest
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.making import SPEC, make_records, numbered
from embedding_assets_tests.vectorstore.worlds import DAY, bring_up_to_date, deliver, failing, held

UNSTORABLE: dict[str, Metadata] = {
    "the document's own key": {"chroma:document": "another text"},
    "a value that is no scalar": {"a": {"b": 1}},  # type: ignore[dict-item]
}


def spoiled(
    folder: Path, batch_id: str, ids: list[str], bad: set[str], fault: str, *, submitted: int = 1000, seed: int = 0
) -> LandedBatch:
    """A landing with records that are refused at the door today."""
    made = make_records(ids, seed=seed)
    vectors = made.embeddings.copy()
    metadatas = list(made.metadatas)
    for row, record_id in enumerate(ids):
        if record_id in bad and fault == "not finite":
            vectors[row, 0] = np.nan
        elif record_id in bad:
            metadatas[row] = {**metadatas[row], **UNSTORABLE[fault]}
    path = folder / f"{batch_id}.parquet"
    pq.write_table(RecordBatch(made.ids, vectors, made.documents, metadatas).to_arrow(), path)
    return LandedBatch(batch_id, submitted, f"landing-of-{batch_id}", len(ids), path)


def build(store: ObjectStore, folder: Path, *batches: LandedBatch) -> Manifest:
    return build_delta(store, SPEC, DAY, batches, run_id="run-7", scratch=folder)


def in_quarantine(store: ObjectStore) -> dict[str, RecordBatch]:
    """Batch id -> its records in the quarantine."""
    found = {}
    for entry in list_quarantine(store, "lines"):
        if entry.kind != "record":
            continue
        report = entry.report
        assert report is not None
        assert (report.kind, report.day) == ("record", DAY)
        table = pq.read_table(io.BytesIO(store.get(report.files[0].key)))
        assert table.column("id").to_pylist() == report.manifest["ids"]
        assert report.count == table.num_rows
        found[report.batches[0]] = RecordBatch.from_arrow(table)
    return found


@pytest.mark.parametrize("fault", ["not finite", *UNSTORABLE])
def test_a_record_that_cannot_be_stored_is_set_aside_alone_with_its_vector(
    folder_store: ObjectStore, tmp_path: Path, fault: str
) -> None:
    ids = numbered(0, 5)
    manifest = build(folder_store, tmp_path, spoiled(tmp_path, "a", ids, {ids[3]}, fault))
    (entry,) = manifest.batches
    assert (entry.accepted, entry.applied, entry.set_aside, manifest.count) == (5, 4, (ids[3],), 4)
    assert parse_manifest(folder_store.get(manifest.key), manifest.key) == manifest
    kept = in_quarantine(folder_store)["a"]
    assert kept.ids == [ids[3]]
    assert np.array_equal(kept.embeddings[0][1:], make_records(ids).embeddings[3][1:])
    assert bring_up_to_date(folder_store, tmp_path).count == 4
    assert set(held(folder_store, tmp_path)) == set(ids) - {ids[3]}


def test_so_it_is_where_chromadb_writes_the_delta_and_the_snapshot_has_shards(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    ids = numbered(0, 4)
    batch = spoiled(tmp_path, "a", ids, {ids[2]}, "not finite")
    table = RecordBatch.from_arrow(pq.read_table(batch.records))
    # A number that the log would change: the database is written by chromadb itself.
    odd = next(n for n in np.random.default_rng(5).standard_normal(1000).tolist() if not comes_back(n))
    table.metadatas[0]["odd"] = odd
    pq.write_table(table.to_arrow(), batch.records)
    spec = SPEC.model_copy(update={"shards": 2})
    manifest = build_delta(folder_store, spec, DAY, [batch], run_id="run-7", scratch=tmp_path)
    assert manifest.engine.startswith("api")
    assert manifest.batches[0].set_aside == (ids[2],)
    done = compact(folder_store, spec, run_id="test", scratch=tmp_path)
    assert done is not None
    assert done.manifest is not None
    assert done.manifest.count == 3
    again = compact(folder_store, spec, run_id="test", scratch=tmp_path)
    assert again is None or again.merged is None


def test_a_delta_of_which_nothing_can_be_stored_stops_no_compaction(folder_store: ObjectStore, tmp_path: Path) -> None:
    (only,) = numbered(0, 1)
    manifest = build(folder_store, tmp_path, spoiled(tmp_path, "a", [only], {only}, "not finite"))
    assert (manifest.count, manifest.set_aside) == (0, 1)
    ids = numbered(1, 4)
    build(folder_store, tmp_path, spoiled(tmp_path, "b", ids, set(), "not finite", submitted=2000))
    snapshot = bring_up_to_date(folder_store, tmp_path)
    assert set(held(folder_store, tmp_path)) == set(ids)
    assert bring_up_to_date(folder_store, tmp_path) == snapshot
    assert manifest.id in snapshot.deltas


def test_a_run_that_dies_before_the_manifest_is_done_again_with_one_entry(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    ids = numbered(0, 3)
    batch = spoiled(tmp_path, "a", ids, {ids[1]}, "not finite")
    for dies_at in ("report.json", "manifest.json"):
        with pytest.raises(KeyboardInterrupt):
            build(DyingStore(folder_store, dies_at), tmp_path, batch)
        assert list_deltas(folder_store, "lines") == []
    manifest = build(folder_store, tmp_path, batch)
    assert manifest.batches[0].set_aside == (ids[1],)
    assert in_quarantine(folder_store)["a"].ids == [ids[1]]
    assert len(list_quarantine(folder_store, "lines")) == 1


@pytest.mark.parametrize("refused", [True, False])
def test_trouble_of_the_machine_sets_nothing_aside(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    monkeypatch.setattr(unstorable, "write_in_child", failing(refused))
    monkeypatch.setattr(deltas, "write_in_child", failing(refused))
    ids = numbered(0, 3)
    with pytest.raises(DeltaFailedError, match="stay pending"):
        build(folder_store, tmp_path, spoiled(tmp_path, "a", ids, {ids[1]}, "not finite"))
    assert list(folder_store.walk("")) == []


subsets = st.sets(st.integers(0, 3))


@settings(max_examples=3, deadline=None)
@example(older={0, 1, 2, 3}, newer={0, 1, 2, 3})
@given(older=subsets, newer=subsets)
def test_of_each_batch_what_is_stored_overtaken_or_set_aside_is_what_was_accepted(
    tmp_path_factory: pytest.TempPathFactory, older: set[int], newer: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("subsets")
    store = open_store((folder / "store").as_uri())
    first, second = numbered(0, 4), numbered(2, 6)
    bad = {"a": {first[i] for i in older}, "b": {second[i] for i in newer}}
    manifest = build(
        store,
        folder,
        spoiled(folder, "a", first, bad["a"], "not finite"),
        spoiled(folder, "b", second, bad["b"], "not finite", submitted=2000),
    )
    aside = {entry.batch_id: set(entry.set_aside) for entry in manifest.batches}
    assert aside["b"] == bad["b"]
    # An older record is held to it only where it would be stored: one that is overtaken does no harm.
    assert aside["a"] == bad["a"] - (set(second) - bad["b"])
    newest = {**dict.fromkeys(set(first) - bad["a"], "a"), **dict.fromkeys(set(second) - bad["b"], "b")}
    if newest:
        bring_up_to_date(store, folder)
        assert held(store, folder) == newest
    else:
        # There is no record to make a snapshot of, and that is no fault.
        assert compact(store, SPEC, run_id="test", scratch=folder) is None
    assert {batch: set(kept.ids) for batch, kept in in_quarantine(store).items()} == {
        b: a for b, a in aside.items() if a
    }


def test_a_manifest_without_records_set_aside_is_read_as_it_was_written(
    folder_store: ObjectStore, tmp_path: Path
) -> None:
    manifest = replace(deliver(folder_store, tmp_path, "a", numbered(0, 2)), format=3)
    assert b"set_aside" not in manifest.to_bytes()
    assert parse_manifest(manifest.to_bytes(), manifest.key) == manifest


class DyingStore(ObjectStore):
    """The process dies when it is about to write an object of this name."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        super().__init__(store._backend, store.url)
        self.name = name

    def put_new(self, key: str, data: bytes) -> None:
        if key.endswith(self.name):
            raise KeyboardInterrupt
        super().put_new(key, data)
