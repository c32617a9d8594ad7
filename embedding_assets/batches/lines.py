"""The lines of a file that comes in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

# 65,536 numbers of 25 characters, five times over. What is longer is no line of results, and is not held in memory.
LONGEST_LINE = 8 * 1024 * 1024
_PIECE = 1024 * 1024


def pieces_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file on disk."""
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece


def lines_of(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and content of every line that is not blank, without its end.

    Of a line longer than LONGEST_LINE only its beginning is given, enough to say that it is no JSON.
    """
    number, begun, length = 1, [], 0
    for piece in pieces:
        *ended, last = piece.split(b"\n")
        for part in ended:
            if length < LONGEST_LINE:
                begun.append(part)
            line = b"".join(begun)[:LONGEST_LINE]
            if line.strip():
                yield number, line
            number, begun, length = number + 1, [], 0
        if length < LONGEST_LINE:
            begun.append(last)
            length += len(last)
    line = b"".join(begun)[:LONGEST_LINE]
    if line.strip():
        yield number, line
