"""Channels that cannot be used, as changes of their own: the other channels tell it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embedding_assets.alerts.channels import BadChannel, Channel
from embedding_assets.alerts.message import Change
from embedding_assets.alerts.outbox import Contents
from embedding_assets.alerts.pace import failures_in_a_row

DOWN_AFTER = 5  # failures in a row: five minutes or so


def channel_troubles(
    contents: Contents, channels: Sequence[Channel], bad: Sequence[BadChannel], now: float
) -> Iterator[Change]:
    """Each channel: failed, where it is none or has been down for a while; well, where it accepts.

    Args:
        contents: what the store holds.
        channels, bad: the channels, and the entries of the setting that are none.
        now: seconds since 1970.
    """
    for entry in bad:
        yield Change(
            "channel",
            f"channel {entry.number}",
            failed=True,
            at=now,
            found=f"{entry.label}: {entry.reason}",
            by_itself="Nothing: what is meant for it waits until it is corrected, and goes to the other channels.",
            to_do="Correct EMBEDDING_ASSETS_ALERTS, and try it with `embedding-assets alerts test`.",
        )
    for channel in channels:
        log = contents.logs.get(channel.id, ())
        failures, name = failures_in_a_row(log), f"channel {channel.number}"
        if failures >= DOWN_AFTER:
            yield Change(
                "channel",
                name,
                failed=True,
                at=log[-1].ended_at or log[-1].claimed_at,
                severity="WARN",
                found=f"{channel.label} has not accepted {failures} times in a row: {log[-1].reason}",
                by_itself="It is tried again, every half hour at last; what is meant for it waits.",
                to_do="See whether the service is up and the URL still right: `embedding-assets alerts test`.",
            )
        elif not failures:
            yield Change("channel", name, failed=False, at=now)
