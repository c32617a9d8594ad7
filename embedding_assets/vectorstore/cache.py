"""Local copies of snapshots: whole and verified for readers, and file by file for the next compaction."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import stat
import warnings
from collections.abc import Callable
from pathlib import Path

from embedding_assets.chroma.spec import database_files
from embedding_assets.errors import (
    ConfigurationError,
    CorruptedError,
    EmbeddingAssetsError,
    LocalDiskError,
    UnreadableError,
)
from embedding_assets.local_disk import local_trouble
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout, sealed
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import bases, lost_entries
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.contents import download_database
from embedding_assets.vectorstore.manifest import Manifest, sha256_of
from embedding_assets.vectorstore.transfer import place_copy

_KEPT_VERIFIED = 2  # the newest, and one that a slower compaction may be reading
_VERIFIED = ".verified"
_OPEN = ".open"
_PROOF = "_proof.json"
_PROOF_FORMAT = 1
_TRIES = 5  # others may drop or replace a copy at the same moment
_HEALING = "The next compaction heals it; `embedding-assets repair` does at once."


def working_places(cache_folder: Path) -> list[Path]:
    """Where readers' own copies are, of all collections of all stores in a cache."""
    return sorted(cache_folder.glob(f"*/*/{_OPEN}"))


class DamagedSnapshotWarning(UserWarning):
    """The current snapshot is damaged; an older one that is whole is read in its place."""


def warn_of_fallback(said: str) -> None:
    """What readers are told unless they ask for something else."""
    warnings.warn(said, DamagedSnapshotWarning, stacklevel=2)


class Copy:
    """A reader's own copy of a snapshot: nobody else opens it, and nobody removes it while its process lives."""

    def __init__(self, manifest: Manifest, held: ScratchFolder) -> None:
        self.manifest = manifest
        self._held = held

    @property
    def folder(self) -> Path:
        """Where it is; each shard in a folder of its own below."""
        return self._held.path

    def cannot_be_opened(self, error: Exception) -> EmbeddingAssetsError:
        """What it means that chromadb does not open it: this machine refuses something, or the files are to blame."""
        if trouble := local_trouble(str(error), self.folder, "EMBEDDING_ASSETS_CACHE"):
            return trouble
        return UnreadableError(
            f"snapshot {self.manifest.id} of {self.manifest.collection}",
            f"chromadb cannot open it: {error}",
            "Run `embedding-assets check`.",
        )

    def close(self) -> None:
        """Remove it."""
        self._held.remove()


