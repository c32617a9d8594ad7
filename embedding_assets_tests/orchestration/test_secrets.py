"""Secrets are in no event, metadata, configuration or error that Dagster keeps, whatever goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster_aws.s3 import S3Resource

from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets_tests.orchestration.deployment import KEY_VARIABLE, Deployment, trouble

pytestmark = [pytest.mark.dagster, pytest.mark.service]


def test_a_key_that_the_api_refuses_is_in_no_error_that_is_kept(
    fresh: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "sk-wrong-fedcba9876543210"
    monkeypatch.setenv(KEY_VARIABLE, wrong)
    result = fresh.run_cell("embedding_requests")
    assert "the API key is refused" in trouble(result)
    assert wrong not in fresh.everything_said()


def test_secrets_in_the_environment_are_in_nothing_that_is_kept(
    complete: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", complete.cell.sandbox.api_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-of-the-bucket")
    complete.api = ApiResource(base_url=complete.cell.sandbox.base_url)
    assert complete.run_cell().success
    assert complete.run_compaction().success
    said = complete.everything_said()
    assert complete.cell.spec.name in said
    assert complete.cell.sandbox.api_key not in said
    assert "the-secret-of-the-bucket" not in said


def test_resources_show_no_secret_when_they_are_printed(tmp_path: Path) -> None:
    store = StoreResource(url=f"file://{tmp_path}", s3=S3Resource(aws_secret_access_key="the-secret-of-the-bucket"))
    assert "the-secret-of-the-bucket" not in repr(store.s3_settings())
    assert "the-secret-of-the-bucket" not in repr(store.open())
    api = ApiResource(base_url="http://127.0.0.1:9/v1", api_key="sk-secret-0123456789")
    assert "sk-secret-0123456789" not in repr(api.client())
