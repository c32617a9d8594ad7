"""Readers and the declaration: another model, dimension or distance than the snapshot's is refused with a remedy."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedding_assets.errors import ConfigurationError
from embedding_assets.reading import open_collection
from embedding_assets.settings import Settings
from embedding_assets_tests.cells import Cell, receipt_lines

pytestmark = pytest.mark.service
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "dimension": ({"dimensions": 128}, "`dimensions: 64`"),
    "model": ({"model": "another-model"}, "`model: wordllama-256`"),
    "distance": ({"distance": "l2"}, "`distance: cosine`"),
    "all of them": (
        {"model": "another-model", "dimensions": 8, "distance": "ip"},
        "`model: wordllama-256`, `dimensions: 64`, `distance: cosine`",
    ),
}


def declared(cell: Cell, **wrong: Any) -> Cell:
    """The same collection under another declaration."""
    return dataclasses.replace(cell, spec=cell.spec.model_copy(update=wrong))


@pytest.mark.parametrize("case", WRONG)
def test_a_reader_refuses_another_kind_than_the_snapshot_holds_and_says_what_to_type(
    finished: Cell, tmp_path: Path, case: str
) -> None:
    wrong, remedy = WRONG[case]
    reader = dataclasses.replace(declared(finished, **wrong), folder=tmp_path)
    with pytest.raises(ConfigurationError) as refused:
        reader.read().close()
    assert "wordllama-256, 64 dimensions, cosine" in refused.value.reason
    assert str(reader.spec.vectors) in refused.value.reason
    assert f"Put {remedy} back" in refused.value.remedy


def test_a_reader_that_stays_open_looks_again_at_every_refresh(delivered: Cell) -> None:
    with delivered.read() as reader:
        delivered.write(receipt_lines(21))
        delivered.deliver()
        delivered.compact()
        reader.spec = declared(delivered, distance="l2").spec
        with pytest.raises(ConfigurationError, match="declared as wordllama-256, 64 dimensions, l2"):
            reader.refresh()
        assert reader.count() == 20  # what was open stays open
        reader.spec = delivered.spec
        assert reader.refresh()
        assert reader.count() == 21


def test_without_a_declaration_the_snapshots_own_model_embeds_the_query(
    finished: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", finished.sandbox.api_key)
    monkeypatch.setenv("OPENAI_BASE_URL", finished.sandbox.base_url)
    monkeypatch.setenv("EMBEDDING_ASSETS_CACHE", str(tmp_path))
    text = receipt_lines(20)["line-00007"]
    with open_collection(finished.spec.name, store=finished.store.url) as lines:
        assert lines.spec.vectors == finished.spec.vectors
        assert lines.query(text, n=1)[0].id == "line-00007"


def test_a_declared_collection_is_held_against_its_snapshot(finished: Cell, tmp_path: Path) -> None:
    file = tmp_path / "collections.yaml"
    settings = Settings("test", finished.store.url, file, tmp_path / "cache")
    spec = {"model": finished.spec.model, "dimensions": 64}
    file.write_text(json.dumps({"collections": {finished.spec.name: {**spec, "distance": "ip"}}}))
    with pytest.raises(ConfigurationError, match="declared as wordllama-256, 64 dimensions, ip"):
        open_collection(finished.spec.name, settings=settings)
    file.write_text(json.dumps({"collections": {finished.spec.name: spec}}))
    with open_collection(finished.spec.name, settings=settings) as lines:
        assert lines.count() == 20


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"where": {"$nonsense": 1}}, "where"),
        ({"where": {"a": 1, "b": 2}}, "where"),
        ({"where": {}}, "where"),
        ({"where": "x"}, "where"),
        ({"where": {"letters": {"$in": []}}}, "where"),
        ({"where": {"letters": float("nan")}}, "where"),
        ({"where": {"letters": {"$in": list(range(40_000))}}}, "too many"),
        ({"limit": -1}, "limit"),
        ({"offset": -1}, "offset"),
        ({"limit": 10**30}, None),
        ({"limit": 0}, None),
        ({"ids": []}, None),
        ({"ids": ["line-00001", "line-00001"]}, None),
        ({"ids": [1]}, "id"),
        ({"ids": ["\ud800"]}, "id"),
    ],
)
def test_a_get_that_chromadb_refuses_is_an_error_with_a_remedy(
    finished: Cell, tmp_path: Path, how: dict[str, Any], said: str | None
) -> None:
    with dataclasses.replace(finished, folder=tmp_path).read() as lines:
        if said is None:
            assert len({record.id for record in lines.get(**how)}) == len(lines.get(**how))
            return
        with pytest.raises(ConfigurationError) as refused:
            lines.get(**how)
        assert said in str(refused.value)
        assert refused.value.remedy


@pytest.mark.parametrize("n", [0, -1, 1.5, "3", None])
def test_a_query_for_no_number_of_records_is_an_error_with_a_remedy(finished: Cell, tmp_path: Path, n: Any) -> None:
    with dataclasses.replace(finished, folder=tmp_path).read() as lines:
        with pytest.raises(ConfigurationError, match="whole number"):
            lines.query(embedding=np.ones(64), n=n)
        with pytest.raises(ConfigurationError, match="where"):
            lines.query(embedding=np.ones(64), where={"$nonsense": 1})
        assert len(lines.query(embedding=np.ones(64), n=10**30)) == 20
