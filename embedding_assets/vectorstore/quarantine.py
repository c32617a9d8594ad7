"""Moves corrupted databases aside, so that nothing reads them and nothing is lost; and back, or away, when asked.

{collection}/quarantine/{kind}/{name}/...           the files, as they were found
{collection}/quarantine/{kind}/{name}/report.json   what, why, when, by whom, from where; written last

An entry without a report is none: then what counts is still, or again, in its old place. Everything here can be
repeated: copying comes first, the report second, and only then the original goes, its manifest before its files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

from embedding_assets.errors import CorruptedError, EmbeddingAssetsError, ObjectMissingError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore, StoredObject
from embedding_assets.store.sealed import seal, unseal
from embedding_assets.vectorstore.contents import CHANGED, opened_elsewhere
from embedding_assets.vectorstore.manifest import Manifest, parse_manifest
from embedding_assets.vectorstore.marks import mark
from embedding_assets.vectorstore.transfer import at_once
from embedding_assets.vectorstore.verification import Verdict

FORMAT = 2  # 1 was not sealed
_KIND = "quarantine report"
# records: see `unstorable`; requests: single objects; landings: see `pipeline.landings`
EntryKind = Literal["delta", "snapshot", "record", "request", "landing"]
_KEPT_ASIDE = "report.json.original"  # where a legacy folder has a file of the report's name


@dataclass(frozen=True)
class MovedFile:
    """One file of an entry: its key before, its key now, its size in bytes."""

    original: str
    key: str
    size: int


@dataclass(frozen=True)
class QuarantineReport:
    """What was moved aside, and why.

    Attributes:
        kind, name: which entry it is; the name is the delta's id, the snapshot's version, or made from the folder of
            legacy data.
        folder: the key prefix that it was at.
        reason: why it is corrupted.
        batches: ids of the batches in it, as far as its manifest can tell; they are pending again.
        count: records in it, as its manifest says; None where it cannot tell.
        manifest: its manifest, if that is readable as JSON.
        files: all its objects.
        found_at: ISO 8601, UTC.
        run_id: the run that found it.
    """

    kind: EntryKind
    name: str
    collection: str
    folder: str
    reason: str
    batches: tuple[str, ...]
    count: int | None
    manifest: Any
    files: tuple[MovedFile, ...]
    found_at: str
    run_id: str
    format: int = FORMAT

    @property
    def day(self) -> str:
        """The day of a delta's cell."""
        return self.folder.split("/")[2]

    @property
    def entry(self) -> str:
        """Its folder in the quarantine."""
        return layout.quarantine(self.collection, self.kind, self.name)

    @property
    def key(self) -> str:
        """The key of the report itself."""
        return f"{self.entry}/{layout.REPORT}"

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class QuarantinePlan:
    """What is to be moved aside.

    Attributes:
        kind, name, collection, folder, reason, run_id: as the report will say.
        objects: what is there now.
    """

    kind: EntryKind
    name: str
    collection: str
    folder: str
    reason: str
    run_id: str
    objects: tuple[StoredObject, ...]


@dataclass(frozen=True)
class QuarantineEntry:
    """An entry as it is found in the store; without a report it is a move that did not come to its end."""

    kind: str
    name: str
    prefix: str
    report: QuarantineReport | None
    objects: tuple[StoredObject, ...]

    @property
    def size(self) -> int:
        """Bytes of all its objects together."""
        return sum(item.size for item in self.objects)

    @property
    def modified(self) -> datetime:
        """The newest of the store's own timestamps."""
        return max(item.modified for item in self.objects)


def plan_quarantine(
    store: ObjectStore, collection: str, kind: EntryKind, name: str, folder: str, verdict: Verdict, run_id: str
) -> QuarantinePlan:
    """What would be moved aside.

    Raises:
        ValueError: the verdict is not `corrupted`; nothing else may move anything.
    """
    if verdict.kind != "corrupted":
        raise ValueError(f"{kind} {name} of {collection} is {verdict.kind}, not corrupted: it stays where it is")
    return QuarantinePlan(kind, name, collection, folder, verdict.reason, run_id, tuple(store.walk(folder)))


