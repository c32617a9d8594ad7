"""A table of damages: whatever changes what a reader sees is found, but for the few kinds that are listed here.

Each damage is done to a copy of a sound database. It counts as found if `check_structure` names a problem or no longer
knows the format (the caller then asks ChromaDB). If it is not found, the records must read as before, or its kind must
stand in DIGEST_ONLY: the kinds that leave everything consistent, for which there are SHA-256 and the records' digest.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from embedding_assets.chroma.hnsw_files import HNSW_FILES
from embedding_assets.chroma.index_metadata import INDEX_METADATA_FILE
from embedding_assets.chroma.read import read_records
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE
from embedding_assets.chroma.structure import check_structure
from embedding_assets.records import digest_of
from embedding_assets_tests.chroma.databases import NAME, Setup, client, create, edit

DIGEST_ONLY = {
    ("synced", "data_level0.bin", "bit"),  # a low bit of a vector's component
    ("synced", "length.bin", "bit"),  # a norm that is another sound number
    ("synced", "chroma.sqlite3", "bit"),  # true for false: the only metadata that SQLite does not index
    ("tail", "data_level0.bin", "bit"),  # any bit of a vector's component that leaves it finite
    ("tail", "data_level0.bin", "random"),  # random finite floats are vectors like any other, for l2
    ("tail", "data_level0.bin", "zeros"),
    ("tail", "chroma.sqlite3", "bit"),  # a vector in the log
    ("log", "chroma.sqlite3", "bit"),
}

KINDS = ["synced", "tail", "log"]


@dataclass(frozen=True)
class Sound:
    """A sound database, a sibling with other contents, an older state of itself, and its records' digest."""

    folder: Path
    sibling: Path
    older: Path
    digest: str


def _fill(folder: Path, setup: Setup, seed: int, tail: int, older: Path | None = None, count: int = 300) -> None:
    rng = np.random.default_rng(seed)
    create(folder, setup)

    def write(method: str, start: int, stop: int) -> None:
        with client(folder) as opened:
            n = stop - start
            getattr(opened.get_collection(NAME, embedding_function=None), method)(
                ids=[f"{seed}-{i}" for i in range(start, stop)],
                embeddings=rng.normal(size=(n, setup.dimension)).astype(np.float32),
                documents=[f"document {i} of {seed}, {rng.integers(1e9)}" for i in range(start, stop)],
                metadatas=[{"n": i, "x": i / 8, "t": f"tag {i}", "b": i % 2 == 0} for i in range(start, stop)],
            )

    write("add", 0, count // 3)
    if older is not None:
        shutil.copytree(folder, older)
    write("add", count // 3, 2 * count // 3)
    write("add", 2 * count // 3, count)
    with client(folder) as opened:
        opened.get_collection(NAME, embedding_function=None).delete(ids=[f"{seed}-{i}" for i in range(5)])
    if tail:
        write("upsert", count - 10, count - 10 + tail)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sound]:
    setups = {
        "synced": (Setup("cosine", 12, 5, 8), 0),
        "tail": (Setup("l2", 12, 90, 4), 30),
        "log": (Setup("cosine", 12, 100_000, 8), 20),
    }
    made = {}
    for kind, (setup, tail) in setups.items():
        base = tmp_path_factory.mktemp(kind)
        _fill(base / "db", setup, 1, tail, base / "older")
        _fill(base / "sibling", setup, 2, tail, count=240)
        assert check_structure(base / "db").problems == ()
        made[kind] = Sound(base / "db", base / "sibling", base / "older", digest_of(read_records(base / "db")).hex())
    return made


def index_folder(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.is_dir())


def target(folder: Path, file: str) -> Path:
    return folder / file if file == SQLITE_FILE else index_folder(folder) / file


def judge(database: Sound, folder: Path) -> str:
    """`found`, `harmless` (not found, and the records read as before) or `unseen`."""
    structure = check_structure(folder)
    if structure.problems or not structure.known_format:
        return "found"
    return "harmless" if digest_of(read_records(folder)).hex() == database.digest else "unseen"


def _cut(at: float) -> Callable[[bytes, np.random.Generator], bytes]:
    return lambda data, _: data[: int(len(data) * at)]


def _block(data: bytes, rng: np.random.Generator, fill: Callable[[int], bytes]) -> bytes:
    if not data:
        return data
    size = max(1, min(1024, len(data) // 3))
    start = int(rng.integers(0, len(data) - size + 1))
    return data[:start] + fill(size) + data[start + size :]


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    if not data:
        return data
    at = int(rng.integers(0, len(data)))
    return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(0, 8)))]) + data[at + 1 :]


