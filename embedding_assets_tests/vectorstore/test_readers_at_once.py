"""Several programs' threads read one local copy of a snapshot at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from embedding_assets.chroma.api import client_on, close_client
from embedding_assets.store.objects import open_store
from embedding_assets_tests.making import numbered
from embedding_assets_tests.vectorstore.worlds import bring_up_to_date, deliver, read


def test_threads_open_and_close_the_same_copy(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = open_store(f"file://{tmp_path}/store")
    deliver(store, tmp_path, "batch-a", numbered(0, 5))
    bring_up_to_date(store, tmp_path)

    def count(_: int) -> int:
        with read(store, tmp_path) as lines:
            return lines.count()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(count, range(60))) == {5}


def test_one_client_outlives_another_on_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = open_store(f"file://{tmp_path}/store")
    deliver(store, tmp_path, "batch-a", numbered(0, 5))
    bring_up_to_date(store, tmp_path)
    with read(store, tmp_path) as lines:
        folder = next(path.parent for path in (tmp_path / "cache").rglob("chroma.sqlite3") if ".open" in path.parts)
        close_client(client_on(folder))
        assert lines.count() == 5
