"""Batches of other programs are found, claimed by the right collection, and fetched once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.batches.balance import balance
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.discover import Discovery, discover, read_unclaimed
from embedding_assets.batches.pending import pending_cells
from embedding_assets.batches.results import poll
from embedding_assets.batches.submit import submit
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.expectations import Foreign as ForeignRules
from embedding_assets.sandbox.faults import BatchFault
from embedding_assets.sandbox.launch import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store.objects import open_store
from embedding_assets_tests.batches.conftest import DAY, World

LINES = "IMAGE#{image_id}#RECEIPT#{receipt_id:int}#LINE#{line_id:int}"
COMMON: dict[str, Any] = {"model": "wordllama-256", "dimensions": 64}
CATALOG = Catalog(
    collections={
        "lines": CollectionSpec(name="lines", custom_id=LINES, **COMMON),
        "words": CollectionSpec(name="words", custom_id=f"{LINES}#WORD#{{word_id:int}}", **COMMON),
        "plain": CollectionSpec(name="plain", **COMMON),
    }
)


class Foreign:
    """Another program, with an API and a store of ours beside it."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox, self.folder = sandbox, folder
        self.api = EmbeddingApi(ApiSettings(sandbox.api_key, sandbox.base_url), retries=1)
        self.store = open_store((folder / "store").as_uri())

    def batch(self, ids: list[str], metadata: dict[str, str] | None = None, **body: Any) -> str:
        path = self.folder / "input.jsonl"
        lines = [
            {
                "custom_id": i,
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": "wordllama-256", "dimensions": 64, "input": f"text of {i}", **body},
            }
            for i in ids
        ]
        path.write_text("\n".join(map(json.dumps, lines)))
        return self.api.create_batch(self.api.upload(path), metadata or {}).id

    def discover(self, catalog: Catalog = CATALOG) -> Discovery:
        return discover(self.api, self.store, catalog)

    def settle(self) -> None:
        while any(not b.ended for b in self.api.list_batches()):
            pass


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Foreign]:
    with Sandbox.start(tmp_path / "service") as sandbox:
        yield Foreign(sandbox, tmp_path)


def test_each_batch_goes_to_its_collection_and_lands_there(foreign: Foreign) -> None:
    ids = {
        "lines": foreign.batch(["IMAGE#a#RECEIPT#1#LINE#1", "IMAGE#a#RECEIPT#1#LINE#2", "odd"]),
        "words": foreign.batch(["IMAGE#a#RECEIPT#1#LINE#1#WORD#1"]),
        "plain": foreign.batch(["anything", "at all"], {"collection": "plain"}),
    }
    strange = {
        foreign.batch(["nobody's"]): "no collection's pattern fits",
        foreign.batch(["x"], {"collection": "elsewhere"}): "not declared",
        foreign.batch(["IMAGE#a#RECEIPT#1#LINE#1"], dimensions=128): "128 dimensions",
    }
    assert len(pending_cells(foreign.api, foreign.store, CATALOG).undiscovered) == 6
    found = foreign.discover()
    assert {f.collection: f.batch_id for f in found.claimed} == ids
    assert {f.collection: (f.count, f.rejected) for f in found.claimed} == {
        "lines": (2, 1),
        "words": (1, 0),
        "plain": (2, 0),
    }
    assert {f.batch_id for f in found.unclaimed} == set(strange)
    for item in found.unclaimed:
        assert strange[item.batch_id] in item.reason
    foreign.settle()
    work = pending_cells(foreign.api, foreign.store, CATALOG)
    assert not work.undiscovered
    assert {(c.collection, c.day): c.finished for c in work.cells} == {(n, DAY): (i,) for n, i in ids.items()}
    for spec in CATALOG:
        poll(foreign.api, foreign.store, spec, DAY)
        books = balance(foreign.store, spec, DAY)
        assert books.balanced
        assert books.accepted == books.requested - books.rejected > 0
        assert [one.reason for one in books.rejections] == (
            ["'odd': no collection's pattern fits"] if spec.name == "lines" else []
        )
    assert not pending_cells(foreign.api, foreign.store, CATALOG).cells


