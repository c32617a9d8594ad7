"""Files of the store that a small JSON object vouches for with name, size and SHA-256."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.errors import CorruptedError, ObjectMissingError, StoreUnavailableError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.store.sealed import decode

NAMED_BY_CONTENT = re.compile(r"(ids|documents)-([0-9a-f]{16})\.parquet")  # a request's two files
_ROWS = 5_000
WORKERS = 16  # requests to the store or the API at once: what they cost is waiting

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it must be: its name within its folder, size in bytes, SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        layout.require_names(self.name)


def store_file(store: ObjectStore, folder: str, path: Path, named_by_content: bool = False) -> StoredFile:
    """Upload a file into a folder.

    Args:
        named_by_content: put the hash into the name. Two writers at one folder, whose Parquet libraries may write
            the same rows as different bytes, then never overwrite each other's file.
    """
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    sha256 = digest.hexdigest()
    name = f"{path.stem}-{sha256[:16]}{path.suffix}" if named_by_content else path.name
    key = f"{folder}/{name}"
    store.upload(key, path)
    if store.size(key) != size:
        # Some servers answer that they have written an object, and have none.
        raise StoreUnavailableError(key, "the store does not hold what was uploaded", "The next run uploads it again.")
    return StoredFile(name, size, sha256)


def is_named_by(name: str, data: bytes) -> bool:
    """Whether a file is the one that was given this name by its content."""
    match = NAMED_BY_CONTENT.fullmatch(name)
    return match is not None and hashlib.sha256(data).hexdigest().startswith(match.group(2))


def fetch_file(store: ObjectStore, folder: str, file: StoredFile, path: Path) -> Path:
    """Download a file and hold it against what it must be; what is missing or differs is fetched a second time.

    Raises:
        CorruptedError: it is gone, or is not what was written.
        StoreError: the store did not answer, or refuses.
    """
    key = f"{folder}/{file.name}"
    wanted = (file.size, file.sha256)
    for look in (1, 2):
        try:
            found = store.download(key, path)
            if (path.stat().st_size, found) == wanted:
                return path
        except ObjectMissingError:
            if look == 2:
                raise _gone(key) from None
    path.unlink(missing_ok=True)
    raise _changed(key)


def read_parquet(store: ObjectStore, folder: str, file: StoredFile) -> pa.Table:
    """A small Parquet file, held against what it must be; CorruptedError as `fetch_file`."""
    return pq.read_table(pa.BufferReader(fetch_bytes(store, folder, file)))


def fetch_bytes(store: ObjectStore, folder: str, file: StoredFile) -> bytes:
    """A small file's content, held against what it must be; CorruptedError as `fetch_file`."""
    key = f"{folder}/{file.name}"

    def parse(data: bytes) -> bytes:
        if not is_whole(data, file):
            raise _changed(key)
        return data

    try:
        return store.read(key, parse)
    except ObjectMissingError:
        raise _gone(key) from None


def is_whole(data: bytes, file: StoredFile) -> bool:
    """Whether this is what was written."""
    return len(data) == file.size and hashlib.sha256(data).hexdigest() == file.sha256


def _gone(key: str) -> CorruptedError:
    return CorruptedError(key, "is gone from the store", "It is fetched or asked for again.")


def _changed(key: str) -> CorruptedError:
    return CorruptedError(key, "is not what was written there", "It is fetched or asked for again.")


def write_parquet(table: pa.Table, path: Path) -> Path:
    """Write a table as one Parquet file, in parts that a reader needs not hold all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", row_group_size=_ROWS)
    return path


def read(store: ObjectStore, kind: type[T], key: str) -> T:
    """A small JSON object that must be there, and belong there.

    Raises:
        CorruptedError, ConfigurationError: as `decode`.
        ObjectMissingError: it is not there.
    """
    return store.read(key, lambda data: decode(kind, key, data))


def find(store: ObjectStore, kind: type[T], key: str) -> T | None:
    """A small JSON object; None where there is none. Errors as `read`."""
    try:
        return decode(kind, key, store.get(key))
    except ObjectMissingError:
        return None
    except CorruptedError:
        return read(store, kind, key)


def in_parallel(work: Callable[[T], R], items: Iterable[T], workers: int = WORKERS) -> list[R]:
    """Results in the order of the items; the first error ends it."""
    wanted = list(items)
    if len(wanted) < 2:
        return [work(item) for item in wanted]
    with ThreadPoolExecutor(min(workers, len(wanted)), thread_name_prefix="batches") as pool:
        return list(pool.map(work, wanted))
