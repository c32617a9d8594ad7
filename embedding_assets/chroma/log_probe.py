"""The proof that chromadb can read a database that has a log and nothing else, without having it read the whole.

When chromadb opens such a database it builds records, full text and index from the log, which takes as long as if they
had been written through it. That is not needed to know that it can:

- what the log says was read row by row, and every record compared with its source: ids, texts, metadata, vectors;
- every other table is that of an empty database that chromadb has just made, row by row, but for the collection's and
  its segments' names and settings, which were read, and a table of who ever opened it;
- chromadb applies log rows one by one and by their content alone, so that a row which it reads in one database, it
  reads in another.

So a sample of the very records, with every combination of metadata keys and types among them, is written by the same
code into a new database beside it. There chromadb has to count them, give them back as the direct reader says it would,
and find them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from embedding_assets.chroma import api
from embedding_assets.chroma.log_writer import write_log
from embedding_assets.chroma.read import read_records
from embedding_assets.chroma.spec import DatabaseSpec
from embedding_assets.chroma.sqlite_writer import connected
from embedding_assets.records import RecordBatch
from embedding_assets.scratch import ScratchFolder

_OF_THE_COLLECTION = {"acquire_write", "collections", "segments", "embeddings_queue"}
_SPACED = 32  # records from all over
_KINDS = 32  # and so many more, each the first of its kind


class LogProbe:
    """Is shown all records of a database, takes a sample, and has chromadb read it; to be used with `with`.

    A new folder beside the database is used meanwhile.
    """

    def __init__(self, database: Path, spec: DatabaseSpec, count: int) -> None:
        self._database, self._spec = database, spec
        self._stride = max(1, count // _SPACED)
        self._kinds: set[tuple[object, ...]] = set()
        self._sample: list[RecordBatch] = []
        self._seen = self._taken = 0

    def __enter__(self) -> LogProbe:
        self._place = ScratchFolder("log-probe", self._database.parent)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="probe")
        # chromadb takes as long for an empty database as a thousand records take to be read: it is made meanwhile.
        self._folder = self._place.path / "database"
        self._made = self._pool.submit(api.create, self._folder, self._spec)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._place.remove()

    def show(self, batch: RecordBatch) -> None:
        """Take some of these records: the first of every kind, and a few from all over."""
        rows = dict.fromkeys(range(-self._seen % self._stride, len(batch), self._stride))
        for row, metadata in enumerate(batch.metadatas):
            kind = (*metadata, *map(type, metadata.values()))
            if kind not in self._kinds and len(self._kinds) < _KINDS:
                self._kinds.add(kind)
                rows[row] = None
        self._seen += len(batch)
        if rows:
            self._sample.append(batch.take(list(rows)))
            self._taken += len(rows)

    def judge(self) -> list[str]:
        """What is wrong with the rest of the database, and with what chromadb makes of the sample."""
        folder = self._folder
        self._made.result()
        empty, here = _other_tables(folder), _other_tables(self._database)
        if here != empty:
            others = sorted(name for name in {*empty, *here} if here.get(name) != empty.get(name))
            return [f"its tables {', '.join(others)} are not those of an empty database"]
        write_log(folder, self._spec.collection, self._sample)
        wanted = list(read_records(folder, self._spec.collection))
        with api.opened(folder) as client:
            handle = client.get_collection(self._spec.collection, embedding_function=None)
            found = list(api.read_pages(handle))
            if handle.count() != self._taken or not _equal(found, wanted):
                return ["chromadb does not read a sample of its records as they were written"]
            query = wanted[0].embeddings[:1]
            if not handle.query(query_embeddings=query, n_results=1)["ids"][0]:
                return ["chromadb finds nothing in a sample of its records"]
        return []


def _other_tables(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of all tables but those that say what the one collection is and holds."""
    with connected(folder) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)  # noqa: S608 - known names
            for name in names
            if name not in _OF_THE_COLLECTION
        }


def _equal(found: list[RecordBatch], wanted: list[RecordBatch]) -> bool:
    return len(found) == len(wanted) and all(
        one.ids == other.ids
        and one.documents == other.documents
        and [_typed(metadata) for metadata in one.metadatas] == [_typed(metadata) for metadata in other.metadatas]
        and one.embeddings.tobytes() == other.embeddings.tobytes()
        for one, other in zip(found, wanted, strict=True)
    )


def _typed(metadata: object) -> object:
    return {key: (type(value), value) for key, value in metadata.items()}  # type: ignore[attr-defined]
