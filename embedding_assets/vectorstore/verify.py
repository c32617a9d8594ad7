"""Verifies databases in the store: deltas and snapshots against their manifests, and legacy folders without one.

`quick` proves that the store holds what was written: the manifest is its own and unchanged, every file is there with
its size and SHA-256, read back to the last byte, nothing was put beside them that chromadb would read, and SQLite
finds no fault. `full` proves besides that what was written is a whole database: its parts agree with one another,
chromadb opens it in a child process with limits on time and memory, the records are those of the manifest's digest,
every vector is finite, and searches find what a look at every record finds.

Nothing in the store is changed, chromadb opens copies only, and no trouble of the store, the disk or this machine is
taken for damage: that is `unknown`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.bookkeeping import check_bookkeeping
from embedding_assets.chroma.child import check_sqlite_in_child, examine_in_child, memory_limit
from embedding_assets.chroma.recovery import recover
from embedding_assets.chroma.reports import Examination, united_examination
from embedding_assets.chroma.spec import DatabaseSpec
from embedding_assets.chroma.sqlite_reader import SQLITE_FILE
from embedding_assets.errors import (
    ConfigurationError,
    CorruptedError,
    EmbeddingAssetsError,
    LocalDiskError,
    ObjectMissingError,
    UnreadableError,
)
from embedding_assets.local_disk import full_disk, local_trouble
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import Commit, load_snapshot
from embedding_assets.vectorstore.contents import (
    CHANGED,
    counter_fits,
    differences,
    index_files_alone,
    written_by_a_program,
)
from embedding_assets.vectorstore.delta import DeltaRef
from embedding_assets.vectorstore.kinds import why_aside
from embedding_assets.vectorstore.listing import DatabaseFolder, download_listed, list_database
from embedding_assets.vectorstore.manifest import Manifest, describe_files, load_manifest
from embedding_assets.vectorstore.transfer import compare_files, only_sqlite_differs
from embedding_assets.vectorstore.verification import LEVELS, Level, Verdict, Verification, corrupted

__all__ = ["LEVELS", "Level", "Verdict", "Verification", "verify"]

_MORE_MEMORY = 4  # times, for the second look at what was refused
_ROOM_BESIDE = 64 << 20  # chromadb's own journal and log when it opens a copy


def verify(
    store: ObjectStore,
    what: DeltaRef | Commit | Manifest | str,
    spec: CollectionSpec,
    *,
    level: Level,
    scratch: Path,
    keep_copy: bool = False,
    memory: int | None = None,
) -> Verification:
    """Verify one database in the store. Never raises for anything that the store, the disk or the database does.

    Args:
        store: where it is.
        what: a delta, a commit, a manifest or the key of one, or the key prefix of a folder; a folder without
            manifest is taken for legacy data.
        spec: the collection that it belongs to.
        level: `quick` or `full`; a legacy folder is always verified in full.
        scratch: an existing folder on a disk with room for twice the database; left as it was, unless:
        keep_copy: leave the files that were read below `scratch` and name their folder in the result.
        memory: so many bytes may the child process use that opens it; unless given, in proportion to its size.
    """
    began = time.monotonic()
    check = _Check(store, spec, level, scratch, memory, _unjudged(what, spec, level))
    try:
        with check.copying(keep_copy):
            check.run(what)
    except CorruptedError as error:
        check.now(verdict=corrupted([error.reason]))
    except EmbeddingAssetsError as error:
        check.unknown(error)
    except Exception as error:  # whatever it is, it is no proof of damage
        reason = f"{type(error).__name__}: {error}"
        check.unknown(
            local_trouble(error, scratch)
            or UnreadableError(check.result.subject, reason, "It is examined again by the next run.")
        )
    check.now(seconds=time.monotonic() - began)
    return check.result


def _unjudged(what: DeltaRef | Commit | Manifest | str, spec: CollectionSpec, level: Level) -> Verification:
    """The result before anything was looked at."""
    verdict = Verdict("unknown", "was not looked at")
    if isinstance(what, DeltaRef):
        folder = what.key.rpartition("/")[0]
        return Verification(verdict, level, "delta", what.id, what.collection, folder)
    if isinstance(what, Commit):
        folder = layout.snapshots(spec.name, what.version)
        return Verification(verdict, level, "snapshot", str(what.version), spec.name, folder)
    if isinstance(what, Manifest):
        return Verification(verdict, level, what.kind, what.id, what.collection, what.folder)
    folder = what.removesuffix("/" + layout.MANIFEST).strip("/")
    if folder == what.strip("/"):
        return Verification(verdict, level, "legacy", folder, spec.name, folder)
    kind = "snapshot" if folder.startswith(layout.snapshots(spec.name)) else "delta"
    return Verification(verdict, level, kind, folder.rpartition("/")[2], spec.name, folder)  # type: ignore[arg-type]


@dataclass
class _Check:
    """One verification on the way; `result` is what it has found so far."""

    store: ObjectStore
    spec: CollectionSpec
    level: Level
    scratch: Path
    memory: int | None
    result: Verification

    def now(self, **changes: object) -> None:
        self.result = replace(self.result, **changes)  # type: ignore[arg-type]

    def unknown(self, error: EmbeddingAssetsError) -> None:
        # Of this machine's own troubles the reason alone would not say where.
        reason = f"{error.subject}: {error.reason}" if isinstance(error, LocalDiskError) else error.reason
        self.now(verdict=Verdict("unknown", reason), cause=error)

    @contextmanager
    def copying(self, keep: bool) -> Iterator[None]:
        self.keep = keep
        made = ScratchFolder("verify", self.scratch)
        self.home = made.path
        try:
            yield
        finally:
            if keep and self.copy.is_dir():
                self.now(copy=self.copy)
                made.keep()
            else:
                made.remove()

    @property
    def copy(self) -> Path:
        return self.home / "database"

    def run(self, what: DeltaRef | Commit | Manifest | str) -> None:
        if isinstance(what, Manifest):
            self._verify_committed(what)
            return
        if isinstance(what, Commit):
            self._verify_committed(load_snapshot(self.store, self.spec.name, what))
            return
        key = f"{self.result.folder}/{layout.MANIFEST}"
        if self.result.kind != "legacy" or self.store.exists(key):
            try:
                self._verify_committed(load_manifest(self.store, key))
            except ObjectMissingError as error:
                if not error.subject.endswith(key):
                    raise
                self.now(verdict=corrupted(["its manifest is missing"]))
            return
        self._verify_legacy(list_database(self.store, self.result.folder))

    def _verify_committed(self, manifest: Manifest) -> None:
        """A database with a manifest."""
        self.now(manifest=manifest, kind=manifest.kind, id=manifest.id, collection=manifest.collection)
        if manifest.shards:
            self._verify_shards(manifest)
            return
        whole = self.level == "full"
        self._require_room(manifest.size if whole else _sqlite_size(manifest))
        listed = list_database(self.store, manifest.folder)
        found = compare_files(self.store, manifest, self.copy, keep=lambda entry: whole or entry.path == SQLITE_FILE)
        named = {entry.path for entry in manifest.files}
        added = [path for path in listed.files if path not in named]
        self.now(strangers=listed.strangers, bytes=manifest.size)
        problems = [problem.reason for problem in found]
        if problems or added:
            problems += [f"{path} is in its folder but not in its manifest" for path in added]
            opened = only_sqlite_differs(found) and index_files_alone(added)
            if opened and written_by_a_program(self.copy, manifest):
                self._verify_changed(manifest, listed, problems)
            else:
                self.now(verdict=corrupted(problems))
        elif not counter_fits(self.copy, manifest):
            wrong = [f"the change counter of {SQLITE_FILE} is not the one in the manifest"]
            self.now(verdict=self._after_opening(wrong))
        elif whole:
            self._verify_contents(manifest)
        else:
            wrong = check_sqlite_in_child(self.copy, records=manifest.count, subject=self.result.subject)
            self.now(verdict=self._after_opening(wrong))
        verdict = self.result.verdict
        if verdict.kind == "valid" and manifest.vectors != self.spec.vectors:
            # Nobody's damage: it is whole, and used as soon as it fits.
            remark = why_aside(manifest.vectors, self.spec.vectors)
            self.now(verdict=replace(verdict, remark="; ".join(filter(None, [verdict.remark, remark]))))

    def _verify_shards(self, manifest: Manifest) -> None:
        """Each shard as the database that it is, one after the other; the copies side by side, as in the store."""
        problems, examined, trouble, remark = [], [], None, ""
        for part in manifest.databases:
            found = verify(
                self.store, part, self.spec, level=self.level, scratch=self.home, keep_copy=True, memory=self.memory
            )
            if found.copy is not None:
                self.copy.mkdir(exist_ok=True)
                found.copy.rename(self.copy / part.shard)
                shutil.rmtree(found.copy.parent)
            if not self.keep:
                shutil.rmtree(self.copy, ignore_errors=True)
            if found.verdict.kind == "corrupted":
                problems.append(f"{part.shard}: {found.verdict.reason}")
            elif found.verdict.kind == "unknown":
                trouble = found.cause or UnreadableError(found.subject, found.verdict.reason, "Try again.")
            elif found.verdict.remark:
                remark = f"{part.shard}: {found.verdict.remark}"
            if found.examination is not None:
                examined.append(found.examination)
            self.now(bytes=self.result.bytes + found.bytes, strangers=(*self.result.strangers, *found.strangers))
        if len(examined) == len(manifest.databases):
            self.now(examination=united_examination(examined))
        if problems:
            self.now(verdict=corrupted(problems))
        elif trouble is not None:
            raise trouble
        else:
            self.now(verdict=Verdict("valid", remark=remark))

    def _verify_changed(self, manifest: Manifest, listed: DatabaseFolder, problems: list[str]) -> None:
        """A database that another program may have opened: its records tell whether that is all."""
        self._require_room(sum(item.size for item in listed.files.values()))

        def again() -> None:
            self.now(files=download_listed(self.store, listed, self.copy))
            committed = {entry for entry in manifest.files if entry.path != SQLITE_FILE}
            if not committed <= set(self.result.files):
                raise UnreadableError(self.result.subject, "changed while it was read", "Try again.")

        again()
        if beside := check_bookkeeping(self.copy):
            self.now(verdict=corrupted([*problems, *beside]))
            return
        try:
            report = self._examine(manifest.database, manifest.count, again)
        except CorruptedError as error:
            self.now(verdict=corrupted([*problems, error.reason]))
            return
        if report.unsupported:
            self.now(verdict=corrupted([*problems, report.unsupported]))
            return
        verdict = self._after_opening(differences(manifest, report), opened=report.opened)
        if verdict.kind == "valid":
            self.now(verdict=replace(verdict, remark=CHANGED))
        else:
            self.now(verdict=corrupted([*problems, verdict.reason]))

    def _verify_contents(self, manifest: Manifest) -> None:
        def again() -> None:
            if compare_files(self.store, manifest, self.copy):
                raise UnreadableError(self.result.subject, "changed while it was read", "Try again.")

        report = self._examine(manifest.database, manifest.count, again)
        if report.unsupported:
            return
        self.now(verdict=self._after_opening(differences(manifest, report), opened=report.opened))

    def _verify_legacy(self, listed: DatabaseFolder) -> None:
        """A folder without manifest: all but checksums."""
        self.now(level="full", strangers=listed.strangers)
        if SQLITE_FILE not in listed.files:
            # Without a file that only a database has, this may be any folder, or a disk that is not mounted.
            if not listed.remains:
                raise UnreadableError(self.result.subject, "holds no database", "Name the folder of one.")
            self.now(verdict=corrupted([f"{SQLITE_FILE} is missing"]))
            return
        size = sum(item.size for item in listed.files.values())
        self._require_room(size)
        self.now(files=download_listed(self.store, listed, self.copy), bytes=size)
        report = self._examine_recovered(listed, 1000 + size // (4 * self.spec.dimensions))
        # It has no manifest that would say when it was complete.
        if list_database(self.store, self.result.folder).files != listed.files:
            raise UnreadableError(self.result.subject, "changed while it was read", "Try again when it is complete.")
        if self.result.verdict.kind != "valid" or report is None:
            return
        if len(report.collections) != 1:
            raise UnreadableError(
                self.result.subject,
                f"holds {len(report.collections)} collections ({', '.join(report.collections)}) and not one",
                "Copy the folder once for each of them, beside it; open each copy with chromadb.PersistentClient, call "
                "delete_collection(name) for the others, remove this folder, and run `embedding-assets repair`.",
            )
        self._require_dimension(report.dimension or self.spec.dimensions)

    def _examine_recovered(self, listed: DatabaseFolder, records: int) -> Examination | None:
        """Judge a legacy folder's copy once its last transaction was finished; None where that cannot be done."""
        try:
            if recover(self.copy):
                self.now(files=describe_files(self.copy))
        except ValueError as error:
            self.now(verdict=corrupted([str(error)]))
            return None

        def again() -> None:
            download_listed(self.store, listed, self.copy)
            recover(self.copy)

        report = self._examine(DatabaseSpec("", 0, ""), records, again)
        if not report.unsupported:
            self.now(verdict=self._after_opening(report.problems, opened=report.opened))
        return report

    def _examine(self, database: DatabaseSpec, records: int, again: Callable[[], None]) -> Examination:
        """Examine the copy in a child process; `again` makes a new copy."""
        memory = self.memory or memory_limit(self.copy, database)
        try:
            report = examine_in_child(self.copy, database, records=records, subject=self.result.subject, memory=memory)
        except CorruptedError:
            # chromadb gives want of memory many names. What it refuses again, from a new copy (it may have left
            # half a transaction in this one) and with much more memory, it refuses because of what it reads.
            shutil.rmtree(self.copy)
            again()
            report = examine_in_child(
                self.copy, database, records=records, subject=self.result.subject, memory=_MORE_MEMORY * memory
            )
        self.now(examination=report)
        if report.unsupported:
            self.now(verdict=Verdict("unknown", report.unsupported))
        return report

    def _after_opening(self, problems: list[str], *, opened: bool = False) -> Verdict:
        if not problems:
            return Verdict("valid")
        # The store's bytes were right on their way here, or are all that there is: so is the copy still what was read?
        if not opened and not self._copy_is_unchanged():
            raise UnreadableError(
                self.result.subject, "its copy on the local disk is not what was read", "Check the disk."
            )
        return corrupted(problems)

    def _copy_is_unchanged(self) -> bool:
        manifest = self.result.manifest
        return set(describe_files(self.copy)) <= {*self.result.files, *(manifest.files if manifest else ())}

    def _require_room(self, size: int) -> None:
        if trouble := full_disk(self.scratch, 2 * size + _ROOM_BESIDE):
            raise trouble

    def _require_dimension(self, has: int) -> None:
        """A whole folder of an older system with another dimension is nobody's damage, but nobody's to use either."""
        if has != self.spec.dimensions:
            raise ConfigurationError(
                self.result.subject,
                f"is whole, but holds vectors of {has} dimensions; the collection holds {self.spec.vectors}",
                "Correct the declaration, or declare a collection of its own for it.",
            )


def _sqlite_size(manifest: Manifest) -> int:
    return sum(entry.size for entry in manifest.files if entry.path == SQLITE_FILE)