def test_what_was_looked_at_is_not_fetched_again(foreign: Foreign) -> None:
    batches = [foreign.batch(["IMAGE#a#RECEIPT#1#LINE#1"]), foreign.batch(["nobody's"])]
    foreign.discover()
    for batch_id in batches:  # were they fetched again, they would be found gone
        foreign.api._client.files.delete(foreign.api.retrieve(batch_id).input_file_id)
    again = foreign.discover()
    assert (again.claimed, again.unclaimed, again.trouble, again.known) == ((), (), (), 2)
    assert again.unclaimed_before == 1
    (listed,) = read_unclaimed(foreign.store, CATALOG)
    assert (listed.batch_id, "no collection's pattern fits" in listed.reason) == (batches[1], True)
    changed = Catalog(collections={"any": CollectionSpec(name="any", custom_id="{anything}", **COMMON)})
    assert len(foreign.discover(changed).unclaimed) == 2


def test_patterns_that_both_fit_claim_nothing(foreign: Foreign) -> None:
    twice = {n: CollectionSpec(name=n, custom_id=LINES, **COMMON) for n in ("one-a", "two-a")}
    foreign.batch(["IMAGE#a#RECEIPT#1#LINE#1"])
    (found,) = foreign.discover(Catalog(collections=twice)).unclaimed
    assert "both fit" in found.reason


def test_a_foreign_batch_is_never_submitted_and_never_repeated_when_its_program_cancelled_it(foreign: Foreign) -> None:
    foreign.sandbox.set_fault(BatchFault(outcome="cancelled", finished=1))
    foreign.batch([f"IMAGE#a#RECEIPT#1#LINE#{i}" for i in range(3)])
    foreign.discover()
    foreign.settle()
    spec = CATALOG.get("lines")
    poll(foreign.api, foreign.store, spec, DAY)
    assert submit(foreign.api, foreign.store, spec, DAY).rows == ()
    books = balance(foreign.store, spec, DAY)
    assert (books.accepted, books.rejected, books.pending) == (1, 2, 0)


def test_what_expired_of_a_foreign_batch_is_asked_again_only_where_the_collection_says_so(foreign: Foreign) -> None:
    foreign.sandbox.set_fault(BatchFault(outcome="expired", finished=1))
    foreign.batch([f"IMAGE#a#RECEIPT#1#LINE#{i}" for i in range(3)])
    foreign.discover()
    foreign.settle()
    spec = CATALOG.get("lines")
    poll(foreign.api, foreign.store, spec, DAY)
    assert not pending_cells(foreign.api, foreign.store, CATALOG).cells
    assert submit(foreign.api, foreign.store, spec, DAY).rows == ()
    books = balance(foreign.store, spec, DAY)
    assert (books.accepted, books.rejected, books.pending) == (1, 2, 0)
    assert all("is not asked again" in one.reason for one in books.rejections)
    spec = spec.model_copy(update={"foreign": ForeignRules(ask_again=True)})
    catalog = CATALOG.model_copy(update={"collections": {**CATALOG.collections, "lines": spec}})
    (cell,) = pending_cells(foreign.api, foreign.store, catalog).cells
    assert (cell.collection, cell.again) == ("lines", 2)
    assert submit(foreign.api, foreign.store, spec, DAY).count("submitted") == 2
    foreign.settle()
    (cell,) = pending_cells(foreign.api, foreign.store, catalog).cells
    assert (len(cell.finished), cell.again) == (1, 0)
    poll(foreign.api, foreign.store, spec, DAY)
    assert balance(foreign.store, spec, DAY).accepted == 3
    assert not pending_cells(foreign.api, foreign.store, catalog).cells


def test_another_deployments_batches_are_left_alone(world: World, tmp_path: Path) -> None:
    world.submit()
    catalog = Catalog(collections={world.spec.name: world.spec})
    other = open_store((tmp_path / "other").as_uri())
    found = discover(world.api, other, catalog)
    assert not found.claimed
    assert not found.unclaimed
    assert found.elsewhere >= 1
    assert discover(world.api, world.store, catalog).duplicates == ()
