"""/v1/batches (https://platform.openai.com/docs/api-reference/batch)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from embedding_assets.sandbox.answers import answer, json_body, number
from embedding_assets.sandbox.contents import new_id
from embedding_assets.sandbox.input_file import ENDPOINT
from embedding_assets.sandbox.limits import MAX_METADATA_KEY, MAX_METADATA_PAIRS, MAX_METADATA_VALUE
from embedding_assets.sandbox.problems import ApiError, batch_not_found
from embedding_assets.sandbox.service import Service
from embedding_assets.sandbox.state import CANCELLABLE, BatchRecord
from embedding_assets.sandbox.wire import batch_object, listing

_WINDOW = "24h"
_WINDOW_SECONDS = 24 * 3600
_FIELDS = frozenset({"input_file_id", "endpoint", "completion_window", "metadata"})


class BatchRoutes:
    """The batches of the service. Creating one only notes it: the worker checks and executes it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        """Create a batch."""
        body = await json_body(request)
        return answer(batch_object(await run_in_threadpool(self._create, body)))

    def _create(self, body: dict[str, Any]) -> BatchRecord:
        for name in body:
            if name not in _FIELDS:
                raise ApiError(400, f"The parameter '{name}' is not supported by this service.", param=name)
        if body.get("endpoint") != ENDPOINT:
            message = f"Invalid endpoint {body.get('endpoint')!r}: this service executes batches on {ENDPOINT} only."
            raise ApiError(400, message, param="endpoint", code="invalid_value")
        if body.get("completion_window") != _WINDOW:
            message = f"Invalid completion_window {body.get('completion_window')!r}: only '{_WINDOW}' is supported."
            raise ApiError(400, message, param="completion_window", code="invalid_value")
        file_id = body.get("input_file_id")
        file = self._service.index.file(file_id) if isinstance(file_id, str) else None
        if file is None:
            raise ApiError(400, f"No such File object: {file_id}", param="input_file_id")
        if file.purpose != "batch":
            message = f"The file's purpose is '{file.purpose}'; the input of a batch must be uploaded for 'batch'."
            raise ApiError(400, message, param="input_file_id")
        metadata = _metadata(body.get("metadata"))
        fault = self._service.faults.for_batch(metadata or {}, file.filename)
        now = int(time.time())
        record = BatchRecord(
            id=new_id("" if fault.bare_id else "batch_"),
            created_at=now,
            input_file_id=file.id,
            endpoint=ENDPOINT,
            completion_window=_WINDOW,
            expires_at=now + _WINDOW_SECONDS,
            metadata=metadata,
            fault=fault,
        )
        self._service.index.add_batch(record)
        self._service.worker.nudge()
        return record

    def list(self, request: Request) -> Response:
        """List the batches, newest first."""
        limit = number(request, "limit", 20, 1, 100)
        after = request.query_params.get("after")
        page = self._service.index.page(limit, after)
        if page is None:
            raise batch_not_found(str(after))
        return answer(listing([batch_object(record) for record in page.batches], has_more=page.has_more))

    def get(self, request: Request) -> Response:
        """One batch."""
        return answer(batch_object(self._batch(request)))

    def cancel(self, request: Request) -> Response:
        """Cancel a batch: it is `cancelling` until the worker has written what was finished."""
        batch = self._batch(request)
        now = int(time.time())

        def begin(record: BatchRecord) -> BatchRecord:
            if record.status not in CANCELLABLE:
                return record
            return replace(record, status="cancelling", cancelling_at=now)

        after = self._service.index.change_batch(batch.id, begin)
        if after.ended:
            raise ApiError(409, f"Cannot cancel a batch with status '{after.status}'.")
        self._service.worker.nudge()
        return answer(batch_object(after))

    def _batch(self, request: Request) -> BatchRecord:
        batch_id = request.path_params["batch_id"]
        record = self._service.index.batch(batch_id)
        if record is None:
            raise batch_not_found(batch_id)
        return record


def _metadata(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ApiError(400, "Invalid 'metadata': expected an object.", param="metadata")
    if len(value) > MAX_METADATA_PAIRS:
        message = f"Invalid 'metadata': {len(value)} pairs, at most {MAX_METADATA_PAIRS} are allowed."
        raise ApiError(400, message, param="metadata")
    for key, text in value.items():
        if len(key) > MAX_METADATA_KEY:
            raise ApiError(400, f"Invalid 'metadata': a key is longer than {MAX_METADATA_KEY}.", param="metadata")
        if not isinstance(text, str) or len(text) > MAX_METADATA_VALUE:
            message = f"Invalid 'metadata.{key}': expected a string of at most {MAX_METADATA_VALUE} characters."
            raise ApiError(400, message, param=f"metadata.{key}")
    return value
