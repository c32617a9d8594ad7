"""Finds the records that no database takes, so that each is set aside alone, by name, and the rest is stored.

What is checked before a record is accepted keeps such records out. This is for causes that nobody knows yet: a record
that the writer refuses, or that does not come back as it went in, when its delta is built or when that is merged (see
`unmergeable`). Its vector was paid for, so it is kept:

{collection}/quarantine/record/{landing id}-{digest of the ids}/records.parquet   the records, with `record_schema`
{collection}/quarantine/record/{landing id}-{digest of the ids}/report.json       which, why, when; written last
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.chroma.child import MergeFailedError, write_in_child
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.errors import CorruptedError
from embedding_assets.records import Origin, RecordBatch
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.vectorstore.publish import prove
from embedding_assets.vectorstore.quarantine import MovedFile, QuarantineReport, write_report

MOST_BUILDS = 400  # of trial databases; one record among 50,000 takes 34 of them at most, ten in different places 210
_FILE = "records.parquet"
_NAMED = 5

_Place = tuple[int, int]  # a source's position, a row of it

# Makes a database in a folder, of so many records of these sources, and proves it; MergeFailedError or CorruptedError
# where the records are at fault.
Trial = Callable[[Path, DatabaseSpec, Sequence[Source], int], None]


@dataclass(frozen=True)
class Unstorable:
    """Records of one source that no database takes: their table, and of each the reason, by id."""

    table: pa.Table
    reasons: dict[str, str]


def try_to_store(folder: Path, database: DatabaseSpec, sources: Sequence[Source], records: int) -> None:
    """A delta of these records, proved.

    Raises:
        MergeFailedError, CorruptedError, UnreadableError: it is not made, or not proved.
    """
    written = write_in_child(folder, database, sources, records=records)
    prove(folder, database, sources, records=records, subject="a trial", indexed=written.engine != "direct")


def find_unstorable(
    database: DatabaseSpec,
    sources: Sequence[Source],
    scratch: Path,
    *,
    most: int = MOST_BUILDS,
    trial: Trial = try_to_store,
) -> dict[str, Unstorable]:
    """The records without which these sources make a database that is proved whole.

    Trial databases are built of halves, and of halves of halves, down to single records. A record is named only where
    it fails twice alone and an ordinary record is stored right after: trouble of the machine names nobody.

    Args:
        database: what the sources are put into.
        sources: Parquet files of landed records.
        scratch: an existing folder on a disk with room for a database of them all; left as it was.
        most: so many trial databases at most.
        trial: how one is made.

    Returns:
        What is to be left out, by the labels of the sources; empty where the sources make a whole database.

    Raises:
        MergeFailedError: it is no record's fault, as far as that can be told.
        UnreadableError: a trial database could not be examined just now.
    """
    with ScratchFolder("unstorable", scratch) as work:
        search = _Search(database, tuple(sources), Path(work), most, trial)
        while search.refusal(kept := search.kept()):
            found = search.among(kept)
            if not found:
                raise MergeFailedError(
                    database.collection, "its records can be stored in parts, but not together", "It is tried again."
                )
            search.aside.update(found)
        return {
            source.label: Unstorable(
                _rows(search.tables[number], [row for _, row in sorted(mine)]),
                {search.ids[number][row]: reason for (_, row), reason in sorted(mine.items())},
            )
            for number, source in enumerate(sources)
            if (mine := {place: reason for place, reason in search.aside.items() if place[0] == number})
        }


def leave_out(records: Path, ids: Collection[str], target: Path) -> None:
    """Write a Parquet file's records but for these to another file."""
    table = pq.read_table(records)
    kept = [row for row, one in enumerate(table.column("id").to_pylist()) if one not in ids]
    pq.write_table(_rows(table, kept), target)


