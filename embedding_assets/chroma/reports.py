"""What the tasks of a child process report back."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MergeReport:
    """What a merge did, in records.

    Attributes:
        kept: records of the base that stayed as they were.
        replaced: records of the base that a later one took the place of.
        added: records that the base did not have.
        applied: by source label, how many of its records are in the result; the rest had been overtaken.
        chromadb_version: what wrote it.
    """

    kept: int
    replaced: int
    added: int
    applied: dict[str, int]
    chromadb_version: str

    @property
    def count(self) -> int:
        """Records in the result."""
        return self.kept + self.replaced + self.added


@dataclass(frozen=True)
class Examination:
    """What a database holds.

    Attributes:
        count: records in it.
        digest: `ContentDigest` of all of them, as read back.
        synced: whether the index files hold every record.
        sampled, found: records that were searched for by their own vector, and how many of them were found.
        problems: what is wrong, in words; empty for a whole database.
        recall: which part of the ten nearest the searches gave, against a comparison with all records; None where
            nothing was searched for.
        repeated: which part of the records has a vector that another one has, too.
        held_to_floor: whether bad recall would count as damage; not where there is another explanation for it.
        unreachable: which part of the index no search can come to.
        collections: the names of its collections.
        distance, dimension: of the one that was examined; the dimension is 0 where it holds nothing.
        opened: whether chromadb opened it; until then nothing has changed its files.
        unsupported: why this chromadb cannot judge it; then nothing but SQLite itself was examined.
    """

    count: int
    digest: str
    synced: bool
    sampled: int
    found: int
    problems: list[str]
    recall: float | None = None
    repeated: float = 0.0
    held_to_floor: bool = False
    unreachable: float = 0.0
    collections: list[str] = field(default_factory=list)
    distance: str = ""
    dimension: int = 0
    opened: bool = False
    unsupported: str = ""
