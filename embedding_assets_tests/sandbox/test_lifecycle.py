"""What becomes of a batch that nothing is done to."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openai
import pytest

from embedding_assets.sandbox import BatchFault, Sandbox
from embedding_assets_tests.sandbox.asking import (
    DEADLINE_SECONDS,
    MODEL,
    as_file,
    client,
    content,
    ids,
    line,
    lines,
    results,
    run,
    submit,
    wait,
    wait_for,
)

pytestmark = pytest.mark.service


def test_every_request_is_answered_once_with_its_own_vector(sandbox: Sandbox) -> None:
    requests = lines(2500, encoding_format="base64")
    batch = run(sandbox, requests)
    answers = results(sandbox, batch.output_file_id)
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (2500, 2500, 0)
    assert batch.error_file_id is None
    assert batch.model == MODEL
    assert sorted(ids(answers)) == ids(requests)
    assert ids(answers) != ids(requests)
    assert len({answer["id"] for answer in answers}) == 2500
    alone = client(sandbox).embeddings.create(model=MODEL, input="MILK 1234 2.99", encoding_format="float")
    (same,) = (answer for answer in answers if answer["custom_id"] == "id-01234")
    vector = np.frombuffer(base64.b64decode(same["response"]["body"]["data"][0]["embedding"]), dtype="<f4")
    assert vector.tolist() == np.array(alone.data[0].embedding, dtype=np.float32).tolist()
    assert batch.usage is not None
    assert batch.usage.total_tokens == sum(answer["response"]["body"]["usage"]["total_tokens"] for answer in answers)


def test_requests_that_cannot_be_answered_are_in_the_error_file(sandbox: Sandbox) -> None:
    batch = run(
        sandbox,
        [
            line("good", "MILK"),
            line("list", ["MILK", "BREAD"]),
            line("empty", ""),
            line("tokens", [[1, 2, 3]]),
            line("dimension", "MILK", dimensions=100),
            line("long", "word " * 9000),
        ],
    )
    assert batch.status == "completed"
    assert sorted(ids(results(sandbox, batch.output_file_id))) == ["good", "list"]
    errors = {error["custom_id"]: error["response"] for error in results(sandbox, batch.error_file_id)}
    assert {name: error["status_code"] for name, error in errors.items()} == dict.fromkeys(
        ["empty", "tokens", "dimension", "long"], 400
    )
    assert errors["dimension"]["body"]["error"]["param"] == "dimensions"
    assert errors["long"]["body"]["error"]["code"] == "context_length_exceeded"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 4)


def test_a_batch_without_a_good_request_has_no_output_file(sandbox: Sandbox) -> None:
    batch = run(sandbox, [line("empty", "")])
    assert batch.status == "completed"
    assert batch.output_file_id is None
    assert len(results(sandbox, batch.error_file_id)) == 1


def test_the_output_order_is_the_same_each_time(sandbox: Sandbox) -> None:
    first, second = (run(sandbox, lines(50)) for _ in range(2))
    orders = [ids(results(sandbox, batch.output_file_id)) for batch in (first, second)]
    assert orders[0] == orders[1]


def test_a_cancelled_batch_accounts_for_every_request(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(seconds=3600, finished=3))
    api = client(sandbox)
    batch = submit(api, as_file(lines(10)))
    wait_for(api, batch.id, lambda each: each.status == "in_progress")
    assert api.batches.cancel(batch.id).status == "cancelling"
    batch = wait(api, batch.id)
    assert batch.status == "cancelled"
    done, errors = results(sandbox, batch.output_file_id), results(sandbox, batch.error_file_id)
    assert len(done) == 3
    assert {error["error"]["code"] for error in errors} == {"batch_cancelled"}
    assert sorted(ids(done) + ids(errors)) == ids(lines(10))
    with pytest.raises(openai.ConflictError):
        api.batches.cancel(batch.id)


def test_a_batch_whose_input_is_deleted_can_be_cancelled(sandbox: Sandbox) -> None:
    sandbox.set_fault(BatchFault(seconds=3600))
    api = client(sandbox)
    batch = submit(api, as_file(lines(2)))
    wait_for(api, batch.id, lambda each: each.status == "in_progress")
    api.files.delete(batch.input_file_id)
    api.batches.cancel(batch.id)
    assert wait(api, batch.id).status == "cancelled"


def test_uploaded_bytes_come_back_as_they_were(sandbox: Sandbox) -> None:
    sent = as_file(lines(5000))
    file = client(sandbox).files.create(file=("täglich.jsonl", sent), purpose="batch")
    assert (file.bytes, file.filename, file.purpose) == (len(sent), "täglich.jsonl", "batch")
    assert content(sandbox, file.id) == sent


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path, ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "embedding_assets.sandbox", "--folder", str(tmp_path), "--api-key", "own key"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    base_url = process.stdout.readline().split()[-1]
    assert base_url.startswith("http://127.0.0.1:")
    assert [model.id for model in openai.OpenAI(base_url=base_url, api_key="own key").models.list()] == [MODEL]
    process.send_signal(ending)
    assert process.wait(DEADLINE_SECONDS) == 0
    process.stdout.close()


def test_the_service_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import json, sys, time; from pathlib import Path; from embedding_assets.sandbox import Sandbox;"
        "s = Sandbox.start(Path(sys.argv[1])); print(json.dumps(s.pid), flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = json.loads(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # An ended process stays in the table until whoever adopted it has asked for its exit code.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