def keep_aside(
    store: ObjectStore, collection: str, day: str, batch_id: str, landing_id: str, found: Unstorable, run_id: str
) -> QuarantineReport:
    """Write records to the quarantine, the report last; the same records of the same landing make one entry.

    Raises:
        StoreError: the store did not answer, or refuses.
    """
    ids = list(found.reasons)
    digest = hashlib.sha256("\0".join(ids).encode("utf-8", "surrogatepass")).hexdigest()
    name = f"{landing_id}-{digest[:12]}"
    key = f"{layout.quarantine(collection, 'record', name)}/{_FILE}"
    sink = pa.BufferOutputStream()
    pq.write_table(found.table, sink)
    with contextlib.suppress(ObjectExistsError):  # a run before this one got so far
        store.put_new(key, sink.getvalue().to_pybytes())
    data = store.get(key)
    folder = layout.results(collection, day, batch_id, landing_id)
    some = "; ".join(f"{record_id!r}: {reason}" for record_id, reason in list(found.reasons.items())[:_NAMED])
    count = "1 record" if len(ids) == 1 else f"{len(ids)} records"
    report = QuarantineReport(
        kind="record",
        name=name,
        collection=collection,
        folder=folder,
        reason=f"{count} of batch {batch_id} cannot be stored: {some}{'; ...' if len(ids) > _NAMED else ''}",
        batches=(batch_id,),
        count=len(ids),
        manifest={"ids": ids, "sha256": hashlib.sha256(data).hexdigest()},
        files=(MovedFile(folder, key, len(data)),),
        found_at=layout.now().isoformat(),
        run_id=run_id,
    )
    return write_report(store, report)


def in_words(ids: Sequence[str]) -> str:
    """That these records are set aside, and where they are."""
    some = ", ".join(repr(record_id) for record_id in ids[:_NAMED])
    count = "1 record is" if len(ids) == 1 else f"{len(ids)} records are"
    return (
        f"{count} set aside, because no database takes them: {some}{', ...' if len(ids) > _NAMED else ''}; their "
        "vectors are in the quarantine, and `embedding-assets quarantine list` gives the reasons"
    )


def _rows(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    return table.take(pa.array(rows, pa.int64()))  # an empty list alone has no type that is taken


@dataclass
class _Search:
    """A search on its way: what is found, and how many trial databases it may still build."""

    database: DatabaseSpec
    sources: tuple[Source, ...]
    scratch: Path
    left: int
    trial: Trial
    aside: dict[_Place, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tables = [pq.read_table(source.path) for source in self.sources]
        self.ids: list[list[str]] = [table.column("id").to_pylist() for table in self.tables]

    def kept(self) -> list[_Place]:
        """Of each id the record of the greatest origin that is not set aside, as a delta would hold it."""
        best: dict[str, tuple[Origin, _Place]] = {}
        for number, source in enumerate(self.sources):
            origin = Origin(source.submitted, source.batch_id, source.delta_id)
            for row, record_id in enumerate(self.ids[number]):
                known = best.get(record_id)
                if (number, row) not in self.aside and (known is None or known[0] < origin):
                    best[record_id] = (origin, (number, row))
        return sorted(place for _, place in best.values())

    def among(self, places: list[_Place], *, tried: bool = True) -> dict[_Place, str]:
        """Those of these records that are refused alone.

        Args:
            places: of the records, which are refused together.
            tried: whether that was tried, or only follows from the other half, which is not refused.
        """
        if len(places) == 1:
            if not tried and not self.refusal(places):
                return {}
            reason = self.refusal(places)
            self._require_working()
            return {places[0]: reason} if reason else {}
        first, second = places[: len(places) // 2], places[len(places) // 2 :]
        if not self.refusal(first):
            return self.among(second, tried=False)
        found = self.among(first)
        if self.refusal(second):
            found.update(self.among(second))
        return found

    def refusal(self, places: list[_Place]) -> str:
        """Why a database of these records is not made, or not proved; empty where it is."""
        sources = []
        for number, source in enumerate(self.sources):
            rows = [row for one, row in places if one == number]
            path = self.scratch / f"{number}.parquet"
            pq.write_table(_rows(self.tables[number], rows), path)
            sources.append(replace(source, path=path))
        return self._tried(sources, len(places))

    def _tried(self, sources: Sequence[Source], records: int) -> str:
        if not self.left:
            raise MergeFailedError(
                self.database.collection, "it has too many records that cannot be stored", "It is tried again."
            )
        self.left -= 1
        folder = self.scratch / "trial"
        try:
            self.trial(folder, self.database, sources, records)
        except MergeFailedError as error:
            if not error.refused:
                raise
            return error.reason
        except CorruptedError as error:
            return error.reason
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return ""

    def _require_working(self) -> None:
        vector = np.zeros((1, self.database.dimension), dtype=np.float32)
        vector[0, 0] = 1.0
        path = self.scratch / "ordinary.parquet"
        pq.write_table(RecordBatch(["ordinary"], vector, ["an ordinary text"], [{"n": 1}]).to_arrow(), path)
        problem = self._tried([replace(self.sources[0], path=path)], 1)
        if problem:
            raise MergeFailedError(
                self.database.collection, f"an ordinary record is not stored either: {problem}", "It is tried again."
            )
