"""Where the time of a compaction goes, and what bounds it.

    PYTHONPATH=. python benchmarks/compaction_profile.py [--base 50000] [--added 5000] [--dimension 1536] [--times 3]

First the stages of whole compactions, of the fastest one: those that are indented are parts of the one above, and run
beside one another where that says so. Then, each alone and the fastest of so many, what no compaction that proves its
outcome and opens it with plain chromadb can do without.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed import material, ours
from benchmarks.speed.isolated import Figures, begin, measured
from benchmarks.speed.rows import Sizes, prepared_store
from embedding_assets.chroma.stopwatch import Stopwatch
from embedding_assets.vectorstore.manifest import sha256_of


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("base", 50_000), ("added", 5_000), ("dimension", 1536), ("times", 3)):
        parser.add_argument(f"--{name}", type=int, default=default, help="%(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="profile-") as home:
        print("preparing", flush=True)
        prepared, _ = prepared_store(Path(home), given.base, given.added, Sizes(dimension=given.dimension))
        runs = [_tried(profile, Path(home), prepared, given.dimension) for _ in range(given.times)]
        best = min(runs, key=lambda run: run["total"])
        print(
            f"\ncompaction of {given.base:,} + {given.added:,} at {given.dimension:,} dimensions: {best['total']:.2f} s"
        )
        for label, seconds in best["stages"]:
            print(f"  {seconds:6.2f} s {100 * seconds / best['total']:4.0f} %  {label}")
        print("\neach alone:")
        bounds = [_tried(alone, Path(home), prepared, given.dimension) for _ in range(given.times)]
        for label in bounds[0]:
            if label != "peak":
                print(f"  {min(run[label] for run in bounds):6.2f} s  {label}")


def _tried(do: Callable[..., Figures], home: Path, prepared: Path, dimension: int) -> Figures:
    store = home / "store"
    shutil.copytree(prepared, store)
    try:
        return measured(do, store_folder=store, dimension=dimension)
    finally:
        shutil.rmtree(store)


def profile(store_folder: Path, dimension: int) -> Figures:
    """One compaction, its stages timed from outside."""
    from embedding_assets.chroma import child
    from embedding_assets.vectorstore import compact, publish, shard

    watch = Stopwatch()
    for module, name in ((child, "run_task"), (shard, "gather"), (shard, "describe_files")):
        _put_under(watch, module, name)
    for name in ("place_copy", "upload_files", "verify_files"):
        _put_under(watch, publish, name)
    store, spec = ours.open_bench_store(store_folder), material.spec_of(dimension)
    with ours.warm() as scratch:
        watch.seconds.clear()
        began = begin()
        done = compact.compact(store, spec, run_id="profile", scratch=scratch)
        total = time.perf_counter() - began
    assert done is not None
    assert done.merged is not None
    inside, seconds = done.merged.seconds, watch.seconds
    proof = seconds["place_copy"] + seconds["examine"]
    stages = [
        ("gather: base copied, deltas linked, all hashed", seconds["gather"]),
        ("merge", seconds["merge"]),
        *((f"  {_PARTS[part]}", inside[part]) for part in _PARTS),
        ("  process start and end", seconds["merge"] - sum(inside.values())),
        ("proof", proof),
        ("  copy of the SQLite file, links to the index", seconds["place_copy"]),
        ("  files checked and compared, chromadb opens, searches and writes to it", seconds["examine"]),
        ("  beside it: hashed for the manifest", seconds["describe_files"]),
        ("  beside it: uploaded", seconds["upload_files"]),
        ("  beside it: read back", seconds["verify_files"]),
        ("plan, manifests, commit", total - seconds["gather"] - seconds["merge"] - proof),
    ]
    return {"total": total, "stages": stages}


_PARTS = {
    "plan": "plan: ids, and who wins",
    "reading": "reading the deltas",
    "records": "SQL: records, metadata, full text",
    "vectors": "vectors written",
    "index": "index: short vectors, insertion on all cores, links written",
}


def alone(store_folder: Path, dimension: int) -> Figures:
    """What bounds a compaction, one after the other, with nothing beside it."""
    import chromadb

    from embedding_assets.chroma import graph_build
    from embedding_assets.chroma.merge import merge
    from embedding_assets.chroma.spec import DatabaseSpec, Source

    base = ours.current_files(store_folder)
    delta = max(path.parent for path in store_folder.glob("**/delta/**/manifest.json"))
    inside, watch = Stopwatch(), Stopwatch()
    _put_under(inside, graph_build, "_insert")
    with tempfile.TemporaryDirectory(dir=store_folder) as scratch:
        new = Path(scratch) / "new"
        begin()
        with watch("copy of the base"):
            shutil.copytree(base, new)
        (new / "manifest.json").unlink()
        merge(new, DatabaseSpec("lines", dimension, "cosine"), [Source(delta, "delta")])
        watch.seconds["insertion of the added into the index, on all cores"] = inside.seconds["_insert"]
        files = [path for path in new.rglob("*") if path.is_file()]
        with watch("SHA-256 of the new files, of which a commit takes three (base, sent, read back)"):
            for path in files:
                sha256_of(path)
        with (
            watch("SQLite's integrity check"),
            contextlib.closing(sqlite3.connect(new / "chroma.sqlite3")) as db,
        ):
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with watch("chromadb opens it, gives all ids, and answers one search"):
            client = chromadb.PersistentClient(str(new))
            handle = client.get_collection("lines", embedding_function=None)
            first = handle.get(include=[])["ids"][:1]
            handle.query(query_embeddings=handle.get(ids=first, include=["embeddings"])["embeddings"], n_results=1)
            client.close()
    return watch.seconds


def _put_under(watch: Stopwatch, module: Any, name: str) -> None:
    """Time a function from now on; a task is called by its own name, which is its first argument."""
    function = getattr(module, name)

    def watched(*arguments: Any, **more: Any) -> Any:
        with watch(arguments[0] if name == "run_task" else name):
            return function(*arguments, **more)

    setattr(module, name, watched)


if __name__ == "__main__":
    main()
