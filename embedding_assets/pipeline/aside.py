"""Moves damaged records of requests to the quarantine, and writes notes of input files again from their copies."""

from __future__ import annotations

from collections.abc import Iterable

from embedding_assets.batches.asked_log import Request
from embedding_assets.batches.input_notes import notes_of, write_input_notes
from embedding_assets.batches.requests import Damaged
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.misplaced import move_objects


def move_aside(store: ObjectStore, collection: str, one: Damaged, run_id: str) -> None:
    """Move a damaged object to the quarantine, if it is there at all.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    size = store.size(one.key)
    if size is not None:
        folder = one.key.rpartition("/")[0]
        move_objects(store, collection, one.request_id, folder, {one.key: size}, one.reason, run_id)


def mend_notes(store: ObjectStore, requests: Iterable[Request], run_id: str) -> list[Damaged]:
    """Write notes of input files again that are damaged or gone, and their copies; where both are, they are left.

    Returns:
        What was mended.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    done: list[Damaged] = []
    for request in requests:
        if request.input_notes is None:
            continue
        wrong, notes = notes_of(store, request)
        if not wrong or notes is None:
            continue
        for key, reason in wrong.items():
            move_aside(store, request.collection, Damaged(request.request_id, key, reason), run_id)
            if key.startswith(f"{request.folder}/"):
                done.append(Damaged(request.request_id, key, reason))
        write_input_notes(store, request.collection, request.day, request.request_id, notes)
    return done
