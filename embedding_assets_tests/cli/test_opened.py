"""The folder of a store, opened by other programs, and by our own commands, which leave its files as they are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import chromadb
import pytest

from embedding_assets.store import layout
from embedding_assets_tests.cli.offices import Office, Terminal, in_quarantine

pytestmark = pytest.mark.service


def files_of(office: Office) -> dict[str, tuple[str, int]]:
    """SHA-256 and time of writing of every file of the store."""
    root = Path(urlsplit(office.store.url).path)
    return {
        path.relative_to(root).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def open_current(office: Office) -> str:
    """Open the current snapshot as any program does; its version."""
    version = office.versions()[0]
    folder = Path(urlsplit(office.store.url).path) / layout.snapshots(office.name, version)
    client = chromadb.PersistentClient(str(folder), settings=chromadb.config.Settings(anonymized_telemetry=False))
    client.get_collection(office.name, embedding_function=None).get()
    client.close()
    return version


READING = [
    "status", "check", "check --level full", "snapshots list", "snapshots verify --level full", "deltas list",
    "deltas verify --level full", "quarantine list", "alerts list", "query NAME milk", "query NAME milk --json",
    "report NAME",
    "repair --dry-run --level full", "prune --dry-run --keep 1 --grace-hours 0", "snapshots delete --dry-run",
    "snapshots rebuild --dry-run", "deltas delete DELTA --dry-run --collection NAME", "deltas clean --dry-run",
    "snapshots rollback VERSION --dry-run --collection NAME", "quarantine purge --dry-run",
]  # fmt: skip


@pytest.mark.parametrize("opened_before", [False, True])
def test_no_reading_command_writes_to_the_files_of_a_store(run: Terminal, opened_before: bool) -> None:
    if opened_before:
        open_current(run.office)
    before = files_of(run.office)
    names = {"NAME": run.office.name, "DELTA": run.office.deltas()[0].id, "VERSION": run.office.versions()[-1]}
    for command in READING:
        said = run(*(names.get(word, word) for word in command.split()))
        assert said.code == 0, (command, said)
        after = files_of(run.office)
        assert {key: after.get(key) for key in before} == before, command
        # A report is made where there is none, beside the snapshot.
        assert all("/snapshot/report/" in key for key in set(after) - set(before)), command


def test_a_snapshot_that_another_program_opened_is_said_and_put_right(run: Terminal) -> None:
    opened = open_current(run.office)
    for level in ("quick", "full"):
        said = run("check", "--level", level, "--json")
        row = next(row for row in said.rows if row["name"] == opened)
        assert (said.code, row["verdict"]) == (0, "valid")
        assert "changed by another program" in row["reason"]
    assert "(1 changed by another program)" in run("check").out
    assert "another program changed" in run("repair", "--dry-run").out
    said = run("repair", "--yes", "--json")
    assert [(row["action"]) for row in said.rows] == ["committed"]
    assert in_quarantine(run.office) == []
    assert run.office.versions()[0] != opened
    said = run("check", "--json")
    assert [row["name"] for row in said.rows if row["reason"]] == [opened]
    assert run("repair", "--yes").out.endswith("Nothing is to be done.\n")
