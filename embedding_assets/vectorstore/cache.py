"""Local copies of snapshots: whole and verified for readers, and file by file for the next compaction."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from embedding_assets.chroma.spec import database_files
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE
from embedding_assets.errors import ConfigurationError, CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import bases, lost_entries
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.contents import download_database
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.transfer import place_copy

_KEPT_VERSIONS = 3  # the newest, and two that slower readers may still have open
_KEPT_VERIFIED = 2  # the newest, and one that a slower compaction may be reading
_VERIFIED = ".verified"
_OPEN = ".open"
_UNFINISHED = ".unfinished-"
_HEALING = "The next compaction heals it; `embedding-assets repair` does at once."


def working_places(cache_folder: Path) -> list[Path]:
    """Where readers' own copies are, of all collections of all stores in a cache."""
    return sorted(cache_folder.glob(f"*/*/{_OPEN}"))


class DamagedSnapshotWarning(UserWarning):
    """The current snapshot is damaged; an older one that is whole is read in its place."""


def warn_of_fallback(said: str) -> None:
    """What readers are told unless they ask for something else."""
    warnings.warn(said, DamagedSnapshotWarning, stacklevel=2)


def fetch_current(
    store: ObjectStore, collection: str, cache_folder: Path, told: Callable[[str], None] = warn_of_fallback
) -> tuple[Manifest, Path] | None:
    """The newest committed snapshot that is whole and a local copy of it; None where there is none.

    A copy appears under its version's name by one rename, after every file's checksum was found right: whoever finds
    a folder of that name may open it. Where the current snapshot is damaged, or the end of the log is, the newest
    older one that is whole takes its place.

    Args:
        store, collection, cache_folder: whose, and where copies are.
        told: gets the reason where an older snapshot than the current one is read.

    Raises:
        CorruptedError: no committed snapshot is what its manifest says.
    """
    while True:
        end = log_end(store, collection)
        damaged = lost_entries(store, collection, end)
        for base in bases(store, collection, end):
            try:
                if base.manifest is None:
                    raise CorruptedError(f"snapshot {base.version} of {collection}", base.problem, _HEALING)
                found = base.manifest, Cache(cache_folder, store, collection).fetch(store, base.manifest)
            except CorruptedError as error:
                # A version may be replaced and removed while it is fetched; then there is a newer head.
                if log_end(store, collection) != end:
                    break
                damaged.append(f"snapshot {base.version}: {error.reason}")
                continue
            if damaged:
                told(f"{collection}: {'; '.join(damaged)}; reading the older snapshot {base.version}. {_HEALING}")
            return found
        else:
            if damaged:
                raise CorruptedError(f"collection {collection}", "; ".join(damaged), _HEALING)
            return None


class Cache:
    """The copies of one collection's snapshots on this machine, or on a disk that several machines share.

    {cache}/{store}/{collection}/{version}/             a whole snapshot, for readers to open
    {cache}/{store}/{collection}/.verified/{version}/   files as they were uploaded, for the next compaction

    A reader changes the SQLite file by opening it, hence the second place; the index files of both are the same ones.
    """

    def __init__(self, folder: Path, store: ObjectStore, collection: str) -> None:
        # One cache serves many stores: version ids are unique only within one.
        self._home = folder / hashlib.sha256(store.url.encode()).hexdigest()[:16] / collection

    def places(self, version: str) -> tuple[Path, Path]:
        """Where files of a version may be; whether they are, and are what they should be, is for the caller to see."""
        return self._home / _VERIFIED / version, self._home / version

    def keep(self, version: str, folder: Path) -> None:
        """Keep a published database's files for the next compaction. That they can't be kept is no error."""
        kept = self._home / _VERIFIED
        with contextlib.suppress(OSError):
            for path in database_files(folder):
                place_copy(folder / path, kept / version / path)
            _drop_old(kept, _KEPT_VERIFIED)

    def fetch(self, store: ObjectStore, manifest: Manifest) -> Path:
        """A whole copy for readers.

        Raises:
            CorruptedError: a file is missing in the store or another.
            ConfigurationError: the cache cannot be written.
        """
        try:
            target = self._fetch(store, manifest)
        except OSError as error:
            raise _unwritable(self._home, error.strerror or str(error)) from None
        for sqlite in (target / part.shard / SQLITE_FILE for part in manifest.databases):
            if sqlite.exists() and not os.access(sqlite, os.W_OK):
                raise _unwritable(target, "chromadb writes to what it opens")
        return target

    def _fetch(self, store: ObjectStore, manifest: Manifest) -> Path:
        target = self._home / manifest.id
        if target.is_dir():
            return target
        self._home.mkdir(parents=True, exist_ok=True)
        unfinished = self._home / f"{_UNFINISHED}{os.getpid()}-{layout.new_id()}"
        try:
            download_database(store, manifest, unfinished, self.places(manifest.id)[:1])
            try:
                unfinished.rename(target)
            except OSError:
                if not target.is_dir():  # not another process that was faster
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        _drop_old(self._home, _KEPT_VERSIONS)
        return target


def _unwritable(folder: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"cache {folder}",
        f"cannot be written ({why})",
        "Set EMBEDDING_ASSETS_CACHE to a folder that this user can write, on a disk with room for two snapshots.",
    )


def _drop_old(home: Path, keep: int) -> None:
    versions = sorted(path for path in home.iterdir() if layout.generation_of(path.name) is not None)
    for path in versions[:-keep]:
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
