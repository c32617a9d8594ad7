"""What a person reads whose declaration does not fit the collection, or whose question cannot be answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embedding_assets_tests.cli.offices import RECORDS, Office, Terminal
from embedding_assets_tests.pipeline.declarations import as_earlier_versions_did

pytestmark = pytest.mark.service


def redeclare(run: Terminal, **changed: Any) -> None:
    """Write another declaration of the lines."""
    lines = run.office.lines
    run.office = Office(replace(lines, spec=lines.spec.model_copy(update=changed)), run.office.words)
    run.set(**run.office.environment())


def test_a_query_under_a_wrong_declaration_names_both_sides_and_what_to_type(run: Terminal) -> None:
    for changed, told in (
        ({"dimensions": 128}, "Put `dimensions: 64` back"),
        ({"model": "text-embedding-3-small"}, "Put `model: wordllama-256` back"),
        ({"distance": "l2"}, "Put `distance: cosine` back"),
    ):
        before = run.office.lines.spec.model_dump()
        redeclare(run, **changed)
        said = run("query", run.office.name, "milk")
        assert said.code == 1
        assert told in said.err
        assert "wordllama-256, 64 dimensions, cosine" in said.err
        redeclare(run, **{name: before[name] for name in changed})
    assert run("query", run.office.name, "milk").code == 0


def test_a_filter_that_chromadb_refuses_is_an_error_without_a_traceback(run: Terminal) -> None:
    said = run("query", run.office.name, "milk", "--where", '{"$nonsense": 1}')
    assert said.code == 1
    assert "chromadb refuses" in said.err
    assert "receipt_id" in said.err


def test_every_command_tells_the_truth_about_what_was_paid_for_under_a_wrong_line(run: Terminal) -> None:
    lines, name = run.office.lines, run.office.name
    lines.write({f"line-{n:05d}": f"one more line {n}" for n in range(RECORDS, RECORDS + 5)})
    wrong = replace(lines, spec=lines.spec.model_copy(update={"dimensions": 128}))
    aside = as_earlier_versions_did(wrong)

    (status, _) = run("status", "--json").json
    assert (status["requested"], status["accepted"], status["pending"]) == (RECORDS + 5, RECORDS, 5)
    assert f"delta {aside.id}" in status["set_aside"]
    assert aside.id in run("status").out
    said = run("check", "--collection", name, "--json")
    assert said.code == 0
    (row,) = [row for row in said.rows if row["name"] == aside.id]
    assert (row["verdict"], "set aside" in row["reason"]) == ("valid", True)
    assert "1 set aside" in said.json[0]["summary"]
    (batch,) = [row for row in said.rows if row["kind"] == "batch"]
    assert "set aside" in batch["state"]
    said = run("repair", "--collection", name, "--dry-run")
    assert (said.code, "declare a new collection" in said.out) == (0, False)
    assert f"{aside.id} is set aside" in said.out
    said = run("deltas", "delete", aside.id, "--collection", name, "--dry-run")
    assert "pending already, or accepted by other batches" in said.out
    assert run("deltas", "delete", aside.id, "--collection", name, "--yes").code == 0

    lines.submit()
    lines.wait()
    lines.land()
    lines.build()
    lines.compact()
    (status, _) = run("status", "--json").json
    assert (status["accepted"], status["pending"], status["records"]) == (RECORDS + 5, 0, RECORDS + 5)
    assert run("check", "--collection", name, "--level", "full").code == 0


def test_status_check_and_repair_say_what_to_type_while_the_line_is_wrong(run: Terminal) -> None:
    redeclare(run, dimensions=128)
    told = "Put `dimensions: 64` back"
    (status, words) = run("status", "--json").json
    assert told in status["declaration"]
    assert (words["declaration"], status["accepted"], status["pending"]) == ("", RECORDS, 0)
    assert "wrong declaration" in run("status").out
    said = run("check", "--json")
    assert said.code == 4
    (row,) = [row for row in said.rows if row.get("verdict") == "unknown"]
    assert (row["kind"], told in row["remedy"]) == ("declaration", True)
    for words_typed in (("check",), ("repair", "--dry-run")):
        said = run(*words_typed)
        assert (said.code, told in said.out) == (4, True)
    assert run("deltas", "verify").code == run("snapshots", "verify").code == 0
