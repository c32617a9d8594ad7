"""The turns of a batch's life that hang on a moment, without a service and its clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.sandbox.contents import Contents
from embedding_assets.sandbox.execution import Executor, Stopped
from embedding_assets.sandbox.index import Index
from embedding_assets.sandbox.limits import Limits
from embedding_assets.sandbox.model import Model
from embedding_assets.sandbox.state import BatchRecord, FileRecord
from embedding_assets_tests.sandbox.asking import as_file, ids, lines


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@dataclass
class Bench:
    index: Index
    contents: Contents
    executor: Executor

    def answers(self, file_id: str | None) -> list[dict[str, Any]]:
        return [] if file_id is None else list(map(json.loads, self.contents.path(file_id).read_bytes().splitlines()))

    def now(self) -> BatchRecord:
        batch = self.index.batch("batch_1")
        assert batch is not None
        return batch

    def change(self, **fields: Any) -> None:
        self.index.change_batch("batch_1", lambda batch: replace(batch, **fields))


def bench(folder: Path, model: Model, count: int, between: Callable[[Bench], bool] = lambda _: False) -> Bench:
    """A batch of `count` requests; `between` is called between its parts, and answers whether the service stops."""
    index, contents = Index(folder / "index.sqlite3"), Contents(folder)
    contents.path("file-1").write_bytes(as_file(lines(count, encoding_format="base64")))
    index.add_file(FileRecord("file-1", 1, 1, "in.jsonl", "batch"))
    now = int(time.time())
    index.add_batch(BatchRecord("batch_1", now, "file-1", "/v1/embeddings", "24h", now + 86_400))

    def stopping() -> bool:
        return between(made)

    executor = Executor(index=index, contents=contents, model=model, limits=Limits(), delay=0, stopping=stopping)
    made = Bench(index, contents, executor)
    return made


def test_a_batch_passes_through_its_statuses(tmp_path: Path, model: Model) -> None:
    one = bench(tmp_path, model, 3)
    one.executor.validate(one.now())
    assert (one.now().status, one.now().total) == ("in_progress", 3)
    one.executor.execute(one.now())
    ended = one.now()
    assert ended.status == "completed"
    assert ended.finalizing_at is not None
    assert sorted(ids(one.answers(ended.output_file_id))) == ids(lines(3))


def test_a_batch_cancelled_while_it_is_executed_keeps_what_was_done(tmp_path: Path, model: Model) -> None:
    def cancel_after_the_first_part(each: Bench) -> bool:
        if each.now().completed > 0:
            each.change(status="cancelling", cancelling_at=int(time.time()))
        else:
            each.change(completed=1)
        return False

    one = bench(tmp_path, model, 2500, cancel_after_the_first_part)
    one.executor.validate(one.now())
    one.executor.execute(one.now())
    ended = one.now()
    done, rest = one.answers(ended.output_file_id), one.answers(ended.error_file_id)
    assert ended.status == "cancelled"
    assert 0 < len(done) < 2500
    assert {each["error"]["code"] for each in rest} == {"batch_cancelled"}
    assert sorted(ids(done) + ids(rest)) == ids(lines(2500))


def test_a_batch_cancelled_before_its_check_has_no_files(tmp_path: Path, model: Model) -> None:
    one = bench(tmp_path, model, 3)
    before = one.now()
    one.change(status="cancelling", cancelling_at=1)
    one.executor.validate(before)
    one.executor.execute(one.now())
    assert (one.now().status, one.now().output_file_id, one.now().error_file_id) == ("cancelled", None, None)


def test_a_batch_whose_window_is_over_expires(tmp_path: Path, model: Model) -> None:
    one = bench(tmp_path, model, 3)
    one.executor.validate(one.now())
    one.change(expires_at=int(time.time()) - 1)
    one.executor.execute(one.now())
    ended = one.now()
    assert (ended.status, ended.output_file_id) == ("expired", None)
    assert {each["error"]["code"] for each in one.answers(ended.error_file_id)} == {"batch_expired"}


def test_a_batch_whose_input_was_deleted_fails(tmp_path: Path, model: Model) -> None:
    one = bench(tmp_path, model, 3)
    one.executor.validate(one.now())
    one.contents.discard("file-1")
    one.executor.execute(one.now())
    assert (one.now().status, [each.code for each in one.now().errors]) == ("failed", ["file_not_found"])


def test_a_stop_leaves_the_batch_unfinished_and_no_draft(tmp_path: Path, model: Model) -> None:
    one = bench(tmp_path, model, 3, lambda _: True)
    one.executor.validate(one.now())
    with pytest.raises(Stopped):
        one.executor.execute(one.now())
    assert one.now().status == "in_progress"
    assert list((tmp_path / "unfinished").iterdir()) == []
