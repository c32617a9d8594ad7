"""Puts a closed database into the store: verify, upload, verify again, and the manifest last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from embedding_assets.chroma.child import examine_in_child
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.spec import DatabaseSpec, Source, database_files
from embedding_assets.errors import CorruptedError, StoreError
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.marks import mark
from embedding_assets.vectorstore.transfer import incomplete, place_copy, upload_files, verify_files


def prove(
    folder: Path,
    spec: DatabaseSpec,
    sources: Sequence[Source],
    *,
    records: int,
    subject: str,
    indexed: bool = True,
) -> Examination:
    """Examine a database as any reader would find it, prove it against what it was made from, and write to a copy.

    Args:
        folder: the database; left as it is.
        spec, sources: what it has to hold.
        records: about how many records are involved; sets the time limit.
        subject: what errors call it.
        indexed: whether its index files have to hold every record. If not, it is a log that chromadb need not open.

    Raises:
        CorruptedError: it does not hold exactly what its sources say, its index is not whole, or it swallows writes.
        UnreadableError: it could not be examined just now.
    """
    if not indexed:
        report = examine_in_child(folder, spec, sources, records=records, subject=subject)
    else:
        with ScratchFolder("prove", folder.parent) as scratch:
            # Opening a database may change its files (chromadb purges its log at first access): prove a copy.
            copy = scratch / "copy"
            before = _states(folder)
            for path in database_files(folder):
                place_copy(folder / path, copy / path)
            report = examine_in_child(copy, spec, sources, records=records, subject=subject, to_be_written=True)
        if _states(folder) != before:  # the index files were not copied but linked
            raise CorruptedError(subject, "its files changed while it was examined", "It was not committed.")
    problems = [
        *report.problems,
        *([] if report.synced or not indexed else ["its index files do not hold every record"]),
    ]
    if problems:
        raise CorruptedError(subject, "; ".join(problems), "It was not committed.")
    return report


def _states(folder: Path) -> list[tuple[int, int]]:
    found = [(folder / path).stat() for path in database_files(folder)]
    return [(stat.st_size, stat.st_mtime_ns) for stat in found]


def prove_and_publish(
    store: ObjectStore, folder: Path, proof: Callable[[], Examination], describe: Callable[[], Manifest]
) -> tuple[Manifest, Examination]:
    """Upload a database and read it back while its proof is under way in a child process; its manifest comes last.

    Args:
        store: where it goes.
        folder: the closed database.
        proof: `prove`, bound.
        describe: makes its manifest; count and digest are the proof's.

    Raises:
        CorruptedError: it was not proved, or the store holds something else than was sent; what was sent is removed.
        UnreadableError, StoreError: it could not be examined just now, or the store refused or did not answer.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="proof") as pool:
        proving = pool.submit(proof)
        manifest = describe()
        try:
            place(store, manifest, folder)
            examined = proving.result()
            manifest = replace(manifest, count=examined.count, digest=examined.digest)
            announce(store, manifest)
        except Exception:
            discard(store, manifest)
            raise
    return manifest, examined


def place(store: ObjectStore, manifest: Manifest, folder: Path) -> None:
    """Upload the files of a database and read back what the store holds; without its manifest they are none yet.

    Raises:
        CorruptedError: the store holds something else than was sent.
        StoreError: the store refused or did not answer.
    """
    upload_files(store, manifest, folder)
    verify_files(store, manifest, "Nothing was committed: what was sent is removed, and the next run tries again.")


def announce(store: ObjectStore, manifest: Manifest) -> None:
    """Write the manifest of a database that is in its place; from now on there is one.

    Raises:
        CorruptedError: its files are gone by now; the caller discards it.
    """
    if manifest.kind == "delta":
        mark(store, manifest.collection, str(manifest.day), manifest.id)
    store.put_new(manifest.key, manifest.to_bytes())
    # Looked at after the manifest is written: whoever takes its files for a dead writer's looks for a manifest after
    # they are deleted, so that one of the two notices.
    require_whole(store, manifest)


def require_whole(store: ObjectStore, *manifests: Manifest) -> None:
    """What is about to count is all there, as far as listings tell: the manifests, and the files of each database.

    Raises:
        CorruptedError: something is gone, as where `prune` took it for a dead writer's.
    """
    for manifest in manifests:
        gone = "" if store.exists(manifest.key) else "its manifest is missing"
        if problem := gone or ("" if manifest.shards else incomplete(store, manifest)):
            what = f"{manifest.kind} {manifest.id} of {manifest.collection}"
            part = f"{manifest.shard}: " if manifest.shard else ""
            raise CorruptedError(
                f"new {what}",
                f"was not committed: {part}{problem} in the store by now",
                "The next run makes it again. Give `prune` a longer grace if it ran at the same time.",
            )


def discard(store: ObjectStore, manifest: Manifest) -> None:
    """Remove what was uploaded for a database that will not be committed; what cannot be removed is left to prune."""
    with contextlib.suppress(StoreError):
        # The manifest first: without it the rest is no database any more.
        store.delete([manifest.key])
        store.delete([f"{manifest.folder}/{entry.path}" for entry in manifest.files])
        if manifest.kind == "delta":
            store.delete([layout.waiting(manifest.collection, manifest.day, manifest.id)])
