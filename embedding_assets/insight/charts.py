"""The pictures of a version: its map, its growth, its health, as PNG files of a bounded size.

Colours are those of Okabe and Ito (2008), which everybody tells apart; groups differ in their shape as well.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from embedding_assets.insight.colouring import OTHER, Colouring
from embedding_assets.insight.projection import Matrix
from embedding_assets.insight.statistics import BINS, Statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# An image in Dagster's event log is a text of at most 50 kB, and Base64 makes four characters of three bytes.
MOST_BYTES = 37_000
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
GREY = "#8a8a8a"
SHAPES = ("o", "s", "^", "D", "v", "P", "X")
_SIZES = ((120, 128), (110, 64), (100, 32), (80, 32), (64, 16), (48, 16), (32, 8))  # dots per inch, colours


@dataclass(frozen=True)
class Point:
    """One commit in the picture of growth: when, and how many records there were from then on."""

    at: datetime
    count: int


def map_picture(statistics: Statistics, places: Matrix, colouring: Colouring, *, most: int = MOST_BYTES) -> bytes:
    """The sampled records in the plane, as a PNG.

    Args:
        statistics: for the title.
        places: of the records, shape (n, 2); equal places become one larger point.
        colouring: of the records.
        most: bytes.
    """

    def draw(figure: Figure) -> None:
        axes: Any = figure.add_subplot()
        axes.set(xticks=[], yticks=[], aspect="equal", xlim=(-1.06, 1.06), ylim=(-1.06, 1.06))
        if colouring.numbers is not None:
            drawn = axes.scatter(*places.T, s=10, c=colouring.numbers, cmap="cividis", linewidths=0, alpha=0.85)
            figure.colorbar(drawn, ax=axes, shrink=0.75, pad=0.02).set_label(colouring.field)
        else:
            _draw_groups(figure, axes, places, colouring)
        said = f"{statistics.count:,} records" if statistics.count == 1 or statistics.count else "no record"
        if statistics.sampled < statistics.count:
            said = f"{statistics.sampled:,} of {said}, chosen at random"
        axes.set_title(f"{statistics.collection}: {said}", loc="left", fontsize=11)
        axes.set_xlabel("near points mean alike texts; the axes mean nothing", fontsize=8, color="#555555")

    return _png(draw, (7.2, 5.2), most)


def _draw_groups(figure: Figure, axes: Any, places: Matrix, colouring: Colouring) -> None:
    groups = colouring.groups if colouring.groups is not None else np.zeros(len(places), dtype=np.intp)
    labels = colouring.labels or ("",)
    for number in reversed(range(len(labels))):  # the largest group last, so that its points do not hide small ones
        mine = places[groups == number]
        if not len(mine):
            continue
        spots, times = np.unique(np.round(mine, 4), axis=0, return_counts=True)
        grey = labels[number] == OTHER and number == len(labels) - 1
        axes.scatter(
            *spots.T,
            s=(6 if grey else 9) + 6 * np.sqrt(times - 1),
            c=GREY if grey else COLOURS[number % len(COLOURS)],
            marker="o" if grey else SHAPES[number % len(SHAPES)],
            linewidths=0,
            alpha=0.5 if grey else 0.85,
            zorder=1 if grey else 2,
            label=f"{labels[number]} ({len(mine):,})",
        )
    if colouring.labels:
        handles, names = axes.get_legend_handles_labels()
        figure.legend(
            handles[::-1],
            names[::-1],
            title=colouring.field,
            loc="outside right upper",
            frameon=False,
            fontsize=8,
            markerscale=1.6,
            alignment="left",
        )


def growth_picture(statistics: Statistics, points: Sequence[Point], *, most: int = MOST_BYTES) -> bytes:
    """Records over time, a step for each commit, as a PNG; `points` in the order of time, at least one."""

    def draw(figure: Figure) -> None:
        from matplotlib import dates
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axes: Any = figure.add_subplot()
        times, counts = [point.at for point in points], [point.count for point in points]
        axes.step(times, counts, where="post", color=COLOURS[0], linewidth=1.6)
        axes.plot(times, counts, "o", color=COLOURS[0], markersize=4)
        axes.fill_between(times, counts, step="post", color=COLOURS[0], alpha=0.12, linewidth=0)
        end = (times[-1], counts[-1])
        axes.annotate(f"{counts[-1]:,}", end, xytext=(0, 6), textcoords="offset points", ha="right", fontsize=9)
        axes.set_ylim(0, max(*counts, 1) * 1.15)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if len(times) == 1:
            axes.set_xticks(times, [f"{times[0]:%Y-%m-%d %H:%M}"])
        else:
            locator = dates.AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        _bare(axes)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_ylabel("records")
        axes.set_xlabel("committed (UTC)")
        versions = "1 version" if len(points) == 1 else f"the last {len(points)} versions"
        axes.set_title(f"{statistics.collection}: growth over {versions}", loc="left", fontsize=11)

    return _png(draw, (7.2, 3.0), most)


def health_picture(statistics: Statistics, *, most: int = MOST_BYTES) -> bytes:
    """How far records are apart, and what part of them is as it should be, as a PNG."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        edges = np.linspace(0, 2, BINS + 1)
        for name, counts, colour in (
            ("any two records", statistics.pairs, COLOURS[0]),
            ("nearest other record", statistics.nearest, COLOURS[1]),
        ):
            parts = np.asarray(counts) / max(sum(counts), 1)
            left.stairs(parts, edges, color=colour, linewidth=1.6, label=name)
            left.stairs(parts, edges, color=colour, alpha=0.15, fill=True)
        shown = np.flatnonzero(np.asarray(statistics.pairs) + np.asarray(statistics.nearest))
        left.set_xlim(0, edges[min((shown.max() if len(shown) else 0) + 2, BINS)])
        left.set_xlabel("cosine distance")
        left.set_ylabel("share")
        left.legend(frameon=False, fontsize=8)
        _bare(left)
        left.set_title(f"{statistics.collection}: distances", loc="left", fontsize=11)
        rows = health_shares(statistics)[::-1]
        names, shares = [name for name, _ in rows], [share for _, share in rows]
        right.barh(names, [1.0] * len(rows), color="#eeeeee")
        right.barh(names, shares, color=COLOURS[2])
        for place, share in enumerate(shares):
            right.text(0.02, place, _percent(share), va="center", fontsize=8, color="white" if share > 0.3 else "black")
        right.set(xlim=(0, 1), xticks=[])
        right.tick_params(left=False, labelsize=8)
        for side in right.spines.values():
            side.set_visible(False)
        right.set_title("share of records", loc="left", fontsize=11)

    return _png(draw, (7.2, 3.0), most)


