"""The proof that chromadb can read a database that has a log and nothing else, without having it read the whole.

When chromadb opens such a database it builds records, full text and index from the log, which takes as long as if they
had been written through it. That is not needed to know that it can:

- what the log says was read row by row, and every record compared with its source: ids, texts, metadata, vectors;
- everything else in the file is the empty database that chromadb made itself, but for the collection's dimension and
  the types of its metadata keys (the fingerprint and the checks of the tables see to that);
- chromadb applies log rows one by one and by their content alone, so that a row which it reads in one database, it
  reads in another.

So a sample of the very records, with every combination of metadata keys and types among them, is written by the same
code into a new database beside it. There chromadb has to count them, give them back as the direct reader says it would,
and find them.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from embedding_assets.chroma import api
from embedding_assets.chroma.log_writer import write_log
from embedding_assets.chroma.read import read_records
from embedding_assets.chroma.spec import DatabaseSpec
from embedding_assets.records import RecordBatch

_PER_BATCH = 8
_MOST = 64


class LogProbe:
    """Is shown all records of a database, takes a sample, and has chromadb read it."""

    def __init__(self, spec: DatabaseSpec) -> None:
        self._spec = spec
        self._kinds: set[tuple[object, ...]] = set()
        self._sample: list[RecordBatch] = []
        self._taken = 0

    def show(self, batch: RecordBatch) -> None:
        """Take some of these records: the first of every kind, and a few from all over."""
        rows: dict[int, None] = {}
        for row, metadata in enumerate(batch.metadatas):
            kind = (*metadata, *map(type, metadata.values()))
            if kind not in self._kinds:
                self._kinds.add(kind)
                rows[row] = None
        rows |= dict.fromkeys(np.linspace(0, len(batch) - 1, _PER_BATCH).astype(int).tolist())
        chosen = list(rows)[: _MOST - self._taken]
        if chosen:
            self._sample.append(batch.take(chosen))
            self._taken += len(chosen)

    def judge(self, scratch: Path) -> list[str]:
        """What chromadb makes of the sample, as problems; a new folder in `scratch` is used meanwhile."""
        with TemporaryDirectory(prefix="log-probe-", dir=scratch) as place:
            folder = Path(place) / "database"
            api.create(folder, self._spec)
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
