"""What the materialization of a snapshot says: numbers, lineage, and the pictures of its report."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from embedding_assets.catalog import CollectionSpec
from embedding_assets.insight.statistics import Statistics, centroid_shift, cut
from embedding_assets.orchestration.metadata.cells import quarantined
from embedding_assets.orchestration.metadata.values import Metadata, Stopwatch, place, preview_table
from embedding_assets.orchestration.resources import StoreResource
from embedding_assets.orchestration.tables import table
from embedding_assets.pipeline.reports import Report, current_report
from embedding_assets.pipeline.statistics import read_statistics
from embedding_assets.vectorstore.compact import Compaction
from embedding_assets.vectorstore.manifest import Manifest

_DIGITS = 6


def say_snapshot(
    store: StoreResource,
    spec: CollectionSpec,
    done: Compaction | None,
    scratch: Path,
    warn: Callable[[str], None],
    watch: Stopwatch,
) -> tuple[dg.DataVersion | None, Metadata]:
    """The data version of a compaction's result, and all that is said of it.

    Args:
        store, spec, done: what was done; None where there was nothing to do it with.
        scratch: an existing folder on a disk with room for the snapshot.
        warn: told of damage, and of a report that cannot be made.
        watch: started when the compaction was.
    """
    for damage in done.damages if done else ():
        warn(f"{damage.kind} {damage.name} is corrupted ({damage.reason}); {damage.fate}")
    left = [f"{one.folder}: {one.reason}" for one in (done.adoptions if done else ()) if one.action == "left"]
    for one in left:
        warn(f"legacy data is left as it is: {one}")
    legacy: Metadata = {"legacy_left": left} if left else {}
    if done is None or done.manifest is None:
        nothing = "legacy data alone is there, and is left" if left else "there is no delta yet"
        return None, {"note": f"{nothing}, hence nothing to compact", **legacy}
    report = say_report(store, spec, done, scratch, warn)
    merged = done.merged
    return dg.DataVersion(done.manifest.digest), {
        "note": "compacted" if merged else "the snapshot lacked nothing; it is unchanged",
        # What a person looks for first comes first.
        "records": done.manifest.count,
        "version": done.manifest.id,
        **report,
        **say_compacted(done, done.manifest, store),
        **legacy,
        **watch.rates(merged.added + merged.replaced if merged else 0, done.manifest.size if merged else 0),
    }


def say_compacted(done: Compaction, manifest: Manifest, store: StoreResource) -> Metadata:
    """What was merged into what."""
    merged = done.merged
    return {
        "dagster/row_count": manifest.count,
        "version": manifest.id,
        "parent": manifest.parent or "none",
        "shards": len(manifest.parts),
        "generation": manifest.generation or 0,
        "records": manifest.count,
        "bytes": manifest.size,
        "digest": manifest.digest,
        "deltas_in_snapshot": len(manifest.deltas),
        "added_records": merged.added if merged else 0,
        "replaced_records": merged.replaced if merged else 0,
        "merged_deltas": len(done.deltas),
        "lost_races": done.lost_races,
        "set_aside": [str(one) for one in done.aside] or "nothing",
        "base": done.base or "nothing",
        "quarantined": len(done.damages) + sum(one.action == "quarantined" for one in done.adoptions),
        "downloaded_bytes": done.traffic.downloaded,
        "cached_bytes": done.traffic.cached,
        "uploaded_bytes": done.traffic.uploaded,
        "adopted_legacy": sum(one.action == "adopted" for one in done.adoptions),
        "chromadb_version": manifest.chromadb_version,
        "written": merged.how if merged else "nothing",
        "index_rebuilt": merged.rebuilt if merged else False,
        "merge_seconds": dg.MetadataValue.json(merged.seconds if merged else {}),
        "snapshot": place(store, manifest.folder),
        "deltas": table(
            [
                {
                    "delta": delta.id,
                    "day": delta.day,
                    "records": delta.count,
                    "applied": merged.applied.get(delta.id, 0) if merged else 0,
                    "batches": len(delta.batches),
                }
                for delta in done.deltas
            ],
            {"delta": "string", "day": "string", "records": "int", "applied": "int", "batches": "int"},
        ),
        **quarantined(done.damages, manifest.collection, store),
    }


def say_report(
    store: StoreResource, spec: CollectionSpec, done: Compaction, scratch: Path, log: Callable[[str], None]
) -> Metadata:
    """Numbers, pictures and page of the current snapshot's report, which is made unless it is there.

    Where it cannot be made, `log` is told why: no run fails for its sake.
    """
    examined = (done.manifest.id, done.examined) if done.manifest and done.examined else None
    try:
        objects, cache = store.open(), store.cache_folder()
        report = current_report(objects, spec, scratch, cache_folder=cache, examined=examined, log=log)
        if report is None:
            return {}
        parent = report.statistics.parent
        before = read_statistics(objects, spec.name, parent) if parent else None
        return _in_words(report, before, spec, store)
    except Exception as error:
        log(f"there is no report of this snapshot, which is not affected: {type(error).__name__}: {error}")
        return {}


def _in_words(report: Report, before: Statistics | None, spec: CollectionSpec, store: StoreResource) -> Metadata:
    # Less may be allowed now than when the report was made.
    shown, chars = report.statistics.examples[: spec.preview.records], spec.preview.text_chars
    return {
        "report": place(store, report.page),
        **{name: _image(name, data) for name, data in report.pictures.items()},
        **_numbers(report.statistics, before),
        **preview_table((one.id, cut(one.text, chars), cut(one.metadata, chars)) for one in shown),
    }


def _numbers(statistics: Statistics, before: Statistics | None) -> Metadata:
    """The numbers that are worth plotting over versions."""
    found: Metadata = {
        "sampled_records": statistics.sampled,
        "duplicate_share": statistics.duplicates,
        "near_duplicate_share": statistics.share(statistics.near),
        "empty_share": statistics.share(statistics.empty),
        "broken_vectors": statistics.broken + statistics.zero,
        "vector_spread": statistics.spread,
        **dict(zip(("norm_least", "norm_median", "norm_greatest"), statistics.norms[::2], strict=False)),
    }
    if statistics.searched and statistics.searched.recall is not None:
        found["recall"] = statistics.searched.recall
    if statistics.newcomers_off is not None:
        found["newcomers_off"] = statistics.newcomers_off.beyond_chance
    if before is not None:
        with contextlib.suppress(ValueError):  # of another model: there is nothing to compare
            found["centroid_shift"] = centroid_shift(statistics, before).beyond_chance
    return {name: round(value, _DIGITS) for name, value in found.items()}


def _image(name: str, png: bytes) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})")
