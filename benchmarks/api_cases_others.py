"""Cases with other programs and other deployments on the same key, and with servers of another kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from api_cases import IDS, Case
from api_manners import Door, Habits, Manner
from api_oracle import Expected
from api_service import DIMENSIONS, Service
from api_world import MODEL, Deployment

LINE = "LINE#{number:int}"
WORD = "WORD#{number:int}"
NAMED = {"collection": "lines"}


def line(custom_id: Any, given: Any, **body: Any) -> dict[str, Any]:
    """A request as other programs write it."""
    said = {"model": MODEL, "input": given, "dimensions": DIMENSIONS, **body}
    said = {key: value for key, value in said.items() if value is not None}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": said}


def _case(
    name: str,
    lines: Sequence[dict[str, Any] | str],
    foreign: Mapping[str, Any],
    *,
    rejected: Sequence[str] = (),
    said: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = NAMED,
    specs: Mapping[str, Mapping[str, Any]] | None = None,
    expected: Mapping[str, Expected] | None = None,
    habits: Habits | None = None,
    variants: tuple[str, ...] = ("calm", "killed"),
    endpoint: str = "/v1/embeddings",
    ticks: Sequence[float] | None = None,
) -> Case:
    def prepare(service: Service, _: Sequence[Deployment]) -> None:
        service.submit(lines, dict(metadata or {}), endpoint=endpoint)

    more: dict[str, Any] = {"ticks": ticks} if ticks else {}
    return Case(
        name,
        habits or Habits(),
        specs={key: {"documents": None, **value} for key, value in (specs or {"lines": {}}).items()},
        prepare=prepare,
        documents=False,
        expected=expected or {"lines": Expected(foreign, frozenset(rejected), said=said)},
        variants=variants,
        **more,
    )


def foreign_cases() -> list[Case]:
    """Batches of other programs."""
    plain = {f"LINE#{n}": f"line {n}" for n in range(5)}
    lines = [line(i, t) for i, t in plain.items()]
    both = [*lines, *(line(f"WORD#{n}", f"word {n}") for n in range(5))]
    words = {f"WORD#{n}": f"word {n}" for n in range(5)}
    two = {"lines": {"custom_id": LINE}, "words": {"custom_id": WORD}}
    each = {"lines": Expected(plain), "words": Expected(words)}
    tokens = {f"tok-{n}": [n, n + 1, n + 2] for n in range(4)}
    listed = {f"{i}#0": t for i, t in plain.items()}
    several = {f"many#{n}": f"part {n}" for n in range(4)}
    first = Manner(forms={0: "rate_limit", 1: "error_500"})
    made = [
        _case("foreign, named", lines, plain),
        _case("foreign, by pattern", lines, plain, metadata=None, specs={"lines": {"custom_id": LINE}}),
        _case(
            "foreign, one id with two texts",
            [*lines, line("LINE#0", "quite another")],
            {k: v for k, v in plain.items() if k != "LINE#0"},
            rejected=("LINE#0",),
        ),
        _case("foreign, one id twice with one text", [*lines, lines[0]], plain),
        _case("foreign, several inputs", [line("many", list(several.values()))], several),
        _case("foreign, one input in a list", [line(i, [t]) for i, t in plain.items()], listed),
        _case("foreign, token arrays", [line(i, t) for i, t in tokens.items()], tokens),
        _case("foreign, several token arrays", [line("toks", [[1, 2], [3]])], {"toks#0": [1, 2], "toks#1": [3]}),
        _case(
            "foreign, integer ids", [line(n, f"text {n}") for n in range(4)], {str(n): f"text {n}" for n in range(4)}
        ),
        _case("foreign, without dimensions", [line(i, t, dimensions=None) for i, t in plain.items()], plain),
        _case(
            "foreign, without dimensions, of another length",
            [line(i, t, dimensions=None) for i, t in plain.items()],
            {},
            rejected=tuple(plain),
            specs={"lines": {"dimensions": DIMENSIONS * 2}},
        ),
        _case("foreign, lists of numbers", [line(i, t, encoding_format="float") for i, t in plain.items()], plain),
        _case("foreign, two collections in one batch", both, {}, metadata=None, specs=two, expected=each),
        _case(
            "foreign, nine of ours and one mistyped",
            [*lines, line("LIEN#7", "mistyped")],
            plain,
            metadata=None,
            specs={"lines": {"custom_id": LINE}},
            said=("LIEN#7",),
        ),
        _case(
            "foreign, two patterns fit",
            lines,
            {},
            metadata=None,
            specs={"lines": {"custom_id": LINE}, "words": {"custom_id": "L{rest}"}},
            expected={"lines": Expected(said=("fit",)), "words": Expected()},
        ),
        _case(
            "foreign, nobody's", lines, {}, metadata=None, expected={"lines": Expected(said=("name no collection",))}
        ),
        _case("foreign, another endpoint", lines, {}, endpoint="/v1/chat/completions"),
        _case("foreign, of another model", [line(i, t, model="other") for i, t in plain.items()], {}, said=("other",)),
        _case(
            "foreign, lines fail once",
            lines,
            {k: v for k, v in plain.items() if k not in ("LINE#0", "LINE#1")},
            rejected=("LINE#0", "LINE#1"),
            habits=Habits(manners=(first,)),
        ),
        _case("foreign, output named 3 h late", lines, plain, habits=Habits(manners=(Manner(output_id_after=3),))),
        _case("foreign, with broken lines", ["not JSON", *map(dict, lines), "[]"], plain),
        _case("foreign, with a BOM", ["\ufeff" + json.dumps(lines[0]), *lines[1:]], plain),
        _case(
            "foreign, cancelled with half done",
            lines,
            {f"LINE#{n}": f"line {n}" for n in range(2)},
            rejected=("LINE#2", "LINE#3", "LINE#4"),
            habits=Habits(manners=(Manner(outcome="cancelled", share=0.4),)),
        ),
        _case("foreign, empty text", [*lines, line("LINE#9", "")], plain, rejected=("LINE#9",)),
        _case("foreign, an input of no use", [*lines, line("LINE#9", {"a": 1})], plain, rejected=("LINE#9",)),
        _case(
            "foreign, unlisted after an hour", lines, plain, habits=Habits(manners=(Manner(hours=2, unlisted_from=1),))
        ),
    ]
    made.append(_generic())
    return made


def _generic() -> Case:
    """`request-0`, `request-1`, ... in every file, each day for other texts."""
    today = {f"request-{n}": f"of today {n}" for n in range(4)}
    later = {f"request-{n}": f"of tomorrow {n}" for n in range(2, 6)}

    def first(service: Service, _: Sequence[Deployment]) -> None:
        service.submit([line(i, t) for i, t in today.items()], NAMED)

    def second(service: Service, _: Sequence[Deployment]) -> None:
        service.submit([line(i, t) for i, t in later.items()], NAMED)

    # Last submitted wins; that two ids stand for other texts now is said.
    expected = {"lines": Expected({**today, **later}, said=("request-2", "request-3", "different texts"))}
    return Case(
        "foreign, generic ids on two days",
        specs={"lines": {"documents": None}},
        prepare=first,
        during={24.0: second},
        documents=False,
        expected=expected,
        variants=("calm",),
    )


def deployment_cases() -> list[Case]:
    """Two deployments on one key: the same collections and documents, stores of their own."""
    two = ("staging", "production")
    made = [
        Case("two deployments", deployments=two),
        Case("two deployments, slow batches", Habits(manner=Manner(hours=5)), deployments=two),
        Case("two deployments, small batches", deployments=two, specs={"lines": {"batch_requests": 2}}),
        Case(
            "two deployments, list lags",
            Habits(list_lag=1, manner=Manner(hours=3)),
            deployments=two,
            variants=("calm",),
        ),
        Case(
            "two deployments, answers lost", Habits(doors=(Door("POST", "/batches", "done", times=2),)), deployments=two
        ),
    ]
    made.append(
        Case(
            "two deployments, half expires",
            Habits(manners=(Manner(outcome="expired", share=0.5), Manner(outcome="expired", share=0.5))),
            deployments=two,
        )
    )
    made.append(_both())
    made.append(Case("three deployments", deployments=("a", "b", "c"), variants=("calm",)))
    return made


def _both() -> Case:
    """Another program's batch, which both deployments declare as theirs: both read it, and neither pays."""
    plain = {f"LINE#{n}": f"line {n}" for n in range(5)}

    def prepare(service: Service, _: Sequence[Deployment]) -> None:
        service.submit([line(i, t) for i, t in plain.items()], NAMED)

    return Case(
        "two deployments, another program's batch",
        deployments=("staging", "production"),
        specs={"lines": {"custom_id": LINE}},
        prepare=prepare,
        expected={"lines": Expected(plain)},
    )


