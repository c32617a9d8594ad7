"""The narrow interface to an object store: everything above depends on these few verbs alone.

One implementation serves S3 and S3-compatible servers, local folders and memory: obstore, whose put-if-absent is
atomic on all of them. Every object is written once (`put_new`, `upload`); only the pointer is ever replaced.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, MemoryStore, S3Store

from embedding_assets.errors import (
    ConfigurationError,
    CorruptedError,
    ObjectMissingError,
    StoreError,
    StoreUnavailableError,
)
from embedding_assets.settings import S3Settings
from embedding_assets.store import folder
from embedding_assets.store.s3 import s3_backend
from embedding_assets.store.trouble import Named, ObjectExistsError, translate
from embedding_assets.store.urls import require_store_url

__all__ = ["WRITE_CHECK", "ObjectExistsError", "ObjectStore", "StoredObject", "open_store", "translate"]

WRITE_CHECK = ".write-check-"  # how the names of objects begin that only prove that objects can be written
_CHUNK_BYTES = 4 * 1024 * 1024
_COPY_AT_ONCE = 4 * 1024**3
_DELETE_AT_ONCE = 500  # S3 takes up to 1,000 keys in one DeleteObjects
_CREATIONS = 3  # of one object, where the server says that it is there and it is not
SECOND_LOOK_SECONDS = 1.0  # after which what looked damaged is read again
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as a listing shows it: key relative to the store, size in bytes, the store's own timestamp."""

    key: str
    size: int
    modified: datetime


