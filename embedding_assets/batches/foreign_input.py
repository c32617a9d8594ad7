"""Reads the input file of a batch that another program submitted: which line asks for which collection's record.

Each line goes to the one collection that it fits. What cannot be used, or is not certain, is rejected by name: nothing
is guessed, and no line is left out of the books. A line with several inputs asks for records `{custom_id}#{index}`, a
line of tokens for a record without a text, and an integer custom_id is its decimal text.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from embedding_assets.batches.documents import Refused, canonical
from embedding_assets.batches.input_notes import InputNotes
from embedding_assets.batches.patterns import IdPattern
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.records import clean_id, clean_text

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NAME_LENGTH = 80


class UnclaimedError(Exception):
    """The batch is no collection's; says why."""


@dataclass
class Share:
    """What a collection takes of a batch.

    Attributes:
        rows: record id -> (id, text, canonical metadata); the text of tokens is empty.
        several: how many inputs each custom_id has that asks for a list.
        refused: lines, or inputs of lines, that are rejected by name.
        repeated: lines that say again what an earlier line said.
        tokens: records whose text is unknown.
        others: custom_ids of the lines that it takes no record of.
    """

    rows: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    several: dict[str, int] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    repeated: int = 0
    tokens: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def notes(self) -> InputNotes:
        """What is kept of it beside its rows."""
        return InputNotes(tuple(self.refused), self.several, tuple(self.tokens), tuple(self.others))


@dataclass
class _Line:
    number: int
    custom_id: str | None = None
    reason: str = ""  # why it cannot be used
    asks: bytes = b""  # a digest of model, dimensions and input
    inputs: list[Any] = field(default_factory=list)  # texts; None for tokens
    listed: bool = False  # whether its input is a list of inputs
    candidates: list[str] = field(default_factory=list)

    def refused(self, source: str, reason: str, record_id: str | None = None) -> Refused:
        name = record_id or self.custom_id
        said = f"{name[:_NAME_LENGTH]!r}: {reason}" if name else reason
        return Refused(source, self.number, name, said)


def read_shares(
    path: Path, source: str, catalog: Catalog, patterns: Mapping[str, IdPattern], named: str | None
) -> dict[str, Share]:
    """The shares of the collections that take lines of an input file; the one that takes most comes first.

    Args:
        source: what the names of rejected lines begin with: the batch's id.
        patterns: of the collections that have one.
        named: the collection that the batch's metadata name; then all lines are its own.

    Raises:
        UnclaimedError: no collection can take any line.
    """
    specs = [catalog.get(named)] if named else [catalog.get(name) for name in patterns]
    lines = [_judged(line, raw, specs, patterns, named) for line, raw in _lines(path)]
    _tell_apart(lines)
    repeated = _drop_repetitions(lines)
    owners = Counter(record_id for line in lines if not line.reason for record_id in _record_ids(line))
    shares: dict[str, Share] = {}
    refused: list[tuple[_Line, Refused]] = []
    for line in lines:
        if line.reason:
            refused.append((line, line.refused(source, line.reason)))
            continue
        share = shares.setdefault(line.candidates[0], Share())
        pattern = patterns.get(line.candidates[0])
        metadata = canonical(dict((pattern.match(line.custom_id or "") if pattern else None) or {}))
        for record_id, text in zip(_record_ids(line), line.inputs, strict=True):
            try:
                if owners[record_id] > 1:
                    raise ValueError("several lines ask for a record of this id")
                row = (clean_id(record_id), "" if text is None else clean_text(text), metadata)
            except ValueError as error:
                refused.append((line, line.refused(source, str(error), record_id)))
            else:
                share.rows[record_id] = row
                if text is None:
                    share.tokens.append(record_id)
                if line.listed:
                    share.several[line.custom_id or ""] = len(line.inputs)
    order = sorted(shares, key=lambda name: (-len(shares[name].rows), catalog.names.index(name)))
    shares = {name: shares[name] for name in order if shares[name].rows}
    if not shares:
        first = refused[0][1].reason if refused else "it has no request"
        raise UnclaimedError(f"none of its {len(refused)} requests can be taken; the first: {first}")
    main = next(iter(shares))
    for line, one in refused:
        owner = line.candidates[0] if len(line.candidates) == 1 else main
        shares[owner if owner in shares else main].refused.append(one)
    shares[main].repeated = repeated
    for name, share in shares.items():
        own = {line.custom_id for line in lines if not line.reason and line.candidates[0] == name}
        share.others = sorted({line.custom_id for line in lines if line.custom_id} - own - share.rows.keys())
    return shares


