"""The limits that stop a request to the API, and what is read of the official client's errors."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

import openai

from embedding_assets.errors import ApiUnavailableError, without_secrets

_KEYS = re.compile(r"\b(sk|key|sess)-[A-Za-z0-9_*-]{3,}")


class LimitError(ApiUnavailableError):
    """A limit of the account is met: that means later, not never. What met it certainly did not happen."""


class TokenLimitError(LimitError):
    """The organisation's limit of enqueued tokens is met; it goes away as batches finish."""


class QuotaError(LimitError):
    """The account's quota or billing limit is met; it goes away when somebody pays, or as time passes."""


def masked(error: Exception, key: str) -> str:
    """The server's message without anything that could be a key."""
    text = str(getattr(error, "message", "") or error or type(error).__name__)
    body = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        text = body["message"]
    if key:
        text = text.replace(key, "***")
    return _KEYS.sub(r"\1-***", without_secrets(" ".join(text.split())))[:300].rstrip(".")


def retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds, from either form of the header (RFC 9110, section 10.2.3)."""
    said = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None
