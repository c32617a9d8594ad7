"""What people configure: settings and declared collections, and what they are told when it is wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from embedding_assets.catalog import load_catalog, parse_catalog
from embedding_assets.errors import ConfigurationError
from embedding_assets.settings import DEFAULT_COLLECTIONS, load_settings


def _declare(**body: Any) -> dict[str, Any]:
    return {"collections": {"lines": {"model": "text-embedding-3-small", "dimensions": 1536, **body}}}


def test_the_shipped_default_is_lines_and_words() -> None:
    assert load_catalog(DEFAULT_COLLECTIONS, {}).names == ["lines", "words"]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([], "no mapping `collections`"),
        ({"collections": {}}, "collections"),
        (_declare(dimension=3), "'dimensions'"),
        (_declare(dimensions=1537), "cannot have 1537 dimensions; it can have 1 to 1536"),
        (_declare(model="text-embedding-ada-002", dimensions=512), "it can have 1536"),
        (_declare(dimensions=0), "dimensions"),
        (_declare(dimensions="many"), "dimensions"),
        (_declare(distance="euclid"), "distance"),
        (_declare(batch_requests=50_001), "batch_requests"),
        (_declare(compaction={"after_delta": 2}), "'after_deltas'"),
        (_declare(freshness={"warn": "soon"}), "90min, 26h or 3d"),
        (_declare(freshness={"warn": "2d", "fail": "26h"}), "`warn` comes first"),
        (_declare(freshness={}), "`warn`, `fail` or both"),
        (_declare(quality={"norm": [1.1, 0.9]}), "the least length"),
        (_declare(quality={"near_duplicates": 0.1}), "'near_duplicate_share'"),
        (_declare(preview={"records": 1000}), "preview.records"),
        ({**_declare(), "owners": ["somebody"]}, "neither an e-mail address"),
        ({"collections": {"a|b": {"model": "m", "dimensions": 3}}}, "a-z, 0-9"),
        ({"collections": {"ab": {"model": "m", "dimensions": 3}}}, "3 to 63"),
        ({"collections": {"lines": "m"}}, "lines"),
        ({"collections": {"lines": {"model": "m", "dimensions": 3}}, "colections": 1}, "'collections'"),
        (_declare(documents="${NOT_SET}/x.jsonl"), r"\$\{NOT_SET\}, which is not set"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_place_and_a_remedy(raw: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        parse_catalog(raw, "collections.yaml", {})
    assert "collections.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "collections:\n  lines: {model: text-embedding-3-small, dimensions: 1536}\n"
            "  lines: {model: text-embedding-3-large, dimensions: 3072}\n",
            "the key collections.lines stands twice: in line 2 and in line 3",
        ),
        ("collections:\n  lines:\n    model: m\n    dimensions: 3\n    model: n\n", "lines.model stands twice"),
        (
            "collections:\n  lines: {model: m, dimensions: 3, quality: {norm: [0, 1], norm: [1, 2]}}\n",
            "collections.lines.quality.norm stands twice: in line 2 and in line 2",
        ),
        (
            "start: 2026-01-01\ncollections: {}\nstart: 2026-02-01\n",
            "the key start stands twice: in line 1 and in line 3",
        ),
        (
            "collections:\n  '123': {model: m, dimensions: 3}\n  123: {model: m, dimensions: 3}\n",
            "collections.123 stands",
        ),
        ("collections: &c\n  lines: {model: m, model: n}\nmore: *c\n", "collections.lines.model stands twice"),
        ("collections: {lines: &x {owners: [*x]}}\nowners: [{a: 1, a: 2}]\n", "owners.a stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_catalog(tmp_path / "c.yaml", {})
    assert says in caught.value.reason
    assert caught.value.subject == str(tmp_path / "c.yaml")


def test_what_collections_share_may_be_merged_in_and_overridden(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "collections:\n  lines: &lines {model: m, dimensions: 3}\n  words:\n    <<: *lines\n    dimensions: 4\n"
        "  tokens:\n    <<: *lines\n"
    )
    declared = load_catalog(tmp_path / "c.yaml", {})
    assert [(spec.name, spec.dimensions) for spec in declared] == [("lines", 3), ("words", 4), ("tokens", 3)]


@pytest.mark.parametrize(
    "content", [b"", b"# nothing\n", b"collections:\n  l\xefnes: {}\n", b"\x00", b"--- 1\n--- 2\n"]
)
def test_a_file_that_declares_nothing_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    for path in (tmp_path / "c.yaml", tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(ConfigurationError) as caught:
            load_catalog(path, {})
        assert caught.value.subject == str(path)


def test_a_file_that_is_not_yaml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("collections:\n  lines: [\n")
    with pytest.raises(ConfigurationError, match="line 3"):
        load_catalog(tmp_path / "c.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"c\.yaml"):
        load_catalog(tmp_path / "c.yaml")


def test_the_moment_of_validation_is_utc_unless_it_says_otherwise() -> None:
    spec = parse_catalog(_declare(validated_since="2026-03-01T12:00"), "c", {}).get("lines")
    assert str(spec.validated_since) == "2026-03-01 12:00:00+00:00"


def test_freshness_is_told_in_minutes_hours_or_days() -> None:
    spec = parse_catalog(_declare(freshness={"warn": "90min", "fail": "1.5d"}), "c", {}).get("lines")
    assert spec.freshness is not None
    assert (spec.freshness.warn, spec.freshness.fail) == (timedelta(minutes=90), timedelta(hours=36))
    again = parse_catalog({"collections": {"lines": spec.model_dump(mode="json")}}, "c", {}).get("lines")
    assert again == spec


def test_vectors_of_openai_are_expected_to_have_the_length_1_unless_told_otherwise() -> None:
    assert parse_catalog(_declare(), "c", {}).get("lines").norm_range == (0.99, 1.01)
    assert parse_catalog(_declare(quality={"norm": [0.5, 2]}), "c", {}).get("lines").norm_range == (0.5, 2)
    assert parse_catalog(_declare(model="another"), "c", {}).get("lines").norm_range is None


def test_an_unknown_collection_is_answered_with_the_nearest_name() -> None:
    catalog = load_catalog(DEFAULT_COLLECTIONS, {})
    with pytest.raises(ConfigurationError, match="Did you mean 'lines'"):
        catalog.get("line")
    with pytest.raises(ConfigurationError, match="lines, words"):
        catalog.get("zzz")


def test_documents_take_variables_with_and_without_a_default() -> None:
    raw = _declare(documents="${DOCS:-here}/${DAY_FOLDER}/x.jsonl")
    catalog = parse_catalog(raw, "c", {"DAY_FOLDER": "days"})
    assert catalog.get("lines").documents == "here/days/x.jsonl"


def test_the_environment_wins_over_the_environments_own_file_and_that_over_the_common_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EMBEDDING_ASSETS_STORE=file:///common\nOPENAI_API_KEY=common\nAWS_PROFILE=one\n")
    (tmp_path / ".env.prod").write_text("EMBEDDING_ASSETS_STORE=s3://prod/x\nOPENAI_API_KEY=prod\n")
    settings = load_settings("prod", {"OPENAI_API_KEY": "given"}, tmp_path)
    assert (settings.store_url, settings.api.api_key, settings.s3.profile_name) == ("s3://prod/x", "given", "one")
    assert load_settings(None, {}, tmp_path).store_url == "file:///common"
    assert load_settings(None, {"EMBEDDING_ASSETS_ENV": "prod"}, tmp_path).environment == "prod"


def test_without_a_store_the_error_names_the_variable_and_the_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"EMBEDDING_ASSETS_STORE.*\.env\.prod"):
        load_settings("prod", {}, tmp_path)


def test_an_environment_cannot_name_a_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a name"):
        load_settings("../x", {}, tmp_path)


def test_secrets_do_not_show_in_the_settings_text(tmp_path: Path) -> None:
    environ = {
        "EMBEDDING_ASSETS_STORE": "memory://",
        "OPENAI_API_KEY": "sk-secret",
        "AWS_SECRET_ACCESS_KEY": "aws-secret",
        "AWS_SESSION_TOKEN": "aws-token",
    }
    text = repr(load_settings("dev", environ, tmp_path))
    assert "secret" not in text.replace("aws_secret_access_key", "")
    assert "aws-token" not in text
