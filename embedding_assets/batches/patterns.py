"""Patterns of custom_ids, which tell whose request a line of a batch is, and what its record's metadata are.

`IMAGE#{image_id}#RECEIPT#{receipt_id:int}` matches `IMAGE#a-b#RECEIPT#3` as a whole and gives {"image_id": "a-b",
"receipt_id": 3}. A placeholder holds no character that its neighbouring text sets it apart with (`#` here), so that a
pattern never matches the longer ids of another collection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedding_assets.errors import ConfigurationError
from embedding_assets.records import Metadata, clean_metadata

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)(?::(\w+))?\}")
_INTEGER = r"-?[0-9]{1,18}"


@dataclass(frozen=True)
class IdPattern:
    """A compiled pattern; `integers` are the placeholders that give numbers."""

    text: str
    regex: re.Pattern[str]
    integers: frozenset[str]

    def match(self, custom_id: str) -> Metadata | None:
        """The metadata in an id; None where the pattern does not fit all of it."""
        found = self.regex.fullmatch(custom_id)
        if found is None:
            return None
        try:
            return clean_metadata({k: int(v) if k in self.integers else v for k, v in found.groupdict().items()})
        except ValueError:
            return None


def compile_pattern(text: str) -> IdPattern:
    """Compile a pattern.

    Raises:
        ConfigurationError: a placeholder is of an unknown kind or there twice, or there is none.
    """
    subject = f"custom_id {text!r}"
    pieces: list[str] = []
    integers: set[str] = set()
    names: set[str] = set()
    end = 0
    for found in _PLACEHOLDER.finditer(text):
        name, kind = found.group(1), found.group(2)
        if name in names:
            raise ConfigurationError(subject, f"has {{{name}}} twice", "Give each placeholder a name of its own.")
        if kind not in (None, "int", "str"):
            raise ConfigurationError(subject, f"has a placeholder of kind {kind!r}", "Write {name} or {name:int}.")
        names.add(name)
        pieces.append(re.escape(text[end : found.start()]))
        if kind == "int":
            integers.add(name)
            pieces.append(f"(?P<{name}>{_INTEGER})")
        else:
            apart = {c for c in (*text[end : found.start()][-1:], *text[found.end() :][:1]) if not c.isalnum()} - {"{"}
            piece = "[^" + "".join(map(re.escape, sorted(apart))) + "]+" if apart else ".+?"
            pieces.append(f"(?P<{name}>{piece})")
        end = found.end()
    if not names:
        raise ConfigurationError(subject, "has no placeholder", "Write what varies as {name} or {name:int}.")
    pieces.append(re.escape(text[end:]))
    return IdPattern(text, re.compile("".join(pieces), re.DOTALL), frozenset(integers))
