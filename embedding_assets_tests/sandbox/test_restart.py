"""A service that was killed goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedding_assets.sandbox import BatchFault, HttpFault, Sandbox, SandboxError
from embedding_assets_tests.sandbox.asking import as_file, client, content, ids, lines, results, submit, wait, wait_for

pytestmark = pytest.mark.service


def test_a_killed_service_goes_on_with_its_batches(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path) as sandbox:
        api = client(sandbox)
        done = wait(api, submit(api, as_file(lines(3))).id)
        kept = content(sandbox, done.output_file_id)
        sandbox.set_fault(BatchFault(seconds=3600, finished=2))
        sandbox.set_fault(HttpFault(path="/v1/models", status=500, skip=1))
        late = submit(api, as_file(lines(4)))
        wait_for(api, late.id, lambda batch: batch.status == "in_progress")
        many = submit(api, as_file(lines(20_000, encoding_format="base64")))
        wait_for(api, many.id, lambda batch: batch.request_counts is not None and batch.request_counts.completed > 0)
        sandbox.kill()
        (tmp_path / "unfinished" / "left behind").write_bytes(b"x")
        (tmp_path / "files" / "file-unknown").write_bytes(b"x")
        sandbox.restart()

        api = client(sandbox, retries=2)
        assert api.batches.retrieve(done.id) == done
        assert content(sandbox, done.output_file_id) == kept
        finished = wait(api, many.id)
        assert finished.status == "completed"
        assert sorted(ids(results(sandbox, finished.output_file_id))) == ids(lines(20_000))
        assert api.batches.retrieve(late.id).status == "in_progress"
        api.batches.cancel(late.id)
        assert len(results(sandbox, wait(api, late.id).output_file_id)) == 2
        assert [rule["spent"] for rule in sandbox.faults()] == [True, False]
        files = {file.id for file in api.files.list()}
        assert {path.name for path in (tmp_path / "files").iterdir()} == files
        assert list((tmp_path / "unfinished").iterdir()) == []


def test_a_folder_belongs_to_one_service(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path) as sandbox:
        with pytest.raises(SandboxError, match="Another sandbox runs"):
            Sandbox.start(tmp_path)
        base_url = sandbox.base_url
        assert sandbox.stop() == 0
        sandbox.restart()
        assert sandbox.base_url == base_url
        assert client(sandbox).batches.list().data == []
