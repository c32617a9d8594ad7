"""Turns a batch's output and error files into the files of a landing, a block at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedding_assets.batches.files import write_parquet
from embedding_assets.batches.landing import ACCEPTED_SCHEMA, REJECTED_SCHEMA, LandedFiles, outcome_of
from embedding_assets.batches.line_reader import LineReader
from embedding_assets.batches.lines import lines_of
from embedding_assets.batches.parse import ACCEPTED, BAD_JSON, Answer
from embedding_assets.batches.records_file import RecordsFile
from embedding_assets.catalog import CollectionSpec
from embedding_assets.records import RecordBatch, Vectors

AMBIGUOUS = "ambiguous"
_REMARKS = 20
_ROWS = 5_000
_NAME_LENGTH = 80
# Two answers of a model to one text differ in their last bits at most; those to two texts by far more.
_SKETCH, _SAME = 32, 0.05


@dataclass
class Landed:
    """What the lines of one batch said of the records that were asked.

    Attributes:
        requested: id -> (document, canonical metadata).
        accepted: the ids with a good vector.
        rejected: the last bad answer of every other id that has one.
        repeated, stray: counts of lines beyond those.
        others, elsewhere: custom_ids of lines that are not this request's, and how many lines were about them.
        torn: how many files end in a line that is no JSON, as one that was cut short does; those lines are stray.
    """

    files: LandedFiles
    requested: Mapping[str, tuple[str, str]]
    accepted: set[str] = field(default_factory=set)
    rejected: dict[str, Answer] = field(default_factory=dict)
    repeated: int = 0
    stray: int = 0
    others: frozenset[str] = frozenset()
    elsewhere: int = 0
    torn: int = 0
    sketches: dict[str, list[Vectors]] = field(default_factory=dict)  # of repeated good answers: some of their numbers
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

    @property
    def other_models(self) -> tuple[str, ...]:
        """Names of models that records were rejected for, some of them where there are many."""
        return tuple(sorted({answer.model for answer in self.rejected.values() if answer.model})[:_REMARKS])

    def outcome(self, status: str) -> str:
        """A digest of all that was learnt; equal for equal files in whatever order their lines are."""
        rejected = [(i, a.code, a.reason, a.retryable) for i, a in self.rejected.items()]
        counts = self.missing, self.repeated, self.stray
        return outcome_of(status, self.digest, len(self.accepted), rejected, *counts)

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
    asked: dict[str, tuple[str, str]] = {}
    with pq.ParquetFile(path, pre_buffer=False) as file:
        # Part by part: texts of up to 200 MB are not in memory twice.
        for part in file.iter_batches(_ROWS, columns=["id", "document", "metadata"]):
            ids, texts, metadatas = (part.column(name).to_pylist() for name in ("id", "document", "metadata"))
            asked.update(zip(ids, zip(texts, metadatas, strict=True), strict=True))
    return asked


def land_lines(
    spec: CollectionSpec,
    requested: Mapping[str, tuple[str, str]],
    sources: Mapping[str, Iterable[bytes]],
    folder: Path,
    several: Mapping[str, int] | None = None,
    others: Iterable[str] = (),
) -> Landed:
    """Read the files of a batch line by line, as they come, and write those of its landing.

    The first good line about a record counts; if another one gives another vector, none does: nobody knows which is
    right. Else a record is rejected only if none of its lines is good. While a block of
    records is written, the next one is read; memory holds two blocks, whatever the size of the files.

    Args:
        requested: id -> (document, canonical metadata).
        sources: the output file and the error file, as far as they exist: what they are called in remarks, and their
            bytes in pieces of any size.
        folder: where records.parquet, accepted.parquet and rejected.parquet are written.
        several: how many records each custom_id stands for that asked for a list: `{custom_id}#{index}`.
        others: custom_ids of lines that are accounted for elsewhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = LandedFiles(folder / "records.parquet", folder / "accepted.parquet", folder / "rejected.parquet")
    landed = Landed(files, requested, others=frozenset(others))
    with (
        RecordsFile(files.records, spec.dimensions) as records,
        LineReader(spec, len(requested), several) as reader,
        np.errstate(over="ignore", invalid="ignore"),  # beyond float32 becomes infinite, which is rejected by name
    ):
        for name, pieces in sources.items():
            code = ""
            for number, line in reader.answers(lines_of(pieces)):
                code = line.code
                for answer in line.parts or (line,):
                    if _take(landed, answer, name, number) and answer.vector is not None:
                        record_id = answer.custom_id or ""
                        records.add(record_id, answer.vector, *requested[record_id])
            landed.torn += code == BAD_JSON
    landed.digest = records.digest.hex()
    if landed.sketches:
        _leave_out_contradictions(spec, landed)
    landed.write_lists()
    return landed


def _leave_out_contradictions(spec: CollectionSpec, landed: Landed) -> None:
    """Reject the records to which two good lines give different vectors."""
    contradicted: set[str] = set()
    with pq.ParquetFile(landed.files.records) as file:
        for part in file.iter_batches(_ROWS):
            batch = RecordBatch.from_arrow(pa.table(part))
            for record_id, vector in zip(batch.ids, batch.embeddings, strict=True):
                first = _sketch(vector)
                for other in landed.sketches.get(record_id, ()):
                    if np.linalg.norm(first - other) > _SAME * max(np.linalg.norm(first), np.linalg.norm(other)):
                        contradicted.add(record_id)
    if not contradicted:
        return
    kept = landed.files.records.with_suffix(".kept")
    with pq.ParquetFile(landed.files.records) as file, RecordsFile(kept, spec.dimensions) as records:
        for part in file.iter_batches(_ROWS):
            batch = RecordBatch.from_arrow(pa.table(part))
            for record_id, vector in zip(batch.ids, batch.embeddings, strict=True):
                if record_id not in contradicted:
                    records.add(record_id, vector, *landed.requested[record_id])
    kept.replace(landed.files.records)
    landed.digest = records.digest.hex()
    landed.accepted -= contradicted
    reason = "two lines give different vectors for it"
    landed.rejected.update({i: Answer(i, None, AMBIGUOUS, reason, True) for i in contradicted})


def _sketch(vector: Vectors) -> Vectors:
    """Enough of a vector to tell it from another text's, however many there are to remember."""
    return vector[:: max(1, vector.size // _SKETCH)].astype(np.float64)


def _take(landed: Landed, answer: Answer, source: str, number: int) -> bool:
    """Count one answer; True where its vector is the one that counts."""
    record_id = answer.custom_id
    landed.tokens += answer.tokens
    if record_id in landed.others and record_id not in landed.requested:
        landed.elsewhere += 1
        return False
    if record_id is None or record_id not in landed.requested:
        landed.stray += 1
        what = answer.reason if record_id is None else f"{record_id[:_NAME_LENGTH]!r} was not asked for"
        _remark(landed, f"{source} line {number}: {what}")
        return False
    if record_id in landed.accepted:
        landed.repeated += 1
        if answer.vector is not None:
            landed.sketches.setdefault(record_id, []).append(_sketch(answer.vector))
        _remark(landed, f"{source} line {number}: {record_id[:_NAME_LENGTH]!r} had a good line before")
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
