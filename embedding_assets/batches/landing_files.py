"""Turns a batch's output and error files into the files of a landing, a row group at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.files import write_parquet
from embedding_assets.batches.landing import ACCEPTED_SCHEMA, REJECTED_SCHEMA, LandedFiles
from embedding_assets.batches.parse import ACCEPTED, Answer, parse_line
from embedding_assets.catalog import CollectionSpec
from embedding_assets.records import ContentDigest, RecordBatch, record_schema

_ROW_BYTES = 8 * 1024 * 1024  # vectors of one row group; what is held in memory at once
_REMARKS = 20
_NAME_LENGTH = 80


@dataclass
class Landed:
    """What the lines of one batch said of the records that were asked.

    Attributes:
        requested: id -> (document, canonical metadata).
        accepted: the ids with a good vector.
        rejected: the last bad answer of every other id that has one.
        repeated, stray: counts of lines beyond those.
    """

    files: LandedFiles
    requested: Mapping[str, tuple[str, str]]
    accepted: set[str] = field(default_factory=set)
    rejected: dict[str, Answer] = field(default_factory=dict)
    repeated: int = 0
    stray: int = 0
    tokens: int = 0
    digest: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Records of which no line speaks."""
        return len(self.requested) - len(self.accepted) - len(self.rejected)

    @property
    def again(self) -> bool:
        """Whether any of its records may be asked again."""
        return self.missing > 0 or any(answer.retryable for answer in self.rejected.values())

    def outcome(self, status: str) -> str:
        """A digest of all that was learnt; equal for equal files in whatever order their lines are."""
        rejected = sorted((i, a.code, a.reason, a.retryable) for i, a in self.rejected.items())
        said = [status, self.digest, len(self.accepted), rejected, self.missing, self.repeated, self.stray]
        return hashlib.blake2b(orjson.dumps(said), digest_size=16).hexdigest()

    def write_lists(self) -> None:
        """Write accepted.parquet and rejected.parquet."""
        # In the order asked, so that the same outcome is written the same way.
        accepted = [i for i in self.requested if i in self.accepted]
        write_parquet(pa.table([pa.array(accepted, pa.string())], schema=ACCEPTED_SCHEMA), self.files.accepted)
        rows = [(i, self.rejected[i]) for i in self.requested if i in self.rejected]
        columns = [
            pa.array([i for i, _ in rows], pa.string()),
            pa.array([a.reason for _, a in rows], pa.string()),
            pa.array([a.code for _, a in rows], pa.string()),
            pa.array([a.retryable for _, a in rows], pa.bool_()),
        ]
        write_parquet(pa.table(columns, schema=REJECTED_SCHEMA), self.files.rejected)


def requested_documents(path: Path) -> dict[str, tuple[str, str]]:
    """What a request's documents.parquet asked for: id -> (document, canonical metadata)."""
    table = pq.read_table(path, columns=["id", "document", "metadata"])
    columns = [table.column(name).to_pylist() for name in ("id", "document", "metadata")]
    return {record_id: (text, metadata) for record_id, text, metadata in zip(*columns, strict=True)}


def land_lines(
    spec: CollectionSpec, requested: Mapping[str, tuple[str, str]], sources: Iterable[Path], folder: Path
) -> Landed:
    """Read the files of a batch line by line and write those of its landing.

    The first good line about a record counts. A record is rejected only if none of its lines is good.

    Args:
        requested: id -> (document, canonical metadata).
        sources: the output file and the error file, as far as they exist.
        folder: where records.parquet, accepted.parquet and rejected.parquet are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = LandedFiles(folder / "records.parquet", folder / "accepted.parquet", folder / "rejected.parquet")
    landed = Landed(files, requested)
    digest = ContentDigest()
    most = max(1, _ROW_BYTES // (4 * spec.dimensions))
    waiting: list[Answer] = []
    schema = record_schema(spec.dimensions)
    with pq.ParquetWriter(files.records, schema, compression="zstd") as writer:

        def flush() -> None:
            if waiting:
                records = _records(waiting, requested)
                digest.add(records)
                writer.write_table(records.to_arrow())
                waiting.clear()

        for place, line in _lines(sources):
            answer = parse_line(line, spec)
            if _take(landed, answer, place):
                waiting.append(answer)
                if len(waiting) >= most:
                    flush()
        flush()
    landed.digest = digest.hex()
    landed.write_lists()
    return landed


def _lines(sources: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for path in sources:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path.stem} line {number}", line


def _take(landed: Landed, answer: Answer, place: str) -> bool:
    """Count one answer; True where its vector is the one that counts."""
    record_id = answer.custom_id
    landed.tokens += answer.tokens
    if record_id is None or record_id not in landed.requested:
        landed.stray += 1
        what = answer.reason if record_id is None else f"{record_id[:_NAME_LENGTH]!r} was not asked for"
        _remark(landed, f"{place}: {what}")
        return False
    if record_id in landed.accepted:
        landed.repeated += 1
        _remark(landed, f"{place}: {record_id[:_NAME_LENGTH]!r} had a good line before")
        return False
    if answer.code != ACCEPTED:
        landed.rejected[record_id] = answer
        return False
    landed.rejected.pop(record_id, None)
    landed.accepted.add(record_id)
    return True


def _remark(landed: Landed, text: str) -> None:
    if len(landed.remarks) < _REMARKS:
        landed.remarks.append(text)


def _records(answers: list[Answer], requested: Mapping[str, tuple[str, str]]) -> RecordBatch:
    ids = [answer.custom_id or "" for answer in answers]
    return RecordBatch(
        ids,
        np.stack([answer.vector for answer in answers if answer.vector is not None]),
        [requested[i][0] for i in ids],
        [orjson.loads(requested[i][1]) for i in ids],
    )