def server_cases() -> list[Case]:
    """Servers of another kind: other model names, missing routes."""
    other = "vendor/upstream-model"
    no_probe = Door("POST", "/embeddings", 404, "not_found")
    return [
        Case("another model's name, declared", Habits(model=other), {"lines": {"model_answers_as": [other]}}),
        Case("a dated model's name", Habits(model=f"{MODEL}-v2"), variants=("calm",)),
        Case(
            "another model's name in one batch alone",
            Habits(manners=(Manner(model=other),)),
            # Not asked again: what to declare is said by name.
            expected={"lines": Expected(maybe=frozenset(IDS), said=("model_answers_as",))},
            variants=("calm",),
        ),
        Case(
            "another model's name, not declared",
            Habits(model=other),
            expected={"lines": Expected(refused="model_answers_as")},
            variants=("calm",),
        ),
        Case("no /v1/embeddings, probe off", Habits(doors=(no_probe,)), {"lines": {"probe": False}}),
        Case(
            "no /v1/embeddings, probe on",
            Habits(doors=(no_probe,)),
            expected={"lines": Expected(refused="/v1/embeddings")},
            variants=("calm",),
        ),
    ]


def all_cases() -> list[Case]:
    """Every case of this module."""
    return [*foreign_cases(), *deployment_cases(), *server_cases()]
