"""A Dagster deployment of one collection on an instance of its own: run jobs, tick sensors, look at what was said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from embedding_assets.batches.position import Position
from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.assemble import build_definitions
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.orchestration.resources import ApiResource, StoreResource
from embedding_assets_tests.cells import Cell

KEY_VARIABLE = "TEST_OF_THE_WHOLE_API_KEY"


@dataclass(frozen=True)
class Tick:
    """What a sensor answered: runs that it asks for, or why it asks for none."""

    requests: Sequence[dg.RunRequest]
    reason: str | None
    cursor: str | None = None

    @property
    def states(self) -> list[str]:
        """The run keys without the bucket of time that they end in."""
        return [str(request.run_key).rsplit("/", 1)[0] for request in self.requests]


@dataclass
class Deployment:
    """The definitions for a cell's collection, with its store and the sandbox as resources."""

    cell: Cell
    instance: dg.DagsterInstance
    store: StoreResource
    api: ApiResource
    results: list[dg.ExecuteInProcessResult] = field(default_factory=list)
    _built: dict[tuple[str, int, int], dg.Definitions] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, instance: dg.DagsterInstance) -> Deployment:
        """With a folder as the store, and the API's key from the environment, where a deployment has it."""
        return cls(
            cell,
            instance,
            StoreResource(url=cell.store.url),
            ApiResource(base_url=cell.sandbox.base_url, api_key=dg.EnvVar(KEY_VARIABLE)),
        )

    @property
    def catalog(self) -> Catalog:
        return self.cell.catalog

    @property
    def definitions(self) -> dg.Definitions:
        """Built once for the same declarations and resources, as a code location does."""
        made_of = (self.catalog.model_dump_json(), id(self.store), id(self.api))
        if made_of not in self._built:
            self._built[made_of] = build_definitions(self.catalog, {"store": self.store, "api": self.api})
        return self._built[made_of]

    @property
    def cell_partition(self) -> dg.MultiPartitionKey:
        return cell_key(self.cell.spec.name, self.cell.day)

    def run(
        self,
        job: str,
        partition: str,
        assets: Iterable[str] | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run a job, or some of its assets, on one partition."""
        result = self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(name) for name in assets] if assets else None,
            run_config=config,
            tags=tags,
            raise_on_error=False,
        )
        self.results.append(result)
        return result

    def run_cell(self, *assets: str, batch_ids: Sequence[str] = ()) -> dg.ExecuteInProcessResult:
        """Run the cell's job, or some of its assets."""
        config = {"ops": {"batch_results": {"config": {"batch_ids": list(batch_ids)}}}} if batch_ids else None
        return self.run(CELL_JOB, self.cell_partition, assets, config=config)

    def run_compaction(self) -> dg.ExecuteInProcessResult:
        """Run the collection's compaction."""
        return self.run(COMPACTION_JOB, self.cell.spec.name)

    def tick(self, sensor: str) -> Tick:
        """Let a sensor look at everything once: in one tick, or in several where the machine is slow."""
        found: dict[str | None, dg.RunRequest] = {}
        answer = self.tick_once(sensor)
        found.update((request.run_key, request) for request in answer.requests)
        while not Position.parse(answer.cursor).over:
            answer = self.tick_once(sensor, answer.cursor)
            found.update((request.run_key, request) for request in answer.requests)
        return Tick(list(found.values()), None if found else answer.reason, answer.cursor)

    def tick_once(self, sensor: str, cursor: str | None = None) -> Tick:
        """One tick, which goes on from where the cursor says."""
        definitions = self.definitions
        with dg.build_sensor_context(
            instance=self.instance, definitions=definitions, resources=definitions.resources, cursor=cursor
        ) as context:
            answer = definitions.resolve_sensor_def(sensor).evaluate_tick(context)
        return Tick(answer.run_requests or (), answer.skip_message, answer.cursor)

    def obey(self, job: str, tick: Tick) -> list[dg.ExecuteInProcessResult]:
        """Run what a sensor asked for, as the daemon would."""
        done = []
        for request in tick.requests:
            assert request.partition_key is not None
            assets = [key.to_user_string() for key in request.asset_selection or ()]
            done.append(self.run(job, request.partition_key, assets, tags=request.tags))
        return done

    def everything_said(self) -> str:
        """All that Dagster keeps of the runs: events with metadata and errors, runs with tags, configuration."""
        return "\n".join(self._said())

    def _said(self) -> Iterator[str]:
        for run in self.instance.get_runs():
            yield dg.serialize_value(run)
            snapshot = self.instance.get_job_snapshot(run.job_snapshot_id) if run.job_snapshot_id else None
            yield dg.serialize_value(snapshot) if snapshot else ""
            for record in self.instance.get_records_for_run(run.run_id).records:
                yield dg.serialize_value(record.event_log_entry)


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What an asset's materialization says; tables as lists of rows."""
    (event,) = (e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset.split("/")))
    return plain(event.materialization.metadata)


def plain(entries: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, Any]:
    """Metadata as plain values."""
    return {
        key: [dict(row.data) for row in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else getattr(value, "data", value.value)
        for key, value in entries.items()
    }


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks' evaluations by name; each at most once."""
    evaluations = result.get_asset_check_evaluations()
    by_name = {evaluation.check_name: evaluation for evaluation in evaluations}
    assert len(by_name) == len(evaluations)
    return by_name


def trouble(result: dg.ExecuteInProcessResult) -> str:
    """Why the run failed, with all that Dagster shows of it: every cause's message and stack."""
    assert not result.success
    said = []
    for event in result.all_events:
        error = event.step_failure_data.error if event.is_step_failure else None
        while error is not None:
            said.append(error.to_string())
            error = error.cause
    return "\n".join(said)


def started(result: dg.ExecuteInProcessResult) -> set[str]:
    """Names of the steps that were started."""
    return {str(event.step_key) for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_START}
