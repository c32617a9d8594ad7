"""What a merge touched: the records that have to be read to prove a database, where its base was proved before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter

from embedding_assets.chroma.carried import carried_over, is_applied
from embedding_assets.chroma.read import offsets_of, reading, records_at
from embedding_assets.chroma.sources import read_source_ids, read_sources
from embedding_assets.chroma.spec import Source
from embedding_assets.chroma.sqlite_reader import Collection, choose, read_collections
from embedding_assets.chroma.vectors import VectorReader
from embedding_assets.records import ContentDigest, RecordBatch

_ROWS = 1000
_KIND = attrgetter("id", "metadata_segment", "vector_segment", "space", "dimension")


@dataclass
class Touched:
    """The records of some ids: as the base and the other sources have them, and as the database does.

    All others are in the database just as they are in the base.

    Attributes:
        ids: of all sources but the base.
    """

    base: Source
    base_vectors: VectorReader
    others: Sequence[Source]
    collection: str
    ids: frozenset[str]
    _taken: ContentDigest = field(default_factory=ContentDigest)

    def of_sources(self, problems: list[str]) -> Iterator[RecordBatch]:
        """Those of the base, then those of the other sources; `problems` as in `read_sources`."""
        with reading(self.base.path) as connection:
            chosen = choose(read_collections(connection), self.collection)
            for batch in _records(connection, chosen, self.base_vectors, self.ids):
                self._taken.add(batch)
                yield batch
        yield from read_sources(self.others, self.collection, problems)

    def of_database(
        self, connection: sqlite3.Connection, collection: Collection, vectors: VectorReader
    ) -> Iterator[RecordBatch]:
        """Those of the database."""
        return _records(connection, collection, vectors, self.ids)

    def digest(self, read: ContentDigest) -> ContentDigest:
        """That of the whole database, of that of its touched records; after those of the sources were read."""
        return ContentDigest.known(self.base.digest, self.base.count).minus(self._taken).plus(read)


def find_touched(
    connection: sqlite3.Connection, collection: Collection, vectors: VectorReader, sources: Sequence[Source]
) -> Touched | None:
    """What the sources touched; None where all records have to be read.

    That is so where there is no base, or it was not proved, or anything of it is not found again just as it was.
    """
    if not sources or not sources[0].proved or not sources[0].path.is_dir():
        return None
    base, others = sources[0], sources[1:]
    ids = frozenset(
        record_id for source in others for ids in read_source_ids(source, collection.name) for record_id in ids
    )
    with reading(base.path) as base_connection:
        chosen = choose(read_collections(base_connection), collection.name)
        if _KIND(chosen) != _KIND(collection):
            return None
        if not (is_applied(base_connection, chosen) and is_applied(connection, collection)):
            return None
        base_vectors = VectorReader(base_connection, base.path, chosen)
        if not carried_over(connection, collection, vectors, base.path, base_vectors, ids):
            return None
    return Touched(base, base_vectors, others, collection.name, ids)


def _records(
    connection: sqlite3.Connection, collection: Collection, vectors: VectorReader, ids: frozenset[str]
) -> Iterator[RecordBatch]:
    found = iter(offsets_of(connection, collection, ids).items())
    while some := dict(islice(found, _ROWS)):
        yield records_at(connection, vectors, some)
