"""Collections whose declaration was wrong for a while, and what an earlier version did under it: it asked and paid."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from embedding_assets.batches import submit as submitting
from embedding_assets.batches.batch_file import write_batch_file
from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.batches.landing import counting_landings, fetch_landing
from embedding_assets.batches.plan import documents_for, plan_submission
from embedding_assets.batches.results import poll
from embedding_assets.batches.submit import execute_submission
from embedding_assets.catalog import CollectionSpec
from embedding_assets.settings import ApiSettings
from embedding_assets.vectorstore.delta import LandedBatch, build_delta, list_deltas, readable_deltas
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets_tests.cells import Cell

MODEL = "wordllama-256"
# The service has one model; its answers are taken for those of this name, too.
OTHER_NAME = "wordllama"
WRONG: dict[str, dict[str, Any]] = {
    "dimension": {"dimensions": 128},
    "model": {"model": OTHER_NAME},
    "distance": {"distance": "l2"},
}


class TwoNames(EmbeddingApi):
    """The API of a provider that serves the model under two names."""

    def embed(self, texts: Sequence[str], model: str, *how: Any) -> npt.NDArray[np.float32]:
        return super().embed(list(texts), MODEL if model == OTHER_NAME else model, *how)


def serve_both_names(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """The cell with a provider that serves the model under two names."""

    def written(spec: CollectionSpec, *how: Any) -> Path:
        asked = spec.model_copy(update={"model": MODEL}) if spec.model == OTHER_NAME else spec
        return write_batch_file(asked, *how)

    monkeypatch.setattr(submitting, "write_batch_file", written)
    settings = ApiSettings(cell.sandbox.api_key, cell.sandbox.base_url)
    return dataclasses.replace(cell, api=TwoNames(settings, retries=1))


def declared(cell: Cell, **changed: Any) -> Cell:
    """The same collection under another declaration."""
    return dataclasses.replace(cell, spec=cell.spec.model_copy(update=changed))


def as_earlier_versions_asked(wrong: Cell) -> None:
    """Submit without a look at what the collection holds: new documents, whatever the others were asked with."""
    documents, _ = documents_for(wrong.spec, wrong.day, wrong.day)
    plan = plan_submission(wrong.store, wrong.spec, wrong.day, documents)
    execute_submission(wrong.api, wrong.store, wrong.spec, dataclasses.replace(plan, again=()))


def as_earlier_versions_landed(wrong: Cell) -> None:
    """Wait and land, again without a look."""
    wrong.wait()
    poll(wrong.api, wrong.store, wrong.spec, wrong.day)


def as_earlier_versions_built(wrong: Cell, *, again: bool = False) -> Manifest:
    """Build one delta of the newest landings that no delta holds, or of all of them, under the declaration."""
    store, spec = wrong.store, wrong.spec
    deltas = readable_deltas(store, list_deltas(store, spec.name, wrong.day))
    held = {(entry.batch_id, entry.landing_id) for delta in deltas for entry in delta.batches}
    landings = [
        one
        for one in counting_landings(store, spec.name, wrong.day)
        if one.accepted and (again or (one.batch_id, one.landing_id) not in held)
    ]
    with TemporaryDirectory(dir=wrong.folder) as folder:
        batches = [
            LandedBatch(x.batch_id, x.created_at, x.landing_id, x.accepted, fetch_landing(store, x, Path(folder)))
            for x in landings
        ]
        return build_delta(store, spec, wrong.day, batches, run_id="earlier", scratch=Path(folder))


def as_earlier_versions_did(wrong: Cell) -> Manifest:
    """All of it."""
    as_earlier_versions_asked(wrong)
    as_earlier_versions_landed(wrong)
    return as_earlier_versions_built(wrong)
