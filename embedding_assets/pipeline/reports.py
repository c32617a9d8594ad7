"""The report of a snapshot: numbers, pictures and a page beside it in the store, made once of every version.

{collection}/snapshot/report/{version}/{map,growth,health}.png, index.html, and statistics.json, which is written last.
It is made of a sample, after the commit, and nothing depends on it: what goes wrong with it harms no snapshot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from embedding_assets.catalog import CollectionSpec
from embedding_assets.chroma.child import sample_of_database
from embedding_assets.chroma.reports import Examination
from embedding_assets.chroma.sample import read_brought
from embedding_assets.chroma.sqlite_reader import UnknownFormatError
from embedding_assets.errors import ObjectMissingError
from embedding_assets.insight.charts import Point, growth_picture, health_picture, map_picture
from embedding_assets.insight.colouring import choose_colouring
from embedding_assets.insight.page import render_page
from embedding_assets.insight.projection import nearest, principal_axes, project
from embedding_assets.insight.statistics import Searched, Statistics, cut, measure
from embedding_assets.pipeline.statistics import read_statistics, write_statistics
from embedding_assets.records import RecordBatch
from embedding_assets.scratch import ScratchFolder
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectExistsError, ObjectStore
from embedding_assets.vectorstore.cache import Cache
from embedding_assets.vectorstore.commit import Commit, head, load_commit, load_snapshot
from embedding_assets.vectorstore.contents import download_database
from embedding_assets.vectorstore.manifest import Manifest
from embedding_assets.vectorstore.transfer import at_once

SAMPLE = 2000  # records; what is said of parts of a collection is right to one or two hundredths
NEWCOMERS = 500
PICTURES = ("map", "growth", "health")
PAGE = "index.html"
_COMMITS = 100  # the newest ones, in the picture of growth
_AXES, _NEIGHBOURS = 50, 10

Log = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """The report of one version.

    Attributes:
        statistics: its numbers.
        pictures: PNG files by name; what could not be drawn is missing.
        folder: where it is in the store.
    """

    statistics: Statistics
    pictures: Mapping[str, bytes] = field(repr=False)
    folder: str

    @property
    def page(self) -> str:
        """The key of the page."""
        return f"{self.folder}/{PAGE}"


def current_report(
    store: ObjectStore,
    spec: CollectionSpec,
    scratch: Path,
    *,
    cache_folder: Path | None = None,
    examined: tuple[str, Examination] | None = None,
    log: Log = lambda message: None,
) -> Report | None:
    """The report of the current snapshot, made now if it is not there; None where there is no snapshot.

    Args:
        store, spec: the collection.
        scratch: an existing folder on a disk with room for the snapshot; left as it was.
        cache_folder: where a compaction on this machine may have left a copy.
        examined: what an examination of all of a version found, and of which one.
        log: told of pictures that could not be drawn.

    Raises:
        StoreError: the store did not answer, or refuses.
        CorruptedError: the snapshot is not what its manifest says.
        UnreadableError: it cannot be read just now.
    """
    commit = head(store, spec.name)
    if commit is None or commit.version is None:
        return None
    found = read_report(store, spec.name, commit.version)
    if found is not None:
        return found
    manifest = load_snapshot(store, spec.name, commit)
    with ScratchFolder("report", scratch) as folder:
        cached = [Cache(cache_folder, store, spec.name).place(manifest.id)] if cache_folder else []
        download_database(store, manifest, folder / "snapshot", cached)
        known = examined[1] if examined and examined[0] == manifest.id else None
        return make_report(store, spec, commit, manifest, folder / "snapshot", examined=known, log=log)


def current_statistics(
    store: ObjectStore, spec: CollectionSpec, scratch: Path, *, cache_folder: Path | None = None
) -> Statistics | None:
    """The numbers of the current snapshot, without its pictures; else, and what is raised, as `current_report`."""
    commit = head(store, spec.name)
    if commit is None or commit.version is None:
        return None
    found = read_statistics(store, spec.name, commit.version)
    if found is not None:
        return found
    report = current_report(store, spec, scratch, cache_folder=cache_folder)
    return report.statistics if report else None


def read_report(store: ObjectStore, collection: str, version: str) -> Report | None:
    """The report of a version as it is in the store; None where there is none, or none that can be understood."""
    statistics = read_statistics(store, collection, version)
    if statistics is None:
        return None
    folder = layout.report(collection, version)
    pictures = {}
    for name in PICTURES:
        with contextlib.suppress(ObjectMissingError):
            pictures[name] = store.get(f"{folder}/{name}.png")
    return Report(statistics, pictures, folder)


def make_report(
    store: ObjectStore,
    spec: CollectionSpec,
    commit: Commit,
    manifest: Manifest,
    folder: Path,
    *,
    examined: Examination | None = None,
    log: Log = lambda message: None,
) -> Report:
    """Make the report of a committed snapshot and put it into the store.

    Args:
        store, spec, commit, manifest: the snapshot.
        folder: a copy of it on the disk, of the caller's own.
        examined: what an examination of all of it found, where there was one.
        log: told of pictures that could not be drawn.
    """
    count, sample = _sample(folder, manifest)
    shown = spec.preview.records
    statistics = measure(
        sample,
        count=count,
        near_distance=spec.quality.near_distance,
        searched=_searched(examined),
        about=_about(commit, manifest),
        newcomers=_newcomers(folder, commit, manifest),
        shown=shown,
        text_chars=spec.preview.text_chars,
    )
    sound = np.flatnonzero(np.isfinite(sample.embeddings).all(axis=1)).tolist()
    drawn = sample.take(sound)
    places = project(drawn.embeddings) if len(drawn) else np.empty((0, 2))
    near = (
        nearest(principal_axes(drawn.embeddings, _AXES), min(_NEIGHBOURS, len(drawn) - 1)) if len(drawn) > 1 else None
    )
    colouring = choose_colouring(drawn.metadatas, near, spec.preview.colour_by, choose=bool(shown))
    growth = growth_points(store, spec.name, commit)
    pictures = _drawn(
        {
            "map": lambda: map_picture(statistics, places, colouring),
            "growth": lambda: growth_picture(statistics, growth),
            "health": lambda: health_picture(statistics),
        },
        log,
    )
    texts = [f"{i}: {cut(text, spec.preview.text_chars)}" for i, text in zip(drawn.ids, drawn.documents, strict=True)]
    facts = [("parent", manifest.parent or "none"), ("deltas", f"{len(manifest.deltas):,}")]
    page = render_page(statistics, pictures, places, colouring, texts if shown else (), facts)
    report = Report(statistics, pictures, layout.report(spec.name, manifest.id))
    for name, data in (*((f"{name}.png", data) for name, data in pictures.items()), (PAGE, page)):
        _put(store, f"{report.folder}/{name}", data)
    write_statistics(store, statistics)
    return report


def _sample(folder: Path, manifest: Manifest) -> tuple[int, RecordBatch]:
    """How many records there are, and a sample of them, of each shard in proportion."""
    seed, count, samples = int(manifest.digest[:8], 16), 0, []
    for part in manifest.databases:
        most = max(1, round(SAMPLE * part.count / manifest.count))
        found, sample = sample_of_database(folder / part.shard, manifest.database, most, seed)
        count += found
        samples.append(sample)
    return count, RecordBatch.joined(samples)


def _newcomers(folder: Path, commit: Commit, manifest: Manifest) -> RecordBatch | None:
    """Some of the records that came with a version; None where the files are not of a known format."""
    seed = int(manifest.digest[8:16], 16)
    try:
        return RecordBatch.joined(
            [
                read_brought(
                    folder / part.shard,
                    manifest.collection,
                    commit.added_deltas,
                    max(1, round(NEWCOMERS * part.count / manifest.count)),
                    seed,
                )
                for part in manifest.databases
            ]
        )
    except UnknownFormatError:
        return None


def growth_points(store: ObjectStore, collection: str, commit: Commit) -> Sequence[Point]:
    """How many records there were since when, by the newest commits up to this one, the oldest first."""
    generations = range(max(1, commit.generation - _COMMITS + 1), commit.generation)
    before = at_once(lambda generation: load_commit(store, collection, generation), generations, threads=16)
    return [
        Point(datetime.fromisoformat(one.committed_at), one.count)
        for one in [*before, commit]
        if one is not None and one.committed_at
    ]


def _drawn(pictures: Mapping[str, Callable[[], bytes]], log: Log) -> dict[str, bytes]:
    done = {}
    for name, draw in pictures.items():
        try:
            done[name] = draw()
        except Exception as error:  # a library that cannot draw it is no reason to fail
            log(f"the picture of the {name} could not be drawn: {type(error).__name__}: {error}")
    return done


def _put(store: ObjectStore, key: str, data: bytes) -> None:
    # Another run that made the same report made it of the same records.
    with contextlib.suppress(ObjectExistsError):
        store.put_new(key, data)


def _searched(examined: Examination | None) -> Searched | None:
    if examined is None:
        return None
    return Searched(examined.sampled, examined.found, examined.recall, examined.repeated, examined.unreachable)


def _about(commit: Commit, manifest: Manifest) -> dict[str, Any]:
    return {
        "collection": manifest.collection,
        "version": manifest.id,
        "parent": manifest.parent,
        "generation": commit.generation,
        "committed_at": commit.committed_at,
        "model": manifest.model,
        "distance": manifest.distance,
        "dimension": manifest.dimension,
    }
