"""Channels: which URLs are understood, and that nothing of them is ever shown."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from embedding_assets.alerts.channels import Channel, channels_of, require_channels
from embedding_assets.alerts.text import Letter
from embedding_assets.errors import ConfigurationError
from embedding_assets_tests.receivers import Webhook, webhook

LETTER = Letter("a title", "a body", "text")
MAIL = "mailto://robot:letmein@mail.example.com?to=a@example.com,b@example.com"


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


def only(setting: str, **environ: str) -> Channel:
    (channel,) = require_channels(setting, environ)
    return channel


def test_white_space_and_commas_separate_urls_but_not_recipients() -> None:
    good, bad = channels_of(f"{MAIL}, json://one.example.com/x,json://two.example.com\njson://three.example.com", {})
    assert [channel.url for channel in good] == [
        MAIL,
        "json://one.example.com/x",
        "json://two.example.com",
        "json://three.example.com",
    ]
    assert bad == []


def test_variables_are_put_in() -> None:
    assert only("json://${HOST}/${TOKEN}", HOST="example.com", TOKEN="t0ken").url == "json://example.com/t0ken"
    with pytest.raises(ConfigurationError, match=r"channel 1 \(json\): uses \$\{TOKEN\}, which is not set"):
        require_channels("json://example.com/${TOKEN}", {})


@pytest.mark.parametrize("wrong", ["nonsense://s3cret-token", "s3cret-token", "slack://s3cret-token", "json://"])
def test_what_is_no_channel_is_named_by_its_place_alone(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="channel 2") as failure:
        require_channels(f"json://example.com {wrong}", {})
    assert "s3cret" not in str(failure.value) + repr(failure.value)


def test_a_channel_keeps_its_name_when_its_password_changes_and_gives_nothing_away() -> None:
    one, two = only(MAIL), only(MAIL.replace("letmein", "another"))
    assert one.id == two.id
    assert one.id != only(MAIL.replace("robot", "other")).id
    assert one.id.startswith("mailto-")
    assert "letmein" not in repr(one)


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("json://example.com", "text"),
        (MAIL, "html"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", "markdown"),
    ],
)
def test_each_kind_of_channel_gets_the_form_that_it_shows_best(url: str, form: str) -> None:
    assert only(url).form == form


def test_a_refusal_is_told_without_secrets_and_nothing_of_it_is_logged(
    hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    channel = only(hook.url)
    assert channel.send(LETTER) == ""
    hook.status = 503
    assert "503" in channel.send(LETTER)
    hook.down()
    reason = channel.send(LETTER)
    assert "onnection error" in reason
    for secret in ("hunter2", "T0PSECRET", "robot"):
        assert secret not in reason + caplog.text


def test_a_title_and_a_body_arrive_as_they_are(hook: Webhook) -> None:
    assert only(hook.url).send(Letter("[lines] x", "a <b> & *c* \\n :smile:\nsecond line", "text")) == ""
    (got,) = hook.received
    assert (got["title"], got["message"]) == ("[lines] x", "a <b> & *c* \\n :smile:\nsecond line")


def test_a_body_that_is_too_long_is_cut_and_not_sent_in_pieces(hook: Webhook) -> None:
    assert only(hook.url).send(Letter("t", "x" * 100_000, "text")) == ""
    assert len(hook.received) == 1
