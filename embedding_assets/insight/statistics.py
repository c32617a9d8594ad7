"""What a sample of a collection says of the whole, in numbers that are small enough to be kept of every version."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from embedding_assets.insight.projection import Matrix
from embedding_assets.records import DELTA_KEY, RESERVED_PREFIX, RecordBatch

FORMAT = 2  # 1 was not sealed
BINS = 40  # of the histograms of cosine distances, from 0 to 2
_PAIRS = 5_000
_SAME = 1e-5  # nearer than rounding tells apart: the same vector
_DEVIATIONS = 3  # what counts as chance
_FEWEST = 30  # records on either side, so that not a few of them decide
_MOST_KEYS = 40


@dataclass(frozen=True)
class Searched:
    """What searches of the whole index gave, where it was examined.

    Attributes:
        searches, found: records that were searched for by their own vector, and those that were found.
        recall: which part of the ten nearest the searches gave.
        duplicates: which part of all records repeats the very vector of another one.
        unreachable: which part of the index no search can come to.
    """

    searches: int
    found: int
    recall: float | None
    duplicates: float
    unreachable: float


@dataclass(frozen=True)
class Example:
    """A record as it may be shown: its text cut, its own metadata as words, cut likewise."""

    id: str
    text: str
    metadata: str


@dataclass(frozen=True)
class Shift:
    """How far two centres of vectors are apart, in parts of the vectors' spread.

    Attributes:
        moved: what was measured between two samples.
        by_chance: as far as two samples of one collection may be apart.
        beyond_chance: what is left; 0 where chance explains all of it.
    """

    moved: float
    by_chance: float
    beyond_chance: float


@dataclass(frozen=True)
class Statistics:
    """The numbers of one version. Distances are cosine distances, from 0 to 2, whatever the collection's own is.

    Attributes:
        collection, version, parent, generation, committed_at: which version, made from which one.
        model, distance, dimension: what its vectors are.
        count: its records; `sampled` of them were looked at, and all that follows is about these.
        broken: vectors with a component that is no number.
        zero: vectors of length 0.
        norms: the least, 1st percentile, median, 99th percentile and greatest length of the others.
        empty: records without text.
        same_text: records whose text another one of the sample has, too.
        duplicates: which part of the records repeats the very vector of another one: of the whole collection where
            it was examined, else of the sample, which knows fewer.
        near: records with another one of the sample, not the same, nearer than `near_distance`.
        text_chars: 10th percentile, median and 90th percentile of the texts' lengths.
        centroid: the mean vector, of unit vectors where the distance is cosine.
        spread: the root of the mean square distance from it.
        pairs, nearest: histograms of the distances of random pairs, and of each record to its nearest other one.
        metadata_keys: which part of the records has which key; the 40 most common ones.
        searched: of the whole index; None where it was not examined.
        newcomers: of the records that came with this version, so many were looked at; `newcomers_off` is how far their
            centre is off that of the others; None where there are too few of the ones or the others.
        examples: records that may be shown.
    """

    collection: str
    version: str
    parent: str | None
    generation: int
    committed_at: str
    model: str
    distance: str
    dimension: int
    count: int
    sampled: int
    broken: int
    zero: int
    norms: tuple[float, ...]
    empty: int
    same_text: int
    duplicates: float
    near: int
    near_distance: float
    text_chars: tuple[float, ...]
    centroid: tuple[float, ...]
    spread: float
    pairs: tuple[int, ...]
    nearest: tuple[int, ...]
    metadata_keys: dict[str, float]
    searched: Searched | None
    newcomers: int = 0
    newcomers_off: Shift | None = None
    examples: tuple[Example, ...] = ()
    format: int = FORMAT

    def share(self, records: int) -> float:
        """So many of the sampled records as a part of 1."""
        return records / self.sampled if self.sampled else 0.0

    def content(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)

    @classmethod
    def of_content(cls, raw: Mapping[str, Any]) -> Statistics:
        """The inverse of `content`, or of what earlier formats had for it; ValueError for anything else."""
        try:
            if raw["format"] not in range(1, FORMAT + 1):
                raise ValueError(f"its format is {raw['format']!r}; this version reads 1 to {FORMAT}")
            found = {field.name: raw[field.name] for field in fields(cls)}
            for name in ("norms", "text_chars", "centroid", "pairs", "nearest"):
                found[name] = tuple(found[name])
            if found["searched"] is not None:
                found["searched"] = Searched(**found["searched"])
            if found["newcomers_off"] is not None:
                found["newcomers_off"] = Shift(**found["newcomers_off"])
            found["examples"] = tuple(Example(**one) for one in found["examples"])
            return cls(**found)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"these are no statistics: {error!r}") from error


def measure(
    sample: RecordBatch,
    *,
    count: int,
    near_distance: float,
    searched: Searched | None,
    about: Mapping[str, Any],
    newcomers: RecordBatch | None = None,
    shown: int = 0,
    text_chars: int = 0,
) -> Statistics:
    """The numbers of a sample.

    Args:
        sample: some records, chosen at random.
        count: how many there are in all.
        near_distance: nearer than this, two records count as nearly the same.
        searched: what an examination of the whole index found.
        about: the fields of `Statistics` that say which version it is, and of what kind its vectors are.
        newcomers: some of the records that came with this version.
        shown: how many records may be shown.
        text_chars: where their texts are cut.
    """
    vectors = np.asarray(sample.embeddings, dtype=np.float64).reshape(len(sample), about["dimension"])
    sound = np.isfinite(vectors).all(axis=1)
    lengths = np.linalg.norm(vectors[sound], axis=1)
    used = vectors[sound][lengths > 0]
    units = used / np.linalg.norm(used, axis=1, keepdims=True)
    whole = _centre_of(sample, about)
    texts = Counter(text for text in sample.documents if text.strip())
    keys = Counter(key for values in sample.metadatas for key in values if not key.startswith(RESERVED_PREFIX))
    nearest = nearest_distances(units)
    return Statistics(
        **about,
        count=count,
        sampled=len(sample),
        broken=int((~sound).sum()),
        zero=int((lengths == 0).sum()),
        norms=_percentiles(lengths[lengths > 0], (0, 1, 50, 99, 100)),
        empty=sum(not text.strip() for text in sample.documents),
        same_text=sum(times for times in texts.values() if times > 1),
        duplicates=searched.duplicates if searched else repeated_share(sample.embeddings),
        near=int(((nearest > _SAME) & (nearest < near_distance)).sum()),
        near_distance=near_distance,
        text_chars=_percentiles(np.asarray([len(text) for text in sample.documents]), (10, 50, 90)),
        centroid=tuple(float(f"{x:.7g}") for x in whole.centroid),
        spread=whole.spread,
        pairs=_histogram(_pair_distances(units)),
        nearest=_histogram(nearest),
        metadata_keys={key: times / len(sample) for key, times in sorted(keys.most_common(_MOST_KEYS))},
        searched=searched,
        newcomers=len(newcomers) if newcomers else 0,
        newcomers_off=_off(newcomers, sample, about) if newcomers else None,
        examples=tuple(example_of(sample, row, text_chars) for row in range(min(shown, len(sample)))),
    )


@dataclass(frozen=True)
class _Centre:
    centroid: npt.NDArray[np.float64]
    spread: float
    records: int


def _centre_of(sample: RecordBatch, about: Mapping[str, Any]) -> _Centre:
    """Where the vectors lie that are sound and not 0, and how far around."""
    vectors = np.asarray(sample.embeddings, dtype=np.float64).reshape(len(sample), about["dimension"])
    vectors = vectors[np.isfinite(vectors).all(axis=1)]
    lengths = np.linalg.norm(vectors, axis=1)
    vectors, lengths = vectors[lengths > 0], lengths[lengths > 0]
    if about["distance"] == "cosine":
        vectors = vectors / lengths[:, None]
    if not len(vectors):
        return _Centre(np.zeros(about["dimension"]), 0.0, 0)
    centroid = vectors.mean(axis=0)
    spread = math.sqrt(float(np.mean(np.sum((vectors - centroid) ** 2, axis=1))))
    return _Centre(centroid, spread, len(vectors))


def _off(newcomers: RecordBatch, sample: RecordBatch, about: Mapping[str, Any]) -> Shift | None:
    """How far newcomers are off the others of the sample; None where a few decide on either side."""
    came_with = {metadata.get(DELTA_KEY) for metadata in newcomers.metadatas}
    rows = [row for row, metadata in enumerate(sample.metadatas) if metadata.get(DELTA_KEY) not in came_with]
    if min(len(newcomers), len(rows)) < _FEWEST:
        return None
    return _apart(_centre_of(newcomers, about), _centre_of(sample.take(rows), about))


def example_of(sample: RecordBatch, row: int, text_chars: int) -> Example:
    """One record as it may be shown; of reserved metadata nothing."""
    own = {key: value for key, value in sample.metadatas[row].items() if not key.startswith(RESERVED_PREFIX)}
    metadata = ", ".join(f"{key}={value}" for key, value in sorted(own.items()))
    return Example(sample.ids[row], cut(sample.documents[row], text_chars), cut(metadata, text_chars))


def cut(text: str, chars: int) -> str:
    """A text on one line, and no longer than this."""
    plain = " ".join(text.split())
    return plain if len(plain) <= chars else f"{plain[: max(chars - 1, 0)]}…"[:chars]


def repeated_share(vectors: npt.NDArray[np.floating]) -> float:
    """Which part of vectors stands in the set already; as `chroma.search_probe` counts it for the whole."""
    return 1 - len({row.tobytes() for row in np.ascontiguousarray(vectors)}) / len(vectors) if len(vectors) else 0.0


def nearest_distances(units: Matrix) -> npt.NDArray[np.float64]:
    """Each unit vector's cosine distance to the nearest one that is not the same; shape (n,); 2 where there is none."""
    found = np.full(len(units), 2.0)
    short = units.astype(np.float32)
    for start in range(0, len(units), 500):
        distances = 1 - short[start : start + 500] @ short.T
        distances[distances <= _SAME] = 2.0
        found[start : start + 500] = distances.min(axis=1)
    return found


