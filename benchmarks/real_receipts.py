"""The 626 receipts of ICDAR 2019 SROIE as `lines` and `words` through the whole pipeline, on the sandbox.

    python benchmarks/real_receipts.py PATH/sroie_receipts.jsonl.gz

Prints the time of each stage, the peak memory of the pipeline (the sandbox apart), the size of the store, and proves
that every id is in the snapshots. The data is not part of this project; each of its lines is
{"receipt_id", "company", "lines": [{"line_id", "text", "bbox"}]}.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from process_tree import PeakMemory

from embedding_assets.batches.client import EmbeddingApi
from embedding_assets.catalog import load_catalog
from embedding_assets.orchestration.assemble import build_definitions, resources_of
from embedding_assets.orchestration.jobs import CELL_JOB, COMPACTION_JOB
from embedding_assets.orchestration.partitions import cell_key
from embedding_assets.pipeline.pending import cells_to_run
from embedding_assets.pipeline.status import collection_status
from embedding_assets.reading import Collection
from embedding_assets.sandbox import Sandbox
from embedding_assets.settings import load_settings
from embedding_assets.store import layout
from embedding_assets.store.objects import open_store

QUERIES = (
    ("lines", "total amount due"),
    ("lines", "goods sold are not returnable"),
    ("lines", "hardware shop invoice number"),
    ("words", "CHICKEN"),
    ("words", "petrol"),
)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("receipts", type=Path)
    parser.add_argument("--batch-requests", type=int, default=50_000, help="records in a batch; 136 gives many batches")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="real-receipts-") as folder:
        run(Path(folder), arguments.receipts, arguments.batch_requests)


def run(folder: Path, receipts: Path, batch_requests: int) -> None:
    """Everything in one temporary folder."""
    stages: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        stages[name] = stages.get(name, 0.0) + time.monotonic() - began
        print(f"  {name:34s} {time.monotonic() - began:7.1f} s", flush=True)

    (folder / "store").mkdir()
    counts = write_documents(receipts, folder / "documents")
    print(f"documents: {counts}", flush=True)
    (folder / "collections.yaml").write_text(_collections(batch_requests))
    with Sandbox.start(folder / "sandbox") as sandbox:
        os.environ.update(
            EMBEDDING_ASSETS_STORE=f"file://{folder}/store",
            EMBEDDING_ASSETS_DOCUMENTS=str(folder / "documents"),
            EMBEDDING_ASSETS_COLLECTIONS=str(folder / "collections.yaml"),
            EMBEDDING_ASSETS_CACHE=str(folder / "cache"),
            OPENAI_BASE_URL=sandbox.base_url,
            OPENAI_API_KEY=sandbox.api_key,
            TMPDIR=str(folder),
        )
        settings = load_settings()
        catalog = load_catalog(settings.collections_file)
        store, api = open_store(settings.store_url), EmbeddingApi(settings.api)
        definitions = build_definitions(catalog, resources_of(settings))
        day = str(layout.now().date())

        def launch(job: str, partition: str, *assets: str) -> None:
            result = definitions.resolve_job_def(job).execute_in_process(
                instance=instance,
                partition_key=partition,
                asset_selection=[dg.AssetKey(name) for name in assets],
                run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
            )
            for check in result.get_asset_check_evaluations():
                print(f"    {check.check_name}: {'passed' if check.passed else 'FAILED'}: {check.description}")

        with dg.DagsterInstance.ephemeral() as instance, PeakMemory({sandbox.pid}) as memory:
            for name in catalog.names:
                with stage(f"{name}: submit"):
                    launch(CELL_JOB, cell_key(name, day), "embedding_requests")
            with stage("wait for the sandbox's batches"):
                while cells_to_run(api, store, catalog)[1].in_flight:
                    time.sleep(0.2)
            for name in catalog.names:
                with stage(f"{name}: land results"):
                    launch(CELL_JOB, cell_key(name, day), "batch_results")
                with stage(f"{name}: build and check deltas"):
                    launch(CELL_JOB, cell_key(name, day), "deltas")
                with stage(f"{name}: compact and check"):
                    launch(COMPACTION_JOB, name, "snapshots")
            with stage("a second run of everything"):
                for name in catalog.names:
                    launch(CELL_JOB, cell_key(name, day), "embedding_requests", "batch_results", "deltas")
        for spec in catalog:
            standing = collection_status(store, spec)
            print(f"{spec.name}: {standing}")
            if not standing.requested == standing.accepted == standing.records == counts[spec.name]:
                raise SystemExit(f"{spec.name}: records are missing")
        for name, text in QUERIES:
            with Collection(store, catalog.get(name), settings) as collection:
                found = [f"{record.document!r} {record.distance:.3f}" for record in collection.query(text, n=4)]
                print(f"{name} {text!r}: {', '.join(found)}")
        size = sum(item.size for item in store.walk(""))
    print(
        f"total {sum(stages.values()):.1f} s; peak memory {memory.peak / 2**20:.0f} MiB; "
        f"store {size / 2**20:.0f} MiB; every one of {sum(counts.values()):,} ids is in its snapshot"
    )


def write_documents(receipts: Path, folder: Path) -> dict[str, int]:
    """The receipts as `lines.jsonl` and `words.jsonl`; returns how many of each."""
    folder.mkdir()
    counts = {"lines": 0, "words": 0}
    with (
        gzip.open(receipts, "rt", encoding="utf-8") as source,
        (folder / "lines.jsonl").open("w") as lines,
        (folder / "words.jsonl").open("w") as words,
    ):
        for number, text in enumerate(source):
            receipt = json.loads(text)
            for line in receipt["lines"]:
                prefix = f"IMAGE#{receipt['receipt_id']}#RECEIPT#{number:05d}#LINE#{line['line_id']:05d}"
                x0, y0, x1, y1 = line["bbox"]
                about: dict[str, Any] = {
                    "image_id": receipt["receipt_id"],
                    "receipt_id": number,
                    "line_id": line["line_id"],
                    "company": receipt["company"] or "",
                    "x": x0,
                    "y": y0,
                    "width": x1 - x0,
                    "height": y1 - y0,
                }
                lines.write(json.dumps({"id": prefix, "text": line["text"], "metadata": about}) + "\n")
                counts["lines"] += 1
                for index, word in enumerate(line["text"].split(), 1):
                    document = {
                        "id": f"{prefix}#WORD#{index:05d}",
                        "text": word,
                        "metadata": {**about, "word_id": index},
                    }
                    words.write(json.dumps(document) + "\n")
                    counts["words"] += 1
    return counts


def _collections(batch_requests: int) -> str:
    return "collections:\n" + "".join(
        f"  {name}: {{model: wordllama-256, dimensions: 256, batch_requests: {batch_requests}, "
        f"documents: '${{EMBEDDING_ASSETS_DOCUMENTS}}/{name}.jsonl'}}\n"
        for name in ("lines", "words")
    )


if __name__ == "__main__":
    main()
