"""Names that a person gives: what is not there is refused by every command, with what there is, and nothing is done."""

from __future__ import annotations

from collections.abc import Callable

import chromadb
import pytest
import typer

from embedding_assets.cli.app import _register, app
from embedding_assets.pipeline.batches import sent_batches
from embedding_assets_tests.cells import contents
from embedding_assets_tests.cli.offices import Office, Terminal, damage, in_quarantine

pytestmark = pytest.mark.service

# Every command that takes a name, with the words before it; and one name that there is.
COMMANDS: dict[str, Callable[[Office], str]] = {
    "deltas verify": lambda office: office.deltas()[0].id,
    "deltas delete": lambda office: office.deltas()[0].id,
    "snapshots rollback": lambda office: office.versions()[0],
    "quarantine restore delta": lambda office: in_quarantine(office)[0].split()[1],
    "quarantine restore snapshot": lambda office: "",
    "quarantine purge": lambda office: in_quarantine(office)[0].split()[1],
    "batches poll": lambda office: sent_batches(office.store, office.name)[0],
    "batches cancel": lambda office: sent_batches(office.store, office.name)[0],
    "batches give-up": lambda office: "",
}
# Arguments that are no names of things in the store.
OTHERS = {"query collection", "query text", "report collection", "quarantine restore kind", "batches list name"}


def arguments(group: typer.Typer, start: str = "") -> set[str]:
    """Command and argument of every argument of the command line."""
    found: set[str] = set()
    command = typer.main.get_command(group)
    todo = [(start, command)]
    while todo:
        words, one = todo.pop()
        todo += [(f"{words} {name}".strip(), sub) for name, sub in getattr(one, "commands", {}).items()]
        found |= {f"{words} {param.name}" for param in one.params if param.param_type_name == "argument"}
    return found


def test_the_table_has_every_command_that_takes_a_name() -> None:
    _register()
    mine = {" ".join(words.split()[:2]) for words in COMMANDS}
    theirs = {one.rpartition(" ")[0] for one in arguments(app) - OTHERS}
    assert mine == {words for words in theirs if words.split()[0] in ("deltas", "snapshots", "quarantine", "batches")}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_not_there_is_refused_and_nothing_is_done(run_in_ruin: Terminal, command: str) -> None:
    run, office = run_in_ruin, run_in_ruin.office
    before = contents(office.store)
    there = COMMANDS[command](office)
    several = command.split()[1] in ("verify", "delete", "purge", "poll", "cancel", "give-up")
    flags = [] if command in ("deltas verify", "batches poll") else ["--yes"]
    scopes = [["--collection", office.name], *([[]] if several else [])]
    for scope in scopes:
        for names in (["nosuch"], ["../x"], *([[there, "nosuch"]] if several and there else [])):
            said = run(*command.split(), *names, *flags, *scope)
            assert (said.code, said.out) == (1, ""), said
            assert names[-1] in said.err
            assert f"is not in {office.name}" in said.err
            assert f"embedding-assets {command.split(maxsplit=1)[0]} list" in said.err
            assert (there or "There is none") in said.err
    if there:
        assert f"Did you mean {there}?" in run(*command.split(), there[:-1], *flags, "--collection", office.name).err
    assert contents(office.store) == before


def test_a_name_of_another_collection_is_not_in_this_one(run: Terminal) -> None:
    first = run.office.deltas()[0].id
    said = run("deltas", "delete", first, "--yes", "--collection", run.office.words.spec.name)
    assert (said.code, first in said.err) == (1, True)
    assert run("deltas", "verify", first).code == 0


def test_repair_names_what_it_moves_once(run: Terminal) -> None:
    current, delta = run.office.lines.proof().manifest, run.office.deltas()[0]
    assert current is not None
    damage(run.office, current)
    damage(run.office, delta)
    rows = run("repair", "--yes", "--json").rows
    moved = [row["name"] for row in rows if row["action"] == "quarantined"]
    assert sorted(moved) == sorted([current.id, delta.id])
    assert [row["name"] for row in rows if row["action"] == "gone"] == []
    assert sorted(row.split()[1] for row in in_quarantine(run.office)) == sorted(moved)


def legacy_of_two(run: Terminal) -> str:
    """A folder of an older system with two collections, in the store."""
    prefix = f"{run.office.name}/delta/older/folder"
    place = run.office.lines.folder / "older"
    client = chromadb.PersistentClient(str(place), settings=chromadb.config.Settings(anonymized_telemetry=False))
    for name in ("receipts", "invoices"):
        client.create_collection(name, embedding_function=None).add(ids=["a"], embeddings=[[0.5] * 256])
    client.close()
    for path in (path for path in place.rglob("*") if path.is_file()):
        run.office.store.upload(f"{prefix}/{path.relative_to(place).as_posix()}", path)
    return prefix


def test_repair_says_as_clearly_as_check_that_a_folder_of_two_collections_was_left(run: Terminal) -> None:
    prefix = legacy_of_two(run)
    before = contents(run.office.store)
    said = run("check")
    words = ("holds 2 collections (", "delete_collection(name)", "embedding-assets repair", prefix)
    assert (said.code, [word for word in words if word not in said.out]) == (4, [])
    for flags in (("--dry-run",), ("--yes",), ("--yes", "--json"), ("--yes",)):
        said = run("repair", *flags)
        out = said.out.replace("\\n", "\n")
        assert (said.code, [word for word in words if word not in out]) == (4, []), flags
    assert contents(run.office.store) == before
