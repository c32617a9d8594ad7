"""Merging and examining in a child process with a time limit, and what a failure of the child means."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedding_assets.chroma.fingerprint import known_format
from embedding_assets.chroma.read import read_ids
from embedding_assets.chroma.reports import Examination, MergeReport
from embedding_assets.chroma.sample import from_json, read_sample
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.workers import TaskFailedError, keep_ready, run_task
from embedding_assets.errors import CorruptedError, EmbeddingAssetsError, LocalDiskError, UnreadableError
from embedding_assets.local_disk import full_disk, local_trouble
from embedding_assets.records import RecordBatch
from embedding_assets.scratch import ScratchFolder

# Two minutes to start and 100 records a second are far below what was measured on two slow cores (500 at 1,536
# dimensions), so that only a child that hangs meets the limit.
_START_SECONDS = 120.0
_RECORDS_PER_SECOND = 100.0
_DAMAGE_SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}
_NOT_THE_DATABASE = (
    "unable to open database",
    "PermissionError",
    # Out of memory, as Python, Rust, C++, hnswlib, SQLite and the system say it.
    "MemoryError",
    "memory allocation of",
    "bad_alloc",
    "Not enough memory",
    "out of memory",
    "Cannot allocate memory",
    "failed to spawn thread",
    "can't start new thread",
    "Resource temporarily unavailable",
)
_REMEDY = "`embedding-assets check --level full` names what is damaged; `embedding-assets repair` makes it again."
_MUCH_ROOM = 1 << 30  # where so much is free, a task did not fail for want of room
# What a task may use beyond the size of its database: chromadb's threads, and a page of vectors as Python numbers.
_MEMORY_FLOOR = 1 << 30
_MEMORY_PER_FILE_BYTE = 4
_MEMORY_PER_DIMENSION = 500_000


class MergeFailedError(EmbeddingAssetsError):
    """A merge did not come to its end; what it was writing is to be thrown away.

    `refused` says that what was to be written is at fault, not the machine: time, memory, the disk.
    """

    recoverable = True
    refused = False


def warm_up() -> None:
    """Have a child process at hand by the time that it is needed: it takes two seconds to start."""
    keep_ready()


def merge_in_child(
    folder: Path, spec: DatabaseSpec, sources: Sequence[Source], *, records: int, hindrance: str = ""
) -> MergeReport:
    """`merge.merge` in a child process.

    Args:
        folder: the database to make, or the caller's own copy of the base.
        spec: what it holds.
        sources: what is merged into it.
        records: about how many records are involved; sets the time limit.
        hindrance: why it must not be done directly; empty if it may.

    Raises:
        MergeFailedError: the child failed, crashed or ran into its limit.
        LocalDiskError: the disk is full, or this machine refuses something else.
    """
    return _made("merge", {**_arguments(folder, spec, sources), "hindrance": hindrance}, records)


def write_in_child(folder: Path, spec: DatabaseSpec, sources: Sequence[Source], *, records: int) -> MergeReport:
    """`write.write` in a child process; arguments and errors as those of `merge_in_child`."""
    return _made("write", _arguments(folder, spec, sources), records)


def _made(task: str, arguments: dict[str, Any], records: int) -> MergeReport:
    try:
        return MergeReport(**run_task(task, arguments, _limit(records)))
    except TaskFailedError as error:
        if trouble := _trouble_here(error, Path(arguments["folder"])):
            raise trouble from None
        failed = MergeFailedError(arguments["folder"], error.reason, "It is tried again from the start.")
        failed.refused = _refused(error)
        raise failed from None


def examine_in_child(
    folder: Path,
    spec: DatabaseSpec,
    sources: Sequence[Source] = (),
    *,
    records: int,
    subject: str,
    memory: int | None = None,
    to_be_written: bool = False,
) -> Examination:
    """`examine.examine` in a child process.

    Args:
        folder: the database; a copy of the caller's own, because opening it may change files.
        spec: what it should hold.
        sources: what it was made from, if that is to be proved.
        records: about how many records it holds; sets the time limit.
        subject: what errors call it.
        memory: so many bytes may the child use; as `memory_limit` says unless given.
        to_be_written: whether chromadb has to be able to write to it, too.

    Raises:
        CorruptedError: chromadb cannot open or read it, or the interpreter died of it, and a new one it can.
        UnreadableError: the child ran into its limit of time or memory, or was killed from outside.
        LocalDiskError: the disk is full, or this machine refuses something else.
    """
    try:
        arguments = {**_arguments(folder, spec, sources), "to_be_written": to_be_written}
        task = run_task("examine", arguments, _limit(records), memory or memory_limit(folder, spec))
    except TaskFailedError as error:
        raise _meaning(error, subject, folder) from None
    report = Examination(**task)
    _require_no_trouble(report.problems, subject, folder)
    return report


def check_sqlite_in_child(folder: Path, *, records: int, subject: str) -> list[str]:
    """What SQLite itself finds wrong with a database's `chroma.sqlite3`, and the tables that it lacks.

    Raises:
        CorruptedError: the interpreter died of it.
        UnreadableError: it could not be checked just now.
    """
    spec = DatabaseSpec("", 0, "")
    try:
        task = run_task("check_file", _arguments(folder, spec, ()), _limit(records), memory_limit(folder, spec))
    except TaskFailedError as error:
        raise _meaning(error, subject, folder) from None
    problems = [str(problem) for problem in task["problems"]]
    _require_no_trouble(problems, subject, folder)
    return problems


def chromadb_works() -> bool:
    """Whether chromadb works here with a new database; if not, no failure of it says anything of another one."""
    with ScratchFolder("control") as scratch:
        folder = scratch / "control"
        try:
            return bool(run_task("control", _arguments(folder, DatabaseSpec("", 0, ""), ()), _START_SECONDS)["works"])
        except (TaskFailedError, LocalDiskError):
            return False


def memory_limit(folder: Path, spec: DatabaseSpec) -> int:
    """How much memory, in bytes, a task with this database may use; several times what a sound one was seen to."""
    return _MEMORY_FLOOR + _MEMORY_PER_FILE_BYTE * _size(folder) + _MEMORY_PER_DIMENSION * max(spec.dimension, 1024)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _require_no_trouble(problems: list[str], subject: str, folder: Path) -> None:
    for problem in problems:
        if here := local_trouble(problem, folder):
            raise here
    trouble = [problem for problem in problems if any(sign in problem for sign in _NOT_THE_DATABASE)]
    if trouble:
        raise UnreadableError(subject, trouble[0], "It is examined again by the next run.")


def _trouble_here(error: TaskFailedError, folder: Path) -> LocalDiskError | None:
    """What this machine refused to a task. Its own words may be lost with the disk, and a file that is mapped into
    memory on a full disk kills who writes to it: then there is less room than the database itself takes.
    """
    if found := local_trouble(error.reason, folder) or local_trouble(error.log, folder):
        return found
    return None if error.answered else full_disk(folder, min(_size(folder), _MUCH_ROOM))


def _meaning(error: TaskFailedError, subject: str, folder: Path) -> CorruptedError | UnreadableError | LocalDiskError:
    """A task that failed: does it say that the database is damaged, or nothing of it?"""
    if trouble := _trouble_here(error, folder):
        return trouble
    if _refused(error) and chromadb_works():
        return CorruptedError(subject, error.reason, _REMEDY)
    return UnreadableError(subject, error.reason, "It is examined again by the next run.")


def _refused(error: TaskFailedError) -> bool:
    """Whether a task failed of what it was given, rather than of the machine."""
    told = f"{error.reason} {error.log}"
    return (error.answered or error.signal in _DAMAGE_SIGNALS) and not any(sign in told for sign in _NOT_THE_DATABASE)


def ids_of_database(folder: Path, collection: str) -> list[str]:
    """The ids of all records of a database, read directly where its format is known, else in a child process.

    Raises:
        CorruptedError: its files contradict one another, or chromadb cannot read it.
        UnreadableError, LocalDiskError: it cannot be read just now.
    """
    if known_format(folder):
        return read_ids(folder, collection)
    try:
        spec = DatabaseSpec(collection, 0, "")
        return list(run_task("ids", _arguments(folder, spec, ()), _limit(1_000_000))["ids"])
    except TaskFailedError as error:
        raise _meaning(error, str(folder), folder) from None


def sample_of_database(folder: Path, spec: DatabaseSpec, most: int, seed: int) -> tuple[int, RecordBatch]:
    """`sample.read_sample` where the format is known, else a sample of all records, read by chromadb in a child.

    Args:
        folder: the database; a copy of the caller's own, because chromadb may change files when it opens them.
        spec: what it holds.
        most: records wanted.
        seed: equal seeds give equal samples of equal databases.

    Raises:
        CorruptedError: its files contradict one another, or chromadb cannot read it.
        UnreadableError: it cannot be read just now.
    """
    if known_format(folder):
        return read_sample(folder, spec.collection, most, seed)
    try:
        arguments = {**_arguments(folder, spec, ()), "most": most, "seed": seed}
        return from_json(run_task("sample", arguments, _limit(1_000_000)))
    except TaskFailedError as error:
        raise _meaning(error, str(folder), folder) from None


def _limit(records: int) -> float:
    return _START_SECONDS + records / _RECORDS_PER_SECOND


def _arguments(folder: Path, spec: DatabaseSpec, sources: Sequence[Source]) -> dict[str, Any]:
    return {"folder": str(folder), "spec": spec.to_json(), "sources": [source.to_json() for source in sources]}
