"""What fails just now, as the messages so far tell it, and which observations are news. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from embedding_assets.alerts.message import Change, Message

Key = tuple[str, str, str, str]
Standing = dict[Key, Change]  # the last change of everything that ever changed


def standing(messages: Iterable[Message]) -> Standing:
    """The last change of everything that the messages tell of, whatever their order."""
    found: Standing = {}
    for message in messages:
        for change in message.changes:
            if change.key not in found or found[change.key].at <= change.at:
                found[change.key] = change
    return found


def failing(known: Mapping[Key, Change]) -> list[Change]:
    """What fails just now, the oldest first."""
    return sorted((change for change in known.values() if change.failed), key=lambda change: change.at)


def news(known: Mapping[Key, Change], observed: Iterable[Change]) -> list[Change]:
    """The observations that are to be told: a first failure, one that is worse than was told, a recovery.

    What was observed before the last change of the same thing is old, so that looking twice at the same runs, or at
    two runs in the wrong order, tells nothing twice.
    """
    now, told = dict(known), []
    for change in sorted(observed, key=lambda one: one.at):
        before = now.get(change.key)
        if before is not None and change.at <= before.at:
            continue
        open_before = before is not None and before.failed
        if change.failed and open_before and before is not None and not change.worse_than(before):
            continue
        if not change.failed:
            if not open_before or before is None:
                continue
            change = replace(change, severity=before.severity, since=before.since or before.at)  # noqa: PLW2901
        elif open_before and before is not None:
            change = replace(change, since=before.since or before.at)  # noqa: PLW2901
        now[change.key] = change
        told.append(change)
    return told
