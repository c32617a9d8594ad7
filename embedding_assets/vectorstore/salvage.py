"""Makes deltas again of what a snapshot holds of deltas that are gone: it is the source that is left.

A record in a snapshot names its batch, when that was submitted, and its delta. What is written here is a regular delta
with the same batches, so that nothing of it is polled or paid for again, and what was submitted later still wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.read import is_readable, read_origins, read_records
from embedding_assets.errors import UnreadableError
from embedding_assets.records import Origin
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.contents import download_database
from embedding_assets.vectorstore.delta import LandedBatch, build_delta, group_batches
from embedding_assets.vectorstore.manifest import Manifest


@dataclass(frozen=True)
class Source:
    """A snapshot on this machine, whole to its last byte.

    Attributes:
        manifest: the snapshot's.
        folders: of its databases.
    """

    manifest: Manifest
    folders: tuple[Path, ...]

    def count(self, deltas: Collection[str]) -> Counter[Origin]:
        """How many records there are of each batch of these deltas."""
        found: Counter[Origin] = Counter()
        for folder in self.folders:
            for _, origins in read_origins(folder, self.manifest.collection):
                found.update(one for one in origins if one.delta_id in deltas)
        return found

    def make_deltas(
        self,
        store: ObjectStore,
        spec: CollectionSpec,
        wanted: Collection[Origin],
        place: Callable[[Origin], tuple[str, str]],
        *,
        run_id: str,
        scratch: Path,
    ) -> list[Manifest]:
        """Make deltas of the records of these origins.

        Args:
            store, spec: the collection.
            wanted: whose records.
            place: the day of a batch's cell, and the id of the landing that its records were taken from.
            run_id: who does it.
            scratch: an existing folder on a disk with room for the records, three times; left as it was.

        Raises:
            DeltaFailedError: a delta could not be built; those before it are there.
            StoreError: the store did not answer, or refuses.
        """
        built = []
        with ScratchFolder("salvage", scratch) as work:
            days: dict[str, list[LandedBatch]] = {}
            for origin, batch in self._written(wanted, place, Path(work)):
                days.setdefault(place(origin)[0], []).append(batch)
            for day, batches in sorted(days.items()):
                batches.sort(key=lambda one: (one.submitted, one.batch_id))
                for group in group_batches([one.accepted for one in batches], spec.delta_records):
                    some = [batches[at] for at in group]
                    built.append(build_delta(store, spec, day, some, run_id=run_id, scratch=Path(work)))
        return built

    def _written(
        self, wanted: Collection[Origin], place: Callable[[Origin], tuple[str, str]], folder: Path
    ) -> Iterator[tuple[Origin, LandedBatch]]:
        """The records of each batch, whatever delta they are of, as one Parquet file."""
        batches: dict[tuple[int, str], tuple[Origin, Path]] = {}
        counts: Counter[tuple[int, str]] = Counter()
        with ExitStack() as stack:
            writers: dict[tuple[int, str], pq.ParquetWriter] = {}
            for database in self.folders:
                for records in read_records(database, self.manifest.collection, raw=True):
                    rows: dict[Origin, list[int]] = {}
                    for row, metadata in enumerate(records.metadatas):
                        if (origin := Origin.of(metadata)) in wanted:
                            rows.setdefault(origin, []).append(row)
                    for origin, mine in rows.items():
                        key = (origin.submitted, origin.batch_id)
                        table = records.take(mine).without_origin().to_arrow()
                        if key not in writers:
                            path = folder / f"{len(writers)}.parquet"
                            batches[key] = (origin, path)
                            writers[key] = stack.enter_context(pq.ParquetWriter(path, table.schema))
                        writers[key].write(table)
                        counts[key] += len(mine)
        for key, (origin, path) in batches.items():
            yield origin, LandedBatch(origin.batch_id, origin.submitted, place(origin)[1], counts[key], path)


@contextmanager
def fetched(store: ObjectStore, manifest: Manifest, scratch: Path) -> Iterator[Source]:
    """A snapshot's files on this machine, for as long as they are needed.

    Args:
        store, manifest: which.
        scratch: an existing folder on a disk with room for it; left as it was.

    Raises:
        CorruptedError: it is not whole.
        UnreadableError: its format can only be read by chromadb.
        StoreError: the store did not answer, or refuses.
    """
    with ScratchFolder("source", scratch) as work:
        folders = []
        for part in manifest.databases:
            folders.append(Path(work) / (part.shard or "database"))
            download_database(store, part, folders[-1])
            if not is_readable(folders[-1], manifest.collection):
                subject = f"snapshot {manifest.id} of {manifest.collection}"
                raise UnreadableError(subject, "its records cannot be read one by one", "It stays as it is.")
        yield Source(manifest, tuple(folders))
