"""Puts a closed database into the store: verify, upload, verify again, and the manifest last."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from embedding_assets.chroma.child import examine_in_child
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.errors import CorruptedError, StoreError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.marks import mark
from embedding_assets.vectorstore.transfer import upload_files, verify_files


def prove(folder: Path, spec: DatabaseSpec, sources: Sequence[Source], *, records: int, subject: str) -> Examination:
    """Open a copy of a database as any reader would and prove it against what it was made from.

    Raises:
        CorruptedError: it does not hold exactly what its sources say, or its index is not whole.
        UnreadableError: it could not be examined just now.
    """
    with TemporaryDirectory(prefix="embedding-assets-prove-") as scratch:
        # Opening a database may change its files (chromadb purges its log at first access): prove a copy.
        copy = Path(scratch) / "copy"
        shutil.copytree(folder, copy)
        report = examine_in_child(copy, spec, sources, records=records, subject=subject)
    problems = [*report.problems, *([] if report.synced else ["its index files do not hold every record"])]
    if problems:
        raise CorruptedError(subject, "; ".join(problems), "It was not committed.")
    return report


def publish(store: ObjectStore, manifest: Manifest, folder: Path) -> None:
    """Upload a database, read back what the store holds, then write its manifest; clean up where that fails.

    Raises:
        CorruptedError: the store holds something else than was sent.
        StoreError: the store refused or did not answer.
    """
    try:
        upload_files(store, manifest, folder)
        verify_files(store, manifest)
        if manifest.kind == "delta":
            mark(store, manifest.collection, str(manifest.day), manifest.id)
        store.put_new(manifest.key, manifest.to_bytes())
    except Exception:
        discard(store, manifest)
        raise


def discard(store: ObjectStore, manifest: Manifest) -> None:
    """Remove what was uploaded for a database that will not be committed; what cannot be removed is left to prune."""
    with contextlib.suppress(StoreError):
        # The manifest first: without it the rest is no database any more.
        store.delete([manifest.key])
        store.delete([f"{manifest.folder}/{entry.path}" for entry in manifest.files])
        if manifest.kind == "delta":
            store.delete([layout.waiting(manifest.collection, manifest.day, manifest.id)])
