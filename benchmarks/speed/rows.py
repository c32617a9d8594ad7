"""The rows of the table, each with its material, at full and at quick sizes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import orjson

from benchmarks.speed import material, ours, rivals
from benchmarks.speed.isolated import Figures, measured
from benchmarks.speed.table import Row, pairs
from embedding_assets.store.objects import open_store


@dataclass(frozen=True)
class Sizes:
    """How much of everything; records unless said otherwise."""

    dimension: int = 1536
    times: int = 3
    deltas: tuple[int, ...] = (5_000, 50_000)
    batches: int = 459
    per_batch: int = 136
    small_total: int = 62_455
    small_times: int = 1
    compactions: tuple[tuple[int, int], ...] = ((10_000, 5_000), (50_000, 5_000))
    replaced: tuple[int, int] = (10_000, 1_000)
    read: int = 15_000
    parsed: int = 50_000
    queries: int = 1_000


FULL = Sizes()
QUICK = Sizes(
    times=1,
    deltas=(2_000,),
    batches=40,
    small_total=5_440,
    compactions=((4_000, 2_000),),
    replaced=(4_000, 400),
    read=4_000,
    parsed=4_000,
    queries=300,
)


def deltas(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """From a landed result to a committed delta."""
    for count in sizes.deltas:
        source = material.write_parquet(folder / f"{count}.parquet", 0, count, sizes.dimension)

        def our(n: int, source: Path = source) -> Figures:
            store = folder / f"store-{source.stem}-{n}"
            store.mkdir()
            figures = measured(ours.delta, source=source, store_folder=store, dimension=sizes.dimension)
            shutil.rmtree(store)
            return figures

        def their(n: int, source: Path = source) -> Figures:
            database = folder / f"api-{source.stem}-{n}"
            figures = measured(rivals.api_delta, source=source, folder=database)
            shutil.rmtree(database)
            return figures

        yield pairs(
            f"delta of {count:,}: result on disk to committed and verified",
            "API upsert and close",
            ">= 10",
            our,
            their,
            times=sizes.times,
            note=lambda a, b, count=count: f"{count / a[0]['seconds']:,.0f} records/s",  # type: ignore[misc]
        )


def small_batches(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Many small batches to one snapshot."""
    spec = material.spec_of(sizes.dimension)
    landed = folder / "landed"
    landed.mkdir()
    files = material.land_batches(
        open_store(f"file://{landed}"), spec, folder / "batches", sizes.batches, sizes.per_batch, sizes.small_total
    )

    def our(n: int) -> Figures:
        store = _copy(landed, folder / f"store-{n}")
        figures = measured(ours.cell, store_folder=store, dimension=sizes.dimension)
        shutil.rmtree(store)
        return figures

    def their(n: int) -> Figures:
        figures = measured(rivals.api_many, sources=files, folder=folder / f"api-{n}")
        shutil.rmtree(folder / f"api-{n}")
        return figures

    def note(mine: list[Figures], others: list[Figures]) -> str:
        assert mine[0]["count"] == others[0]["count"] == sizes.small_total
        return f"deltas {mine[0]['deltas']:.1f} s of it; the rival's {others[0]['deltas']:.0f} s"

    yield pairs(
        f"{sizes.batches} batches of {sizes.per_batch} to a snapshot of {sizes.small_total:,}",
        "a database per batch, then get and upsert into one",
        ">= 8",
        our,
        their,
        times=sizes.small_times,
        note=note,
    )


