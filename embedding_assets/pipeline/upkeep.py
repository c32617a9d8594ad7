"""Looks: what there is, and whether it is whole. Changes nothing."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from embedding_assets.batches.asked_log import days_of
from embedding_assets.batches.balance import balance
from embedding_assets.batches.collisions import collisions
from embedding_assets.batches.input_notes import damaged_notes
from embedding_assets.batches.mending import damaged_documents
from embedding_assets.batches.requests import read_requests
from embedding_assets.batches.restoring import damaged_entries
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import CorruptedError
from embedding_assets.pipeline.conservation import accepted_records, held_origins
from embedding_assets.pipeline.findings import Findings, Row
from embedding_assets.pipeline.gone import gone_rows
from embedding_assets.pipeline.gone_landings import gone_landings, gone_requests
from embedding_assets.pipeline.kept import kept_rows
from embedding_assets.pipeline.kinds import as_held, mismatch
from embedding_assets.pipeline.landings import damaged_landings, name_of
from embedding_assets.pipeline.log_walk import walk_log
from embedding_assets.pipeline.statistics import damaged_reports
from embedding_assets.pipeline.unstorable import deltas_without_some
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, history, load_snapshot, log_end
from embedding_assets.vectorstore.inventory import Inventory, StoredDelta, StoredFolder, take_inventory
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets.vectorstore.unstorable import in_words
from embedding_assets.vectorstore.verification import Level, Verification
from embedding_assets.vectorstore.verify import verify

_NAMED = 100
UNMERGED = "unmerged delta"  # one that is whole, and that the current snapshot holds by its manifest alone


def list_snapshots(store: ObjectStore, spec: CollectionSpec) -> Findings:
    """The snapshot versions, the newest first, and what stands beside them."""
    inventory = take_inventory(store, spec.name)
    committed = {c.version: c for c in history(store, spec.name, [folder.name for folder in inventory.snapshots])}
    current = next(iter(committed), None)
    rows: list[Row] = []
    for folder in sorted(inventory.snapshots, key=lambda one: one.name, reverse=True):
        commit = committed.get(folder.name)
        state = "current" if folder.name == current else "older" if commit else "not committed"
        rows.append(_row(folder, state, records=commit.count if commit else None))
    rows += [_row(folder, "unfinished") for folder in inventory.unfinished_snapshots]
    rows += [_row(folder, "without a log (older system)") for folder in inventory.legacy_snapshots]
    pointer = store.get(layout.pointer(spec.name)).decode(errors="replace") if inventory.pointer else "none"
    return Findings(spec.name, tuple(rows), f"pointer: {pointer}; commits: {len(inventory.commits)}")


def list_all_deltas(store: ObjectStore, spec: CollectionSpec) -> Findings:
    """The deltas, committed or not, and folders of older systems."""
    inventory = take_inventory(store, spec.name)
    rows = [_row(delta, "committed", day=delta.day) for delta in inventory.deltas]
    rows += [_row(delta, "unfinished", day=delta.day) for delta in inventory.unfinished_deltas]
    rows += [_row(folder, "without manifest (older system)") for folder in inventory.legacy_deltas]
    return Findings(spec.name, tuple(rows), f"{len(inventory.deltas)} committed deltas")


def list_quarantined(store: ObjectStore, spec: CollectionSpec) -> Findings:
    """What was moved aside, and why."""
    rows: list[Row] = []
    for entry in list_quarantine(store, spec.name):
        report = entry.report
        rows.append(
            {
                "kind": entry.kind,
                "name": entry.name,
                "reason": report.reason if report else "the move did not come to its end; the next run ends it",
                "batches": ", ".join(report.batches) if report else None,
                "found": report.found_at if report else None,
                "bytes": entry.size,
            }
        )
    return Findings(spec.name, tuple(rows), f"{len(rows)} in quarantine")


def verify_snapshots(store: ObjectStore, spec: CollectionSpec, level: Level, scratch: Path) -> Findings:
    """Verify every snapshot version that has a manifest, and those of older systems."""
    inventory, spec = take_inventory(store, spec.name), as_held(store, spec)
    what = [f"{folder.prefix}/{layout.MANIFEST}" for folder in inventory.snapshots]
    return _verified(store, spec, [*what, *(f.prefix for f in inventory.legacy_snapshots)], level, scratch)


def verify_deltas(
    store: ObjectStore, spec: CollectionSpec, level: Level, scratch: Path, ids: Iterable[str] = ()
) -> Findings:
    """Verify every committed delta and every folder of older systems, or those with these ids."""
    inventory, spec = take_inventory(store, spec.name), as_held(store, spec)
    wanted = set(ids)
    chosen: list[StoredFolder] = [*inventory.deltas, *inventory.legacy_deltas]
    what = [
        f"{folder.prefix}/{layout.MANIFEST}" if isinstance(folder, StoredDelta) else folder.prefix
        for folder in chosen
        if not wanted or folder.name in wanted
    ]
    return _verified(store, spec, what, level, scratch)


def check_collection(
    store: ObjectStore, spec: CollectionSpec, level: Level, scratch: Path, *, full_share: float = 0.0, turn: int = 0
) -> Findings:
    """Verify everything of a collection: deltas, snapshots, the books of every cell, and what belongs to nobody.

    Args:
        store, spec: the collection.
        level: how thoroughly.
        scratch: an existing folder on a disk with room for twice the largest database.
        full_share: at `quick`, this share of the databases is verified in full, another one each `turn`.
        turn: counts up from audit to audit, so that after 1/full_share of them each had its turn.
    """
    inventory = take_inventory(store, spec.name)
    rows: list[Row] = []
    wrong = mismatch(store, spec)
    if wrong:
        # No damage, but it does not go away by itself either: nothing is asked, and no reader answers.
        said: Row = {"reason": wrong.reason, "remedy": wrong.remedy}
        rows.append({"kind": "declaration", "name": spec.name, "verdict": "unknown", **said})
    spec = as_held(store, spec)
    what = [f"{folder.prefix}/{layout.MANIFEST}" for folder in (*inventory.deltas, *inventory.snapshots)]
    what += [folder.prefix for folder in inventory.waiting_legacy()]
    turns = max(1, round(1 / full_share)) if full_share > 0 else 0
    commit = head(store, spec.name)
    current = f"{layout.snapshots(spec.name, commit.version)}/{layout.MANIFEST}" if commit else ""
    for key in what:
        its_turn = turns and zlib.crc32(key.encode()) % turns == turn % turns
        rows += _verified_row(store, key, spec, "full" if its_turn else level, scratch, current)
    judged = {row["name"] for row in rows if row.get("verdict") == "corrupted"}
    rows += [row for row in walk_log(store, spec.name) if row["name"] not in judged]
    rows += gone_rows(store, spec, scratch)
    for day in days_of(store, spec.name):
        books = balance(store, spec, day)
        if not books.balanced:
            reason = f"{len(books.unaccounted)} records are unaccounted for: {', '.join(books.unaccounted[:5])}"
            rows.append({"kind": "books", "name": day, "verdict": "corrupted", "reason": reason})
        if books.limited:
            rows.append({"kind": "limit", "name": day, "state": books.limited_in_words})
        requests = [item.request for item in read_requests(store, spec.name, day)]
        hurt = [*books.damaged, *gone_requests(store, books, read_deltas=True), *damaged_entries(store, requests)]
        hurt += damaged_notes(store, requests)
        if level == "full":
            hurt += damaged_documents(store, requests)
        for one in {damage.key: damage for damage in hurt}.values():
            why = f"{one.key}: {one.reason}"
            rows.append({"kind": "request", "name": one.request_id, "day": day, "verdict": "corrupted", "reason": why})
        rows += [
            {"kind": "landing", "name": one.request_id, "day": day, "verdict": "corrupted", "reason": one.reason}
            for one in gone_landings(store, books)
        ]
        rows += [
            {"kind": "batch", "name": row.batch_id or row.request_id, "day": day, "state": row.reason}
            for row in books.batches
            if row.aside or row.late
        ]
    rows += [
        {"kind": "report", "name": version, "state": f"damaged: {reason}; the next run makes it again"}
        for version, reason in damaged_reports(store, spec.name).items()
    ]
    for day in store.folders(layout.results(spec.name)):
        rows += [
            {"kind": "damaged landing", "name": name_of(one), "day": day, "verdict": "corrupted", "reason": one.reason}
            for one in damaged_landings(store, spec.name, day, level, scratch)
        ]
    rows += [{"kind": "id", "name": one.id, "state": str(one)} for one in collisions(store, spec.name)[:_NAMED]]
    rows += kept_rows(store, spec.name, inventory)
    rows += _set_aside(store, spec)
    rows += _missing_marks(store, spec, inventory)
    rows += [_row(folder, "unfinished; `prune` removes it") for folder in inventory.unfinished_deltas]
    rows += [_row(folder, "unfinished; `prune` removes it") for folder in inventory.unfinished_snapshots]
    rows += [
        {"kind": "stray", "name": item.key, "state": "belongs to nobody", "bytes": item.size}
        for item in inventory.strays
    ]
    rows += [
        {"kind": "stranger", "name": one.path, "state": f"{one.reason}; it is passed over"}
        for one in store.strangers(spec.name)
    ]
    return Findings(spec.name, tuple(rows), f"{_verdicts(rows)}; {len(inventory.quarantined)} in quarantine")


def _verified_row(
    store: ObjectStore, key: str, spec: CollectionSpec, level: Level, scratch: Path, current: str
) -> list[Row]:
    """The verdict of one database; at `full`, of the current snapshot also the deltas whose records it lacks."""
    if level != "full" or key != current:
        return [_verdict_row(verify(store, key, spec, level=level, scratch=scratch))]
    with ScratchFolder("current", scratch) as own:
        found = verify(store, key, spec, level=level, scratch=own, keep_copy=True)
        if found.verdict.kind != "valid" or found.manifest is None or found.copy is None:
            return [_verdict_row(found)]
        lost = accepted_records(store, spec, found.manifest).lost(held_origins(found.copy, found.manifest))
    rows = [_verdict_row(found)]
    for delta, ids in lost.items():
        some = f"{ids[0]!r}" if len(ids) == 1 else f"{len(ids)}, such as {ids[0]!r}"
        reason = f"snapshot {found.id} counts it as merged and lacks records of it: {some}; `repair` merges it again"
        rows.append({"kind": UNMERGED, "name": delta, "verdict": "corrupted", "reason": reason})
    return rows


def _set_aside(store: ObjectStore, spec: CollectionSpec) -> list[Row]:
    """The deltas with records that no database takes; no damage, but for a person to know."""
    return [
        {
            "kind": "records",
            "name": delta.id,
            "day": delta.day,
            "records": delta.set_aside,
            "state": in_words([one for entry in delta.batches for one in entry.set_aside]),
        }
        for delta in deltas_without_some(store, spec.name)
    ]


def _missing_marks(store: ObjectStore, spec: CollectionSpec, inventory: Inventory) -> list[Row]:
    """Deltas that no compaction would see; there are none unless somebody removed marks."""
    end = log_end(store, spec.name)
    try:
        held = set(load_snapshot(store, spec.name, end.head).deltas) if end.head and end.marked else None
    except CorruptedError:
        held = None
    if held is None:  # then every compaction looks at all deltas
        return []
    marks = {item.key for item in inventory.marks}
    keys = {delta.name: layout.waiting(spec.name, delta.day, delta.name) for delta in inventory.deltas}
    reason = "it is missing, and the delta is in no snapshot; `repair` merges it"
    return [
        {"kind": "mark", "name": key, "verdict": "corrupted", "reason": reason}
        for name, key in keys.items()
        if name not in held and key not in marks
    ]


def _verified(store: ObjectStore, spec: CollectionSpec, what: Sequence[str], level: Level, scratch: Path) -> Findings:
    rows = tuple(_verdict_row(verify(store, key, spec, level=level, scratch=scratch)) for key in what)
    return Findings(spec.name, rows, _verdicts(rows))


def _verdicts(rows: Sequence[Row]) -> str:
    found = Findings("", tuple(rows))
    remarks = [str(row["reason"]) for row in rows if row.get("verdict") == "valid" and row.get("reason")]
    counts = {what: sum(what in one for one in remarks) for what in ("changed by another program", "set aside")}
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    remark = f" ({said})" if said else ""
    return (
        f"{found.count('valid')} valid{remark}, {found.count('corrupted')} corrupted, {found.count('unknown')} unknown"
    )


def _verdict_row(one: Verification) -> Row:
    return {
        "kind": one.kind,
        "name": one.id,
        "day": one.folder.split("/")[2] if one.kind == "delta" else None,  # also where no manifest says so
        "verdict": one.verdict.kind,
        "reason": one.verdict.reason or one.verdict.remark,
        "remedy": one.cause.remedy if one.cause else None,
        "level": one.level,
        "records": one.count,
        "bytes": one.bytes,
        "seconds": round(one.seconds, 2),
    }


def _row(folder: StoredFolder, state: str, **more: str | int | None) -> Row:
    return {
        "name": folder.name,
        "state": state,
        **more,
        "modified": folder.modified.isoformat(timespec="seconds"),
        "bytes": folder.size,
    }
