"""The forms of the jobs in the UI: options of the commands, as run config that explains itself."""

# No `from __future__ import annotations`: Dagster reads the annotations of configuration as objects.
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from enum import Enum

import dagster as dg
from pydantic import Field

from embedding_assets.catalog import Catalog, CollectionSpec
from embedding_assets.errors import ConfigurationError
from embedding_assets.pipeline.named import Named, NamedKind
from embedding_assets.store import layout
from embedding_assets.vectorstore.prune import GRACE, KEEP, LONGEST_GRACE
from embedding_assets.vectorstore.verification import Level


class LevelOption(Enum):
    """How deep a verification goes; the form offers these."""

    quick = "quick"
    full = "full"


class KindOption(Enum):
    """Kinds of entries of the quarantine; the form offers these."""

    delta = "delta"
    snapshot = "snapshot"


_LEVEL = "`quick`: manifest, checksums, SQLite; `full`: also opens and searches it."
# The default is an empty list and no factory: the form shows only what has a default value of its own.
_PASTED = "Paste them as they are: blanks and commas separate, too."


class LookForm(dg.Config):
    """What every job has."""

    collections: list[str] = Field(default=[], description=f"Which collections. Empty: all. {_PASTED}")

    def named(self) -> Named | None:
        """What must be there before anything is done."""
        return None


class VerifyForm(LookForm):
    """Options of `check` and `snapshots verify`."""

    level: LevelOption = Field(default=LevelOption.quick, description=_LEVEL)


class VerifyDeltasForm(VerifyForm):
    """Options of `deltas verify`."""

    ids: list[str] = Field(default=[], description=f"Only these deltas. Empty: all. {_PASTED}")

    def named(self) -> Named | None:
        return "committed delta", pasted(self.ids)


class UpkeepForm(LookForm):
    """What every job has that changes something."""

    dry_run: bool = Field(default=True, description="Say what would be done, and stop. Set it to false to do it.")


class RepairForm(UpkeepForm):
    """Options of `repair`."""

    level: LevelOption = Field(default=LevelOption.quick, description=_LEVEL)


class PruneForm(UpkeepForm):
    """Options of `prune`."""

    keep: int = Field(default=KEEP, ge=1, description="So many of the newest versions stay.")
    grace_hours: float = Field(
        default=GRACE.total_seconds() / 3600,
        ge=0,
        le=LONGEST_GRACE,
        description="What is unfinished and younger stays.",
    )


class DeleteSnapshotsForm(UpkeepForm):
    """Options of `snapshots delete`."""

    timestamped: bool = Field(default=False, description="Delete all versions too, not only the pointer and `latest/`.")


class RebuildForm(UpkeepForm):
    """Options of `snapshots rebuild`."""

    force: bool = Field(
        default=False,
        description="Also where nothing is left of a delta, and records are lost; a dry run names it.",
    )


class RollbackForm(UpkeepForm):
    """Options of `snapshots rollback`."""

    version: str = Field(
        description="The version to make current again, from upkeep_snapshots_list; name its one collection in "
        "`collections`."
    )

    def named(self) -> Named | None:
        return "version", [self.version.strip()]


class DeleteDeltasForm(UpkeepForm):
    """Options of `deltas delete`."""

    ids: list[str] = Field(description=f"The deltas to delete; their batches are pending again. {_PASTED}")

    def named(self) -> Named | None:
        return "delta", pasted(self.ids)


class ListBatchesForm(LookForm):
    """Options of `batches list`."""

    only_open: bool = Field(default=False, description="Only batches of which nothing has landed.")


class BatchesForm(UpkeepForm):
    """Options of `batches poll` and `batches cancel`."""

    ids: list[str] = Field(description=f"Which batches, from upkeep_batches_list. {_PASTED}")

    def named(self) -> Named | None:
        return "batch", pasted(self.ids)


class GiveUpForm(BatchesForm):
    """Options of `batches give-up`."""

    def named(self) -> Named | None:
        return "open batch", pasted(self.ids)


class CleanDeltasForm(UpkeepForm):
    """Options of `deltas clean`."""

    created_before: str = Field(
        default="", description="ISO time, as the store has it: 2026-03-04T12:00. Empty: `validated_since`, or now."
    )
    corrupted_only: bool = Field(default=True, description="Delete only what is corrupted.")
    level: LevelOption = Field(default=LevelOption.full, description=_LEVEL)


class RestoreForm(UpkeepForm):
    """Options of `quarantine restore`."""

    kind: KindOption = Field(description="What the entry was.")
    name: str = Field(description="The entry, from upkeep_quarantine_list; name its one collection in `collections`.")
    force: bool = Field(default=False, description="Move it back although it is corrupted.")

    def named(self) -> Named | None:
        kind: NamedKind = "quarantined delta" if self.kind is KindOption.delta else "quarantined snapshot"
        return kind, [self.name.strip()]


class PurgeForm(UpkeepForm):
    """Options of `quarantine purge`."""

    names: list[str] = Field(default=[], description=f"Only these entries. Empty: all. {_PASTED}")
    found_before: str = Field(
        default="", description="Only what was moved there before this ISO time, such as 2026-03-04T12:00."
    )

    def named(self) -> Named | None:
        return "entry", pasted(self.names)


def pasted(texts: Sequence[str]) -> list[str]:
    """The words of texts that somebody pasted: separated by blanks, line ends, commas; without quotes; each once."""
    words = (word.strip("'\"") for text in texts for word in re.split(r"[\s,;]+", text))
    return list(dict.fromkeys(word for word in words if word))


def chosen(catalog: Catalog, names: Sequence[str]) -> list[CollectionSpec]:
    """The collections of these names; all, if none is named."""
    return [catalog.get(name) for name in pasted(names)] or list(catalog)


def level_of(option: LevelOption) -> Level:
    """The level that was chosen."""
    return "full" if option is LevelOption.full else "quick"


def time_of(text: str) -> datetime | None:
    """A time in ISO form, UTC unless it says otherwise; None for an empty text."""
    text = text.strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        today = f"{layout.now():%Y-%m-%dT%H:%M}"
        raise ConfigurationError(f"time {text!r}", "is no ISO time", f"Write it as {today}.") from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
