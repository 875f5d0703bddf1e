"""The ground as a plane, fitted to one sweep, and the height of points above it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALLBACK_HEIGHT_M = 1.8
MIN_SUPPORT = 40

_SUBSAMPLE = 20_000
_NEAREST_M, _FARTHEST_M = 2.5, 30.0
_HIGHEST_M, _LOWEST_M = 1.0, -6.0
_CELL_M = 1.0
_BIN_M = 0.2
# two bins below the deepest plane: the offset, the origin's height over the ground, is between -1 and 5.4 m
_DEEPEST_M = -5.8
_BINS = round((_HIGHEST_M - _DEEPEST_M) / _BIN_M) + 2
_STEEPEST = math.tan(math.radians(20.0))
_TOGETHER = 1000
_REFINE_M = (0.4, 0.2, 0.12)


@dataclass(frozen=True, eq=False)
class Ground:
    """The plane ``normal . x + offset_m = 0`` in the LiDAR frame.

    Attributes:
        normal: (3,) float64, unit length, pointing up.
        offset_m: height of the LiDAR frame's origin above the plane, metres.
        support: how many of the (subsampled) returns lie on it; 0 means that this is the fallback, not a fit.
    """

    normal: NDArray[np.float64]
    offset_m: float
    support: int = 0


def fit_ground(points_lidar: NDArray[np.float32]) -> Ground:
    """The ground plane under a sweep (N, 3 or more) in the LiDAR frame (x forward, y left, z up, metres).

    The lowest returns of 1 m cells vote for tilt (up to 12 degrees) and offset; the winner, which may have few cells
    below it, is refined by least squares on the returns near it (the iteration of Zermas et al., ICRA 2017). There is
    no random choice: the same points give the same plane. Returns that are not finite, nearer than 2.5 m (the own car)
    or farther than 30 m take no part. With too few returns near any plane (no points, a blocked sensor) the answer is a
    level plane 1.8 m below the origin with ``support`` 0.
    """
    near = _candidates(points_lidar)
    low = _lowest_per_cell(near)
    fallback = Ground(np.array([0.0, 0.0, 1.0]), FALLBACK_HEIGHT_M)
    if low.shape[1] < MIN_SUPPORT:
        return fallback
    plane = _vote(low)
    near = np.vstack([near, np.ones(near.shape[1])])
    support = 0
    for threshold_m in _REFINE_M:
        chosen = near.take(np.flatnonzero(np.abs(plane @ near) < threshold_m), axis=1)
        support = chosen.shape[1]
        if support < MIN_SUPPORT:
            return fallback
        slopes = _least_squares(chosen)
        if slopes is None:
            return fallback
        a, b, c = slopes
        plane = np.array([-a, -b, 1.0, -c]) / math.sqrt(1 + a * a + b * b)
    return Ground(plane[:3], float(plane[3]), support)


def height_above(ground: Ground, points_lidar: NDArray[np.float32]) -> NDArray[np.float32]:
    """Height (N,) float32 in metres of points (N, 3 or more) above the ground; NaN where a coordinate is NaN."""
    normal = ground.normal.astype(np.float32)
    height: NDArray[np.float32] = points_lidar[:, :3] @ normal + np.float32(ground.offset_m)
    return height


def _tilts() -> NDArray[np.float32]:
    """(81, 3) unit normals, pitch and roll up to 12 degrees, over the size of a bin: products with them count bins."""
    slopes = np.tan(np.deg2rad(np.arange(-12.0, 12.1, 3.0)))
    normals = np.stack([*(grid.ravel() for grid in np.meshgrid(slopes, slopes, indexing="ij")), np.ones(81)], axis=1)
    unit: NDArray[np.float64] = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return (unit / _BIN_M).astype(np.float32)


_TILTS = _tilts()
_FIRST_BINS = _BINS * np.arange(len(_TILTS), dtype=np.float32)[:, None]


def _candidates(points_lidar: NDArray[np.float32]) -> NDArray[np.float64]:
    """At most ``_SUBSAMPLE`` or so points (3, M) in the ring around the car where ground is worth looking for."""
    # An odd step, so that files interleaved by laser (32, 64) do not lose every other laser.
    step = -(-len(points_lidar) // _SUBSAMPLE) | 1
    xyz = points_lidar[::step, :3].T.astype(np.float64, order="C")  # coordinates by rows: contiguous memory
    x, y, z = xyz
    range2 = x * x + y * y
    # NaN compares False and infinity fails an upper bound, so this drops both.
    keep = (range2 > _NEAREST_M**2) & (range2 < _FARTHEST_M**2) & (z < _HIGHEST_M) & (z > _LOWEST_M)
    return xyz.take(np.flatnonzero(keep), axis=1)


def _lowest_per_cell(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest point of each 1 m cell: every cell votes once, however many returns the near ones hold."""
    size = int(2 * _FARTHEST_M / _CELL_M) + 1
    i, j = ((points[:2] + _FARTHEST_M) * (1 / _CELL_M)).astype(np.int32)
    cell = i * size + j
    z = points[2]
    floor = np.full(size * size, np.inf)
    np.minimum.at(floor, cell, z)
    winners = np.flatnonzero(z == floor[cell])
    lowest = np.full(size * size, -1, dtype=np.int64)
    lowest[cell[winners]] = winners
    return points.take(lowest[lowest >= 0], axis=1)


def _vote(low: NDArray[np.float64]) -> NDArray[np.float64]:
    """The plane (unit normal, offset) on which most cells lie, minus those that lie clearly below."""
    places = low.astype(np.float32)
    # some at a time, so that the product stays with one thread (see ``rotate``)
    parts = [_TILTS @ places[:, start : start + _TOGETHER] for start in range(0, places.shape[1], _TOGETHER)]
    heights = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    heights -= np.float32(_DEEPEST_M / _BIN_M)
    np.clip(heights, 0, _BINS - 1, out=heights)  # the first bin holds all below it too, the last all above
    heights += _FIRST_BINS
    votes = np.bincount(heights.astype(np.int64).ravel(), minlength=_BINS * len(_TILTS)).reshape(-1, _BINS)
    pair = votes[:, :-1] + votes[:, 1:]  # two neighbouring bins, so that a plane on a bin's edge is not split
    below = np.cumsum(votes, axis=1) - votes
    # a margin of one bin between the plane and 'below'; the uppermost bin is no place for a plane
    score = pair[:, 1:-1] - below[:, :-3]
    tilt, first = np.unravel_index(int(np.argmax(score)), score.shape)
    return np.append(_BIN_M * _TILTS[tilt].astype(np.float64), -(_DEEPEST_M + _BIN_M * (float(first) + 2)))


def _least_squares(points: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """(a, b, c) of z = a x + b y + c, or None where the points leave a direction open or the plane is too steep.

    ``points`` (4, M) have a row of ones last, so that one product holds every sum.
    """
    (sxx, sxy, sxz, sx), (_, syy, syz, sy), (_, _, _, sz), (_, _, _, count) = (points @ points.T).tolist()
    x, y, z = sx / count, sy / count, sz / count
    xx, xy, yy, xz, yz = sxx - x * sx, sxy - x * sy, syy - y * sy, sxz - x * sz, syz - y * sz
    det = xx * yy - xy * xy
    if det < 1e-3 * (xx + yy) ** 2:
        return None
    a = (yy * xz - xy * yz) / det
    b = (xx * yz - xy * xz) / det
    if a * a + b * b > _STEEPEST**2:
        return None
    return a, b, z - a * x - b * y
