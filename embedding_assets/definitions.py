"""The code location: `dagster dev -m embedding_assets.definitions`."""

from __future__ import annotations

import os

import dagster as dg

from embedding_assets.catalog import load_catalog
from embedding_assets.orchestration.assemble import build_definitions, resources_of
from embedding_assets.settings import export_environment_files, load_settings


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of the environment that EMBEDDING_ASSETS_ENV names."""
    export_environment_files(os.environ)
    settings = load_settings()
    return build_definitions(
        load_catalog(settings.collections_file),
        resources_of(settings),
        sensors_running=os.environ.get("EMBEDDING_ASSETS_SENSORS", "").lower() == "running",
        sensor_seconds=int(os.environ.get("EMBEDDING_ASSETS_SENSOR_SECONDS", "60")),
    )
