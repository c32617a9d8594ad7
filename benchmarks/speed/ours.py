"""What is measured: the package's own functions, verification and commit included."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson

from benchmarks.speed.isolated import Figures, begin
from benchmarks.speed.material import DAY, landed, spec_of
from embedding_assets.batches.landing_files import land_lines
from embedding_assets.batches.line_reader import LineReader
from embedding_assets.batches.lines import lines_of, pieces_of
from embedding_assets.store.objects import ObjectStore, open_store
from embedding_assets.vectorstore.commit import head
from embedding_assets.vectorstore.compact import compact
from embedding_assets.vectorstore.delta import build_delta
from embedding_assets.vectorstore.manifest import load_manifest


def delta(source: Path, store_folder: Path, dimension: int, submitted: int = 1000) -> Figures:
    """A landed result on disk becomes a committed, verified delta."""
    store = open_bench_store(store_folder)
    batch = landed(source, f"batch-{submitted}", submitted)
    with warm() as scratch:
        began = begin()
        made = build_delta(store, spec_of(dimension), DAY, [batch], run_id="bench", scratch=scratch)
        return {"seconds": time.perf_counter() - began, "count": made.count, "bytes": made.size}


def cell(store_folder: Path, dimension: int) -> Figures:
    """The landed batches of a cell become deltas, and those a snapshot."""
    from embedding_assets.pipeline.cells import build_cell_deltas

    store, spec = open_bench_store(store_folder), spec_of(dimension)
    with warm() as scratch:
        began = begin()
        build_cell_deltas(store, spec, DAY, run_id="bench", scratch=scratch)
        built = time.perf_counter() - began
        done = compact(store, spec, run_id="bench", scratch=scratch)
        seconds = time.perf_counter() - began
    assert done is not None
    assert done.manifest is not None
    return {"seconds": seconds, "deltas": built, "count": done.manifest.count}


def compaction(store_folder: Path, dimension: int) -> Figures:
    """The snapshot takes in the deltas that it lacks, verified and committed."""
    store, spec = open_bench_store(store_folder), spec_of(dimension)
    with warm() as scratch:
        began = begin()
        done = compact(store, spec, run_id="bench", scratch=scratch)
        seconds = time.perf_counter() - began
    assert done is not None
    assert done.manifest is not None
    return {"seconds": seconds, "count": done.manifest.count}


def verification(store_folder: Path, dimension: int) -> Figures:
    """The current snapshot, verified in full."""
    from embedding_assets.vectorstore.verify import verify

    store, spec = open_bench_store(store_folder), spec_of(dimension)
    commit = head(store, spec.name)
    assert commit is not None
    with warm() as scratch:
        began = begin()
        found = verify(store, commit, spec, level="full", scratch=scratch)
        seconds = time.perf_counter() - began
    assert found.verdict.kind == "valid", found.verdict
    return {"seconds": seconds, "recall": found.recall}


def read(folder: Path) -> Figures:
    """Every record of a database on disk."""
    from embedding_assets.chroma.read import read_records

    began = begin()
    count = sum(len(batch) for batch in read_records(folder, "lines", 5000))
    return {"seconds": time.perf_counter() - began, "count": count}


def parse(output: Path, expected: int, dimension: int) -> Figures:
    """Every line of a batch's output file parsed and its vector checked."""
    count = 0
    began = begin()
    with LineReader(spec_of(dimension), expected) as reader, np.errstate(over="ignore", invalid="ignore"):
        for _, answer in reader.answers(lines_of(pieces_of(output))):
            count += answer.vector is not None
    return {"seconds": time.perf_counter() - began, "count": count}


def land(output: Path, asked: Path, folder: Path, dimension: int) -> Figures:
    """A batch's output file becomes the files of its landing."""
    requested = {name: tuple(value) for name, value in orjson.loads(asked.read_bytes()).items()}
    began = begin()
    made = land_lines(spec_of(dimension), requested, {"output": pieces_of(output)}, folder)
    return {"seconds": time.perf_counter() - began, "count": len(made.accepted)}


def current_files(store_folder: Path) -> Path:
    """Where a folder store keeps the files of its current snapshot."""
    store = open_bench_store(store_folder)
    commit = head(store, "lines")
    assert commit is not None
    manifest = load_manifest(store, f"lines/snapshot/timestamped/{commit.version}/manifest.json")
    return store_folder / manifest.folder


def open_bench_store(folder: Path) -> ObjectStore:
    return open_store(f"file://{folder}")


class warm:
    """A scratch folder, and a worker process that has imported chromadb: a service pays for that once."""

    def __enter__(self) -> Path:
        from embedding_assets.chroma.child import chromadb_works

        self._scratch = TemporaryDirectory(prefix="bench-")
        assert chromadb_works()
        return Path(self._scratch.name)

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()
