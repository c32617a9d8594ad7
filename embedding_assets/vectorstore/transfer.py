"""Moves databases between the disk and the store, and proves on the way that both hold the same."""

from __future__ import annotations

import os
import shutil
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from embedding_assets.chroma.sqlite_reader import SQLITE_FILE
from embedding_assets.errors import CorruptedError, ObjectMissingError
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.manifest import FileEntry, Manifest, sha256_of

AT_ONCE = 8  # files under way at once; more gave nothing on two cores
_SET_ASIDE = "Run `embedding-assets repair`: it moves what is corrupted to the quarantine and makes it again."
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Traffic:
    """Bytes of files that were moved: from the store, from copies on this machine instead, and to the store."""

    downloaded: int = 0
    cached: int = 0
    uploaded: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.downloaded + other.downloaded, self.cached + other.cached, self.uploaded + other.uploaded)


NO_TRAFFIC = Traffic()


@dataclass(frozen=True)
class FileProblem:
    """A file that is not in the store as its manifest says, and in which way; `missing` where there is none."""

    path: str
    reason: str
    missing: bool = False


class OtherSqliteError(CorruptedError):
    """The SQLite file alone is not the one in the manifest. Whether that is damage, only its content can tell."""


def only_sqlite_differs(problems: Sequence[FileProblem]) -> bool:
    """Whether the SQLite file is there and is another one, and nothing else is wrong."""
    return [(problem.path, problem.missing) for problem in problems] == [(SQLITE_FILE, False)]


