"""Sensors: finished batches ask for their cells, snapshots that lack deltas for their compaction."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.sensors.batches import build_finished_batches
from embedding_assets.orchestration.sensors.compaction import build_lacking_snapshots


def build_sensors(catalog: Catalog, names: Names, *, running: bool, seconds: int) -> Sequence[dg.SensorDefinition]:
    """The sensors for these collections.

    Args:
        catalog: the collections.
        names: what the set is called.
        running: whether they run as soon as the deployment is loaded.
        seconds: how often each looks.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED
    return [
        build_finished_batches(catalog, names, status, seconds),
        build_lacking_snapshots(catalog, names, status, seconds),
    ]
