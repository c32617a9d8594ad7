"""Damages to every kind of object in a store, and strangers beside them."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from damages import another, leaves, put_at

from embedding_assets.store.sealed import CHECKSUM, checksum_of, dump

_DAY, _NAME = r"\d{4}-\d\d-\d\d", r"[^/]+"
# What an object is, by its key; the first that fits. What fits nowhere is a kind of its own, so that none is left out.
KINDS: dict[str, str] = {
    "request": rf"{_NAME}/requests/{_DAY}/{_NAME}/request\.json",
    "batch": rf"{_NAME}/requests/{_DAY}/{_NAME}/batch\.json",
    "ids": rf"{_NAME}/requests/{_DAY}/{_NAME}/ids-\w+\.parquet",
    "documents": rf"{_NAME}/requests/{_DAY}/{_NAME}/documents-\w+\.parquet",
    "input notes": rf"{_NAME}/requests/{_DAY}/{_NAME}/input-\w+\.json",
    "refused documents": rf"{_NAME}/requests/{_DAY}/refused/{_NAME}",
    "landing": rf"{_NAME}/results/{_DAY}/{_NAME}/{_NAME}/manifest\.json",
    "records": rf"{_NAME}/results/{_DAY}/{_NAME}/{_NAME}/records\.parquet",
    "accepted": rf"{_NAME}/results/{_DAY}/{_NAME}/{_NAME}/accepted\.parquet",
    "rejected": rf"{_NAME}/results/{_DAY}/{_NAME}/{_NAME}/rejected\.parquet",
    "submission log": rf"{_NAME}/asked/{_DAY}/{_NAME}",
    "delta manifest": rf"{_NAME}/delta/{_DAY}/{_NAME}/manifest\.json",
    "delta file": rf"{_NAME}/delta/{_DAY}/{_NAME}/chroma\.sqlite3",
    "mark": rf"{_NAME}/waiting/{_DAY}/{_NAME}",
    "log entry": rf"{_NAME}/snapshot/log/\d+\.json",
    "pointer": rf"{_NAME}/snapshot/latest-pointer\.txt",
    "snapshot manifest": rf"{_NAME}/snapshot/timestamped/{_NAME}/manifest\.json",
    "shard manifest": rf"{_NAME}/snapshot/timestamped/{_NAME}/shard-{_NAME}/manifest\.json",
    "shard file": rf"{_NAME}/snapshot/timestamped/{_NAME}/shard-.+",
    "snapshot file": rf"{_NAME}/snapshot/timestamped/.+",
    "statistics": rf"{_NAME}/snapshot/report/{_NAME}/statistics\.json",
    "report page": rf"{_NAME}/snapshot/report/.+",
    "quarantine report": rf"{_NAME}/quarantine/{_NAME}/{_NAME}/report\.json",
    "quarantined file": rf"{_NAME}/quarantine/.+",
    "alert message": r"_alerts/.+/outbox/.+",
    "alert claim": r"_alerts/.+\.claim\.json",
    "alert end": r"_alerts/.+\.end\.json",
    "_store.json": r"_store\.json",
    "identity's copy": r"_store/.+",
    "cached proof": r"cache:.+/_proof\.json",
    "cached copy": r"cache:.+/\.verified/.+",
}
# Of these many are alike; how many of each are damaged.
MOST = {"request": 5, "batch": 5, "landing": 5, "records": 4, "log entry": 4, "snapshot file": 8, "shard file": 5}
MOST |= dict.fromkeys(("cached copy", "alert end", "quarantined file", "report page", "statistics"), 2)
_MOST = 3
_FORGED_FIELDS_OF = 2  # of so many objects of a kind each field is edited
_FORGED = re.compile(
    r"request|batch|landing|delta manifest|log entry|snapshot manifest|shard manifest|.*report|_store.*"
)

Special = Literal["folder", "fifo", "loop", "link to a folder", "link to a file", "empty folder"]
Change = dict[str, "bytes | Special | None"]
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class ObjectCase:
    """One damage to one object, or one stranger.

    Attributes:
        name: unique, and the same whenever the store is prepared again.
        kind, damage: the row and the column of the table.
        key: the object; below `cache:` in a reader's cache.
        change: what is there instead, by key.
        fresh: whether a changed file has a new time; not where a bit rots.
    """

    name: str
    kind: str
    damage: str
    key: str
    change: Change
    fresh: bool = True

    @property
    def collection(self) -> str:
        """Whose it is; the first part of its key where it is nobody's."""
        return _owner(self.key)

    @property
    def collections(self) -> set[str]:
        """Whose objects are changed."""
        return {_owner(key) for key in self.change}


