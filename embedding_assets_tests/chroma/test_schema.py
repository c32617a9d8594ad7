"""What a `chroma.sqlite3` may define: what the migrations of any version of chromadb create, and nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from embedding_assets.chroma.api import opened
from embedding_assets.chroma.schema import strange_object
from embedding_assets.chroma.sqlite_reader import connect
from embedding_assets.chroma.structure import check_sqlite, check_structure
from embedding_assets.errors import CorruptedError
from embedding_assets_tests.chroma.databases import Setup, create, edit


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schema") / "db"
    create(folder, Setup())
    return folder


STRANGE = {
    "trigger": "CREATE TRIGGER more AFTER INSERT ON acquire_write BEGIN DELETE FROM embeddings; END",
    "trigger on the log": "CREATE TRIGGER more AFTER INSERT ON embeddings_queue BEGIN DELETE FROM embeddings; END",
    "view": "CREATE VIEW more AS SELECT * FROM embeddings",
    "table": "CREATE TABLE more (x)",
    "virtual table": "CREATE VIRTUAL TABLE more USING fts5(x)",
    "index": "CREATE INDEX more ON embeddings (seq_id)",
    "index of an expression": "CREATE INDEX more ON embeddings (upper(embedding_id))",
    "index under a name that is known": (
        "CREATE INDEX embedding_metadata_int_value ON embedding_metadata (abs(int_value))"
    ),
    "generated column": "ALTER TABLE segments ADD COLUMN more TEXT AS (upper(id)) VIRTUAL",
    "column with a check": "ALTER TABLE segments ADD COLUMN more TEXT CHECK (more IS NULL)",
    "column": "ALTER TABLE embeddings ADD COLUMN more TEXT",
}


@pytest.mark.parametrize("what", STRANGE)
def test_what_no_chromadb_defines_is_named_before_anything_is_run(whole: Path, tmp_path: Path, what: str) -> None:
    folder = shutil.copytree(whole, tmp_path / "db")
    before = "DROP INDEX embedding_metadata_int_value" if "known" in what else "SELECT 1"
    edit(folder, before, STRANGE[what])
    content = (folder / "chroma.sqlite3").read_bytes()
    for problems in (check_sqlite(folder), check_structure(folder).problems):
        assert "no version of chromadb" in "; ".join(problems)
    with pytest.raises(CorruptedError, match="no version of chromadb"), opened(folder):
        pass
    assert (folder / "chroma.sqlite3").read_bytes() == content


def test_what_analyze_leaves_is_no_fault(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "db")
    edit(folder, "ANALYZE")
    connect(folder).close()


def test_tables_of_a_later_version_are_left_to_chromadb_but_no_trigger_is(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "db")
    later = "INSERT INTO migrations VALUES ('sysdb', 11, '00011-more.sqlite.sql', 'CREATE TABLE more (x)', 'x')"
    edit(folder, later, "CREATE TABLE more (x)", "CREATE INDEX of_more ON more (x)")
    found = check_structure(folder)
    assert (found.problems, found.known_format, found.refusal_is_damage) == ((), False, False)
    edit(folder, "CREATE VIEW other AS SELECT * FROM more")
    assert "view 'other'" in check_structure(folder).problems[0]


def test_the_full_text_table_of_the_first_version_with_sqlite_is_known() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute('CREATE VIRTUAL TABLE embedding_fulltext USING fts5(id, string_value, tokenize="trigram")')
        assert strange_object(database) == ""


def test_every_version_of_chromadb_is_known_after_each_of_its_migrations(whole: Path) -> None:
    with closing(sqlite3.connect(whole / "chroma.sqlite3")) as database:
        assert strange_object(database) == ""
        (own,) = database.execute("SELECT sql FROM sqlite_master WHERE name = 'migrations'").fetchone()
        steps = database.execute(
            "SELECT dir, version, filename, sql, hash FROM migrations ORDER BY dir, version"
        ).fetchall()
    assert len(steps) == 18
    for folder in {step[0] for step in steps}:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute(own)
            for step in (step for step in steps if step[0] == folder):
                database.executescript(step[3])
                database.execute("INSERT INTO migrations VALUES (?, ?, ?, ?, ?)", step)
                assert strange_object(database) == "", step[:3]
