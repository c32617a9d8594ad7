"""What a look for pending work gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embedding_assets.batches.answers import ApiBatch
from embedding_assets.batches.cell_names import CellNames
from embedding_assets.batches.position import Cell, Position
from embedding_assets.errors import ApiUnavailableError


@dataclass(frozen=True)
class PendingCell:
    """A cell with something to do.

    Attributes:
        finished: batches that ended and are not landed.
        unsent: intents without a batch.
        again: records to be asked again.
        forgotten: batches that the API does not know any more, for `poll` to settle.
        late: batches that should have ended long ago; a run's check says so.
        hurt: requests of which a record is damaged or gone, and a sign of each; a run mends them.
    """

    collection: str
    day: str
    finished: tuple[str, ...] = ()
    unsent: tuple[str, ...] = ()
    again: int = 0
    forgotten: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    hurt: tuple[str, ...] = ()

    @property
    def something(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.finished or self.unsent or self.again or self.forgotten or self.late or self.hurt)


@dataclass(frozen=True)
class PendingWork:
    """What a look found.

    Attributes:
        cells: those with something to do, among the cells that were looked at.
        in_flight: how many known batches are not finished, as far as this round has seen.
        foreign: batches of other programs that have no record and no mark yet, for `discover`.
        doubled: unfinished batches of requests that have more than one, for `discover`.
        names: the cells that were looked at.
        position: where the next look goes on.
        trouble: why the API's list was not read on, where it was not.
        undeclared: how many batches of this store the list showed of each collection that is not declared.
    """

    cells: tuple[PendingCell, ...]
    in_flight: int
    foreign: tuple[ApiBatch, ...]
    doubled: tuple[ApiBatch, ...]
    names: Mapping[Cell, CellNames]
    position: Position
    trouble: ApiUnavailableError | None = None
    undeclared: Mapping[str, int] = field(default_factory=dict)

    @property
    def undiscovered(self) -> tuple[str, ...]:
        """Ids of the batches of other programs that are new."""
        return tuple(batch.id for batch in self.foreign)
