"""What must not be shown: passwords in URLs, anywhere; what steers a terminal, in what is meant for people."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path

import dagster as dg
import openai
import pytest

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.cli.query import query_table
from embedding_assets.cli.terminal import Terminal, plain, printable
from embedding_assets.errors import ConfigurationError, EmbeddingAssetsError, without_secrets
from embedding_assets.orchestration.assemble import resources_of
from embedding_assets.orchestration.resources import ApiResource
from embedding_assets.reading import Record
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings, S3Settings, load_settings
from embedding_assets.store import layout
from embedding_assets.store.objects import open_store
from embedding_assets_tests.cli.offices import Terminal as Commands
from embedding_assets_tests.small_disk import small_disk

MARK = "hunter2marked"
BASE_URL = f"http://user:{MARK}@127.0.0.1:9/v1"
STEERING = f"\x1b[2J\x1b]0;title\x07\x1b]8;;http://evil.example/\x1b\\link\x9b31m\u202egnp\u2066\r\x00\x08{MARK}"


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{MARK}@host/v1",
        f"ask https://user:p@{MARK}@host:8/v1, please",
        f"s3://{MARK}@bucket/prefix",
        f"https://host/v1?api_key={MARK}&b=1",
        f"https://host/?X-Amz-Signature={MARK}",
    ],
)
def test_no_error_repeats_a_secret(text: str) -> None:
    assert MARK not in without_secrets(text)
    error = EmbeddingAssetsError(text, f"refused ({text})", f"Correct {text}.")
    assert MARK not in f"{error} {error!r} {error.args} {error.subject} {error.reason} {error.remedy}"


def test_the_api_knows_its_password_as_a_header_alone(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("DEBUG")
    gone = EmbeddingApi(ApiSettings("sk-key", f"http://user:{MARK}@127.0.0.1:9/v1"), retries=0)
    with pytest.raises(EmbeddingAssetsError) as caught:
        gone.embed(["text"], "text-embedding-3-small", 8)
    assert MARK not in f"{gone!r} {gone.url} {caught.value} {caplog.text}"
    assert "127.0.0.1:9" in gone.url
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://user:{MARK}@127.0.0.1:9/v1")
    assert MARK not in repr(EmbeddingApi(ApiSettings("sk-key")))
    assert isinstance(gone._client, openai.OpenAI)
    assert gone._client.default_headers["Authorization"].startswith("Basic ")  # as httpx made of it


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "EMBEDDING_ASSETS_STORE"])
def test_an_s3_url_with_a_password_is_refused_without_it(variable: str, tmp_path: Path) -> None:
    environ = {"EMBEDDING_ASSETS_STORE": "s3://bucket", variable: f"s3://user:{MARK}@host"}
    with pytest.raises(ConfigurationError, match="holds a user or a password") as caught:
        open_store((found := load_settings(None, environ, tmp_path)).store_url, found.s3)
    assert MARK not in str(caught.value)
    with pytest.raises(ConfigurationError, match="holds a user or a password"):
        open_store("s3://bucket", S3Settings(endpoint_url=f"http://user:{MARK}@host"))


def test_dagster_is_given_the_name_of_the_variable(tmp_path: Path) -> None:
    environ = {"EMBEDDING_ASSETS_STORE": "memory://", "OPENAI_BASE_URL": f"https://u:{MARK}@host/v1"}
    api = resources_of(load_settings(None, environ, tmp_path))["api"]
    assert isinstance(api, ApiResource)
    assert MARK not in repr(api)
    assert MARK not in repr(dg.Definitions(resources={"api": api}).resources)


@pytest.mark.parametrize("command", ["status", "status --json", "check", "repair --dry-run", "query LINES cash"])
def test_no_command_shows_or_stores_a_password(run: Commands, command: str) -> None:
    run.set(OPENAI_BASE_URL=f"http://user:{MARK}@127.0.0.1:9/v1")
    said = run(*command.replace("LINES", run.office.lines.spec.name).split())
    assert MARK not in said.out + said.err
    assert "127.0.0.1:9" in said.err or not command.startswith("query")
    files = [path for path in run.office.lines.folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if MARK.encode() in path.read_bytes()]


def test_no_event_of_a_run_holds_a_password(tmp_path: Path) -> None:
    api = resources_of(
        load_settings(None, {"EMBEDDING_ASSETS_STORE": "memory://", "OPENAI_BASE_URL": BASE_URL}, tmp_path)
    )["api"]

    @dg.asset
    def asked(api: ApiResource) -> dg.MaterializeResult[None]:
        client = api.client(retries=0)
        dg.get_dagster_logger().info(f"{client!r} at {client.url}")
        client.embed(["text"], "text-embedding-3-small", 8)
        return dg.MaterializeResult(metadata={"url": client.url})

    with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", BASE_URL)
        patch.setenv("OPENAI_API_KEY", "sk-key")
        run = dg.materialize([asked], resources={"api": api}, instance=instance, raise_on_error=False)
        assert not run.success
        told = [str(entry) for entry in instance.all_logs(run.run_id)]
    assert any("127.0.0.1:9" in one for one in told)
    assert not [one for one in told if MARK in one]


def shown(*what: object) -> str:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, color_system=None, width=200)
    for one in what:
        console.print(one)
    return out.getvalue()


def test_no_text_steers_the_terminal() -> None:
    record = Record("a", STEERING, {"key\x1b[31m": STEERING}, STEERING, 0, "d", 0.5)
    out = shown(query_table([record]), f"[bold]{plain(STEERING)}[/]", STEERING)
    assert not set(out) & set("\x1b\x07\x9b\u202e\u2066\x00\x08\r")
    assert out.count(MARK) >= 2  # seen as text
    assert "\\u202egnp" in out


def test_what_is_no_control_character_is_shown_as_it_is() -> None:
    text = "naïve 漢字 עברית 👩‍👩‍👧 \t tab"
    assert printable(text) == text
    assert shown(f"[dim]{plain('[bold] x')}[/]") == "[bold] x\n"
    assert shown(f"[dim]{plain(chr(92) + '[bold] x')}[/]") == "\\[bold] x\n"


@pytest.mark.parametrize("command", ["status", "status --json", "check", "check --json"])
def test_an_output_without_room_is_named(run: Commands, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        said = run(*command.split())
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # what is left in its buffer
    assert said.code == 1
    assert "standard output: cannot be written (No space left on device)" in said.err


def test_a_terminal_without_the_characters_shows_their_numbers(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    run.office.store.put_new(f"{run.office.name}/delta/漢字", b"a stranger")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    said = run("check")
    out.flush()
    assert said.code == 0
    assert b"delta/\\u6f22\\u5b57" in out.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", ["scratch", "cache", "store"])
@pytest.mark.parametrize("command", ["query NAME milk", "check", "repair --yes", "prune --yes", "report NAME"])
def test_a_full_disk_is_told_without_a_traceback(
    run: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, command: str
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        folder = disk.path / place
        folder.mkdir()
        if place == "scratch":
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
        elif place == "cache":
            run.set(EMBEDDING_ASSETS_CACHE=str(folder))
        else:
            shutil.copytree(run.office.lines.folder / "store", folder, dirs_exist_ok=True)
            run.set(EMBEDDING_ASSETS_STORE=f"file://{folder}")
        disk.fill()
        said = run(*command.replace("NAME", run.office.name).split())
        if said.code:
            assert f"{disk.path}" in said.out + said.err
            assert "its disk is full (0 bytes are free)" in (said.out + said.err).replace("\n", " ")
            assert "corrupted" not in said.err
        assert run.office.store.folders(layout.quarantine(run.office.name)) == []
