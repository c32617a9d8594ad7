"""What a database is to hold, and where records for it come from; both cross a process border as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DatabaseSpec:
    """The one collection of a database: its name, floats per vector, and distance (`cosine`, `l2` or `ip`)."""

    collection: str
    dimension: int
    distance: str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Source:
    """Records to merge: a Parquet file of one batch's accepted records, or a ChromaDB folder.

    Attributes:
        path: the file or the folder.
        label: what reports call it (a batch id, a delta id).
        batch_id, submitted, delta_id: for a Parquet file, the origin that its records get; a folder's records carry
            their own.
        collection: for a folder, the name of its collection, where it is another than that of the result.
        digest, count: for a folder, what all of it holds by its manifest (`records.ContentDigest`), whatever the shard.
            Whoever reads it to the end compares that. Empty where nothing says so.
        proved: whether its files are bit for bit those that were proved to hold that. Then those of its records that no
            other source has an id of need not be read to be known.
        shard, shards: only those of its records are meant that belong to this one of so many shards
            (`records.shard_of`).
    """

    path: Path
    label: str
    batch_id: str = ""
    submitted: int = 0
    delta_id: str = ""
    collection: str = ""
    digest: str = ""
    count: int = 0
    proved: bool = False
    shard: int = 0
    shards: int = 1

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "path": str(self.path)}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Source:
        """The inverse of `to_json`."""
        return cls(**{**raw, "path": Path(raw["path"])})


def database_files(folder: Path) -> list[Path]:
    """All files of a database, as sorted paths relative to its folder."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
