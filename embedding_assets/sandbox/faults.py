"""The rules by which the service misbehaves on request.

The failures are those that OpenAI and servers compatible with it have shown: a client that has not met them all will
meet them in production.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

_FORBID = ConfigDict(extra="forbid")
Times = Annotated[int, Field(ge=1)] | None
Count = Annotated[int, Field(ge=0)]

LineDamage = Literal[
    "lost",
    "broken_json",
    "wrong_dimension",
    "nan",
    "zero_vector",
    "repeated_custom_id",
    "unknown_custom_id",
    "not_200",
    "body_as_string",
]


@dataclass(frozen=True, config=_FORBID)
class LineFault:
    """Damage to lines of an output file: to the first `count` that are written, or to those of `custom_ids`.

    `lost` leaves the line out and says nothing; `repeated_custom_id` writes it twice; `not_200` leaves a failed
    response in the output file where only good ones belong; `body_as_string` gives `response.body` as a string of
    JSON.
    """

    damage: LineDamage
    count: Count = 1
    custom_ids: tuple[str, ...] = ()


@dataclass(frozen=True, config=_FORBID)
class BatchFault:
    """What goes wrong with a batch; decided when the batch is created and kept with it.

    It takes the first rule that matches: `metadata` is contained in the batch's metadata, `filename` (a pattern) fits
    the input file's name; the first `skip` matches go free, then it holds for `times` batches (None: for all).
    """

    on: Literal["batch"] = "batch"
    metadata: dict[str, str] = field(default_factory=dict)
    filename: str = "*"
    skip: Count = 0
    times: Times = 1

    seconds: Annotated[float, Field(ge=0)] | None = None
    """How long the batch stays in progress."""
    outcome: Literal["failed", "expired", "cancelled"] | None = None
    """How it ends; None: as the requests deserve. A batch fails when its file is checked, so `seconds` does not delay
    it."""
    code: str = "server_error"
    message: str = "The batch failed."
    """The error of a `failed` batch, for instance `token_limit_exceeded`."""
    finished: Count | None = None
    """How many requests, in input order, are executed; the others end as the outcome says, or with status 500 if it
    says nothing. None: half of them when it is expired or cancelled, else all."""
    status: str | None = None
    """A status to show while the batch is unfinished, such as `scheduling`."""
    bare_id: bool = False
    """Leave out the `batch_` that ids begin with."""
    shuffle: bool = True
    seed: int = 0
    """Output order is not input order; the seed makes it the same each time."""
    output_file: Literal["empty", "missing", "gone"] | None = None
    error_file: Literal["empty", "missing", "gone"] | None = None
    """`empty`: an id whose file has no line, whether there were errors or not; `missing`: no id although there are
    lines; `gone`: an id whose content answers 404."""
    lines: tuple[LineFault, ...] = ()


@dataclass(frozen=True, config=_FORBID)
class HttpFault:
    """What goes wrong with requests to `/v1` whose method and path fit the patterns (`*` fits anything, `/` included).

    `status` answers with that status instead of doing what was asked; `drop` closes the connection without an answer;
    `cut` closes it after `after_bytes` of the answer's body; `first_page` ignores the cursor, so that a list begins
    again. The first `skip` matches go free, then it holds for `times` requests (None: for all).
    """

    on: Literal["http"] = "http"
    method: str = "*"
    path: str = "*"
    skip: Count = 0
    times: Times = 1

    action: Literal["status", "drop", "cut", "first_page"] = "status"
    status: Annotated[int, Field(ge=400, le=599)] = 500
    retry_after: Annotated[float, Field(ge=0)] | None = None
    """The `Retry-After` header, in seconds."""
    after_bytes: Count = 0


Fault = BatchFault | HttpFault

RULE: TypeAdapter[Fault] = TypeAdapter(Annotated[Fault, Field(discriminator="on")])
"""Reads and writes a rule as JSON; unknown fields are refused, since a misspelt rule that does nothing hides a bug."""
