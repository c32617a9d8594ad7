"""The parsers of the index's files take what ChromaDB writes, refuse the rest with ValueError, and never do more."""

from __future__ import annotations

import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_assets.chroma.hnsw_files import HNSW_FILES, open_hnsw, parse_header
from embedding_assets.chroma.index_metadata import parse_index_metadata, read_index_metadata
from embedding_assets.chroma.read import read_records
from embedding_assets.chroma.structure import check_structure
from embedding_assets_tests.chroma.databases import NAME, Setup, api_records, assert_equal, client, create, joined


def metadata(ids: list[str]) -> dict[str, object]:
    labels = {record_id: i + 1 for i, record_id in enumerate(ids)}
    return {
        "dimensionality": None,
        "total_elements_added": len(ids),
        "max_seq_id": None,
        "id_to_label": labels,
        "label_to_id": {label: record_id for record_id, label in labels.items()},
        "id_to_seq_id": {},
    }


def as_chromadb_writes(value: object) -> bytes:
    """The body of a protocol-3 pickle without a memo, which Python's own pickler cannot write."""
    if value is None:
        return b"N"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    assert isinstance(value, dict)
    items = b"".join(as_chromadb_writes(part) for item in value.items() for part in item)
    return b"}" + (b"(" + items + b"u" if value else b"")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), unique=True, max_size=15))
def test_metadata_of_any_ids_are_read(ids: list[str]) -> None:
    wanted = metadata(ids)
    data = b"\x80\x03" + as_chromadb_writes(wanted) + b"."
    assert pickle.loads(data) == wanted
    read = parse_index_metadata(data)
    assert (read.id_to_label, read.label_to_id) == (wanted["id_to_label"], wanted["label_to_id"])
    assert (read.total_elements_added, read.dimensionality, read.max_seq_id) == (len(ids), None, None)
    for end in range(len(data)):
        with pytest.raises(ValueError, match=r"index_metadata\.pickle"):
            parse_index_metadata(data[:end])


class Trap:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_no_code_runs(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "sprung"
    path = tmp_path / "index_metadata.pickle"
    path.write_bytes(pickle.dumps({**metadata(["a"]), "id_to_seq_id": Trap(trap)}, protocol=protocol))
    with pytest.raises(ValueError, match=r"index_metadata\.pickle"):
        read_index_metadata(path)
    assert not trap.exists()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_a_value_error(data: bytes) -> None:
    for body in (data, b"\x80\x03" + data, b"\x80\x03}(" + data + b"."):
        with pytest.raises(ValueError):  # noqa: PT011 - any reason will do
            parse_index_metadata(body)
    with pytest.raises(ValueError):  # noqa: PT011
        parse_header(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x03X\xff\xff\xff\xff",  # a text of 4 GB
        b"\x80\x03\x8a\xff" + bytes(300),  # a number of 2,040 bits
        b"\x80\x03" + b"}(" * 100_000,  # nested for ever
        b"\x80\x03" + b"N" * 100_000,
        b"\x80\x03}(X\x01\x00\x00\x00aNX\x01\x00\x00\x00aNu.",  # a key twice
        b"\x80\x03u.",
        b"\x80\x03}N}u.",
    ],
)
def test_metadata_that_claim_too_much(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"index_metadata\.pickle"):
        parse_index_metadata(data)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 records, opened again for every batch, with updates and deletes."""
    folder = tmp_path_factory.mktemp("large") / "db"
    rng = np.random.default_rng(0)
    create(folder, Setup("cosine", 16, 500, 4))
    for start in range(0, 3000, 600):
        with client(folder) as opened:
            collection = opened.get_collection(NAME, embedding_function=None)
            ids = [f"r{i}" for i in range(start, start + 600)]
            collection.add(ids=ids, embeddings=rng.normal(size=(600, 16)).astype(np.float32), documents=ids)
            collection.upsert(ids=ids[:50], embeddings=rng.normal(size=(50, 16)).astype(np.float32))
            collection.delete(ids=ids[50:90])
    return folder


def test_a_large_database_is_sound_and_reads_the_same(large: Path, tmp_path: Path) -> None:
    structure = check_structure(large)
    assert structure.problems == ()
    assert structure.records == {NAME: 2800}
    assert structure.deleted[NAME] > 0
    assert structure.unreachable[NAME] < 300
    assert_equal(joined(read_records(large, rows=700)), api_records(large, tmp_path))


def test_garbage_in_every_index_file_never_raises_beyond_value_error(large: Path, tmp_path: Path) -> None:
    source = next(path for path in large.iterdir() if path.is_dir())
    folder = tmp_path / "index"
    shutil.copytree(source, folder)
    rng = np.random.default_rng(1)
    for name in HNSW_FILES:
        whole = (folder / name).read_bytes()
        for size in (0, 1, 99, 100, 101, len(whole) // 2, len(whole), len(whole) + 4):
            (folder / name).write_bytes(rng.bytes(size))
            try:
                files = open_hnsw(folder, 16)
                files.upper_links()
            except ValueError:
                pass
        (folder / name).write_bytes(whole)
    assert open_hnsw(folder, 16).header.count == 3000
