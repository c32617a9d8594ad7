"""Records, the columns they travel in, and the digest that proves a set of them whole.

A record is an id, an embedding (float32), a document (text) and metadata (scalars, and lists of scalars of one type).
Records travel between the rooms as Arrow tables with `record_schema(dimension)`, on disk as Parquet, so that no room
hands another a Python object per record.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from embedding_assets.floats import settled_float

Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | list[str] | list[int] | list[float] | list[bool]
Metadata: TypeAlias = dict[str, Value]
Vectors: TypeAlias = npt.NDArray[np.float32]

RESERVED_PREFIX = "ea:"
BATCH_KEY = "ea:batch"  # id of the batch that the vector was paid for in
SUBMITTED_KEY = "ea:submitted"  # that batch's created_at, seconds since 1970
DELTA_KEY = "ea:delta"  # id of the delta that brought the record
RESERVED_KEYS = (BATCH_KEY, SUBMITTED_KEY, DELTA_KEY)

MAX_ID_BYTES = 512
_INT64_MAX = 2**63 - 1
_DIGEST_BYTES = 32
_DIGEST_MODULUS = 1 << (8 * _DIGEST_BYTES)


@dataclass(frozen=True, order=True, slots=True)
class Origin:
    """Where a record came from; of two records with one id the greater origin wins (last submitted wins)."""

    submitted: int
    batch_id: str
    delta_id: str

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Origin:
        """The origin in a record's reserved metadata; the least of all for a record written without (legacy data)."""
        return cls(
            int(metadata.get(SUBMITTED_KEY, 0)), str(metadata.get(BATCH_KEY, "")), str(metadata.get(DELTA_KEY, ""))
        )


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Some records as columns of equal length.

    Attributes:
        ids: unique within the batch.
        embeddings: shape (n, dimension), float32.
        documents: the text of each record.
        metadatas: the metadata of each record, reserved keys included where it came from a database.
    """

    ids: list[str]
    embeddings: Vectors
    documents: list[str]
    metadatas: list[Metadata]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: list[int]) -> RecordBatch:
        """The records at these positions, in this order."""
        return RecordBatch(
            [self.ids[i] for i in rows],
            self.embeddings[rows],
            [self.documents[i] for i in rows],
            [self.metadatas[i] for i in rows],
        )

    def without_origin(self) -> RecordBatch:
        """The same records without the metadata that says where they came from."""
        plain = [{key: value for key, value in one.items() if key not in RESERVED_KEYS} for one in self.metadatas]
        return RecordBatch(self.ids, self.embeddings, self.documents, plain)

    @classmethod
    def joined(cls, batches: Sequence[RecordBatch]) -> RecordBatch:
        """The records of all these batches, of which there is at least one, in order."""
        if len(batches) == 1:
            return batches[0]
        return cls(
            [record_id for batch in batches for record_id in batch.ids],
            np.concatenate([batch.embeddings for batch in batches]),
            [document for batch in batches for document in batch.documents],
            [metadata for batch in batches for metadata in batch.metadatas],
        )

    def to_arrow(self) -> pa.Table:
        """The records as a table with `record_schema`; metadata as JSON text."""
        dimension = int(self.embeddings.shape[1])
        flat = pa.array(np.ascontiguousarray(self.embeddings, dtype=np.float32).ravel(), type=pa.float32())
        return pa.table(
            [
                pa.array(self.ids, pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, dimension),
                pa.array(self.documents, pa.string()),
                pa.array([orjson.dumps(m).decode() for m in self.metadatas], pa.string()),
            ],
            schema=record_schema(dimension),
        )

    @classmethod
    def from_arrow(cls, table: pa.Table | pa.RecordBatch) -> RecordBatch:
        """The inverse of `to_arrow`."""
        column = table.column("embedding")
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        dimension = column.type.list_size
        # flatten(), not .values: the latter ignores the offset of a sliced array.
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)
        return cls(
            table.column("id").to_pylist(),
            vectors,
            table.column("document").to_pylist(),
            [orjson.loads(m) for m in table.column("metadata").to_pylist()],
        )


def record_schema(dimension: int) -> pa.Schema:
    """Arrow schema of records: id, embedding (fixed_size_list<float32>[dimension]), document, metadata (JSON)."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dimension), nullable=False),
            pa.field("document", pa.string(), nullable=False),
            pa.field("metadata", pa.string(), nullable=False),
        ]
    )


def clean_metadata(metadata: Mapping[str, Any]) -> Metadata:
    """Metadata as a ChromaDB database gives it back, or ValueError with the reason why it could not.

    Floats are rounded to 15 significant digits: chromadb 1.5.9 carries metadata through JSON and gives one float in
    twelve back one unit in the last place off. Numbers of 15 digits come back exactly, or a neighbour of theirs does
    (`floats.settled_float`), so that digests stay exact. Minus zero becomes zero, as SQLite has it.
    """
    clean: Metadata = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not key:
            raise ValueError("a metadata key is not a non-empty text")
        _sound_text(key, f"metadata key {key!a}")
        if key.startswith((RESERVED_PREFIX, "chroma:")):
            raise ValueError(f"metadata key {key!r} is reserved")
        if key.startswith(("#", "$")):
            raise ValueError(f"metadata key {key!r} begins with {key[0]!r}, which ChromaDB refuses")
        clean[key] = _clean_list(key, value) if isinstance(value, list) else _clean_scalar(key, value)
    return clean


