"""Disks that are full, read-only or out of names under each step: an error that says where, what and what to do.

Nothing is called damaged, nothing is moved aside, and the same step with room again does its work.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.errors import EmbeddingAssetsError, LocalDiskError, StoreError
from embedding_assets.local_disk import local_trouble
from embedding_assets.pipeline import operations, this_machine, upkeep
from embedding_assets.pipeline.cells import build_cell_deltas, land_cell, submit_cell
from embedding_assets.pipeline.reports import current_report
from embedding_assets.reading import Collection
from embedding_assets.scratch import ScratchFolder
from embedding_assets.settings import Settings
from embedding_assets.store.objects import open_store
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.cells import Cell
from embedding_assets_tests.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.service

Step = Callable[[Cell, Path, Path], Any]


def opened(cell: Cell, scratch: Path, cache: Path) -> int:
    with Collection(cell.store, cell.spec, Settings("test", cell.store.url, Path("unused"), cache)) as lines:
        return len(lines.get())


def repaired(cell: Cell, scratch: Path, cache: Path) -> list[Any]:
    planned = operations.repair(cell.store, cell.spec, level="quick", run_id="test", scratch=scratch)
    done = planned.execute()
    return [row for row in done.rows if row.get("verdict") == "corrupted"]


# What each step needs to be there, and what it does.
STEPS: dict[str, tuple[str, Step]] = {
    "submit": ("written", lambda c, tmp, cache: submit_cell(c.api, c.store, c.spec, c.day)),
    "land": ("asked", lambda c, tmp, cache: land_cell(c.api, c.store, c.spec, c.day)),
    "delta": ("landed", lambda c, tmp, cache: build_cell_deltas(c.store, c.spec, c.day, run_id="test", scratch=tmp)),
    "compact": ("built", lambda c, tmp, cache: compact(c.store, c.spec, run_id="test", scratch=tmp)),
    "open a reader": ("whole", opened),
    "check": ("whole", lambda c, tmp, cache: upkeep.check_collection(c.store, c.spec, "quick", tmp)),
    "repair": ("whole", repaired),
    "prune": ("whole", lambda c, tmp, cache: operations.prune(c.store, c.spec, keep=1, grace=timedelta(0)).execute()),
    "prune here": ("whole", lambda c, tmp, cache: this_machine.prune_scratch(cache).execute()),
    "report": ("whole", lambda c, tmp, cache: current_report(c.store, c.spec, tmp, cache_folder=cache)),
}
# What needs which disk. Everything else goes on without it, or says of a database that it could not be judged.
NEEDS = {
    "scratch": {"submit", "land", "delta", "compact", "report"},
    "cache": {"open a reader"},
    "store": {"submit", "land", "delta", "compact", "report"},
}
TROUBLES: dict[str, tuple[Callable[[SmallDisk], None], str]] = {
    "full": (lambda disk: disk.fill(), "its disk is full (0 bytes are free)"),
    "out of names": (lambda disk: disk.use_up_names(), "its disk has no room for another file"),
    "read-only": (lambda disk: disk.read_only(), "its file system is read-only"),
    "nearly full": (lambda disk: disk.fill(8 * 1024), "its disk is full"),
}


@pytest.fixture(scope="module")
def stages(waiting: Cell, finished: Cell, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    """A cell before each step; not to be changed."""
    built = waiting.copy(tmp_path_factory.mktemp("built"))
    built.build()
    written = Cell.make(waiting.sandbox, tmp_path_factory.mktemp("written"))
    written.write({f"line-{n}": f"text {n} " * 40 for n in range(200)})
    asked = Cell.make(waiting.sandbox, tmp_path_factory.mktemp("asked"))
    asked.write({f"line-{n}": f"text {n} " * 40 for n in range(200)})
    asked.submit()
    asked.wait()
    return {"written": written, "asked": asked, "landed": waiting, "built": built, "whole": finished}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("place", NEEDS)
def test_a_disk_without_room_says_so_and_nothing_is_lost(
    stages: dict[str, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, step: str
) -> None:
    before, do = STEPS[step]
    stage = stages[before]
    needed = step in NEEDS[place]
    with small_disk(tmp_path / "disk") as disk:
        places = {one: (disk.path if one == place else tmp_path) / one for one in ("scratch", "cache", "store")}
        for path in places.values():
            path.mkdir()
        shutil.copytree(stage.folder / "store", places["store"], dirs_exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(places["scratch"]))
        cell = replace(stage, store=open_store(f"file://{places['store']}"))
        for trouble, (arrange, words) in TROUBLES.items() if needed else [("full", TROUBLES["full"])]:
            arrange(disk)
            if needed:
                refused: type[EmbeddingAssetsError] = StoreError if place == "store" else LocalDiskError
                with pytest.raises(refused) as caught:
                    do(cell, places["scratch"], places["cache"])
                assert str(disk.path) in caught.value.subject
                assert words in caught.value.reason, trouble
                assert "on another disk" in caught.value.remedy or "on a disk with room" in caught.value.remedy
                del caught  # its frames hold files open, with which no disk becomes read-only
                gc.collect()
            else:
                said = do(cell, places["scratch"], places["cache"])
                rows = said.rows if step == "check" else ()
                for row in rows:
                    assert row.get("verdict") in ("valid", "unknown", None), row
                    if row.get("verdict") == "unknown":
                        assert f"folder {disk.path}" in str(row["reason"])
                        assert words in str(row["reason"])
            assert list_quarantine(cell.store, cell.spec.name) == []
            disk.relieve()
        do(cell, places["scratch"], places["cache"])
        assert list(places["scratch"].iterdir()) == []
        assert list_quarantine(cell.store, cell.spec.name) == []
        if before in ("built", "whole"):
            assert opened(cell, places["scratch"], places["cache"]) == 20
        else:
            assert cell.books().balanced


def test_the_kinds_of_refusal_are_told_apart(tmp_path: Path) -> None:
    for error, words in {
        OSError(errno.ENOSPC, "No space left on device"): "its disk is full",
        OSError(errno.EDQUOT, "Disk quota exceeded"): "quota",
        OSError(errno.EROFS, "Read-only file system"): "read-only",
        OSError(errno.EFBIG, "File too large"): "larger than it may be",
        OSError(errno.EMFILE, "Too many open files"): "this process has too many open files",
        OSError(errno.ENFILE, "Too many open files in system"): "on this machine",
        OSError("[Errno 28] Error writing bytes to file"): "its disk is full",  # as Arrow says it
        sqlite3.OperationalError("database or disk is full"): "its disk is full",
        "InternalError: error returned from database: (code: 13) database or disk is full": "its disk is full",
        "Unable to copy data to file: Disk quota exceeded (os error 122)": "quota",
    }.items():
        found = local_trouble(error, tmp_path)
        assert found is not None, error
        assert words in found.reason
        assert (str(tmp_path) in found.subject, found.remedy != "") == (True, True)
    for other in (FileNotFoundError(errno.ENOENT, "No such file"), ValueError("disk is full"), "bad magic number"):
        assert local_trouble(other, tmp_path) is None


def test_what_is_refused_within_a_scratch_folder_leaves_it_as_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(LocalDiskError, match="quota") as caught, ScratchFolder("held", tmp_path) as folder:
        raise OSError(errno.EDQUOT, "Disk quota exceeded", str(folder / "file"))
    assert str(folder) in caught.value.subject
    assert list(tmp_path.iterdir()) == []


def test_too_many_open_files_are_no_damage(stages: dict[str, Cell], tmp_path: Path) -> None:
    cell = stages["whole"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        rows = upkeep.check_collection(cell.store, cell.spec, "quick", tmp_path).rows
    except EmbeddingAssetsError as error:
        rows = ({"verdict": "unknown", "reason": str(error)},)
    finally:
        for one in held:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert rows
    assert all("too many open files" in str(row["reason"]) for row in rows if row.get("verdict") != "valid")
    assert list_quarantine(cell.store, cell.spec.name) == []
