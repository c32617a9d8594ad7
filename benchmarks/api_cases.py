"""The cases of the matrix: each is a way to misbehave, and what must be true in the end all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from api_manners import FOR_EVER, Door, Habits, LineForm, Manner
from api_oracle import Expected
from api_service import Service
from api_world import TICKS, Deployment

RECORDS = 6
IDS = [f"id-{n}" for n in range(RECORDS)]
LINES: Mapping[str, Mapping[str, Any]] = {"lines": {}}
_ALL = (("POST", "/embeddings"), ("POST", "/files"), ("POST", "/batches"), ("GET", ""))
Prepare = Callable[[Service, Sequence[Deployment]], None]


@dataclass(frozen=True)
class Case:
    """One way to misbehave.

    Attributes:
        specs: what the collections declare beside the usual.
        deployments: their names; all have the same collections and documents.
        prepare: what happens before the first look, such as another program's batches; None: nothing.
        during: what happens at these hours of the moved clock.
        down: between these hours nothing looks, as where the daemon is stopped.
        documents: whether the deployments have documents of their own.
        expected: by deployment and collection, or by collection for all deployments.
        ticks: hours between the looks.
        variants: how else it is played; each is a case.
    """

    name: str
    habits: Habits = field(default_factory=Habits)
    specs: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: LINES)
    deployments: tuple[str, ...] = ("one",)
    prepare: Prepare | None = None
    during: Mapping[float, Prepare] = field(default_factory=dict)
    down: tuple[float, float] = (0.0, 0.0)
    documents: bool = True
    expected: Mapping[str, Expected] = field(default_factory=dict)
    ticks: Sequence[float] = TICKS
    variants: tuple[str, ...] = ("calm", "killed", "repaired")


def texts(collection: str) -> dict[str, str]:
    """The documents of a collection."""
    return {record_id: f"text of {record_id} of {collection}" for record_id in IDS}


def one(
    name: str, manner: Manner | None = None, *manners: Manner, expected: Expected | None = None, **more: Any
) -> Case:
    """A case in which the first batches misbehave, and all others do not."""
    first = () if manner is None else (manner, *manners)
    habits = Habits(manners=first, **{k: more.pop(k) for k in list(more) if k in Habits.__dataclass_fields__})
    return Case(name, habits, expected={"lines": expected} if expected else {}, **more)


def always(name: str, manner: Manner, expected: Expected | None = None, **more: Any) -> Case:
    """A case in which every batch misbehaves the same way."""
    return Case(name, Habits(manner=manner), expected={"lines": expected} if expected else {}, **more)


def late_cases() -> list[Case]:
    """Results that come late or short, and counts that are wrong."""
    made = []
    for hours in (0.4, 3, 30):
        made += [
            one(f"output named {hours} h late", Manner(output_id_after=hours)),
            one(f"output 404 for {hours} h", Manner(output_after=hours)),
            one(f"output short for {hours} h, chunked", Manner(short_until=hours, counts="right")),
        ]
    for counts in ("absent", "zero"):
        made.append(one(f"output named 3 h late, counts {counts}", Manner(output_id_after=3, counts=counts)))
        made.append(one(f"output 404 for 3 h, counts {counts}", Manner(output_after=3, counts=counts)))
        made.append(one(f"output torn for 3 h, counts {counts}", Manner(short_until=3, short="middle", counts=counts)))
    for outcome in ("expired", "cancelled"):
        half = Manner(outcome=outcome, share=0.5)
        made.append(one(f"half {outcome}, output named 3 h late", replace(half, output_id_after=3)))
        made.append(one(f"half {outcome}, output 404 for 3 h", replace(half, output_after=3)))
        made.append(one(f"half {outcome}, output short for 3 h", replace(half, short_until=3)))
    made.append(one("a batch of 23 h, output named 30 h late", Manner(hours=23, output_id_after=30)))
    for short in ("middle", "length", "closed"):
        made.append(one(f"output short for 3 h, {short}", Manner(short_until=3, short=short)))
    made.append(always("every output named 2 h late", Manner(output_id_after=2)))
    for counts in ("off", "absent", "none", "zero", "high", "text"):
        # Of counts that are always too high nothing tells when all has come: it is waited for, then taken as it is.
        made.append(always(f"counts {counts}", Manner(counts=counts), variants=("calm", "killed")))
        failing = Manner(counts=counts, forms={1: "rate_limit", 4: "error_500"})
        made.append(one(f"counts {counts}, lines fail", failing, variants=("calm",)))
    bad: dict[int, LineForm] = {0: "rate_limit", 3: "error_500"}
    made += [
        one("error file named never", Manner(forms=bad, error_id_after=FOR_EVER)),
        one("error file 404", Manner(forms=bad, error_after=FOR_EVER)),
        one("error file 3 h late", Manner(forms=bad, error_after=3)),
        one("error file named 3 h late", Manner(forms=bad, error_id_after=3)),
        always("error file empty", Manner(error_file="empty"), variants=("calm",)),
        one("output gone for ever", Manner(output_after=FOR_EVER)),
        one("output named never", Manner(output_id_after=FOR_EVER)),
        one("output short for ever", Manner(short_until=FOR_EVER)),
        one("output gone after a day", Manner(gone_after=24), variants=("calm", "repaired")),
    ]
    return made


def line_cases() -> list[Case]:
    """Lines and files that are odd, or of no use."""
    made = []
    forms: tuple[LineForm, ...] = ("body_as_string", "status_as_text", "numbers", "twice")
    for form in forms:
        made.append(always(f"lines {form}", Manner(form=form), variants=("calm",)))
    useless: tuple[LineForm, ...] = ("lost", "nan", "zero", "short", "broken", "no_data")
    made.append(always("lines also refused", Manner(form="also_refused"), variants=("calm",)))
    made.append(one("two lines answered twice, not the same", Manner(forms={1: "contradicts", 4: "contradicts"})))
    for form in useless:
        made.append(one(f"two lines {form}, once", Manner(forms={1: form, 4: form}), variants=("calm", "killed")))
    for form in ("nan", "zero", "short"):
        rejected = Expected(rejected=frozenset(IDS))
        made.append(always(f"lines {form}, always", Manner(form=form), rejected, variants=("calm",)))
    failing: tuple[LineForm, ...] = ("error_500", "error_429", "rate_limit", "no_status")
    for form in failing:
        made.append(one(f"two lines {form}, once", Manner(forms={0: form, 5: form})))
        made.append(one(f"all lines {form}, once", Manner(form=form), variants=("calm",)))
    made.append(always("a line invalid, always", Manner(forms={2: "invalid"}), Expected(rejected=frozenset({"id-2"}))))
    for file in ("bom", "crlf", "blank", "reversed", "garbage"):
        made.append(always(f"output file {file}", Manner(file=file), variants=("calm",)))
    made.append(always("answers to ids that nobody asked for", Manner(stray=3), variants=("calm",)))
    return made


def limit_cases() -> list[Case]:
    """Limits of every kind, within batches and over HTTP."""
    made = []
    for form in ("quota", "billing"):
        for hours in (2.0, 50.0):
            count = 4 if hours < 10 else 8
            manners = [Manner(form=form)] * count
            made.append(one(f"all lines {form}, {count} batches", *manners, variants=("calm", "killed")))
        made.append(one(f"two lines {form}, 5 batches", *[Manner(forms={0: form, 1: form})] * 5, variants=("calm",)))
    for code in ("insufficient_quota", "billing_hard_limit_reached", "token_limit_exceeded"):
        failed = Manner(outcome="failed", problem=(code, f"It says {code}."))
        made.append(one(f"5 batches fail with {code}", *[failed] * 5))
        for path in ("/embeddings", "/files", "/batches"):
            for status in (429, 400):
                door = Door("POST", path, status, code, until=30)
                where = path.strip("/")
                made.append(Case(f"{code} as {status} at {where} for 30 h", Habits(doors=(door,)), variants=("calm",)))
    for path in ("/embeddings", "/files", "/batches"):
        where = path.strip("/")
        limited = Door("POST", path, 429, "rate_limit_exceeded", until=3, retry_after="20")
        made.append(Case(f"429 with Retry-After at {where} for 3 h", Habits(doors=(limited,)), variants=("calm",)))
        down = Door("POST", path, 503, until=5)
        made.append(Case(f"503 at {where} for 5 h", Habits(doors=(down,)), variants=("calm",)))
        lost = Door("POST", path, "done", times=1)
        made.append(Case(f"answer lost at {where}", Habits(doors=(lost,))))
    for status, code in ((401, "invalid_api_key"), (403, "forbidden"), (429, "insufficient_quota")):
        doors = tuple(Door(method, path, status, code, until=10) for method, path in _ALL)
        made.append(Case(f"everything gives {status} for 10 h", Habits(doors=doors), variants=("calm",)))
        later = tuple(replace(door, since=0.1) for door in doors)
        made.append(Case(f"everything gives {status} from 0.1 h to 10 h", Habits(doors=later), variants=("calm",)))
    for path in ("/batches", "/content"):
        for answer in (500, "drop", "page"):
            door = Door("GET", path, answer, until=4)
            made.append(Case(f"GET {path} gives {answer} for 4 h", Habits(doors=(door,)), variants=("calm",)))
    slow = Manner(hours=3)
    twice = Habits(doors=(Door("POST", "/batches", "done", times=2),), list_lag=0.1, manner=slow)
    made.append(Case("answers lost at batches, and the list lags", twice, variants=("calm",)))
    return made


def end_cases() -> list[Case]:
    """Batches that end badly, vanish, or never end; lists that mislead."""
    made = []
    for outcome in ("expired", "cancelled"):
        for share in (0.0, 0.5):
            ending = Manner(outcome=outcome, share=share, hours=24)
            made.append(one(f"{outcome} with {share:.0%} done", ending, ending))
    made.append(one("fails twice", *[Manner(outcome="failed", problem=("server_error", "Trouble."))] * 2))
    refused = Manner(outcome="failed", problem=("invalid_json_line", "A line is not JSON."))
    made.append(always("fails for good", refused, Expected(rejected=frozenset(IDS)), variants=("calm",)))
    for status in ("scheduling", "queued", "paused"):
        made.append(one(f"shows {status} for 20 h", Manner(status=status, hours=20), variants=("calm",)))
    for status in ("in_progress", "validating", "finalizing", "cancelling", "scheduling"):
        stays = Expected(pending=frozenset(IDS), said=("expire", "window", "overdue", "past", "should have ended"))
        made.append(
            one(
                f"{status} for ever", Manner(status=status, hours=FOR_EVER), expected=stays, variants=("calm", "killed")
            )
        )
        made.append(one(f"{status} for 60 h", Manner(status=status, hours=60), variants=("calm",)))
    made += [
        # A death between a creation and its record, and a list that hides the batch for hours: nothing tells of it.
        one("unlisted from its creation", Manner(unlisted_from=0), variants=("calm", "repaired")),
        one("unlisted for 5 h", Manner(hours=2, unlisted_from=0, unlisted_until=5), variants=("calm",)),
        # Later than six deaths take: as above, a list that hides the batch before one run has recorded it is too much.
        one("unlisted after 2 h", Manner(hours=4, unlisted_from=2)),
        one(
            "unlisted and unknown for 20 h",
            Manner(hours=3, unlisted_from=1, unlisted_until=20, unknown_from=1, unknown_until=20),
        ),
        one("gone for ever in mid-run", Manner(hours=FOR_EVER, unlisted_from=1, unknown_from=1)),
        Case("server anew and empty after 1 h", Habits(manners=(Manner(hours=4),), empty_at=1)),
        Case("server anew and empty after the results", Habits(empty_at=20)),
        Case("nothing looks for 3 days", down=(0.2, 72)),
        Case("nothing looks for 3 days, half expires", Habits((Manner(outcome="expired", share=0.5),)), down=(0.2, 72)),
        Case(
            "nothing looks for 3 days, and the output is gone",
            Habits((Manner(gone_after=30),)),
            down=(0.2, 72),
            expected={"lines": Expected(bought_again=frozenset(IDS))},
        ),
        Case(
            "nothing looks for 3 days, and the batch is gone",
            Habits((Manner(unlisted_from=20, unknown_from=20),)),
            down=(0.2, 72),
            expected={"lines": Expected(bought_again=frozenset(IDS))},
        ),
        Case("list lags 2 h", Habits(list_lag=2), variants=("calm", "repaired")),
        Case("list lags 2 h, slow batches", Habits(list_lag=2, manner=Manner(hours=5)), variants=("calm",)),
        Case(
            "list oldest first, pages of 2", Habits(oldest_first=True, page=2), specs={"lines": {"batch_requests": 1}}
        ),
        Case("list pages of 2", Habits(page=2), specs={"lines": {"batch_requests": 1}}, variants=("calm",)),
        Case("cursor restarts", Habits(cursor="restarts", page=3), specs={"lines": {"batch_requests": 1}}),
        Case("ids without batch_", Habits(bare_ids=True), variants=("calm",)),
    ]
    return made
