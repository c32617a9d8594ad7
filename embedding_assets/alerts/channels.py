"""Channels: where alerts go, each by a URL that apprise knows. The URLs hold secrets: none is ever shown."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from embedding_assets.alerts.text import Form, Letter
from embedding_assets.errors import ConfigurationError

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+-]{0,30}", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PIECES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Channel:
    """Where alerts go.

    Attributes:
        id: the same as long as the URL is; names the channel in the store.
        number: its place in the setting, from 1.
        label: what it is called: its place in the setting and the kind of service.
        url: with secrets.
    """

    id: str
    number: int
    label: str
    url: str = field(repr=False)

    def send(self, letter: Letter) -> str:
        """Give a letter to it; returns why it was not accepted, or nothing.

        Trouble of any kind is an answer, not an exception: a channel that is down keeps nobody from the others.
        """
        plugin = _plugin(self.url)
        if plugin is None:
            return "its URL is not understood"
        import apprise

        envelope = apprise.Apprise()
        envelope.add(plugin)
        plugin.overflow_mode = apprise.OverflowMode.TRUNCATE  # never several messages in place of one
        with _listening() as said:
            try:
                accepted = bool(envelope.notify(title=letter.title, body=letter.body, body_format=letter.form))
            except Exception as error:  # a plugin's fault must not stop the others
                accepted, said[:] = False, [*said, f"{type(error).__name__}: {error}"]
        if accepted:
            return ""
        return _without_secrets("; ".join(said) or "it gave no reason", self.url)[:300]

    @property
    def form(self) -> Form:
        """The form of text that it shows best."""
        plugin = _plugin(self.url)
        found = str(getattr(plugin.resolve_format(), "value", "text")) if plugin else "text"
        return "html" if found == "html" else "markdown" if found == "markdown" else "text"


@dataclass(frozen=True)
class BadChannel:
    """An entry of the setting that is no channel: its place, and what is wrong, without what it says."""

    number: int
    label: str
    reason: str


def channels_of(setting: str, environ: Mapping[str, str]) -> tuple[list[Channel], list[BadChannel]]:
    """The channels that a setting names.

    Args:
        setting: URLs, separated by white space or by commas; `${NAME}` stands for a variable.
        environ: where variables are looked up.

    Returns:
        The channels, and what in the setting is none.
    """
    good: list[Channel] = []
    bad: list[BadChannel] = []
    for number, raw in enumerate(_split(setting), 1):
        missing = [name for name in _VARIABLE.findall(raw) if name not in environ]
        url = _VARIABLE.sub(lambda match: environ.get(match[1], ""), raw)
        scheme = url.partition("://")[0]
        label = f"channel {number}" + (f" ({scheme})" if "://" in url and _SCHEME.fullmatch(scheme) else "")
        if missing:
            bad.append(BadChannel(number, label, f"uses ${{{missing[0]}}}, which is not set"))
            continue
        plugin = _plugin(url)
        if plugin is None:
            bad.append(BadChannel(number, label, "its URL is not one that apprise understands"))
        elif (identity := _identity(url)) not in {one.id for one in good}:
            good.append(Channel(identity, number, f"channel {number} ({plugin.service_name})", url))
    return good, bad


def require_channels(setting: str, environ: Mapping[str, str]) -> list[Channel]:
    """The channels that a setting names, or ConfigurationError that says which entry is none."""
    good, bad = channels_of(setting, environ)
    if bad:
        raise ConfigurationError(
            f"EMBEDDING_ASSETS_ALERTS, {bad[0].label}",
            bad[0].reason,
            "Special characters in names and passwords are written as %XX; see docs/operations.md for examples.",
        )
    return good


def _split(setting: str) -> list[str]:
    """The entries; a comma separates them only where a URL begins behind it: recipients have commas between them."""
    found: list[str] = []
    for word in setting.split():
        parts = word.split(",")
        for index, part in enumerate(parts):
            if not part:
                continue
            if index and found and not _URL.match(part) and not part.startswith("${"):
                found[-1] += f",{part}"
            else:
                found.append(part)
    return found


def _identity(url: str) -> str:
    """A name for a channel that gives nothing away: not even whether a guessed password is right."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    shown = f"{user.split(':')[0]}{at}{host}"
    query = re.sub(r"(?i)((?:pass|password|pwd|token|secret|key)=)[^&]*", r"\1", parts.query)
    digest = hashlib.sha256(urlunsplit((parts.scheme, shown, parts.path, query, "")).encode()).hexdigest()
    return f"{re.sub('[^a-z0-9]', '', parts.scheme.lower()) or 'x'}-{digest[:10]}"


def _without_secrets(text: str, url: str) -> str:
    """Take all that the URL is made of out of a text, the scheme and short pieces excepted."""
    rest = url.partition("://")[2]
    pieces = {piece for whole in (rest, unquote(rest)) for piece in _PIECES.split(whole) if len(piece) > 3}
    for piece in sorted(pieces, key=len, reverse=True):
        text = text.replace(piece, "***")
    return " ".join(text.split())


def _plugin(url: str) -> Any:
    import apprise

    with _listening():
        try:
            plugin = apprise.Apprise.instantiate(url)
        except Exception:  # whatever a plugin makes of a wrong URL, the URL must not be in a traceback
            return None
    return plugin


# A variable of the context, not of the thread: apprise sends in threads of its own, and gives them the context.
_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)
_TALKATIVE = ("apprise", "urllib3.connectionpool")  # who quotes addresses, at whatever level


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What is said while a channel is made or sent to; it goes into no log."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_overhear)  # once, however often
    said: list[str] = []
    token = _heard.set(said)
    try:
        yield said
    finally:
        _heard.reset(token)


def _overhear(record: logging.LogRecord) -> bool:
    said = _heard.get()
    if said is None:
        return True
    if record.levelno >= logging.WARNING and record.name == "apprise":
        said.append(record.getMessage())
    return False
