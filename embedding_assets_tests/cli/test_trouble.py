"""What a person reads who got something wrong: the object, the reason, the remedy; no stack, no secret."""

from __future__ import annotations

import socket

import pytest

from embedding_assets_tests.cells import contents
from embedding_assets_tests.cli.offices import Said, Terminal
from embedding_assets_tests.s3_server import BUCKET, S3Server

pytestmark = pytest.mark.service


def assert_said(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said
    assert said.out == ""
    for word in words:
        assert word in said.err


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize(
    "words",
    [("query", "receipts", "milk"), ("check", "--collection", "receipts"), ("prune", "--collection", "receipts")],
)
def test_an_unknown_collection_is_named_with_those_there_are(run: Terminal, words: tuple[str, ...]) -> None:
    assert_said(run(*words), 1, "error:", "receipts", run.office.name)


def test_a_store_that_is_not_there(run: Terminal) -> None:
    run.set(EMBEDDING_ASSETS_STORE=f"{run.office.store.url}/elsewhere")
    for words in (("status",), ("check",), ("query", run.office.name, "milk"), ("repair", "--yes")):
        assert_said(run(*words), 1, "elsewhere", "the folder is not there")


def test_a_store_of_unknown_form(run: Terminal) -> None:
    run.set(EMBEDDING_ASSETS_STORE="ftp://example/store")
    assert_said(run("status"), 1, "ftp://", "Use file:// or s3://")


def test_no_store_at_all(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDDING_ASSETS_STORE")
    assert_said(run("status"), 1, "EMBEDDING_ASSETS_STORE", "is not set", ".env.dev")


def test_a_collection_without_snapshot(run: Terminal) -> None:
    run("snapshots", "delete", "--yes")
    assert_said(run("query", run.office.name, "milk"), 1, run.office.name, "snapshot")


def test_a_wrong_api_key_is_refused_and_not_shown(run: Terminal) -> None:
    run.set(OPENAI_API_KEY="sk-wrong-fedcba9876543210")
    said = run("query", run.office.name, "milk")
    assert_said(said, 1, "the API key is refused", "Check OPENAI_API_KEY")
    assert "sk-wrong" not in said.err


def test_an_api_that_does_not_answer_is_for_later(run: Terminal) -> None:
    address = f"http://127.0.0.1:{closed_port()}/v1"
    run.set(OPENAI_BASE_URL=address)
    assert_said(run("query", run.office.name, "milk"), 75, address)


@pytest.mark.s3
def test_wrong_keys_of_the_store_are_refused_and_not_shown(run: Terminal, s3: S3Server) -> None:
    run.set(
        EMBEDDING_ASSETS_STORE=f"s3://{BUCKET}/office",
        AWS_ENDPOINT_URL=s3.endpoint,
        AWS_REGION="us-east-1",
        AWS_ACCESS_KEY_ID="writer",
        AWS_SECRET_ACCESS_KEY="a-wrong-secret",
    )
    for words in (("status",), ("check",), ("snapshots", "list")):
        said = run(*words)
        assert_said(said, 1, f"s3://{BUCKET}/office")
        assert "a-wrong-secret" not in said.err


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--level", "deep"),
        ("deltas", "clean", "--created-before", "yesterday"),
        ("prune", "--keep", "0"),
        ("deltas", "delete"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_ends_with_2_and_does_nothing(run: Terminal, words: tuple[str, ...]) -> None:
    before = contents(run.office.store)
    assert_said(run(*words), 2)
    assert contents(run.office.store) == before


@pytest.mark.parametrize(
    "words", [("snapshots", "rollback", "0000000001-x", "--yes"), ("quarantine", "restore", "delta", "x", "--yes")]
)
def test_what_belongs_to_one_collection_needs_its_name(run: Terminal, words: tuple[str, ...]) -> None:
    assert_said(run(*words), 1, "--collection")
    assert_said(run(*words, "--collection", run.office.name), 1, words[-2])


@pytest.mark.parametrize(
    "words", [(), ("check",), ("snapshots", "delete"), ("deltas", "clean"), ("quarantine", "list")]
)
def test_help_names_the_exit_codes(run: Terminal, words: tuple[str, ...]) -> None:
    said = run(*words, "--help")
    assert said.code == 0
    assert "Exit codes: 0 done" in said.out
    assert "75" in said.out
