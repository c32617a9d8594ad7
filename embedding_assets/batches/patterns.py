"""Patterns of custom_ids, which tell whose request a line of a batch is, and what its record's metadata are.

`IMAGE#{image_id}#RECEIPT#{receipt_id:int}` matches `IMAGE#a-b#RECEIPT#3` as a whole and gives {"image_id": "a-b",
"receipt_id": 3}. A placeholder holds no character that its neighbouring text sets it apart with (`#` here), so that a
pattern never matches the longer ids of another collection. Where such a character ends it, a placeholder is never read
in a second way; one placeholder of a pattern may be followed by a letter or a digit that it could hold as well, and no
more: with each further one an id of somebody else's could take as much longer to read as it has characters.
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
        ConfigurationError: a placeholder is of an unknown kind or there twice, there is none, or what follows does not
            say where they end.
    """
    subject = f"custom_id {text!r}"
    pieces: list[str] = []
    integers: set[str] = set()
    names: set[str] = set()
    open_ended: list[str] = []
    end = 0
    for found in _PLACEHOLDER.finditer(text):
        name, kind = found.group(1), found.group(2)
        if name in names:
            raise ConfigurationError(subject, f"has {{{name}}} twice", "Give each placeholder a name of its own.")
        if kind not in (None, "int", "str"):
            raise ConfigurationError(subject, f"has a placeholder of kind {kind!r}", "Write {name} or {name:int}.")
        names.add(name)
        before, after = text[end : found.start()], text[found.end() : found.end() + 1]
        if _PLACEHOLDER.match(text, found.end()):
            raise ConfigurationError(
                subject, f"has nothing that sets {{{name}}} apart from what follows", "Write a character between them."
            )
        pieces.append(re.escape(before))
        if kind == "int":
            integers.add(name)
            piece, ends = _INTEGER, not after.isdigit()
        else:
            apart = {c for c in (before[-1:], after) if c and not c.isalnum()} - {"{"}
            ends = not after or after in apart
            piece = "[^" + "".join(map(re.escape, sorted(apart))) + "]+" if apart else ".+" if ends else ".+?"
        # A group in a look-ahead that is then repeated is read once, and never again in another way.
        pieces.append(f"(?=(?P<{name}>{piece}))(?P={name})" if ends else f"(?P<{name}>{piece})")
        open_ended += [name] * (not ends)
        end = found.end()
    if len(open_ended) > 1:
        raise ConfigurationError(
            subject,
            "has nothing that sets " + " and ".join(f"{{{name}}}" for name in open_ended) + " apart from what follows",
            "Write a character such as # or - after all but one of them.",
        )
    if not names:
        raise ConfigurationError(subject, "has no placeholder", "Write what varies as {name} or {name:int}.")
    pieces.append(re.escape(text[end:]))
    return IdPattern(text, re.compile("".join(pieces), re.DOTALL), frozenset(integers))
