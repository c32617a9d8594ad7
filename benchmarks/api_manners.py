"""How a batch service misbehaves: by batch (`Manner`), by request over HTTP (`Door`), and as a whole (`Habits`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FOR_EVER = float("inf")

# What becomes of one answered line. The first three are right, though odd; the others give no vector of use.
LineForm = Literal[
    "right",
    "body_as_string",
    "status_as_text",
    "numbers",
    "twice",
    "also_refused",
    "contradicts",
    "lost",
    "nan",
    "zero",
    "short",
    "broken",
    "no_data",
    "error_500",
    "error_429",
    "rate_limit",
    "no_status",
    "invalid",
    "quota",
    "billing",
]
ODD_BUT_RIGHT = frozenset({"right", "body_as_string", "status_as_text", "numbers", "twice", "also_refused"})
# These fail before a vector is made, so that nothing is paid.
UNPAID = frozenset({"error_500", "error_429", "rate_limit", "no_status", "invalid", "quota", "billing"})


@dataclass(frozen=True)
class Manner:
    """How one batch fares. Times are in hours of the moved clock, counted from the batch's end unless said otherwise.

    Attributes:
        hours: from its creation to its end; FOR_EVER: it never ends.
        status: what it shows until then.
        outcome: how it ends, and with what `problem` (code, message).
        share: the part of its lines, in input order, that is answered.
        output_id_after, error_id_after: when the batch names the file; FOR_EVER: never, though there are lines.
        output_after, error_after: until then the file answers 404.
        short_until, short: until then a download of the output ends early, in this way.
        gone_after: from then on the output file answers 404.
        unlisted_from, unlisted_until: while the list leaves the batch out; from its creation.
        unknown_from, unknown_until: while asking for it answers 404; from its creation.
        counts: what `request_counts` say.
        error_file: `empty` names a file without lines.
        forms: what becomes of a line, by its position; `form` for the others.
        file: how the output file is written.
        model: the model that the answers name; None: the one that was asked for.
        stray: so many answers to custom_ids that nobody asked for.
        on_cancel: what a cancelled batch leaves: `nothing`, or the `half` that was done.
    """

    hours: float = 0.3
    status: str = "in_progress"
    outcome: str = "completed"
    problem: tuple[str, str] | None = None
    share: float = 1.0
    output_id_after: float = 0.0
    output_after: float = 0.0
    error_id_after: float = 0.0
    error_after: float = 0.0
    short_until: float = 0.0
    short: Literal["chunked", "length", "closed", "middle"] = "chunked"
    gone_after: float = FOR_EVER
    unlisted_from: float = FOR_EVER
    unlisted_until: float = FOR_EVER
    unknown_from: float = FOR_EVER
    unknown_until: float = FOR_EVER
    counts: Literal["right", "off", "absent", "none", "zero", "high", "text"] = "right"
    error_file: Literal["right", "empty"] = "right"
    form: LineForm = "right"
    forms: Mapping[int, LineForm] = field(default_factory=dict)
    file: Literal["plain", "bom", "crlf", "blank", "reversed", "garbage", "one_long_line"] = "plain"
    model: str | None = None
    stray: int = 0
    on_cancel: Literal["nothing", "half"] = "nothing"

    def form_of(self, position: int) -> LineForm:
        """What becomes of the line at a position."""
        return self.forms.get(position, self.form)


@dataclass(frozen=True)
class Door:
    """What goes wrong with requests over HTTP.

    Attributes:
        method, path: which; a path ends so.
        answer: a status with an error of `code`; `drop`: closed without an answer; `done`: done first, and then closed
            without an answer; `page`: a page of HTML.
        times: how often, None: always until `until`.
        since, until: hours from the case's beginning.
        retry_after: the header, in seconds.
    """

    method: str
    path: str
    answer: int | Literal["drop", "done", "page"]
    code: str = "server_error"
    times: int | None = None
    since: float = 0.0
    until: float = FOR_EVER
    retry_after: str = ""


@dataclass(frozen=True)
class Habits:
    """How a service as a whole behaves.

    Attributes:
        manners: of the first batches in the order of their creation; `manner` of the others.
        doors: what goes wrong over HTTP; the first that fits holds.
        cursor: what the list does with `after`: `right`; `restarts` with the first page; `repeats` the page for ever.
        page: the most that the list gives at once.
        list_lag: hours until the list shows a batch.
        oldest_first: the order of the list.
        empty_at: the server is started anew with an empty folder, in hours from the case's beginning.
        model: the model that its vectors name, in batches and beside them; None: the one that was asked for.
        bare_ids: ids do not begin with `batch_`.
    """

    manners: tuple[Manner, ...] = ()
    manner: Manner = Manner()
    doors: tuple[Door, ...] = ()
    cursor: Literal["right", "restarts"] = "right"
    page: int = 100
    list_lag: float = 0.0
    oldest_first: bool = False
    empty_at: float = FOR_EVER
    model: str | None = None
    bare_ids: bool = False
