"""Which metadata field colours the map, and how: the field whose values the neighbourhoods follow most closely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedding_assets.records import RESERVED_PREFIX, Metadata, Scalar

MOST_GROUPS = 7  # as many colours as are told apart by everybody, and grey for the rest
OTHER = "other"
_FEW = 12  # numbers of at most so many values are names of groups
_LEAST_PRESENT = 0.5
_LEAST_COVERED = 0.2  # by the groups that have a colour; of ids, every one is a group of its own
_LEAST_AGREEMENT = 0.02
_LONGEST_LABEL = 22


@dataclass(frozen=True)
class Colouring:
    """How points are coloured.

    Attributes:
        field: the metadata field; "" where there is none.
        labels: of the groups, the largest first, and `other`; empty where the field is a number.
        groups: which group each point belongs to, shape (n,), or
        numbers: each point's number, NaN where it has none, shape (n,).
    """

    field: str = ""
    labels: tuple[str, ...] = ()
    groups: npt.NDArray[np.intp] | None = None
    numbers: npt.NDArray[np.float64] | None = None


def choose_colouring(
    metadatas: Sequence[Metadata], near: npt.NDArray[np.intp] | None, wanted: str | None, *, choose: bool
) -> Colouring:
    """The colouring of a sample.

    Args:
        metadatas: of each point.
        near: positions of each point's nearest neighbours, shape (n, k); None where nobody has any.
        wanted: the field to take.
        choose: whether to choose one where none is wanted.
    """
    if wanted is not None:
        return _by_field(metadatas, wanted) or Colouring()
    if not choose or near is None:
        return Colouring()
    fields = {key for values in metadatas for key in values if not key.startswith(RESERVED_PREFIX)}
    found = [c for field in sorted(fields) if (c := _by_field(metadatas, field)) is not None and _says_something(c)]
    # Names say more to people than numbers do, unless the map knows nothing of them.
    return max(found, key=lambda one: _rank(one, _agreement(one, near)), default=Colouring())


def _rank(colouring: Colouring, agreement: float) -> tuple[bool, float]:
    return colouring.groups is not None and agreement >= _LEAST_AGREEMENT, agreement


def _by_field(metadatas: Sequence[Metadata], field: str) -> Colouring | None:
    found = [metadata.get(field) for metadata in metadatas]
    # A point has one colour, so a list of values gives it none.
    values = [None if isinstance(value, list) else value for value in found]
    present = [value for value in values if value is not None]
    if len(present) < _LEAST_PRESENT * len(values) or not present:
        return None
    names: Counter[Scalar] = Counter(present)
    if len(names) > _FEW and all(type(value) in (int, float) for value in present):
        numbers = np.asarray([np.nan if value is None else float(value) for value in values])
        return Colouring(field, numbers=numbers)
    top = [value for value, _ in sorted(names.most_common(MOST_GROUPS), key=lambda pair: (-pair[1], str(pair[0])))]
    place = {value: position for position, value in enumerate(top)}
    groups = np.asarray([len(top) if value is None else place.get(value, len(top)) for value in values])
    rest = (OTHER,) if (groups == len(top)).any() else ()
    return Colouring(field, tuple(_label(value) for value in top) + rest, groups)


def _says_something(colouring: Colouring) -> bool:
    """Not where all are the same, nor where hardly any two are."""
    if colouring.groups is None:
        return True
    sizes = np.bincount(colouring.groups)
    grey = sizes[-1] if colouring.labels[-1:] == (OTHER,) else 0
    return bool(sizes.max() < len(colouring.groups) and 1 - grey / len(colouring.groups) >= _LEAST_COVERED)


def _agreement(colouring: Colouring, near: npt.NDArray[np.intp]) -> float:
    """How much more neighbours are alike than any two points; 0 for chance, 1 for perfect."""
    if colouring.groups is not None:
        groups = colouring.groups
        shares = np.bincount(groups) / len(groups)
        chance = float((shares**2).sum())
        alike = float((groups[near] == groups[:, None]).mean())
        return (alike - chance) / (1 - chance) if chance < 1 else 0.0
    numbers = colouring.numbers
    assert numbers is not None  # noqa: S101  (a colouring is by groups or by numbers)
    # By rank, so that a few very large ones do not decide.
    known = np.isfinite(numbers)
    ranks = np.full(len(numbers), np.nan)
    ranks[known] = np.unique(numbers[known], return_inverse=True)[1]
    gaps = np.nanmean((ranks[near] - ranks[:, None]) ** 2)
    variance = 2 * np.nanvar(ranks)
    return float(1 - gaps / variance) if variance > 0 else 0.0


def _label(value: Scalar) -> str:
    text = " ".join(str(value).split()) or "(empty)"
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"
