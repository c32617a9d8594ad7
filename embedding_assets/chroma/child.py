"""Merging and examining in a child process with a time limit, and what a failure of the child means."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedding_assets.chroma.fingerprint import known_format
from embedding_assets.chroma.read import read_ids
from embedding_assets.chroma.reports import Examination, MergeReport
from embedding_assets.chroma.spec import DatabaseSpec, Source
from embedding_assets.chroma.workers import TaskFailedError, run_task
from embedding_assets.errors import CorruptedError, EmbeddingAssetsError, UnreadableError

# Two minutes to start and 100 records a second are far below what was measured on two slow cores (500 at 1,536
# dimensions), so that only a child that hangs meets the limit.
_START_SECONDS = 120.0
_RECORDS_PER_SECOND = 100.0
_DAMAGE_SIGNALS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}
_NOT_THE_DATABASE = ("No space left", "MemoryError", "Too many open files", "disk I/O error", "unable to open database")


class MergeFailedError(EmbeddingAssetsError):
    """A merge did not come to its end; what it was writing is to be thrown away."""

    recoverable = True


def merge_in_child(folder: Path, spec: DatabaseSpec, sources: Sequence[Source], *, records: int) -> MergeReport:
    """`merge.merge` in a child process.

    Args:
        folder: the database to make, or the caller's own copy of the base.
        spec: what it holds.
        sources: what is merged into it.
        records: about how many records are involved; sets the time limit.

    Raises:
        MergeFailedError: the child failed, crashed or ran into its limit.
    """
    try:
        return MergeReport(**run_task("merge", _arguments(folder, spec, sources), _limit(records)))
    except TaskFailedError as error:
        raise MergeFailedError(str(folder), error.reason, "It is tried again from the start.") from None


def examine_in_child(
    folder: Path, spec: DatabaseSpec, sources: Sequence[Source] = (), *, records: int, subject: str
) -> Examination:
    """`examine.examine` in a child process.

    Args:
        folder: the database; a copy of the caller's own, because opening it may change files.
        spec: what it should hold.
        sources: what it was made from, if that is to be proved.
        records: about how many records it holds; sets the time limit.
        subject: what errors call it.

    Raises:
        CorruptedError: chromadb cannot open or read it, or the interpreter died of it.
        UnreadableError: the child ran into its time limit, or was killed from outside, or the disk is full.
    """
    try:
        return Examination(**run_task("examine", _arguments(folder, spec, sources), _limit(records)))
    except TaskFailedError as error:
        refused = error.answered and not any(sign in error.reason for sign in _NOT_THE_DATABASE)
        if refused or error.signal in _DAMAGE_SIGNALS:
            raise CorruptedError(subject, error.reason, "It is set aside and made anew from its sources.") from None
        raise UnreadableError(subject, error.reason, "It is examined again by the next run.") from None


def ids_of_database(folder: Path, collection: str) -> list[str]:
    """The ids of all records of a database, read directly where its format is known, else in a child process.

    Raises:
        CorruptedError: its files contradict one another, or chromadb cannot read it.
    """
    if known_format(folder):
        return read_ids(folder, collection)
    try:
        spec = DatabaseSpec(collection, 0, "")
        return list(run_task("ids", _arguments(folder, spec, ()), _limit(1_000_000))["ids"])
    except TaskFailedError as error:
        raise CorruptedError(str(folder), error.reason, "It is set aside and made anew from its sources.") from None


def _limit(records: int) -> float:
    return _START_SECONDS + records / _RECORDS_PER_SECOND


def _arguments(folder: Path, spec: DatabaseSpec, sources: Sequence[Source]) -> dict[str, Any]:
    return {"folder": str(folder), "spec": spec.to_json(), "sources": [source.to_json() for source in sources]}
