"""Connections and answers that go wrong on request."""

from __future__ import annotations

import httpx
import openai
import pytest

from embedding_assets.sandbox import HttpFault, Sandbox
from embedding_assets_tests.sandbox.asking import MODEL, as_file, client, lines, raw, submit

pytestmark = pytest.mark.service


def test_too_many_requests_says_when_to_come_back(sandbox: Sandbox) -> None:
    sandbox.set_fault(HttpFault(path="/v1/models", status=429, retry_after=0.01))
    with pytest.raises(openai.RateLimitError) as caught:
        client(sandbox).models.list()
    assert caught.value.response.headers["retry-after"] == "0.01"
    assert caught.value.code == "rate_limit_exceeded"
    assert client(sandbox).models.list().data[0].id == MODEL


def test_the_clients_own_retry_gets_past_a_fault(sandbox: Sandbox) -> None:
    sandbox.set_fault(HttpFault(path="/v1/models", status=500, times=2))
    assert client(sandbox, retries=2).models.list().data[0].id == MODEL
    assert sandbox.faults()[0]["spent"] is True


def test_a_rule_holds_for_its_method_and_path_only(sandbox: Sandbox) -> None:
    sandbox.set_fault(HttpFault(method="POST", path="/v1/batches*", status=503, times=None))
    api = client(sandbox)
    file = api.files.create(file=("in.jsonl", as_file(lines(1))), purpose="batch")
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            api.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    api.batches.list()
    assert sandbox.faults()[0]["matched"] == 2


def test_a_dropped_connection(sandbox: Sandbox) -> None:
    sandbox.set_fault(HttpFault(path="/v1/models", action="drop"))
    with pytest.raises(openai.APIConnectionError):
        client(sandbox).models.list()
    assert client(sandbox).models.list().data[0].id == MODEL


@pytest.mark.parametrize("after_bytes", [0, 1, 100_000])
def test_a_download_that_breaks_off(sandbox: Sandbox, after_bytes: int) -> None:
    sent = as_file(lines(3000))
    file = client(sandbox).files.create(file=("in.jsonl", sent), purpose="batch")
    sandbox.set_fault(HttpFault(path="/v1/files/*/content", action="cut", after_bytes=after_bytes))
    received = b""
    address = f"/files/{file.id}/content"
    with raw(sandbox) as http, pytest.raises(httpx.TransportError), http.stream("GET", address) as answer:  # noqa: PT012
        for chunk in answer.iter_bytes():
            received += chunk
    assert len(received) <= after_bytes
    assert sent.startswith(received)
    assert client(sandbox).files.content(file.id).read() == sent


def test_content_that_is_gone(sandbox: Sandbox) -> None:
    api = client(sandbox)
    file = api.files.create(file=("in.jsonl", as_file(lines(1))), purpose="batch")
    sandbox.set_fault(HttpFault(method="GET", path="/v1/files/*/content", status=404))
    with pytest.raises(openai.NotFoundError):
        api.files.content(file.id)
    assert api.files.content(file.id).read() == as_file(lines(1))


def test_a_list_that_begins_again(sandbox: Sandbox) -> None:
    api = client(sandbox)
    for _ in range(2):
        submit(api, as_file(lines(1)))
    first = api.batches.list(limit=1).data[0].id
    sandbox.set_fault(HttpFault(method="GET", path="/v1/batches", action="first_page"))
    assert api.batches.list(limit=1, after=first).data[0].id == first
    assert api.batches.list(limit=1, after=first).data[0].id != first
