"""/v1/files (https://platform.openai.com/docs/api-reference/files)."""

from __future__ import annotations

import shutil
import time
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from embedding_assets.sandbox.answers import answer, number
from embedding_assets.sandbox.contents import new_id
from embedding_assets.sandbox.problems import ApiError, file_not_found
from embedding_assets.sandbox.service import Service
from embedding_assets.sandbox.state import FileRecord
from embedding_assets.sandbox.wire import file_object, listing

_PURPOSE = "batch"
_FIELDS = frozenset({"file", "purpose"})
_MOST = 10_000


class FileRoutes:
    """The files of the service: what was uploaded, and what batches wrote."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        """Upload a file for a batch."""
        try:
            form = await request.form(max_files=1, max_fields=10)
        except HTTPException as error:
            raise ApiError(400, f"The form could not be read: {error.detail}") from error
        try:
            for name in form:
                if name not in _FIELDS:
                    raise ApiError(400, f"The parameter '{name}' is not supported by this service.", param=name)
            purpose, upload = form.get("purpose"), form.get("file")
            if purpose != _PURPOSE:
                message = f"Invalid purpose {purpose!r}: this service takes files for 'batch' only."
                raise ApiError(400, message, param="purpose")
            if not isinstance(upload, UploadFile):
                raise ApiError(400, "'file' is a required property.", param="file")
            most = self._service.settings.limits.file_bytes
            if upload.size is not None and upload.size > most:
                raise ApiError(
                    413, f"The file has {upload.size} bytes; a batch's may have at most {most}.", param="file"
                )
            record = await run_in_threadpool(self._keep, upload.file, upload.filename or "upload.jsonl")
        finally:
            await form.close()
        return answer(file_object(record))

    def _keep(self, source: IO[bytes], name: str) -> FileRecord:
        contents = self._service.contents
        draft = contents.draft()
        with draft.open("wb") as target:
            shutil.copyfileobj(source, target, 1024 * 1024)
        file_id = new_id("file-")
        record = FileRecord(file_id, contents.keep(draft, file_id), int(time.time()), name, _PURPOSE)
        self._service.index.add_file(record)
        return record

    def list(self, request: Request) -> Response:
        """List the files, newest first unless asked otherwise."""
        limit = number(request, "limit", _MOST, 1, _MOST)
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise ApiError(400, f"Invalid 'order' {order!r}: use 'asc' or 'desc'.", param="order")
        purpose = request.query_params.get("purpose")
        records = self._service.index.files()
        if order == "desc":
            records.reverse()
        after = request.query_params.get("after")
        if after is not None:
            ids = [record.id for record in records]
            if after not in ids:
                raise file_not_found(after)
            records = records[ids.index(after) + 1 :]
        if purpose is not None:
            records = [record for record in records if record.purpose == purpose]
        page = [file_object(record) for record in records[:limit]]
        return answer(listing(page, has_more=len(records) > limit))

    def get(self, request: Request) -> Response:
        """One file."""
        return answer(file_object(self._file(request)))

    def content(self, request: Request) -> Response:
        """The content of a file, streamed."""
        record = self._file(request)
        path = self._service.contents.path(record.id)
        if record.gone or not path.exists():
            raise file_not_found(record.id)
        return FileResponse(path, media_type="application/octet-stream")

    def delete(self, request: Request) -> Response:
        """Delete a file."""
        record = self._file(request)
        self._service.index.remove_file(record.id)
        self._service.contents.discard(record.id)
        return answer({"id": record.id, "object": "file", "deleted": True})

    def _file(self, request: Request) -> FileRecord:
        file_id = request.path_params["file_id"]
        record = self._service.index.file(file_id)
        if record is None:
            raise file_not_found(file_id)
        return record
