"""Scratch folders: a living process keeps its own; those of killed ones go with the next start, or by `prune`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedding_assets.pipeline.this_machine import prune_scratch
from embedding_assets.scratch import ScratchFolder, dead_folders, remove_dead
from embedding_assets.store.objects import open_store
from embedding_assets_tests.making import numbered
from embedding_assets_tests.vectorstore.worlds import assert_whole, deliver

HOLDS = """
import os, sys
from pathlib import Path
from embedding_assets.scratch import ScratchFolder
with ScratchFolder("held", Path(sys.argv[1])) as folder:
    (folder / "below").mkdir()
    (folder / "below" / "file").write_bytes(bytes(1000))
    with ScratchFolder("inner", folder) as inner:
        (inner / "file").write_bytes(bytes(200))
        print(folder, flush=True)
        sys.stdin.read()
"""
COMPACTS = """
import sys, tempfile
from pathlib import Path
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.compact import compact
from embedding_assets_tests.making import SPEC

class StopsAtUpload(ObjectStore):
    def upload(self, key, path):
        sys.stdout.write("uploading\\n")
        sys.stdout.flush()
        sys.stdin.read()

store = open_store(sys.argv[1])
if sys.argv[2] == "stop":
    store = StopsAtUpload(store._backend, store.url)
compact(store, SPEC, run_id="test", scratch=Path(tempfile.gettempdir()))
"""


@contextmanager
def running(code: str, *words: str, temporary: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of its own, which has printed its first line and waits; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **({"TMPDIR": str(temporary)} if temporary else {})},
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_compaction_left_goes_with_the_next_start(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    deliver(store, tmp_path, "batch-a", numbered(0, 5))
    (temporary := tmp_path / "temporary").mkdir()
    with running(COMPACTS, store.url, "stop", temporary=temporary) as (process, said):
        assert said.startswith("uploading")
        kill(process)
        assert names(temporary) != []
    with running(COMPACTS, store.url, "go on", temporary=temporary) as (process, _):
        process.communicate()
        assert process.returncode == 0
    assert names(temporary) == []
    assert assert_whole(store).count == 5


def test_a_killed_process_is_told_from_a_living_one(tmp_path: Path) -> None:
    with running(HOLDS, str(tmp_path)) as (_, living), running(HOLDS, str(tmp_path)) as (process, killed):
        assert dead_folders(tmp_path) == []
        kill(process)
        (dead,) = dead_folders(tmp_path)
        assert (str(dead.path), dead.size) == (killed, 1200)
        assert remove_dead(tmp_path) == [dead]
        assert names(tmp_path) == [Path(living).name, f"{Path(living).name}.lock"]
        assert names(Path(living)) != []


def test_the_next_start_removes_what_is_dead_and_prune_says_how_many_bytes(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "store" / "lines" / ".open"
    place.mkdir(parents=True)
    for _ in range(2):
        with running(HOLDS, str(place)):
            pass
    planned = prune_scratch(tmp_path / "cache")
    # The second start has removed what the first one left.
    assert [(row["kind"], row["bytes"]) for row in planned.rows] == [("scratch folder", 1200)]
    assert names(place) != []
    assert planned.execute().summary == "1 removed, 1200 bytes"
    assert names(place) == []
    assert prune_scratch(tmp_path / "cache").nothing


def test_folders_of_other_hosts_and_of_other_programs_stay(tmp_path: Path) -> None:
    others = (
        "embedding-assets-held.elsewhere.17.0123abcd",
        "embedding-assets-held",
        "embedding-assets-held.elsewhere.17",
        "tmp0123",
    )
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.lock").touch()
    with ScratchFolder("held", tmp_path):
        pass
    assert names(tmp_path) == sorted([*others, *(f"{name}.lock" for name in others)])


def test_what_is_reached_through_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / "place").mkdir()
    with running(HOLDS, str(tmp_path / "place")) as (_, killed):
        pass
    Path(killed).rename(tmp_path / "moved")
    Path(killed).symlink_to(tmp_path / "elsewhere")
    remove_dead(tmp_path / "place")
    assert names(tmp_path / "elsewhere") == ["file"]


def test_a_fork_that_ends_leaves_the_folder_of_its_parent(tmp_path: Path) -> None:
    folder = ScratchFolder("held", tmp_path)
    child = os.fork()
    if child == 0:
        folder.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.is_dir()
    folder.remove()
    assert names(tmp_path) == []


def test_a_folder_goes_with_its_owner_unless_it_is_kept(tmp_path: Path) -> None:
    ScratchFolder("forgotten", tmp_path)
    assert names(tmp_path) == []
    kept = ScratchFolder("kept", tmp_path)
    kept.keep()
    path = kept.path
    del kept
    assert names(tmp_path) == [path.name]
    assert remove_dead(tmp_path) == []


@pytest.mark.parametrize("makers", [16])
def test_who_sweeps_while_others_begin_takes_nothing_from_them(tmp_path: Path, makers: int) -> None:
    def make(_: int) -> bool:
        removed = remove_dead(tmp_path)
        with ScratchFolder("held", tmp_path) as folder:
            return removed == [] and folder.is_dir() and remove_dead(tmp_path) == [] and folder.is_dir()

    with ThreadPoolExecutor(makers) as pool:
        assert all(pool.map(make, range(200)))
    assert names(tmp_path) == []
