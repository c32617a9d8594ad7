"""Batches that are waited for are found by our own records, though the API's list does not show them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedding_assets.batches.client import ApiMissingError, BatchPage, EmbeddingApi
from embedding_assets.batches.landing import counting_landings
from embedding_assets.pipeline.pending import cells_to_run
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets_tests.cells import Cell
from embedding_assets_tests.moved_clock import later

pytestmark = pytest.mark.service


class UnlistedApi(EmbeddingApi):
    """The real service, whose list is empty."""

    def page(self, after: str | None = None) -> BatchPage:
        return BatchPage((), False)


def unlisted(cell: Cell) -> Cell:
    return replace(cell, api=UnlistedApi(ApiSettings(cell.sandbox.api_key, cell.sandbox.base_url), retries=0))


def test_a_batch_whose_answers_are_late_is_looked_up_within_the_hour(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = unlisted(cell)
    cell.submit()
    replace(cell, api=EmbeddingApi(ApiSettings(cell.sandbox.api_key, cell.sandbox.base_url))).wait()
    with monkeypatch.context() as late:

        def missing(file_id: str, take: object) -> None:
            raise ApiMissingError("file", "is not there", "Wait.")

        late.setattr(cell.api, "read", missing)
        position = cells_to_run(cell.api, cell.store, cell.catalog)[1].position
        assert cell.land().count("pending") == 2
    with later(hours=1):
        cells, _ = cells_to_run(cell.api, cell.store, cell.catalog, position=position)
    assert [one.reasons for one in cells] == [("2 batches have finished",)]


def test_a_landing_whose_manifest_is_damaged_before_it_is_in_a_delta_is_polled_again(landed: Cell) -> None:
    cell = unlisted(landed)
    for one in counting_landings(cell.store, cell.spec.name, cell.day):
        cell.store.replace(f"{one.folder}/{layout.MANIFEST}", b"damage")
    assert [one.day for one in cell.to_run()] == [cell.day]
    assert cell.land().count("landed") == 2
    cell.build()
    assert cell.books().accepted == 20
    assert cell.to_run() == []