def execute_quarantine(store: ObjectStore, plan: QuarantinePlan) -> QuarantineReport | None:
    """Move it aside; None where nothing is there any more.

    Raises:
        StoreError: the store did not answer, or refuses; what is not moved by then is where it was.
    """
    entry = layout.quarantine(plan.collection, plan.kind, plan.name)
    objects = list(store.walk(plan.folder))
    if not objects:
        return None
    files = tuple(MovedFile(item.key, f"{entry}/{_place(item.key, plan.folder)}", item.size) for item in objects)
    manifest = _read_json(store, f"{plan.folder}/{layout.MANIFEST}")
    at_once(lambda file: _copy(store, file), files)
    copied = {item.key: item.size for item in store.walk(entry)}
    # Whoever else moves it at this moment may have taken the original away already, but then its copy is here.
    # What no listing shows yet is asked for by its key.
    missing = [file for file in files if file.key not in copied]
    copied |= {file.key: size for file in missing if (size := store.size(file.key)) is not None}
    lacking = [file.original for file in files if copied.get(file.key) != file.size]
    if lacking:
        raise EmbeddingAssetsError(
            lacking[0], "did not arrive in the quarantine as it is", "It stays where it is; the next run tries again."
        )
    report = QuarantineReport(
        plan.kind,
        plan.name,
        plan.collection,
        plan.folder,
        plan.reason,
        _batches_in(manifest),
        _count_in(manifest),
        manifest,
        files,
        layout.now().isoformat(),
        plan.run_id,
    )
    report = write_report(store, report)
    delete_database(store, plan.folder, [file.original for file in files])
    return report


def delete_database(store: ObjectStore, folder: str, keys: list[str]) -> None:
    """Delete a database's objects, the manifest first: without it the rest is no database any more."""
    manifest = f"{folder}/{layout.MANIFEST}"
    if manifest in keys:
        store.delete([manifest])
    store.delete([key for key in keys if key != manifest])


def list_quarantine(store: ObjectStore, collection: str) -> list[QuarantineEntry]:
    """What is in the quarantine."""
    found: dict[tuple[str, str], list[StoredObject]] = {}
    root = layout.quarantine(collection)
    for item in store.walk(root):
        parts = item.key.removeprefix(f"{root}/").split("/")
        if len(parts) > 2:
            found.setdefault((parts[0], parts[1]), []).append(item)
    return [
        QuarantineEntry(kind, name, prefix, _read_report(store, f"{prefix}/{layout.REPORT}"), tuple(items))
        for (kind, name), items in sorted(found.items())
        for prefix in [layout.quarantine(collection, kind, name)]
    ]


@dataclass(frozen=True)
class RestorePlan:
    """What would be moved back.

    Attributes:
        report: of the entry.
        verdict: of what is in the quarantine: `valid` where every file is as the manifest says.
        forced: whether it is moved back whatever the verdict.
    """

    report: QuarantineReport
    verdict: Verdict
    forced: bool = False

    @property
    def allowed(self) -> bool:
        """Whether it may be carried out."""
        return self.forced or self.verdict.kind == "valid"


def plan_restore(
    store: ObjectStore, collection: str, kind: EntryKind, name: str, *, force: bool = False
) -> RestorePlan:
    """What it would take to move an entry back to its place.

    Raises:
        ObjectMissingError: there is no such entry, or it has no report.
    """
    prefix = layout.quarantine(collection, kind, name)
    report = _read_report(store, f"{prefix}/{layout.REPORT}")
    if report is None:
        raise ObjectMissingError(
            prefix, "is no whole entry of the quarantine", "Look at what is there with `quarantine list`."
        )
    return RestorePlan(report, _judge(store, report), force)


def execute_restore(store: ObjectStore, plan: RestorePlan) -> bool:
    """Move an entry back: its files, then its manifest, and then the entry goes.

    Returns:
        False where something else stands in its place, or the plan is not allowed; nothing was changed then.
    """
    report = plan.report
    if not plan.allowed:
        return False
    manifest = f"{report.folder}/{layout.MANIFEST}"
    there = {item.key: item.size for item in store.walk(report.folder)}
    wanted = {file.original: file.size for file in report.files}
    strange = [key for key, size in there.items() if wanted.get(key) != size]
    if strange:
        return False
    last = [file for file in report.files if file.original == manifest]
    at_once(lambda file: store.copy(file.key, file.original), [f for f in report.files if f.original != manifest])
    if last and layout.time_of(report.name):
        mark(store, report.collection, report.day, report.name)
    for file in last:
        store.copy(file.key, file.original)
    store.delete([report.key])
    store.delete([file.key for file in report.files])
    return True


@dataclass(frozen=True)
class PurgePlan:
    """Which entries of the quarantine would be deleted for good, and which not and why."""

    entries: tuple[QuarantineEntry, ...]
    kept: dict[str, str]


