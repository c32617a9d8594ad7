"""Odd words, numbers, times, settings and disks: each command ends with a documented exit code, and no stack."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedding_assets.cli.demo_environment import DemoEnvironment
from embedding_assets.errors import ConfigurationError
from embedding_assets.settings import load_settings
from embedding_assets.store.objects import open_store
from embedding_assets_tests.cells import contents
from embedding_assets_tests.cli.offices import Terminal

pytestmark = pytest.mark.service

WORDS = ["", " ", "../x", "\udcff", "--", "20261340T000000000000-00000000", "[x]", "x" * 5000, "a\nb"]
NUMBERS = ["0", "-1", "nan", "inf", "99999999999999999999", "x", ""]
TIMES = ["", "2026", "2026-13-01", "2026-03-04T12:00+99:00", "9999-12-31", "0001-01-01T00:00+14:00", "now"]
FILTERS = ['{"n": {"$gt": "x"}}', '{"$and": []}', '{"$foo": 1}', "[1]", "null", '{"n": {}}', "{"]


def odd_commands(name: str) -> Iterator[list[str]]:
    for word in WORDS:
        yield ["query", word, "milk"]
        yield ["query", name, "milk", "--where", word]
        yield ["report", word]
        yield ["check", "--collection", word]
        yield ["check", "--level", word]
        yield ["status", "--env", word]
        yield ["deltas", "verify", word]
        yield ["deltas", "delete", word, "--yes"]
        yield ["snapshots", "rollback", word, "--yes", "--collection", name]
        yield ["quarantine", "restore", word, word, "--yes", "--collection", name]
        yield ["quarantine", "purge", word, "--yes"]
    for number in NUMBERS:
        yield ["query", name, "milk", "-n", number]
        yield ["prune", "--keep", number, "--dry-run"]
        yield ["prune", "--grace-hours", number, "--dry-run"]
        yield ["alerts", "list", "--last", number]
    for time in TIMES:
        yield ["deltas", "clean", "--created-before", time, "--dry-run", "--level", "quick"]
        yield ["quarantine", "purge", "--found-before", time, "--dry-run"]
    for where in FILTERS:
        yield ["query", name, "milk", "--where", where]


def test_no_odd_word_ends_in_a_stack_or_changes_anything(run: Terminal) -> None:
    before = contents(run.office.store)
    ended = {tuple(words): run(*words).code for words in odd_commands(run.office.name)}
    assert set(ended.values()) <= {0, 1, 2, 75}
    assert {words for words, code in ended.items() if words[0] == "report" and code == 0} == set()
    assert contents(run.office.store) == before


@pytest.mark.parametrize(
    ("variable", "value", "command"),
    [
        ("EMBEDDING_ASSETS_CACHE", "{file}", "query NAME milk"),
        ("EMBEDDING_ASSETS_CACHE", "{file}/below", "query NAME milk"),
        ("EMBEDDING_ASSETS_CACHE", "/proc/none", "query NAME milk"),
        ("EMBEDDING_ASSETS_CACHE", "~nosuchuser/x", "status"),
        ("EMBEDDING_ASSETS_COLLECTIONS", "{file}/x", "status"),
        ("EMBEDDING_ASSETS_COLLECTIONS", "~nosuchuser/x", "status"),
        ("EMBEDDING_ASSETS_STORE", "{file}", "check"),
        ("EMBEDDING_ASSETS_STORE", "file://{file}", "check"),
        ("EMBEDDING_ASSETS_STORE", "file://{here}/store#1", "check"),
        ("EMBEDDING_ASSETS_ALERTS_PER_HOUR", "1e3", "status"),
        ("OPENAI_BASE_URL", "http://[::1", "query NAME milk"),
        ("TMPDIR", "/proc/none", "check"),
    ],
)
def test_a_wrong_setting_is_an_error_with_a_remedy(
    run: Terminal, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, command: str
) -> None:
    here = run.office.lines.folder
    (here / "file").write_text("")
    run.set(**{variable: value.replace("{file}", str(here / "file")).replace("{here}", str(here))})
    if variable == "TMPDIR":
        monkeypatch.setattr(tempfile, "tempdir", value)
    said = run(*command.replace("NAME", run.office.name).split())
    assert (said.code, said.out) == (1, "")
    # What to set, or what the setting says.
    assert variable in said.err or said.err.startswith(f"error: store '{os.environ[variable]}'")
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) == 2


def test_the_users_cache_is_said_to_be_unwritable_by_the_setting_that_moves_it(
    run: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.office.lines.folder / "home").write_text("a file")
    monkeypatch.delenv("EMBEDDING_ASSETS_CACHE")
    for variable in ("XDG_CACHE_HOME", "HOME"):
        with monkeypatch.context() as here:
            here.delenv("XDG_CACHE_HOME", raising=False)
            here.setenv(variable, str(run.office.lines.folder / "home"))
            said = run("query", run.office.name, "milk")
            assert (said.code, "Set EMBEDDING_ASSETS_CACHE" in said.err) == (1, True)
            assert run("status").code == 0


def test_a_user_without_a_home_is_told_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(ConfigurationError, match=r"EMBEDDING_ASSETS_.*(home)"):
        load_settings("dev", {"EMBEDDING_ASSETS_STORE": "memory://"}, tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"EMBEDDING_ASSETS_STORE=\xff"])
def test_an_env_file_that_is_no_text_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"\.env: is not UTF-8"):
        load_settings("dev", {"EMBEDDING_ASSETS_STORE": "memory://"}, tmp_path)


@pytest.mark.parametrize("name", ["plain", "a #1?", "50%25", "a b"])
def test_the_demo_keeps_its_store_where_it_says_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name / ".demo").mkdir(parents=True)
    store = open_store(DemoEnvironment(tmp_path / name).variables()["EMBEDDING_ASSETS_STORE"])
    store.put_new("lines/one", b"1")
    assert (tmp_path / name / ".demo" / "store" / "lines" / "one").is_file()


def test_a_demo_that_cannot_write_its_home_says_so(run: Terminal) -> None:
    (run.office.lines.folder / ".demo").write_text("a file where the demo's folder should be")
    said = run("demo")
    assert (said.code, ".demo" in said.err, "Check its permissions" in said.err) == (1, True, True)
