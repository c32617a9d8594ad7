"""Merging without ChromaDB's API: records in one SQLite transaction, vectors into the index's files, on all cores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from embedding_assets.chroma import usearch_file
from embedding_assets.chroma.index_writer import IndexWriter
from embedding_assets.chroma.read import is_readable
from embedding_assets.chroma.record_writer import changing
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.sqlite_reader import choose, read_collections
from embedding_assets.chroma.sqlite_writer import connected, require_writable
from embedding_assets.chroma.stopwatch import Stopwatch
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.records import RecordBatch


def obstacle(folder: Path, spec: DatabaseSpec, sources: Sequence[Source]) -> str:
    """Why the database in this folder cannot be merged into directly; empty if it can."""
    if not usearch_file.format_is_known():
        return "the installed usearch writes another format than the one that is known"
    try:
        with connected(folder) as connection:
            require_writable(connection, folder)
            collection = choose(read_collections(connection), spec.collection)
    except (EmbeddingAssetsError, ValueError) as error:
        return error.reason if isinstance(error, EmbeddingAssetsError) else str(error)
    if collection.space != spec.distance:
        return f"its distance is {collection.space}"
    if collection.metadata_seq != (collection.vector_seq or 0):
        return "its index was not written to the end"
    for source in sources:
        if source.path.is_dir() and not is_readable(source.path, source.collection or spec.collection):
            return f"{source.label} is not of the known format"
    return ""


def merge_directly(
    folder: Path,
    spec: DatabaseSpec,
    replaced: list[str],
    batches: Iterable[RecordBatch],
    room: int,
    watch: Stopwatch,
) -> bool:
    """Write records into a database to which `obstacle` has no objection; returns whether its index was made anew.

    Args:
        folder: the caller's own; to be thrown away where this fails.
        spec: what it holds.
        replaced: ids of the records that are in it and among the new ones.
        batches: the new records, each id once.
        room: how many they are.
        watch: told what takes how long.
    """
    with changing(folder, spec.collection) as records:
        index = IndexWriter(folder, records.collection, spec.dimension, room)
        with watch("records"):
            records.remove(replaced)
        for batch in watch.each("reading", batches):
            with watch("records"):
                records.add(batch)
            with watch("vectors"):
                index.put(batch)
        with watch("index"):
            index.finish()
    return index.rebuilt