def _lines(path: Path) -> Iterator[tuple[_Line, Any]]:
    """The lines that are not blank, with what stands in them; None where that is no JSON."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(_BYTE_ORDER_MARK).strip() if number == 1 else line.strip()
            if content:
                try:
                    yield _Line(number), orjson.loads(content)
                except orjson.JSONDecodeError:
                    yield _Line(number), None


def _judged(
    line: _Line, raw: Any, specs: list[CollectionSpec], patterns: Mapping[str, IdPattern], named: str | None
) -> _Line:
    """Fill in what a line asks for and of whom, or why it cannot be used."""
    if not isinstance(raw, dict):
        line.reason = "the line is no JSON object"
        return line
    given = raw.get("custom_id")
    try:
        line.custom_id = clean_id(str(given) if isinstance(given, int) and not isinstance(given, bool) else given)
    except ValueError as error:
        line.reason = f"its custom_id cannot be used: {error}"
        return line
    told = raw.get("body")
    body: dict[str, Any] = told if isinstance(told, dict) else {}
    asks = [body.get("model"), body.get("dimensions"), body.get("input")]
    line.asks = hashlib.blake2b(orjson.dumps(asks), digest_size=16).digest()
    fitting = [s for s in specs if named or patterns[s.name].match(line.custom_id) is not None]
    usable = [spec for spec in fitting if not _differs(body, spec)]
    line.candidates = [spec.name for spec in usable or fitting]
    try:
        line.inputs, line.listed = _inputs(body.get("input"))
    except ValueError as error:
        line.reason = str(error)
    if not fitting:
        line.reason = "no collection's pattern fits"
    elif not usable:
        line.reason = _differs(body, fitting[0])
    elif len(usable) > 1:
        line.reason = f"the patterns of {' and '.join(line.candidates)} both fit"
    return line


def _differs(body: dict[str, Any], spec: CollectionSpec) -> str:
    """Why a request's vectors would not be of the collection's kind; empty where they would, or nothing is said."""
    if body.get("model", spec.model) != spec.model:
        return f"it asks for the model {body['model']!r}, the collection {spec.name!r} for {spec.model!r}"
    if body.get("dimensions", spec.dimensions) != spec.dimensions:
        return f"it asks for {body['dimensions']!r} dimensions, the collection {spec.name!r} for {spec.dimensions}"
    return ""


def _inputs(given: Any) -> tuple[list[Any], bool]:
    """The inputs of a request, None for tokens, and whether they came as a list of inputs."""
    if isinstance(given, str):
        return [given], False
    if not isinstance(given, list) or not given:
        raise ValueError("it has no input")
    if _tokens(given):
        return [None], False
    if all(isinstance(one, str) for one in given):
        return list(given), True
    if all(isinstance(one, list) and one and _tokens(one) for one in given):
        return [None] * len(given), True
    raise ValueError("its input is neither texts nor tokens")


def _tokens(given: list[Any]) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) for one in given)


def _record_ids(line: _Line) -> list[str]:
    name = line.custom_id or ""
    return [f"{name}#{index}" for index in range(len(line.inputs))] if line.listed else [name]


def _tell_apart(lines: list[_Line]) -> None:
    """Reject the lines of every custom_id that stands for different requests: nobody can tell whose an answer is."""
    asks: dict[str, set[bytes]] = {}
    for line in lines:
        if line.custom_id is not None:
            asks.setdefault(line.custom_id, set()).add(line.asks)
    for line in lines:
        if line.custom_id is not None and len(asks[line.custom_id]) > 1:
            line.reason = f"ambiguous: {len(asks[line.custom_id])} different requests of the batch have this custom_id"


def _drop_repetitions(lines: list[_Line]) -> int:
    """Leave the first of the lines that say the same; returns how many others there were."""
    seen: set[str] = set()
    kept = []
    for line in lines:
        if line.reason or line.custom_id is None or line.custom_id not in seen:
            kept.append(line)
        if not line.reason and line.custom_id is not None:
            seen.add(line.custom_id)
    dropped = len(lines) - len(kept)
    lines[:] = kept
    return dropped
