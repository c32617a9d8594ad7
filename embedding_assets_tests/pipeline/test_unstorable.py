"""A landed record that no database takes: its cell goes on, and everything that looks says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedding_assets.errors import ConfigurationError
from embedding_assets.pipeline import cells
from embedding_assets.pipeline.operations import delete_deltas, restore
from embedding_assets.pipeline.proofs import prove_deltas
from embedding_assets.pipeline.status import collection_status
from embedding_assets.pipeline.upkeep import check_collection, list_quarantined
from embedding_assets.records import RecordBatch
from embedding_assets_tests.cells import Cell
from embedding_assets_tests.vectorstore.worlds import spoil_merges

pytestmark = pytest.mark.service


def test_a_record_that_cannot_be_stored_is_named_everywhere_and_stops_nothing(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = cells.fetch_landing
    spoiled = "line-00003"

    def spoil(*args: Any) -> Path:
        path = fetched(*args)
        records = RecordBatch.from_arrow(pq.read_table(path))
        vectors = records.embeddings.copy()
        vectors[[record_id == spoiled for record_id in records.ids], 0] = np.nan
        broken = RecordBatch(records.ids, vectors, records.documents, records.metadatas)
        pq.write_table(broken.to_arrow(), path)
        return path

    monkeypatch.setattr(cells, "fetch_landing", spoil)
    built = cell.deliver()
    assert [(manifest.count, manifest.set_aside) for manifest in built.built] == [(19, 1)]
    cell.compact()

    assert cell.to_run() == []
    assert cell.submit().rows == ()
    assert cell.build().built == ()
    assert (cell.books().accepted, cell.books().pending) == (20, 0)
    assert prove_deltas(cell.store, cell.spec, cell.day).set_aside == (spoiled,)
    proof = cell.proof()
    assert (proof.accepted, proof.waiting, proof.set_aside, proof.lost) == (20, 0, (spoiled,), ())
    assert collection_status(cell.store, cell.spec).set_aside_records == 1
    found = check_collection(cell.store, cell.spec, "quick", tmp_path)
    assert [row["name"] for row in found.rows if row["kind"] == "records" and spoiled in row["state"]] == [
        built.built[0].id
    ]
    (entry,) = list_quarantined(cell.store, cell.spec).rows
    assert entry["kind"] == "record"
    assert spoiled in entry["reason"]
    with pytest.raises(ConfigurationError, match="deltas delete"):
        restore(cell.store, cell.spec, "record", entry["name"], force=True)

    # After an update that mends it: the delta is deleted, and built again of all records.
    monkeypatch.setattr(cells, "fetch_landing", fetched)
    delete_deltas(cell.store, cell.spec, [built.built[0].id], scratch=tmp_path).execute()
    cell.deliver()
    cell.compact()
    proof = cell.proof()
    assert (proof.manifest and proof.manifest.count, proof.set_aside, proof.lost) == (20, (), ())
    assert collection_status(cell.store, cell.spec).set_aside_records == 0


def test_so_it_is_where_the_record_does_not_survive_a_merge(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = "line-00003"
    built = cell.deliver()
    with monkeypatch.context() as patched:
        spoil_merges(patched, {spoiled})
        done = cell.compact()
    assert done.manifest is not None
    assert (done.manifest.count, [one.name for one in done.damages]) == (19, [built.built[0].id])

    assert cell.to_run() == []
    assert cell.submit().rows == ()
    cell.land()
    assert cell.build().built == ()
    assert cell.compact().merged is None
    assert (cell.books().accepted, cell.books().pending) == (20, 0)
    assert prove_deltas(cell.store, cell.spec, cell.day).set_aside == (spoiled,)
    proof = cell.proof()
    assert (proof.accepted, proof.waiting, proof.set_aside, proof.lost) == (20, 0, (spoiled,), ())
    assert collection_status(cell.store, cell.spec).set_aside_records == 1
    found = check_collection(cell.store, cell.spec, "quick", tmp_path)
    (delta,) = [str(row["name"]) for row in found.rows if row["kind"] == "records" and spoiled in row["state"]]
    assert found.count("corrupted") == 0
    entries = {row["kind"]: row for row in list_quarantined(cell.store, cell.spec).rows}
    assert spoiled in str(entries["record"]["reason"])
    assert delta in str(entries["delta"]["reason"])

    # After an update that mends it: the delta is deleted, and built again of all records.
    delete_deltas(cell.store, cell.spec, [delta], scratch=tmp_path).execute()
    cell.deliver()
    cell.compact()
    proof = cell.proof()
    assert (proof.manifest and proof.manifest.count, proof.set_aside, proof.lost) == (20, (), ())
