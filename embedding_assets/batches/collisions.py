"""Ids that several batches of other programs use for different texts, such as `request-0` in every file."""

from __future__ import annotations

from dataclasses import dataclass

from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.requests import Request, asked_ids, read_history
from embedding_assets.errors import CorruptedError
from embedding_assets.store.objects import ObjectStore


@dataclass(frozen=True)
class Collision:
    """An id that stands for several texts; `days` are those of the batches, the one that counts last."""

    id: str
    texts: int
    days: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.days)} batches of other programs use it for {self.texts} different texts "
            f"({', '.join(dict.fromkeys(self.days))}); the one submitted last counts"
        )


def collisions(store: ObjectStore, collection: str) -> list[Collision]:
    """The ids of a collection that collide, by id.

    A program that asks for a corrected text under the same id looks the same: nothing tells the two apart.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    foreign = [request for request in read_history(store, collection) if request.foreign]

    def contents(request: Request) -> list[tuple[str, bytes]]:
        try:
            table = asked_ids(store, request)
        except CorruptedError:
            return []  # its cell's books say so
        return list(zip(table.column("id").to_pylist(), table.column("digest").to_pylist(), strict=True))

    digests: dict[str, list[bytes]] = {}
    days: dict[str, list[str]] = {}
    for request, rows in zip(foreign, in_parallel(contents, foreign), strict=True):
        for record_id, digest in rows:
            digests.setdefault(record_id, []).append(digest)
            days.setdefault(record_id, []).append(request.day)
    found = {record_id: len(set(some)) for record_id, some in digests.items()}
    return [Collision(i, texts, tuple(days[i])) for i, texts in sorted(found.items()) if texts > 1]
