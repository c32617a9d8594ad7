"""The objects of the API as JSON, with every field that the official client knows, set or null.

The forms are those of https://platform.openai.com/docs/api-reference/batch/object and /files/object.
"""

from __future__ import annotations

from typing import Any

from embedding_assets.sandbox.model import MODEL_CREATED, MODEL_ID
from embedding_assets.sandbox.state import BatchRecord, FileRecord

Json = dict[str, Any]


def file_object(record: FileRecord) -> Json:
    """A file."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.bytes,
        "created_at": record.created_at,
        "expires_at": None,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_object(record: BatchRecord) -> Json:
    """A batch; an unfinished one under a `status` fault shows that instead of its own."""
    shown = record.fault.status if record.fault.status is not None and not record.ended else record.status
    problems = [
        {"code": each.code, "line": each.line, "message": each.message, "param": each.param} for each in record.errors
    ]
    return {
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": record.model,
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": record.input_file_id,
        "completion_window": record.completion_window,
        "status": shown,
        "output_file_id": record.output_file_id,
        "error_file_id": record.error_file_id,
        "created_at": record.created_at,
        "in_progress_at": record.in_progress_at,
        "expires_at": record.expires_at,
        "finalizing_at": record.finalizing_at,
        "completed_at": record.completed_at,
        "failed_at": record.failed_at,
        "expired_at": record.expired_at,
        "cancelling_at": record.cancelling_at,
        "cancelled_at": record.cancelled_at,
        "request_counts": {"total": record.total, "completed": record.completed, "failed": record.failed},
        "usage": {
            "input_tokens": record.used_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": record.used_tokens,
        },
        "metadata": record.metadata,
    }


def model_object() -> Json:
    """The one model."""
    return {
        "id": MODEL_ID,
        "object": "model",
        "created": MODEL_CREATED,
        "owned_by": "sandbox",
        "shutdown_date": None,
    }


def listing(items: list[Json], *, has_more: bool) -> Json:
    """A page of a list (https://platform.openai.com/docs/api-reference/batch/list)."""
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }
