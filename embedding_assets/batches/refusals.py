"""What the API's refusals mean: the one table of their codes. Later (a limit), never (permanent), or perhaps."""

from __future__ import annotations

from typing import Any, Final

TOKEN_LIMIT: Final = "token_limit_exceeded"  # noqa: S105 - no password; of enqueued tokens; it goes away as batches finish

# The account's quota or billing limit is met: nothing about the records, and it ends when somebody pays or waits.
ACCOUNT_LIMITS: Final = frozenset(
    {
        "billing_hard_limit_reached",
        "billing_limit_reached",
        "billing_not_active",
        "insufficient_quota",
        "quota_exceeded",
    }
)
# Too many requests for now.
RATE_LIMITS: Final = frozenset({"rate_limit_exceeded", "http_429"})
# Whatever meets one of these was not refused for what it is: it uses up no attempt.
LIMITS: Final = ACCOUNT_LIMITS | RATE_LIMITS | {TOKEN_LIMIT}

# What a server says of the request itself, as a code or as a type: asking again changes nothing.
_PERMANENT: Final = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "context_length_exceeded",
        "invalid_prompt",
        "invalid_request_error",
        "string_above_max_length",
        "unsupported_value",
    }
)
_TRANSIENT: Final = frozenset({"batch_cancelled", "batch_expired", "server_error", "timeout"})
# Statuses below 500 that say nothing about the request: asking again may well succeed.
_TRANSIENT_STATUSES: Final = frozenset({401, 402, 403, 408, 409, 425, 429})

# Seconds between what came back and the next turn of the same records, after the first turn, the second, ... What
# expired is asked for again at once; what fails a second time has time.
_PAUSES: Final = (0.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 24 * 3600.0)
_LONGEST_LIMITED: Final = 4 * 3600.0

# Stands for whatever limit of the account a server names.
QUOTA: Final = "quota_exceeded"
ACCOUNT_LIMIT_MET: Final = "the API account's quota or billing limit is met"


def pause_after(attempt: int, code: str = "") -> float:
    """Seconds to wait before records are asked again whose turn with this number, from 1, was in vain.

    Args:
        code: why it was. A limit of the account may be lifted at any time, and such turns are free: they wait less.
    """
    pause = _PAUSES[min(max(attempt, 1), len(_PAUSES)) - 1]
    return min(pause, _LONGEST_LIMITED) if code in LIMITS else pause


def status_of(value: Any) -> int | None:
    """An HTTP status as a number, whether it came as one or as its text; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() and 100 <= number < 600 else None


def limit_in(*said: str) -> str:
    """The first of some codes and types that names a limit; empty where none does."""
    return next((word for word in said if word in LIMITS), "")


def code_of(code: str, kind: str, status: int | None) -> str:
    """The one code that stands for a refusal.

    Args:
        code, kind: the server's `code` and `type`; empty where it gives none.
        status: the HTTP status, if there is one.
    """
    if limit := limit_in(code, kind):
        return limit
    if status == 429:
        return "http_429"
    return code or (f"http_{status}" if status is not None else "error")


def may_succeed_later(code: str, kind: str, status: int | None) -> bool:
    """Whether asking again may help. Unknown trouble is tried again rather than given up.

    Args:
        code, kind: the server's `code` and `type`; empty where it gives none.
        status: the HTTP status, if there is one.
    """
    if limit_in(code, kind) or code in _TRANSIENT:
        return True
    if status is not None and status >= 500:
        return True
    if status is not None and status in _TRANSIENT_STATUSES:
        return True
    if code in _PERMANENT or kind in _PERMANENT:
        return False
    return not (status is not None and 400 <= status < 500)
