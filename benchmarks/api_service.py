"""A batch service in memory that misbehaves as it is told, with a ledger of what it was paid for and gave."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from api_manners import FOR_EVER, ODD_BUT_RIGHT, UNPAID, Habits, Manner

DIMENSIONS = 8
_ERRORS = {
    "error_500": (500, "server_error", "The server had an error."),
    "error_429": (429, "rate_limit_exceeded", "Rate limit reached."),
    "rate_limit": (429, "rate_limit_exceeded", "Rate limit reached for requests per minute."),
    "invalid": (400, "invalid_request_error", "The input is not valid."),
    "quota": (429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing."),
    "billing": (400, "billing_hard_limit_reached", "Billing hard limit has been reached."),
}


def vector(text: object, dimensions: int = DIMENSIONS) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The one vector of a text, or of an array of tokens: length 1, float32."""
    seed = hashlib.sha256(json.dumps(text).encode()).digest()
    made = np.random.default_rng(list(seed)).standard_normal(dimensions)
    return (made / np.linalg.norm(made)).astype(np.float32)


@dataclass
class Paid:
    """One input that the service made a vector of.

    Attributes:
        who: the deployment that pays, or `other` for another program.
        delivered: whether the vector was, or will be, there for whoever asks.
    """

    who: str
    batch: str
    custom_id: str
    text: Any
    delivered: bool


@dataclass
class Batch:
    """A batch; `ends` in seconds since 1970."""

    id: str
    who: str
    created: float
    manner: Manner
    input_file: str
    lines: list[dict[str, Any]]
    metadata: dict[str, str]
    endpoint: str
    ends: float
    status: str = ""
    output: str = ""
    errors: str = ""
    counts: tuple[int, int, int] = (0, 0, 0)


