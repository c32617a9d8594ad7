"""Nothing is dropped without a word: a rebuild that lacks a delta, a commit whose files are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedding_assets.errors import ConfigurationError, CorruptedError
from embedding_assets.pipeline.log_walk import walk_log
from embedding_assets.pipeline.operations import rebuild_snapshot
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore import draft
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets_tests.making import SPEC, numbered
from embedding_assets_tests.vectorstore.worlds import bring_up_to_date, deliver, heal, held, keys


def test_a_rebuild_without_a_delta_says_so_and_wants_to_be_forced(folder_store: ObjectStore, tmp_path: Path) -> None:
    gone = deliver(folder_store, tmp_path, "a", numbered(0, 5))
    deliver(folder_store, tmp_path, "b", numbered(5, 9), submitted=2000)
    before = bring_up_to_date(folder_store, tmp_path)
    folder_store.delete(keys(folder_store, gone.folder))
    assert [row["name"] for row in walk_log(folder_store, "lines")] == [gone.id]
    planned = rebuild_snapshot(folder_store, SPEC, run_id="test", scratch=tmp_path)
    assert gone.id in planned.warning
    with pytest.raises(ConfigurationError, match=gone.id):
        planned.execute()
    commit = head(folder_store, "lines")
    assert commit is not None
    assert commit.version == before.id
    rebuild_snapshot(folder_store, SPEC, run_id="test", scratch=tmp_path, force=True).execute()
    assert set(held(folder_store, tmp_path)) == set(numbered(5, 9))


def test_a_version_whose_files_are_pruned_before_its_commit_is_not_committed(
    folder_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(folder_store, tmp_path, "a", numbered(0, 5))
    unite = draft.unite

    def pruned_meanwhile(*how: object) -> Manifest:
        manifest: Manifest = unite(*how)  # type: ignore[arg-type]
        folder_store.delete([f"{manifest.folder}/{manifest.files[0].path}"])
        return manifest

    with monkeypatch.context() as patch:
        patch.setattr(draft, "unite", pruned_meanwhile)
        with pytest.raises(CorruptedError, match="was not committed"):
            heal(folder_store, tmp_path)
    assert head(folder_store, "lines") is None
    bring_up_to_date(folder_store, tmp_path)
    assert set(held(folder_store, tmp_path)) == set(numbered(0, 5))
