"""What the names of a cell's objects tell: two listings, and nothing is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.landing import AGAIN, OTHER_MODELS
from embedding_assets.batches.requests import REQUEST_ID
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore

_EMPTY = ""


@dataclass(frozen=True)
class CellNames:
    """A cell as its names show it.

    Attributes:
        asked: ids of its requests.
        unsent: those without a batch.
        landed: ids of the landings of each batch that has any, by the batch's part of the key; where there are several,
            their names do not tell which one counts.
        other_models: the batches any of whose landings is marked as naming other models, by their part of the key.
        leaves_over: whether any landing is marked as leaving records to be asked again, or a batch given up.
        state: a digest of all the names; nothing was asked or landed as long as it is the same.
        given_up: requests whose batch nobody waits for any more; it is landed all the same if it ends.
        hurt: requests of which an object is gone or empty, as names and sizes alone show.
    """

    collection: str
    day: str
    asked: frozenset[str]
    unsent: tuple[str, ...]
    landed: Mapping[str, tuple[str, ...]]
    leaves_over: bool
    state: str
    other_models: frozenset[str] = frozenset()
    given_up: frozenset[str] = frozenset()
    hurt: frozenset[str] = frozenset()

    @property
    def sent(self) -> frozenset[str]:
        """Its requests that have a batch."""
        return self.asked.difference(self.unsent)

    @property
    def waiting(self) -> bool:
        """Whether batches were sent of which nothing is landed."""
        return len(self.sent) > len(self.landed)

    @property
    def unasked(self) -> bool:
        """Whether there are landings that no request was sent for: the record of one is gone."""
        return len(self.landed) > len(self.sent)


def read_names(store: ObjectStore, collection: str, day: str) -> CellNames:
    """List a cell.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    sizes, results = in_parallel(
        lambda folder: {item.key.removeprefix(f"{folder}/"): item.size for item in store.walk(folder)},
        [layout.requests(collection, day), layout.results(collection, day)],
    )
    requests = list(sizes)
    with_intent = {name for name in _folders(requests, layout.REQUEST) if REQUEST_ID.fullmatch(name)}
    landed: dict[str, tuple[str, ...]] = {}
    for name in sorted(_folders(results, layout.MANIFEST)):
        batch, _, landing = name.partition("/")
        landed[batch] = (*landed.get(batch, ()), landing)
    marked, named = ({name.partition("/")[0] for name in _folders(results, mark)} for mark in (AGAIN, OTHER_MODELS))
    given_up = frozenset(_folders(requests, layout.GIVEN_UP))
    return CellNames(
        collection,
        day,
        frozenset(with_intent),
        tuple(sorted(with_intent - _folders(requests, layout.BATCH))),
        landed,
        bool(given_up) or not marked.isdisjoint(landed),
        hashlib.blake2b("\n".join([*requests, "", *results]).encode(), digest_size=8).hexdigest(),
        frozenset(named.intersection(landed)),
        given_up,
        _hurt(sizes),
    )


def _hurt(sizes: Mapping[str, int]) -> frozenset[str]:
    """Requests of which an object is empty or gone; one that is being written is not among them."""
    folders: dict[str, set[str]] = {}
    for name, size in sizes.items():
        request_id, _, file = name.partition("/")
        if REQUEST_ID.fullmatch(request_id):
            folders.setdefault(request_id, set()).add(file.partition("-")[0] if size else _EMPTY)
    return frozenset(
        request_id
        for request_id, files in folders.items()
        if _EMPTY in files
        or (layout.REQUEST in files and not files >= {"ids", "documents"})
        or (layout.BATCH in files and layout.REQUEST not in files)
    )


def _folders(names: Iterable[str], file: str) -> set[str]:
    """The folders that hold a file of this name."""
    ending = f"/{file}"
    return {name.removesuffix(ending) for name in names if name.endswith(ending)}
