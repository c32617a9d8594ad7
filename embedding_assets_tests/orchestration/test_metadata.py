"""What a person sees in the UI: numbers under stable names, previews, pictures, data versions; and what nobody sees."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from embedding_assets.catalog import Catalog
from embedding_assets.expectations import Freshness, Preview, Quality
from embedding_assets.orchestration.assemble import build_definitions
from embedding_assets.orchestration.metadata.snapshots import say_snapshot
from embedding_assets.orchestration.metadata.values import Stopwatch, batch_links, place
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets.pipeline.quality import CHECKS, FRESH
from embedding_assets.store import layout
from embedding_assets.vectorstore.adopt import Adoption
from embedding_assets.vectorstore.compact import Compaction
from embedding_assets.vectorstore.quarantine import list_quarantine
from embedding_assets_tests.cells import Cell, flip, receipt_lines
from embedding_assets_tests.orchestration.deployment import Deployment, checks, metadata, plain

pytestmark = [pytest.mark.dagster, pytest.mark.service]

# Of each asset, what is plotted over time: a name that changes would cut the line.
PLOTTED = {
    "embedding_requests": {"submitted_records", "submitted_batches", "refused_documents", "seconds"},
    "batch_results": {
        "dagster/row_count",
        "accepted_records",
        "rejected_records",
        "rejected_share",
        "landed_bytes",
        "tokens",
        "seconds",
        "records_per_second",
        "bytes_per_second",
    },
    "deltas": {
        "dagster/row_count",
        "built_deltas",
        "built_records",
        "built_bytes",
        "records_of_cell",
        "bytes_of_cell",
        "seconds",
        "records_per_second",
        "bytes_per_second",
    },
    "snapshots": {
        "dagster/row_count",
        "records",
        "bytes",
        "generation",
        "added_records",
        "replaced_records",
        "merged_deltas",
        "seconds",
        "records_per_second",
        "bytes_per_second",
        "recall",
        "duplicate_share",
        "near_duplicate_share",
        "empty_share",
        "vector_spread",
        "norm_median",
    },
}
MARK = "a-marked-text"


def versions(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """The data version of each asset that was materialized."""
    return {
        event.asset_key.to_user_string(): str((event.materialization.tags or {})["dagster/data_version"])
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def declare(deployment: Deployment, **changed: Any) -> Deployment:
    """The same with something else declared of the collection."""
    cell = deployment.cell
    deployment.cell = dataclasses.replace(cell, spec=cell.spec.model_copy(update=changed))
    return deployment


def run_everything(deployment: Deployment) -> dict[str, dg.ExecuteInProcessResult]:
    """From documents to a snapshot; the run of each asset."""
    asked = deployment.run_cell("embedding_requests")
    deployment.cell.wait()
    built = deployment.run_cell("batch_results", "deltas")
    compacted = deployment.run_compaction()
    assert asked.success
    assert built.success
    assert compacted.success
    return {"embedding_requests": asked, "batch_results": built, "deltas": built, "snapshots": compacted}


def test_a_snapshot_shows_its_pictures_small_enough_for_the_event_log_and_where_its_report_is(
    complete: Deployment,
) -> None:
    for _ in ("made", "found"):
        said = metadata(complete.run_compaction(), "snapshots")
        for name in ("map", "growth", "health"):
            assert said[name].startswith(f"![{name}](data:image/png;base64,")
            assert len(said[name]) <= 50_000
        key = said["report"].removeprefix(complete.cell.store.url.removeprefix("file://") + "/")
        assert complete.cell.store.get(key).startswith(b"<!doctype html>")


def test_every_asset_says_numbers_and_a_preview_and_its_data_version_follows_the_content(fresh: Deployment) -> None:
    texts = receipt_lines(20)
    first = {}
    for asset, result in run_everything(fresh).items():
        said = metadata(result, asset)
        plotted = {name for name, value in said.items() if type(value) in (int, float)}
        assert plotted >= PLOTTED[asset], asset
        assert [texts[row["id"]] for row in said["preview"]] == [row["text"] for row in said["preview"]]
        assert len(said["preview"]) == 5
        first[asset] = versions(result)[asset]
    assert said["parent"] == "none"
    assert (said["recall"], said["duplicate_share"], said["norm_median"]) == (1, 0, pytest.approx(1))
    again = {asset: versions(result)[asset] for asset, result in run_everything(fresh).items()}
    assert again == first
    fresh.cell.write(receipt_lines(25))
    results = run_everything(fresh)
    assert all(versions(result)[asset] != first[asset] for asset, result in results.items())
    assert metadata(results["snapshots"], "snapshots")["centroid_shift"] == 0  # beyond chance


def test_with_no_preview_no_text_and_no_id_is_in_anything_that_dagster_keeps(fresh: Deployment) -> None:
    declare(fresh, preview=Preview(records=0))
    fresh.cell.write({f"id-of-{MARK}-{n}": f"{MARK} number {n}" for n in range(12)})
    results = run_everything(fresh)
    assert metadata(results["snapshots"], "snapshots")["records"] == 12
    said = fresh.everything_said()
    assert MARK not in said
    assert "duplicate_share" in said


def test_a_preview_shows_texts_as_far_as_is_declared(fresh: Deployment) -> None:
    declare(fresh, preview=Preview(records=1, text_chars=10))
    fresh.cell.write({f"line-{n}": f"text {n:04d} {MARK}" for n in range(12)})
    for asset, result in run_everything(fresh).items():
        (row,) = metadata(result, asset)["preview"]
        assert len(row["text"]) == 10
    assert MARK not in fresh.everything_said()


def test_where_a_corrupted_delta_was_moved_to_is_said(complete: Deployment) -> None:
    cell = complete.cell
    (key,) = (i.key for i in cell.store.walk(layout.deltas(cell.spec.name)) if i.key.endswith("chroma.sqlite3"))
    flip(cell.store, key)
    (row,) = metadata(complete.run_cell("batch_results"), "batch_results")["moved_to_quarantine"]
    (entry,) = list_quarantine(cell.store, cell.spec.name)
    assert row["moved_to"] == f"{cell.store.url}/{layout.quarantine(cell.spec.name, 'delta', entry.name)}"


def test_failed_checks_of_vectors_do_not_stop_anything(complete: Deployment) -> None:
    declare(complete, quality=Quality(norm=(5, 6), near_duplicate_share=0.0, near_distance=1.0))
    result = complete.run_compaction()
    assert result.success
    found = checks(result)
    assert {name for name, one in found.items() if not one.passed} == {"vectors_are_sound", "duplicates_are_few"}
    assert {found[name].severity for name in ("vectors_are_sound", "duplicates_are_few")} == {
        dg.AssetCheckSeverity.WARN
    }
    assert plain(found["vectors_are_sound"].metadata)["norm_median"] == pytest.approx(1)


def test_numbers_that_cannot_be_read_are_a_warning_of_every_check(
    complete: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedding_assets.errors import StoreUnavailableError
    from embedding_assets.orchestration.checks import vectors

    def refuse(*_: object, **__: object) -> None:
        raise StoreUnavailableError("file", "the store did not answer", "It is tried again.")

    monkeypatch.setattr(vectors, "current_statistics", refuse)
    result = complete.run_compaction()
    assert result.success
    found = {name: one for name, one in checks(result).items() if name in CHECKS}
    assert len(found) == len(CHECKS)
    assert {(one.passed, one.severity) for one in found.values()} == {(False, dg.AssetCheckSeverity.WARN)}
    assert all("could not be judged" in (one.description or "") for one in found.values())


def test_freshness_is_looked_at_where_it_is_declared_and_no_such_check_is_where_it_is_not(
    complete: Deployment,
) -> None:
    names = {key.name for one in complete.definitions.asset_checks or () for key in one.check_keys}
    assert FRESH not in names
    jobs = {job.name for job in complete.definitions.resolve_all_job_defs()}
    assert "check_freshness" not in jobs
    declare(complete, freshness=Freshness(warn=timedelta(days=400), fail=timedelta(days=500)))
    assert checks(complete.run_compaction())[FRESH].passed
    declare(complete, freshness=Freshness(warn=timedelta(seconds=0.001), fail=timedelta(days=500)))
    result = complete.definitions.resolve_job_def("check_freshness").execute_in_process(instance=complete.instance)
    assert result.success
    found = checks(result)[FRESH]
    assert (found.passed, found.severity, found.partition) == (
        False,
        dg.AssetCheckSeverity.WARN,
        complete.cell.spec.name,
    )
    declare(complete, freshness=Freshness(fail=timedelta(seconds=0.001)))
    result = complete.definitions.resolve_job_def("check_freshness").execute_in_process(instance=complete.instance)
    assert checks(result)[FRESH].severity == dg.AssetCheckSeverity.ERROR
    assert complete.definitions.resolve_schedule_def("hourly_freshness").cron_schedule == "35 * * * *"


def test_assets_say_whose_they_are_what_they_hold_and_where_their_code_is(cell: Cell) -> None:
    catalog = Catalog(owners=("team:search", "jane@example.org"), collections={cell.spec.name: cell.spec})
    made = build_definitions(catalog, {"store": StoreResource(url="memory://"), "api": ApiResource()})
    specs = {spec.key.to_user_string(): spec for spec in made.resolve_all_asset_specs()}
    assert specs.keys() == PLOTTED.keys()
    for spec in specs.values():
        assert list(spec.owners) == ["team:search", "jane@example.org"]
        assert spec.description
        assert spec.kinds
        assert spec.group_name
        assert spec.tags["embedding_assets/stage"]
        columns = spec.metadata["dagster/column_schema"].columns
        assert "id" in {column.name for column in columns}
        (reference,) = spec.metadata["dagster/code_references"].code_references
        assert reference.file_path.endswith(".py")


def test_batches_are_linked_where_they_are_openais() -> None:
    links = batch_links("https://api.openai.com/v1/", ["batch_1"])["batches_at_openai"].md_str
    assert links == "- [batch_1](https://platform.openai.com/batches/batch_1)"
    assert batch_links("https://api.openai.com/v1/", []) == {}
    for other in ("http://127.0.0.1:8000/v1", "https://api.openai.com.example.org/v1"):
        assert batch_links(other, ["batch_1"]) == {}


def test_a_place_at_aws_is_a_link_to_its_console_and_elsewhere_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    at_aws = place(StoreResource(url="s3://bucket/a prefix"), "lines/x.html").value
    assert at_aws == "https://console.aws.amazon.com/s3/object/bucket?prefix=a%20prefix/lines/x.html"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:8333")
    assert place(StoreResource(url="s3://bucket/p"), "lines/x.html").value == "s3://bucket/p/lines/x.html"
    assert place(StoreResource(url="file:///a/store"), "lines/x.html").value == "/a/store/lines/x.html"


def test_legacy_data_that_is_left_is_said_with_its_reason_where_there_is_nothing_else(cell: Cell) -> None:
    done = Compaction(None, None, adoptions=(Adoption("lines/delta/older", "left", "it holds no records"),))
    warned: list[str] = []
    store = StoreResource(url=cell.store.url)
    version, said = say_snapshot(store, cell.spec, done, cell.folder, warned.append, Stopwatch())
    assert (version, said["legacy_left"]) == (None, ["lines/delta/older: it holds no records"])
    assert "legacy data alone" in said["note"]
    assert warned == ["legacy data is left as it is: lines/delta/older: it holds no records"]
