"""The package inside somebody else's Dagster project, as a component: the example project, and what can be wrong."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.components import EmbeddingCollections
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.objects import open_store
from embedding_assets.vectorstore.commit import head
from embedding_assets_tests.cells import own_name, wait_for_batches
from embedding_assets_tests.orchestration.deployment import metadata, trouble

pytestmark = [pytest.mark.dagster, pytest.mark.service]

EXAMPLE = Path(__file__).parents[2] / "examples" / "dagster_project"
TYPE = "embedding_assets.components.EmbeddingCollections"


class Project:
    """A copy of the example, with a collection that no other test has."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(EXAMPLE, folder)
        self.folder = folder
        self.file = folder / "src" / "shop" / "defs" / "receipts" / "defs.yaml"
        self.collection = own_name()
        declared = self.attributes()["collections"]
        self.declare(collections={self.collection: declared["lines"]})

    def attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = yaml.safe_load(self.file.read_text())["attributes"]
        return attributes

    def declare(self, **changed: Any) -> None:
        """Change attributes of the component; None takes one away."""
        attributes = {key: value for key, value in {**self.attributes(), **changed}.items() if value is not None}
        self.file.write_text(yaml.safe_dump({"type": TYPE, "attributes": attributes}, sort_keys=False))

    def load(self) -> dg.Definitions:
        for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
            del sys.modules[name]
        found = dg.load_from_defs_folder(path_within_project=self.folder / "src" / "shop")
        dg.Definitions.validate_loadable(found)
        return found

    def dg(self, *words: str) -> str:
        """What `dg` answers; fails where it fails."""
        from dagster_dg_cli.cli import cli

        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture
def project(tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    (tmp_path / "store").mkdir()
    made = Project(tmp_path / "project")
    # Not as the first: Dagster takes that for a script's own folder and leaves it out.
    monkeypatch.setattr(sys, "path", [*sys.path, str(made.folder / "src")])
    monkeypatch.chdir(made.folder)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    for name, value in {
        "DAGSTER_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(made.folder / "src"),  # in place of its installation, for children of `dg`
        "SHOP_STORE": f"file://{tmp_path}/store",
        "SHOP_MODEL": "wordllama-256",
        "OPENAI_BASE_URL": sandbox.base_url,
        "OPENAI_API_KEY": sandbox.api_key,
    }.items():
        monkeypatch.setenv(name, value)
    yield made
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]


def test_the_example_project_embeds_its_documents_with_its_own_assets_beside(
    project: Project, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    found = project.load()
    keys = {key.to_user_string() for key in found.resolve_asset_graph().get_all_asset_keys()}
    assert {"receipts/snapshots", "receipts/deltas", "sales_report"} <= keys

    def run(job: str, partition: str, *assets: str) -> dg.ExecuteInProcessResult:
        done = found.resolve_job_def(f"receipts_{job}").execute_in_process(
            instance=instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(["receipts", name]) for name in assets] or None,
            raise_on_error=False,
        )
        assert done.success, trouble(done)
        return done

    cell = cell_key(project.collection, str(layout.now().date()))
    asked = run(CELL_JOB, cell, "embedding_requests")
    assert metadata(asked, "receipts/embedding_requests")["submitted_records"] == 5
    store = open_store(f"file://{tmp_path}/store")
    spec = CollectionSpec(name=project.collection, model="wordllama-256", dimensions=256)
    wait_for_batches(EmbeddingApi(ApiSettings()), store, Catalog(collections={spec.name: spec}))
    done = run(CELL_JOB, cell, "batch_results", "deltas")
    assert metadata(done, "receipts/deltas")["records_of_cell"] == 5
    run(COMPACTION_JOB, project.collection)
    commit = head(store, project.collection)
    assert commit is not None
    assert commit.count == 5


def test_dg_finds_the_component_checks_its_yaml_and_lists_its_definitions(project: Project) -> None:
    assert TYPE in project.dg("list", "components", "--json")
    assert "validated successfully" in project.dg("check", "yaml")
    listed = json.loads(project.dg("list", "defs", "--json"))
    assert {"receipts/snapshots", "sales_report"} <= {asset["asset_key"] for asset in listed["assets"]}
    assert {"receipts_embed_cell", "receipts_audit"} <= {job["name"] for job in listed["jobs"]}