def plan_purge(
    store: ObjectStore, collection: str, names: set[str] | None = None, found_before: datetime | None = None
) -> PurgePlan:
    """What of the quarantine would be deleted.

    Args:
        store, collection: whose.
        names: only these entries.
        found_before: only entries that the store has known since before this time.
    """
    entries, kept = [], {}
    for entry in list_quarantine(store, collection):
        if names is not None and entry.name not in names:
            kept[entry.name] = "is not among those to be purged"
        elif found_before is not None and entry.modified >= found_before:
            kept[entry.name] = f"was moved here on {entry.modified.isoformat()}"
        else:
            entries.append(entry)
    return PurgePlan(tuple(entries), kept)


def execute_purge(store: ObjectStore, plan: PurgePlan) -> list[str]:
    """Delete entries of the quarantine for good; the names of those deleted."""
    for entry in plan.entries:
        report = f"{entry.prefix}/{layout.REPORT}"
        store.delete([report])
        store.delete([item.key for item in entry.objects if item.key != report])
    return [entry.name for entry in plan.entries]


def _judge(store: ObjectStore, report: QuarantineReport) -> Verdict:
    """What has every byte that its manifest names is what was committed; without a manifest nothing tells."""
    here = {file.original: file.key for file in report.files}
    key = f"{report.folder}/{layout.MANIFEST}"
    if key not in here:
        return Verdict("corrupted", f"{report.reason}; and it has no manifest to hold it against")
    try:
        manifest = store.read(here[key], lambda data: parse_manifest(data, key))
        problems = [p for p in at_once(lambda e: _problem(store, manifest, here, e), manifest.files) if p]
    except (CorruptedError, ObjectMissingError) as error:
        return Verdict("corrupted", error.reason)
    if not problems:
        return Verdict("valid")
    if opened_elsewhere(store, manifest, {key.removeprefix(f"{report.folder}/"): here[key] for key in here}):
        return Verdict("valid", remark=CHANGED)
    return Verdict("corrupted", "; ".join(problems))


def _problem(store: ObjectStore, manifest: Manifest, here: dict[str, str], entry: Any) -> str | None:
    key = here.get(f"{manifest.folder}/{entry.path}")
    try:
        whole = key is not None and store.sha256(key) == (entry.size, entry.sha256)
    except ObjectMissingError:
        whole = False
    return None if whole else f"the file {entry.path} is missing or another"


def _place(key: str, folder: str) -> str:
    path = key.removeprefix(f"{folder}/")
    return _KEPT_ASIDE if path == layout.REPORT else path


def _copy(store: ObjectStore, file: MovedFile) -> None:
    try:
        store.copy(file.original, file.key)
    except ObjectMissingError:
        if not store.exists(file.key):
            raise


def write_report(store: ObjectStore, report: QuarantineReport) -> QuarantineReport:
    """The report that counts: the first, for it saw the most."""
    data = seal(_KIND, report.key, asdict(report))
    try:
        store.put_new(report.key, data)
    except ObjectExistsError:
        before = _read_report(store, report.key)
        if before is not None and {f.original for f in report.files} <= {f.original for f in before.files}:
            return before
        store.replace(report.key, data)
    return report


def _read_report(store: ObjectStore, key: str) -> QuarantineReport | None:
    try:
        raw = store.read(key, lambda data: unseal(_KIND, key, data, newest=FORMAT, sealed_since=FORMAT))
        files = tuple(MovedFile(**file) for file in raw["files"])
        report = QuarantineReport(**{**raw, "batches": tuple(raw["batches"]), "files": files})
        ours = report.key == key and layout.is_within(report.collection, report.folder)
        inside = (
            layout.is_within(report.folder, one.original) and layout.is_within(report.entry, one.key) for one in files
        )
        return report if ours and all(inside) else None
    except (CorruptedError, ObjectMissingError, TypeError, KeyError, AttributeError):
        return None


def _read_json(store: ObjectStore, key: str) -> Any:
    try:
        return orjson.loads(store.get(key))
    except (ObjectMissingError, ValueError):
        return None


def _batches_in(manifest: Any) -> tuple[str, ...]:
    try:
        return tuple(str(entry["batch_id"]) for entry in manifest["batches"])
    except (TypeError, KeyError):
        return ()


def _count_in(manifest: Any) -> int | None:
    count = manifest.get("count") if isinstance(manifest, dict) else None
    return count if isinstance(count, int) else None
