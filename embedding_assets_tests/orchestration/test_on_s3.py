"""The complete pipeline on a real S3 server that checks credentials, with documents and collections on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster_aws.s3 import S3Resource

from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.resources import StoreResource
from embedding_assets.reading import open_collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings, S3Settings, Settings
from embedding_assets.store.layout import new_id
from embedding_assets.store.objects import open_store
from embedding_assets_tests.cells import Cell, contents, receipt_lines, write_documents
from embedding_assets_tests.orchestration.deployment import KEY_VARIABLE, Deployment, metadata, trouble
from embedding_assets_tests.s3_server import BUCKET, S3Server

pytestmark = [pytest.mark.dagster, pytest.mark.service, pytest.mark.s3]

SECRET_VARIABLE = "TEST_OF_THE_WHOLE_AWS_SECRET"


@pytest.fixture
def on_s3(
    sandbox: Sandbox, s3: S3Server, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """A collection whose documents and store are on S3; the secrets are in the environment."""
    home = f"s3://{BUCKET}/{new_id()}"
    cell = Cell.make(sandbox, tmp_path, batch_requests=10, documents=f"{home}/documents/{{day}}.jsonl")
    write_documents(tmp_path / "documents.jsonl", receipt_lines(20))
    open_store(home, s3.writer).upload(f"documents/{cell.day}.jsonl", tmp_path / "documents.jsonl")
    cell = replace(cell, store=open_store(f"{home}/store", s3.writer))
    return replace(Deployment.of(cell, instance), store=resource(cell, s3.writer, monkeypatch))


def resource(cell: Cell, who: S3Settings, monkeypatch: pytest.MonkeyPatch) -> StoreResource:
    """The store with somebody's keys, through the resource that the rest of a deployment uses too."""
    assert who.aws_secret_access_key is not None
    monkeypatch.setenv(SECRET_VARIABLE, who.aws_secret_access_key)
    return StoreResource(
        url=cell.store.url,
        s3=S3Resource(
            endpoint_url=who.endpoint_url,
            region_name=who.region_name,
            max_attempts=who.max_attempts,
            aws_access_key_id=who.aws_access_key_id,
            aws_secret_access_key=dg.EnvVar(SECRET_VARIABLE),
        ),
    )


def test_from_documents_on_s3_to_a_collection_that_programs_open(
    on_s3: Deployment, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = on_s3.cell
    assert on_s3.run_cell("embedding_requests").success
    cell.wait()
    (result,) = on_s3.obey(CELL_JOB, on_s3.tick("finished_batches"))
    assert result.success
    assert metadata(result, "deltas")["built_records"] == 20
    (result,) = on_s3.obey(COMPACTION_JOB, on_s3.tick("lacking_snapshots"))
    assert result.success

    declared = {"collections": {cell.spec.name: json.loads(cell.spec.model_dump_json(exclude={"name"}))}}
    (tmp_path / "collections.yaml").write_text(yaml.safe_dump(declared))
    settings = Settings(
        "test",
        cell.store.url,
        tmp_path / "collections.yaml",
        tmp_path / "cache",
        s3.reader,
        ApiSettings(cell.sandbox.api_key, cell.sandbox.base_url),
    )
    texts = receipt_lines(20)
    with open_collection(cell.spec.name, settings=settings) as lines:
        assert {record.id: record.document for record in lines.get()} == texts
        assert lines.query(texts["line-00011"], n=1)[0].id == "line-00011"

    before = contents(cell.store)
    assert on_s3.run_cell().success
    assert contents(cell.store) == before
    said = on_s3.everything_said()
    assert cell.sandbox.api_key not in said
    assert str(s3.writer.aws_secret_access_key) not in said
    assert KEY_VARIABLE in said  # the name of the variable is no secret, and shows that the configuration is in it


@pytest.mark.parametrize("who", ["stranger", "reader"])
def test_credentials_that_are_wrong_or_only_read_fail_clearly_before_anything_is_spent(
    on_s3: Deployment, s3: S3Server, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    cell = on_s3.cell
    before = contents(cell.store)
    on_s3.store = resource(cell, {"stranger": s3.stranger, "reader": s3.reader}[who], monkeypatch)
    result = on_s3.run_cell()
    reason = trouble(result)
    assert "StoreDeniedError" in reason
    assert "access is refused" in reason
    assert "Check the credentials and what they may read and write" in reason
    assert [b for b in cell.api.list_batches() if b.metadata.get("collection") == cell.spec.name] == []
    assert contents(cell.store) == before
    everything = on_s3.everything_said()
    for secret in (s3.stranger.aws_secret_access_key, s3.reader.aws_secret_access_key):
        assert str(secret) not in everything
    assert cell.sandbox.api_key not in everything


def test_a_bucket_that_does_not_exist_fails_clearly(
    on_s3: Deployment, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_s3.store = resource(on_s3.cell, s3.writer, monkeypatch)
    on_s3.store = StoreResource(url="s3://no-such-bucket/store", s3=on_s3.store.s3)
    assert "the bucket does not exist" in trouble(on_s3.run_cell("embedding_requests"))
