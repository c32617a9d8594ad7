"""Commands that change the store: first what they would do, then nothing without a yes, then what they said."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from embedding_assets.store import layout
from embedding_assets.vectorstore.commit import head
from embedding_assets_tests.cells import contents
from embedding_assets_tests.cli.offices import Office, Terminal, assert_sound, damage, in_quarantine

pytestmark = pytest.mark.service

Words = Sequence[str]
# Each has something to do in the ruin.
COMMANDS: dict[str, Callable[[Office], Words]] = {
    "snapshots delete": lambda office: ("snapshots", "delete"),
    "snapshots delete --timestamped": lambda office: ("snapshots", "delete", "--timestamped"),
    "snapshots rollback": lambda office: ("snapshots", "rollback", office.versions()[1]),
    "snapshots rebuild": lambda office: ("snapshots", "rebuild"),
    "deltas delete": lambda office: ("deltas", "delete", office.deltas()[0].id),
    "deltas clean": lambda office: ("deltas", "clean", "--level", "quick"),
    "quarantine restore": lambda office: ("quarantine", "restore", *in_quarantine(office)[0].split(), "--force"),
    "quarantine purge": lambda office: ("quarantine", "purge"),
    "repair": lambda office: ("repair",),
    "prune": lambda office: ("prune", "--keep", "1", "--grace-hours", "0"),
}


def test_a_dry_run_says_what_would_be_done_and_nothing_is_done_without_a_yes(run_in_ruin: Terminal) -> None:
    run, office = run_in_ruin, run_in_ruin.office
    before = contents(office.store)
    for words in ([*make(office), "--collection", office.name] for make in COMMANDS.values()):
        planned = run(*words, "--dry-run", "--json")
        assert planned.code == 0, (words, planned)
        assert planned.rows, words
        assert all(row["action"] for row in planned.rows)
        shown = run(*words, "--dry-run")
        assert (shown.code, "Dry run: nothing was done." in shown.out) == (0, True)
        assert str(planned.rows[0]["name"]) in shown.out
        unconfirmed = run(*words)
        assert (unconfirmed.code, "--yes" in unconfirmed.err) == (2, True)
        assert str(planned.rows[0]["name"]) in unconfirmed.out
        assert run(*words, "--json").code == 2
        assert run(*words, "--yes", "--dry-run").code == 0  # the careful option wins
        assert contents(office.store) == before, words


@pytest.mark.parametrize("command", COMMANDS)
def test_with_a_yes_it_is_done_and_nothing_is_lost(run_in_ruin: Terminal, command: str) -> None:
    run, office = run_in_ruin, run_in_ruin.office
    before = contents(office.store)
    words = [*COMMANDS[command](office), "--collection", office.name]
    planned = run(*words, "--dry-run", "--json").rows
    done = run(*words, "--yes", "--json")
    assert done.code == 0, done
    assert [one["collection"] for one in done.json] == [office.name]
    assert contents(office.store) != before
    if not command.endswith(("rebuild", "repair", "clean")):
        assert [row["name"] for row in done.rows] == [row["name"] for row in planned]
    office.run_everything()
    assert_sound(office)
    assert run("check").code == 0


def test_where_there_is_nothing_to_do_json_is_still_json(run: Terminal) -> None:
    before = contents(run.office.store)
    for words in (("repair",), ("prune",), ("quarantine", "purge"), ("deltas", "clean", "--level", "quick")):
        for more in ((), ("--yes",), ("--dry-run",)):
            said = run(*words, *more, "--json")
            assert (said.code, said.rows) == (0, [])
        assert "Nothing is to be done." in run(*words).out
    assert contents(run.office.store) == before


def test_deleted_snapshots_leave_all_deltas_and_are_rebuilt_from_them(run: Terminal) -> None:
    office = run.office
    deltas = contents_of(office, "delta")
    generation = len(office.versions())
    assert run("snapshots", "delete", "--timestamped", "--collection", "both", "--yes").code == 0
    assert contents_of(office, "delta") == deltas
    for cell in (office.lines, office.words):
        assert head(office.store, cell.spec.name) is None
        assert not list(office.store.walk(layout.snapshots(cell.spec.name)))
        assert not office.store.exists(layout.pointer(cell.spec.name))
    done = office.lines.compact()
    assert done.manifest is not None
    assert (done.base, len(done.deltas), done.manifest.generation) == (None, 2, generation + 2)
    assert contents_of(office, "delta") == deltas
    assert_sound(office)


def test_a_deleted_delta_is_named_and_a_rebuild_loses_nothing(run: Terminal) -> None:
    office = run.office
    lost, _ = office.deltas()
    gone = [lost.folder, *(layout.results(office.name, office.lines.day, one.batch_id) for one in lost.batches)]
    office.store.delete([item.key for folder in gone for item in office.store.walk(folder)])
    checked = run("check", "--json")
    assert checked.code == 4
    assert [row["name"] for row in checked.rows if row.get("kind") == "gone delta"] == [lost.id]
    words = ("snapshots", "rebuild", "--collection", office.name)
    planned = run(*words, "--dry-run")
    assert (planned.code, lost.id in planned.out, "20 records in the current snapshot" in planned.out) == (
        0,
        True,
        True,
    )
    assert run(*words, "--yes").code == 0
    assert office.lines.proof().manifest.count == 25
    assert len(office.deltas()) == 2


def contents_of(office: Office, part: str) -> list[tuple[str, int, str]]:
    return [entry for entry in contents(office.store) if f"/{part}/" in entry[0]]


def test_clean_goes_by_the_time_of_the_store_and_removes_only_what_is_corrupted(run: Terminal) -> None:
    office = run.office
    good, bad = office.deltas()
    damage(office, bad)
    before = contents(office.store)
    made = min(item.modified for item in office.store.walk(good.folder))
    clean = ("deltas", "clean", "--level", "quick", "--yes", "--collection", office.name, "--created-before")
    assert run(*clean, (made - timedelta(minutes=1)).isoformat()).code == 0
    assert contents(office.store) == before
    # Without a zone it is UTC, whatever this machine's is.
    later = (layout.now() + timedelta(minutes=1)).replace(tzinfo=None).isoformat()
    assert run(*clean, later).code == 0
    assert [delta.id for delta in office.deltas()] == [good.id]
    office.run_everything()
    assert_sound(office)


def test_a_deleted_delta_is_built_anew_from_its_batches_by_the_next_run(run: Terminal) -> None:
    office = run.office
    old, other = office.deltas()
    said = run("deltas", "delete", old.id, "nonsense", "--collection", office.name, "--yes")
    assert (said.code, "nonsense: is not in" in said.err, len(office.deltas())) == (1, True, 2)
    assert run("deltas", "delete", old.id, "--yes").code == 0
    assert [delta.id for delta in office.deltas()] == [other.id]
    (due,) = office.lines.to_run()
    assert (due.day, due.ask) == (office.lines.day, False)
    paid = office.lines.batch_ids()
    office.lines.submit()
    office.lines.land()
    (new,) = office.lines.build().built
    assert {entry.batch_id for entry in new.batches} == {entry.batch_id for entry in old.batches}
    assert office.lines.batch_ids() == paid
    assert new.id != old.id
    assert office.lines.to_run() == []
    office.lines.compact()
    assert_sound(office)


def test_what_is_corrupted_leaves_the_quarantine_by_force_only(run_in_ruin: Terminal) -> None:
    run, office = run_in_ruin, run_in_ruin.office
    before = contents(office.store)
    restore = ("quarantine", "restore", *in_quarantine(office)[0].split(), "--collection", office.name, "--yes")
    said = run(*restore)
    assert (said.code, "--force" in said.err) == (1, True)
    assert contents(office.store) == before


def test_purge_by_time_leaves_what_is_newer(run_in_ruin: Terminal) -> None:
    run, office = run_in_ruin, run_in_ruin.office
    entries = in_quarantine(office)
    assert run("quarantine", "purge", "--found-before", "2020-01-01", "--yes").code == 0
    assert in_quarantine(office) == entries
    assert run("quarantine", "purge", entries[0].split()[1], "--yes").code == 0
    assert in_quarantine(office) == []


def test_repair_heals_a_damaged_delta_and_snapshot(run: Terminal) -> None:
    office = run.office
    delta, _ = office.deltas()
    damage(office, delta)
    version = office.versions()[0]
    key = f"{layout.snapshots(office.name, version)}/chroma.sqlite3"
    office.store.replace(key, office.store.get(key)[:5000])
    assert run("check").code == 3
    done = run("repair", "--collection", office.name, "--yes", "--json")
    assert done.code == 0
    assert {row["name"] for row in done.rows if row["action"] == "quarantined"} == {delta.id, version}
    assert set(in_quarantine(office)) == {f"delta {delta.id}", f"snapshot {version}"}
    assert run("check").code == 0
    assert [cell.day for cell in office.lines.to_run()] == [office.lines.day]
    office.run_everything()
    assert_sound(office)


def test_prune_removes_what_killed_processes_left_on_this_machine(run: Terminal) -> None:
    home = Path(tempfile.gettempdir())
    code = "import os, embedding_assets.scratch as s; f = s.ScratchFolder('x'); (f.path / 'y').write_bytes(b'123'); "
    subprocess.run(
        [sys.executable, "-c", f"{code} os.kill(os.getpid(), 9)"], env={**os.environ, "TMPDIR": str(home)}, check=False
    )
    (left,) = (path for path in home.iterdir() if path.is_dir())
    planned = run("prune", "--dry-run", "--json")
    assert [(row["name"], row["bytes"]) for row in planned.rows] == [(str(left), 3)]
    assert left.is_dir()
    assert "this machine" in run("prune", "--dry-run").out
    assert run("prune", "--yes").code == 0
    assert not left.exists()
    assert "Nothing is to be done." in run("prune").out
