"""How the tests talk to the service: through the official client, and raw where the client would hide something."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx
import openai
from openai.types import Batch

from embedding_assets.sandbox import Sandbox

MODEL = "wordllama-256"
TERMINAL = {"failed", "completed", "expired", "cancelled"}
DEADLINE_SECONDS = 60


def client(sandbox: Sandbox, *, retries: int = 0) -> openai.OpenAI:
    return _client(sandbox.base_url, sandbox.api_key, retries)


@functools.cache
def _client(base_url: str, api_key: str, retries: int) -> openai.OpenAI:
    """Kept, because a new client reads the system's certificates each time."""
    return openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=retries)


def raw(sandbox: Sandbox) -> httpx.Client:
    return httpx.Client(
        base_url=sandbox.base_url, headers={"Authorization": f"Bearer {sandbox.api_key}"}, timeout=30, verify=False
    )


def line(custom_id: str, text: object, **body: object) -> dict[str, Any]:
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": MODEL, "input": text, **body},
    }


def lines(count: int, **body: object) -> list[dict[str, Any]]:
    return [line(f"id-{number:05}", f"MILK {number} 2.99", **body) for number in range(count)]


def as_file(requests: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


def submit(api: openai.OpenAI, content: bytes, name: str = "in.jsonl", metadata: dict[str, str] | None = None) -> Batch:
    file = api.files.create(file=(name, content), purpose="batch")
    return api.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h", metadata=metadata or {}
    )


def wait_for(api: openai.OpenAI, batch_id: str, wanted: Callable[[Batch], bool]) -> Batch:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        batch = api.batches.retrieve(batch_id)
        if wanted(batch):
            return batch
        time.sleep(0.02)
    raise AssertionError(f"still {batch}")


def wait(api: openai.OpenAI, batch_id: str) -> Batch:
    return wait_for(api, batch_id, lambda batch: batch.status in TERMINAL)


def run(sandbox: Sandbox, requests: Iterable[Mapping[str, Any]], **options: Any) -> Batch:
    api = client(sandbox)
    return wait(api, submit(api, as_file(requests), **options).id)


def content(sandbox: Sandbox, file_id: str | None) -> bytes:
    return b"" if file_id is None else client(sandbox).files.content(file_id).read()


def results(sandbox: Sandbox, file_id: str | None) -> list[dict[str, Any]]:
    return [json.loads(each) for each in content(sandbox, file_id).splitlines()]


def ids(answers: Iterable[Mapping[str, Any]]) -> list[str]:
    return [answer["custom_id"] for answer in answers]
