"""What changes the store by hand: each operation says first what it would do, and does it only when told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from embedding_assets.batches.asked_log import days_of
from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import ConfigurationError, CorruptedError
from embedding_assets.pipeline.compacting import compacted
from embedding_assets.pipeline.findings import Findings, Planned, Row
from embedding_assets.pipeline.gone import GONE, find_gone, left_without, make_again
from embedding_assets.pipeline.kinds import as_held
from embedding_assets.pipeline.landings import damaged_landings, move_landings_aside, name_of
from embedding_assets.pipeline.mending import mend_cell
from embedding_assets.pipeline.upkeep import UNMERGED, check_collection
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import head, load_snapshot, log_end
from embedding_assets.vectorstore.damage import Damage
from embedding_assets.vectorstore.gone import claimed, gone_deltas, in_words
from embedding_assets.vectorstore.inventory import StoredDelta, take_inventory
from embedding_assets.vectorstore.kinds import sort_out
from embedding_assets.vectorstore.planning import plan_compaction
from embedding_assets.vectorstore.prune import execute_prune, plan_prune
from embedding_assets.vectorstore.quarantine import (
    EntryKind,
    execute_purge,
    execute_quarantine,
    execute_restore,
    plan_purge,
    plan_quarantine,
    plan_restore,
)
from embedding_assets.vectorstore.remove import (
    DeltaDeletionPlan,
    execute_delete_deltas,
    plan_clean_deltas,
    plan_delete_deltas,
)
from embedding_assets.vectorstore.snapshots import (
    execute_delete_snapshots,
    execute_rollback,
    plan_delete_snapshots,
    plan_rollback,
)
from embedding_assets.vectorstore.verification import Level, Verdict
from embedding_assets.vectorstore.verify import verify

_MENDED = {"request": "mend", "damaged landing": "quarantine"}


def delete_snapshots(
    store: ObjectStore, spec: CollectionSpec, *, timestamped: bool, run_id: str, scratch: Path
) -> Planned:
    """Remove the pointer and `latest/`, with `timestamped` the versions too, and rebuild at the next compaction."""
    plan = plan_delete_snapshots(store, spec.name, timestamped=timestamped)
    rows: list[Row] = [{"action": "delete", "name": one.prefix, "bytes": one.size} for one in plan.folders]
    if plan.pointer:
        rows.append({"action": "delete", "name": layout.pointer(spec.name), "bytes": None})
    if plan.current:
        rows.insert(0, {"action": "make no version current", "name": plan.current, "bytes": None})

    def execute() -> Findings:
        execute_delete_snapshots(store, plan, run_id=run_id)
        return Findings(spec.name, tuple(rows), "deleted; all deltas are kept, the next compaction merges them all")

    lost = [str(one) for one in find_gone(store, spec, scratch, quarantined=True)]
    if lost:
        lost.append("the next compaction has only the deltas: `embedding-assets repair` first makes again what it can")
    return Planned(spec.name, tuple(rows), execute, "; ".join(lost))


def rollback_snapshot(store: ObjectStore, spec: CollectionSpec, version: str, *, run_id: str) -> Planned:
    """Make an older version current again."""
    plan = plan_rollback(store, spec.name, version)
    rows: tuple[Row, ...] = (
        {"action": "make current", "name": version, "records": plan.manifest.count, "instead of": plan.current},
    )

    def execute() -> Findings:
        execute_rollback(store, plan, run_id=run_id)
        return Findings(spec.name, rows, f"{version} is current again")

    again = f"the next compaction merges {len(plan.dropped)} deltas again that it lacks; delete or keep them first"
    warnings = [again] if plan.dropped else []
    gone = gone_deltas(store, spec.name, claimed(store, spec.name, log_end(store, spec.name)), plan.dropped)
    if gone:
        warnings.append(f"{in_words(gone)}, and {version} lacks them; `embedding-assets repair` first makes them again")
    return Planned(spec.name, rows, execute, "; ".join(warnings))


def delete_deltas(store: ObjectStore, spec: CollectionSpec, ids: Sequence[str], *, scratch: Path) -> Planned:
    """Delete deltas by id; their batches are pending again, and the next run polls them."""
    plan = plan_delete_deltas(store, spec.name, ids)
    refs = [one.folder.ref(spec.name) for one in plan.deletions if isinstance(one.folder, StoredDelta)]
    _, aside = sort_out(store, refs, as_held(store, spec).vectors)
    warnings = [f"{one}; its records are pending already, or accepted by other batches" for one in aside]
    if len(aside) < len(refs):
        warnings.append("their batches are pending again: the next run polls them")
    return _deletion(store, spec, plan, scratch, "; ".join(warnings), left_without(store, spec, refs, scratch))


def clean_deltas(
    store: ObjectStore,
    spec: CollectionSpec,
    created_before: datetime | None,
    *,
    corrupted_only: bool,
    level: Level,
    scratch: Path,
) -> Planned:
    """Verify deltas older than a cut-off and remove those that are corrupted; what cannot be read stays.

    The cut-off is the collection's `validated_since` unless given, and now where that is not declared.
    """
    created_before = created_before or spec.validated_since or layout.now()
    plan = plan_clean_deltas(store, spec, created_before, scratch=scratch, corrupted_only=corrupted_only, level=level)
    return _deletion(store, spec, plan, scratch, "" if corrupted_only else "valid deltas go as well")


def _deletion(
    store: ObjectStore,
    spec: CollectionSpec,
    plan: DeltaDeletionPlan,
    scratch: Path,
    warning: str,
    left: Mapping[str, str] = MappingProxyType({}),
) -> Planned:
    rows: list[Row] = [
        {
            "action": "delete",
            "name": one.folder.name,
            "reason": one.reason,
            "bytes": one.folder.size,
            **({"left": left[one.folder.name]} if one.folder.name in left else {}),
        }
        for one in plan.deletions
    ]

    unjudged = [f"{name} {why}" for name, why in plan.kept.items() if why.startswith("cannot be judged")]

    def execute() -> Findings:
        done = execute_delete_deltas(store, spec, plan, scratch)
        kept: list[Row] = [{"action": "kept", "name": name, "reason": why} for name, why in plan.kept.items()]
        deleted: list[Row] = [
            {"action": "deleted", "name": one.folder.name, "reason": one.reason, "bytes": one.folder.size}
            for one in done
        ]
        summary = f"{len(done)} deleted, {len(plan.kept)} kept"
        if unjudged:
            summary += f", {len(unjudged)} of them because they cannot be judged just now"
        return Findings(spec.name, (*deleted, *kept), summary)

    if plan.unknown:
        warning = f"not there: {', '.join(plan.unknown)}. {warning}".strip()
    if unjudged:
        warning = f"{warning} {'; '.join(unjudged)}".strip()
    return Planned(spec.name, tuple(rows), execute, warning, len(unjudged))


def restore(store: ObjectStore, spec: CollectionSpec, kind: str, name: str, *, force: bool) -> Planned:
    """Move an entry of the quarantine back to its place."""
    plan = plan_restore(store, spec.name, entry_kind(kind), name, force=force)
    rows: tuple[Row, ...] = (
        {"action": "move back", "name": name, "verdict": plan.verdict.kind, "reason": plan.verdict.reason},
    )

    def execute() -> Findings:
        if not execute_restore(store, plan):
            why = "something else is in its place" if plan.allowed else f"it is {plan.verdict.kind}; --force moves it"
            raise ConfigurationError(f"{kind} {name}", f"was not moved back: {why}", "Nothing was changed.")
        return Findings(spec.name, rows, f"{name} is back in {plan.report.folder}")

    warning = (
        "" if plan.allowed else f"it is {plan.verdict.kind}: {plan.verdict.reason}; it is not moved without --force"
    )
    return Planned(spec.name, rows, execute, warning)


def purge(store: ObjectStore, spec: CollectionSpec, names: Sequence[str], *, found_before: datetime | None) -> Planned:
    """Delete entries of the quarantine for good."""
    plan = plan_purge(store, spec.name, set(names) or None, found_before)
    rows: tuple[Row, ...] = tuple(
        {"action": "delete for good", "name": entry.name, "kind": entry.kind, "bytes": entry.size}
        for entry in plan.entries
    )

    def execute() -> Findings:
        return Findings(spec.name, rows, f"{len(execute_purge(store, plan))} deleted for good")

    return Planned(spec.name, rows, execute, "what is deleted here cannot be had back" if rows else "")


def prune(store: ObjectStore, spec: CollectionSpec, *, keep: int, grace: timedelta) -> Planned:
    """Remove what dead writers left behind, and old snapshot versions."""
    plan = plan_prune(store, spec.name, keep=keep, grace=grace)
    rows: tuple[Row, ...] = tuple(
        {
            "action": "delete",
            "name": one.folder.prefix,
            "kind": one.kind,
            "reason": one.reason,
            "bytes": one.folder.size,
        }
        for one in plan.garbage
    )

    def execute() -> Findings:
        done = execute_prune(store, plan)
        summary = f"{len(done.removed)} removed, {len(done.spared)} spared, {len(done.failed)} not deleted by the store"
        return Findings(spec.name, rows, summary)

    lost = [f"{one.folder.name}: {one.reason}" for one in plan.garbage if "records go with it" in one.reason]
    return Planned(spec.name, rows, execute, "; ".join(lost))


def repair(
    store: ObjectStore,
    spec: CollectionSpec,
    *,
    level: Level,
    run_id: str,
    scratch: Path,
    found: Findings | None = None,
) -> Planned:
    """Verify everything, move aside what is corrupted, and compact from what is good.

    The batches of a delta that is moved aside are pending again; the next run of their cell polls them. `found` is what
    `check_collection` has just found; then nothing is verified again.
    """
    found = found or check_collection(store, spec, level, scratch)
    inventory = take_inventory(store, spec.name)
    places: dict[str, tuple[EntryKind, str, str]] = {
        **{delta.name: ("delta", delta.name, delta.prefix) for delta in inventory.deltas},
        **{version.name: ("snapshot", version.name, version.prefix) for version in inventory.snapshots},
    }
    unmerged = {str(row["name"]): row for row in found.rows if row.get("kind") == UNMERGED}
    damaged = [
        row
        for row in found.rows
        if row.get("verdict") == "corrupted" and row["name"] in places and row.get("kind") != UNMERGED
    ]
    rows: list[Row] = [{"action": "quarantine", "name": row["name"], "reason": row["reason"]} for row in damaged]
    rows += [
        {"action": _MENDED[str(row["kind"])], "name": row["name"], "reason": row["reason"]}
        for row in found.rows
        if row.get("kind") in _MENDED and row.get("verdict") == "corrupted"
    ]
    rows += [
        {"action": "make again", "name": row["name"], "reason": row["reason"]}
        for row in found.rows
        if row.get("kind") == GONE
    ]
    rows += [{"action": "merge again", "name": name, "reason": row["reason"]} for name, row in unmerged.items()]
    plan = plan_compaction(store, spec, every_delta=True)
    changed = plan.base is not None and any(
        row.get("verdict") == "valid" and row["name"] == plan.base.id and row["reason"] for row in found.rows
    )
    if damaged or plan.due or changed or unmerged:
        reason = (
            "from what is good"
            if damaged or plan.due or unmerged
            else "another program changed the current version's files"
        )
        rows.append({"action": "compact", "name": spec.name, "reason": reason})
    # What nobody could judge stays where it is; whoever repairs is told as clearly as whoever checks.
    unjudged = [row for row in found.rows if row.get("verdict") == "unknown" and row.get("kind") != GONE]
    left: list[Row] = [
        {"action": "left", "name": row["name"], "reason": row["reason"], "remedy": row.get("remedy")}
        for row in unjudged
    ]
    remarks = [f"{row['name']} is left as it is: {row['reason']}. {row['remedy']}" for row in left]
    remarks += [f"{one}; its records are asked for again, `deltas delete` removes it" for one in plan.aside]
    told = "; ".join(remarks)

    def execute() -> Findings:
        done: list[Row] = []
        for day in days_of(store, spec.name):
            mended = mend_cell(store, as_held(store, spec), day, run_id=run_id, read_all=level == "full")
            done += [
                {"action": "mended", "name": one.request_id, "reason": f"{one.key}: {one.reason}"} for one in mended
            ]
        for day in store.folders(layout.results(spec.name)):
            hurt = damaged_landings(store, spec.name, day, level, scratch)
            moved_aside = move_landings_aside(store, spec.name, hurt, run_id)
            done += [{"action": "quarantined", "name": name_of(one), "reason": one.reason} for one in moved_aside]
        # Before anything is moved: the current snapshot is one of the sources.
        again = make_again(store, spec, run_id=run_id, scratch=scratch)
        done += again.rows
        damages = [Damage(*places[name], str(row["reason"])) for row in damaged for name in [str(row["name"])]]
        for one in (one for whole in damages for one in _narrowed(store, spec, whole, level, scratch)):
            verdict = Verdict("corrupted", one.reason)
            planned = plan_quarantine(store, spec.name, one.kind, one.name, one.folder, verdict, run_id)
            report = execute_quarantine(store, planned)
            batches = ", ".join(report.batches) if report else ""
            action = "quarantined" if report else "gone"
            done.append({"action": action, "name": one.name, "reason": one.reason, "pending": batches})
        made = compacted(
            store, spec, run_id=run_id, scratch=scratch, every_delta=True, without=again.settled, again=tuple(unmerged)
        )
        # The compaction meets again what was moved just now, and tries again what was left.
        moved = {row["name"] for row in done}
        done += [row for row in made.rows if row["name"] not in moved]
        named = {row["name"] for row in done}
        done += [row for row in left if row["name"] not in named]
        return Findings(spec.name, tuple(done), made.summary)

    return Planned(spec.name, tuple(rows), execute, told, len(unjudged))


def _narrowed(store: ObjectStore, spec: CollectionSpec, whole: Damage, level: Level, scratch: Path) -> Sequence[Damage]:
    """Of the current snapshot only those shards that are damaged: the next one is made of the others."""
    commit = head(store, spec.name)
    if commit is None or commit.version != whole.name:
        return [whole]
    try:
        manifest = load_snapshot(store, spec.name, commit)
    except CorruptedError:
        return [whole]
    if not manifest.shards:
        return [whole]
    verdicts = [(part, verify(store, part, spec, level=level, scratch=scratch).verdict) for part in manifest.databases]
    return [Damage.of(part, verdict.reason) for part, verdict in verdicts if verdict.kind == "corrupted"] or [whole]


def entry_kind(kind: str) -> EntryKind:
    """The kind of an entry of the quarantine."""
    if kind == "delta":
        return "delta"
    if kind == "snapshot":
        return "snapshot"
    if kind == "request":
        raise ConfigurationError(
            "records of requests in the quarantine",
            "are not moved back: what they say stands in their place again",
            "Look at them with the store's own tools.",
        )
    if kind == "landing":
        raise ConfigurationError(
            "landings in the quarantine",
            "are not moved back: their batches are landed again",
            "Look at them with the store's own tools.",
        )
    if kind == "record":
        raise ConfigurationError(
            "records in the quarantine",
            "cannot be moved back: no database takes them",
            "After an update that mends the cause, delete their delta with `embedding-assets deltas delete`: the next "
            "run builds it of all records.",
        )
    raise ConfigurationError(f"kind {kind!r}", "is no kind of entry", "Use `delta` or `snapshot`.")
