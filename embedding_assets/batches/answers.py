"""What the API says about batches and vectors, with types made sure of: servers differ, and nothing checks them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from embedding_assets.batches.refusals import TOKEN_LIMIT, limit_in
from embedding_assets.records import Vectors

ENDPOINT: Final = "/v1/embeddings"

TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
ACTIVE = frozenset({"validating", "in_progress", "finalizing", "cancelling"})

WINDOW_SECONDS = 24 * 3600
# What has not ended so long after it should have is late, and a person is told.
GRACE_SECONDS = 24 * 3600
_LONGEST_WINDOW = 366 * 86_400


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """One entry of a failed batch's `errors`."""

    code: str
    message: str


@dataclass(frozen=True)
class ApiBatch:
    """A batch as the API shows it, with every field of a known type whatever the server sent.

    Attributes:
        created_at: seconds since 1970.
        requests: how many requests the API counts, (total, completed, failed).
        tokens: tokens used, where the server says so.
        ended_at: seconds since 1970; 0 where the server does not say.
        expires_at: when its window ends, seconds since 1970; 0 where the server does not say, or nothing that can be.
    """

    id: str
    status: str
    created_at: int
    endpoint: str = ENDPOINT
    input_file_id: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[BatchProblem, ...] = ()
    requests: tuple[int, int, int] = (0, 0, 0)
    tokens: int = 0
    ended_at: int = 0
    expires_at: int = 0

    @property
    def embeds(self) -> bool:
        """Whether it is on the embeddings endpoint."""
        return self.endpoint.endswith("/embeddings")

    @property
    def ended(self) -> bool:
        """Whether nothing about it changes any more. An unknown status is not terminal: better wait than lose."""
        return self.status in TERMINAL

    @property
    def status_known(self) -> bool:
        """Whether its status is one that OpenAI documents."""
        return self.status in TERMINAL or self.status in ACTIVE

    @property
    def limit(self) -> str:
        """The code of the limit for which it failed, which means later, not never; empty where it did not."""
        return limit_in(*(p.code for p in self.problems)) if self.status == "failed" else ""

    @property
    def token_limited(self) -> bool:
        """Whether it failed only because too many tokens were enqueued."""
        return self.limit == TOKEN_LIMIT

    @property
    def reason(self) -> str:
        """Why it failed, in the API's words; empty where it says nothing."""
        return "; ".join(f"{p.code}: {p.message}" if p.code else p.message for p in self.problems[:3])


def window_end(created_at: int, expires_at: int) -> int:
    """When a batch should have ended, in seconds since 1970; `expires_at` as the server says it, or 0."""
    return expires_at or created_at + WINDOW_SECONDS


def vector_of(value: Any) -> Vectors:
    """A vector from either form the API gives: base64 of little-endian float32, or a list of numbers.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        try:
            raw = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("the embedding is no base64") from None
        if len(raw) % 4:
            raise ValueError(f"the embedding has {len(raw)} bytes, which is no number of float32")
        return np.frombuffer(raw, dtype="<f4").astype(np.float32, copy=False)
    if isinstance(value, list) and value:
        try:
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is rejected by name
                # None stands for NaN in what some servers write.
                return np.array([np.nan if x is None else x for x in value], dtype=np.float64).astype(np.float32)
        except (TypeError, ValueError):
            raise ValueError("the embedding holds something that is no number") from None
    raise ValueError("there is no embedding")


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _fields(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def batch_of(raw: Any) -> ApiBatch:
    """What a server sent as a batch, with types made sure of."""
    fields = _fields(raw)
    counts, usage, errors = (_fields(fields.get(name)) for name in ("request_counts", "usage", "errors"))
    listed = errors.get("data")
    created, expires = _number(fields.get("created_at")), _number(fields.get("expires_at"))
    return ApiBatch(
        id=str(fields.get("id") or ""),
        status=str(fields.get("status") or "unknown"),
        created_at=created,
        endpoint=str(fields.get("endpoint") or ENDPOINT),
        input_file_id=str(fields.get("input_file_id") or ""),
        output_file_id=fields.get("output_file_id") or None,
        error_file_id=fields.get("error_file_id") or None,
        metadata={str(k): str(v) for k, v in _fields(fields.get("metadata")).items()},
        problems=tuple(
            BatchProblem(str(_fields(e).get("code") or ""), str(_fields(e).get("message") or ""))
            for e in (listed if isinstance(listed, list) else ())
        ),
        requests=(_number(counts.get("total")), _number(counts.get("completed")), _number(counts.get("failed"))),
        tokens=_number(usage.get("total_tokens")),
        ended_at=max(_number(fields.get(f"{status}_at")) for status in TERMINAL),
        # Some servers give milliseconds, or a text.
        expires_at=expires if created < expires <= created + _LONGEST_WINDOW else 0,
    )