def _owner(key: str) -> str:
    return re.sub(r"^cache:[^/]+/", "", key).split("/")[0]


def kind_of(key: str) -> str:
    """The kind of object that a key is of."""
    for kind, pattern in KINDS.items():
        if re.fullmatch(pattern, key, re.DOTALL):
            return kind
    return re.sub(r"[0-9a-f]{6,}|\d+", "*", key.rsplit("/", 1)[-1])


def object_cases(files: Files, older: Files) -> Iterator[ObjectCase]:
    """All damages to all kinds of objects.

    Args:
        files: what is in the store, and in the cache (`cache:...`).
        older: what was there under the same keys before, where that was something else.
    """
    by_kind: dict[str, list[str]] = defaultdict(list)
    for key in sorted(files):
        by_kind[kind_of(key)].append(key)
    for kind, keys in by_kind.items():
        chosen = _spread(keys, MOST.get(kind, _MOST))
        for number, key in enumerate(chosen):
            rng = np.random.default_rng([sum(map(ord, kind)), number])
            counts: dict[str, int] = defaultdict(int)
            for damage, change, fresh in _of_object(files, older, kind, keys, key, rng, number):
                if any(files.get(path) != content for path, content in change.items()):
                    counts[damage] += 1
                    yield ObjectCase(
                        f"{kind} {number + 1}: {damage} {counts[damage]}", kind, damage, key, change, fresh
                    )


def _spread(keys: list[str], most: int) -> list[str]:
    """Some of them, the first and the last among them."""
    if len(keys) <= most:
        return keys
    return [keys[round(i * (len(keys) - 1) / (most - 1))] for i in range(most)]


