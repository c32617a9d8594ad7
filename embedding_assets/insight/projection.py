"""A map of vectors: two dimensions in which near ones stay near, in numpy alone and in about two seconds.

The principal axes give the outline; then, as in UMAP (McInnes, Healy and Melville 2018, arXiv:1802.03426), each point
is drawn to its nearest neighbours and pushed off others. Axes mean nothing, distances between far groups little.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float64]

_AXES = 50  # principal axes that the neighbours are looked for in; what lies beyond them is mostly noise
_SPARE, _ITERATIONS = 10, 4
_NEIGHBOURS = 12
_ROUNDS = 200
_PUSHED_OFF = 96  # points that all others are pushed off in one round, chosen anew in each
_PUSH = 0.3  # how strong that is; stronger spreads groups apart, weaker lets them collapse
# UMAP's curve 1 / (1 + a d^2b) for min_dist 0.1 and spread 1, as its own fit gives them.
_A, _B = 1.577, 0.895
_STEP, _LONGEST = 0.5, 2.0


def principal_axes(vectors: npt.NDArray[np.floating], axes: int) -> Matrix:
    """Coordinates along the axes of greatest variance, shape (n, at most `axes`), the greatest first.

    By subspace iteration from a random start (Halko, Martinsson and Tropp 2011, arXiv:0909.4061): of thousands of
    dimensions only a few axes are wanted.
    """
    centred = np.asarray(vectors, dtype=np.float32) - np.mean(vectors, axis=0, dtype=np.float64).astype(np.float32)
    wanted = min(axes, *centred.shape)
    start = np.random.default_rng(0).standard_normal((centred.shape[1], min(wanted + _SPARE, centred.shape[1])))
    basis = start.astype(np.float32)
    for _ in range(_ITERATIONS):
        basis = np.linalg.qr(centred.T @ (centred @ np.linalg.qr(basis)[0]))[0]
    projected = (centred @ basis).astype(np.float64)
    values, turn = np.linalg.eigh(projected.T @ projected)
    coordinates = projected @ turn[:, np.argsort(values)[::-1][:wanted]]
    # The sign of an axis is arbitrary: fixed by its longest coordinate, so that equal data gives equal maps.
    signs = np.sign(np.take_along_axis(coordinates, np.abs(coordinates).argmax(axis=0)[None, :], axis=0))
    return np.asarray(coordinates * np.where(signs == 0, 1, signs))


def nearest(points: Matrix, count: int) -> npt.NDArray[np.intp]:
    """The `count` nearest other points of each, by Euclidean distance, in no order; shape (n, count)."""
    squares = np.einsum("ij,ij->i", points, points)
    distances = squares[:, None] + squares[None, :] - 2 * points @ points.T
    np.fill_diagonal(distances, np.inf)
    found: npt.NDArray[np.intp] = np.argpartition(distances, count - 1, axis=1)[:, :count]
    return found


def project(vectors: npt.NDArray[np.floating], seed: int = 0) -> Matrix:
    """A place in the plane for each vector; equal vectors get the same.

    Args:
        vectors: shape (n, D), finite; meant for some thousands.
        seed: equal seeds give equal maps of equal vectors.

    Returns:
        Shape (n, 2), centred, the longer side about from -1 to 1.
    """
    if not len(vectors):
        return np.zeros((0, 2))
    # By their bytes: to sort thousands of long rows takes seconds.
    known: dict[bytes, int] = {}
    rows = np.ascontiguousarray(vectors, dtype=np.float32) + np.float32(0)  # -0 becomes 0
    which = np.asarray([known.setdefault(row.tobytes(), len(known)) for row in rows])
    distinct = rows[np.unique(which, return_index=True)[1]]
    points = principal_axes(distinct, _AXES)
    if len(distinct) <= 3 or points.shape[1] < 2:
        places = np.zeros((len(distinct), 2))
        places[:, : min(2, points.shape[1])] = points[:, :2]
    else:
        places = _relaxed(points, np.random.default_rng(seed))
    places -= (places.min(axis=0) + places.max(axis=0)) / 2
    return np.asarray((places / max(np.abs(places).max(), 1e-12))[which])


def _relaxed(points: Matrix, rng: np.random.Generator) -> Matrix:
    count = len(points)
    near = nearest(points, min(_NEIGHBOURS, count - 1))
    one = np.repeat(np.arange(count), near.shape[1])
    other = near.ravel()
    places = points[:, :2] / max(np.abs(points[:, :2]).max(), 1e-12) * 10
    places = places + rng.normal(scale=1e-3, size=places.shape)
    pushed = min(_PUSHED_OFF, count)
    for turn in range(_ROUNDS):
        step = _STEP * (1 - turn / _ROUNDS)
        gap = places[one] - places[other]
        square = np.einsum("ij,ij->i", gap, gap) + 1e-9
        pull = 2 * _A * _B * square ** (_B - 1) / (1 + _A * square**_B)
        drawn = gap * pull[:, None]
        move = _added_up(other, drawn, count) - _added_up(one, drawn, count)
        chosen = rng.choice(count, pushed, replace=False)
        away = places[:, None, :] - places[chosen][None, :, :]
        square = np.einsum("ijk,ijk->ij", away, away)
        push = 2 * _B / ((1e-3 + square) * (1 + _A * square**_B)) * (count / pushed) * _PUSH
        move += np.einsum("ijk,ij->ik", away, push)
        length = np.linalg.norm(move, axis=1, keepdims=True)
        places = places + step * move * np.minimum(1, _LONGEST / np.maximum(length, 1e-12))
    return np.asarray(places)


def _added_up(rows: npt.NDArray[np.intp], values: Matrix, count: int) -> Matrix:
    return np.stack([np.bincount(rows, values[:, axis], minlength=count) for axis in (0, 1)], axis=1)
