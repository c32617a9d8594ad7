"""Records that were rejected for their model's name are read afresh, for nothing, once that name is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest

from embedding_assets.batches.client import ApiMissingError, EmbeddingApi
from embedding_assets.settings import ApiSettings
from embedding_assets_tests.cells import Cell

pytestmark = pytest.mark.service

T = TypeVar("T")
NAME = "vendor/embedder-v2"


class RenamingApi(EmbeddingApi):
    """The real service, of which the first lines of each output file name another model."""

    lines = 10**9
    gone = False

    def read(self, file_id: str, take: Callable[[Iterator[bytes]], T]) -> T:
        if self.gone:
            raise ApiMissingError("file", "is not there", "Wait.")
        lines = super().read(file_id, b"".join).splitlines(keepends=True)
        return take(
            iter([x.replace(b"wordllama-256", NAME.encode()) for x in lines[: self.lines]] + lines[self.lines :])
        )


def under_another_name(cell: Cell, lines: int) -> Cell:
    """The cell delivered, as far as its answers name the declared model."""
    api = RenamingApi(ApiSettings(cell.sandbox.api_key, cell.sandbox.base_url), retries=0)
    api.lines = lines
    cell = replace(cell, api=api)
    cell.deliver()
    assert (cell.books().accepted, cell.books().rejected) == (20 - min(lines, 10) * 2, min(lines, 10) * 2)
    assert cell.to_run() == []
    return cell


def declaring(cell: Cell, *names: str) -> Cell:
    return replace(cell, spec=cell.spec.model_copy(update={"model_answers_as": names}))


@pytest.mark.parametrize("lines", [10, 3])
def test_they_are_accepted_by_the_run_that_the_sensor_asks_for(cell: Cell, lines: int) -> None:
    cell = under_another_name(cell, lines)
    assert declaring(cell, "vendor/another").to_run() == []
    cell = declaring(cell, NAME)
    (found,) = cell.to_run()
    assert "2 batches" in found.reasons[0]
    assert "declared by now" in found.reasons[0]
    assert not found.ask
    cell.land()
    cell.build()
    assert (cell.books().accepted, cell.books().rejected, len(cell.batch_ids())) == (20, 0, 2)
    assert cell.to_run() == []
    assert cell.compact().manifest.count == 20


def test_where_the_api_no_longer_has_the_file_it_is_tried_once(cell: Cell) -> None:
    cell = declaring(under_another_name(cell, 3), NAME)
    api = cell.api
    assert isinstance(api, RenamingApi)
    api.gone = True
    (found,) = cell.to_run()
    assert found.once
    assert cell.land().count("kept") == 2
    assert [one.state for one in cell.to_run()] == [found.state]
    assert (cell.books().accepted, cell.books().rejected) == (14, 6)