def health_shares(statistics: Statistics) -> list[tuple[str, float]]:
    """What part of the records is as it should be, by name."""
    rows = []
    if statistics.searched and statistics.searched.recall is not None:
        rows.append(("recall at 10", statistics.searched.recall))
    if statistics.searched and statistics.searched.searches:
        rows.append(("find themselves", statistics.searched.found / statistics.searched.searches))
    return [
        *rows,
        ("distinct vectors", 1 - statistics.duplicates),
        ("no near duplicate", 1 - statistics.share(statistics.near)),
        ("with text", 1 - statistics.share(statistics.empty)),
        ("sound vector", 1 - statistics.share(statistics.broken + statistics.zero)),
    ]


def _percent(share: float) -> str:
    # What is not quite all must not look as if it were.
    return "100 %" if share == 1 else f"{min(100 * share, 99.9):.1f} %"


def _bare(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)


def _png(draw: Callable[[Figure], None], inches: tuple[float, float], most: int) -> bytes:
    """Draw it as finely as fits into so many bytes; ValueError where nothing fits."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    # Without pyplot, which keeps figures and belongs to one thread.
    figure = Figure(figsize=inches, layout="constrained", facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    draw(figure)
    for dots, colours in _SIZES:
        figure.set_dpi(dots)
        canvas.draw()
        drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        file = io.BytesIO()
        drawn.quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        if file.tell() <= most:
            return file.getvalue()
    raise ValueError(f"the picture does not fit into {most} bytes")
