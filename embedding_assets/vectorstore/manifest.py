"""What a delta or a snapshot says of itself; written last, put-if-absent: no manifest, no database."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import orjson

from embedding_assets.catalog import VectorKind
from embedding_assets.chroma.spec import DatabaseSpec, database_files
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE, change_counter
from embedding_assets.errors import ConfigurationError, CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.store.sealed import CHECKSUM, checksum_of, dump

FORMAT = 4  # 1 had neither shards nor SQLite's change counter, 2 had shards, 3 had no records set aside
_LATER = ("engine", "shard", "shards")  # fields that the first manifests did not have: left out where they say nothing
_HASHED_AT_ONCE = 4  # hashing leaves Python's lock alone
Kind = Literal["delta", "snapshot"]


@dataclass(frozen=True)
class FileEntry:
    """One file of a database.

    Attributes:
        path: relative to the database's folder.
        size: in bytes.
        sha256: in hexadecimal.
        changes: SQLite's change counter, which every program that writes to the file moves on. None for other files,
            and in manifests of earlier versions.
    """

    path: str
    size: int
    sha256: str
    changes: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class BatchEntry:
    """One batch in a delta.

    Attributes:
        batch_id: the API's id of the batch.
        submitted: its created_at, seconds since 1970.
        landing_id: which landing of its results was used.
        accepted: records that the landing holds.
        applied: how many of them are in the delta; the rest were overtaken by a later batch of the same delta, or are
            set aside.
        set_aside: ids of those that no database takes; they are in the quarantine. Left out of the object where empty.
    """

    batch_id: str
    submitted: int
    landing_id: str
    accepted: int
    applied: int
    set_aside: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShardEntry:
    """One shard of a snapshot: its folder's name, its records, and their digest. One without records has no files."""

    name: str
    count: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """The manifest of a delta, of a snapshot, or of one shard of a snapshot.

    Attributes:
        kind, id: what it is; a snapshot's id is its version.
        collection, model, dimension, distance: what its vectors are.
        count: records.
        digest: `records.ContentDigest` of them all, as the database gives them back.
        files: all files of the database.
        created_at: when the manifest was written, ISO 8601, UTC.
        run_id: the run that wrote it.
        chromadb_version, format: what it was written with, and the version of this very form.
        engine: `direct`, or `api` and why chromadb itself wrote the database; left out where nothing is known of it.
        day, batches: of a delta, the cell's day and the batches in it.
        generation, parent, deltas: of a snapshot, its place in the commit log, the version that it was made from
            (None: from nothing), and all deltas that are in it.
        shards: of a snapshot that is divided, its shards in order; its files are those of all of them.
        shard: of a shard's own manifest, its name; id, generation and parent are its version's.
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
    engine: str = ""
    day: str | None = None
    batches: tuple[BatchEntry, ...] = ()
    generation: int | None = None
    parent: str | None = None
    deltas: tuple[str, ...] = ()
    shard: str = ""
    shards: tuple[ShardEntry, ...] = ()

    @property
    def database(self) -> DatabaseSpec:
        """What its database holds."""
        return DatabaseSpec(self.collection, self.dimension, self.distance)

    @property
    def vectors(self) -> VectorKind:
        """The kind of its vectors."""
        return VectorKind(self.model, self.dimension, self.distance)

    @property
    def folder(self) -> str:
        """Where it is in the store."""
        if self.kind == "delta":
            return layout.deltas(self.collection, self.day, self.id)
        return layout.snapshots(self.collection, self.id, self.shard)

    @property
    def parts(self) -> tuple[Manifest | None, ...]:
        """Its databases, each as a manifest of its own: itself, or its shards; None for a shard without records."""
        if not self.shards:
            return (self,)
        return tuple(self._part(entry) if entry.count else None for entry in self.shards)

    @property
    def databases(self) -> tuple[Manifest, ...]:
        """Its parts that have records."""
        return tuple(part for part in self.parts if part is not None)

    def _part(self, shard: ShardEntry) -> Manifest:
        start = f"{shard.name}/"
        files = tuple(
            replace(entry, path=entry.path.removeprefix(start)) for entry in self.files if entry.path.startswith(start)
        )
        return replace(self, shard=shard.name, shards=(), count=shard.count, digest=shard.digest, files=files)

    @property
    def set_aside(self) -> int:
        """How many accepted records of its batches no database takes."""
        return sum(len(entry.set_aside) for entry in self.batches)

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
        content = {name: value for name, value in asdict(self).items() if value or name not in _LATER}
        content["files"] = [{name: value for name, value in e.items() if value is not None} for e in content["files"]]
        for entry in content["batches"]:
            if not entry["set_aside"]:
                del entry["set_aside"]
        return dump({**content, CHECKSUM: checksum_of(content)})


def parse_manifest(data: bytes, key: str) -> Manifest:
    """The inverse of `Manifest.to_bytes`.

    Raises:
        CorruptedError: the object is no manifest, or is another's.
        ConfigurationError: a newer version of this package wrote it.
    """
    try:
        raw: dict[str, Any] = orjson.loads(data)
        if raw.pop(CHECKSUM) != checksum_of(raw):
            raise ValueError("it is not as it was written: its checksum is another")
        if type(raw["format"]) is int and raw["format"] > FORMAT:
            # Not damage: to take it for that would move aside what a newer version wrote.
            raise ConfigurationError(
                key, f"has the format {raw['format']}; this version reads {FORMAT}", "Update embedding-assets."
            )
        if raw["format"] not in range(1, FORMAT + 1):
            raise ValueError(f"its format is {raw['format']!r}; this version reads 1 to {FORMAT}")
        raw["files"] = tuple(FileEntry(**entry) for entry in raw["files"])
        raw["batches"] = tuple(
            BatchEntry(**{**entry, "set_aside": tuple(entry.get("set_aside", ()))}) for entry in raw["batches"]
        )
        raw["deltas"] = tuple(raw["deltas"])
        raw["shards"] = tuple(ShardEntry(**entry) for entry in raw.get("shards", ()))
        manifest = Manifest(**raw)
        if manifest.key != key:
            raise ValueError(f"it is the manifest of {manifest.key}")
        if manifest.to_bytes() != data:
            raise ValueError("it is not written as this version writes it")
        for entry in manifest.files:
            if not layout.is_path(entry.path):
                raise ValueError(f"it names a file outside its folder: {entry.path[:80]!r}")
        _require_possible(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptedError(key, f"the manifest is damaged ({error})", "Run `embedding-assets check`.") from error
    return manifest


def _require_possible(manifest: Manifest) -> None:
    """ValueError for numbers and hashes that cannot be, for who reads a manifest relies on their types."""
    shards = manifest.shards
    numbers = [manifest.count, manifest.dimension, *(e.size for e in manifest.files), *(s.count for s in shards)]
    numbers += [entry.changes for entry in manifest.files if entry.changes is not None]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a number in it is none")
    texts = [manifest.digest, *(entry.sha256 for entry in manifest.files), *(shard.digest for shard in shards)]
    if not all(type(text) is str and len(text) == 64 for text in texts):
        raise ValueError("a hash in it is none")
    if manifest.kind not in ("delta", "snapshot") or (manifest.kind == "snapshot" and manifest.generation is None):
        raise ValueError(f"its kind is {manifest.kind!r}, its generation {manifest.generation}")
    if [s.name for s in shards] != [layout.shard_name(n, len(shards)) for n in range(len(shards)) if len(shards) > 1]:
        raise ValueError("its shards are not one another's")
    for part in manifest.databases:
        if SQLITE_FILE not in {entry.path for entry in part.files}:
            raise ValueError(f"it names no {SQLITE_FILE}")


def load_manifest(store: ObjectStore, key: str) -> Manifest:
    """Read one manifest from the store."""
    return store.read(key, lambda data: parse_manifest(data, key))


def describe_files(folder: Path) -> tuple[FileEntry, ...]:
    """Size and SHA-256 of every file of a closed database."""

    def describe(path: Path) -> FileEntry:
        changes = change_counter(folder / path) if path.name == SQLITE_FILE else None
        return FileEntry(path.as_posix(), (folder / path).stat().st_size, sha256_of(folder / path), changes)

    with ThreadPoolExecutor(_HASHED_AT_ONCE) as pool:
        return tuple(pool.map(describe, database_files(folder)))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(4 * 1024 * 1024):
            digest.update(piece)
    return digest.hexdigest()
