"""Lands a batch again from the databases that hold its records, where neither the API nor a landing has them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from embedding_assets.batches.landing import LOST_CODE, LandedFiles
from embedding_assets.batches.landing_files import Landed
from embedding_assets.batches.parse import Answer
from embedding_assets.batches.records_file import RecordsFile
from embedding_assets.catalog import CollectionSpec
from embedding_assets.records import RecordBatch

RECOVERED = "recovered"  # status of a landing that was made of what the databases hold
UNSTORABLE_CODE = "unstorable"


@dataclass(frozen=True)
class Held:
    """What the databases hold of one batch.

    Attributes:
        records: its records, a block at a time.
        aside: ids of its records that no database takes; the quarantine has them.
        where: which database that is, in words.
    """

    records: Iterable[RecordBatch]
    aside: Collection[str]
    where: str


# What the databases hold of a batch, by its id; None where none holds any of its records.
FindHeld = Callable[[str], Held | None]


def land_held(spec: CollectionSpec, requested: Mapping[str, tuple[str, str]], held: Held, folder: Path) -> Landed:
    """Write the files of a landing from what the databases hold of a batch.

    What they do not hold was rejected, or a later text took its place: it is asked again unless there is such a text.

    Args:
        spec: with the model and the dimension that were asked.
        requested: id -> (document, canonical metadata).
        folder: where records.parquet, accepted.parquet and rejected.parquet are written.

    Raises:
        CorruptedError: the database is damaged.
        StoreError: the store did not answer, or refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = LandedFiles(folder / "records.parquet", folder / "accepted.parquet", folder / "rejected.parquet")
    landed = Landed(files, requested)
    with RecordsFile(files.records, spec.dimensions) as records:
        for some in held.records:
            if some.embeddings.shape[1] != spec.dimensions:
                continue
            for record_id, vector, document in zip(some.ids, some.embeddings, some.documents, strict=True):
                if record_id in landed.accepted or requested.get(record_id, ("",))[0] != document:
                    continue
                records.add(record_id, vector, *requested[record_id])
                landed.accepted.add(record_id)
    landed.digest = records.digest.hex()
    for record_id in requested:
        if record_id in landed.accepted:
            continue
        if record_id in held.aside:
            reason = "no database takes it; its vector is in the quarantine"
            landed.rejected[record_id] = Answer(record_id, None, UNSTORABLE_CODE, reason, False)
        else:
            reason = f"its landing is gone, and {held.where} does not hold it"
            landed.rejected[record_id] = Answer(record_id, None, LOST_CODE, reason, True)
    landed.write_lists()
    return landed
