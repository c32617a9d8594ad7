"""The demo as a new user runs it: once, once more, and with damage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dagster._core.test_utils import freeze_time

from embedding_assets.cli import main
from embedding_assets.cli.demo_environment import DemoEnvironment
from embedding_assets.store import layout
from embedding_assets_tests.moved_clock import later

pytestmark = [pytest.mark.service, pytest.mark.dagster]

_OURS = ("EMBEDDING_ASSETS_", "OPENAI_", "AWS_", "DAGSTER_")


def test_the_demo_runs_then_changes_nothing_and_heals_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert "1 landed batch, " in first
    assert "1 built delta, " in first
    assert 'lines, nearest to "total amount due"' in first
    assert "There was nothing to do, and nothing has changed" in demo("demo")
    assert "Healed: all" in demo("demo", "--damage")

    # On the next day, too, whose cell is not that of the damaged delta: in this process, where the clock can be moved.
    for name in DemoEnvironment(tmp_path).variables():
        monkeypatch.setenv(name, "")  # so that what the demo sets is taken back after the test
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["embedding-assets", "demo", "--damage"])
    with later(24), freeze_time(layout.now()), pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 0, said.out + said.err
    assert "Healed: all" in said.out

    assert '"verdict": "valid"' in demo("check", "--env", "demo", "--json")
    assert '"distance"' in demo("query", "--env", "demo", "lines", "cash paid", "--json")
