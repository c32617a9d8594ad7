"""The demo as a new user runs it: once, once more, and with damage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.service, pytest.mark.dagster]

_OURS = ("EMBEDDING_ASSETS_", "OPENAI_", "AWS_", "DAGSTER_")


def test_the_demo_runs_then_changes_nothing_and_heals_what_is_damaged(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}

    def demo(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "embedding_assets", *words],
            cwd=tmp_path,
            env={**environment, "COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = demo("demo")
    assert "nothing has changed" not in first
    assert 'lines, nearest to "total amount due"' in first
    assert "There was nothing to do, and nothing has changed" in demo("demo")
    assert "Healed: all" in demo("demo", "--damage")
    assert '"verdict": "valid"' in demo("check", "--env", "demo", "--json")
    assert '"distance"' in demo("query", "--env", "demo", "lines", "cash paid", "--json")
