"""The life of one batch: validated, executed, finalized; cut short when it expires or is cancelled."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedding_assets.sandbox.contents import Contents, new_id
from embedding_assets.sandbox.embeddings import EmbeddingRequest, answer_all, read_request
from embedding_assets.sandbox.index import Index
from embedding_assets.sandbox.input_file import Checked, Span, check, find_lines, read_lines
from embedding_assets.sandbox.limits import Limits
from embedding_assets.sandbox.model import Model
from embedding_assets.sandbox.problems import ApiError
from embedding_assets.sandbox.result_file import ResultFile, not_executed, refused, responded
from embedding_assets.sandbox.state import BatchRecord, FileRecord, InputProblem

_LINES_AT_ONCE = 1000
_BYTES_AT_ONCE = 2 * 1024 * 1024

_NOT_EXECUTED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}


class Stopped(Exception):
    """The service is going down; the batch stays as it is and is taken up again at the next start."""


@dataclass(frozen=True)
class Execution:
    """How a batch was executed: how it ends, and what it counted."""

    outcome: str
    completed: int
    failed: int
    tokens: int


class Executor:
    """Takes a batch from one status to the next; every step can be repeated, so a kill at any moment does no harm."""

    def __init__(
        self,
        *,
        index: Index,
        contents: Contents,
        model: Model,
        limits: Limits,
        delay: float,
        stopping: Callable[[], bool],
    ) -> None:
        self._index = index
        self._contents = contents
        self._model = model
        self._limits = limits
        self._delay = delay
        self._stopping = stopping
        self._admission = threading.Lock()

    def validate(self, batch: BatchRecord) -> None:
        """Check the input file: the batch is in progress then, or has failed."""
        fault = batch.fault
        if fault.outcome == "failed":
            self.fail(batch.id, (InputProblem(fault.code, fault.message),))
            return
        path = self._contents.path(batch.input_file_id)
        try:
            checked = check(path, self._limits, self._model if self._limits.enqueued_tokens is not None else None)
        except FileNotFoundError:
            self.fail(batch.id, (InputProblem("file_not_found", "The input file was deleted.", param="input_file_id"),))
            return
        with self._admission:  # or two batches would each find room for itself alone
            problems = checked.problems or self._over_limit(batch.id, checked.tokens)
            if problems:
                self.fail(batch.id, problems)
            else:
                self._begin(batch, checked)

    def _begin(self, batch: BatchRecord, checked: Checked) -> None:
        def begin(now: BatchRecord) -> BatchRecord:
            if now.status != "validating":  # cancelled meanwhile
                return now
            at = time.time()
            return replace(
                now,
                status="in_progress",
                in_progress_at=int(at),
                due=at + (self._delay if batch.fault.seconds is None else batch.fault.seconds),
                total=checked.requests,
                model=checked.model,
                enqueued_tokens=checked.tokens,
            )

        self._index.change_batch(batch.id, begin)

    def _over_limit(self, batch_id: str, tokens: int) -> tuple[InputProblem, ...]:
        limit = self._limits.enqueued_tokens
        if limit is None:
            return ()
        enqueued = sum(other.enqueued_tokens for other in self._index.unfinished() if other.id != batch_id)
        if enqueued + tokens <= limit:
            return ()
        message = (
            f"Enqueued token limit reached. Limit: {limit:,} enqueued tokens. "
            "Please try again once some in_progress batches have been completed."
        )
        return (InputProblem("token_limit_exceeded", message),)

    def fail(self, batch_id: str, problems: tuple[InputProblem, ...]) -> None:
        """End a batch whose requests cannot be executed."""
        now = int(time.time())

        def fail(batch: BatchRecord) -> BatchRecord:
            if batch.status == "cancelling":
                return replace(batch, status="cancelled", cancelled_at=now)
            return replace(batch, status="failed", failed_at=now, errors=problems)

        self._index.change_batch(batch_id, fail)

    def execute(self, batch: BatchRecord) -> None:
        """Execute the requests, and finish with what became of them."""
        if batch.in_progress_at is None:  # cancelled before its file was checked
            self._index.change_batch(
                batch.id, lambda each: replace(each, status="cancelled", cancelled_at=int(time.time()))
            )
            return
        path = self._contents.path(batch.input_file_id)
        try:
            spans = find_lines(path)
        except FileNotFoundError:
            self.fail(batch.id, (InputProblem("file_not_found", "The input file was deleted.", param="input_file_id"),))
            return
        drafts = (self._contents.draft(), self._contents.draft())
        try:
            with ResultFile(drafts[0], batch.fault.lines) as output, ResultFile(drafts[1]) as errors:
                done = self._answer(batch, path, spans, output, errors)
            self._finish(batch, done, output, errors)
        finally:
            for draft in drafts:
                draft.unlink(missing_ok=True)

    def _answer(
        self, batch: BatchRecord, path: Path, spans: list[Span], output: ResultFile, errors: ResultFile
    ) -> Execution:
        """Answer as many lines as the fault and the clock allow, in an order of their own; say of the rest why not."""
        most = _most(batch, len(spans))
        chosen = list(range(most))
        if batch.fault.shuffle:
            random.Random(batch.fault.seed).shuffle(chosen)  # noqa: S311 - an order to test against, no secret
        started, completed, tokens = 0, 0, 0
        outcome = _outcome(batch)
        for group in _groups(read_lines(path, [spans[each] for each in chosen])):
            status = self._interrupted(batch, started, completed)
            if status is not None:
                outcome = status
                break
            started += len(group)
            for custom_id, answer in self._answer_group(group):
                if isinstance(answer, ApiError):
                    errors.write(refused(custom_id, answer))
                else:
                    output.write(responded(custom_id, 200, answer))
                    completed += 1
                    tokens += answer["usage"]["total_tokens"]
        failed = errors.lines
        rest = sorted([*chosen[started:], *range(most, len(spans))])
        for _, line in read_lines(path, [spans[each] for each in rest]):
            if outcome is None:
                errors.write(refused(line["custom_id"], _server_error()))
                failed += 1
            else:
                errors.write(not_executed(line["custom_id"], *_NOT_EXECUTED[outcome]))
        return Execution(outcome or "completed", completed, failed, tokens)

    def _answer_group(self, group: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any] | ApiError]]:
        answers: dict[str, dict[str, Any] | ApiError] = {}
        good: list[tuple[str, EmbeddingRequest]] = []
        for line in group:
            try:
                good.append((line["custom_id"], read_request(line["body"])))
            except ApiError as error:
                answers[line["custom_id"]] = error
        if good:
            bodies = answer_all([request for _, request in good], self._model)
            answers.update(zip((custom_id for custom_id, _ in good), bodies, strict=True))
        return [(line["custom_id"], answers[line["custom_id"]]) for line in group]

    def _interrupted(self, batch: BatchRecord, started: int, completed: int) -> str | None:
        """Note how far the batch is; answer the outcome that cuts it short, if any."""
        if self._stopping():
            raise Stopped
        if time.time() >= batch.expires_at:
            return "expired"
        noted = self._index.change_batch(
            batch.id, lambda now: replace(now, completed=completed, failed=started - completed)
        )
        return "cancelled" if noted.status == "cancelling" and batch.status != "cancelling" else None

    def _finish(self, batch: BatchRecord, done: Execution, output: ResultFile, errors: ResultFile) -> None:
        now = int(time.time())
        self._index.change_batch(
            batch.id,
            lambda each: replace(
                each, status="finalizing" if each.status == "in_progress" else each.status, finalizing_at=now
            ),
        )
        files = [
            self._keep(batch, output, "output", batch.fault.output_file),
            self._keep(batch, errors, "error", batch.fault.error_file),
        ]
        output_id, error_id = (None if file is None else file.id for file in files)

        def end(each: BatchRecord) -> BatchRecord:
            ended = int(time.time())
            outcome = "cancelled" if each.status == "cancelling" else done.outcome
            cancelling_at = each.cancelling_at or (ended if outcome == "cancelled" else None)
            return replace(
                each,
                status=outcome,
                completed_at=ended if outcome == "completed" else None,
                expired_at=ended if outcome == "expired" else None,
                cancelled_at=ended if outcome == "cancelled" else None,
                cancelling_at=cancelling_at,
                output_file_id=output_id,
                error_file_id=error_id,
                completed=done.completed,
                failed=done.failed,
                used_tokens=done.tokens,
            )

        self._index.change_batch(batch.id, end, [file for file in files if file is not None])

    def _keep(self, batch: BatchRecord, written: ResultFile, kind: str, fault: str | None) -> FileRecord | None:
        if fault == "missing" or (written.lines == 0 and fault is None):
            return None
        if fault == "empty":
            written.path.write_bytes(b"")
        file_id = new_id("file-")
        size = self._contents.keep(written.path, file_id)
        if fault == "gone":
            self._contents.discard(file_id)
        name = f"{batch.id}_{kind}.jsonl"
        return FileRecord(file_id, size, int(time.time()), name, "batch_output", gone=fault == "gone")


def _outcome(batch: BatchRecord) -> str | None:
    """What cuts the batch short, as far as it is known before the first request is executed."""
    if batch.status == "cancelling":
        return "cancelled"
    if batch.fault.outcome is not None:
        return batch.fault.outcome
    return "expired" if time.time() >= batch.expires_at else None


def _most(batch: BatchRecord, lines: int) -> int:
    """How many requests are executed at most.

    A batch that takes its time is thought to execute its requests evenly, so one that is cancelled while it waits has
    done a part of them.
    """
    fault = batch.fault
    if fault.finished is not None:
        return min(fault.finished, lines)
    if fault.outcome in _NOT_EXECUTED:
        return lines // 2
    if batch.status == "cancelling" and batch.in_progress_at is not None and batch.cancelling_at is not None:
        planned = batch.due - batch.in_progress_at
        passed = batch.cancelling_at - batch.in_progress_at
        return min(lines, int(lines * passed / planned)) if planned > 0 else lines
    return lines


def _server_error() -> ApiError:
    message = "The server had an error while processing your request."
    return ApiError(500, message, type_="server_error", code="server_error")


def _groups(lines: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Lines in groups that fit into memory whatever their size."""
    group: list[dict[str, Any]] = []
    size = 0
    for length, line in lines:
        group.append(line)
        size += length
        if len(group) >= _LINES_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield group
            group, size = [], 0
    if group:
        yield group
