"""A merge is proved by what it touched: as surely as by reading everything, and whatever else was changed is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedding_assets.chroma import examine as examine_module
from embedding_assets.chroma.examine import examine
from embedding_assets.chroma.hnsw_files import LENGTH_FILE, LEVEL0_FILE, open_hnsw
from embedding_assets.chroma.index_metadata import INDEX_METADATA_FILE, read_index_metadata, write_index_metadata
from embedding_assets.chroma.merge import merge
from embedding_assets.chroma.read import read_records
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.touched import find_touched
from embedding_assets.records import digest_of
from embedding_assets_tests.chroma import databases
from embedding_assets_tests.chroma.test_merge import random_sources, records, source, spec_of


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How each database was proved."""
    found: list[str] = []

    def noting(*arguments: object) -> object:
        touched = find_touched(*arguments)  # type: ignore[arg-type]
        found.append("touched" if touched else "all")
        return touched

    monkeypatch.setattr(examine_module, "find_touched", noting)
    return found


def proved(folder: Path, label: str = "base") -> Source:
    """A database as a source that was proved before."""
    digest = digest_of(read_records(folder))
    return Source(folder, label, digest=digest.hex(), count=digest.count, proved=True)


def examined(folder: Path, spec: DatabaseSpec, sources: list[Source]) -> Examination:
    copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-copy"))
    try:
        return examine(copy, spec, sources)
    finally:
        databases.wait_until_closed(copy)
        shutil.rmtree(copy)


def merged_into_a_base(tmp_path: Path) -> tuple[DatabaseSpec, Path, Path, Source]:
    """A database of 80 records, the one of 60 that it was made from, and the source of 30 that was merged into it."""
    spec, folder = spec_of(), tmp_path / "db"
    merge(folder, spec, [source(tmp_path / "s", "a", records(1, list(range(60))), 1)])
    base = shutil.copytree(folder, tmp_path / "base")
    more = source(tmp_path / "s", "b", records(2, list(range(50, 80))), 2)
    merge(folder, spec, [more])
    return spec, folder, base, more


@pytest.mark.parametrize(("space", "seed"), [("cosine", 1), ("cosine", 2), ("cosine", 5), ("l2", 3), ("ip", 4)])
def test_what_a_merge_touched_says_the_same_of_the_whole_as_reading_all_of_it(
    tmp_path: Path, space: str, seed: int, ways: list[str]
) -> None:
    spec, folder, base = spec_of(space), tmp_path / "db", tmp_path / "base"
    rounds = random_sources(tmp_path / "sources", seed, 6)
    merge(folder, spec, rounds[0])
    for some in rounds[1:]:
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(folder, base)
        merge(folder, spec, some)
        quick = examined(folder, spec, [proved(base), *some])
        whole = examined(folder, spec, [Source(base, "base"), *some])
        assert (quick.problems, quick.count, quick.digest) == ([], whole.count, whole.digest)
        assert quick.digest == digest_of(read_records(folder)).hex()
        assert (quick.repeated, quick.sampled) == (whole.repeated, whole.sampled)
    assert ways == ["touched", "all"] * 5


def test_a_merge_through_chromadb_is_proved_by_what_it_touched_as_well(tmp_path: Path, ways: list[str]) -> None:
    spec, folder = spec_of(), tmp_path / "db"
    merge(folder, spec, [source(tmp_path / "s", "a", records(1, list(range(200))), 1)])
    base = shutil.copytree(folder, tmp_path / "base")
    more = source(tmp_path / "s", "b", records(2, list(range(150, 300))), 2)
    merge(folder, spec, [more], "asked for")
    databases.wait_until_closed(folder)
    report = examined(folder, spec, [proved(base), more])
    assert (report.problems, report.count, ways) == ([], 300, ["touched"])


def test_where_the_base_holds_something_in_its_log_alone_all_is_read(tmp_path: Path, ways: list[str]) -> None:
    spec, base = spec_of(), tmp_path / "base"
    merge(base, spec, [source(tmp_path / "s", "a", records(1, list(range(20))), 1)])
    with databases.client(base) as client:
        client.get_collection(databases.NAME, embedding_function=None).update(ids=["id-1"], metadatas=[{"n": 77}])
    folder = shutil.copytree(base, tmp_path / "db")
    more = source(tmp_path / "s", "b", records(2, [1, 30]), 2)
    merge(folder, spec, [more])
    databases.wait_until_closed(folder)
    report = examined(folder, spec, [proved(base), more])
    assert (report.problems, report.count, ways) == ([], 21, ["all"])


Damage = Callable[[Path], None]


def _sql(*statements: str) -> Damage:
    def do(folder: Path) -> None:
        databases.edit(folder, *statements)

    return do


def _vectors(name: str, change: Callable[[Path], None]) -> Damage:
    def do(folder: Path) -> None:
        [file] = folder.glob(f"*/{name}")
        change(file)

    return do


