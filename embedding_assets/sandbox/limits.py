"""The limits that the service keeps."""

from __future__ import annotations

from dataclasses import dataclass

MAX_INPUTS_PER_REQUEST = 2048
"""Texts in one request's `input` (API reference, Create embeddings)."""

MAX_TOKENS_PER_INPUT = 8192
"""Tokens in one text (API reference, Create embeddings)."""

MAX_TOKENS_PER_REQUEST = 300_000
"""Tokens in all texts of one request together (API reference, Create embeddings)."""

MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512
"""Metadata of a batch (API reference, Create batch)."""


@dataclass(frozen=True)
class Limits:
    """What one batch may hold; the defaults are OpenAI's (API reference, Create batch).

    They can be set lower, so that a test can meet a limit without writing 200 MB.
    """

    requests: int = 50_000
    file_bytes: int = 200 * 1024 * 1024
    embedding_inputs: int = 50_000
    enqueued_tokens: int | None = None
    """Tokens that all unfinished batches may hold together; OpenAI's depends on the organisation, so no default."""