def centroid_shift(now: Statistics, before: Statistics) -> Shift:
    """How far the centre moved; ValueError for vectors that cannot be compared.

    The mean of m records of a collection with the spread s is about s / sqrt(m) off the mean of all, in a direction of
    its own, so that squares add up. Three times that is chance even where all variance lies along one axis.
    """
    if (now.model, now.dimension, now.distance) != (before.model, before.dimension, before.distance):
        raise ValueError(f"{before.version} is of another model, dimension or distance")
    centres = (_Centre(np.asarray(one.centroid), one.spread, one.sampled) for one in (now, before))
    return _apart(*centres)


def _apart(one: _Centre, other: _Centre) -> Shift:
    spread = max(one.spread, other.spread)
    if not spread or not one.records or not other.records:
        return Shift(0.0, 0.0, 0.0)
    moved = float(np.linalg.norm(one.centroid - other.centroid)) / spread
    chance = _DEVIATIONS * math.sqrt(1 / one.records + 1 / other.records)
    return Shift(moved, chance, math.sqrt(max(0.0, moved**2 - chance**2)))


def _pair_distances(units: Matrix) -> npt.NDArray[np.float64]:
    if len(units) < 2:
        return np.empty(0)
    rng = np.random.default_rng(0)
    one = rng.integers(0, len(units), _PAIRS)
    other = (one + rng.integers(1, len(units), _PAIRS)) % len(units)
    return np.asarray(1 - np.einsum("ij,ij->i", units[one], units[other]))


def _histogram(distances: npt.NDArray[np.float64]) -> tuple[int, ...]:
    counts, _ = np.histogram(np.clip(distances, 0, 2), bins=BINS, range=(0.0, 2.0))
    return tuple(int(n) for n in counts)


def _percentiles(values: npt.NDArray[Any], at: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(float(x) for x in np.percentile(values, at)) if len(values) else ()