class ObjectStore:
    """Objects under one URL; keys are relative to it. Safe to use from several threads.

    Args:
        backend: obstore's store.
        url: where it is.
        connect_again: makes the backend anew, with connections of its own, for a second look; None where there are no
            connections that could be at fault.
    """

    def __init__(self, backend: Any, url: str, connect_again: Callable[[], Any] | None = None) -> None:
        self._backend = backend
        self.url = url
        self.connect_again = connect_again
        self._folder = _folder_of(url)

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    def put_new(self, key: str, data: bytes) -> None:
        """Create a small object atomically, or raise ObjectExistsError; of many writers exactly one wins.

        A request that is repeated after a lost answer meets the object that it wrote itself; that counts as written.
        What a server says that it wrote, or that it has, is read back: some say so and have nothing.

        Raises:
            ObjectExistsError: another writer's object has this name.
            StoreUnavailableError: the server says that the object is there, and does not have it.
        """
        for _ in range(_CREATIONS):
            try:
                self._create(key, data)
            except ObjectExistsError:
                exists = True
            else:
                exists = False
                if self.connect_again is None:
                    return
            try:
                found = self.get(key)
            except ObjectMissingError:
                continue
            if found == data:
                return
            if exists:
                raise ObjectExistsError(self._name(key), "exists already", "It was left as it was.")
        raise StoreUnavailableError(
            self._name(key), "the store says that it is there, and does not have it", "The next run tries again."
        )

    def _create(self, key: str, data: bytes) -> None:
        self._require_own(key)
        with self._named(key):
            obstore.put(self._backend, key, data, mode="create", use_multipart=False)

    def replace(self, key: str, data: bytes) -> None:
        """Write a small object whether or not there is one. For the pointer, and what is put right from its copy."""
        self._require_own(key)
        with self._named(key):
            obstore.put(self._backend, key, data, use_multipart=False)

    def upload(self, key: str, path: Path) -> None:
        """Write a file of any size under a key that nobody else uses; in parts, concurrently, where it is large."""
        self._require_own(key)
        with self._named(key):
            obstore.put(self._backend, key, path)

    def copy(self, source: str, target: str) -> None:
        """Write a copy of an object under a key that nobody else uses; ObjectMissingError where there is none.

        The store does it by itself where it can: S3 copies up to 5 GB at once, larger objects pass through here.
        """
        with self._named(source):
            if self._folder is not None:
                self._require_own(target)
                self._require_there(source)
                folder.copy(self._folder, source, target)
                return
            if obstore.head(self._backend, source)["size"] <= _COPY_AT_ONCE:
                obstore.copy(self._backend, source, target)
                return
            with obstore.open_writer(self._backend, target) as writer:
                for piece in self._stream(source):
                    writer.write(piece)

    def get(self, key: str) -> bytes:
        """A small object's content; ObjectMissingError where there is none."""
        return self._get(self._backend, key)

    def read(self, key: str, parse: Callable[[bytes], _Parsed]) -> _Parsed:
        """A small object that must be there and must be whole, as `parse` reads it.

        Where it is missing or `parse` raises CorruptedError, it is read again over a new connection some moments later:
        one bad answer is not yet damage.

        Raises:
            ObjectMissingError, CorruptedError: both looks say so.
            StoreUnavailableError: the two looks differ, and neither is whole.
        """
        first: bytes | None = None
        try:
            first = self.get(key)
            return parse(first)
        except (ObjectMissingError, CorruptedError):
            if self.connect_again is None:
                raise
        time.sleep(SECOND_LOOK_SECONDS)
        second: bytes | None = None
        try:
            second = self._get(self.connect_again(), key)
            return parse(second)
        except (ObjectMissingError, CorruptedError):
            if first == second:
                raise
            raise StoreUnavailableError(
                self._name(key), "the store gives another answer each time", "The next run reads it again."
            ) from None

    def _get(self, backend: Any, key: str) -> bytes:
        with self._named(key):
            if self._folder is not None:
                self._require_there(key)
                return (self._folder / key).read_bytes()
            return bytes(obstore.get(backend, key).bytes())

    def exists(self, key: str) -> bool:
        """Whether there is an object of this name."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """An object's size in bytes; None where there is none."""
        try:
            with self._named(key):
                if self._folder is not None:
                    self._require_there(key)
                    return (self._folder / key).stat().st_size
                return int(obstore.head(self._backend, key)["size"])
        except ObjectMissingError:
            return None

    def download(self, key: str, path: Path) -> str:
        """Write an object's content to a new file, in pieces; returns its SHA-256 in hexadecimal."""
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for piece in self._stream(key):
                digest.update(piece)
                file.write(piece)
        return digest.hexdigest()

    def sha256(self, key: str) -> tuple[int, str]:
        """Size in bytes and SHA-256 of what the store holds, read back in pieces."""
        digest, size = hashlib.sha256(), 0
        for piece in self._stream(key):
            digest.update(piece)
            size += len(piece)
        return size, digest.hexdigest()

    def walk(self, prefix: str, after: str | None = None) -> Iterator[StoredObject]:
        """The objects below a folder, sorted by key; only those whose key is greater than `after`, if given."""
        found: list[StoredObject] = []
        with self._named(prefix):
            if self._folder is not None:
                found.extend(
                    StoredObject(item.key, item.size, item.modified)
                    for item in folder.walk(self._folder, prefix)
                    if after is None or item.key > after
                )
            else:
                for page in obstore.list(self._backend, prefix.rstrip("/") or None, offset=after, chunk_size=1000):
                    found.extend(StoredObject(meta["path"], meta["size"], meta["last_modified"]) for meta in page)
        # S3 lists sorted, a folder does not.
        yield from sorted(found, key=lambda item: item.key)

    def strangers(self, prefix: str) -> list[folder.Stranger]:
        """What lies below a folder of this machine and is no object: links, pipes, names that are not text."""
        with self._named(prefix):
            return folder.strangers(self._folder, prefix) if self._folder is not None else []

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below a folder, sorted."""
        with self._named(prefix):
            if self._folder is not None:
                return folder.folders(self._folder, prefix)
            result = obstore.list_with_delimiter(self._backend, prefix.rstrip("/") or None)
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in result["common_prefixes"])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are gone already are no error."""
        wanted = list(keys)
        if self._folder is not None:
            for key in wanted:
                self._require_own(key)
                with self._named(key):
                    folder.delete(self._folder, key)
            return
        for start in range(0, len(wanted), _DELETE_AT_ONCE):
            some = wanted[start : start + _DELETE_AT_ONCE]
            try:
                with self._named(some[0]):
                    obstore.delete(self._backend, some)
            except ObjectMissingError:
                for key in some:
                    self._delete_one(key)

    def check_writable(self, prefix: str) -> None:
        """Prove that objects below a folder can be created once, and only once, read and deleted.

        A server that ignores `If-None-Match` lets two writers win: batches would be paid for twice and records lost.

        Raises:
            StoreError: says which of these the store refused, or that it is no store to write to.
        """
        key = f"{prefix.strip('/')}/{WRITE_CHECK}{secrets.token_hex(8)}".lstrip("/")
        self.put_new(key, b"written to see whether this store can be written; safe to delete")
        self.get(key)
        try:
            self._create(key, b"written to see whether this store creates an object twice; safe to delete")
        except ObjectExistsError:
            return
        else:
            raise StoreError(
                self.url,
                "the store does not refuse to create an object that exists (it ignores `If-None-Match: *`)",
                "Use a store that supports conditional writes; docs/deployment.md says which do.",
            )
        finally:
            self.delete([key])

    def _delete_one(self, key: str) -> None:
        try:
            with self._named(key):
                obstore.delete(self._backend, key)
        except ObjectMissingError:
            pass

    def on_disk(self, key: str) -> Path | None:
        """The file that an object is, or the folder that a prefix is, where the store is a folder of this machine."""
        path = self._folder / key if self._folder else None
        return path if path and os.path.lexists(path) else None

    def _stream(self, key: str) -> Iterator[bytes]:
        with self._named(key):
            if self._folder is not None:  # what goes through obstore is copied once more
                self._require_there(key)
                with (self._folder / key).open("rb") as file:
                    while data := file.read(_CHUNK_BYTES):
                        yield data
                return
            for piece in obstore.get(self._backend, key).stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(piece)

    def _require_own(self, key: str) -> None:
        if self._folder is not None:
            folder.require_own(self._folder, key)

    def _require_there(self, key: str) -> None:
        if self._folder is not None and not folder.is_file(self._folder, key):
            raise ObjectMissingError(self._name(key), "is not in the store", "Look at what is there with `status`.")

    def _name(self, key: str) -> str:
        return f"{self.url.rstrip('/')}/{key}"

    def _named(self, key: str) -> Named:
        return Named(self._name(key))


