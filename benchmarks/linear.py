"""Lines of receipts by the hundred thousand through the whole pipeline, on the sandbox: is any step above linear?

    python benchmarks/linear.py PATH/sroie_receipts.jsonl.gz [--lines 200000]

The 33,626 real lines are repeated with edits (other digits, a word changed) until there are enough of them. A quarter,
half, and all of them go through a store of their own; the table shows each step's microseconds per record, and how
its time grows when the records double (2.0 is linear). Then 1 % more is added to the largest, against a rebuild.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from process_tree import PeakMemory

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.catalog import CollectionSpec
from embedding_assets.pipeline.cells import build_cell_deltas, land_cell, submit_cell
from embedding_assets.pipeline.proofs import prove_snapshot
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import ApiSettings
from embedding_assets.store import layout
from embedding_assets.store.objects import open_store
from embedding_assets.vectorstore.compact import compact

_SHARES = (4, 2, 1)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("receipts", type=Path)
    parser.add_argument("--lines", type=int, default=200_000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    tables: list[dict[str, float]] = []
    counts = [arguments.lines // share for share in _SHARES]
    home = tempfile.gettempdir()
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="linear-", dir=home) as folder:
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            tables.append(run(Path(folder), arguments.receipts, count, extra=count == counts[-1]))
    print_table(counts, tables)


def run(folder: Path, receipts: Path, count: int, *, extra: bool) -> dict[str, float]:
    """Everything for so many lines; seconds by step."""
    seconds: dict[str, float] = {}
    print(f"{count:,} lines", flush=True)

    @contextmanager
    def step(name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds[name] = time.monotonic() - began
        print(f"  {name:28s} {seconds[name]:7.1f} s", flush=True)

    documents = folder / "lines.jsonl"
    write_lines(receipts, documents, 0, count)
    store_folder = folder / "store"
    store_folder.mkdir()
    store, day = open_store(f"file://{store_folder}"), str(layout.now().date())
    spec = CollectionSpec(name="lines", model="wordllama-256", dimensions=256, documents=str(documents))
    with Sandbox.start(folder / "sandbox") as sandbox, PeakMemory({sandbox.pid}) as memory:
        api = EmbeddingApi(ApiSettings(sandbox.api_key, sandbox.base_url))

        with step("submit"):
            submit_cell(api, store, spec, day)
        with step("wait for the sandbox"):
            wait(api)
        with step("land"):
            land_cell(api, store, spec, day)
        with step("deltas"):
            build_cell_deltas(store, spec, day, run_id="bench", scratch=folder)
        with step("compact"):
            compact(store, spec, run_id="bench", scratch=folder)
        with step("prove the snapshot"):
            proof = prove_snapshot(store, spec, folder)
        assert proof.conserved
        assert proof.manifest
        assert proof.manifest.count == count
        if extra:
            write_lines(receipts, documents, 0, count + count // 100)
            submit_cell(api, store, spec, day)
            wait(api)
            land_cell(api, store, spec, day)
            build_cell_deltas(store, spec, day, run_id="bench", scratch=folder)
            with step("compact 1 % more"):
                compact(store, spec, run_id="bench", scratch=folder)
            with step("rebuild it from all deltas"):
                compact(store, spec, run_id="bench", scratch=folder, rebuild=True)
    size = sum(item.size for item in store.walk(""))
    print(f"  peak memory {memory.peak / 2**20:,.0f} MiB, the sandbox apart; store {size / 2**20:,.0f} MiB", flush=True)
    return seconds


def wait(api: EmbeddingApi) -> None:
    """Until the sandbox has finished all batches."""
    while any(not batch.ended for batch in api.list_batches()):
        time.sleep(0.2)


def write_lines(receipts: Path, documents: Path, first: int, last: int) -> None:
    """Lines from first up to, but without, last, as documents; the first time round as they are, then with edits."""
    with gzip.open(receipts, "rt", encoding="utf-8") as source:
        lines = [
            (f"IMAGE#{receipt['receipt_id']}#LINE#{line['line_id']:05d}", line["text"], receipt["company"] or "")
            for receipt in map(json.loads, source)
            for line in receipt["lines"]
        ]
    words = sorted({word for _, text, _ in lines for word in text.split()})
    with documents.open("w") as file:
        for number in range(first, last):
            again, place = divmod(number, len(lines))
            name, text, company = lines[place]
            if again:
                rng = random.Random(number)
                text = "".join(rng.choice("0123456789") if c.isdigit() else c for c in text)
                if len(text.split()) > 2:
                    text = f"{text} {rng.choice(words)}"
            about = {"company": company, "again": again, "line": place}
            file.write(json.dumps({"id": f"{name}#{again}", "text": text, "metadata": about}) + "\n")


def print_table(counts: list[int], tables: list[dict[str, float]]) -> None:
    """Microseconds per record, and growth from half to all."""
    print(f"\n{'µs a record':28s}" + "".join(f"{count:>12,}" for count in counts) + f"{'when doubled':>14s}")
    for name in tables[0]:
        each = "".join(f"{table[name] / count * 1e6:12.0f}" for count, table in zip(counts, tables, strict=True))
        print(f"{name:28s}{each}{tables[-1][name] / tables[-2][name]:14.2f}")
    more, rebuild = tables[-1]["compact 1 % more"], tables[-1]["rebuild it from all deltas"]
    print(f"adding 1 % took {more:.1f} s, {more / rebuild:.1%} of a rebuild")


if __name__ == "__main__":
    main()
