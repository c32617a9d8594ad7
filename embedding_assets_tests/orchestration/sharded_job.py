"""The compaction of a collection with several shards as a job that the processes of an executor can load anew."""

from __future__ import annotations

import os

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.assemble import build_definitions
from embedding_assets.orchestration.jobs import COMPACTION_JOB
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets_tests.making import SPEC

STORE_VARIABLE, CACHE_VARIABLE = "TEST_OF_SHARDS_STORE", "TEST_OF_SHARDS_CACHE"
SHARDS = 3


def sharded_definitions(executor: dg.ExecutorDefinition = dg.multiprocess_executor) -> dg.Definitions:
    """`lines` with three shards and `words` with one, in the store that the environment names."""
    lines = SPEC.model_copy(update={"shards": SHARDS})
    words = SPEC.model_copy(update={"name": "words"})
    embeddings = build_definitions(
        Catalog(collections={"lines": lines, "words": words}),
        {
            "store": StoreResource(url=os.environ[STORE_VARIABLE], cache=os.environ[CACHE_VARIABLE]),
            "api": ApiResource(base_url="http://127.0.0.1:9", api_key="sk-unused"),
        },
    )
    return dg.Definitions.merge(embeddings, dg.Definitions(executor=executor))


def compaction_job() -> dg.JobDefinition:
    """The job, for `dg.reconstructable`."""
    return sharded_definitions().resolve_job_def(COMPACTION_JOB)
