"""What the owner of a collection expects of it: how fresh and how good it is, and what of it may be shown."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d)")
_UNITS = {"m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


class Strict(BaseModel):
    """A declaration that refuses what it does not know, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Preview(Strict):
    """What the UI may show of records.

    Attributes:
        records: how many a materialization previews; 0: nothing of any record is shown, also on no report, and in the
            map's legend only if `colour_by` is given.
        text_chars: where texts are cut, there and on the report's map, which says each point's.
        colour_by: the metadata field that colours the map of a snapshot. Unless given, the one that tells most.
    """

    records: int = Field(default=5, ge=0, le=50)
    text_chars: int = Field(default=80, ge=0, le=1000)
    colour_by: str | None = None


class Foreign(Strict):
    """What is done about batches that other programs submitted.

    Attributes:
        ask_again: whether their records that were not answered, or badly, are asked again on this deployment's key.
            Records of a batch that was cancelled, or failed, never are.
    """

    ask_again: bool = False


class Quality(Strict):
    """From where on a check of the vectors fails. Shares are parts of 1; None: the number is shown, nothing fails.

    Attributes:
        rejected_share: of a cell's records that were rejected.
        empty_share: of records without text.
        duplicate_share: of records whose very vector another one has, too.
        near_duplicate_share: of records that have another one nearer than `near_distance` (cosine).
        norm: the least and the greatest length of a vector; for OpenAI's models 0.99 and 1.01 unless given, for
            others a tenth of the median and ten times it.
        centroid_shift: how far the centre of the vectors may move from one snapshot to the next, in parts of their
            mean distance from it; what chance explains for a sample of that size is not counted.
        newcomers_off: how far the centre of the records that came with a snapshot may be off that of the others,
            measured likewise. Small additions move the centre of all but little, however odd they are.
    """

    rejected_share: float | None = Field(default=0.05, ge=0, le=1)
    empty_share: float | None = Field(default=0.0, ge=0, le=1)
    duplicate_share: float | None = Field(default=None, ge=0, le=1)
    near_duplicate_share: float | None = Field(default=None, ge=0, le=1)
    near_distance: float = Field(default=0.02, gt=0, le=1)
    norm: tuple[float, float] | None = None
    centroid_shift: float | None = Field(default=0.15, gt=0)
    newcomers_off: float | None = Field(default=0.5, gt=0)

    @field_validator("norm")
    @classmethod
    def _least_comes_first(cls, norm: tuple[float, float] | None) -> tuple[float, float] | None:
        if norm is not None and not 0 < norm[0] <= norm[1]:
            raise ValueError("`norm` is the least length of a vector, more than 0, and then the greatest")
        return norm


class Freshness(Strict):
    """How old the newest delta of a snapshot may be: `warn` and `fail`, each as `90min`, `26h` or `3d`."""

    warn: timedelta | None = None
    fail: timedelta | None = None

    @field_validator("warn", "fail", mode="before")
    @classmethod
    def _duration(cls, value: Any) -> Any:
        found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
        if found:
            return timedelta(**{_UNITS[found.group(2)]: float(found.group(1))})
        if value is None or isinstance(value, timedelta) or (isinstance(value, str) and value.startswith("P")):
            return value
        raise ValueError(f"{value!r} is no duration; write it as 90min, 26h or 3d")

    @model_validator(mode="after")
    def _in_order(self) -> Freshness:
        given = [age for age in (self.warn, self.fail) if age is not None]
        if not given:
            raise ValueError("give `warn`, `fail` or both")
        if min(given) <= timedelta(0) or given != sorted(given):
            raise ValueError("`warn` and `fail` are longer than nothing, and `warn` comes first")
        return self
