"""A reader's local copies of snapshots: whole and verified, or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from embedding_assets.errors import CorruptedError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, load_snapshot
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.transfer import download_files

_KEPT_VERSIONS = 3  # the newest, and two that slower readers may still have open
_UNFINISHED = ".unfinished-"


def fetch_current(store: ObjectStore, collection: str, cache_folder: Path) -> tuple[Manifest, Path] | None:
    """The newest committed snapshot and a local copy of it; None where there is none.

    A copy appears under its version's name by one rename, after every file's checksum was found right: whoever finds
    a folder of that name may open it.

    Raises:
        CorruptedError: the store's snapshot is not what its manifest says.
    """
    for last_try in (False, True):
        commit = head(store, collection)
        if commit is None:
            return None
        try:
            manifest = load_snapshot(store, collection, commit)
            return manifest, _copy_of(store, manifest, cache_folder)
        except CorruptedError:
            # A version may be replaced and removed while it is fetched; then there is a newer head.
            if last_try or head(store, collection) == commit:
                raise
    raise AssertionError("unreachable")


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
