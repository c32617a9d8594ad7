"""A reader's local copies of snapshots: whole and verified, or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import warnings
from pathlib import Path

from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import bases
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.transfer import download_files

_KEPT_VERSIONS = 3  # the newest, and two that slower readers may still have open
_UNFINISHED = ".unfinished-"
_HEALING = "The next compaction heals it."


class DamagedSnapshotWarning(UserWarning):
    """The current snapshot is damaged; an older one that is whole is read in its place."""


def fetch_current(store: ObjectStore, collection: str, cache_folder: Path) -> tuple[Manifest, Path] | None:
    """The newest committed snapshot that is whole and a local copy of it; None where there is none.

    A copy appears under its version's name by one rename, after every file's checksum was found right: whoever finds
    a folder of that name may open it. Where the current snapshot is damaged, the newest older one that is whole takes
    its place, with a DamagedSnapshotWarning.

    Raises:
        CorruptedError: no committed snapshot is what its manifest says.
    """
    while True:
        end = log_end(store, collection)
        if end.head is None:
            return None
        damaged: list[str] = []
        for base in bases(store, collection, end):
            try:
                if base.manifest is None:
                    raise CorruptedError(f"snapshot {base.version} of {collection}", base.problem, _HEALING)
                found = base.manifest, _copy_of(store, base.manifest, cache_folder)
            except CorruptedError as error:
                # A version may be replaced and removed while it is fetched; then there is a newer head.
                if log_end(store, collection) != end:
                    break
                damaged.append(f"snapshot {base.version}: {error.reason}")
                continue
            if damaged:
                said = f"{collection}: {'; '.join(damaged)}; reading the older snapshot {base.version}. {_HEALING}"
                warnings.warn(said, DamagedSnapshotWarning, stacklevel=2)
            return found
        else:
            raise CorruptedError(f"collection {collection}", "; ".join(damaged), _HEALING)


def _copy_of(store: ObjectStore, manifest: Manifest, cache_folder: Path) -> Path:
    # One cache serves many stores: version ids are unique only within one.
    home = cache_folder / hashlib.sha256(store.url.encode()).hexdigest()[:16] / manifest.collection
    target = home / manifest.id
    if target.is_dir():
        return target
    home.mkdir(parents=True, exist_ok=True)
    unfinished = home / f"{_UNFINISHED}{os.getpid()}-{layout.new_id()}"
    try:
        download_files(store, manifest, unfinished)
        try:
            unfinished.rename(target)
        except OSError:
            if not target.is_dir():  # not another process that was faster
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _drop_old(home)
    return target


def _drop_old(home: Path) -> None:
    versions = sorted(path for path in home.iterdir() if layout.generation_of(path.name) is not None)
    for path in versions[:-_KEPT_VERSIONS]:
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
