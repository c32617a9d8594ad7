"""Readers ask for more records at once than one SQL statement of chromadb takes, by pages, in the order asked."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from embedding_assets import reading
from embedding_assets.reading import Collection
from embedding_assets.store.objects import open_store
from embedding_assets.vectorstore.compact import compact
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import bring_up_to_date, deliver, read

MANY = 32_800  # a statement takes 32,766 values
FEW = 60


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    folder = tmp_path_factory.mktemp("many")
    store = open_store("memory://")
    deliver(store, folder, "a", numbered(0, MANY))
    bring_up_to_date(store, folder)
    with read(store, folder) as lines:
        yield lines


def test_a_get_of_more_ids_than_a_statement_takes(many: Collection) -> None:
    asked = numbered(0, MANY)[::-1]
    assert [record.id for record in many.get(asked)] == asked


def test_a_get_of_everything(many: Collection) -> None:
    assert sorted(record.id for record in many.get()) == numbered(0, MANY)
    assert len(many.get(where={"even": {"$in": [True, False]}})) == MANY


def test_a_query_for_more_than_a_statement_takes(many: Collection) -> None:
    found = many.query(embedding=np.ones(8), n=MANY)
    distances = [record.distance or 0.0 for record in found]
    assert len({record.id for record in found}) == len(found) > 0.99 * MANY
    assert distances == sorted(distances)
    assert found[0].document == f"text of {found[0].id}"


@pytest.fixture(scope="module", params=[1, 3])
def few(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    folder = tmp_path_factory.mktemp("few")
    store = open_store("memory://")
    deliver(store, folder, "a", numbered(0, FEW))
    compact(store, SPEC.model_copy(update={"shards": request.param}), run_id="test", scratch=folder)
    with read(store, folder) as lines:
        yield lines


@pytest.mark.parametrize("page", [1, 7, 60, 61])
def test_however_long_a_page_is_the_answers_are_the_same(
    few: Collection, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGE", page)
    ids = [*numbered(0, FEW), "not there"]
    random.Random(7).shuffle(ids)
    here = [one for one in ids if one != "not there"]
    every = [record.id for record in few.get()]
    assert sorted(every) == numbered(0, FEW)
    even = [record.id for record in few.get(where={"even": True})]
    assert sorted(even) == numbered(0, FEW)[::2]
    assert [record.id for record in few.get(ids, where={"even": True})] == [one for one in here if one in set(even)]
    for offset in (0, 1, 29, 59, 60, 500):
        for limit in (0, 1, 30, 500, None):
            stop = None if limit is None else offset + limit
            assert [record.id for record in few.get(limit=limit, offset=offset)] == every[offset:stop]
            assert [r.id for r in few.get(where={"even": True}, limit=limit, offset=offset)] == even[offset:stop]
            assert [record.id for record in few.get(ids, limit=limit, offset=offset)] == here[offset:stop]
    nearest = few.query(embedding=np.ones(8), n=FEW)
    assert [(one.id, one.distance) for one in few.query(embedding=np.ones(8), n=9)] == [
        (one.id, one.distance) for one in nearest[:9]
    ]
    assert {one.id for one in nearest} == set(every)
