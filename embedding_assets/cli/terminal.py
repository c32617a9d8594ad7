"""Where the command line writes for people: whatever a text holds, the terminal shows it and does nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

# Control characters but tab and newline, among them those of 8 bits; marks that turn the direction of what follows;
# separators that some terminals take for a new line; halves of characters, which cannot be written at all.
_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""A text with what would steer a terminal written out, as `\x1b`."""
    return _NOT_SHOWN.sub(lambda found: ascii(found.group())[1:-1], text)


def plain(value: object) -> str:
    """A value as a piece of a marked-up text that means nothing but itself."""
    return "" if value is None else escape(printable(str(value)))


class Terminal(Console):
    """A console that passes everything through `printable`, also what is in tables."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments whose only control codes are rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
