"""The one rule for names that a person gives: what is not there is refused, with what there is, and nothing is done."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from embedding_assets.catalog import CollectionSpec
from embedding_assets.errors import ConfigurationError, ObjectMissingError
from embedding_assets.pipeline.batches import open_batches, sent_batches
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.commit import history
from embedding_assets.vectorstore.inventory import adopted_as, list_databases
from embedding_assets.vectorstore.quarantine import list_quarantine

NamedKind = Literal[
    "delta", "committed delta", "version", "entry", "quarantined delta", "quarantined snapshot", "batch", "open batch"
]
Named: TypeAlias = tuple[NamedKind, Sequence[str]]
_SHOWN = 5
_OF_ONE: frozenset[NamedKind] = frozenset({"batch", "open batch"})


def require_named(store: ObjectStore, specs: Iterable[CollectionSpec], named: Named) -> None:
    """See that each name is something in one of these collections.

    Raises:
        ObjectMissingError: says which are not, and what there is.
        ConfigurationError: a batch is of several of the collections.
    """
    kind, names = named
    if not names:
        return
    what, look, names_in = _KINDS[kind]
    collections = [spec.name for spec in specs]
    there = [name for collection in collections for name in names_in(store, collection)]
    missing = [name for name in dict.fromkeys(names) if name not in there]
    if not missing:
        several = [name for name in dict.fromkeys(names) if kind in _OF_ONE and there.count(name) > 1]
        if several:
            raise ConfigurationError(
                f"{what} {', '.join(several)}",
                f"{'is' if len(several) == 1 else 'are'} of several of {', '.join(collections)}; nothing was done",
                "Name one collection.",
            )
        return
    near = difflib.get_close_matches(missing[0], there, n=1, cutoff=0.8)
    shown = ", ".join(sorted(set(there), reverse=True)[:_SHOWN])
    if near:
        remedy = f"Did you mean {near[0]}?"
    elif there:
        more = f" and {len(set(there)) - _SHOWN} more" if len(set(there)) > _SHOWN else ""
        remedy = f"There is {shown}{more}."
    else:
        remedy = "There is none."
    raise ObjectMissingError(
        f"{what} {', '.join(missing)}",
        f"{'is' if len(missing) == 1 else 'are'} not in {' or '.join(collections)}; nothing was done",
        f"{remedy} See `embedding-assets {look}`.",
    )


def _deltas(store: ObjectStore, collection: str) -> list[str]:
    """Whatever can be deleted: also what is unfinished, and ids of deltas that were made of legacy data."""
    found = list_databases(store, collection)
    folders = [*found.deltas, *found.unfinished_deltas, *found.legacy_deltas]
    made = [name for folder in (*found.legacy_deltas, *found.legacy_snapshots) for name in sorted(adopted_as(folder))]
    return [*(folder.name for folder in folders), *made]


def _committed(store: ObjectStore, collection: str) -> list[str]:
    found = list_databases(store, collection)
    return [folder.name for folder in (*found.deltas, *found.legacy_deltas)]


def _versions(store: ObjectStore, collection: str) -> list[str]:
    found = list_databases(store, collection)
    there = [folder.name for folder in found.snapshots]
    return [str(commit.version) for commit in history(store, collection, there)]


def _entries(*kinds: str) -> Callable[[ObjectStore, str], list[str]]:
    def names(store: ObjectStore, collection: str) -> list[str]:
        return [entry.name for entry in list_quarantine(store, collection) if entry.kind in kinds]

    return names


_KINDS: dict[NamedKind, tuple[str, str, Callable[[ObjectStore, str], list[str]]]] = {
    "delta": ("delta", "deltas list", _deltas),
    "committed delta": ("committed delta", "deltas list", _committed),
    "version": ("snapshot version", "snapshots list", _versions),
    "entry": ("quarantined", "quarantine list", _entries("delta", "snapshot", "record")),
    "quarantined delta": ("quarantined delta", "quarantine list", _entries("delta")),
    "batch": ("batch", "batches list", sent_batches),
    "open batch": ("batch of which nothing has landed", "batches list --open", open_batches),
    "quarantined snapshot": ("quarantined snapshot", "quarantine list", _entries("snapshot")),
}