DAMAGES: dict[str, tuple[int, Callable[[bytes, np.random.Generator], bytes]]] = {
    "emptied": (1, lambda data, rng: b""),
    "cut by one byte": (1, lambda data, rng: data[:-1]),
    "cut to a tenth": (1, _cut(0.1)),
    "cut to half": (1, _cut(0.5)),
    "cut to most": (1, _cut(0.95)),
    "bit": (30, _flip),
    "zeros": (6, lambda data, rng: _block(data, rng, bytes)),
    "random": (6, lambda data, rng: _block(data, rng, rng.bytes)),
    "all random": (1, lambda data, rng: rng.bytes(len(data))),
    "grown": (1, lambda data, rng: data + rng.bytes(64)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", [SQLITE_FILE, INDEX_METADATA_FILE, *HNSW_FILES])
def test_damaged_files(sound: dict[str, Sound], tmp_path: Path, kind: str, file: str) -> None:
    database = sound[kind]
    if not target(database.folder, file).exists():
        pytest.skip("a database whose index was never written has no such file")
    folder = tmp_path / "db"
    shutil.copytree(database.folder, folder)
    path = target(folder, file)
    whole = path.read_bytes()
    rng = np.random.default_rng(sum(map(ord, kind + file)))
    unseen: dict[str, int] = {}
    for name, (times, damage) in DAMAGES.items():
        for _ in range(times):
            damaged = damage(whole, rng)
            if damaged == whole:
                continue
            path.write_bytes(damaged)
            verdict = judge(database, folder)
            if verdict == "unseen":
                assert (kind, file, name) in DIGEST_ONLY
                unseen[name] = unseen.get(name, 0) + 1
            elif verdict == "harmless" and kind != "log" and name.startswith(("emptied", "cut", "all", "grown")):
                # Beyond the last element, files hold room that means nothing; nothing else may go unnoticed.
                # The norms of an l2 index mean nothing either: ChromaDB never sets them.
                assert (file, name) in ((SQLITE_FILE, "grown"), ("length.bin", "all random"))
    print(f"{kind} {file}: only a digest finds {unseen}")
    path.unlink()
    assert judge(database, folder) == ("harmless" if kind == "log" and file != SQLITE_FILE else "found")


def test_bits_of_every_byte_of_the_header(sound: dict[str, Sound], tmp_path: Path) -> None:
    kind = "synced"
    folder = tmp_path / "db"
    shutil.copytree(sound[kind].folder, folder)
    path = target(folder, "header.bin")
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 3):  # 3 and 8 are coprime: all positions within a byte occur
        path.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ (1 << bit % 8)]) + whole[bit // 8 + 1 :])
        if judge(sound[kind], folder) != "found":
            # Spare room (bytes 12 to 19), or the last digits of the level multiplier.
            assert 12 <= bit // 8 < 20 or 84 <= bit // 8 < 90, f"bit {bit}"


@pytest.mark.parametrize("kind", ["synced", "tail"])
@pytest.mark.parametrize("other", ["sibling", "older"])
@pytest.mark.parametrize("file", [SQLITE_FILE, INDEX_METADATA_FILE, *HNSW_FILES])
def test_files_of_another_database_or_of_another_time(
    sound: dict[str, Sound], tmp_path: Path, kind: str, other: str, file: str
) -> None:
    database = sound[kind]
    source = target(getattr(database, other), file)
    folder = tmp_path / "db"
    shutil.copytree(database.folder, folder)
    shutil.copy(source, target(folder, file))
    assert judge(database, folder) == "found"


@pytest.mark.parametrize("kind", ["synced", "tail"])
def test_an_index_older_than_sqlite(sound: dict[str, Sound], tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "db"
    shutil.copytree(sound[kind].folder, folder)
    shutil.rmtree(index_folder(folder))
    shutil.copytree(index_folder(sound[kind].older), folder / index_folder(sound[kind].older).name)
    assert judge(sound[kind], folder) == "found"


@pytest.mark.parametrize("kind", ["synced", "tail"])
def test_an_index_that_is_gone(sound: dict[str, Sound], tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "db"
    shutil.copytree(sound[kind].folder, folder)
    shutil.rmtree(index_folder(folder))
    [problem] = check_structure(folder).problems
    assert "missing" in problem


ROWS_ONLY_A_DIGEST_MISSES = {
    "embedding_metadata",  # a key less, where it is not the document
    "embeddings_queue",  # an update that a later row does not show
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_deleted_from_each_table(sound: dict[str, Sound], tmp_path: Path, kind: str) -> None:
    database = sound[kind]
    folder = tmp_path / "db"
    connection = sqlite3.connect(database.folder / SQLITE_FILE)
    tables = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%fulltext_search'"
        )
        if not name.endswith(("_idx", "_config")) or name == "embeddings_queue_config"
    ]
    rng = np.random.default_rng(5)
    for table in tables:
        rows = [row for (row,) in connection.execute(f"SELECT rowid FROM {table} ORDER BY rowid")]
        picked = {rows[0], rows[-1], *rng.choice(rows, 4).tolist()} if rows else set()
        for where in [*(f"rowid = {row}" for row in picked), "1"]:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(database.folder, folder)
            edit(folder, f"DELETE FROM {table} WHERE {where}")
            if judge(database, folder) == "unseen":
                assert table in ROWS_ONLY_A_DIGEST_MISSES, (table, where)
                assert where != "1" or table == "embedding_metadata"
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE embedding_metadata SET string_value = string_value || 'x' WHERE key = 'chroma:document' AND id = 9",
        "UPDATE embedding_fulltext_search_content SET c0 = 'other text' WHERE id = 9",
        "UPDATE embeddings SET embedding_id = 'renamed' WHERE id = 9",
        "UPDATE embedding_metadata SET string_value = NULL WHERE id = 9",
        "UPDATE embedding_metadata SET int_value = 'x' WHERE id = 9 AND key = 'n'",
        "UPDATE embedding_metadata SET bool_value = 3 WHERE id = 9 AND key = 'b'",
        "UPDATE collections SET dimension = dimension + 1",
        "UPDATE collections SET dimension = NULL",
        "UPDATE collections SET schema_str = '{}'",
        "UPDATE collections SET schema_str = replace(schema_str, '\"max_neighbors\":8', '\"max_neighbors\":9')",
        "UPDATE segments SET scope = 'VECTOR'",
        "UPDATE segments SET collection = 'another'",
        "UPDATE max_seq_id SET seq_id = seq_id + 1000",
        "UPDATE max_seq_id SET seq_id = seq_id - 10",
        "UPDATE max_seq_id SET seq_id = 'x'",
        "UPDATE embeddings_queue SET vector = x'00'",
        "UPDATE embeddings_queue SET vector = x'0000c07f' || substr(vector, 5)",
        "UPDATE embeddings_queue SET metadata = '{'",
        "UPDATE embeddings_queue SET operation = 9",
        "UPDATE embeddings_queue SET topic = 'persistent://default/default/another'",
    ],
)
def test_values_that_cannot_be(sound: dict[str, Sound], tmp_path: Path, statement: str) -> None:
    folder = tmp_path / "db"
    shutil.copytree(sound["tail" if "queue" in statement else "synced"].folder, folder)
    edit(folder, statement)
    assert check_structure(folder).problems


def test_no_database_at_all(tmp_path: Path) -> None:
    [problem] = check_structure(tmp_path).problems
    assert "missing" in problem
    (tmp_path / SQLITE_FILE).write_bytes(b"x" * 5000)
    [problem] = check_structure(tmp_path).problems
    assert "no SQLite database" in problem
    (tmp_path / SQLITE_FILE).unlink()
    connection = sqlite3.connect(tmp_path / SQLITE_FILE)
    connection.execute("CREATE TABLE something (id INTEGER)")
    connection.close()
    [problem] = check_structure(tmp_path).problems
    assert "it has the table 'something', which no version of chromadb creates" in problem
