"""Minus zero in metadata is written as zero; a request that asked for it is whole all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedding_assets.batches.documents import read_documents
from embedding_assets.batches.files import write_parquet
from embedding_assets.batches.mending import own_pairs, pairs_of


@pytest.mark.parametrize("metadata", ['{"x": -0.0}', '{"x": -0.0, "y": 0.0, "z": -0.0, "n": 0}', '{"x": [-0.0]}'])
def test_documents_with_minus_zero_are_what_was_asked(tmp_path: Path, metadata: str) -> None:
    (tmp_path / "2026-11-27.jsonl").write_text(f'{{"id": "a", "text": "t", "metadata": {metadata}}}\n')
    asked = read_documents(f"{tmp_path}/{{day}}.jsonl", "2026-11-27", None).table
    path = write_parquet(asked, tmp_path / "documents.parquet")
    assert own_pairs(path) == pairs_of(asked) != set()
    other = asked.set_column(asked.schema.get_field_index("document"), asked.schema.field("document"), [["u"]])
    assert own_pairs(write_parquet(other, tmp_path / "other.parquet")) is None
