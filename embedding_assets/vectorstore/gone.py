"""What versions hold of deltas that are in the store no more, and why no version leaves them out without being told to.

A version claims deltas by its manifest; where that cannot be read, by those before it and the log since. A claimed
delta that is gone is made good by others that hold all its batches: the commit that added it says which these were.
Anything else that a new version would leave out is lost with it, so it is not committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from embedding_assets.catalog import VectorKind
from embedding_assets.errors import CorruptedError, EmbeddingAssetsError
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.bases import lost_versions
from embedding_assets.vectorstore.commit import (
    Added,
    Commit,
    LogEnd,
    contents_of,
    history,
    load_commit,
    load_snapshot,
    log_end,
)
from embedding_assets.vectorstore.delta import readable_deltas
from embedding_assets.vectorstore.draft import Draft
from embedding_assets.vectorstore.inventory import adopted_as, list_databases
from embedding_assets.vectorstore.manifest import Manifest

_NAMED = 5


class RecordsWouldGoError(EmbeddingAssetsError):
    """A version would hold less than the one before it, and nothing accounts for the difference.

    Attributes:
        deltas: those of the version before that are gone; empty where it is only the count that is less.
    """

    recoverable = True

    def __init__(self, subject: str, reason: str, remedy: str, deltas: tuple[str, ...] = ()) -> None:
        super().__init__(subject, reason, remedy)
        self.deltas = deltas


@dataclass(frozen=True)
class Claims:
    """What the current version holds, as far as can be told.

    Attributes:
        deltas: their ids.
        version, count: whose manifest says so, with its records; None where none can be read.
        kind: of its vectors, by that manifest.
    """

    deltas: frozenset[str]
    version: str | None = None
    count: int | None = None
    kind: VectorKind | None = None


@dataclass(frozen=True)
class GoneDelta:
    """A delta that a version claims, that is not in the store, and that no other delta stands for.

    Attributes:
        id: which.
        contents: what was in it; None where no commit says so, as in logs of earlier versions.
        open: those of its batches that no delta in the store holds.
        quarantined: whether it is in the quarantine: then its batches are pending, and the next run of its day asks
            the API for them.
    """

    id: str
    contents: Added | None
    open: tuple[str, ...]
    quarantined: bool

    def __str__(self) -> str:
        if self.contents is None:
            return self.id
        records, count = count_in_words(self.contents.records, "record"), len(self.open)
        some = ", ".join(self.open[:_NAMED]) + (", ..." if count > _NAMED else "")
        of = f" of {'batch' if count == 1 else 'batches'} {some}" if self.open else ""
        return f"{self.id} of {self.contents.day} with {records}{of}"


def claimed(store: ObjectStore, collection: str, end: LogEnd) -> Claims:
    """What the current version holds: by its manifest, or else by the log back to a version that has a manifest."""
    since: set[str] = set()

    def found(commit: Commit) -> Claims | None:
        try:
            manifest = load_snapshot(store, collection, commit)
        except CorruptedError:
            # A version that was committed again, or rolled back to, was made by an entry before.
            made = load_commit(store, collection, layout.generation_of(str(commit.version)) or 0)
            since.update(commit.added_deltas, made.added_deltas if made and made.version == commit.version else ())
            return None
        exactly = not since
        return Claims(
            frozenset({*since, *manifest.deltas}), manifest.id, manifest.count if exactly else None, manifest.vectors
        )

    for version in lost_versions(store, collection, end) if end.lost else []:
        if claims := found(Commit(layout.generation_of(version) or 0, version)):
            return claims
    # Nearly always the head's manifest says it all, and the rest of the log is not listed.
    if end.head is not None and not end.lost and (claims := found(end.head)):
        return claims
    for commit in history(store, collection) if end.commit is not None else ():
        if claims := found(commit):
            return claims
        if commit.parent is None:  # it was made from nothing: it added all that it held
            break
    return Claims(frozenset(since))


def gone_deltas(
    store: ObjectStore, collection: str, claims: Claims, among: Collection[str] | None = None
) -> list[GoneDelta]:
    """The claimed deltas that are not in the store and that no other stands for; reads manifests only if there are any.

    Args:
        store, collection, claims: whose.
        among: only these of them.
    """
    inventory = list_databases(store, collection)
    there = {delta.name for delta in inventory.deltas}
    missing = sorted(one for one in claims.deltas - there if among is None or one in among)
    if not missing:
        return []
    known = contents_of(store, collection, missing)
    held = batches_held(readable_deltas(store, [d.ref(collection) for d in inventory.deltas]), claims.kind)
    adopted = [adopted_as(folder) for folder in (*inventory.legacy_deltas, *inventory.legacy_snapshots)]
    found = []
    for name in missing:
        contents = known.get(name)
        still_open = tuple(batch for batch, _ in contents.batches if batch not in held) if contents else ()
        if contents and contents.batches and not still_open:
            continue
        if any(name in names and names & there for names in adopted):  # its folder was adopted again
            continue
        report = f"{layout.quarantine(collection, 'delta', name)}/{layout.REPORT}"
        found.append(GoneDelta(name, contents, still_open, store.exists(report)))
    return found


def batches_held(deltas: Iterable[Manifest], kind: VectorKind | None) -> set[str]:
    """Ids of the batches in these deltas, but for those of another kind."""
    return {entry.batch_id for one in deltas if kind in (None, one.vectors) for entry in one.batches}


def require_kept(store: ObjectStore, draft: Draft, held: Iterable[str], count: int | None = None) -> None:
    """See that a version leaves nothing out that the current one holds.

    What is in the quarantine is accounted for, as its batches are pending; but a rebuild by hand gives nothing up for
    that, as the current version still has it.

    Args:
        store, draft: the version that is made.
        held: ids of the deltas in it.
        count: its records, once that is known.

    Raises:
        RecordsWouldGoError: it does leave something out, that `draft.without` does not name.
    """
    end = log_end(store, draft.collection)
    if end.generation != draft.end:  # another writer was faster, or it is committed already
        return
    claims, kept = claimed(store, draft.collection, end), frozenset(held)
    without = frozenset(draft.without)
    left_out = claims.deltas - kept - without
    subject = f"snapshot of {draft.collection}"
    if left_out:
        gone = gone_deltas(store, draft.collection, claims, left_out)
        lost = [one for one in gone if draft.rebuild or not one.quarantined]
        if lost:
            raise RecordsWouldGoError(
                subject,
                f"was not made, as it would hold less than the one before: {in_words(lost)}, and nothing else stands "
                "for it",
                _REMEDY,
                tuple(one.id for one in lost),
            )
    elif not without and count is not None and claims.count is not None and count < claims.count:
        reason = f"was not made: it would hold {count} records, of the same deltas of which {claims.version} holds "
        raise RecordsWouldGoError(subject, f"{reason}{claims.count}", _REMEDY)


_REMEDY = (
    "`embedding-assets repair` makes the delta again from what has landed, the next run of its day from the API; "
    "`embedding-assets snapshots rebuild --force` goes on without it."
)


def in_words(gone: Sequence[GoneDelta]) -> str:
    """Which deltas are gone."""
    some = "; ".join(str(one) for one in gone[:_NAMED]) + (f" and {len(gone) - _NAMED} more" if gone[_NAMED:] else "")
    return f"{count_in_words(len(gone), 'delta')} of it {'is' if len(gone) == 1 else 'are'} gone ({some})"


def count_in_words(count: int, what: str) -> str:
    """Such as "1 record", "2 records"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
