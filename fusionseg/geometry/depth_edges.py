"""Where a LiDAR sweep has depth edges: the points at the sides and at the upper rims of what stands on the ground."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.ground import fit_ground, height_above

_CELL_DEG = 0.25
_HIGHEST_DEG, _LOWEST_DEG = 30.0, -30.0
_NEAREST_M, _FARTHEST_M = 2.0, 80.0
_STEP_M, _STEP_SHARE = 0.5, 0.05
_ABOVE_GROUND_M = 0.4
_SIDE_REACH = 2
_UP_REACH = 5
_ALIKE, _ALIKE_REACH = 1, 6
_DENSE_BEAMS = 2
"""Rows: beams further apart than this do not say where a rim is."""
_CROWD_CELLS, _MOST_SIDES, _MOST_RIMS = 13, 4, 2

Grid = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DepthEdges:
    """Rows of a sweep that lie on depth edges.

    Attributes:
        sides: (M,) rows with a surface further away, or nothing, to the left or to the right.
        rims: (K,) rows with a surface further away, or the sky, right above.
    """

    sides: NDArray[np.intp]
    rims: NDArray[np.intp]


def depth_edges(points_lidar: NDArray[np.float32]) -> DepthEdges:
    """Points of one sweep (N, 3 or more) of one LiDAR at depth discontinuities, nearer side only.

    After Levinson and Thrun, "Automatic Online Calibration of Cameras and Lasers" (RSS 2013): a point counts if its
    neighbour is further away by more than 0.5 m and 5 %. Neighbours are sought on a raster of 0.25 degrees, so that no
    order of beams is needed, and upwards too, as a side alone says nothing of pitch. Ground is left out (its rings look
    like edges), and so is what crowds (fences, hedges): there a wrong calibration meets the next edge.
    """
    xyz = points_lidar[:, :3]
    with np.errstate(invalid="ignore", over="ignore"):
        range_m = np.linalg.norm(xyz, axis=1).astype(np.float64)
        elevation_deg = np.degrees(np.arcsin(xyz[:, 2] / np.maximum(range_m, 1e-6)))
    near = (range_m > _NEAREST_M) & (range_m < _FARTHEST_M)  # False for NaN
    rows = np.flatnonzero(near & (elevation_deg > _LOWEST_DEG) & (elevation_deg < _HIGHEST_DEG))
    if not len(rows):
        return DepthEdges(rows, rows)
    range_m, elevation_deg = range_m[rows], elevation_deg[rows]
    surface, owner = _raster(xyz[rows], range_m, elevation_deg)
    height = np.full(surface.shape, -np.inf)
    filled = owner >= 0
    height[filled] = height_above(fit_ground(points_lidar), xyz[rows])[owner[filled]]
    standing = filled & (height > _ABOVE_GROUND_M)
    limit = np.where(filled, (1 + _STEP_SHARE) * surface + _STEP_M, np.inf)
    # Beams are no rows of the raster: where one passes into the next row the surface goes on there.
    around = np.minimum(surface, np.minimum(_shift(surface, 0, 1, np.inf), _shift(surface, 0, -1, np.inf)))
    sides = standing & (_ends(around, limit, -1) | _ends(around, limit, 1))
    top_row = (_HIGHEST_DEG - float(np.quantile(elevation_deg, 0.999))) / _CELL_DEG
    rims = standing & _rims(surface, filled, limit, top_row)
    sides &= _crowd(sides, (1, _CROWD_CELLS)) <= _MOST_SIDES
    rims &= _crowd(rims, (_CROWD_CELLS, 1)) <= _MOST_RIMS
    sides, rims = (_of_surfaces(surface, limit, edges) for edges in (sides, rims))
    return DepthEdges(rows[owner[sides]], rows[owner[rims]])


def _raster(xyz: NDArray[np.float32], range_m: Grid, elevation_deg: Grid) -> tuple[Grid, NDArray[np.int64]]:
    """The nearest range of each cell (infinite where empty) and the point it belongs to (-1); first row on top."""
    columns = round(360 / _CELL_DEG)
    shape = (round((_HIGHEST_DEG - _LOWEST_DEG) / _CELL_DEG), columns)
    azimuth_deg = np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0]))
    column = ((180.0 - azimuth_deg) / _CELL_DEG).astype(np.int64) % columns
    row = np.minimum(((_HIGHEST_DEG - elevation_deg) / _CELL_DEG).astype(np.int64), shape[0] - 1)
    cell = row * columns + column
    surface = np.full(shape[0] * columns, np.inf)
    np.minimum.at(surface, cell, range_m)
    owner = np.full(shape[0] * columns, -1, dtype=np.int64)
    winners = np.flatnonzero(range_m == surface[cell])
    owner[cell[winners]] = winners
    return surface.reshape(shape), owner.reshape(shape)


def _next(surface: Grid, axis: int, towards: int, reach: int = _SIDE_REACH) -> Grid:
    """Range of the next filled cell along an axis, infinite where none is within reach."""
    found = np.full_like(surface, np.inf)
    for distance in range(1, reach + 1):
        shifted = _shift(surface, axis, towards * distance, np.inf)
        found = np.where(np.isfinite(found), found, shifted)
    return found


def _shift(grid: NDArray[np.generic], axis: int, by: int, outside: float) -> Grid:
    """``grid[i + by]`` at i; columns close the circle, rows do not."""
    moved = np.roll(grid, -by, axis).astype(np.float64)
    if axis == 0:
        moved[(slice(-by, None) if by > 0 else slice(0, -by))] = outside
    return moved


def _ends(around: Grid, limit: Grid, towards: int) -> Mask:
    """Cells beside which, to the left (-1) or right (1), all is further away; where its view ends is no edge."""
    beside = np.broadcast_to(around.min(axis=0), around.shape)
    ends: Mask = (_next(around, 1, towards) > limit) & np.isfinite(_next(beside, 1, towards))
    return ends


def _of_surfaces(surface: Grid, limit: Grid, edges: Mask) -> Mask:
    """The edges that have other returns as far away around them; drops and dust have none."""
    row, column = np.nonzero(edges)
    alike = np.zeros(len(row), dtype=np.int64)
    step = limit[row, column] - surface[row, column]
    for down in range(-_ALIKE_REACH, _ALIKE_REACH + 1):
        for right in (-1, 0, 1):
            beside = surface[np.clip(row + down, 0, len(surface) - 1), (column + right) % surface.shape[1]]
            alike += np.abs(beside - surface[row, column]) < step
    kept = np.zeros_like(edges)
    enough = alike > _ALIKE  # itself is one
    kept[row[enough], column[enough]] = True
    return kept


def _rims(surface: Grid, filled: Mask, limit: Grid, top_row: float) -> Mask:
    """Cells whose next return above is further away, or that end against the sky where beams go on above."""
    above = _next(surface, 0, -1, _UP_REACH)
    free = filled & ~np.isfinite(above)
    beam_above = _crowd_rows(filled, range(-_DENSE_BEAMS, 0))
    beam_below = _crowd_rows(filled, range(1, _DENSE_BEAMS + 1))
    below_top = np.arange(len(surface))[:, None] - _UP_REACH > top_row
    behind = np.isfinite(above) & (above > limit) & beam_above
    sky = free & beam_below & below_top
    # A rim goes on to both sides; a lost return does not.
    likely = behind | free
    near = likely | (_shift(likely, 0, 1, 0) > 0) | (_shift(likely, 0, -1, 0) > 0)
    goes_on = (_shift(near, 1, 1, 0) > 0) & (_shift(near, 1, -1, 0) > 0)
    rims: Mask = (behind | sky) & goes_on
    return rims


def _crowd_rows(filled: Mask, offsets: range) -> Mask:
    """Whether any of the cells at these row offsets is filled."""
    found = np.zeros_like(filled)
    for offset in offsets:
        found |= _shift(filled, 0, offset, 0) > 0
    return found


def _crowd(edges: Mask, window: tuple[int, int]) -> Grid:
    """How many edges lie in the window (rows, columns) around each cell."""
    return np.asarray(
        cv2.boxFilter(
            edges.astype(np.float64), -1, window[::-1], normalize=False, borderType=cv2.BORDER_CONSTANT
        ).round()
    )