def fetch_current(
    store: ObjectStore,
    collection: str,
    cache_folder: Path,
    told: Callable[[str], None] = warn_of_fallback,
    *,
    opened: Copy | None = None,
    checksums: bool = False,
) -> Copy | None:
    """A reader's own copy of the newest committed snapshot that is whole, to be closed; None where there is none.

    Where the current snapshot is damaged, or the end of the log is, the newest older one that is whole takes its place.

    Args:
        store, collection, cache_folder: of what, and where verified copies are kept.
        told: gets the reason where an older snapshot than the current one is read.
        opened: a copy that is open. It is given back if there is nothing newer.
        checksums: verify the kept copy by checksums, not by sizes and times alone.

    Raises:
        CorruptedError: no committed snapshot is what its manifest says.
        ConfigurationError: the cache cannot be written.
        LocalDiskError: its disk is full, or this machine refuses something else.
    """
    while True:
        end = log_end(store, collection)
        damaged = lost_entries(store, collection, end)
        for base in bases(store, collection, end):
            try:
                if base.manifest is None:
                    raise CorruptedError(f"snapshot {base.version} of {collection}", base.problem, _HEALING)
                if opened is not None and opened.manifest.id == base.manifest.id:
                    found = opened
                else:
                    found = Cache(cache_folder, store, collection).open(store, base.manifest, checksums=checksums)
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

    {cache}/{store}/{collection}/.verified/{version}/            files as in the store, which nobody opens to write
    {cache}/{store}/{collection}/.verified/{version}/_proof.json  their sizes, times and SHA-256 when they were verified
    {cache}/{store}/{collection}/.open/{scratch folder}/          a reader's own copy, for as long as it is open

    chromadb writes to the SQLite file of what it opens, so a reader's own copy has its own SQLite file. It shares the
    other files, which only writers of records change, by hard links: they stay whatever is removed beside them.
    """

    def __init__(self, folder: Path, store: ObjectStore, collection: str) -> None:
        # One cache serves many stores: version ids are unique only within one.
        self._home = folder / hashlib.sha256(store.url.encode()).hexdigest()[:16] / collection

    def place(self, version: str) -> Path:
        """Where files of a version may be; whether they are, and are what they should be, is for the caller to see."""
        return self._home / _VERIFIED / version

    def keep(self, version: str, folder: Path) -> None:
        """Keep a published database's files for the next compaction. That they can't be kept is no error."""
        try:
            for path in database_files(folder):
                place_copy(folder / path, self.place(version) / path)
        except OSError:  # a half of it would only fill the disk
            _remove(self.place(version))
        self._drop_old()

    def open(self, store: ObjectStore, manifest: Manifest, *, checksums: bool = False) -> Copy:
        """A whole copy for one reader.

        Args:
            store, manifest: of what.
            checksums: verify the kept files by their checksums, not by sizes and times alone.

        Raises:
            CorruptedError: a file is missing in the store or another.
            ConfigurationError: the cache cannot be written.
            LocalDiskError: its disk is full, or this machine refuses something else.
        """
        try:
            (self._home / _OPEN).mkdir(parents=True, exist_ok=True)
            held = ScratchFolder("reader", self._home / _OPEN)
            try:
                for part in manifest.databases:
                    self._place(store, part, held.path, checksums)
            except BaseException:
                held.remove()
                raise
            self._drop_old()
        except LocalDiskError as error:
            raise _no_room(self._home, error) from None
        except OSError as error:
            if trouble := local_trouble(error, self._home):
                raise _no_room(self._home, trouble) from None
            raise _unwritable(self._home, error.strerror or str(error)) from None
        return Copy(manifest, held)

    def _place(self, store: ObjectStore, part: Manifest, target: Path, checksums: bool) -> None:
        """Bring one database into a reader's copy, from the verified files, which are made or healed first."""
        kept, mine = self.place(part.id) / part.shard, target / part.shard
        if _take(kept, part, mine, checksums):
            return
        # Its own files serve this reader, whatever others do to the place where they are kept.
        with ScratchFolder("fetch", self._home / _OPEN) as scratch:
            fresh = scratch / "database"
            download_database(store, part, fresh, [kept])
            _prove(fresh, part)
            if not _take(fresh, part, mine, checksums=False):
                raise OSError(f"the files of {part.id} change while they are read")
            self._replace(kept, fresh, scratch / "replaced")

    def _replace(self, kept: Path, fresh: Path, replaced: Path) -> None:
        """Put verified files in the place of what is there; another process that does the same may be faster."""
        for _ in range(_TRIES):
            if not kept.parent.is_dir():
                _remove(kept.parent)
            with contextlib.suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                kept.rename(replaced)
            with contextlib.suppress(OSError):
                fresh.rename(kept)
                return
            _remove(replaced)

    def _drop_old(self) -> None:
        """Remove versions that newer ones have replaced; copies that readers have open are none of them."""
        kept = self._home / _VERIFIED
        try:
            versions = sorted(path.name for path in kept.iterdir() if layout.generation_of(path.name) is not None)
        except OSError:
            return
        for version in versions[:-_KEPT_VERIFIED]:
            _remove(kept / version)
        # Earlier versions of this package had readers open folders here.
        for path in self._home.iterdir() if len(versions) >= _KEPT_VERIFIED else ():
            if layout.generation_of(path.name) is not None and path.name < versions[-_KEPT_VERIFIED]:
                _remove(path)


def _prove(folder: Path, part: Manifest) -> None:
    """Record sizes, times and checksums of files that have just been verified."""
    files = {}
    for path in database_files(folder):
        at = (folder / path).stat()
        files[path.as_posix()] = [at.st_size, at.st_mtime_ns, sha256_of(folder / path)]
    content = {"files": files, "manifest": _name_of(part), "format": _PROOF_FORMAT}
    (folder / _PROOF).write_bytes(sealed.seal("cached copy", part.key, content))


def _name_of(part: Manifest) -> str:
    return hashlib.sha256(part.to_bytes()).hexdigest()


def _take(kept: Path, part: Manifest, target: Path, checksums: bool) -> bool:
    """Whether kept files are as they were when they were verified; then they are in the target."""
    try:
        proof = sealed.unseal("cached copy", part.key, _read_small(kept / _PROOF), newest=_PROOF_FORMAT, sealed_since=1)
        files: dict[str, list[int | str]] = proof["files"]
        if proof["manifest"] == _name_of(part) and {entry.path for entry in part.files} <= set(files):
            for path, (size, time, digest) in files.items():
                place_copy(_regular(kept / path), target / path)
                # What was taken counts, not what is at the old place by now.
                at = (target / path).stat()
                if (at.st_size, at.st_mtime_ns) != (size, time) or (checksums and sha256_of(target / path) != digest):
                    break
            else:
                return True
    except (OSError, CorruptedError, ConfigurationError):  # there is another way to get it
        pass
    shutil.rmtree(target, ignore_errors=True)
    return False


def _regular(path: Path) -> Path:
    """OSError unless it is a plain file: a link may lead elsewhere, and reading a pipe never ends."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(f"{path} is no regular file")
    return path


def _read_small(path: Path) -> bytes:
    return _regular(path).read_bytes()


def _remove(path: Path) -> None:
    """Remove a folder, or whatever is in its place; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


_ELSEWHERE = "Set EMBEDDING_ASSETS_CACHE to a folder that this user can write, on a disk with room for two snapshots."


def _no_room(folder: Path, error: LocalDiskError) -> LocalDiskError:
    return LocalDiskError(f"cache {folder}", error.reason, f"Make room there. {_ELSEWHERE}")


def _unwritable(folder: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"cache {folder}", f"cannot be written ({why})", _ELSEWHERE)
