"""The whole story in a real browser: a cell is launched, damage is found, told, healed, and told again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page

from embedding_assets.sandbox import Sandbox
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.delta import list_deltas, load_deltas
from embedding_assets_tests.browser.ui import Ui
from embedding_assets_tests.cells import flip, receipt_lines, write_documents
from embedding_assets_tests.dagster_servers import DagsterServers, Location, dagster_servers
from embedding_assets_tests.receivers import Mailbox, Webhook, mailbox, webhook

pytestmark = [pytest.mark.dagster, pytest.mark.service, pytest.mark.browser]

LOCATION = "embeddings"
AUDIT = "ops:\n  verify_everything:\n    config:\n      repair: {}\n"


@dataclass(frozen=True)
class Stage:
    """A deployment with sensors running, a person's browser, and where the alerts arrive."""

    ui: Ui
    servers: DagsterServers
    store: ObjectStore
    hook: Webhook
    mail: Mailbox

    def has_snapshot(self, records: int) -> bool:
        commit = head(self.store, "lines")
        return commit is not None and commit.count == records


@pytest.fixture
def stage(page: Page, screenshots: Path, tmp_path: Path) -> Iterator[Stage]:
    for name in ("store", "servers"):
        (tmp_path / name).mkdir()
    write_documents(tmp_path / "documents" / "lines.jsonl", receipt_lines(60))
    declared = {"model": "wordllama-256", "dimensions": 64, "batch_requests": 30}
    collections = {
        "start": str(layout.now().date()),
        "collections": {
            "lines": {**declared, "documents": str(tmp_path / "documents")},
            "words": declared,
        },
    }
    (tmp_path / "collections.yaml").write_text(json.dumps(collections))
    with (
        Sandbox.start(tmp_path / "sandbox", api_key="key-of-the-story") as sandbox,
        webhook() as hook,
        mailbox() as mail,
    ):
        variables = {
            "EMBEDDING_ASSETS_STORE": f"file://{tmp_path}/store",
            "EMBEDDING_ASSETS_COLLECTIONS": str(tmp_path / "collections.yaml"),
            "EMBEDDING_ASSETS_CACHE": str(tmp_path / "cache"),
            "EMBEDDING_ASSETS_SENSORS": "running",
            "EMBEDDING_ASSETS_SENSOR_SECONDS": "5",
            "EMBEDDING_ASSETS_ALERTS": f"{hook.url} {mail.url}",
            "OPENAI_BASE_URL": sandbox.base_url,
            "OPENAI_API_KEY": sandbox.api_key,
        }
        with dagster_servers(tmp_path / "servers", [Location(LOCATION, variables)]) as servers:
            store = open_store(variables["EMBEDDING_ASSETS_STORE"])
            yield Stage(Ui(page, servers.url, screenshots), servers, store, hook, mail)


def test_a_cell_is_launched_damaged_told_of_healed_and_told_of_again(stage: Stage) -> None:
    ui, until = stage.ui, stage.servers.until

    # Launch a cell; the sensors do the rest.
    ui.see("/asset-groups", "embedding_requests", "batch_results", "deltas", "snapshots")
    ui.shoot("graph-of-an-empty-deployment")
    ui.materialize("embedding_requests", "lines", "dialog-of-a-cell")
    until("the cell is in a snapshot", lambda: stage.has_snapshot(60))

    # See it.
    ui.see("/assets/snapshots?view=partitions&partition=lines", "Materialized", "records")
    ui.shoot("snapshot")
    for picture in ("map", "growth", "health"):
        ui.show_picture(picture)
    ui.see("/assets/snapshots?view=overview", "Plots")
    ui.text("Plots").click()
    ui.scroll_to("deltas_in_snapshot")
    ui.shoot("plots")
    ui.see("/assets/deltas?view=checks", "deltas_are_whole", "Passed")
    ui.shoot("check-that-passed")
    assert stage.hook.titles == []

    # Break a delta in the store, where nobody looks; the audit does.
    (delta,) = load_deltas(stage.store, list_deltas(stage.store, "lines"))
    flip(stage.store, next(f"{delta.folder}/{e.path}" for e in delta.files if e.path.endswith("chroma.sqlite3")))
    ui.launch(LOCATION, "audit", "launchpad-of-the-audit", AUDIT.format("false"))
    ui.see("/assets/deltas?view=checks&checkDetail=deltas_are_whole", "Failed", delta.id)
    ui.shoot("check-that-failed")

    # The person on call is told, once, by both channels, with what to do.
    until("both channels have told", lambda: stage.hook.received and stage.mail.received)
    for titles in (stage.hook.titles, stage.mail.titles):
        assert len(titles) == 1
        assert "deltas_are_whole" in titles[0]
        assert "lines" in titles[0]
    told = stage.hook.received[0]["message"]
    assert delta.id in told
    assert stage.servers.url in told

    # See it heal.
    ui.launch(LOCATION, "audit", "launchpad-of-the-repair", AUDIT.format("true"))
    until("the damaged delta is replaced", lambda: _healed(stage.store, delta.id))
    ui.see("/assets/deltas?view=checks&checkDetail=deltas_are_whole", "Passed")
    ui.shoot("check-that-passed-again")
    until("both channels have told of the recovery", lambda: len(stage.hook.titles) > 1 and len(stage.mail.titles) > 1)
    for titles in (stage.hook.titles, stage.mail.titles):
        assert len(titles) == 2
        assert "recovered" in titles[1].lower()
    assert stage.has_snapshot(60)
    ui.see("/automation", "finished_batches", "alerts")
    ui.shoot("sensors")


def _healed(store: ObjectStore, damaged: str) -> bool:
    ids = [ref.id for ref in list_deltas(store, "lines")]
    return len(ids) == 1 and ids[0] != damaged
