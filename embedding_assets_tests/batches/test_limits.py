"""Limits mean later, not never; another model's name and a missing route are told before anything is paid."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, TypeVar

import pytest

from embedding_assets.batches.api_errors import QuotaError
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.refusals import ACCOUNT_LIMITS
from embedding_assets.batches.submit import submit
from embedding_assets.errors import ApiError
from embedding_assets.sandbox.faults import BatchFault, HttpFault
from embedding_assets.sandbox.launch import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets_tests.batches.conftest import DIMENSIONS, World

T = TypeVar("T")


@contextmanager
def answering(status: int, body: Any) -> Iterator[EmbeddingApi]:
    """An API that answers everything the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the list of batches: there are none
            self._answer(200, {"object": "list", "data": [], "has_more": False})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(status, body)

        def _answer(self, code: int, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield EmbeddingApi(ApiSettings("sk-x", f"http://127.0.0.1:{server.server_port}/v1"), retries=0)
    finally:
        server.shutdown()
        server.server_close()


def _vector(model: str) -> dict[str, Any]:
    return {"object": "list", "model": model, "data": [{"index": 0, "embedding": [0.5] * DIMENSIONS}]}


@pytest.mark.parametrize("code", sorted(ACCOUNT_LIMITS))
def test_a_batch_that_failed_for_the_accounts_limit_uses_up_no_attempt(world: World, code: str) -> None:
    world.sandbox.set_fault(BatchFault(outcome="failed", code=code, times=world.spec.attempts + 1))
    for day in range(world.spec.attempts + 1):
        with world.later(days=day):
            world.round()
            assert world.balance().again == world.balance().limited == 8
    with world.later(days=world.spec.attempts + 1):
        world.round()
    assert world.balance().accepted == 8


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"code": "insufficient_quota"}),
        (429, {"code": None, "type": "insufficient_quota"}),
        (400, {"code": "billing_hard_limit_reached"}),
        (403, {"code": "billing_not_active"}),
        (402, {"code": None}),
    ],
)
def test_while_the_quota_is_used_up_all_is_deferred_and_asked_afterwards(
    world: World, status: int, error: dict[str, Any]
) -> None:
    with answering(status, {"error": {"message": "You exceeded your current quota", **error}}) as api:
        sent = submit(api, world.store, world.spec, world.day, today=world.day)
        with pytest.raises(QuotaError, match="quota or billing limit is met"):
            api.create_batch("file", {})
    assert [row.action for row in sent.rows] == ["deferred"]
    assert "the API account's quota or billing limit is met" in sent.note
    world.round()
    assert world.balance().accepted == 8
    assert [row.attempt for row in world.balance().batches] == [1]


def test_another_models_name_is_told_before_anything_is_asked(world: World) -> None:
    with answering(200, _vector("vendor/embedder-v2")) as api:
        with pytest.raises(ApiError, match=r"answers as model 'vendor/embedder-v2'.*model_answers_as") as told:
            submit(api, world.store, world.spec, world.day, today=world.day)
        assert world.spec.model in str(told.value)
        named = world.spec.model_copy(update={"model_answers_as": ("vendor/embedder-v2",)})
        assert api.embed(["x"], named.model, DIMENSIONS, named.answers_as).shape == (1, DIMENSIONS)
    assert world.balance().requested == 0


def test_a_server_without_the_route_is_told_and_the_probe_can_be_skipped(
    world: World, make_world: Callable[..., World]
) -> None:
    with answering(404, {"detail": "Not Found"}) as api, pytest.raises(ApiError, match=r"/embeddings.*probe: false"):
        submit(api, world.store, world.spec, world.day, today=world.day)
    sent = world.submit(probe=False)
    assert sent.count("submitted") == 8
    assert "probe before submitting is skipped" in sent.note


# Two answers to one batch: one is good, and one met the account's quota.
QUOTA_IN_LINES = (
    '{"id": "batch_req_a", "custom_id": "a", "response": {"status_code": 200, "request_id": "q", "body": {"object": '
    '"list", "data": [{"object": "embedding", "index": 0, "embedding": VECTOR}], "model": "text-embedding-3-small", '
    '"usage": {"prompt_tokens": 2, "total_tokens": 2}}}, "error": null}\n'
    '{"id": "x", "custom_id": "b", "response": {"status_code": 429, "request_id": "q", "body": {"error": {"message": '
    '"You exceeded your current quota", "type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}}, '
    '"error": null}\n'
).replace("VECTOR", json.dumps([0.6, 0.8, *[0.0] * (DIMENSIONS - 2)]))


class QuotaInLines(EmbeddingApi):
    """The real service, whose first output file is the one above."""

    used_up = True

    def read(self, file_id: str, take: Callable[[Iterator[bytes]], T]) -> T:
        return take(iter([QUOTA_IN_LINES.encode()])) if self.used_up else super().read(file_id, take)


def test_what_met_the_quota_within_lines_waits_until_it_is_back_and_is_asked_once(
    service: Sandbox, make_world: Callable[..., World]
) -> None:
    world = make_world(service, attempts=1, model_answers_as=["text-embedding-3-small"])
    lines = [json.dumps({"id": name, "text": f"the text of {name}"}) for name in "ab"]
    (world.folder / "documents.jsonl").write_text("\n".join(lines))
    world.api = api = QuotaInLines(ApiSettings(service.api_key, service.base_url), retries=0)
    world.round()
    books = world.balance()
    assert (books.accepted, books.again, books.limited, books.rejected) == (1, 1, 1, 0)
    service.set_fault(HttpFault(method="POST", path="/v1/embeddings", status=402, times=None))
    for _ in range(2):
        assert [(row.count, row.action) for row in world.submit().rows] == [(1, "deferred")]
        books = world.balance()
        assert (books.accepted, books.pending, books.limited) == (1, 1, 1)
        assert "1 record waits, and is asked for by itself once it is lifted" in books.limited_in_words
    assert len(world.batches()) == 1
    service.clear_faults()
    api.used_up = False
    world.round()
    books = world.balance()
    assert (books.accepted, books.limited, [row.requested for row in books.batches]) == (2, 0, [2, 1])
    assert not world.submit().rows
    assert len(world.batches()) == 2


def test_a_limit_within_lines_that_never_ends_is_asked_for_less_and_less(
    service: Sandbox, make_world: Callable[..., World]
) -> None:
    world = make_world(service, attempts=1, model_answers_as=["text-embedding-3-small"])
    lines = [json.dumps({"id": name, "text": f"the text of {name}"}) for name in "ab"]
    (world.folder / "documents.jsonl").write_text("\n".join(lines))
    world.api = QuotaInLines(ApiSettings(service.api_key, service.base_url), retries=0)
    for hours in range(42):
        with world.later(days=hours / 24):
            world.submit()
            world.settle()
            world.poll()
            assert world.balance().limited == 1
    # At once, after an hour, then every four.
    assert len(world.batches()) <= 3 + 42 // 4