class Service:
    """The state behind the routes. Its time is the clock's, and nothing happens in between two looks at it."""

    def __init__(self, habits: Habits, clock: Callable[[], datetime]) -> None:
        self.habits, self._clock = habits, clock
        self.began = self.now
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Batch] = {}
        self.paid: list[Paid] = []
        self.cancels: list[tuple[str, str]] = []  # who, whose
        self.opened: dict[int, int] = {}  # how often a door was used
        self.emptied = False
        self.lock = threading.RLock()
        self.created = 0

    @property
    def now(self) -> float:
        return self._clock().timestamp()

    @property
    def hours(self) -> float:
        """Since the case began."""
        return (self.now - self.began) / 3600

    def upload(self, data: bytes) -> str:
        """Keep an input file; returns its id."""
        name = f"file-{len(self.files) + 1:04d}"
        self.files[name] = data
        return name

    def create(self, who: str, input_file: str, metadata: dict[str, str], endpoint: str = "/v1/embeddings") -> Batch:
        """Begin a batch."""
        manners = self.habits.manners
        manner = manners[self.created] if self.created < len(manners) else self.habits.manner
        self.created += 1
        name = f"{'' if self.habits.bare_ids else 'batch_'}{self.created:04d}"
        lines = [one for one in map(_json, self.files[input_file].lstrip(b"\xef\xbb\xbf").splitlines()) if one]
        ends = self.now + manner.hours * 3600
        made = Batch(name, who, self.now, manner, input_file, lines, metadata, endpoint, ends)
        made.counts = (len(lines), 0, 0)
        self.batches[name] = made
        return made

    def submit(
        self, lines: Iterable[dict[str, Any] | str], metadata: dict[str, str] | None = None, **how: Any
    ) -> Batch:
        """What another program does: upload and create."""
        texts = (one if isinstance(one, str) else json.dumps(one) for one in lines)
        return self.create("other", self.upload("\n".join(texts).encode()), metadata or {}, **how)

    def cancel(self, who: str, name: str) -> None:
        """Cancel a batch that has not ended."""
        batch = self.batches[name]
        self.cancels.append((who, batch.who))
        if not batch.status:
            half = batch.manner.on_cancel == "half"
            self._end(batch, "cancelled", len(batch.lines) // 2 if half else 0)

    def advance(self) -> None:
        """Let everything happen that is due."""
        if self.hours >= self.habits.empty_at and not self.emptied:
            self.emptied = True
            for batch in self.batches.values():
                self._forget(batch.id)
            self.files.clear()
            self.batches.clear()
        for batch in self.batches.values():
            if not batch.status and self.now >= batch.ends:
                self._end(batch, batch.manner.outcome, round(len(batch.lines) * batch.manner.share))

    def shown(self, batch: Batch) -> dict[str, Any]:
        """A batch as the API shows it."""
        manner, since = batch.manner, (self.now - batch.ends) / 3600
        ended = bool(batch.status)
        total, completed, failed = batch.counts
        counts: Any = {"total": total, "completed": completed, "failed": failed}
        odd: dict[str, Any] = {
            "off": {**counts, "completed": max(completed - 1, 0)},
            "none": None,
            "zero": {"total": 0, "completed": 0, "failed": 0},
            "high": {**counts, "total": total + 7, "completed": completed + 7},
            "text": {key: str(value) for key, value in counts.items()},
        }
        shown = {
            "id": batch.id,
            "object": "batch",
            "status": batch.status or manner.status,
            "endpoint": batch.endpoint,
            "created_at": int(batch.created),
            "expires_at": int(batch.created) + 86_400,
            "completion_window": "24h",
            f"{batch.status or 'in_progress'}_at": int(batch.ends) if ended else int(batch.created),
            "input_file_id": batch.input_file,
            "output_file_id": f"{batch.id}-out" if ended and batch.output and since >= manner.output_id_after else None,
            "error_file_id": f"{batch.id}-err"
            if ended and since >= manner.error_id_after and (batch.errors or manner.error_file == "empty")
            else None,
            "metadata": batch.metadata or None,
            "errors": {"data": [{"code": manner.problem[0], "message": manner.problem[1]}]}
            if ended and manner.problem and batch.status == "failed"
            else None,
            "request_counts": odd.get(manner.counts, counts) if ended else counts,
        }
        if manner.counts == "absent":
            del shown["request_counts"]
        return shown

    def content(self, name: str) -> tuple[bytes, str] | None:
        """A file's content and how its download ends: `whole`, or short in some way; None: 404."""
        if name in self.files:
            return self.files[name], "whole"
        batch = self.batches.get(name[:-4])
        if batch is None or not batch.status or name[-4:] not in ("-out", "-err"):
            return None
        manner, since = batch.manner, (self.now - batch.ends) / 3600
        if name.endswith("-err"):
            return (batch.errors.encode(), "whole") if since >= manner.error_after else None
        if since < manner.output_after or since >= manner.gone_after:
            return None
        return batch.output.encode(), manner.short if since < manner.short_until else "whole"

    def listed(self, after: str | None, limit: int) -> dict[str, Any]:
        """A page of the list."""
        order = sorted(self.batches.values(), key=lambda b: (b.created, b.id), reverse=not self.habits.oldest_first)
        there = [b for b in order if not self._away(b, b.manner.unlisted_from, b.manner.unlisted_until)]
        there = [b for b in there if self.now - b.created >= self.habits.list_lag * 3600]
        start = 0
        if after is not None and self.habits.cursor == "right":
            start = next((i for i, b in enumerate(there) if b.id == after), -1) + 1
        page = there[start : start + min(limit, self.habits.page)]
        more = self.habits.cursor == "restarts" or start + len(page) < len(there)
        return {"object": "list", "data": [self.shown(b) for b in page], "has_more": more}

    def known(self, name: str) -> Batch | None:
        """A batch by its id; None: 404."""
        batch = self.batches.get(name)
        if batch is None or self._away(batch, batch.manner.unknown_from, batch.manner.unknown_until):
            return None
        return batch

    def _away(self, batch: Batch, begin: float, end: float) -> bool:
        return begin <= (self.now - batch.created) / 3600 < end

    def _end(self, batch: Batch, status: str, answered: int) -> None:
        batch.status, batch.ends = status, self.now
        manner = batch.manner
        output: list[str] = []
        errors: list[str] = []
        answered = 0 if status == "failed" else answered
        for position, line in enumerate(batch.lines):
            if position >= answered:
                if status in ("expired", "cancelled"):
                    errors.append(_refused(line, None, f"batch_{status}", f"This request was not done: {status}."))
                continue
            form = manner.form_of(position)
            if form in UNPAID:
                code = None if form == "no_status" else form
                errors.append(
                    _refused(line, *(_ERRORS[code] if code else (None, "", "Internal trouble of the vendor")))
                )
                continue
            made = self._answer(batch, line, form)
            delivered = form in ODD_BUT_RIGHT and bool(made) and manner.model is None
            delivered &= max(manner.output_after, manner.output_id_after, manner.short_until) < FOR_EVER
            for text in _inputs(line):
                self.paid.append(Paid(batch.who, batch.id, str(line.get("custom_id")), text, delivered))
            output += made
            if form == "also_refused":
                errors.append(_refused(line, *_ERRORS["error_500"]))
        output += [
            _answered({"custom_id": f"nobody-{i}", "body": {"model": "m"}}, ["?"], "m") for i in range(manner.stray)
        ]
        batch.output, batch.errors = _written(output, manner.file), "".join(f"{one}\n" for one in errors)
        batch.counts = (len(batch.lines), answered - (len(errors) if status == "completed" else 0), len(errors))
        if manner.error_id_after == FOR_EVER:
            batch.errors = ""

    def _answer(self, batch: Batch, line: dict[str, Any], form: str) -> list[str]:
        model = batch.manner.model or self.habits.model or str(line.get("body", {}).get("model"))
        good = _answered(line, _inputs(line), model, form)
        if form == "lost":
            return []
        if form == "broken":
            return [good[: len(good) // 2]]
        if form == "contradicts":
            return [_answered(line, ["of something else"], model), good]
        return [good, good] if form == "twice" else [good]

    def _forget(self, name: str) -> None:
        for one in self.paid:
            one.delivered &= one.batch != name


def _json(line: bytes) -> dict[str, Any] | None:
    try:
        raw = json.loads(line)
    except ValueError:
        return None
    return raw if isinstance(raw, dict) else None


def _inputs(line: dict[str, Any]) -> list[Any]:
    given = line.get("body", {}).get("input")
    several = isinstance(given, list) and not all(isinstance(one, int) for one in given)
    return given if several else [given]


def _answered(line: dict[str, Any], texts: list[Any], model: str, form: str = "right") -> str:
    """A line of an output file."""
    body = line.get("body", {})
    dimensions = int(body.get("dimensions") or DIMENSIONS)
    data = []
    for index, text in enumerate(texts):
        made = vector(text, dimensions - (form == "short"))
        if form == "nan":
            made[0] = np.nan
        if form == "zero":
            made[:] = 0
        plain = form in ("numbers", "twice") or body.get("encoding_format") != "base64"
        listed = [None if np.isnan(x) else float(x) for x in made]
        data.append({"index": index, "embedding": listed if plain else base64.b64encode(made.tobytes()).decode()})
    said: Any = {
        "object": "list",
        "model": model,
        "data": [] if form == "no_data" else data,
        "usage": {"total_tokens": 1},
    }
    response = {
        "status_code": "200" if form == "status_as_text" else 200,
        "body": json.dumps(said) if form == "body_as_string" else said,
    }
    return json.dumps({"custom_id": line.get("custom_id"), "response": response, "error": None})


def _refused(line: dict[str, Any], status: int | None, code: str, message: str) -> str:
    """A line of an error file."""
    error = {"code": code, "message": message} if code else {"message": message}
    if status is None:
        return json.dumps({"custom_id": line.get("custom_id"), "response": None, "error": error})
    response = {"status_code": status, "body": {"error": error}}
    return json.dumps({"custom_id": line.get("custom_id"), "response": response, "error": None})


def _written(lines: list[str], how: str) -> str:
    if how == "reversed":
        lines = lines[::-1]
    if how == "garbage":
        lines = ["not JSON", "[]", "17", *lines, "{}"]
    end = {"crlf": "\r\n", "blank": "\n\n  \n"}.get(how, "\n")
    return ("\ufeff" if how == "bom" else "") + "".join(f"{one}{end}" for one in lines)
