"""What a verification of a database in the store found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from embedding_assets.chroma.reports import Examination
from embedding_assets.errors import EmbeddingAssetsError
from embedding_assets.vectorstore.manifest import FileEntry, Manifest

Level = Literal["quick", "full"]
LEVELS: tuple[Level, ...] = ("quick", "full")
_NAMED = 5


@dataclass(frozen=True)
class Verdict:
    """Whether a database is whole.

    Attributes:
        kind: `valid`; `corrupted`, which is certain and alone may lead to moving or deleting anything; `unknown`,
            where it could not be judged just now, or is whole and not what is declared.
        reason: why it is not valid.
        remark: what is to be told although it is valid.
    """

    kind: Literal["valid", "corrupted", "unknown"]
    reason: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Verification:
    """A verdict and what it rests on.

    Attributes:
        verdict: the verdict.
        level: how thoroughly was looked; a folder without manifest is always looked at in full.
        kind: `delta`, `snapshot`, or `legacy` for a folder without manifest.
        id: of the delta or the snapshot; of a legacy folder, its key prefix.
        collection: whose.
        folder: the key prefix of its files.
        manifest: its manifest; None where there is none that can be read.
        examination: what was found inside: count, digest, recall and so on; None where it was not opened.
        files: of a legacy folder, or one that another program has changed, the files that chromadb reads, as a
            manifest would name them.
        strangers: keys below the folder that are no part of the database and that chromadb does not read.
        bytes: read from the store.
        seconds: what it took.
        cause: where the verdict is `unknown`, the error behind it.
        copy: the verified files, where they were to be kept; chromadb may have changed them when it opened them.
    """

    verdict: Verdict
    level: Level
    kind: Literal["delta", "snapshot", "legacy"]
    id: str
    collection: str
    folder: str
    manifest: Manifest | None = None
    examination: Examination | None = None
    files: tuple[FileEntry, ...] = ()
    strangers: tuple[str, ...] = ()
    bytes: int = 0
    seconds: float = 0.0
    cause: EmbeddingAssetsError | None = field(default=None, compare=False, repr=False)
    copy: Path | None = field(default=None, compare=False)

    @property
    def subject(self) -> str:
        """What messages call it."""
        return f"{self.kind} {self.id} of {self.collection}"

    @property
    def count(self) -> int | None:
        """Records, as counted or, at the level `quick`, as the manifest says."""
        if self.examination:
            return self.examination.count
        return self.manifest.count if self.manifest else None

    @property
    def recall(self) -> float | None:
        """Recall at ten of the sampled searches; None where none was made."""
        return self.examination.recall if self.examination else None


def corrupted(problems: list[str]) -> Verdict:
    """The verdict for these problems."""
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return Verdict("corrupted", "; ".join(problems[:_NAMED]) + more)
