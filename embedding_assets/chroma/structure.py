"""Is the database in this folder whole? Without ChromaDB, and so without the risk that a damaged file ends the process.

What is found here is certain: an empty database, one that was never written to disk by the index, one with a log's
tail or with deleted elements are all sound. What cannot be found here is a change that leaves everything consistent,
such as a flipped bit in a vector of an l2 index: that takes the SHA-256 of the files, or a digest of the records.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from embedding_assets.chroma.fingerprint import is_known
from embedding_assets.chroma.hnsw_files import open_hnsw
from embedding_assets.chroma.index_checks import check_index
from embedding_assets.chroma.index_metadata import IndexMetadata
from embedding_assets.chroma.migrations import are_ours, check_migrations
from embedding_assets.chroma.plain_log import count_plain
from embedding_assets.chroma.reach_checks import reach_of
from embedding_assets.chroma.read import ids_of
from embedding_assets.chroma.replay import index_of, indexed_up_to, locate_vectors
from embedding_assets.chroma.sqlite_checks import check_file, check_log, check_records, check_tables
from embedding_assets.chroma.sqlite_reader import Collection, UnknownFormatError, choose, connect, read_collections


@dataclass(frozen=True, slots=True)
class Structure:
    """What the check found.

    Attributes:
        problems: the reasons why the database is damaged; none means that none was found.
        log_only: whether it is of the known format and has one collection, with records whose log was never applied.
        known_format: False where only SQLite itself could be checked, and ChromaDB has to judge the rest.
        refusal_is_damage: whether chromadb 1.5.9 has to be able to open it; another version's it may refuse.
        records: the records that each collection holds, by name; only of those that could be counted.
        unindexed: how many of them have their vector in the log and not yet in the index, by name.
        deleted: deleted elements that still stand in the index, by name.
        unreachable: live elements of the index that no search can come to, by name; a few are no damage.
        ids, indexes: what was read on the way: all ids, in order, and what the index says, by name.
    """

    problems: tuple[str, ...]
    log_only: bool
    known_format: bool
    refusal_is_damage: bool
    records: dict[str, int]
    unindexed: dict[str, int]
    deleted: dict[str, int]
    unreachable: dict[str, int]
    ids: dict[str, list[str]] = field(default_factory=dict, repr=False)
    indexes: dict[str, IndexMetadata | None] = field(default_factory=dict, repr=False)


def check_structure(
    folder: Path,
    collection: str | None = None,
    *,
    to_be_read: bool = False,
    meanwhile: Callable[[Structure], None] = lambda found: None,
) -> Structure:
    """Check the database in this folder, and the index of this collection, or of all.

    Never raises for anything that the files hold; OSError only if they cannot be read.

    Args:
        folder: the database; nothing is written there.
        collection: the name of the one to check.
        to_be_read: whether the caller goes on to read every record. Where a log is all that there is and each of its
            rows is a record, the rows' contents are then left to it.
        meanwhile: called with what was found so far, if that is of the known format and nothing is wrong with it, while
            SQLite still checks its file.
    """
    report = _Report()
    try:
        connection = connect(folder)
    except ValueError as error:
        return report.with_problem(error).done(known_format=False)
    # SQLite and numpy leave Python's lock alone: the tables are checked while the index is.
    with closing(connection), ThreadPoolExecutor(1, thread_name_prefix="tables") as pool:
        checking = pool.submit(_check_whole_file, folder)
        known = is_known(connection)
        try:
            if known:
                collections = read_collections(connection)
                report.log_only = [(c.metadata_seq, c.vector_seq) for c in collections] == [(0, None)]
                for one in [choose(collections, collection)] if collection is not None else collections:
                    _check_collection(connection, folder, one, report, to_be_read and report.log_only)
            else:
                report.ours = are_ours(connection)
                if damage := check_migrations(connection):
                    report.with_problem(damage)
        except UnknownFormatError:
            known = False
        except (ValueError, sqlite3.Error, OverflowError) as error:
            report.with_problem(error)
        if known and not report.problems:
            meanwhile(report.done(known_format=True))
        of_file, of_tables = checking.result()
    # What is read from a damaged file says little of its own.
    report.problems = of_file or [*of_tables, *report.problems]
    return report.done(known_format=known)


def _check_whole_file(folder: Path) -> tuple[list[str], list[str]]:
    """What is wrong with the SQLite file, and with its tables; by a connection of its own."""
    connection = connect(folder)
    try:
        of_file = list(check_file(connection))
        return of_file, list(check_tables(connection)) if is_known(connection) and not of_file else []
    except (ValueError, sqlite3.Error, OverflowError) as error:
        return [], [str(error)]
    finally:
        connection.close()


def check_sqlite(folder: Path) -> list[str]:
    """SQLite's own check of the folder's `chroma.sqlite3`, and the tables without which it is no ChromaDB database."""
    try:
        connection = connect(folder)
    except ValueError as error:
        return [str(error)]
    try:
        return list(check_file(connection))
    finally:
        connection.close()


class _Report:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.ours = True
        self.log_only = False
        self.records: dict[str, int] = {}
        self.unindexed: dict[str, int] = {}
        self.deleted: dict[str, int] = {}
        self.unreachable: dict[str, int] = {}
        self.ids: dict[str, list[str]] = {}
        self.indexes: dict[str, IndexMetadata | None] = {}

    def with_problem(self, problem: object) -> _Report:
        self.problems.append(str(problem))
        return self

    def done(self, *, known_format: bool) -> Structure:
        return Structure(
            problems=tuple(self.problems),
            log_only=known_format and self.log_only and any(self.records.values()),
            known_format=known_format,
            refusal_is_damage=known_format or self.ours,
            records=self.records,
            unindexed=self.unindexed,
            deleted=self.deleted,
            unreachable=self.unreachable,
            ids=self.ids,
            indexes=self.indexes,
        )


def _check_collection(
    connection: sqlite3.Connection, folder: Path, collection: Collection, report: _Report, rows_to_be_read: bool
) -> None:
    name = collection.name
    try:
        report.indexes[name] = index = index_of(folder, collection)
        if rows_to_be_read and index is None and (count := count_plain(connection, collection)):
            report.records[name] = report.unindexed[name] = count
            return
        up_to = indexed_up_to(collection, index)
        if index is not None:
            files = open_hnsw(folder / collection.vector_segment, collection.dimension or 0)
            report.deleted[name] = int((files.deleted == 1).sum())
            upper = files.upper_links()
            problems = list(check_index(files, upper, index, collection))
            if not problems:
                reach = reach_of(files, upper)
                report.unreachable[name] = reach.unreached
                problems.extend(reach.problems(collection.space, collection.max_neighbors))
            report.problems.extend(f"collection {name!r}: {problem}" for problem in problems)
        places = locate_vectors(connection, collection, index)
    except ValueError as error:
        report.with_problem(f"collection {name!r}: {error}")
        return
    report.problems.extend(check_records(connection, collection, up_to))
    report.unindexed[name] = len(places.log_rows)
    try:
        report.ids[name] = ids = ids_of(connection, collection)
    except ValueError as error:
        report.with_problem(f"collection {name!r}: {error}")
        return
    report.records[name] = len(ids)
    report.problems.extend(check_log(connection, collection))
    lost = sum(record_id not in places.labels and record_id not in places.log_rows for record_id in ids)
    if lost:
        report.with_problem(f"collection {name!r}: {lost} records of SQLite are neither in the index nor in the log")
    if len(places) > len(ids) - lost:
        extra = len(places) - len(ids) + lost
        report.with_problem(f"collection {name!r}: {extra} records of the index are not in SQLite")
