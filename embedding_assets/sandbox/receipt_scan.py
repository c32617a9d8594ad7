"""The scan of a receipt: where on the image its lines and words stand, and what the recognition makes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

_CONFUSED = {
    "O": "0",
    "l": "1",
    "I": "l",
    "S": "5",
    "B": "8",
    "G": "6",
    "e": "c",
    "a": "o",
    "t": "f",
    "m": "rn",
    "ü": "u",
}
_STRAY = ("-", "...", "'", ".", "|", "~", "_", ",")
_HAS_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Box:
    """A rectangle on the image, as fractions of its width and height, from the upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class ScannedWord:
    """A word as it was read."""

    text: str
    box: Box


@dataclass(frozen=True)
class ScannedLine:
    """A line as it was read: its words from left to right."""

    words: tuple[ScannedWord, ...]

    @property
    def text(self) -> str:
        """The words with one blank between them: a recognition does not keep columns."""
        return " ".join(word.text for word in self.words)

    @property
    def box(self) -> Box:
        """The box around all words."""
        left = min(word.box.x for word in self.words)
        top = min(word.box.y for word in self.words)
        right = max(word.box.x + word.box.width for word in self.words)
        bottom = max(word.box.y + word.box.height for word in self.words)
        return Box(left, top, right - left, bottom - top)


def scan(printed: list[str], width: int, frame: Box, noise: float, rng: Random) -> list[ScannedLine]:
    """Read printed lines that lie within `frame`, slightly tilted.

    Noise falls on words without digits only: amounts stay as printed, so that a receipt still adds up.
    """
    step = frame.height / (len(printed) + 2)
    cell = frame.width / (width + 2)
    tilt = rng.uniform(-0.004, 0.004)
    lines = []
    for row, text in enumerate(printed):
        words = []
        for match in re.finditer(r"\S+", text):
            column = min(match.start(), width - 1)
            x = frame.x + (column + 1) * cell
            y = frame.y + (row + 1) * step + tilt * column / width
            read = _misread(match.group(), noise, rng)
            right = min(x + len(match.group()) * cell, frame.x + frame.width)
            words.append(ScannedWord(read, Box(x, y, right - x, step * 0.8)))
        if noise and rng.random() < noise / 2:
            x = frame.x + frame.width * rng.uniform(0.05, 0.9)
            words.append(ScannedWord(rng.choice(_STRAY), Box(x, frame.y + (row + 1) * step, cell, step * 0.3)))
            words.sort(key=lambda word: word.box.x)
        if words:
            lines.append(ScannedLine(tuple(words)))
    return lines


def _misread(word: str, noise: float, rng: Random) -> str:
    if not noise or _HAS_DIGIT.search(word) or rng.random() >= noise:
        return word
    places = [place for place, letter in enumerate(word) if letter in _CONFUSED]
    if not places:
        return word if len(word) < 3 else word[:-1]
    place = rng.choice(places)
    return word[:place] + _CONFUSED[word[place]] + word[place + 1 :]
