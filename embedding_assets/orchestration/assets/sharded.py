"""The asset `snapshots` where collections have several shards: a step that plans, one per shard, one that publishes.

The steps run on whatever executor the job has, on whatever machines. Each shard is committed by itself, so that a run
that is executed again from its failure makes only the shards that are missing. Where something does not go as planned
(another writer was faster, something turned out damaged), the last step compacts again, by itself: that is never wrong,
only not side by side. A collection with a single shard is compacted by the first step.
"""

# No `from __future__ import annotations`: Dagster reads the annotations of steps as objects.
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from embedding_assets.catalog import Catalog
from embedding_assets.orchestration.metadata.definitions import graph_asset
from embedding_assets.orchestration.metadata.snapshots import say_snapshot
from embedding_assets.orchestration.metadata.values import Stopwatch
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import cells_of_a_collection, collection_partitions
from embedding_assets.pipeline.compacting import compact_or_make_again
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.vectorstore.adopt import Adoption
from embedding_assets.vectorstore.cache import Cache
from embedding_assets.vectorstore.compact import Compaction, begin, finish
from embedding_assets.vectorstore.draft import Draft, ShardDone
from embedding_assets.vectorstore.gone import RecordsWouldGoError
from embedding_assets.vectorstore.shard import make_shard


@dataclass(frozen=True)
class Planned:
    """What the first step hands on.

    Attributes:
        draft: what the steps after it make; None where it did everything itself, or there was nothing to do.
        done: what it did then.
        adoptions: what became of legacy data.
        began: seconds since 1970.
    """

    draft: Draft | None
    done: Compaction | None
    adoptions: tuple[Adoption, ...]
    began: float


def build_sharded_snapshots(catalog: Catalog, names: Names) -> dg.AssetsDefinition:
    """The asset for these collections."""
    between = {"dagster_type": dg.Any, "io_manager_key": names.between_steps}
    needs = {names.store}

    @dg.op(
        name=names.of("plan_shards"),
        description="Adopts legacy data and sees what is to be made; compacts a collection that has a single shard.",
        ins={"deltas": dg.In(dg.Nothing)},
        out={"planned": dg.Out(**between), "shards": dg.DynamicOut(**between)},
        required_resource_keys=needs,
    )
    def plan_shards(context: dg.OpExecutionContext) -> Iterator[Any]:
        began = time.time()
        spec, store = catalog.get(context.partition_key), names.store_in(context)
        how: dict[str, Any] = {"run_id": context.run_id, "log": context.log.info}
        with ScratchFolder("compaction") as scratch:
            if spec.shards == 1:
                folder = store.cache_folder()
                done = compact_or_make_again(store.open(), spec, scratch=scratch, cache_folder=folder, **how)
                yield dg.Output(Planned(None, done, (), began), "planned")
                return
            begun = begin(store.open(), spec, scratch=scratch, **how)
        current = Compaction(begun.current, None, base=begun.current.id, aside=begun.aside) if begun.current else None
        yield dg.Output(Planned(begun.draft, current, begun.adoptions, began), "planned")
        for shard in range(begun.draft.shards if begun.draft else 0):
            name = layout.shard_name(shard, spec.shards)
            yield dg.DynamicOutput(shard, name.replace("-", "_"), "shards")

    @dg.op(
        name=names.of("make_shard"),
        description="Merges what one shard lacks into it, proves it, and commits it by its own manifest.",
        ins={"planned": dg.In(dg.Any), "shard": dg.In(dg.Any)},
        out=dg.Out(**between),
        required_resource_keys=needs,
    )
    def make_one(context: dg.OpExecutionContext, planned: Any, shard: Any) -> Any:
        spec, store = catalog.get(context.partition_key), names.store_in(context)
        folder, objects = store.cache_folder(), store.open()
        cache = Cache(folder, objects, spec.name) if folder else None
        with ScratchFolder("compaction") as scratch:
            try:
                return make_shard(
                    objects, spec, planned.draft, shard, scratch=scratch, cache=cache, log=context.log.info
                )
            except RecordsWouldGoError as error:  # the last step makes again what it can, or fails for the same reason
                context.log.warning(str(error))
                return ShardDone(shard, again=error.reason)

    @dg.op(
        name=names.of("publish_shards"),
        description="Commits all shards as one version.",
        ins={"planned": dg.In(dg.Any), "shards": dg.In(dg.Any)},
        out=dg.Out(dg.Nothing),
        required_resource_keys=needs,
    )
    def publish_shards(context: dg.OpExecutionContext, planned: Any, shards: Any) -> Iterator[Any]:
        spec, store = catalog.get(context.partition_key), names.store_in(context)
        watch = Stopwatch(already=max(0.0, time.time() - planned.began))
        with ScratchFolder("compaction") as scratch:
            done = planned.done
            if planned.draft is not None:
                done = _finished(planned, shards, context, store.open())
                if done is not None and done.manifest is None and _to_be_made_again(done, shards):
                    again = compact_or_make_again(
                        store.open(),
                        spec,
                        run_id=context.run_id,
                        scratch=scratch,
                        log=context.log.info,
                        cache_folder=store.cache_folder(),
                    )
                    done = _together(done, again)
            version, metadata = say_snapshot(store, spec, done, scratch, context.log.warning, watch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)  # data versions of outputs; those of assets are none
            result = dg.Output(None, metadata=metadata, data_version=version)
        yield result

    @dg.graph(name=names.of("compact_shards"), ins={"deltas": dg.GraphIn()})
    def snapshots(deltas: Any) -> Any:
        """The current snapshot of one collection: the one before, and all committed deltas that it lacked.

        Its shards are made side by side and published as one version by one atomic commit. Of two records with one id
        the last submitted wins. Each shard is proved record by record, uploaded and read back before.
        """
        planned, shards = plan_shards(deltas)
        return publish_shards(planned, shards.map(lambda shard: make_one(planned, shard)).collect())

    return graph_asset(
        catalog,
        names,
        "snapshots",
        "chroma",
        graph=snapshots,
        keys_by_input_name={"deltas": names.asset("deltas")},
        partitions_def=collection_partitions(catalog),
        partition_mappings={"deltas": cells_of_a_collection()},
    )


def _finished(planned: Planned, shards: list[ShardDone], context: dg.OpExecutionContext, store: Any) -> Compaction:
    assert planned.draft is not None  # noqa: S101  (asked before)
    done = finish(store, planned.draft, shards, log=context.log.info)
    return replace(done, adoptions=planned.adoptions)


def _to_be_made_again(done: Compaction, shards: list[ShardDone]) -> bool:
    return bool(done.lost_races) or any(one.again for one in shards)


def _together(first: Compaction, second: Compaction | None) -> Compaction:
    """What was done at the second attempt, with what the first one found and moved."""
    if second is None:
        return first
    return replace(
        second,
        lost_races=first.lost_races + second.lost_races,
        damages=(*first.damages, *second.damages),
        adoptions=(*first.adoptions, *second.adoptions),
        traffic=first.traffic + second.traffic,
    )
