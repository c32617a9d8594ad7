"""A run that says when its step works, and works until its input ends: `python -m ... DAGSTER_HOME STORE`."""

# No `from __future__ import annotations`: Dagster reads the annotations of contexts as objects.
import sys

import dagster as dg

from embedding_assets.orchestration.resources import StoreResource


@dg.op(required_resource_keys={"store"})
def work(context: dg.OpExecutionContext) -> None:
    print(context.run_id, file=sys.__stdout__, flush=True)
    sys.stdin.read()


def job_of(store: str) -> dg.JobDefinition:
    """The job, named as one of the set's own."""
    return dg.JobDefinition(
        name="audit",
        graph_def=dg.GraphDefinition(name="audit", node_defs=[work]),
        resource_defs={"store": StoreResource(url=store).get_resource_definition()},
        executor_def=dg.in_process_executor,
    )


if __name__ == "__main__":
    with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
        job_of(sys.argv[2]).execute_in_process(instance=instance, tags={"dagster/partition": "lines"})
