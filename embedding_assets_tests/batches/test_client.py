"""The client's own care: limits of a request, odd servers, keys that stay secret, downloads that break."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedding_assets.batches.answers import batch_of
from embedding_assets.batches.client import MAX_INPUT_BYTES, ApiMissingError, EmbeddingApi, _ends
from embedding_assets.errors import ApiError, ApiUnavailableError, ConfigurationError
from embedding_assets.sandbox.faults import HttpFault
from embedding_assets.settings import ApiSettings
from embedding_assets_tests.batches.conftest import World


def test_embeddings_come_in_the_order_of_the_texts_however_many(world: World) -> None:
    texts = [f"text {i % 7}" for i in range(2_100)]
    vectors = world.api.embed(texts, "wordllama-256", 64)
    assert vectors.shape == (2_100, 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[:7], vectors[2_093:], atol=1e-6)
    assert world.api.embed([], "wordllama-256", 64).shape == (0, 64)


def test_requests_keep_the_limits_of_the_endpoint() -> None:
    texts = ["x" * 100_000] * 7 + ["x" * (MAX_INPUT_BYTES + 1)] + ["x"] * 5_000
    ends = list(_ends(texts))
    start = 0
    for end in ends:
        assert end - start <= 2_048
        assert sum(map(len, texts[start:end])) <= MAX_INPUT_BYTES or end - start == 1
        start = end
    assert start == len(texts)


@pytest.mark.parametrize("model", ["no-such-model"])
def test_an_unknown_model_is_refused_by_name(world: World, model: str) -> None:
    with pytest.raises(ApiMissingError, match=model):
        world.api.embed(["x"], model, 64)


def test_no_key_is_a_setting_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        EmbeddingApi(ApiSettings())


def test_nobody_there_is_unavailable_and_names_the_address() -> None:
    api = EmbeddingApi(ApiSettings("sk-abcdefghijkl", "http://127.0.0.1:9/v1"), retries=0)
    with pytest.raises(ApiUnavailableError, match=r"127\.0\.0\.1:9") as caught:
        api.retrieve("b")
    assert "abcdefghijkl" not in str(caught.value)
    assert caught.value.recoverable


@pytest.mark.parametrize("after", [0, 10, 3_000])
def test_a_download_that_breaks_off_is_begun_again(world: World, tmp_path: Path, after: int) -> None:
    path = tmp_path / "up.jsonl"
    path.write_bytes(b'{"n": 1}\n' * 1_000)
    file_id = world.api.upload(path)
    world.sandbox.set_fault(HttpFault(path="/v1/files/*/content", action="cut", after_bytes=after, times=2))
    assert world.api.download(file_id, tmp_path / "down.jsonl") == path.stat().st_size
    assert (tmp_path / "down.jsonl").read_bytes() == path.read_bytes()
    world.sandbox.set_fault(HttpFault(path="/v1/files/*/content", action="cut", after_bytes=after, times=None))
    with pytest.raises(ApiUnavailableError):
        world.api.download(file_id, tmp_path / "down.jsonl")


def test_cancelling_what_is_over_is_no_error(world: World) -> None:
    world.submit()
    world.settle()
    world.api.cancel(world.batches()[0].id)
    with pytest.raises(ApiMissingError):
        world.api.retrieve("batch_nobody_knows")
    world.api.cancel("batch_nobody_knows")


class _Looping(BaseHTTPRequestHandler):
    """A server whose cursors lead back to page 1, and whose error quotes the key."""

    def do_GET(self) -> None:
        key = self.headers["Authorization"].removeprefix("Bearer ")
        if "/batches?" in self.path:
            batch = {"endpoint": "/v1/embeddings", "status": "completed", "created_at": "7", "metadata": None}
            body: Any = {"object": "list", "has_more": True, "data": [{"id": f"b{i}", **batch} for i in range(3)]}
            self.send_response(200)
        else:
            body = {"error": {"message": f"who is {key}, and sk-other-0123456789?"}}
            self.send_response(400)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def looping() -> Iterator[EmbeddingApi]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Looping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield EmbeddingApi(ApiSettings("my-secret-key", f"http://127.0.0.1:{server.server_port}/v1"), retries=0)
    server.shutdown()
    server.server_close()


def test_cursors_that_lead_back_end_the_list(looping: EmbeddingApi) -> None:
    batches = list(looping.list_batches())
    assert [b.id for b in batches] == ["b0", "b1", "b2"]
    assert batches[0].created_at == 7


def test_keys_are_masked_even_if_the_server_quotes_them(looping: EmbeddingApi) -> None:
    with pytest.raises(ApiError, match="who is") as caught:
        looping.retrieve("b0")
    assert "my-secret-key" not in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_a_batch_with_next_to_nothing_in_it_is_still_one() -> None:
    batch = batch_of({"id": "b"})
    assert (batch.status, batch.created_at, batch.ended, batch.status_known) == ("unknown", 0, False, False)
