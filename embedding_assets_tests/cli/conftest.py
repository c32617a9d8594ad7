from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from embedding_assets.sandbox import Sandbox
from embedding_assets_tests.cells import Cell
from embedding_assets_tests.cli.offices import Office, Terminal, damage, heal, make_office


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for temporary files of its own: `prune` sees nothing that other programs left in the machine's."""
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture(scope="session")
def tidy(finished: Cell, tmp_path_factory: pytest.TempPathFactory) -> Office:
    """All is well; not to be changed."""
    finished.sandbox.clear_faults()
    return make_office(finished, tmp_path_factory.mktemp("office"))


@pytest.fixture(scope="session")
def ruin(tidy: Office, tmp_path_factory: pytest.TempPathFactory) -> Office:
    """The first delta is in quarantine and was built anew, the other one is damaged; not to be changed."""
    made = tidy.copy(tmp_path_factory.mktemp("ruin"))
    first, second = made.deltas()
    damage(made, first)
    heal(made.lines)
    made.lines.land()
    made.lines.build()
    made.lines.compact()
    damage(made, second)
    return made


@pytest.fixture
def office(tidy: Office, sandbox: Sandbox, tmp_path: Path) -> Office:
    """A copy of one in which all is well."""
    return tidy.copy(tmp_path)


@pytest.fixture
def ruined(ruin: Office, sandbox: Sandbox, tmp_path: Path) -> Office:
    """A copy of one with an entry in quarantine, and a delta to go there."""
    return ruin.copy(tmp_path)


@pytest.fixture
def run(office: Office, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """The command line where all is well."""
    return Terminal(office, monkeypatch, capsys)


@pytest.fixture
def run_in_ruin(ruined: Office, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """The command line where something is corrupted."""
    return Terminal(ruined, monkeypatch, capsys)
