"""Every answer is what the official client's own types say, with no field missing."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import openai
import pytest
from openai.types import Batch, CreateEmbeddingResponse, Embedding, FileDeleted, FileObject, Model
from pydantic import BaseModel

from embedding_assets.sandbox import BatchFault, Sandbox
from embedding_assets_tests.sandbox.asking import MODEL, as_file, client, line, lines, raw, run, submit, wait

pytestmark = pytest.mark.service


def conforms(kind: type[BaseModel], answer: dict[str, Any]) -> None:
    kind.model_validate(answer, strict=True)
    assert set(answer) == set(kind.model_fields)


def test_a_file_at_each_step(sandbox: Sandbox) -> None:
    with raw(sandbox) as http:
        created = http.post("/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", b"{}\n")}).json()
        conforms(FileObject, created)
        assert http.get(f"/files/{created['id']}").json() == created
        listed = http.get("/files", params={"limit": 1}).json()
        assert listed["data"] == [created]
        assert listed["first_id"] == listed["last_id"] == created["id"]
        conforms(FileDeleted, http.delete(f"/files/{created['id']}").json())
        assert http.get(f"/files/{created['id']}").status_code == 404


@pytest.mark.parametrize(
    ("fault", "stamp"),
    [
        (BatchFault(), "completed_at"),
        (BatchFault(outcome="failed", code="token_limit_exceeded"), "failed_at"),
        (BatchFault(outcome="expired"), "expired_at"),
        (BatchFault(outcome="cancelled"), "cancelled_at"),
    ],
)
def test_a_batch_in_every_final_status(sandbox: Sandbox, fault: BatchFault, stamp: str) -> None:
    sandbox.set_fault(fault)
    batch = run(sandbox, lines(4), metadata={"collection": "lines"})
    with raw(sandbox) as http:
        answer = http.get(f"/batches/{batch.id}").json()
        listed = http.get("/batches", params={"limit": 1}).json()
    conforms(Batch, answer)
    assert answer["status"] == (fault.outcome or "completed")
    assert answer[stamp] >= answer["created_at"]
    assert answer["metadata"] == {"collection": "lines"}
    assert listed["data"] == [answer]
    for other in {"completed_at", "failed_at", "expired_at", "cancelled_at"} - {stamp}:
        assert answer[other] is None


def test_a_batch_while_it_is_unfinished(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(seconds=3600))
    api = client(sandbox)
    batch = submit(api, as_file(lines(2)))
    with raw(sandbox) as http:
        conforms(Batch, http.get(f"/batches/{batch.id}").json())
        cancelling = http.post(f"/batches/{batch.id}/cancel").json()
    conforms(Batch, cancelling)
    assert cancelling["status"] == "cancelling"
    assert wait(api, batch.id).status == "cancelled"


def test_models_and_embeddings(sandbox: Sandbox) -> None:
    with raw(sandbox) as http:
        models = http.get("/models").json()["data"]
        conforms(Model, models[0])
        assert http.get(f"/models/{MODEL}").json() == models[0]
        answer = http.post("/embeddings", json={"model": MODEL, "input": ["one", "two"]}).json()
    conforms(CreateEmbeddingResponse, answer)
    for position, item in enumerate(answer["data"]):
        conforms(Embedding, item)
        assert item["index"] == position


def test_base64_and_float_are_the_same_vector(sandbox: Sandbox) -> None:
    with raw(sandbox) as http:
        asked = {"model": MODEL, "input": "TOTAL 12.40", "dimensions": 64}
        as_float = http.post("/embeddings", json={**asked, "encoding_format": "float"}).json()
        as_text = http.post("/embeddings", json={**asked, "encoding_format": "base64"}).json()
    decoded = np.frombuffer(base64.b64decode(as_text["data"][0]["embedding"]), dtype="<f4")
    assert decoded.tolist() == np.array(as_float["data"][0]["embedding"], dtype=np.float32).tolist()
    assert as_float["usage"] == as_text["usage"]
    assert client(sandbox).embeddings.create(model=MODEL, input="TOTAL 12.40", dimensions=64).data[0].index == 0


def test_lines_of_results_conform_too(sandbox: Sandbox) -> None:
    batch = run(sandbox, [line("good", "MILK"), line("bad", "")])
    with raw(sandbox) as http:
        good = http.get(f"/files/{batch.output_file_id}/content").json()
        bad = http.get(f"/files/{batch.error_file_id}/content").json()
    assert set(good) == set(bad) == {"id", "custom_id", "response", "error"}
    conforms(CreateEmbeddingResponse, good["response"]["body"])
    assert (good["error"], good["response"]["status_code"]) == (None, 200)
    assert good["id"].startswith("batch_req_")
    assert (bad["error"], bad["response"]["status_code"]) == (None, 400)
    assert set(bad["response"]["body"]["error"]) == {"message", "type", "param", "code"}


def test_pages_of_batches_cover_all_newest_first(sandbox: Sandbox) -> None:
    api = client(sandbox)
    submitted = [submit(api, as_file(lines(1))).id for _ in range(5)]
    seen: list[str] = []
    for batch in api.batches.list(limit=2):
        seen.append(batch.id)
    assert seen[:5] == submitted[::-1]
    assert len(seen) == len(set(seen))
    first = api.batches.list(limit=5)
    assert first.has_more is (len(seen) > 5)
    with pytest.raises(openai.NotFoundError):
        api.batches.list(after="batch_unknown")
