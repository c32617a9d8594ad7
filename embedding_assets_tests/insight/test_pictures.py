"""Maps, colours, pictures and the page: small enough, the same each time, and nothing in them that does not belong."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from embedding_assets.insight.charts import MOST_BYTES, Point, growth_picture, health_picture, map_picture
from embedding_assets.insight.colouring import Colouring, choose_colouring
from embedding_assets.insight.page import render_page
from embedding_assets.insight.projection import nearest, principal_axes, project
from embedding_assets.insight.statistics import Searched
from embedding_assets.records import RecordBatch
from embedding_assets_tests.insight.samples import cloud, numbers

START = datetime(2026, 11, 1, tzinfo=timezone.utc)


def near(sample: RecordBatch) -> np.ndarray:
    return nearest(principal_axes(sample.embeddings, 50), 10)


@settings(max_examples=25)
@given(st.integers(0, 20), st.integers(1, 5), st.integers(0, 2**31))
def test_every_sample_has_a_map_of_finite_places_and_equal_vectors_share_theirs(
    count: int, dimension: int, seed: int
) -> None:
    vectors = np.random.default_rng(seed).integers(0, 3, (count, dimension)).astype(np.float32)
    places = project(vectors)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    assert (np.abs(places) <= 1 + 1e-9).all()
    assert (places == project(vectors)).all()
    for one, other in zip(vectors, places, strict=True):
        assert (places[(vectors == one).all(axis=1)] == other).all()


def test_a_map_keeps_clusters_together_and_apart() -> None:
    sample = cloud(600, groups=4)
    groups = np.asarray([m["group"] for m in sample.metadatas])
    around = nearest(project(sample.embeddings), 10)
    assert (groups[around] == groups[:, None]).mean() > 0.97


def test_the_field_that_the_neighbourhoods_follow_colours_the_map() -> None:
    sample = cloud(300)
    found = choose_colouring(sample.metadatas, near(sample), None, choose=True)
    assert (found.field, set(found.labels)) == ("group", {"group 0", "group 1", "group 2"})
    wanted = choose_colouring(sample.metadatas, near(sample), "noise", choose=True)
    assert (wanted.field, len(wanted.labels)) == ("noise", 3)


def test_where_nothing_may_be_shown_no_field_is_chosen_but_a_declared_one_is_taken() -> None:
    sample = cloud(300)
    assert choose_colouring(sample.metadatas, near(sample), None, choose=False) == Colouring()
    assert choose_colouring(sample.metadatas, near(sample), "group", choose=False).field == "group"
    assert choose_colouring(sample.metadatas, near(sample), "no such field", choose=True) == Colouring()


def test_groups_beyond_the_colours_are_grey_together_and_many_numbers_are_a_scale() -> None:
    metadatas = [{"many": f"name {i % 20}", "number": i / 7} for i in range(300)]
    many = choose_colouring(metadatas, None, "many", choose=False)
    assert (len(many.labels), many.labels[-1]) == (8, "other")
    number = choose_colouring(metadatas, None, "number", choose=False)
    assert number.numbers is not None
    assert number.labels == ()


def pictures(sample: RecordBatch, points: list[Point], searched: Searched | None = None) -> dict[str, bytes]:
    statistics = numbers(sample, searched=searched)
    places = project(sample.embeddings)
    colouring = choose_colouring(sample.metadatas, near(sample) if len(sample) > 10 else None, None, choose=True)
    return {
        "map": map_picture(statistics, places, colouring),
        "growth": growth_picture(statistics, points),
        "health": health_picture(statistics),
    }


@pytest.mark.parametrize("count", [0, 1, 2, 2000])
def test_pictures_are_sound_png_files_that_fit_into_the_event_log(count: int) -> None:
    points = [Point(START + timedelta(hours=7 * i), 10 * i) for i in range(min(count, 100) or 1)]
    searched = Searched(32, 32, 0.9, 0.25, 0.0) if count else None
    for data in pictures(cloud(count), points, searched).values():
        assert len(data) <= MOST_BYTES
        image = Image.open(io.BytesIO(data))
        image.verify()
        assert image.width >= 400


def test_a_picture_is_made_coarser_until_it_fits_or_refused() -> None:
    statistics, places = numbers(cloud(2000)), np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    fine = map_picture(statistics, places, Colouring())
    coarse = map_picture(statistics, places, Colouring(), most=len(fine) // 2)
    assert len(coarse) <= len(fine) // 2
    with pytest.raises(ValueError, match="does not fit into 100 bytes"):
        map_picture(statistics, places, Colouring(), most=100)


class References(HTMLParser):
    """Whatever a browser would load or follow, and all tags."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = ("src", "href", "srcset", "data", "action", "poster", "xlink:href")
        self.loads += [value or "" for name, value in attrs if name in names]


EVIL = '"><script src="https://evil.example/x.js"></script><img src=https://evil.example/y.png onerror=alert(1)>'


def page_of(sample: RecordBatch, *, shown: int) -> str:
    statistics = numbers(sample, shown=shown, text_chars=200)
    places = project(sample.embeddings)
    colouring = choose_colouring(sample.metadatas, near(sample), "group", choose=bool(shown))
    texts = sample.documents if shown else ()
    drawn = pictures(sample, [Point(START, 1)])
    return render_page(statistics, drawn, places, colouring, texts, [("parent", EVIL)]).decode()


def test_the_page_loads_nothing_runs_nothing_and_shows_texts_as_texts() -> None:
    sample = cloud(60)
    sample = replace(
        sample,
        documents=[EVIL] * 60,
        metadatas=[{"group": EVIL + str(i % 2), EVIL: EVIL} for i in range(60)],
        ids=[f"{EVIL}{i}" for i in range(60)],
    )
    page = page_of(sample, shown=5)
    found = References()
    found.feed(page)
    assert all(reference.startswith("data:image/png;base64,") for reference in found.loads)
    assert not found.tags & {"script", "link", "iframe", "object", "a", "form"}
    assert "onerror" not in re.sub(r"&[a-z#0-9]+;|>[^<]*<", "", page)
    assert "default-src 'none'" in page
    assert "&lt;script src=" in page


def test_the_page_shows_no_record_where_none_may_be_shown() -> None:
    sample = replace(cloud(60), documents=["a marked text"] * 60)
    assert "a marked text" in page_of(sample, shown=5)
    hidden = page_of(sample, shown=0)
    assert "marked" not in hidden
    assert "id-1" not in hidden
    assert "60 records" in hidden
