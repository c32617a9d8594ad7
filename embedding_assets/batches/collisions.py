"""Ids that several batches of other programs use for different texts, such as `request-0` in every file."""

from __future__ import annotations

from dataclasses import dataclass

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.files import in_parallel
from embedding_assets.batches.requests import asked_ids, batch_for, read_history
from embedding_assets.errors import CorruptedError
from embedding_assets.store.objects import ObjectStore


@dataclass(frozen=True)
class Collision:
    """An id that stands for several texts; `days` and `batches` are those that use it, the one that counts last."""

    id: str
    texts: int
    days: tuple[str, ...]
    batches: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.days)} batches of other programs use it for {self.texts} different texts "
            f"({', '.join(dict.fromkeys(self.days))}); the one submitted last counts"
        )


def collisions(store: ObjectStore, collection: str, day: str | None = None) -> list[Collision]:
    """The ids of a collection that collide, by id.

    A program that asks for a corrected text under the same id looks the same: nothing tells the two apart.

    Args:
        day: only those whose batch that counts is of this day, so that each id is told of one cell.

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

    if day is None:
        rows = in_parallel(contents, foreign)
    else:
        wanted = {record_id for request in foreign if request.day == day for record_id, _ in contents(request)}
        if not wanted:
            return []
        rows = in_parallel(lambda request: [row for row in contents(request) if row[0] in wanted], foreign)
    digests: dict[str, set[bytes]] = {}
    users: dict[str, list[Request]] = {}
    for request, some in zip(foreign, rows, strict=True):
        for record_id, digest in some:
            digests.setdefault(record_id, set()).add(digest)
            users.setdefault(record_id, []).append(request)
    found = {i: users[i] for i in sorted(users) if len(digests[i]) > 1 and day in (None, users[i][-1].day)}
    colliding = {request.request_id: request for some in found.values() for request in some}
    names = dict(zip(colliding, in_parallel(lambda one: _batch_id(store, one), colliding.values()), strict=True))
    return [
        Collision(i, len(digests[i]), tuple(r.day for r in some), tuple(names[r.request_id] for r in some))
        for i, some in found.items()
    ]


def _batch_id(store: ObjectStore, request: Request) -> str:
    try:
        batch = batch_for(store, request)
    except CorruptedError:
        batch = None  # its cell's books say so
    return batch.batch_id if batch else request.request_id
