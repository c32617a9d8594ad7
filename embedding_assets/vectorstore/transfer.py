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


def compare_files(
    store: ObjectStore,
    manifest: Manifest,
    folder: Path | None = None,
    keep: Callable[[FileEntry], bool] = lambda entry: True,
) -> list[str]:
    """Read back what the store holds and say where size or SHA-256 of a file are not those of the manifest.

    A file that is missing or another is read a second time: what went wrong on the way is not the store's.

    Args:
        store, manifest: what is compared.
        folder: if given, the files are written there on the way.
        keep: which of them.
    """

    def read(entry: FileEntry) -> tuple[int, str] | None:
        key = f"{manifest.folder}/{entry.path}"
        try:
            if folder is None or not keep(entry):
                return store.sha256(key)
            digest = store.download(key, folder / entry.path)
            return (folder / entry.path).stat().st_size, digest
        except ObjectMissingError:
            return None

    def problem(entry: FileEntry) -> str | None:
        wanted = (entry.size, entry.sha256)
        if read(entry) == wanted:
            return None
        found = read(entry)
        if found == wanted:
            return None
        if found is None:
            return f"the file {entry.path} is missing"
        how = "another SHA-256" if found[0] == entry.size else f"{found[0]} bytes instead of {entry.size}"
        return f"the file {entry.path} is not the one in the manifest ({how})"

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return [found for found in at_once(problem, manifest.files) if found]


def verify_files(store: ObjectStore, manifest: Manifest) -> None:
    """Read back what the store holds and compare size and SHA-256 of every file with the manifest.

    Raises:
        CorruptedError: a file is missing or another.
    """
    _require_none(manifest, compare_files(store, manifest))


def download_files(store: ObjectStore, manifest: Manifest, folder: Path) -> None:
    """Download the files of a manifest into a new folder, checking each on the way.

    Raises:
        CorruptedError: a file is missing or another.
    """
    _require_none(manifest, compare_files(store, manifest, folder))


def _require_none(manifest: Manifest, problems: list[str]) -> None:
    if problems:
        raise CorruptedError(
            f"{manifest.kind} {manifest.id} of {manifest.collection}",
            "; ".join(problems[:5]),
            "It is set aside; nothing reads it.",
        )
