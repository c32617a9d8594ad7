"""`alerts list` and `alerts test`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedding_assets.alerts.channels import require_channels
from embedding_assets.alerts.delivery import deliver
from embedding_assets.alerts.outbox import Outbox
from embedding_assets.cli import main
from embedding_assets.store.objects import ObjectStore
from embedding_assets_tests.alerts.making import change, message
from embedding_assets_tests.receivers import Webhook, webhook

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


@pytest.fixture
def run(
    folder_store: ObjectStore,
    tmp_path: Path,
    hook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs a command on an empty store; returns its exit code and all that it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBEDDING_ASSETS_STORE", folder_store.url)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "store").mkdir(exist_ok=True)
    url = hook.url.replace("hunter2-password", "${HOOK_PASSWORD}")
    (tmp_path / ".env.prod").write_text(f"HOOK_PASSWORD=hunter2-password\nEMBEDDING_ASSETS_ALERTS='{url}'\n")

    def command(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["embedding-assets", "alerts", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "hunter2" not in said.out + said.err
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out + said.err

    return command


def test_a_test_reaches_every_channel_or_says_which_it_does_not_reach(run: Command, hook: Webhook) -> None:
    assert run("test", "--env", "prod") == (0, "channel 1 (JSON): accepted\n")
    assert hook.titles == ["A test: alerts of embedding_assets arrive here"]
    hook.status = 503
    code, said = run("test", "--env", "prod")
    assert code == 1
    assert "channel 1 (JSON): did not accept: " in said
    assert "503" in said


def test_a_test_without_channels_says_what_to_set(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = run("test")
    assert code == 1
    assert "EMBEDDING_ASSETS_ALERTS: is not set" in said
    monkeypatch.setenv("EMBEDDING_ASSETS_ALERTS", "nonsense://s3cret json://${NO_SUCH_VARIABLE}/x")
    code, said = run("test")
    assert code == 1
    assert "channel 1 (nonsense): no channel: its URL is not one that apprise understands" in said
    assert "channel 2 (json): no channel: uses ${NO_SUCH_VARIABLE}, which is not set" in said
    assert "s3cret" not in said


def test_the_list_says_what_was_told_to_whom_and_what_still_fails(
    run: Command, hook: Webhook, folder_store: ObjectStore
) -> None:
    assert run("list")[0] == 0
    channels = require_channels(hook.url, {})
    outbox = Outbox(folder_store, "here")
    outbox.put(message(1, change(1.0, found="bad"), channels=(channels[0].id,)))
    deliver(outbox, channels)
    outbox.put(message(2, change(2.0, failed=False), channels=(channels[0].id,)))
    outbox.put(message(3, change(3.0, name="snapshot_is_whole", found="lost", partition="words")))
    code, said = run("list", "--env", "prod")
    assert code == 0
    for word in ("[lines 2026-11-03] deltas_are_whole failed (ERROR)", "recovered", "channel 1 (JSON)", "lost"):
        assert word in said
    told = json.loads(run("list", "--env", "prod", "--json")[1])
    assert [row["waits for"] for row in told["messages"]] == ["", "channel 1 (JSON)", ""]
    (failure,) = told["failing"]
    assert (failure["what"], failure["found"]) == ("check snapshot_is_whole of deltas [words]", "lost")
    assert list(json.loads(run("list", "--failing", "--json")[1])) == ["failing"]
