"""The one place that imports chromadb: in child processes (see `worker`), and in a reader's own on a cached copy."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.config import Settings
from chromadb.errors import ChromaError, InternalError

from embedding_assets.chroma.spec import DatabaseSpec
from embedding_assets.chroma.sqlite_reader import require_own_schema
from embedding_assets.errors import ConfigurationError, UnreadableError
from embedding_assets.records import RecordBatch

VERSION = chromadb.__version__
_SETTINGS = Settings(anonymized_telemetry=False)  # making them takes 10 ms
_DEFAULT_SYNC_THRESHOLD = 1000  # chromadb's own; what a reader that goes on writing would expect
# While we write: rarely enough that rewriting the index files does not dominate, often enough that each call does
# not read back a long log (chromadb reads the unpersisted part of its log again at every call).
_BULK_SYNC_THRESHOLD = 20_000
PAGE = 5000


# All clients of a process on the same folder share one system, which chromadb makes and stops without any lock: two
# threads at it at once would leave one that never works again.
_clients = threading.Lock()


def client_on(folder: Path) -> Any:
    """A chromadb client on a folder; the caller closes it with `close_client`.

    Raises:
        CorruptedError: its database defines what no version of chromadb does, such as a trigger; it is not opened.
    """
    require_own_schema(folder)
    with _clients:
        return chromadb.PersistentClient(str(folder), settings=_SETTINGS.model_copy())


def close_client(client: Any) -> None:
    """Let go of a client; other clients on the same folder go on."""
    with _clients:
        client.close()


@contextlib.contextmanager
def questions(collection: str) -> Iterator[None]:
    """Turn what chromadb raises about a question into errors with a remedy.

    Raises:
        ConfigurationError: chromadb refuses the question as such.
        UnreadableError: it could not answer just now.
    """
    subject = f"question to {collection}"
    try:
        yield
    except InternalError as error:
        if "too many SQL variables" in str(error):
            raise ConfigurationError(
                subject, "its `where` has too many values for one question", "Ask several times, with fewer each."
            ) from error
        raise UnreadableError(subject, f"chromadb could not answer: {error}", "Refresh, and ask again.") from error
    except (ChromaError, ValueError, TypeError, OverflowError) as error:
        raise ConfigurationError(
            subject,
            f"chromadb refuses its `where` or its ids: {error}".rstrip("."),
            'Give `where` as ChromaDB writes filters, such as {"receipt_id": 7}, and ids as texts.',
        ) from error


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """A chromadb client on a folder, closed afterwards."""
    client = client_on(folder)
    try:
        yield client
    finally:
        close_client(client)


def create(folder: Path, spec: DatabaseSpec) -> None:
    """A new database with an empty collection."""
    folder.mkdir(parents=True, exist_ok=False)
    with opened(folder) as client:
        client.create_collection(
            spec.collection,
            embedding_function=None,
            configuration={"hnsw": {"space": spec.distance}},
        )


def set_sync_threshold(folder: Path, collection: str, threshold: int) -> None:
    """Takes effect when the folder is opened next."""
    with opened(folder) as client:
        client.get_collection(collection, embedding_function=None).modify(
            configuration={"hnsw": {"sync_threshold": threshold}}
        )


def prepare_bulk(folder: Path, collection: str) -> None:
    """Set a database that is about to be written in bulk up for it."""
    set_sync_threshold(folder, collection, _BULK_SYNC_THRESHOLD)


def seal(folder: Path, collection: str) -> None:
    """Make the index files hold every record.

    chromadb 1.5.9 persists the index only when `sync_threshold` log rows have gathered, never on close(). With a
    threshold of 2, two metadata updates that change nothing make it persist whatever is left.
    """
    set_sync_threshold(folder, collection, 2)
    with opened(folder) as client:
        handle = client.get_collection(collection, embedding_function=None)
        first = handle.get(limit=1, include=["metadatas"])
        for _ in range(4):
            if is_synced(folder):
                break
            handle.update(ids=first["ids"], metadatas=first["metadatas"])
        handle.modify(configuration={"hnsw": {"sync_threshold": _DEFAULT_SYNC_THRESHOLD}})
    if not is_synced(folder):
        raise RuntimeError("chromadb did not persist the index although its threshold was passed")


def is_synced(folder: Path) -> bool:
    """Whether the index files hold all that SQLite holds (both segments stand at the same sequence id)."""
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'chroma.sqlite3'}?mode=ro", uri=True)) as db:
        rows = db.execute("select m.seq_id from segments s left join max_seq_id m on m.segment_id = s.id").fetchall()
    return len({row[0] for row in rows}) == 1 and rows[0][0] is not None


def read_pages(handle: Any, *, vectors: bool = True) -> Iterator[RecordBatch]:
    """All records of an opened collection in pages; without vectors the embeddings have shape (n, 0)."""
    include = ["documents", "metadatas", *(["embeddings"] if vectors else [])]
    offset = 0
    while True:
        page = handle.get(limit=PAGE, offset=offset, include=include)
        ids = page["ids"]
        if not ids:
            return
        embeddings = (
            np.asarray(page["embeddings"], dtype=np.float32) if vectors else np.empty((len(ids), 0), np.float32)
        )
        yield RecordBatch(
            ids, embeddings, [d or "" for d in page["documents"]], [dict(m or {}) for m in page["metadatas"]]
        )
        offset += len(ids)
