"""What the service remembers: its files and its batches."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import TypeAdapter

from embedding_assets.sandbox.faults import BatchFault

TERMINAL = frozenset({"failed", "completed", "expired", "cancelled"})
"""The statuses a batch never leaves (https://platform.openai.com/docs/guides/batch)."""

CANCELLABLE = frozenset({"validating", "in_progress", "finalizing"})


@dataclass(frozen=True)
class FileRecord:
    """A file, uploaded or written by a batch; `gone` files are listed but have no content any more."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    gone: bool = False


@dataclass(frozen=True)
class InputProblem:
    """Why an input file was not accepted: an entry of a failed batch's `errors`."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True)
class BatchRecord:
    """A batch, as the API shows it, with the fault that it was created under."""

    id: str
    created_at: int
    input_file_id: str
    endpoint: str
    completion_window: str
    expires_at: int
    metadata: dict[str, str] | None = None
    status: str = "validating"
    errors: tuple[InputProblem, ...] = ()
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    model: str | None = None
    enqueued_tokens: int = 0
    used_tokens: int = 0
    due: float = 0.0
    """When its requests are executed, as a Unix time; later than `in_progress_at` for a batch that takes its time."""
    fault: BatchFault = field(default_factory=BatchFault)

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in TERMINAL


FILE_JSON: TypeAdapter[FileRecord] = TypeAdapter(FileRecord)
BATCH_JSON: TypeAdapter[BatchRecord] = TypeAdapter(BatchRecord)
