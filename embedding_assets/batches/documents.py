"""Reads the documents that a collection is made of.

A source is JSON Lines, one `{"id": ..., "text": ..., "metadata": {...}}` a line: a file (`.jsonl` or `.ndjson`, with or
without `.gz`, in capitals or not), a folder of such files, a glob pattern, or an object or prefix of a store. One bad
line never stops the others: it is rejected by name. A source that cannot be read at all is a DocumentError. What lies
beside the files and is not read is named.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
import pyarrow as pa

from embedding_assets.errors import DocumentError
from embedding_assets.records import clean_id, clean_metadata, clean_text
from embedding_assets.scratch import ScratchFolder
from embedding_assets.settings import S3Settings
from embedding_assets.store.objects import open_store
from embedding_assets.store.urls import path_in_url

SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_ALL_SUFFIXES = " or ".join(SUFFIXES)
DIGEST_BYTES = 16

# OpenAI takes 8,192 tokens an input (reference of POST /v1/embeddings), and no token of cl100k_base is longer than 128
# characters. A longer text cannot fit and is rejected here; of the others only the API knows, which then rejects the
# one line and charges nothing for it.
MAX_TEXT_CHARACTERS = 8_192 * 128

DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("document", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("digest", pa.binary(DIGEST_BYTES), nullable=False),
    ]
)

_KEYS = frozenset({"id", "text", "metadata"})
_ROWS = 20_000


class NoDocumentsError(DocumentError):
    """There is nothing at the place where documents should be."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that cannot be asked for, by name: where it stands, its id if it has one, and why."""

    source: str
    line: int
    id: str | None
    reason: str

    @property
    def name(self) -> str:
        """What it is counted by: its place, or its id where no one line is to blame (line 0)."""
        return f"{self.source}:{self.line}" if self.line else f"{self.source}#{self.id}"


@dataclass(frozen=True)
class Documents:
    """The documents of a source.

    Attributes:
        table: with DOCUMENTS_SCHEMA; ids are unique, in the order of the source.
        refused: the bad records.
        repeated: how many lines said again what an earlier line said.
        sources: the files that were read.
        passed_over: what lies beside them and was not read, each with the reason.
    """

    table: pa.Table
    refused: tuple[Refused, ...] = ()
    repeated: int = 0
    sources: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)


def content_digest(record_id: str, document: str, metadata: str) -> bytes:
    """16 bytes that stand for one record as asked; `metadata` is canonical JSON (`canonical`).

    It covers the metadata too: a record whose metadata alone changed is asked again, since the vector's database is
    only ever changed by way of a batch.
    """
    return hashlib.blake2b(orjson.dumps([record_id, document, metadata]), digest_size=DIGEST_BYTES).digest()


def canonical(metadata: dict[str, Any]) -> str:
    """Metadata as JSON with sorted keys."""
    return orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS).decode()


def documents_table(rows: Iterable[tuple[str, str, str]]) -> pa.Table:
    """Rows of (id, document, canonical metadata) as a table with DOCUMENTS_SCHEMA."""
    gathered = _Gathered()
    for record_id, document, metadata in rows:
        gathered.append(record_id, document, metadata, content_digest(record_id, document, metadata))
    return gathered.table()


def per_day(source: str) -> bool:
    """Whether each day has documents of its own."""
    return "{day}" in source


def read_documents(source: str, day: str, s3: S3Settings | None = None) -> Documents:
    """Read a source; `{day}` in it stands for the day.

    Args:
        source: a file, folder, glob pattern, or `file://` or `s3://` URL of one of them.
        day: YYYY-MM-DD.
        s3: how to reach S3 where the source is there.

    Raises:
        NoDocumentsError: nothing is there.
        DocumentError: something is there and cannot be read.
        StoreError: the store cannot be reached, or refuses.
    """
    reader = _Reader()
    with _files(source.replace("{day}", day), s3) as found:
        for name, path in found.files:
            reader.read(name, path)
    return replace(reader.finish(), passed_over=tuple(found.passed_over))


