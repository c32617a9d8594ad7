"""The report of a version as one HTML page: no script, nothing from any network, readable for years."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from embedding_assets.insight.charts import COLOURS, GREY, health_shares
from embedding_assets.insight.colouring import OTHER, Colouring
from embedding_assets.insight.projection import Matrix
from embedding_assets.insight.statistics import Statistics

# No source but the page itself: whatever a text in it contains, nothing is loaded and nothing runs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 }
h2 { font-size: 1.1rem; margin-top: 2.2rem }
p.about { color: #666; margin-top: .2rem }
img { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: .9rem }
td, th { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e6e6e6 }
td { overflow-wrap: anywhere }
td.n { text-align: right; font-variant-numeric: tabular-nums }
svg { border: 1px solid #ccc; width: 100%; max-width: 46rem; height: auto }
svg circle:hover { stroke: #000; stroke-width: 2 }
.key span { margin-right: 1.2rem; white-space: nowrap }
.key svg { width: .8em; border: 0 }
"""
_SIDE = 700


def render_page(
    statistics: Statistics,
    pictures: Mapping[str, bytes],
    places: Matrix,
    colouring: Colouring,
    texts: Sequence[str],
    facts: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The page.

    Args:
        statistics: the version's.
        pictures: PNG files by name: `map`, `growth`, `health`; what is missing is left out.
        places, colouring: of the sampled records, as in the map.
        texts: what a point of the map says when the mouse is on it; empty where nothing may be shown.
        facts: more about the version, name and value.
    """
    name = escape(statistics.collection)
    numbers = [*facts, *_numbers(statistics)]
    parts = [
        f"<h1>{name}</h1><p class=about>snapshot {escape(statistics.version)}, committed "
        f"{escape(statistics.committed_at[:19].replace('T', ' '))} UTC: {statistics.count:,} records, "
        f"{statistics.dimension:,} dimensions, {escape(statistics.model)}</p>"
    ]
    parts.append("<h2>Map</h2>" + _map(pictures, places, colouring, texts))
    parts += [
        f"<h2>{title}</h2>{_image(pictures[key], title)}"
        for title, key in (("Growth", "growth"), ("Health", "health"))
        if key in pictures
    ]
    parts.append("<h2>Numbers</h2><table>" + "".join(_row(*pair) for pair in numbers) + "</table>")
    if statistics.metadata_keys:
        rows = "".join(_row(key, _percent(share)) for key, share in statistics.metadata_keys.items())
        parts.append(f"<h2>Metadata: which part of the records has which key</h2><table>{rows}</table>")
    if statistics.examples:
        rows = "".join(
            f"<tr><td>{escape(one.id)}</td><td>{escape(one.text)}</td><td>{escape(one.metadata)}</td></tr>"
            for one in statistics.examples
        )
        head = "<tr><th>id<th>text<th>metadata</tr>"
        parts.append(f"<h2>Some records, chosen at random</h2><table>{head}{rows}</table>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    ).encode()


def _map(pictures: Mapping[str, bytes], places: Matrix, colouring: Colouring, texts: Sequence[str]) -> str:
    """Where texts may be shown, every point says its own; else the picture."""
    if not texts or colouring.numbers is not None:
        return _image(pictures["map"], "Map") if "map" in pictures else "<p>There is no map of this version.</p>"
    circles = []
    points = zip(places, texts, _colours(colouring, len(places)), strict=True)
    for place, text, colour in sorted(points, key=lambda point: point[2] != GREY):  # grey does not hide what has a name
        x, y = (_SIDE / 2 * (1 + 0.96 * float(place[0])), _SIDE / 2 * (1 - 0.96 * float(place[1])))
        circles.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"><title>{escape(text)}</title></circle>'
        )
    names = "".join(
        f'<span><svg viewBox="0 0 10 10"><circle cx="5" cy="5" r="5" fill="{colour}"/></svg> {escape(label)}</span>'
        for label, colour in zip(colouring.labels, _palette(colouring), strict=True)
    )
    key = f"<p class=key><b>{escape(colouring.field)}</b> {names}</p>" if colouring.labels else ""
    return (
        f'{key}<svg viewBox="0 0 {_SIDE} {_SIDE}" fill-opacity="0.7">{"".join(circles)}</svg>'
        "<p class=about>Near points mean alike texts; the axes mean nothing. Rest the mouse on a point to read it.</p>"
    )


def _palette(colouring: Colouring) -> list[str]:
    last = len(colouring.labels) - 1
    return [
        GREY if label == OTHER and number == last else COLOURS[number % len(COLOURS)]
        for number, label in enumerate(colouring.labels)
    ]


def _colours(colouring: Colouring, count: int) -> list[str]:
    if colouring.groups is None:
        return [COLOURS[0]] * count
    palette = _palette(colouring)
    return [palette[group] for group in colouring.groups]


def _numbers(statistics: Statistics) -> list[tuple[str, str]]:
    rows = [(name, _percent(share)) for name, share in health_shares(statistics)]
    rows.append(("texts that stand more than once", _percent(statistics.share(statistics.same_text))))
    if statistics.norms:
        rows.append(("length of vectors: least, median, greatest", _three(statistics.norms[::2])))
    if statistics.text_chars:
        rows.append(("characters of a text: 10th percentile, median, 90th", _three(statistics.text_chars)))
    rows.append(("records looked at for this page", f"{statistics.sampled:,} of {statistics.count:,}"))
    return rows


def _three(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,.4g}" for value in values)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _row(name: str, value: str) -> str:
    return f"<tr><td>{escape(name)}</td><td class=n>{escape(value)}</td></tr>"


def _image(picture: bytes, name: str) -> str:
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
