"""Reads arrays of numbers; as a program, for another process (see `second_reader`).

It imports so little that the second process is there in a twentieth of a second.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Sequence
from typing import Final

import simdjson

READY: Final = b"\xff"
SHARES: Final = 4  # one is read, one waits, one is filled, one is emptied
_NUMBERS: Final = 16_384  # of a share: their text stays in the processor's cache
_LONGEST: Final = 26  # characters of a double, its comma and a space
_DOUBLE: Final = 8


def read_numbers(parser: simdjson.Parser, text: bytes | memoryview) -> memoryview | None:
    """The bytes of a JSON array's numbers as doubles, as Python's own reader gives them; None where it is none."""
    try:
        numbers = parser.parse(text)
        return memoryview(numbers.as_buffer(of_type="d")) if isinstance(numbers, simdjson.Array) else None
    except (ValueError, TypeError, RuntimeError):  # what simdjson raises for what it does not read
        return None


class Share:
    """A part of the memory that two processes see: texts go in, doubles come out.

    Attributes:
        capacity: bytes of text that it takes.
        doubles: bytes of `share_rows` vectors one after the other.
    """

    def __init__(self, memory: mmap.mmap, number: int, dimensions: int) -> None:
        rows = share_rows(dimensions)
        self._width = _DOUBLE * dimensions
        self.capacity = share_text(dimensions)
        view, start = memoryview(memory), number * _share_size(dimensions)
        self.doubles = view[start : start + rows * self._width]
        start += self.doubles.nbytes
        # How many texts there are, and of each where it ends, and whether it is an array of that many numbers.
        self._fields = view[start : start + _DOUBLE * (1 + 2 * rows)].cast("q")
        start += self._fields.nbytes
        self._text = view[start : start + self.capacity]

    def put(self, texts: Sequence[memoryview]) -> None:
        """Lay texts in it, at most `share_rows` of at most `capacity` bytes together."""
        end = 0
        for row, text in enumerate(texts):
            begin, end = end, end + len(text)
            self._text[begin:end] = text
            self._fields[1 + 2 * row] = end
        self._fields[0] = len(texts)

    def read(self, parser: simdjson.Parser) -> None:
        """Read the texts that lie in it."""
        begin = 0
        for row in range(self._fields[0]):
            end = self._fields[1 + 2 * row]
            numbers = read_numbers(parser, self._text[begin:end])
            good = numbers is not None and len(numbers) == self._width
            if numbers is not None and good:
                self.doubles[row * self._width : (row + 1) * self._width] = numbers
            self._fields[2 + 2 * row] = good
            begin = end

    def good(self) -> list[bool]:
        """Of each text, whether its doubles are there."""
        return [bool(self._fields[2 + 2 * row]) for row in range(self._fields[0])]


def share_rows(dimensions: int) -> int:
    """How many vectors a share takes."""
    return max(1, _NUMBERS // dimensions)


def share_text(dimensions: int) -> int:
    """How many bytes of text a share takes."""
    return share_rows(dimensions) * dimensions * _LONGEST


def memory_size(dimensions: int) -> int:
    """Bytes of all shares."""
    return SHARES * _share_size(dimensions)


def _share_size(dimensions: int) -> int:
    rows = share_rows(dimensions)
    size = rows * dimensions * _DOUBLE + _DOUBLE * (1 + 2 * rows) + share_text(dimensions)
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def main(descriptor: int, dimensions: int) -> None:
    """Read what is laid in the shares, as told by their numbers on standard input, until that ends."""
    memory = mmap.mmap(descriptor, memory_size(dimensions))
    shares = [Share(memory, number, dimensions) for number in range(SHARES)]
    parser = simdjson.Parser()
    os.write(1, READY)
    while number := os.read(0, 1):
        shares[number[0]].read(parser)
        os.write(1, number)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
