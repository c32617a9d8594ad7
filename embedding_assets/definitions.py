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
    return definitions_of()


def definitions_of(environment: str | None = None) -> dg.Definitions:
    """The definitions of an environment: what a file of your own is, where several locations share an instance.

    Args:
        environment: unless given, the one that EMBEDDING_ASSETS_ENV names.
    """
    if environment:
        os.environ["EMBEDDING_ASSETS_ENV"] = environment
    export_environment_files(os.environ)
    settings = load_settings()
    catalog = load_catalog(settings.collections_file)
    embeddings = build_definitions(
        catalog,
        resources_of(settings),
        prefix=os.environ.get("EMBEDDING_ASSETS_PREFIX", ""),
        sensors_running=os.environ.get("EMBEDDING_ASSETS_SENSORS", "").lower() == "running",
        sensor_seconds=int(os.environ.get("EMBEDDING_ASSETS_SENSOR_SECONDS", "60")),
    )
    # A step starts children of its own for the heavy work; a process for the step beside them would be one too many,
    # but for the shards of a compaction, which are made side by side.
    executor = dg.multiprocess_executor if catalog.sharded else dg.in_process_executor
    return dg.Definitions.merge(embeddings, dg.Definitions(executor=executor))
