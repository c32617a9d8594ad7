"""Commands that look: status, query, list, verify, check; their output, and their exit codes."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from embedding_assets.batches.discover import Found, mark_folder
from embedding_assets.batches.identity import identity_of
from embedding_assets.catalog import load_catalog
from embedding_assets.store import layout
from embedding_assets.store.sealed import encode
from embedding_assets.vectorstore import verify
from embedding_assets_tests.cells import contents
from embedding_assets_tests.cli.offices import RECORDS, Terminal

pytestmark = pytest.mark.service


def test_status_says_where_every_collection_stands(run: Terminal) -> None:
    lines, words = run("status", "--json").json
    assert (lines["collection"], lines["requested"], lines["accepted"]) == (run.office.name, RECORDS, RECORDS)
    assert (lines["pending"], lines["deltas"], lines["records"]) == (0, 2, RECORDS)
    assert (words["records"], words["version"]) == (3, words["version"])
    table = run("status")
    assert table.code == 0
    for word in ("requested", "snapshot", str(lines["version"]), "25"):
        assert word in table.out


def test_what_is_left_alone_is_in_status_and_check_with_its_reason(run: Terminal) -> None:
    store, name, day = run.office.store, run.office.name, run.office.lines.day
    path = Path(run.office.environment()["EMBEDDING_ASSETS_COLLECTIONS"])
    assert "left alone" not in run("check").out
    path.write_text(f"start: {date.fromisoformat(day) + timedelta(days=1)}\n{path.read_text()}")
    catalog = load_catalog(path)
    mark = Found("batch_x", day, None, reason="none of its 2 requests can be taken; the first: 'x'")
    key = f"{mark_folder(catalog)}/batch_x.json"
    store.put_new(key, encode(mark, key))
    asked = layout.requests("gone", "2026-01-02", "0" * 32)
    for file in (layout.REQUEST, layout.BATCH):
        store.put_new(f"{asked}/{file}", b"{}")
    store.delete([item.key for item in store.walk(layout.results(name, day))])
    *_, beside = run("status", "--json").json
    left = {one["kind"]: one for one in beside["left_alone"]}
    assert {kind: one["name"] for kind, one in left.items()} == {"batch": "batch_x", "collection": "gone", "day": day}
    assert "belongs to no collection: none of its 2 requests can be taken; the first: 'x'" in left["batch"]["reason"]
    assert "1 batch of gone, which is not declared, is left alone" in left["collection"]["reason"]
    assert f"of {name} are left alone, as the day is before `start`" in left["day"]["reason"]
    said = run("status").out
    assert all(one["reason"] in said for one in left.values())
    checked = run("check", "--json").json[-1]
    assert {row["name"] for row in checked["rows"]} == {"batch_x", "gone", day}
    assert checked["summary"] == "3 left alone, 0 corrupted"


def test_a_damaged_identity_is_said_by_check_and_stops_nothing(run: Terminal) -> None:
    identity_of(run.office.store)
    run.office.store.replace(layout.IDENTITY, b"{")
    said = run("check", "--json")
    assert (said.code, [row["name"] for row in said.rows if row.get("verdict") == "corrupted"]) == (
        3,
        [layout.IDENTITY],
    )
    assert run("status").code == 0


def test_query_finds_what_was_embedded(run: Terminal) -> None:
    said = run("query", run.office.name, "whole milk", "-n", "3", "--json")
    assert said.code == 0
    assert len(said.json) == 3
    assert "milk" in said.json[0]["document"]
    distances = [record["distance"] for record in said.json]
    assert distances == sorted(distances)
    assert said.json[0]["batch_id"] in run.office.lines.batch_ids()
    table = run("query", run.office.name, "whole milk", "-n", "3")
    assert (table.code, said.json[0]["document"] in table.out) == (0, True)
    (only,) = run("query", run.office.name, "milk", "--where", '{"at": "of line-00007"}', "--json").json
    assert only["id"] == "line-00007"
    assert run("query", run.office.name, "milk", "--where", "{").code == 2


LOOKS = [
    ("snapshots", "list"),
    ("snapshots", "verify"),
    ("deltas", "list"),
    ("deltas", "verify"),
    ("quarantine", "list"),
    ("check",),
    ("check", "--level", "full"),
]


def test_where_all_is_well_every_look_ends_with_0_and_changes_nothing(run: Terminal) -> None:
    before = contents(run.office.store)
    for words in LOOKS:
        said = run(*words, "--json")
        assert said.code == 0, words
        assert [one["collection"] for one in said.json] == [run.office.name, run.office.words.spec.name]
        assert {row.get("verdict") for row in said.rows} <= {"valid", None}
        assert run.office.name in run(*words, "--collection", "both").out
    assert contents(run.office.store) == before


def test_a_look_at_one_collection_is_a_look_at_that_one_alone(run: Terminal) -> None:
    (lines,) = run("deltas", "list", "--collection", run.office.name, "--json").json
    assert {row["name"] for row in lines["rows"]} == {delta.id for delta in run.office.deltas()}
    rows = run("snapshots", "list", "--collection", run.office.name, "--json").rows
    assert [(row["name"], row["state"]) for row in rows] == list(
        zip(run.office.versions(), ["current", "older"], strict=True)
    )
    (delta, _) = run.office.deltas()
    assert [row["name"] for row in run("deltas", "verify", delta.id, "--json").rows] == [delta.id]


def test_what_is_corrupted_is_named_and_ends_with_3(run_in_ruin: Terminal) -> None:
    run, office = run_in_ruin, run_in_ruin.office
    before = contents(office.store)
    (bad,) = (m for m in office.deltas() if m.count == 5)
    for words in (("check",), ("deltas", "verify"), ("deltas", "verify", bad.id)):
        said = run(*words, "--json")
        assert said.code == 3
        (row,) = (row for row in said.rows if row["verdict"] == "corrupted")
        assert (row["name"], "chroma.sqlite3" in row["reason"]) == (bad.id, True)
        shown = run(*words)
        assert (shown.code, bad.id in shown.out, "chroma.sqlite3" in shown.out) == (3, True, True)
    assert run("snapshots", "verify").code == 0
    assert run("check", "--collection", office.words.spec.name).code == 0
    (entry,) = run("quarantine", "list", "--json").rows
    assert "chroma.sqlite3" in entry["reason"]
    assert contents(office.store) == before


@pytest.mark.parametrize("content", [b"", b"\xff{garbage"])
def test_a_damaged_manifest_is_reported_with_the_day_of_its_cell(run: Terminal, content: bytes) -> None:
    delta, _ = run.office.deltas()
    run.office.store.replace(delta.key, content)
    said = run("check", "--json")
    assert said.code == 3
    (row,) = (row for row in said.rows if row.get("verdict") == "corrupted")
    assert (row["name"], row["day"]) == (delta.id, run.office.lines.day)


def test_what_cannot_be_judged_ends_with_4(run: Terminal) -> None:
    run.monkeypatch.setattr(verify, "_ROOM_BESIDE", 1 << 62)  # no disk has so much room
    for words in (("check",), ("deltas", "verify"), ("snapshots", "verify")):
        said = run(*words, "--json")
        assert said.code == 4
        assert {row["verdict"] for row in said.rows} == {"unknown"}
        assert "its disk is full" in said.rows[0]["reason"]
    # Nothing that could not be judged is deleted, and the command says that it was not judged.
    before = contents(run.office.store)
    said = run("deltas", "clean", "--level", "quick", "--yes", "--json")
    assert "cannot be judged just now" in said.json[0]["summary"]
    assert said.code == 4
    assert contents(run.office.store) == before


def test_unfinished_and_stray_objects_are_listed_and_are_no_corruption(run: Terminal) -> None:
    store, name = run.office.store, run.office.name
    store.put_new(f"{layout.deltas(name, run.office.lines.day, layout.new_id())}/chroma.sqlite3", b"half")
    store.put_new(f"{name}/delta/readme.txt", b"?")
    said = run("check", "--json", "--collection", name)
    assert said.code == 0
    states = [row["state"] for row in said.rows if "state" in row]
    assert states == ["unfinished; `prune` removes it", "belongs to nobody"]


def test_report_writes_a_page_that_needs_nothing_else(run: Terminal) -> None:
    said = run("report", run.office.name, "-o", "page.html")
    assert said.code == 0
    assert f"{RECORDS} records of snapshot {run.office.versions()[0]}" in said.out
    page = (run.office.lines.folder / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "line-00007" in page
    assert run("report", run.office.words.spec.name).code == 0
    assert (run.office.lines.folder / f"{run.office.words.spec.name}.html").exists()
    assert "is not declared" in run("report", "no-such-one").err
    assert "cannot be written" in run("report", run.office.name, "-o", "no/such/folder.html").err
