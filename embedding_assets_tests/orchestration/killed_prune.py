"""Runs the job `upkeep_prune`, and kills its own process before its n-th deletion: `python -m ... STORE CACHE N`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import Any

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.assemble import build_definitions
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets_tests.making import SPEC


def die_at(count: int) -> None:
    """Kill this process before it removes its n-th folder."""
    remove, done = shutil.rmtree, [0]

    def rmtree(*how: Any, **options: Any) -> None:
        done[0] += 1
        if done[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        remove(*how, **options)

    shutil.rmtree = rmtree  # type: ignore[assignment]


if __name__ == "__main__":
    store = StoreResource(url=sys.argv[1], cache=sys.argv[2])
    definitions = build_definitions(
        Catalog(collections={SPEC.name: SPEC}), {"store": store, "api": ApiResource(base_url="http://127.0.0.1:9/v1")}
    )
    die_at(int(sys.argv[3]))
    with dg.DagsterInstance.ephemeral() as instance:
        done = definitions.resolve_job_def("upkeep_prune").execute_in_process(
            instance=instance, run_config={"ops": {"prune": {"config": {"dry_run": False}}}}
        )
        print("ended well" if done.success else "failed")
