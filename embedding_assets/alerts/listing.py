"""What alerts were told and what still fails, as rows of plain values: for the command line and the UI."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from embedding_assets.alerts.channels import Channel
from embedding_assets.alerts.delivery import waiting_for
from embedding_assets.alerts.outbox import Contents
from embedding_assets.alerts.standing import failing, standing
from embedding_assets.alerts.text import title_of

Row = dict[str, str]


def messages(scope: str, contents: Contents, channels: Sequence[Channel]) -> list[Row]:
    """The messages of a set of collections, and which channels do not have them yet."""
    waits = {channel.label: set(waiting_for(contents, channel, channels)) for channel in channels}
    return [
        {
            "at": _time(message.made_at),
            "set": scope,
            "id": message.id,
            "title": title_of(message),
            "waits for": ", ".join(label for label, ids in waits.items() if message.id in ids),
        }
        for message in contents.messages.values()
    ]


def failures(scope: str, contents: Contents) -> list[Row]:
    """What fails just now in a set of collections."""
    rows = []
    for change in failing(standing(contents.messages.values())):
        where = f" [{change.partition.replace('|', ' ')}]" if change.partition else ""
        rows.append(
            {
                "since": _time(change.since or change.at),
                "set": scope,
                "what": f"{change.kind} {change.name}{f' of {change.asset}' if change.asset else ''}{where}",
                "severity": change.severity,
                "found": change.found,
                "by_itself": change.by_itself,
                "to_do": change.to_do,
            }
        )
    return rows


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
