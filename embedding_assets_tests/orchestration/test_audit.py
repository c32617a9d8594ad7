"""What the audit says of a cell agrees with what the check of its own run says."""

from __future__ import annotations

import pytest

from embedding_assets.orchestration.alerts import advice
from embedding_assets.orchestration.audit import evaluations
from embedding_assets.orchestration.names import Names
from embedding_assets.pipeline.findings import Findings, Row

DELTA: Row = {"kind": "delta", "name": "d1", "day": "2026-03-04", "verdict": "valid", "reason": ""}
SNAPSHOT: Row = {"kind": "snapshot", "name": "v1", "day": None, "verdict": "valid", "reason": ""}
ASIDE: Row = {**DELTA, "kind": "records", "records": 1, "verdict": None, "state": "1 record is set aside: 'id-7'"}


@pytest.mark.parametrize(("verdict", "severity"), [("valid", "WARN"), ("corrupted", "ERROR")])
def test_the_audit_names_records_that_are_set_aside_and_does_not_say_that_their_cell_recovered(
    verdict: str, severity: str
) -> None:
    rows = ({**DELTA, "verdict": verdict, "reason": "" if verdict == "valid" else "it is cut"}, SNAPSHOT, ASIDE)
    cell, snapshot = evaluations(Findings("lines", rows, ""), Names())
    assert (cell.passed, cell.severity.value, snapshot.passed) == (False, severity, True)
    assert "'id-7'" in (cell.description or "")
    assert cell.metadata["set_aside_records"].value == 1
    assert cell.metadata["damaged"].value == int(verdict == "corrupted")


def test_the_advice_says_what_to_do_about_records_that_are_set_aside() -> None:
    told = advice.for_check("deltas_are_whole", "WARN")
    assert "moved" not in told.by_itself
    assert "`embedding-assets quarantine list`" in told.to_do
    assert "`embedding-assets deltas delete`" in told.to_do