def test_every_key_of_the_yaml_says_what_it_is_and_every_declaration_can_be_made_in_it() -> None:
    model = EmbeddingCollections.get_model_cls()
    assert model is not None
    schema = model.model_json_schema()
    for name, part in {"attributes": schema, **schema["$defs"]}.items():
        for key, told in part["properties"].items():
            assert told.get("description"), f"{name}.{key}"
    collection = schema["$defs"]["CollectionSpec"]["properties"]
    assert set(collection) == set(CollectionSpec.model_fields) - {"name"}
    assert set(Catalog.model_fields) <= set(schema["properties"])
    assert "cosine" in collection["distance"]["description"]


def test_a_set_may_take_collections_file_store_and_api_of_the_project(project: Project) -> None:
    (project.file.parent / "collections.yaml").write_text(
        yaml.safe_dump({"start": "2026-03-01", "collections": {"notes": {"model": "m", "dimensions": 3}}})
    )
    project.declare(collections="collections.yaml", start=None, store=None, api=None)
    (project.file.parents[1] / "resources.py").write_text(
        "import dagster as dg\n"
        "from embedding_assets.orchestration.resources import ApiResource, StoreResource\n"
        "@dg.definitions\n"
        "def resources() -> dg.Definitions:\n"
        "    return dg.Definitions(resources={'store': StoreResource(url='memory://'), 'api': ApiResource()})\n"
    )
    found = project.load()
    assert set(found.resources or {}) == {"store", "api", "receipts_alerts"}
    partitions = found.resolve_asset_graph().get(dg.AssetKey(["receipts", "snapshots"])).partitions_def
    assert partitions is not None
    assert list(partitions.get_partition_keys()) == ["notes"]


def test_two_sets_may_stand_in_one_file(project: Project) -> None:
    other = {**project.attributes(), "prefix": "notes"}
    project.file.write_text(
        project.file.read_text() + "---\n" + yaml.safe_dump({"type": TYPE, "attributes": other}, sort_keys=False)
    )
    found = project.load()
    kinds = ("store", "api", "alerts")
    assert {f"{prefix}_{kind}" for prefix in ("receipts", "notes") for kind in kinds} == set(found.resources or {})


def _misspell(declared: dict[str, Any]) -> dict[str, Any]:
    return {name: {**body, "dimension": 3} for name, body in declared.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {"prefix": "my receipts"}, ("my receipts", "EMBEDDING_ASSETS_PREFIX")),
        (lambda a: {"collections": _misspell(a["collections"])}, ("dimension",)),
        (lambda a: {"collections": {"lines": {"model": "text-embedding-3-small", "dimensions": 9999}}}, ("1 to 1536",)),
        (lambda a: {"collections": "no-such.yaml", "start": None}, ("no-such.yaml", "cannot be read")),
        (lambda a: {"collections": "collections.yaml"}, ("start", "Move it into that file")),
    ],
    ids=["prefix", "misspelt key", "impossible dimensions", "no file", "start beside a file"],
)
def test_what_is_wrong_in_the_yaml_is_named_with_what_would_be_right(
    project: Project, change: Callable[[dict[str, Any]], dict[str, Any]], words: tuple[str, ...]
) -> None:
    project.declare(**change(project.attributes()))
    with pytest.raises(Exception, match="receipts") as caught:
        project.load()
    said, error = "", caught.value
    while error is not None:
        said, error = f"{said}\n{error}", error.__cause__
    assert all(word in said for word in words), said


def test_secrets_are_shown_by_their_variables_names_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", "sk-the-shop")
    monkeypatch.setenv("SHOP_ALERTS", "json://user:hunter2@127.0.0.1:9")
    project.declare(api={"api_key_variable": "SHOP_KEY"}, alerts={"channels_variable": "SHOP_ALERTS"})
    shown = str(project.load().resources)
    assert "SHOP_KEY" in shown
    assert "SHOP_ALERTS" in shown
    assert "sk-the-shop" not in shown
    assert "hunter2" not in shown


def test_scaffolding_writes_a_file_that_is_valid(project: Project) -> None:
    shutil.rmtree(project.file.parent)
    project.dg("scaffold", "defs", TYPE, "receipts")
    assert project.attributes()["collections"]["lines"]["dimensions"] == 1536
    assert "validated successfully" in project.dg("check", "yaml")