def _clean_list(key: str, values: list[Any]) -> Any:
    if not values:
        raise ValueError(f"metadata {key!r} is an empty list, which ChromaDB refuses")
    kinds = {type(value) for value in values}
    if len(kinds) > 1 or not kinds <= {str, int, float, bool}:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(
            f"metadata {key!r} is a list of type {names}; ChromaDB holds lists of texts, of whole numbers, of floats "
            "or of true/false"
        )
    return [_clean_scalar(key, value) for value in values]


def _clean_scalar(key: str, value: Any) -> Scalar:
    if isinstance(value, str):
        return _sound_text(value, f"metadata {key!r}")
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -_INT64_MAX - 1 <= value <= _INT64_MAX:
            raise ValueError(f"metadata {key!r} is beyond 64 bits")
        return value
    if isinstance(value, float):
        settled = settled_float(value)
        if settled is None:
            raise ValueError(f"metadata {key!r} is {value}, which ChromaDB cannot hold")
        return settled
    raise ValueError(
        f"metadata {key!r} is of type {type(value).__name__}; "
        "ChromaDB holds text, numbers, true/false, and lists of them"
    )


def without_minus_zero(metadata: Mapping[str, Any]) -> Metadata:
    """The same metadata with 0.0 for -0.0, as SQLite gives it back; stores of earlier versions may hold the other."""
    return {
        key: [item + 0.0 if type(item) is float else item for item in value]
        if type(value) is list
        else (value + 0.0 if type(value) is float else value)
        for key, value in metadata.items()
    }


def clean_id(value: Any) -> str:
    """A record id that every part can hold, or ValueError with the reason."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("the id is not a non-empty text")
    if len(_sound_text(value, "the id").encode()) > MAX_ID_BYTES:
        raise ValueError(f"the id is longer than {MAX_ID_BYTES} bytes")
    return value


def clean_text(value: Any) -> str:
    """A document that can be embedded, or ValueError with the reason."""
    if not isinstance(value, str):
        raise ValueError(f"the text is of type {type(value).__name__}")
    if not value.strip():
        raise ValueError("the text is empty")
    return _sound_text(value, "the text")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _sound_text(value: str, what: str) -> str:
    if "\x00" in value:
        raise ValueError(f"{what} holds a NUL character")
    if _SURROGATE.search(value):
        raise ValueError(f"{what} holds a lone surrogate, which is no Unicode text")
    return value


def shard_of(record_id: str, shards: int) -> int:
    """Which of so many shards a record belongs to, from 0: by a hash of its id, the same everywhere and for ever."""
    return int.from_bytes(hashlib.blake2b(record_id.encode(), digest_size=8).digest(), "big") % shards


class ContentDigest:
    """Order-independent digest of records: the sum, modulo 2^256, of one BLAKE2b-256 hash per record.

    Each hash covers id, document, metadata (canonical JSON) and the vector's float32 bytes as the database holds
    them. A sum can be added to and taken from, so the digest of a union of disjoint sets is the sum of theirs.
    It guards against damage and mistakes; who can write to the store can write a manifest that fits.
    """

    __slots__ = ("_count", "_sum")

    def __init__(self) -> None:
        self._sum = 0
        self._count = 0

    def add(self, records: RecordBatch) -> ContentDigest:
        """Count these records in; returns self."""
        return self.add_hashes(record_hashes(records))

    def add_hashes(self, hashes: Sequence[bytes]) -> ContentDigest:
        """Count records in by their `record_hashes`; returns self."""
        self._sum = (self._sum + sum(int.from_bytes(one, "big") for one in hashes)) % _DIGEST_MODULUS
        self._count += len(hashes)
        return self

    @classmethod
    def known(cls, digest: str, count: int) -> ContentDigest:
        """What is known of so many records: their digest in hexadecimal."""
        known = cls()
        known._sum, known._count = int(digest, 16), count
        return known

    def plus(self, others: ContentDigest) -> ContentDigest:
        """The digest with other records counted in."""
        both = ContentDigest()
        both._sum, both._count = (self._sum + others._sum) % _DIGEST_MODULUS, self._count + others._count
        return both

    def minus(self, some: ContentDigest) -> ContentDigest:
        """The digest without some of its records."""
        rest = ContentDigest()
        rest._sum, rest._count = (self._sum - some._sum) % _DIGEST_MODULUS, self._count - some._count
        return rest

    @property
    def count(self) -> int:
        """How many records were counted in."""
        return self._count

    @staticmethod
    def of_union(digests: Iterable[str]) -> str:
        """The digest of all records of disjoint sets, of their digests in hexadecimal."""
        return f"{sum(int(digest, 16) for digest in digests) % _DIGEST_MODULUS:0{2 * _DIGEST_BYTES}x}"

    def hex(self) -> str:
        """The digest as 64 hexadecimal digits."""
        return f"{self._sum:0{2 * _DIGEST_BYTES}x}"


def record_hashes(records: RecordBatch) -> list[bytes]:
    """The hash of each record: id, document, metadata and vector, whatever the order of the metadata's keys."""
    vectors = np.ascontiguousarray(records.embeddings, dtype="<f4")
    rows = vectors.reshape(-1).view(np.uint8).data
    width = 4 * vectors.shape[1]
    hashes = []
    for i, record in enumerate(zip(records.ids, records.documents, records.metadatas, strict=True)):
        hasher = hashlib.blake2b(orjson.dumps(record, option=orjson.OPT_SORT_KEYS), digest_size=_DIGEST_BYTES)
        hasher.update(rows[i * width : (i + 1) * width])
        hashes.append(hasher.digest())
    return hashes


def digest_of(batches: Iterable[RecordBatch]) -> ContentDigest:
    """The digest of all records in these batches."""
    digest = ContentDigest()
    for batch in batches:
        digest.add(batch)
    return digest


def slices(total: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover range(total)."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
