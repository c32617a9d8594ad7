"""What turned out corrupted while something else was done, and its way to the quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from embedding_assets.errors import CorruptedError
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import log_end
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.quarantine import EntryKind, execute_quarantine, plan_quarantine
from embedding_assets.vectorstore.transfer import verify_files
from embedding_assets.vectorstore.verification import Verdict


@dataclass(frozen=True)
class Damage:
    """A database that turned out corrupted.

    Attributes:
        kind, name, folder: which, and where it was.
        reason: what is wrong with it.
        moved: whether its files were moved to the quarantine; otherwise nothing was there any more.
    """

    kind: EntryKind
    name: str
    folder: str
    reason: str
    moved: bool = False

    @property
    def fate(self) -> str:
        """What became of its files, for messages."""
        return "it was moved to the quarantine" if self.moved else "none of its files was left to move aside"

    @classmethod
    def of(cls, manifest: Manifest, reason: str) -> Damage:
        """The damage of a database; a shard's name follows its version's."""
        name = f"{manifest.id}.{manifest.shard}" if manifest.shard else manifest.id
        return cls(manifest.kind, name, manifest.folder, reason)


def move_aside(store: ObjectStore, collection: str, damages: Sequence[Damage], end: int, run_id: str) -> list[Damage]:
    """Move damaged databases to the quarantine.

    Snapshots only while the log still ends where it did when they were read: old versions may be deleted as soon as
    there is a newer one, and what is being deleted looks damaged.

    Returns:
        The damages, with what became of them; those of snapshots left out where the log has moved on.
    """
    done = []
    for damage in damages:
        if damage.kind == "snapshot" and log_end(store, collection).generation != end:
            continue
        verdict = Verdict("corrupted", damage.reason)
        plan = plan_quarantine(store, collection, damage.kind, damage.name, damage.folder, verdict, run_id)
        done.append(replace(damage, moved=execute_quarantine(store, plan) is not None))
    return done


def damage_of(store: ObjectStore, manifest: Manifest) -> str:
    """What is wrong with the files of a database that seemed whole; empty where nothing is."""
    try:
        verify_files(store, manifest)
    except CorruptedError as error:
        return error.reason
    return ""