def _of_object(
    files: Files, older: Files, kind: str, keys: list[str], key: str, rng: np.random.Generator, number: int
) -> Iterator[tuple[str, Change, bool]]:
    data = files[key]
    yield "deleted", {key: None}, True
    yield "folder", {key: "folder"}, True
    if data:
        yield "emptied", {key: b""}, True
        for length in (len(data) - 1, len(data) // 2):
            yield "cut", {key: data[:length]}, True
        for _ in range(4):
            at = int(rng.integers(len(data)))
            flipped = bytes([data[at] ^ 1 << int(rng.integers(8))])
            yield "bits", {key: data[:at] + flipped + data[at + 1 :]}, False
        for _ in range(3):
            yield "digits", {key: _digit_edited(data, rng)}, True
    else:
        yield "filled", {key: b"not empty"}, True
    others = [other for other in keys if other != key and files[other] != data and _alike(key, other)]
    if others:
        yield "swapped", {key: files[others[-1]], others[-1]: data}, True
        yield "swapped", {key: files[others[0]]}, True
    before = [other for other in others if other < key]
    if older.get(key, data) != data:
        yield "older", {key: older[key]}, True
    elif before:
        yield "older", {key: files[before[-1]]}, True
    for change in _forged(files, kind, key, data, number):
        yield "forged", change, True


def _alike(key: str, other: str) -> bool:
    """Whether two objects of a kind are of one file name, as far as that says anything."""
    names = [one.rsplit("/", 1)[-1] for one in (key, other)]
    return names[0] == names[1] or not names[0].endswith((".bin", ".pickle", ".sqlite3", ".png", ".html"))


def _digit_edited(data: bytes, rng: np.random.Generator) -> bytes:
    places = [at for at, byte in enumerate(data) if 48 <= byte <= 57]
    if not places:
        return data[:-1] + bytes([data[-1] ^ 1])
    at = places[int(rng.integers(len(places)))]
    other = 48 + (data[at] - 48 + 1 + int(rng.integers(9))) % 10
    return data[:at] + bytes([other]) + data[at + 1 :]


# Checksums that are made to fit.


def sealed_again(raw: dict[str, Any]) -> bytes:
    """An edited object with the checksum that fits it."""
    raw = {name: value for name, value in raw.items() if name != CHECKSUM}
    return dump({**raw, CHECKSUM: checksum_of(raw)})


def _forged(files: Files, kind: str, key: str, data: bytes, number: int) -> Iterator[Change]:
    if _FORGED.fullmatch(kind) and key.endswith(".json") and number < _FORGED_FIELDS_OF:
        yield from ({key: content} for content in _fields_edited(data))
    folder = key.rpartition("/")[0]
    if kind in ("records", "accepted", "rejected", "ids", "documents"):
        for content in _rows_edited(data):
            if kind in ("ids", "documents"):
                name = f"{kind}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
                holder, entry = f"{folder}/request.json", kind
            else:
                name, holder, entry = f"{kind}.parquet", f"{folder}/manifest.json", f"{kind}_file"
            raw = orjson.loads(files[holder])
            raw[entry] = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            yield {
                **({key: None} if name != key.rpartition("/")[2] else {}),
                f"{folder}/{name}": content,
                holder: sealed_again(raw),
            }
    if kind in ("delta file", "snapshot file", "shard file"):
        for content in _database_edited(key, data):
            yield {key: content, **_manifests_that_fit(files, key, content)}
    if kind == "cached copy":
        proof = next(k for k in files if k.endswith("/_proof.json") and key.startswith(k.removesuffix("_proof.json")))
        raw = orjson.loads(files[proof])
        edited = data[:-1] + bytes([data[-1] ^ 1]) if data else b"x"
        path = key.removeprefix(proof.removesuffix("_proof.json"))
        raw["files"][path][2] = hashlib.sha256(edited).hexdigest()
        yield {key: edited, proof: sealed_again(raw)}


def _fields_edited(data: bytes) -> Iterator[bytes]:
    raw = orjson.loads(data)
    for place, value in leaves(raw, ()):
        if place[0] in (CHECKSUM, "object", "key", "format"):
            continue
        others = [another(value), *([0] if isinstance(value, int) and value > 1 else [])]
        for other in others:
            edited = orjson.loads(data)
            put_at(edited, place, other)
            yield sealed_again(edited)


def _rows_edited(data: bytes) -> Iterator[bytes]:
    table = pq.read_table(io.BytesIO(data))
    if not table.num_rows:
        return
    yield _parquet(table.slice(1))
    rows = table.to_pylist()
    for column in table.column_names:
        edited = [dict(row) for row in rows]
        value = edited[0][column]
        if isinstance(value, str):
            edited[0][column] = value + "x" if column != "metadata" else '{"n":99}'
        elif isinstance(value, list):
            edited[0][column] = [-value[0], *value[1:]]
        elif isinstance(value, bytes):
            edited[0][column] = value[:-1] + bytes([value[-1] ^ 1])
        elif isinstance(value, bool):
            edited[0][column] = not value
        else:
            continue
        yield _parquet(pa.Table.from_pylist(edited, table.schema))
    if len(rows) > 1 and "embedding" in table.column_names:
        edited = [dict(row) for row in rows]
        edited[0]["embedding"], edited[1]["embedding"] = rows[1]["embedding"], rows[0]["embedding"]
        yield _parquet(pa.Table.from_pylist(edited, table.schema))


def _parquet(table: pa.Table) -> bytes:
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()


def _database_edited(key: str, data: bytes) -> Iterator[bytes]:
    if key.endswith("data_level0.bin"):
        at = len(data) - 12  # within the last vector
        yield data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]
    if not key.endswith(".sqlite3"):
        return
    if "/delta/" in key:
        one = "(SELECT min(seq_id) FROM embeddings_queue)"
        statements = [
            f"UPDATE embeddings_queue SET metadata = replace(metadata, 'text ', 'next ') WHERE seq_id = {one}",
            f"DELETE FROM embeddings_queue WHERE seq_id = {one}",
            f"UPDATE embeddings_queue SET vector = (SELECT vector FROM embeddings_queue WHERE seq_id = {one} + 1) "
            f"WHERE seq_id = {one}",
            f"UPDATE embeddings_queue SET id = id || 'x' WHERE seq_id = {one}",
        ]
    else:
        one = "(SELECT min(id) FROM embeddings)"
        document = f"id = {one} AND key = 'chroma:document'"
        statements = [
            f"UPDATE embedding_metadata SET string_value = replace(string_value, 'text ', 'next ') WHERE {document}",
            f"DELETE FROM embeddings WHERE id = {one}",
            f"UPDATE embeddings SET embedding_id = embedding_id || 'x' WHERE id = {one}",
            f"UPDATE embedding_metadata SET int_value = int_value + 9 WHERE id = {one} AND key = 'ea:submitted'",
        ]
    for statement in statements:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chroma.sqlite3"
            path.write_bytes(data)
            connection = sqlite3.connect(path)
            with connection:
                changed = connection.execute(statement).rowcount
            connection.close()
            assert changed == 1, statement
            yield path.read_bytes()