def at_once(do: Callable[[_Item], _Answer], items: Iterable[_Item], threads: int = AT_ONCE) -> list[_Answer]:
    """`do` for every item, several at a time; answers in order; the first exception ends it."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(do, items))


def one_ahead(do: Callable[[_Item], _Answer], items: Iterable[_Item]) -> Iterator[_Answer]:
    """`do` for every item in order, in a thread: while the caller works with one answer, the next is under way."""
    with ThreadPoolExecutor(1) as pool:
        coming: deque[Future[_Answer]] = deque()
        for item in items:
            coming.append(pool.submit(do, item))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def upload_files(store: ObjectStore, manifest: Manifest, folder: Path) -> None:
    """Upload the files of a manifest, not yet the manifest."""
    at_once(lambda entry: store.upload(f"{manifest.folder}/{entry.path}", folder / entry.path), manifest.files)


def compare_files(
    store: ObjectStore,
    manifest: Manifest,
    folder: Path | None = None,
    keep: Callable[[FileEntry], bool] = lambda entry: True,
) -> list[FileProblem]:
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

    def problem(entry: FileEntry) -> FileProblem | None:
        wanted = (entry.size, entry.sha256)
        if read(entry) == wanted:
            return None
        found = read(entry)
        if found == wanted:
            return None
        if found is None:
            return FileProblem(entry.path, f"the file {entry.path} is missing", missing=True)
        how = "another SHA-256" if found[0] == entry.size else f"{found[0]} bytes instead of {entry.size}"
        return FileProblem(entry.path, f"the file {entry.path} is not the one in the manifest ({how})")

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return [found for found in at_once(problem, manifest.files) if found]


def verify_files(store: ObjectStore, manifest: Manifest, remedy: str = _SET_ASIDE) -> None:
    """Read back what the store holds and compare size and SHA-256 of every file with the manifest.

    Raises:
        OtherSqliteError: the SQLite file alone is another one.
        CorruptedError: a file is missing or another.
    """
    _require_none(manifest, compare_files(store, manifest), remedy)


def download_files(
    store: ObjectStore, manifest: Manifest, folder: Path, nearby: Sequence[Path] = (), *, copy: Path | None = None
) -> Traffic:
    """Bring the files of a manifest into a new folder, checking each on the way.

    Args:
        store, manifest, folder: what, and where to.
        nearby: folders on this machine that may hold copies of the files. Whatever there has the manifest's SHA-256
            is taken, the rest is downloaded.
        copy: another new folder, for a copy that may be changed. Then the files of the first are only to be read: of a
            store that is a folder, they may be the store's own.

    Raises:
        OtherSqliteError: the SQLite file alone is another one; then all files are in the folder, as they are.
        CorruptedError: a file is missing or another.
    """
    for place in (folder, copy):
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
    own = store.on_disk(manifest.folder) if copy else None

    def without(files: Sequence[FileEntry], places: Sequence[Path]) -> tuple[FileEntry, ...]:
        taken = at_once(lambda entry: any(_take(place, folder, entry, copy) for place in places), files)
        return tuple(entry for entry, is_here in zip(files, taken, strict=True) if not is_here)

    rest = replace(manifest, files=without(manifest.files, nearby))
    far = replace(rest, files=without(rest.files, [own] if own else []))
    _require_none(manifest, compare_files(store, far, folder))
    if copy is not None:
        for entry in far.files:
            copy_below(folder, copy, entry)
    return Traffic(downloaded=rest.size, cached=manifest.size - rest.size)


def place_copy(source: Path, target: Path) -> None:
    """A file under a second name: a link where that is possible and safe, else a copy.

    Only the SQLite file is changed by whoever opens a database, so it is the one that is never shared.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name != SQLITE_FILE:
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # another disk, or one without links
            pass
        else:
            return
    copy_file(source, target)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file and its time of change; where the file system can let the two share their blocks, it does.

    A file that changes while it is copied gets another time.
    """
    with source.open("rb") as old, target.open("xb") as new:
        before = os.fstat(old.fileno())
        try:
            while os.copy_file_range(old.fileno(), new.fileno(), 1 << 30):
                pass
        except OSError:
            old.seek(0)
            new.seek(0)
            new.truncate()
            shutil.copyfileobj(old, new, 4 * 1024 * 1024)
        new.flush()
        if os.fstat(old.fileno()).st_mtime_ns == before.st_mtime_ns:
            os.utime(new.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))


def copy_folder(source: Path, target: Path) -> Path:
    """Copy a folder of files."""
    shutil.copytree(source, target, copy_function=lambda old, new: copy_file(Path(old), Path(new)))
    return target


def _take(source: Path, target: Path, entry: FileEntry, copy: Path | None) -> bool:
    """Whether a file of a folder on this machine is the wanted one; then it is in the target, and copied."""
    try:
        there = (source / entry.path).lstat()
        if there.st_size != entry.size or not stat.S_ISREG(there.st_mode):  # a link may lead elsewhere
            return False
        place_copy(source / entry.path, target / entry.path)
        if copy is not None:
            # What was linked may be changed by others at any time: what counts is what the copy is.
            copy_below(target, copy, entry)
        if sha256_of((copy or target) / entry.path) == entry.sha256:
            return True
    except OSError:  # dropped at this moment, or unreadable: there is another way to get it
        pass
    for folder in (target, copy):
        if folder is not None:
            (folder / entry.path).unlink(missing_ok=True)
    return False


def copy_below(source: Path, target: Path, entry: FileEntry) -> None:
    (target / entry.path).parent.mkdir(parents=True, exist_ok=True)
    copy_file(source / entry.path, target / entry.path)


def _require_none(manifest: Manifest, problems: list[FileProblem], remedy: str = _SET_ASIDE) -> None:
    if problems:
        kind = OtherSqliteError if only_sqlite_differs(problems) else CorruptedError
        reason = "; ".join(problem.reason for problem in problems[:5])
        raise kind(f"{manifest.kind} {manifest.id} of {manifest.collection}", reason, remedy)


def incomplete(store: ObjectStore, manifest: Manifest | None) -> str:
    """What names and sizes say against a database: files that are missing, or of another size; empty: nothing.

    What the listing does not show is asked for by its key: it may lag.
    """
    if manifest is None:
        return "its manifest is gone"
    there = {item.key: item.size for item in store.walk(manifest.folder)}
    for entry in manifest.files:
        key = f"{manifest.folder}/{entry.path}"
        size = there[key] if key in there else store.size(key)
        if size != entry.size:
            return f"the file {entry.path} " + ("is missing" if size is None else f"has {size} bytes")
    return ""
