"""Damages to the stored files of a database, as new contents by path; None means that the file is gone."""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from embedding_assets.vectorstore.manifest import FileEntry, Manifest

SQLITE = "chroma.sqlite3"
MANIFEST = "manifest.json"
Files = dict[str, bytes]
Change = dict[str, "bytes | None"]


@dataclass(frozen=True)
class Case:
    """One damage: what it is called in the table, the file that it is about, and what it changes."""

    kind: str
    file: str
    change: Change


def damages(files: Files, sibling: Files, older: Files, seed: int) -> Iterator[Case]:
    """Damages to every file of a database, its manifest apart.

    Args:
        files: the database.
        sibling: another one of the same kind.
        older: the same one at an earlier time, under the same paths; may be empty.
        seed: of the choices.
    """
    rng = np.random.default_rng(seed)
    by_name = {_name(path): content for path, content in sibling.items()}
    for path in [path for path in files if path != MANIFEST]:
        for kind, content in _of_bytes(files[path], rng):
            yield Case(kind, _name(path), {path: content})
        yield Case("swapped", _name(path), {path: by_name.get(_name(path), b"")})
        if path in older:
            yield Case("stale", _name(path), {path: older[path]})
    for path in [path for path in files if path.endswith("index_metadata.pickle")]:
        folder = path.rpartition("/")[0]
        index = {other: older.get(other) for other in files if other.startswith(folder)}
        yield Case("stale", "whole index", index)
        yield Case("deleted", "whole index", dict.fromkeys(index))
        links = files.get(f"{folder}/data_level0.bin", b"")
        yield Case("graph cut", "data_level0.bin", {f"{folder}/data_level0.bin": _without_links(files, folder, links)})
    for table, content in _rows_lost(files[SQLITE], rng):
        yield Case("rows lost", f"{SQLITE}: {table}", {SQLITE: content})


def _of_bytes(data: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes | None]]:
    yield "deleted", None
    yield "emptied", b""
    for length in (len(data) - 1, len(data) * 9 // 10, len(data) // 2, 7):
        yield "truncated", data[: max(length, 0)]
    for _ in range(4):
        yield "bit flipped", _with(data, rng, 1, lambda old: bytes([old[0] ^ 1 << int(rng.integers(8))]))
    for _ in range(3):
        yield "block zeroed", _with(data, rng, min(4096, max(1, len(data) // 8)), lambda old: bytes(len(old)))
    yield "block of garbage", _with(data, rng, min(1024, max(1, len(data) // 8)), lambda old: rng.bytes(len(old)))


def _with(data: bytes, rng: np.random.Generator, size: int, change: Callable[[bytes], bytes]) -> bytes:
    if not data:
        return data
    at = int(rng.integers(0, len(data) - size + 1))
    return data[:at] + change(data[at : at + size]) + data[at + size :]


def _without_links(files: Files, folder: str, level0: bytes) -> bytes:
    """No element leads to another: sound to the last byte but for that nothing is found any more."""
    header = files[f"{folder}/header.bin"]
    size = int.from_bytes(header[28:36], "little")
    cut = bytearray(level0)
    for start in range(0, len(cut) - size + 1, size):
        cut[start : start + 2] = b"\0\0"
    return bytes(cut)


def _rows_lost(data: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """One row, and all rows, of each table that has any."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / SQLITE
        path.write_bytes(data)
        connection = sqlite3.connect(path)
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%fulltext_search' "
                # Every program that opens the database writes to this one: it is no record, and no damage.
                "AND name NOT LIKE '%_idx' AND name != 'acquire_write'"
            )
        ]
        for table in tables:
            # The full-text index's own settings stand in a table without rowid.
            key = "k" if table.endswith("search_config") else "rowid"
            rows = [row for (row,) in connection.execute(f"SELECT {key} FROM {table}")]
            for where in [f"{key} = {str(rng.choice(rows))!r}", "1"] if rows else []:
                path.write_bytes(data)
                with sqlite3.connect(path) as one:
                    one.execute(f"DELETE FROM {table} WHERE {where}")
                one.close()
                yield table, path.read_bytes()
        connection.close()


def manifest_damages(manifest: Manifest, other: Manifest, seed: int) -> Iterator[Case]:
    """Damages to the manifest alone: its bytes, every field of it, and the manifest of another database."""
    rng = np.random.default_rng(seed)
    whole = manifest.to_bytes()
    yield Case("manifest missing", MANIFEST, {MANIFEST: None})
    for kind, content in _of_bytes(whole, rng):
        if content is not None:
            yield Case(kind, MANIFEST, {MANIFEST: content})
    yield Case("swapped", MANIFEST, {MANIFEST: other.to_bytes()})
    raw = orjson.loads(whole)
    for place, value in leaves(raw, ()):
        edited = orjson.loads(whole)
        put_at(edited, place, another(value))
        yield Case("manifest edited", MANIFEST, {MANIFEST: orjson.dumps(edited, option=orjson.OPT_INDENT_2)})
        # What the model was is written nowhere else; with another one it is of another kind than declared: unknown.
        if place[0] in ("files", "count", "digest", "dimension", "distance", "collection", "id", "kind"):
            edited.pop("checksum")
            edited["checksum"] = hashlib.sha256(orjson.dumps(edited)).hexdigest()
            options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
            yield Case("edited, checksum re-made", MANIFEST, {MANIFEST: orjson.dumps(edited, option=options)})


def with_fitting_manifest(case: Case, files: Files, manifest: Manifest) -> Case | None:
    """The same damage with a manifest whose files fit it; count and digest of the records stay. None if it has none."""
    damaged = {path: case.change.get(path, content) for path, content in files.items() if path != MANIFEST}
    if damaged.get(SQLITE) is None:
        return None
    entries = tuple(
        FileEntry(path, len(content), hashlib.sha256(content).hexdigest())
        for path, content in sorted(damaged.items())
        if content is not None
    )
    fitting = dataclasses.replace(manifest, files=entries).to_bytes()
    return Case("with a manifest that fits", case.file, {**case.change, MANIFEST: fitting})


def leaves(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*place, key))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*place, 0))
        if len(value) > 1:
            yield from leaves(value[-1], (*place, len(value) - 1))
    else:
        yield place, value


def put_at(target: Any, place: tuple[Any, ...], value: Any) -> None:
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value


def another(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str) and value:
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    return "x" if value is None or value == "" else ["x"]


def _name(path: str) -> str:
    return path.rpartition("/")[2]
