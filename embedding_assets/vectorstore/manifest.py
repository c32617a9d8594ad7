"""What a delta or a snapshot says of itself; written last, put-if-absent: no manifest, no database."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from embedding_assets.chroma.spec import DatabaseSpec, database_files
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE
from embedding_assets.errors import ConfigurationError, CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

FORMAT = 1
_HASHED_AT_ONCE = 4  # hashing leaves Python's lock alone
_CHECKSUM = "checksum"  # of everything else in the manifest: finds what an edit or a flipped bit changed
Kind = Literal["delta", "snapshot"]


@dataclass(frozen=True)
class FileEntry:
    """One file of a database: path relative to its folder, size in bytes, SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BatchEntry:
    """One batch in a delta.

    Attributes:
        batch_id: the API's id of the batch.
        submitted: its created_at, seconds since 1970.
        landing_id: which landing of its results was used.
        accepted: records that the landing holds.
        applied: how many of them are in the delta; the rest were overtaken by a later batch of the same delta.
    """

    batch_id: str
    submitted: int
    landing_id: str
    accepted: int
    applied: int


@dataclass(frozen=True)
class Manifest:
    """The manifest of a delta or of a snapshot.

    Attributes:
        kind, id: what it is; a snapshot's id is its version.
        collection, model, dimension, distance: what its vectors are.
        count: records.
        digest: `records.ContentDigest` of them all, as the database gives them back.
        files: all files of the database.
        created_at: when the manifest was written, ISO 8601, UTC.
        run_id: the run that wrote it.
        chromadb_version, format: what it was written with, and the version of this very form.
        day, batches: of a delta, the cell's day and the batches in it.
        generation, parent, deltas: of a snapshot, its place in the commit log, the version that it was made from
            (None: from nothing), and all deltas that are in it.
    """

    kind: Kind
    id: str
    collection: str
    model: str
    dimension: int
    distance: str
    count: int
    digest: str
    files: tuple[FileEntry, ...]
    created_at: str
    run_id: str
    chromadb_version: str
    format: int = FORMAT
    day: str | None = None
    batches: tuple[BatchEntry, ...] = ()
    generation: int | None = None
    parent: str | None = None
    deltas: tuple[str, ...] = ()

    @property
    def database(self) -> DatabaseSpec:
        """What its database holds."""
        return DatabaseSpec(self.collection, self.dimension, self.distance)

    @property
    def folder(self) -> str:
        """Where it is in the store."""
        if self.kind == "delta":
            return layout.deltas(self.collection, self.day, self.id)
        return layout.snapshots(self.collection, self.id)

    @property
    def key(self) -> str:
        """The key of the manifest itself."""
        return f"{self.folder}/{layout.MANIFEST}"

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def to_bytes(self) -> bytes:
        """As the object that is stored; the same manifest gives the same bytes, its checksum last."""
        content = asdict(self)
        content[_CHECKSUM] = _checksum_of(content)
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def parse_manifest(data: bytes, key: str) -> Manifest:
    """The inverse of `Manifest.to_bytes`.

    Raises:
        CorruptedError: the object is no manifest, or is another's.
        ConfigurationError: a newer version of this package wrote it.
    """
    try:
        raw: dict[str, Any] = orjson.loads(data)
        if raw.pop(_CHECKSUM) != _checksum_of(raw):
            raise ValueError("it is not as it was written: its checksum is another")
        if type(raw["format"]) is int and raw["format"] > FORMAT:
            # Not damage: to take it for that would move aside what a newer version wrote.
            raise ConfigurationError(
                key, f"has the format {raw['format']}; this version reads {FORMAT}", "Update embedding-assets."
            )
        if raw["format"] != FORMAT:
            raise ValueError(f"its format is {raw['format']!r}; this version reads {FORMAT}")
        raw["files"] = tuple(FileEntry(**entry) for entry in raw["files"])
        raw["batches"] = tuple(BatchEntry(**entry) for entry in raw["batches"])
        raw["deltas"] = tuple(raw["deltas"])
        manifest = Manifest(**raw)
        if manifest.key != key:
            raise ValueError(f"it is the manifest of {manifest.key}")
        if manifest.to_bytes() != data:
            raise ValueError("it is not written as this version writes it")
        for entry in manifest.files:
            if entry.path.startswith("/") or ".." in entry.path.split("/"):
                raise ValueError(f"it names a file outside its folder: {entry.path!r}")
        _require_possible(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptedError(key, f"the manifest is damaged ({error})", "Run `embedding-assets check`.") from error
    return manifest


def _checksum_of(content: dict[str, Any]) -> str:
    """The one rule that every format to come has to keep: by it an older version tells a newer one's from a damaged."""
    return hashlib.sha256(orjson.dumps(content)).hexdigest()


def _require_possible(manifest: Manifest) -> None:
    """ValueError for numbers and hashes that cannot be, for who reads a manifest relies on their types."""
    numbers = [manifest.count, manifest.dimension, *(entry.size for entry in manifest.files)]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a number in it is none")
    texts = [manifest.digest, *(entry.sha256 for entry in manifest.files)]
    if not all(type(text) is str and len(text) == 64 for text in texts):
        raise ValueError("a hash in it is none")
    if manifest.kind not in ("delta", "snapshot") or (manifest.kind == "snapshot" and manifest.generation is None):
        raise ValueError(f"its kind is {manifest.kind!r}, its generation {manifest.generation}")
    if SQLITE_FILE not in {entry.path for entry in manifest.files}:
        raise ValueError(f"it names no {SQLITE_FILE}")


def load_manifest(store: ObjectStore, key: str) -> Manifest:
    """Read one manifest from the store."""
    return parse_manifest(store.get(key), key)


def describe_files(folder: Path) -> tuple[FileEntry, ...]:
    """Size and SHA-256 of every file of a closed database."""

    def describe(path: Path) -> FileEntry:
        return FileEntry(path.as_posix(), (folder / path).stat().st_size, sha256_of(folder / path))

    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        return tuple(pool.map(describe, database_files(folder)))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(4 * 1024 * 1024):
            digest.update(piece)
    return digest.hexdigest()
