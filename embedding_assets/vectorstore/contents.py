"""Tells what another program has opened from what is damaged: by the records, where the bytes are not the same.

Whoever opens a ChromaDB folder writes to its SQLite file: chromadb does so at every open, without changing a record.
Such a file is not the committed one, and still right. That is certain only if all of this holds: SQLite's own change
counter has moved on, so a program wrote it; every other file of the manifest is as it was; the tables are those that
we know, and chromadb's bookkeeping in them is whole; and a full examination finds the count and the content digest of
the manifest. Everything else is damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from embedding_assets.chroma.bookkeeping import check_bookkeeping
from embedding_assets.chroma.child import examine_in_child
from embedding_assets.chroma.fingerprint import known_format
from embedding_assets.chroma.hnsw_files import HNSW_FILES
from embedding_assets.chroma.index_metadata import INDEX_METADATA_FILE
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE, change_counter
from embedding_assets.errors import CorruptedError
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.listing import list_database
from embedding_assets.vectorstore.manifest import FileEntry, Manifest
from embedding_assets.vectorstore.transfer import (
    OtherSqliteError,
    Traffic,
    copy_below,
    copy_folder,
    download_files,
    verify_files,
)

CHANGED = "changed by another program: its SQLite file is not the committed one, but holds the same records"
_INDEX_FILES = {*HNSW_FILES, INDEX_METADATA_FILE}


def download_database(
    store: ObjectStore, manifest: Manifest, folder: Path, nearby: Sequence[Path] = (), *, copy: Path | None = None
) -> Traffic:
    """`transfer.download_files`, which also takes a database that another program has opened, once that is proved.

    Raises:
        CorruptedError: a file is missing or another, and the records do not prove it right.
        UnreadableError: it could not be examined just now.
    """
    try:
        return download_files(store, manifest, folder, nearby, copy=copy)
    except OtherSqliteError as error:
        added = _index_beside(store, manifest)
        if added is None or not written_by_a_program(folder, manifest):
            raise CorruptedError(error.subject, error.reason, error.remedy) from None
        for path in added:
            store.download(f"{manifest.folder}/{path}", folder / path)
        _prove(manifest, folder, error)
        if copy is not None:
            for path in (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()):
                if not (copy / path).exists():
                    copy_below(folder, copy, FileEntry(path, 0, ""))
        return Traffic(downloaded=manifest.size)


def verify_database(store: ObjectStore, manifest: Manifest) -> None:
    """`transfer.verify_files`, which also takes a database that another program has opened, once that is proved.

    Raises:
        CorruptedError, UnreadableError: as `download_database`.
    """
    try:
        for part in manifest.databases:
            verify_files(store, part)
    except OtherSqliteError:
        with ScratchFolder("verify") as scratch:
            for part in manifest.databases:
                download_database(store, part, scratch / (part.shard or "database"))


def opened_elsewhere(store: ObjectStore, manifest: Manifest, keys: Mapping[str, str]) -> bool:
    """Whether files that lie elsewhere than the manifest says are those of a database that another program has opened.

    Args:
        keys: path in the database -> key, of all objects there.

    Raises:
        UnreadableError: it could not be examined just now.
    """
    named = {entry.path: entry for entry in manifest.files}
    added = [path for path in keys if path not in named and path != layout.MANIFEST]
    if manifest.shards or not set(named) <= set(keys) or not index_files_alone(added):
        return False
    with ScratchFolder("verify") as scratch:
        folder = scratch / "database"
        for path in (*named, *added):
            digest = store.download(keys[path], folder / path)
            if path in named and path != SQLITE_FILE and digest != named[path].sha256:
                return False
        subject = f"{manifest.kind} {manifest.id} of {manifest.collection}"
        if not written_by_a_program(folder, manifest):
            return False
        try:
            _prove(manifest, folder, CorruptedError(subject, "its SQLite file is another one", ""))
        except CorruptedError:
            return False
    return True


def counter_fits(folder: Path, manifest: Manifest) -> bool:
    """Whether SQLite's change counter is the one in the manifest, where that names one: of a file whose bytes are the
    committed ones it can only be another where the manifest was edited."""
    committed = next((entry.changes for entry in manifest.files if entry.path == SQLITE_FILE), None)
    return committed is None or change_counter(folder / SQLITE_FILE) == committed


def written_by_a_program(folder: Path, manifest: Manifest) -> bool:
    """Whether a SQLite file that is not the manifest's may have been written by SQLite itself, with tables we know."""
    committed = next(entry for entry in manifest.files if entry.path == SQLITE_FILE)
    counter = change_counter(folder / SQLITE_FILE)
    return counter is not None and counter != committed.changes and known_format(folder)


def index_files_alone(paths: Iterable[str]) -> bool:
    """Whether these files are no more than an index, which chromadb may write beside a log when it is asked."""
    return all(path.rpartition("/")[2] in _INDEX_FILES and "/" in path for path in paths)


def differences(manifest: Manifest, report: Examination) -> list[str]:
    """What the records of an examined database have against its manifest."""
    problems = list(report.problems)
    if not problems:
        if report.count != manifest.count:
            problems.append(f"holds {report.count} records; its manifest says {manifest.count}")
        if report.digest != manifest.digest:
            problems.append("its records are not those that its manifest's digest was made of")
        # A delta may leave its index to whoever opens it; a snapshot is for any reader.
        if manifest.kind == "snapshot" and not report.synced:
            problems.append("its index files do not hold every record")
    return problems


def _index_beside(store: ObjectStore, manifest: Manifest) -> list[str] | None:
    """Files of an index that a manifest does not name; None where there is anything else that chromadb would read."""
    named = {entry.path for entry in manifest.files}
    added = [path for path in list_database(store, manifest.folder).files if path not in named]
    return added if index_files_alone(added) else None


def _prove(manifest: Manifest, folder: Path, error: CorruptedError) -> None:
    beside = check_bookkeeping(folder)
    if beside:
        raise CorruptedError(error.subject, "; ".join([error.reason, *beside]), error.remedy)
    # The index files here may be the store's own, and chromadb writes to what it opens: so it gets a copy.
    with ScratchFolder("prove", folder.parent) as scratch:
        copy = copy_folder(folder, scratch / "copy")
        try:
            report = examine_in_child(copy, manifest.database, records=manifest.count, subject=error.subject)
        except CorruptedError as refused:
            raise CorruptedError(error.subject, f"{error.reason}; {refused.reason}", error.remedy) from None
    problems = [report.unsupported] if report.unsupported else differences(manifest, report)
    if problems:
        raise CorruptedError(error.subject, "; ".join([error.reason, *problems[:5]]), error.remedy)
