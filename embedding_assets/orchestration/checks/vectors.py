"""Checks of what is in `snapshots`: are the vectors, texts and their drift what the collection's owner expects?"""

# No `from __future__ import annotations`: Dagster reads the annotations of resources as objects.
from collections.abc import Iterator

import dagster as dg

from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.orchestration.checks.judgements import check_result
from embedding_assets.orchestration.names import Names
from embedding_assets.orchestration.partitions import collection_partitions, partition_of
from embedding_assets.orchestration.resources import StoreResource
from embedding_assets.pipeline.quality import CHECKS, FRESH, Judgement, judge_freshness, judge_vectors
from embedding_assets.pipeline.reports import current_statistics
from embedding_assets.pipeline.statistics import read_statistics
from embedding_assets.scratch import ScratchFolder


def build_vector_checks(catalog: Catalog, names: Names) -> dg.AssetChecksDefinition:
    """The checks for these collections; none of them blocks: the snapshot is whole, and readers have it already."""
    asset = names.asset("snapshots")
    asked = {**CHECKS}
    if any(spec.freshness for spec in catalog):
        asked[FRESH] = "The newest delta in the snapshot is younger than `freshness` allows, where that is declared."

    @dg.multi_asset_check(
        name=names.of("snapshot_quality"),
        specs=[
            dg.AssetCheckSpec(check, asset=asset, description=question, partitions_def=collection_partitions(catalog))
            for check, question in asked.items()
        ],
        required_resource_keys={names.store},
    )
    def snapshot_quality(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        spec, store = catalog.get(partition_of(context)), names.store_in(context)
        judged = _judge_vectors(store, spec)
        if FRESH in asked:
            judged.append(_judge_freshness(store, spec))
        for one in judged:
            yield check_result(one, asset)

    return snapshot_quality


def _judge_vectors(store: StoreResource, spec: CollectionSpec) -> list[Judgement]:
    """One judgement per check, whatever happens: what cannot be judged just now is a warning."""
    try:
        objects = store.open()
        with ScratchFolder("statistics") as scratch:
            now = current_statistics(objects, spec, scratch, cache_folder=store.cache_folder())
        if now is None:
            return [Judgement(check, True, "there is no snapshot yet") for check in CHECKS]
        before = read_statistics(objects, spec.name, now.parent) if now.parent else None
        return judge_vectors(now, before, spec)
    except Exception as error:  # numbers of a sample are no reason to fail a run
        return [Judgement(check, False, f"could not be judged: {error}") for check in CHECKS]


def _judge_freshness(store: StoreResource, spec: CollectionSpec) -> Judgement:
    try:
        return judge_freshness(store.open(), spec) or Judgement(FRESH, True, "nothing is declared for this collection")
    except EmbeddingAssetsError as error:
        return Judgement(FRESH, False, f"could not be judged: {error}")