def compactions(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """A delta merged into a snapshot, the search in what comes of it, and its full verification."""
    for base, added in sizes.compactions:
        room = folder / f"{base}-{added}"
        room.mkdir()
        prepared, new = prepared_store(room, base, added, sizes)
        database = shutil.copytree(ours.current_files(prepared), room / "base")
        (database / "manifest.json").unlink()
        delta = room / "delta"
        measured(rivals.api_delta, source=new, folder=delta)
        stores: list[Path] = []

        def our(n: int, room: Path = room, prepared: Path = prepared, stores: list[Path] = stores) -> Figures:
            stores.append(_copy(prepared, room / f"store-{n}"))
            return measured(ours.compaction, store_folder=stores[-1], dimension=sizes.dimension)

        def their(n: int, room: Path = room, database: Path = database, delta: Path = delta) -> Figures:
            return measured(rivals.api_merge, base=database, delta=delta, folder=room / f"api-{n}")

        what = f"compaction of {base:,} + {added:,}"
        row = pairs(what, "get and upsert", ">= 3", our, their, times=sizes.times)
        yield row
        yield from _against_raw(what, row, room, new, sizes)
        seconds = [
            measured(ours.verification, store_folder=store, dimension=sizes.dimension)["seconds"] for store in stores
        ]
        share = float(np.median(seconds)) / (row.ours or 1)
        yield Row(f"full verification after {what}, as a share of it", "the compaction", share, "<= 0.25",
                  float(np.median(seconds)), row.ours)  # fmt: skip
        yield _quality(what, stores[0], room / "api-0", base + added, sizes)
        shutil.rmtree(room)


def _against_raw(what: str, row: Row, room: Path, new: Path, sizes: Sizes) -> Iterator[Row]:
    try:
        raw = [
            measured(rivals.raw_insertion, base=room / "base.parquet", added=new, dimension=sizes.dimension)["seconds"]
            for _ in range(sizes.times)
        ]
    except RuntimeError as error:
        if "hnswlib" not in str(error):
            raise
        print(f"  not measured: raw hnswlib, which needs a C++ compiler to install ({str(error).splitlines()[-1]})")
        return
    seconds = float(np.median(raw))
    yield Row(
        f"{what}, the whole of it", "raw hnswlib insertion of the added alone",
        seconds / (row.ours or 1), ">= 0.6", row.ours, seconds,
    )  # fmt: skip


def _quality(what: str, store: Path, api: Path, total: int, sizes: Sizes) -> Row:
    every = material.vectors(0, total, sizes.dimension)
    rng = np.random.default_rng(3)
    queries = every[rng.integers(0, total, sizes.queries)] + 0.3 * rng.standard_normal(
        (sizes.queries, sizes.dimension), dtype=np.float32
    ) / np.sqrt(sizes.dimension)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    best = np.argpartition(-(queries @ every.T), 10, axis=1)[:, :10]
    nearest = [{material.id_of(int(i)) for i in row} for row in best]
    merged = measured(rivals.recall, folder=ours.current_files(store), queries=queries, nearest=nearest)["recall"]
    built = measured(rivals.recall, folder=api, queries=queries, nearest=nearest)["recall"]
    return Row(
        f"recall at 10 after {what}, ours over the rival's", "get and upsert; both against brute force",
        merged / built, ">= 1", note=f"{merged:.4f} and {built:.4f} of {sizes.queries:,} searches",
    )  # fmt: skip


def replacement(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """A tenth of a snapshot replaced."""
    base, replaced = sizes.replaced
    prepared, new = prepared_store(folder, base, replaced, sizes, replace=True)
    database = shutil.copytree(ours.current_files(prepared), folder / "base")
    (database / "manifest.json").unlink()
    measured(rivals.api_delta, source=new, folder=folder / "delta")

    def our(n: int) -> Figures:
        return measured(ours.compaction, store_folder=_copy(prepared, folder / f"store-{n}"), dimension=sizes.dimension)

    def their(n: int) -> Figures:
        return measured(rivals.api_merge, base=database, delta=folder / "delta", folder=folder / f"api-{n}")

    yield pairs(f"{replaced:,} of {base:,} records replaced", "API upsert", ">= 5", our, their, times=sizes.times)


def reading(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """A whole snapshot read."""
    prepared, _ = prepared_store(folder, sizes.read, 0, sizes)
    database = shutil.copytree(ours.current_files(prepared), folder / "base")
    (database / "manifest.json").unlink()
    yield pairs(
        f"a snapshot of {sizes.read:,} read, every column",
        "collection.get",
        ">= 10",
        lambda n: measured(ours.read, folder=database),
        lambda n: measured(rivals.api_read, folder=database),
        times=sizes.times,
    )


def parsing(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """A batch's output file parsed, checked and written as a landing."""
    for form in ("base64", "float"):
        output, asked = folder / f"{form}.jsonl", folder / f"{form}.json"
        asked.write_bytes(orjson.dumps(material.write_output(output, sizes.parsed, sizes.dimension, form)))

        def landed(n: int, output: Path = output, asked: Path = asked) -> Figures:
            target = folder / f"{output.stem}-{n}"
            return measured(ours.land, output=output, asked=asked, folder=target, dimension=sizes.dimension)

        what = f"output file of {sizes.parsed:,}, {form}"
        rival, note = partial(_json, output), partial(_peak, output.stat().st_size)
        name = "json.loads per line into lists"
        yield pairs(
            f"{what}: parsed and checked",
            name,
            ">= 5",
            partial(_parse, output, sizes),
            rival,
            times=sizes.times,
            note=note,
        )
        yield pairs(f"{what}: all of it to a landing on disk", name, "", landed, rival, times=sizes.times, note=note)
        output.unlink()


def _peak(size: int, mine: list[Figures], others: list[Figures]) -> str:
    return f"{size / 1e6:,.0f} MB; peak {max(figures['peak'] for figures in mine) / 2**20:.0f} MiB"


def _parse(output: Path, sizes: Sizes, number: int) -> Figures:
    return measured(ours.parse, output=output, expected=sizes.parsed, dimension=sizes.dimension)


def _json(output: Path, number: int) -> Figures:
    return measured(rivals.json_lines, path=output)


def prepared_store(folder: Path, base: int, added: int, sizes: Sizes, *, replace: bool = False) -> tuple[Path, Path]:
    """A store with a snapshot of `base` records and, not yet in it, a delta of `added` new or changed ones."""
    store = folder / "prepared"
    store.mkdir()
    source = material.write_parquet(folder / "base.parquet", 0, base, sizes.dimension)
    measured(ours.delta, source=source, store_folder=store, dimension=sizes.dimension)
    measured(ours.compaction, store_folder=store, dimension=sizes.dimension)
    first, seed = (0, 5) if replace else (base, 0)
    new = folder / "new.parquet"
    if added:
        material.write_parquet(new, first, first + added, sizes.dimension, seed)
        measured(ours.delta, source=new, store_folder=store, dimension=sizes.dimension, submitted=2000)
    return store, new


def _copy(store: Path, target: Path) -> Path:
    return Path(shutil.copytree(store, target))


ROWS = {
    "delta": deltas,
    "batches": small_batches,
    "compaction": compactions,
    "replace": replacement,
    "read": reading,
    "parse": parsing,
}
