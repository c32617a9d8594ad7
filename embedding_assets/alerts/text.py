"""Messages in words: a title, and a body as plain text, Markdown or HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Literal

from embedding_assets.alerts.message import Change, Message

Form = Literal["text", "markdown", "html"]

_NAMED = 10  # so many of a group are named; the page of the run has them all
_TITLES = 30  # so many messages of a summary are named
_FOUND_CHARS = 500
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")


@dataclass(frozen=True)
class Letter:
    """What a channel is given: title and body, in the form that the body has."""

    title: str
    body: str
    form: Form


def letter(messages: Sequence[Message], ui_url: str, form: Form) -> Letter:
    """One message as it is, or several as a summary.

    Args:
        messages: at least one.
        ui_url: address of the Dagster UI; links are left out where it is empty.
        form: how the body is written.
    """
    pen = _Pen(ui_url.rstrip("/"), form)
    if len(messages) == 1:
        return Letter(title_of(messages[0]), pen.message(messages[0]), form)
    return Letter(_summary_title(messages), pen.summary(messages), form)


def shortened(plain: Letter, chars: int) -> Letter:
    """A letter in plain text with a body of at most so many characters: the end, which names the alerts, is kept."""
    if len(plain.body) <= chars:
        return plain
    head, _, names = plain.body.rpartition("\n\n")
    end = f" ...\n\n{names}"
    return replace(plain, body=head[: chars - len(end)] + end)


def title_of(message: Message) -> str:
    """One line: what failed or recovered where, or how many did."""
    if not message.changes:
        return message.about
    if len(message.changes) == 1:
        return _headline(message.changes[0])
    places = {change.partition.split("|")[0] for change in message.changes}
    where = f"[{places.pop()}] " if len(places) == 1 and "" not in places else ""
    return f"{where}{_counts(message.changes)} in {message.about}"


def _headline(change: Change) -> str:
    where = f"[{change.partition.replace('|', ' ')}] " if change.partition else ""
    return f"{where}{_what(change)} {_how(change)}"


def _what(change: Change) -> str:
    return change.name if change.kind in ("check", "channel") else f"{change.kind} {change.name}"


def _how(change: Change) -> str:
    if not change.failed:
        return "recovered"
    return "was given up" if change.severity == "STOPPED" else f"failed ({change.severity})"


def _counts(changes: Sequence[Change]) -> str:
    failed = [change for change in changes if change.failed]
    warnings = sum(change.severity == "WARN" for change in failed)
    parts = []
    if failed:
        which = f" ({warnings} of them warnings)" if 0 < warnings < len(failed) else ""
        parts.append(_plural(len(failed), "warning" if warnings == len(failed) else "failure") + which)
    if len(failed) < len(changes):
        parts.append(_plural(len(changes) - len(failed), "recovery", "recoveries"))
    return ", ".join(parts)


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _summary_title(messages: Sequence[Message]) -> str:
    return f"{len(messages)} alerts: {_counts([change for message in messages for change in message.changes])}"


class _Pen:
    """Writes bodies in one form."""

    def __init__(self, ui_url: str, form: Form) -> None:
        self._ui, self._form = ui_url, form

    def message(self, message: Message) -> str:
        blocks = [self._group(group) for group in _groups(message.changes)]
        blocks.append(self._lines([self._safe(f"From {message.about}, {_time(message.made_at)}.")], message.page))
        blocks.append(self._small(f"alert {message.id}"))
        return self._join(blocks)

    def summary(self, messages: Sequence[Message]) -> str:
        rows = [f"{_time(message.made_at)}  {title_of(message)}" for message in messages]
        more = len(rows) - _TITLES
        if more > 0:
            # The first and the last: how it began, and how it stands.
            half = _TITLES // 2
            rows = [*rows[:half], f"... and {more} more ...", *rows[-half:]]
        said = "They came faster than this channel takes them, or while it was down: one summary in their place."
        blocks = [self._safe(said), self._list(rows)]
        failed = {change.key: change for message in messages for change in message.changes if change.failed}
        advice = dict.fromkeys((c.name, c.by_itself, c.to_do) for c in failed.values())
        for name, by_itself, to_do in list(advice)[:_NAMED]:
            blocks.append(self._advice(f"{name}: ", by_itself, to_do))
        blocks.append(self._lines([self._safe("All of them: embedding-assets alerts list")], "runs"))
        blocks.append(self._small(f"alerts {messages[0].id} to {messages[-1].id}"))
        return self._join([block for block in blocks if block])

    def _group(self, changes: Sequence[Change]) -> str:
        first = changes[0]
        of = f" of {self._safe(first.asset)}" if first.asset else ""
        if len(changes) == 1:
            head = self._strong(_headline(first)) + of
            said = [self._safe(_clip(first.found))] if first.found else []
        else:
            head = f"{self._strong(f'{_what(first)} {_how(first)}')}{of}, {len(changes)} times:"
            said = [self._safe(f"{c.partition.replace('|', ' ')}: {_clip(c.found)}") for c in changes[:_NAMED]]
            if len(changes) > _NAMED:
                said.append(self._safe(f"... and {len(changes) - _NAMED} more"))
        if not first.failed and first.since is not None:
            said.append(self._safe(f"It had failed since {_time(first.since)}."))
        parts = [self._lines([head, *said], first.page)]
        if first.failed:
            parts.append(self._advice("", first.by_itself, first.to_do))
        return self._newline.join(part for part in parts if part)

    def _advice(self, of: str, by_itself: str, to_do: str) -> str:
        lines = [f"{of}What happens by itself: {by_itself}"] if by_itself else []
        lines += [f"{of}What you can do: {to_do}"] if to_do else []
        return self._newline.join(self._safe(line) for line in lines)

    @property
    def _newline(self) -> str:
        return {"html": "<br>\n", "markdown": "  \n", "text": "\n"}[self._form]

    def _lines(self, lines: Sequence[str], page: str) -> str:
        return self._newline.join([*lines, *([self._link(page)] if page and self._ui else [])])

    def _link(self, page: str) -> str:
        url = f"{self._ui}/{page.lstrip('/')}"
        if self._form == "html":
            return f'<a href="{html.escape(url)}">{html.escape(url)}</a>'
        return f"<{url}>" if self._form == "markdown" else url

    def _safe(self, text: str) -> str:
        """Text that is shown as it is, whatever is in it."""
        text = " ".join(text.split())
        if self._form == "html":
            return html.escape(text)
        return _MARKDOWN.sub(r"\\\1", text) if self._form == "markdown" else text

    def _strong(self, text: str) -> str:
        safe = self._safe(text)
        return {"html": f"<b>{safe}</b>", "markdown": f"**{safe}**", "text": safe}[self._form]

    def _small(self, text: str) -> str:
        return f"<small>{html.escape(text)}</small>" if self._form == "html" else self._safe(text)

    def _list(self, rows: Sequence[str]) -> str:
        safe = [self._safe(row) for row in rows]
        if self._form == "html":
            return "<ul>" + "".join(f"<li>{row}</li>\n" for row in safe) + "</ul>"
        return "\n".join(f"- {row}" for row in safe)

    def _join(self, blocks: Sequence[str]) -> str:
        return "\n".join(f"<p>{block}</p>" for block in blocks) if self._form == "html" else "\n\n".join(blocks)


def _groups(changes: Sequence[Change]) -> list[list[Change]]:
    """Changes that differ in nothing but the place, together."""
    found: dict[tuple[object, ...], list[Change]] = {}
    for change in changes:
        alike = (change.failed, change.kind, change.asset, change.name, change.severity, change.by_itself)
        found.setdefault(alike, []).append(change)
    return list(found.values())


def _clip(text: str) -> str:
    return text if len(text) <= _FOUND_CHARS else f"{text[:_FOUND_CHARS]}..."


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
