"""A few writes with plain ChromaDB show whether a database can be gone on with, and leave its index files alone."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from embedding_assets.chroma import api
from embedding_assets.chroma.canary import Canary
from embedding_assets.chroma.child import examine_in_child
from embedding_assets.chroma.merge import merge
from embedding_assets.chroma.sqlite_writer import set_sync_threshold
from embedding_assets_tests.chroma import databases
from embedding_assets_tests.chroma.test_merge import records, source, spec_of


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
@pytest.mark.parametrize("count", [1, 300])
def test_a_merged_database_takes_writes(tmp_path: Path, space: str, count: int) -> None:
    folder, spec = tmp_path / "db", spec_of(space)
    merge(folder, spec, [source(tmp_path / "s", "a", records(1, list(range(count))), 1)])
    databases.wait_until_closed(folder)
    with databases.client(folder) as client:  # one that would write the index with every other row
        client.get_collection(databases.NAME).modify(configuration={"hnsw": {"sync_threshold": 2}})
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=os.link)
    (copy / "chroma.sqlite3").unlink()
    shutil.copy(folder / "chroma.sqlite3", copy / "chroma.sqlite3")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    examined = examine_in_child(copy, spec, records=count, subject="merged", to_be_written=True)
    assert not examined.problems
    assert examined.synced
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_database_that_would_swallow_writes_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    merge(folder, spec_of(), [source(tmp_path / "s", "a", records(1, list(range(30))), 1)])
    databases.wait_until_closed(folder)
    databases.edit(folder, "DELETE FROM embeddings_queue")
    with api.opened(folder) as client:
        problems = Canary(spec_of().dimension).sing(client.get_collection(databases.NAME, embedding_function=None))
    assert "written to by chromadb, a client that adds two gives 30, not 32" in problems


def test_the_sync_threshold_is_set_as_chromadb_sets_it(tmp_path: Path) -> None:
    settings = []
    for set_threshold in (api.set_sync_threshold, set_sync_threshold):
        folder = tmp_path / set_threshold.__module__
        merge(folder, spec_of(), [source(tmp_path / "s", "a", records(1, list(range(30))), 1)])
        set_threshold(folder, databases.NAME, 77)
        with closing(sqlite3.connect(folder / "chroma.sqlite3")) as connection:
            settings.append(json.loads(connection.execute("SELECT schema_str FROM collections").fetchone()[0]))
        with databases.client(folder) as client:
            assert client.get_collection(databases.NAME).configuration["hnsw"]["sync_threshold"] == 77
    assert settings[0] == settings[1]
