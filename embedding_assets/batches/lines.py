"""The lines of a file that comes in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

# 65,536 numbers of 25 characters, five times over. What is longer is no line of results, and is not held in memory.
LONGEST_LINE = 8 * 1024 * 1024
_PIECE = 128 * 1024  # what stays in the processor's cache


def pieces_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file on disk."""
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece


def lines_of(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and content of every line that is not blank, without its end.

    Of a line longer than LONGEST_LINE only its beginning is given, enough to say that it is no JSON.
    """
    number, begun, length = 1, [], 0  # the line that has begun: its parts and how long they are
    for piece in pieces:
        start = 0
        # find(), which is a memchr: split() looks at every byte by itself.
        while (end := piece.find(b"\n", start)) >= 0:
            if length < LONGEST_LINE:
                begun.append(piece[start:end])
            line = b"".join(begun)[:LONGEST_LINE]
            if line.strip():
                yield number, line
            number, begun, length, start = number + 1, [], 0, end + 1
        if length < LONGEST_LINE:
            begun.append(piece[start:])
            length += len(piece) - start
    line = b"".join(begun)[:LONGEST_LINE]
    if line.strip():
        yield number, line
