"""Tables of damage: every one of them is named by the proofs, and none is seen where there is none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from embedding_assets.chroma.api import opened
from embedding_assets.pipeline.operations import repair
from embedding_assets.pipeline.proofs import prove_deltas
from embedding_assets.pipeline.upkeep import check_collection
from embedding_assets.store import layout
from embedding_assets.vectorstore.commit import head, load_snapshot, try_commit
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets.vectorstore.manifest import Manifest, describe_files
from embedding_assets.vectorstore.publish import announce, place
from embedding_assets.vectorstore.transfer import download_files
from embedding_assets_tests.cells import Cell, contents, flip, receipt_lines, wait_for_another_second
from embedding_assets_tests.forging import forge

pytestmark = pytest.mark.service


def delta_of(cell: Cell) -> Manifest:
    (manifest,) = load_deltas(cell.store, list_deltas(cell.store, cell.spec.name, cell.day))
    return manifest


def snapshot_of(cell: Cell) -> Manifest:
    commit = head(cell.store, cell.spec.name)
    assert commit is not None
    return load_snapshot(cell.store, cell.spec.name, commit)


def file_of(manifest: Manifest, name: str) -> str:
    return next(f"{manifest.folder}/{entry.path}" for entry in manifest.files if entry.path.endswith(name))


def test_what_is_whole_is_proved_whole(delivered: Cell) -> None:
    before = contents(delivered.store)
    cell = prove_deltas(delivered.store, delivered.spec, delivered.day)
    assert (cell.whole, len(cell.deltas), cell.waiting) == (True, 1, ())
    proof = delivered.proof()
    assert proof.manifest == snapshot_of(delivered)
    assert (proof.problems, proof.lost, proof.unexplained, proof.damaged_landings) == ((), (), (), ())
    assert (proof.accepted, proof.waiting, proof.found, proof.sampled) == (20, 0, 20, 20)
    assert contents(delivered.store) == before


def missing_file(cell: Cell, manifest: Manifest) -> None:
    cell.store.delete([file_of(manifest, "chroma.sqlite3")])


def flipped_bit(cell: Cell, manifest: Manifest) -> None:
    flip(cell.store, file_of(manifest, "chroma.sqlite3"))


def cut_file(cell: Cell, manifest: Manifest) -> None:
    key = file_of(manifest, "chroma.sqlite3")
    cell.store.replace(key, cell.store.get(key)[:-1])


def garbage_manifest(cell: Cell, manifest: Manifest) -> None:
    cell.store.replace(manifest.key, b'{"format": 1')


def manifest_of_another(cell: Cell, manifest: Manifest) -> None:
    cell.store.replace(manifest.key, dataclasses.replace(manifest, id=layout.new_id()).to_bytes())


def manifest_without_a_field(cell: Cell, manifest: Manifest) -> None:
    raw = json.loads(manifest.to_bytes())
    del raw["digest"]
    cell.store.replace(manifest.key, json.dumps(raw).encode())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (missing_file, r"chroma\.sqlite3 is missing"),
        (flipped_bit, r"chroma\.sqlite3 is not the one in the manifest"),
        (cut_file, r"chroma\.sqlite3 is not the one in the manifest"),
        (garbage_manifest, "manifest is damaged"),
        (manifest_of_another, "it is the manifest of"),
        (manifest_without_a_field, "manifest is damaged"),
    ],
)
def test_a_damaged_delta_is_named_and_its_batches_count_as_waiting(
    delivered: Cell, damage: Callable[[Cell, Manifest], None], said: str
) -> None:
    damage(delivered, delta_of(delivered))
    proof = prove_deltas(delivered.store, delivered.spec, delivered.day)
    assert not proof.whole
    (one,) = proof.deltas
    assert re.search(said, one.problem or "")
    assert {landing.batch_id for landing in proof.waiting} == set(delivered.batch_ids())


def test_a_damaged_delta_leaves_the_others_proved(delivered: Cell) -> None:
    broken = delta_of(delivered)
    delivered.write(receipt_lines(25))
    delivered.deliver()
    flipped_bit(delivered, broken)
    proof = prove_deltas(delivered.store, delivered.spec, delivered.day)
    assert {one.ref.id: one.problem is None for one in proof.deltas}[broken.id] is False
    assert sum(one.problem is None for one in proof.deltas) == 1


def missing_index_file(cell: Cell, manifest: Manifest) -> None:
    cell.store.delete([file_of(manifest, "link_lists.bin")])


def flipped_index_bit(cell: Cell, manifest: Manifest) -> None:
    flip(cell.store, file_of(manifest, "data_level0.bin"))


def changed_manifest(cell: Cell, manifest: Manifest) -> None:
    cell.store.replace(manifest.key, dataclasses.replace(manifest, count=manifest.count - 1).to_bytes())


def no_manifest(cell: Cell, manifest: Manifest) -> None:
    cell.store.delete([manifest.key])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (missing_file, r"chroma\.sqlite3 is missing"),
        (missing_index_file, r"link_lists\.bin is missing"),
        (flipped_bit, r"chroma\.sqlite3 is not the one in the manifest"),
        (flipped_index_bit, r"data_level0\.bin is not the one in the manifest"),
        (changed_manifest, "its manifest is not the committed one"),
        (garbage_manifest, "its manifest is not the committed one"),
        (no_manifest, "its manifest is gone"),
    ],
)
def test_a_damaged_snapshot_is_named(delivered: Cell, damage: Callable[[Cell, Manifest], None], said: str) -> None:
    damage(delivered, snapshot_of(delivered))
    (problem,) = delivered.proof().problems
    assert re.search(said, problem)


def delete_through_sqlite(folder: Path, collection: str) -> None:
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as database, database:
        (row,) = database.execute("SELECT id FROM embeddings WHERE embedding_id = 'line-00006'").fetchone()
        database.execute("DELETE FROM embeddings WHERE id = ?", (row,))
        database.execute("DELETE FROM embedding_metadata WHERE id = ?", (row,))
        database.execute("DELETE FROM embedding_fulltext_search WHERE rowid = ?", (row,))


def delete_through_chromadb(folder: Path, collection: str) -> None:
    with opened(folder) as client:
        client.get_collection(collection, embedding_function=None).delete(["line-00006"])


def change_metadata_through_sqlite(folder: Path, collection: str) -> None:
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as database, database:
        database.execute(
            "UPDATE embedding_metadata SET string_value = 'what nobody sent' "
            "WHERE key = 'at' AND id = (SELECT id FROM embeddings WHERE embedding_id = 'line-00006')"
        )


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (delete_through_sqlite, "1 records of the index are not in SQLite"),
        (delete_through_chromadb, "holds 19 records; its manifest says 20"),
        (change_metadata_through_sqlite, "not those that its manifest's digest was made of"),
    ],
)
def test_a_snapshot_that_was_edited_is_noticed_even_where_all_checksums_were_made_to_fit(
    delivered: Cell, tmp_path: Path, edit: Callable[[Path, str], None], said: str
) -> None:
    manifest = snapshot_of(delivered)
    folder = tmp_path / "edited"
    download_files(delivered.store, manifest, folder)
    edit(folder, delivered.spec.name)
    forged = dataclasses.replace(manifest, files=describe_files(folder))
    for entry in forged.files:
        delivered.store.replace(f"{forged.folder}/{entry.path}", (folder / entry.path).read_bytes())
    delivered.store.replace(forged.key, forged.to_bytes())
    key = layout.commit_log(delivered.spec.name, forged.generation)
    forge(delivered.store, key, manifest_sha256=hashlib.sha256(forged.to_bytes()).hexdigest())

    proof = delivered.proof()
    assert any(said in problem for problem in proof.problems), proof.problems
    assert not any("holds 0 records" in problem for problem in proof.problems)


def claim_without_merging(cell: Cell, folder: Path) -> Manifest:
    """Commit the current snapshot again as a version that counts every delta as merged."""
    before = snapshot_of(cell)
    download_files(cell.store, before, folder)
    every = tuple(ref.id for ref in list_deltas(cell.store, cell.spec.name))
    claims = dataclasses.replace(before, id=layout.new_version(2), generation=2, parent=before.id, deltas=every)
    place(cell.store, claims, folder)
    announce(cell.store, claims)
    assert try_commit(cell.store, claims, ())
    return claims


def later(texts: dict[str, str]) -> dict[str, str]:
    return {record_id: f"{text} once more" for record_id, text in texts.items()}


@pytest.mark.parametrize(
    ("more", "lost"),
    [(receipt_lines(25), range(20, 25)), (later(receipt_lines(3)), range(3))],
    ids=["new records", "later texts of records that are there"],
)
def test_records_of_a_delta_that_the_snapshot_claims_and_does_not_hold_are_named_and_merged_again(
    delivered: Cell, tmp_path: Path, more: dict[str, str], lost: range
) -> None:
    wait_for_another_second()
    delivered.write(more)
    (unmerged,) = delivered.deliver().built
    claims = claim_without_merging(delivered, tmp_path / "same")
    proof = delivered.proof()
    assert proof.problems == ()
    assert proof.lost == tuple(f"line-{n:05d}" for n in lost)
    assert not proof.conserved

    store, spec = delivered.store, delivered.spec
    (row,) = [row for row in check_collection(store, spec, "full", tmp_path).rows if row.get("verdict") == "corrupted"]
    assert row["name"] == unmerged.id
    assert claims.id in str(row["reason"])
    planned = repair(store, spec, level="full", run_id="test", scratch=tmp_path)
    assert [row["action"] for row in planned.rows] == ["merge again", "compact"]
    planned.execute()
    assert check_collection(store, spec, "full", tmp_path).count("corrupted") == 0
    proof = delivered.proof()
    assert (proof.problems, proof.lost, proof.waiting) == ((), (), 0)
    assert snapshot_of(delivered).parent == claims.id
    assert {ref.id for ref in list_deltas(store, spec.name)} == set(claims.deltas)