def _manifests_that_fit(files: Files, key: str, content: bytes) -> Change:
    """Every manifest that names the file, with its new size and checksum."""
    found: Change = {}
    folder = key.rpartition("/")[0]
    while folder.count("/") >= 3:
        holder = f"{folder}/manifest.json"
        if holder in files:
            raw = orjson.loads(files[holder])
            entry = next(e for e in raw["files"] if e["path"] == key.removeprefix(f"{folder}/"))
            entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            if "changes" in entry:
                entry["changes"] = int.from_bytes(content[24:28], "big")
            found[holder] = sealed_again(raw)
        folder = folder.rpartition("/")[0]
    return found


# Strangers.

_STRANGERS: dict[str, tuple[str, bytes | Special]] = {
    ".DS_Store": (".DS_Store", b"\0\0\0\1Bud1"),
    "not UTF-8": (os.fsdecode(b"caf\xe9.json"), b"{}"),
    "newline": ("two\nlines.json", b"{}"),
    "control": ("bell\x07", b"x"),
    "loop": ("loop", "loop"),
    "link to a folder": ("elsewhere", "link to a folder"),
    "link to a file": ("9999999999.json", "link to a file"),
    "FIFO": ("pipe.json", "fifo"),
    "month 13": ("20261328T120000000000-0a1b2c3d/x", b"x"),
    "empty folder": ("20261127T120000000000-0a1b2c3d", "empty folder"),
    "upload": ("chroma.sqlite3#7", b"unfinished"),
    "copy": ("manifest (1).json", b"{}"),
    "long name": ("n" * 200, b"x"),
}


def stranger_cases(files: Files) -> Iterator[ObjectCase]:
    """Each stranger in every other kind of folder that there is."""
    places: dict[str, str] = {}
    for key in sorted(key for key in files if not key.startswith("cache:")):
        folder = key.rpartition("/")[0]
        while True:
            places.setdefault(re.sub(rf"{_DAY}|[0-9a-f]{{8,}}|\d{{4,}}", "*", re.sub(r"T\d+-\w+", "*", folder)), folder)
            if not folder:
                break
            folder = folder.rpartition("/")[0]
    seen: set[str] = set()
    for place, folder in places.items():
        alike = re.sub(r"^(lines|words|parts)\b", "", place)
        if alike in seen and not place.startswith("_"):
            continue
        seen.add(alike)
        # Every other stranger here, the others in the next place.
        for damage, (name, content) in list(_STRANGERS.items())[len(seen) % 2 :: 2]:
            key = f"{folder}/{name}".lstrip("/")
            yield ObjectCase(f"stranger in {place or 'the store'}: {damage}", "stranger", damage, key, {key: content})


# Doing it.


def apply(case: ObjectCase, store: Path, cache: Path, outside: Path, placed: Callable[[str], str]) -> None:
    """Do the damage.

    Args:
        store, cache: the folders of this case.
        outside: a folder of somebody else, for links.
        placed: where a key below `cache:` is here.
    """
    for key, content in case.change.items():
        path = cache / placed(key) if key.startswith("cache:") else store / key
        times = (path.stat().st_atime_ns, path.stat().st_mtime_ns) if path.is_file() else None
        path.unlink(missing_ok=True)
        if content is None:
            _without_empty(path.parent, store)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
            if times and not case.fresh:
                os.utime(path, ns=times)
        elif content == "folder":
            path.mkdir()
            (path / "x").write_bytes(b"x")
        elif content == "empty folder":
            path.mkdir()
        elif content == "fifo":
            os.mkfifo(path)
        elif content == "loop":
            path.symlink_to(path.name)
        else:
            path.symlink_to(outside if content == "link to a folder" else outside / "precious.json")


def _without_empty(folder: Path, root: Path) -> None:
    """An object store has no empty folders."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