@dataclass
class _Found:
    """The files of a source as (name for messages, path); what lies beside them and is not read, with the reason."""

    files: list[tuple[str, Path]] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)

    def require_some(self, source: str, otherwise: str) -> _Found:
        if not self.files:
            said = "; ".join([otherwise, *self.passed_over[:3]])
            raise NoDocumentsError(source, said, "Check `documents` of the collection.")
        return self


def _named_as_documents(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


@contextmanager
def _files(source: str, s3: S3Settings | None) -> Iterator[_Found]:
    """The files of a source; what lies in a store is there only within the context."""
    scheme = urlsplit(source).scheme
    if scheme == "s3":
        with ScratchFolder("documents") as folder:
            yield _fetch(source, folder, s3)
    elif scheme == "file":
        yield _local(path_in_url(source), source)
    elif "://" in source:
        raise DocumentError(
            source, f"is a URL that starts with {scheme}://", "Use a path, file:///a/folder or s3://bucket/prefix."
        )
    else:
        yield _local(str(Path(source).expanduser()), source)


def _local(pattern: str, source: str) -> _Found:
    path = Path(pattern)
    try:
        if path.is_dir():
            return _in_folder(path, source).require_some(source, f"has no {_ALL_SUFFIXES} file")
        if path.exists():
            if not path.is_file():
                raise DocumentError(source, "is neither a file nor a folder", "Write it as JSON Lines.")
            if not _named_as_documents(path.name):
                raise DocumentError(source, f"is neither a folder nor {_ALL_SUFFIXES}", "Write it as JSON Lines.")
            return _Found([(str(path), path)])
        return _matching(pattern).require_some(source, "is not there")
    except OSError as error:
        raise DocumentError(source, f"cannot be read ({error.strerror})", "Check its permissions.") from error


def _in_folder(folder: Path, source: str) -> _Found:
    found = _Found()
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            # To read it unasked may pay for what nobody wanted.
            if any(_named_as_documents(name) for _, _, names in os.walk(path) for name in names):
                found.passed_over.append(
                    f"{path} is a folder within the folder and is not read: write {source.rstrip('/')}/**/*.jsonl, or "
                    "{day} in the place of its name"
                )
        else:
            _sort(path, found)
    return found


def _matching(pattern: str) -> _Found:
    found = _Found()
    for path in sorted(map(Path, glob.glob(pattern, recursive=True))):
        if not path.is_dir():
            _sort(path, found)
    return found


def _sort(path: Path, found: _Found) -> None:
    if not path.is_file():
        found.passed_over.append(f"{path} is no file, or a link to nothing, and is not read")
    elif not _named_as_documents(path.name):
        found.passed_over.append(f"{path} is no {_ALL_SUFFIXES} file and is not read")
    else:
        found.files.append((str(path), path))


def _fetch(source: str, folder: Path, s3: S3Settings | None) -> _Found:
    head, _, last = source.rstrip("/").rpartition("/")
    named = _named_as_documents(last) or any(c in last for c in "*?[")
    store = open_store(head if named else source.rstrip("/"), s3)
    url, found = store.url.rstrip("/"), _Found()
    below: set[str] = set()
    for item in store.walk(""):
        if named and ("/" in item.key or not fnmatchcase(item.key, last)):
            continue
        if "/" in item.key:
            below.update([item.key.partition("/")[0]] if _named_as_documents(item.key) else [])
        elif not _named_as_documents(item.key):
            found.passed_over.append(f"{url}/{item.key} is no {_ALL_SUFFIXES} object and is not read")
        else:
            found.files.append((f"{url}/{item.key}", folder / item.key))
    found.passed_over += [
        f"{url}/{name} is a prefix of its own and is not read: name it, or write {{day}} in its place"
        for name in sorted(below)
    ]
    found.require_some(source, f"has no {_ALL_SUFFIXES} object")
    for _, path in found.files:
        store.download(path.name, path)
    return found


@dataclass
class _Gathered:
    """Columns that grow; at most _ROWS rows of them as Python objects."""

    chunks: list[pa.RecordBatch] = field(default_factory=list)
    columns: tuple[list[Any], list[Any], list[Any], list[Any]] = field(default_factory=lambda: ([], [], [], []))

    def append(self, *row: Any) -> None:
        for column, value in zip(self.columns, row, strict=True):
            column.append(value)
        if len(self.columns[0]) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        arrays = [pa.array(c, t.type) for c, t in zip(self.columns, DOCUMENTS_SCHEMA, strict=True)]
        self.chunks.append(pa.record_batch(arrays, schema=DOCUMENTS_SCHEMA))
        for column in self.columns:
            column.clear()

    def table(self) -> pa.Table:
        self._flush()
        return pa.Table.from_batches(self.chunks, DOCUMENTS_SCHEMA)


class _Reader:
    """Takes lines one at a time. What it keeps of each id is a row number, a digest and a place, so that a million
    documents fit."""

    def __init__(self) -> None:
        self._gathered = _Gathered()
        self._rows: dict[str, int] = {}
        self._digests = bytearray()
        self._lines = array("Q")
        self._files = array("L")
        self._names: list[str] = []
        self._refused: list[Refused] = []
        self._repeated = 0

    def read(self, name: str, path: Path) -> None:
        self._names.append(name)
        try:
            with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
                for number, line in enumerate(cast("Iterable[bytes]", file), 1):
                    if line.strip():
                        self._take(number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DocumentError(
                name, f"cannot be read ({reason})", "Check its permissions, or write it again."
            ) from error

    def finish(self) -> Documents:
        return Documents(self._gathered.table(), tuple(self._refused), self._repeated, tuple(self._names))

    def _take(self, number: int, line: bytes) -> None:
        known: str | None = None
        try:
            raw = _object(line)
            known = raw["id"] if isinstance(raw.get("id"), str) else None
            record_id, text, metadata, said = _clean(raw)
        except ValueError as error:
            self._refuse(number, known, str(error))
            return
        digest = content_digest(record_id, text, said)
        row = self._rows.setdefault(record_id, len(self._rows))
        if row < len(self._lines):
            if self._digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES] == digest:
                self._repeated += 1
            else:
                first = f"{self._names[self._files[row]]}:{self._lines[row]}"
                self._refuse(number, record_id, f"the id stands with other content at {first}, which is kept")
            return
        self._digests += digest
        self._lines.append(number)
        self._files.append(len(self._names) - 1)
        self._gathered.append(record_id, text, metadata, digest)

    def _refuse(self, number: int, record_id: str | None, reason: str) -> None:
        self._refused.append(Refused(self._names[-1], number, record_id, reason))


def _object(line: bytes) -> dict[str, Any]:
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the line is no JSON ({error.msg})") from None
    if not isinstance(raw, dict):
        raise ValueError(f"the line is of type {type(raw).__name__}, not an object")
    metadata = raw.get("metadata")
    if isinstance(metadata, dict) and any(
        isinstance(v, float) and abs(v) >= 2**63
        for value in metadata.values()
        for v in (value if isinstance(value, list) else (value,))
    ):
        # orjson reads an integer beyond 64 bits as a float, and so another number; Python's reader tells them apart.
        raw["metadata"] = json.loads(line)["metadata"]
    return raw


def _clean(raw: dict[str, Any]) -> tuple[str, str, str, str]:
    """A record's id, text and metadata, and the metadata that its digest is made of."""
    unknown = sorted(set(raw) - _KEYS)
    if unknown:
        raise ValueError(f"unknown key {', '.join(map(repr, unknown))}; a line has id, text and metadata")
    record_id, text = clean_id(raw.get("id")), clean_text(raw.get("text"))
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters; no model takes more than {MAX_TEXT_CHARACTERS}")
    metadata = raw.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise ValueError(f"the metadata is of type {type(metadata).__name__}, not an object")
    clean = clean_metadata(metadata or {})
    # What was asked for when minus zero was still kept must not be asked for, and paid for, once more.
    said = {k: -0.0 if v == 0 and str(raw["metadata"][k]) == "-0.0" else v for k, v in clean.items()}
    return record_id, text, canonical(dict(clean)), canonical(said)
