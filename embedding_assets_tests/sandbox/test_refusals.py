"""What the service does not do, it says: in OpenAI's error format and with the right status."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from embedding_assets.sandbox import Sandbox
from embedding_assets_tests.sandbox.asking import MODEL, as_file, client, lines, raw

pytestmark = pytest.mark.service


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("key", ["wrong", "sk-a-long-key-of-somebody-else-0123456789", "sandbox2"])
def test_a_wrong_key_is_refused_and_not_repeated(sandbox: Sandbox, key: str) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        openai.OpenAI(base_url=sandbox.base_url, api_key=key).models.list()
    assert caught.value.code == "invalid_api_key"
    assert key not in caught.value.response.text


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/files", "/v1/nothing", "/sandbox/faults"])
def test_every_path_wants_the_key(sandbox: Sandbox, path: str) -> None:
    refused(httpx.get(sandbox.base_url.removesuffix("/v1") + path), 401)
    refused(
        httpx.get(sandbox.base_url.removesuffix("/v1") + path, headers={"Authorization": "Basic c2FuZGJveA=="}), 401
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/chat/completions"), ("POST", "/responses"), ("GET", "/fine_tuning/jobs"), ("GET", "/files/a/b")],
)
def test_other_endpoints_are_unknown(sandbox: Sandbox, method: str, path: str) -> None:
    with raw(sandbox) as http:
        assert refused(http.request(method, path, json={}), 404)["code"] == "unknown_url"
        refused(http.put("/batches"), 405)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/chat/completions"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": "file-unknown"}, "input_file_id"),
        ({"input_file_id": None}, "input_file_id"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, "output_expires_after"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_batches_that_cannot_be_created(sandbox: Sandbox, change: dict[str, Any], param: str) -> None:
    file = client(sandbox).files.create(file=("in.jsonl", as_file(lines(1))), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "24h", **change}
    with raw(sandbox) as http:
        assert refused(http.post("/batches", json=body), 400)["param"] == param


def test_the_most_metadata_there_may_be_is_taken(sandbox: Sandbox) -> None:
    api = client(sandbox)
    file = api.files.create(file=("in.jsonl", as_file(lines(1))), purpose="batch")
    metadata = {f"{number:064}": "v" * 512 for number in range(16)}
    batch = api.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h", metadata=metadata
    )
    assert batch.metadata == metadata


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": "MILK"}, 400, "model"),
        ({"model": "text-embedding-3-small", "input": "MILK"}, 404, "model"),
        ({"model": MODEL}, 400, "input"),
        ({"model": MODEL, "input": []}, 400, "input"),
        ({"model": MODEL, "input": ""}, 400, "input"),
        ({"model": MODEL, "input": [1, 2]}, 400, "input"),
        ({"model": MODEL, "input": ["x"] * 2049}, 400, "input"),
        ({"model": MODEL, "input": "MILK", "dimensions": 1536}, 400, "dimensions"),
        ({"model": MODEL, "input": "MILK", "dimensions": True}, 400, "dimensions"),
        ({"model": MODEL, "input": "MILK", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"model": MODEL, "input": "MILK", "temperature": 1}, 400, "temperature"),
    ],
)
def test_embeddings_that_cannot_be_made(sandbox: Sandbox, body: dict[str, Any], status: int, param: str) -> None:
    with raw(sandbox) as http:
        assert refused(http.post("/embeddings", json=body), status)["param"] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]"])
def test_bodies_that_are_not_objects(sandbox: Sandbox, body: bytes) -> None:
    with raw(sandbox) as http:
        refused(http.post("/embeddings", content=body), 400)
        refused(http.post("/batches", content=body), 400)


def test_uploads_that_are_not_for_batches(sandbox: Sandbox) -> None:
    with raw(sandbox) as http:
        file = {"file": ("a.jsonl", b"{}\n")}
        assert refused(http.post("/files", data={"purpose": "fine-tune"}, files=file), 400)["param"] == "purpose"
        assert refused(http.post("/files", files=file), 400)["param"] == "purpose"
        refused(http.post("/files", data={"purpose": "batch"}), 400)
        extra = {"purpose": "batch", "expires_after[seconds]": "3600"}
        refused(http.post("/files", data=extra, files=file), 400)


@pytest.mark.parametrize("path", ["/files/file-unknown", "/files/file-unknown/content", "/batches/batch_unknown"])
def test_ids_that_were_never_given_out(sandbox: Sandbox, path: str) -> None:
    with raw(sandbox) as http:
        refused(http.get(path), 404)
        refused(http.get("/models/unknown"), 404)
        refused(http.delete("/files/unknown"), 404)
        refused(http.post("/batches/unknown/cancel"), 404)
        refused(http.get("/files/..%2F..%2Findex.sqlite3/content"), 404)


@pytest.mark.parametrize("limit", ["0", "101", "many"])
def test_limits_of_a_page(sandbox: Sandbox, limit: str) -> None:
    with raw(sandbox) as http:
        assert refused(http.get("/batches", params={"limit": limit}), 400)["param"] == "limit"
