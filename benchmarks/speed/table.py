"""Pairs of measurements, their medians, and the table that is printed and kept."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.speed.isolated import AT_HAND, Figures

_MOST, _SECONDS = 7, 30.0
PACKAGES = ("chromadb", "numpy", "orjson", "pyarrow", "pysimdjson", "usearch")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        figure, rival: what is measured, and against what.
        ratio: rival's seconds over ours, the median over the pairs (or what `figure` says).
        target: what it should be at least (or, where `figure` says so, at most).
        ours, theirs: medians in seconds; None where the row is not about time.
        lowest, highest: of the ratios.
        note: what else there is to say.
    """

    figure: str
    rival: str
    ratio: float
    target: str
    ours: float | None = None
    theirs: float | None = None
    lowest: float | None = None
    highest: float | None = None
    note: str = ""

    def cells(self) -> list[str]:
        """The row as texts."""
        spread = f" ({self.lowest:.2f} to {self.highest:.2f})" if self.lowest is not None else ""
        seconds = [f"{value:.2f} s" if value is not None else "" for value in (self.ours, self.theirs)]
        return [self.figure, *seconds, self.rival, f"{self.ratio:.2f}{spread}", self.target, self.note]


def pairs(
    figure: str,
    rival: str,
    target: str,
    ours: Callable[[int], Figures],
    theirs: Callable[[int], Figures],
    *,
    times: int,
    note: Callable[[list[Figures], list[Figures]], str] = lambda a, b: "",
) -> Row:
    """Measure ours and the rival's in turn, so that a machine whose speed drifts is as kind to both.

    So many times; what is over in a moment up to seven times, for then a moment is all that it takes to spoil it.
    """
    mine: list[Figures] = []
    others: list[Figures] = []
    while len(mine) < times or (1 < times <= len(mine) < _MOST and _spent(mine) + _spent(others) < _SECONDS):
        mine.append(ours(len(mine)))
        others.append(theirs(len(others)))
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(mine, others, strict=True)]
    return Row(
        figure,
        rival,
        statistics.median(ratios),
        target,
        statistics.median(a["seconds"] for a in mine),
        statistics.median(b["seconds"] for b in others),
        min(ratios),
        max(ratios),
        note(mine, others),
    )


def _spent(figures: list[Figures]) -> float:
    return sum(one["seconds"] for one in figures)


HEAD = ["figure", "ours", "rival's", "rival", "ratio", "target", "note"]


def as_markdown(rows: list[Row], title: str) -> str:
    """The table, and what it was measured with."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows))]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    machine = f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}; {versions}"
    return (
        f"# {title}\n\n{machine}\n\nA ratio is the rival's seconds over ours, the median of the pairs (smallest to "
        "largest), unless the figure says otherwise. Right before each measurement, of either side, "
        f"the disk is synced and {AT_HAND} GB of memory are touched and freed again.\n\n" + "\n".join(lines) + "\n"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