def open_store(url: str, s3: S3Settings | None = None, *, must_exist: bool = False) -> ObjectStore:
    """The store at a URL: `file:///folder`, `s3://bucket/prefix` or `memory://`.

    Args:
        url: where the store is.
        s3: how to reach S3; what it leaves open is resolved by boto3.
        must_exist: refuse a folder that is not there, instead of making it: a mistyped path, or a disk that is not
            mounted, must not look like an empty store. (A bucket is never made.)

    Raises:
        ConfigurationError: the URL is none that we know, the folder is not there, or boto3 finds no credentials.
    """
    require_store_url(url)
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return ObjectStore(MemoryStore(), url)
    if parts.scheme == "s3":

        def connect() -> S3Store:
            return s3_backend(parts.netloc, parts.path.strip("/"), s3 or S3Settings())

        return ObjectStore(connect(), url, connect)
    path = Path(unquote(parts.path))
    if not (path if must_exist else path.parent).is_dir():
        raise ConfigurationError(
            f"store {url!r}",
            "it is a file and no folder" if path.is_file() else "the folder is not there",
            "Create it, mount its disk, or correct EMBEDDING_ASSETS_STORE.",
        )
    try:
        return ObjectStore(LocalStore(path, mkdir=True, automatic_cleanup=True), url)
    except Exception as error:
        raise translate(url, error) from None


def _folder_of(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
