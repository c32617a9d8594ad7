"""Every file that Dagster, the store and the scratch folders keep, after runs and ticks that succeed and that fail."""

from __future__ import annotations

import base64
import http.client
import json
import sqlite3
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest
import yaml

from embedding_assets.errors import ConfigurationError
from embedding_assets.orchestration.assemble import resources_of
from embedding_assets.orchestration.component import ApiAttributes, EmbeddingCollections, StoreAttributes
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets.settings import load_settings
from embedding_assets_tests.cells import Cell
from embedding_assets_tests.orchestration.deployment import Deployment

pytestmark = [pytest.mark.dagster, pytest.mark.service]

PASSWORD, AWS_SECRET, CHANNEL = "hunter2marked", "awssecretmarked", "channelmarked"


def everything_kept(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Each file's bytes, and each value of each table of each SQLite file, unpacked where Dagster has packed it."""
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        yield str(path), content
        if not content.startswith(b"SQLite format 3"):
            continue
        with closing(sqlite3.connect(path)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for row in connection.execute(f'SELECT * FROM "{table}"'):
                    for value in row:
                        if isinstance(value, bytes):
                            with suppress(zlib.error):
                                yield f"{path}: {table}, unpacked", zlib.decompress(value)


def assert_no_secret(secrets: list[str], *folders: Path, said: str = "") -> None:
    """No secret is kept, in no form."""
    forms = [form.encode() for one in secrets for form in (one, base64.b64encode(f"user:{one}".encode()).decode())]
    kept = [("what was said", said.encode()), *everything_kept(*folders)]
    assert len(kept) > 5
    assert [(where, form) for where, content in kept for form in forms if form in content] == []


@contextmanager
def behind_a_password(url: str, api_key: str) -> Iterator[str]:
    """The service behind a gateway that wants a user and a password; the URL that holds both."""
    wanted = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    parts = urlsplit(url)

    class Gateway(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            allowed = self.headers["Authorization"] == wanted
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with closing(http.client.HTTPConnection(parts.hostname or "", parts.port or 80)) as service:
                own = ("host", "authorization", "connection")
                kept = {name: value for name, value in self.headers.items() if name.lower() not in own}
                key = api_key if allowed else "wrong"
                service.request(self.command, self.path, body, {**kept, "Authorization": f"Bearer {key}"})
                answer = service.getresponse()
                content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _forward

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:{PASSWORD}@127.0.0.1:{server.server_port}{parts.path}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def kept(cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A deployment as `definitions.py` makes it, on a real instance in a folder, with secrets in its environment."""
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
    monkeypatch.setenv("EMBEDDING_ASSETS_ALERTS", f"json://user:{CHANNEL}@127.0.0.1:9/")
    monkeypatch.setenv("OPENAI_API_KEY", cell.sandbox.api_key)
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        yield Deployment.of(cell, instance)


def set_url(deployment: Deployment, url: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    environ = {"EMBEDDING_ASSETS_STORE": deployment.cell.store.url, "OPENAI_BASE_URL": url}
    made = resources_of(load_settings(None, environ, folder))
    assert isinstance(made["api"], ApiResource)
    assert isinstance(made["store"], StoreResource)
    deployment.api, deployment.store = made["api"], made["store"]


def test_no_file_holds_a_secret_after_runs_and_ticks_that_succeed_and_that_fail_in_each_step(
    kept: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cell, said = kept.cell, []
    # The API cannot be reached, or refuses; then all goes well, through a gateway that knows the password.
    for url in (f"http://user:{PASSWORD}@127.0.0.1:9/v1", cell.sandbox.base_url.replace("://", f"://user:{PASSWORD}@")):
        set_url(kept, url, monkeypatch, tmp_path)
        for step in ("embedding_requests", "batch_results"):
            result = kept.run_cell(step)
            assert step == "batch_results" or not result.success
        for sensor in ("finished_batches",):
            try:
                said.append(str(kept.tick_once(sensor)))
            except Exception as error:  # a tick that fails is kept with its error
                said.append(f"{error!r} {error.__cause__!r}")
    with behind_a_password(cell.sandbox.base_url, cell.sandbox.api_key) as url:
        set_url(kept, url, monkeypatch, tmp_path)
        assert kept.run_cell("embedding_requests").success
        cell.wait()
        assert kept.run_cell("batch_results").success
        # No scratch: deltas, then snapshots fail.
        with monkeypatch.context() as without:
            without.setattr(tempfile, "tempdir", str(tmp_path / "not-there"))
            assert not kept.run_cell("deltas").success
            assert not kept.run_compaction().success
        assert kept.run_cell().success
        assert kept.run_compaction().success
        for sensor in ("finished_batches", "lacking_snapshots"):
            said.append(str(kept.tick_once(sensor)))
    for name in ("upkeep_status", "upkeep_check", "upkeep_batches_list", "upkeep_alerts_test"):
        job = kept.definitions.resolve_job_def(name)
        assert job.execute_in_process(instance=kept.instance, raise_on_error=False).success or "alerts" in name
    said += [kept.everything_said(), *capfd.readouterr()]
    assert_no_secret(
        [PASSWORD, AWS_SECRET, CHANNEL, cell.sandbox.api_key],
        tmp_path / "home",
        tmp_path / "temporary",
        tmp_path / "store",
        said="\n".join(said),
    )


@pytest.mark.parametrize(
    ("part", "attributes"),
    [
        ("api", {"base_url": f"https://user:{PASSWORD}@host/v1"}),
        ("api", {"base_url": f"https://host/v1?api_key={PASSWORD}"}),
        ("store", {"url": f"s3://user:{PASSWORD}@bucket/prefix"}),
        ("store", {"url": "s3://bucket", "endpoint_url": f"http://user:{PASSWORD}@host"}),
    ],
)
def test_a_password_in_the_yaml_of_a_component_is_refused_without_it(
    part: str, attributes: dict[str, Any], tmp_path: Path
) -> None:
    made = {"api": ApiAttributes, "store": StoreAttributes}[part].model_validate(attributes)
    declared = {"lines": {"model": "m", "dimensions": 4, "documents": f"{tmp_path}/x"}}
    component = EmbeddingCollections(collections=declared, **{part: made})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="password") as caught:
        component._resources()
    assert PASSWORD not in f"{caught.value!r}{caught.value}"
    assert yaml.safe_load(json.dumps({"remedy": caught.value.remedy}))


def test_the_variable_itself_may_hold_the_password_that_the_yaml_takes_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"https://user:{PASSWORD}@host/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    component = EmbeddingCollections(collections={}, api=ApiAttributes(base_url=url))
    assert PASSWORD not in repr(component._resources()["api"])


@pytest.mark.parametrize("variable", ["EMBEDDING_ASSETS_STORE", "AWS_ENDPOINT_URL_S3"])
def test_dagster_is_given_no_store_whose_url_holds_a_password(variable: str, tmp_path: Path) -> None:
    environ = {"EMBEDDING_ASSETS_STORE": "s3://bucket", variable: f"s3://user:{PASSWORD}@host"}
    with pytest.raises(ConfigurationError, match="password") as caught:
        resources_of(load_settings(None, environ, tmp_path))
    assert PASSWORD not in str(caught.value)
