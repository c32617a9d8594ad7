"""What a set of collections calls its own in Dagster: only that is its to report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class Own:
    """The definitions of one set.

    Attributes:
        assets: keys of its assets, as in the UI (`deltas`, `receipts/deltas`).
        steps: names of the steps that make and check them, in whichever job.
        jobs: names of its jobs.
        instigators: names of its sensors and schedules.
    """

    assets: frozenset[str]
    steps: frozenset[str]
    jobs: frozenset[str]
    instigators: frozenset[str]

    @classmethod
    def of(
        cls,
        assets: Iterable[dg.AssetsDefinition],
        checks: Iterable[dg.AssetChecksDefinition],
        jobs: Iterable[str],
        instigators: Iterable[str],
    ) -> Own:
        """What these definitions are called."""
        made = list(assets)
        return cls(
            assets=frozenset(key.to_user_string() for one in made for key in one.keys),
            steps=frozenset(one.node_def.name for one in (*made, *checks)),
            jobs=frozenset(jobs),
            instigators=frozenset(instigators),
        )


def location_of(context: dg.SensorEvaluationContext) -> str | None:
    """The code location that a sensor lives in; None in a process that has none, as a test."""
    origin = context.code_location_origin
    return origin.location_name if origin else None


def is_in(location: str | None, run: dg.DagsterRun) -> bool:
    """Whether a run belongs to a location, as far as it says: those made within a process belong to none."""
    origin = run.remote_job_origin
    if origin is None or location is None:
        return True
    return origin.repository_origin.code_location_origin.location_name == location
