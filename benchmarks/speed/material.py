"""What is measured with: records like embedded text, batch output files, landed batches; the same at every run.

Vectors are drawn around a thousand centres in a subspace of 128 dimensions, with noise in all of them, which is nearer
to embedded text than independent normal numbers: those have no neighbourhoods, and every index looks bad on them.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.landing import (
    ACCEPTED_SCHEMA,
    REJECTED_SCHEMA,
    LandedFiles,
    Landing,
    commit,
    write_files,
)
from embedding_assets.batches.records_file import RecordsFile
from embedding_assets.catalog import CollectionSpec
from embedding_assets.records import RecordBatch, Vectors, digest_of, slices
from embedding_assets.store import layout
from embedding_assets.store.objects import ObjectStore
from embedding_assets.vectorstore.delta import LandedBatch

DAY = "2026-03-04"
_CENTRES, _SUBSPACE, _AT_ONCE = 1000, 128, 5000
_WORDS = tuple("TOTAL CASH CHANGE TAX INVOICE DATE TABLE ITEM QTY PRICE AMOUNT ROUNDING THANK YOU GST CHICKEN".split())  # noqa: SIM905


def spec_of(dimension: int, distance: str = "cosine") -> CollectionSpec:
    """The collection that is measured with."""
    return CollectionSpec(name="lines", model="bench-model", dimensions=dimension, distance=distance)


def vectors(first: int, last: int, dimension: int, seed: int = 0) -> Vectors:
    """Unit vectors of the records from first up to, but without, last; shape (last - first, dimension)."""
    world = np.random.default_rng(7)
    basis = world.standard_normal((_SUBSPACE, dimension)).astype(np.float32) / np.sqrt(dimension)
    centres = world.standard_normal((_CENTRES, _SUBSPACE)).astype(np.float32)
    pieces = []
    for start in range(first, last, 1000):
        rng = np.random.default_rng([seed, start])
        count = min(1000, last - start)
        inside = centres[rng.integers(0, _CENTRES, count)]
        inside += 0.7 * rng.standard_normal((count, _SUBSPACE), dtype=np.float32)
        piece = inside @ basis + 0.15 * rng.standard_normal((count, dimension), dtype=np.float32) / np.sqrt(dimension)
        pieces.append(piece / np.linalg.norm(piece, axis=1, keepdims=True))
    return np.concatenate(pieces).astype(np.float32)


def records(first: int, last: int, dimension: int, seed: int = 0) -> RecordBatch:
    """Records with the ids of first up to, but without, last; another seed gives other vectors and texts to them."""
    rng = np.random.default_rng([seed, first, 1])
    words = rng.integers(0, len(_WORDS), (last - first, 5))
    documents = [" ".join(_WORDS[w] for w in row) + f" {first + i}" for i, row in enumerate(words)]
    return RecordBatch(
        [id_of(i) for i in range(first, last)],
        vectors(first, last, dimension, seed),
        documents,
        [
            {"receipt_id": i // 50, "line_id": i % 50, "merchant": f"Shop {i % 97}", "x": i / 8}
            for i in range(first, last)
        ],
    )


def id_of(number: int) -> str:
    """A record's id, in the form that receipts have."""
    return f"IMAGE#{number // 5000:05d}#RECEIPT#{number // 50:05d}#LINE#{number:07d}"


def write_parquet(path: Path, first: int, last: int, dimension: int, seed: int = 0) -> Path:
    """The records as a landed result lies on disk."""
    with RecordsFile(path, dimension) as file:
        for rows in slices(last - first, _AT_ONCE):
            _add(file, records(first + rows.start, first + rows.stop, dimension, seed))
    return path


def _add(file: RecordsFile, batch: RecordBatch) -> None:
    for row, record_id in enumerate(batch.ids):
        metadata = orjson.dumps(batch.metadatas[row], option=orjson.OPT_SORT_KEYS).decode()
        file.add(record_id, batch.embeddings[row], batch.documents[row], metadata)


def landed(path: Path, batch_id: str, submitted: int = 1000) -> LandedBatch:
    """A Parquet file as one landed batch."""
    return LandedBatch(batch_id, submitted, f"landing-of-{batch_id}", pq.ParquetFile(path).metadata.num_rows, path)


def land_batches(
    store: ObjectStore, spec: CollectionSpec, scratch: Path, batches: int, each: int, total: int
) -> list[Path]:
    """So many small batches, landed in one cell of a store, the last with what is left; returns their files on disk."""
    files = []
    for number in range(batches):
        first, last = number * each, total if number == batches - 1 else (number + 1) * each
        folder = scratch / f"batch-{number:05d}"
        folder.mkdir(parents=True)
        batch = records(first, last, spec.dimensions)
        landed_files = LandedFiles(folder / "records.parquet", folder / "accepted.parquet", folder / "rejected.parquet")
        with RecordsFile(landed_files.records, spec.dimensions) as file:
            _add(file, batch)
        pq.write_table(pa.table([pa.array(batch.ids)], schema=ACCEPTED_SCHEMA), landed_files.accepted)
        pq.write_table(REJECTED_SCHEMA.empty_table(), landed_files.rejected)
        batch_id, landing_id = f"batch_{number:06d}", layout.new_id()
        stored = write_files(store, layout.results(spec.name, DAY, batch_id, landing_id), landed_files)
        count = len(batch)
        about = Landing(
            landing_id, spec.name, DAY, f"request-{number}", batch_id, 1000 + number, "completed", spec.model,
            spec.dimensions, count, count, 0, 0, 0, 0, count * 5, digest_of([batch]).hex(), f"outcome-{number}",
            *stored,
        )  # fmt: skip
        commit(store, about, again=False)
        files.append(landed_files.records)
    return files


def write_output(path: Path, count: int, dimension: int, form: str) -> dict[str, tuple[str, str]]:
    """A batch's output file as OpenAI writes it, `form` being base64 or float; returns what was asked for."""
    asked: dict[str, tuple[str, str]] = {}
    with path.open("wb") as file:
        for rows in slices(count, 1000):
            batch = records(rows.start, rows.stop, dimension)
            for i, record_id in enumerate(batch.ids):
                asked[record_id] = (
                    batch.documents[i],
                    orjson.dumps(batch.metadatas[i], option=orjson.OPT_SORT_KEYS).decode(),
                )
                vector = batch.embeddings[i]
                if form == "base64":
                    embedding = b'"' + base64.b64encode(vector.tobytes()) + b'"'
                else:
                    # As OpenAI writes them: a float32's shortest decimal form.
                    embedding = b"[" + ", ".join(map(str, vector)).encode() + b"]"
                file.write(_line(record_id, rows.start + i, embedding))
    return asked


def _line(record_id: str, number: int, embedding: bytes) -> bytes:
    head = json.dumps({"id": f"batch_req_{number:08x}", "custom_id": record_id})[:-1]
    return (
        head.encode()
        + b', "response": {"status_code": 200, "request_id": "r", "body": {"object": "list", "data": [{"object": '
        + b'"embedding", "index": 0, "embedding": '
        + embedding
        + b'}], "model": "bench-model", "usage": {"prompt_tokens": 5, "total_tokens": 5}}}, "error": null}\n'
    )
