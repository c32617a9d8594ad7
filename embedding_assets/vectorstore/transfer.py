"""Moves databases between the disk and the store, and proves on the way that both hold the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.manifest import FileEntry, Manifest

AT_ONCE = 8  # files under way at once; more gave nothing on two cores
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


def at_once(do: Callable[[_Item], _Answer], items: Iterable[_Item], threads: int = AT_ONCE) -> list[_Answer]:
    """`do` for every item, several at a time; answers in order; the first exception ends it."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(do, items))


def upload_files(store: ObjectStore, manifest: Manifest, folder: Path) -> None:
    """Upload the files of a manifest, not yet the manifest."""
    at_once(lambda entry: store.upload(f"{manifest.folder}/{entry.path}", folder / entry.path), manifest.files)


def verify_files(store: ObjectStore, manifest: Manifest) -> None:
    """Read back what the store holds and compare size and SHA-256 of every file with the manifest.

    Raises:
        CorruptedError: a file is missing or another.
    """

    def check(entry: FileEntry) -> None:
        key = f"{manifest.folder}/{entry.path}"
        try:
            found = store.sha256(key)
        except ObjectMissingError:
            raise _damaged(manifest, f"the file {entry.path} is missing") from None
        if found != (entry.size, entry.sha256):
            raise _damaged(manifest, f"the file {entry.path} is not the one in the manifest ({found[0]} bytes)")

    at_once(check, manifest.files)


def download_files(store: ObjectStore, manifest: Manifest, folder: Path) -> None:
    """Download the files of a manifest into a new folder, checking each on the way.

    Raises:
        CorruptedError: a file is missing or another.
    """

    def fetch(entry: FileEntry) -> None:
        try:
            digest = store.download(f"{manifest.folder}/{entry.path}", folder / entry.path)
        except ObjectMissingError:
            raise _damaged(manifest, f"the file {entry.path} is missing") from None
        if digest != entry.sha256:
            raise _damaged(manifest, f"the file {entry.path} has another checksum than in the manifest")

    folder.mkdir(parents=True, exist_ok=True)
    at_once(fetch, manifest.files)


def _damaged(manifest: Manifest, reason: str) -> CorruptedError:
    return CorruptedError(
        f"{manifest.kind} {manifest.id} of {manifest.collection}", reason, "It is set aside; nothing reads it."
    )