def _swap_labels(file: Path) -> None:
    metadata = read_index_metadata(file)
    labels = dict(metadata.id_to_label)
    labels["id-3"], labels["id-4"] = labels["id-4"], labels["id-3"]
    write_index_metadata(file, metadata.total_elements_added, labels)


def _turn_vector(file: Path) -> None:
    """Two equal changes that keep its length: another unit vector, in a place that nothing else vouches for."""
    vectors = open_hnsw(file.parent, 12).vectors
    row = np.array(vectors[5])
    row[[0, 1]] = row[[1, 0]]
    data = bytearray(file.read_bytes())
    size = len(data) // len(vectors)
    at = 5 * size + 4 + 8 * 16
    data[at : at + 48] = row.tobytes()
    file.write_bytes(bytes(data))


def _change_norm(file: Path) -> None:
    norms = np.frombuffer(file.read_bytes(), "<f4").copy()
    norms[5] *= np.float32(1.5)
    file.write_bytes(norms.tobytes())


_OFFSET = "(SELECT id FROM embeddings WHERE embedding_id = 'id-4')"
_OTHER = "(SELECT id FROM embeddings WHERE embedding_id = 'id-5')"
DAMAGES: dict[str, Damage] = {
    "a number changed": _sql(f"UPDATE embedding_metadata SET int_value = 77 WHERE key = 'n' AND id = {_OFFSET}"),
    "a fraction changed": _sql(
        f"UPDATE embedding_metadata SET float_value = 7.25 WHERE key = 'part' AND id = {_OFFSET}"
    ),
    "a truth changed": _sql(
        f"UPDATE embedding_metadata SET bool_value = 1 - bool_value WHERE key = 'odd' AND id = {_OFFSET}"
    ),
    "a document changed": _sql(
        f"UPDATE embedding_metadata SET string_value = 'new' WHERE key = 'chroma:document' AND id = {_OFFSET}",
        f"UPDATE embedding_fulltext_search SET string_value = 'new' WHERE rowid = {_OFFSET}",
    ),
    "a key renamed": _sql(f"UPDATE embedding_metadata SET key = 'm' WHERE key = 'n' AND id = {_OFFSET}"),
    "a value lost": _sql(f"DELETE FROM embedding_metadata WHERE key = 'n' AND id = {_OFFSET}"),
    "a value too many": _sql(
        f"INSERT INTO embedding_metadata (id, key, string_value) VALUES ({_OFFSET}, 'new', 'value')"
    ),
    "a value moved to another record": _sql(
        f"DELETE FROM embedding_metadata WHERE key = 'n' AND id = {_OTHER}",
        f"UPDATE embedding_metadata SET id = {_OTHER} WHERE key = 'n' AND id = {_OFFSET}",
    ),
    "two records with each other's id": _sql(
        "UPDATE embeddings SET embedding_id = 'tmp' WHERE embedding_id = 'id-4'",
        "UPDATE embeddings SET embedding_id = 'id-4' WHERE embedding_id = 'id-5'",
        "UPDATE embeddings SET embedding_id = 'id-5' WHERE embedding_id = 'tmp'",
    ),
    "two records with each other's vector": _vectors(INDEX_METADATA_FILE, _swap_labels),
    "another vector of the same length": _vectors(LEVEL0_FILE, _turn_vector),
    "another norm": _vectors(LENGTH_FILE, _change_norm),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_whatever_is_changed_of_what_no_source_touched_is_found(tmp_path: Path, what: str, ways: list[str]) -> None:
    spec, folder, base, more = merged_into_a_base(tmp_path)
    assert examined(folder, spec, [proved(base), more]).problems == []
    DAMAGES[what](folder)
    assert examined(folder, spec, [proved(base), more]).problems
    assert ways == ["touched", "all"]


@pytest.mark.parametrize("record_id", ["id-50", "id-70"])
def test_whatever_is_changed_of_what_was_touched_is_found(tmp_path: Path, record_id: str, ways: list[str]) -> None:
    spec, folder, base, more = merged_into_a_base(tmp_path)
    databases.edit(
        folder,
        "UPDATE embedding_metadata SET string_value = string_value || '!' WHERE key = 'ea:delta' "
        f"AND id = (SELECT id FROM embeddings WHERE embedding_id = '{record_id}')",
    )
    report = examined(folder, spec, [proved(base), more])
    assert report.problems == [f"'{record_id}' has another document or metadata than its source"]
    assert ways == ["touched"]


def test_a_base_that_is_not_what_its_manifest_says_makes_another_digest(tmp_path: Path) -> None:
    spec, folder, base, more = merged_into_a_base(tmp_path)
    lying = replace(proved(base), count=59)
    [problem] = examined(folder, spec, [lying, more]).problems
    assert problem == "count() is 80 but 79 records can be read"
