"""What the tasks of a child process report back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from embedding_assets.records import ContentDigest


@dataclass(frozen=True)
class MergeReport:
    """What a merge did, in records.

    Attributes:
        kept: records of the base that stayed as they were.
        replaced: records of the base that a later one took the place of.
        added: records that the base did not have.
        applied: by source label, how many of its records are in the result; the rest had been overtaken.
        chromadb_version: what wrote it.
        engine: `direct`, or `api` where it went through ChromaDB's own interface.
        obstacle: why it was not direct.
        rebuilt: whether the index was made from nothing, without what had been deleted.
        seconds: what took how long.
    """

    kept: int
    replaced: int
    added: int
    applied: dict[str, int]
    chromadb_version: str
    engine: str = "api"
    obstacle: str = ""
    rebuilt: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def how(self) -> str:
        """The engine, and why it was not direct."""
        return f"{self.engine}: {self.obstacle}" if self.obstacle else self.engine

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


def united_merge(reports: Sequence[MergeReport]) -> MergeReport | None:
    """What the merges of several shards did together; None where there were none."""
    if len(reports) < 2:
        return reports[0] if reports else None
    applied: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for report in reports:
        applied.update(report.applied)
        seconds.update(report.seconds)  # which adds fractions as well
    return replace(
        next((report for report in reports if report.obstacle), reports[0]),
        kept=sum(report.kept for report in reports),
        replaced=sum(report.replaced for report in reports),
        added=sum(report.added for report in reports),
        applied=dict(applied),
        rebuilt=any(report.rebuilt for report in reports),
        seconds=dict(seconds),
    )


def united_examination(reports: Sequence[Examination]) -> Examination | None:
    """What the shards of a snapshot hold together; shares and recall are of all their records and searches."""
    if len(reports) < 2:
        return reports[0] if reports else None
    count = sum(report.count for report in reports)
    searched = [report for report in reports if report.recall is not None and report.sampled]

    def share(of: Callable[[Examination], float]) -> float:
        return sum(of(report) * report.count for report in reports) / max(count, 1)

    return replace(
        reports[0],
        count=count,
        digest=ContentDigest.of_union(report.digest for report in reports),
        synced=all(report.synced for report in reports),
        sampled=sum(report.sampled for report in reports),
        found=sum(report.found for report in reports),
        problems=[problem for report in reports for problem in report.problems],
        recall=sum((r.recall or 0.0) * r.sampled for r in searched) / sum(r.sampled for r in searched)
        if searched
        else None,
        repeated=share(lambda report: report.repeated),
        unreachable=share(lambda report: report.unreachable),
        held_to_floor=all(report.held_to_floor for report in reports),
        opened=all(report.opened for report in reports),
        unsupported=next((report.unsupported for report in reports if report.unsupported), ""),
    )
