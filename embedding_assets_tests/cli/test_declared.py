"""What a person reads whose declaration does not fit the collection, or whose question cannot be answered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from embedding_assets_tests.cli.offices import Office, Terminal

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
