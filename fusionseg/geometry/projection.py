"""Points into the image plane: pixels and depth with the map back to the sweep, rasters, occlusion, labels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import BLOCK, rotate
from fusionseg.labels import IGNORE

MIN_DEPTH_M = 0.5


@dataclass(frozen=True, eq=False)
class Projection:
    """The M points of a sweep that fall inside an image.

    Attributes:
        index: (M,) int32 row of each point in the sweep, ascending.
        points_camera: (M, 3) float32 in the camera frame, metres.
        uv: (M, 2) float32 pixels; a point is inside if -0.5 <= u < width - 0.5 (likewise v).
    """

    index: NDArray[np.int32]
    points_camera: NDArray[np.float32]
    uv: NDArray[np.float32]

    @property
    def depth(self) -> NDArray[np.float32]:
        """(M,) z in the camera frame, metres."""
        return self.points_camera[:, 2]


def project(
    points_lidar: NDArray[np.float32],
    camera: Camera,
    camera_T_lidar: NDArray[np.float64],
    min_depth_m: float = MIN_DEPTH_M,
) -> Projection:
    """The points (N, 3 or more) that are finite, deeper than ``min_depth_m`` and inside the image.

    Points at 90 degrees and more from the optical axis of a fisheye have no positive depth and are left out, and so are
    points beyond the angle at which a camera's distortion folds back. Computed in float32 (within 0.01 px).
    """
    # Overflow and NaN fall out of the comparisons below, all of which are False for NaN.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        index = _candidates(points_lidar, camera, camera_T_lidar, min_depth_m)
        matrix = camera_T_lidar.astype(np.float32)
        points_camera = rotate(matrix[:3, :3], points_lidar.take(index, axis=0)[:, :3])
        points_camera += matrix[:3, 3]
        uv = camera.project(points_camera)
        inside = in_view(uv, camera.width, camera.height) & (points_camera[:, 2] > min_depth_m)
    if not inside.all():
        rows = np.flatnonzero(inside)
        index, points_camera, uv = index[rows], points_camera.take(rows, axis=0), uv.take(rows, axis=0)
    return Projection(index.astype(np.int32), points_camera, uv)


def _candidates(
    points_lidar: NDArray[np.float32], camera: Camera, camera_T_lidar: NDArray[np.float64], min_depth_m: float
) -> NDArray[np.intp]:
    """Rows that may lie in view: few besides those that do, found with one product and a few comparisons."""
    rows = camera_T_lidar[:3].copy()
    pinhole = camera.model == "pinhole" and not camera.distortion.any()
    if pinhole:
        rows = camera.K @ rows  # (u * z, v * z, z): the image borders become planes, without a division
    turn, shift = rows[:, :3].astype(np.float32), rows[:, 3:].astype(np.float32)
    limit = camera.distortion_limit()
    found = [np.zeros(0, dtype=np.intp)]
    for start in range(0, len(points_lidar), BLOCK):
        # Coordinates by rows, (3, block): every comparison then runs over contiguous memory.
        a, b, z = turn @ points_lidar[start : start + BLOCK, :3].T + shift
        ahead = z > min_depth_m
        if pinhole:
            # Half a pixel more than the image, so that rounding here cannot lose a point at the border.
            ahead &= (a > -z) & (a < camera.width * z) & (b > -z) & (b < camera.height * z)
        elif np.isfinite(limit):
            ahead &= a * a + b * b < np.float32(limit * limit) * z * z
        found.append(np.flatnonzero(ahead) + start)
    return np.concatenate(found)


def in_view(uv: NDArray[np.floating], width: int, height: int) -> NDArray[np.bool_]:
    """(M,) bool: the pixel (M, 2), rounded, lies in an image of this size."""
    inside: NDArray[np.bool_] = (
        (uv[:, 0] >= -0.5) & (uv[:, 0] < width - 0.5) & (uv[:, 1] >= -0.5) & (uv[:, 1] < height - 0.5)
    )
    return inside


def cells(uv: NDArray[np.float32], width: int, height: int, stride: int) -> NDArray[np.int32]:
    """(M,) flat cell number of each pixel on the grid of ``ceil(height/stride)`` x ``ceil(width/stride)`` cells.

    Pixels must be in view. Cell (i, j) covers pixels [j*stride - 0.5, (j+1)*stride - 0.5).
    """
    columns = -(-width // stride)
    rows = -(-height // stride)
    column = np.minimum(((uv[:, 0] + 0.5) * (1.0 / stride)).astype(np.int32), columns - 1)
    row = np.minimum(((uv[:, 1] + 0.5) * (1.0 / stride)).astype(np.int32), rows - 1)
    return row * np.int32(columns) + column


def nearest_per_cell(cell: NDArray[np.int32], depth: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """(count,) int32: the nearest point of each cell (the first of equals), -1 where a cell is empty."""
    depth = depth.astype(np.float32, copy=False)  # or the comparison below would find no winner
    surface = np.full(count, np.inf, dtype=np.float32)
    np.minimum.at(surface, cell, depth)
    # Written from the last to the first: of several points at the same least depth the first stays.
    winners = np.flatnonzero(depth == surface[cell])[::-1].astype(np.int32)
    nearest = np.full(count, -1, dtype=np.int32)
    nearest[cell[winners]] = winners
    return nearest


def labels_to_cells(
    labels: NDArray[np.uint8], projection: Projection, width: int, height: int, stride: int = 1
) -> NDArray[np.uint8]:
    """(ceil(height/stride), ceil(width/stride)) uint8: the label of each cell's nearest point, 255 where it has none.

    ``labels`` (N,) are those of the whole sweep, ``width`` and ``height`` those of the image projected into.
    """
    rows, columns = -(-height // stride), -(-width // stride)
    nearest = nearest_per_cell(cells(projection.uv, width, height, stride), projection.depth, rows * columns)
    raster = np.full(rows * columns, IGNORE, dtype=np.uint8)
    filled = np.flatnonzero(nearest >= 0)
    raster[filled] = labels[projection.index[nearest[filled]]]
    return raster.reshape(rows, columns)


def labels_from_cells(
    raster: NDArray[np.uint8], projection: Projection, width: int, height: int, count: int, stride: int = 1
) -> NDArray[np.uint8]:
    """(count,) uint8: for each point of the sweep the label of the cell (or pixel, stride 1) it lies on, 255 outside.

    Raises:
        ValueError: the raster is not that of an image of this size at this stride.
    """
    expected = (-(-height // stride), -(-width // stride))
    if raster.shape != expected:
        raise ValueError(f"raster has shape {raster.shape}; {width}x{height} pixels at stride {stride} have {expected}")
    labels = np.full(count, IGNORE, dtype=np.uint8)
    labels[projection.index] = raster.reshape(-1)[cells(projection.uv, width, height, stride)]
    return labels


def visible(
    projection_uv: NDArray[np.float32],
    depth: NDArray[np.float32],
    width: int,
    height: int,
    window_px: int | None = None,
    margin: float = 0.05,
    margin_m: float = 0.3,
) -> NDArray[np.bool_]:
    """(M,) bool: False for a point enclosed by a surface that is nearer by more than the margin.

    Enclosed means that nearer points lie within the window both above and below the point, or both to its left and to
    its right, no lower than the point itself. Nearer points on one side alone say nothing: below ground seen at a
    grazing angle there is always nearer ground, and beside every edge there is what stands before it. (The enclosure
    test of Pintus et al., VAST 2011, cut down to four directions and a raster.)

    Args:
        projection_uv: (M, 2) pixels, in view.
        depth: (M,) metres.
        width: of the image in pixels.
        height: of the image in pixels.
        window_px: how far up and down to look; half as far to the sides. An 80th of the image width by default,
            because the spacing of returns grows with the image.
        margin: how much nearer a surface must be to hide a point, as a share of its depth.
        margin_m: the same in metres, added.
    """
    window_px = max(1, round(width / 80)) if window_px is None else window_px
    cell_height = max(1, round(window_px / 8))
    cell_width = 2 * cell_height
    rows, columns = -(-height // cell_height), -(-width // cell_width)
    column = np.minimum(((projection_uv[:, 0] + 0.5) * (1.0 / cell_width)).astype(np.int32), columns - 1)
    row = np.minimum(((projection_uv[:, 1] + 0.5) * (1.0 / cell_height)).astype(np.int32), rows - 1)
    cell = row * np.int32(columns) + column
    surface = np.full(rows * columns, np.inf, dtype=np.float32)
    np.minimum.at(surface, cell, depth)
    reach = max(1, round(window_px / cell_height)), max(1, round(window_px / 2 / cell_width))
    enclosing = _enclosing_depth(surface.reshape(rows, columns), *reach)
    kept: NDArray[np.bool_] = enclosing.reshape(-1)[cell] >= (depth - margin_m) * (1 / (1 + margin))
    return kept


def _enclosing_depth(surface: NDArray[np.float32], reach_rows: int, reach_columns: int) -> NDArray[np.float32]:
    """Per cell the depth that is reached both above and below it, or both left and right of it, whichever is less."""

    def least(above: int, below: int, left: int, right: int) -> NDArray[np.float32]:
        kernel = np.ones((above + below + 1, left + right + 1), np.uint8)
        return np.asarray(cv2.erode(surface, kernel, anchor=(left, above)))  # outside counts as infinitely far

    above = np.full_like(surface, np.inf)
    above[1:] = least(reach_rows - 1, 0, 1, 1)[:-1]  # without the own row, where ground may be nearer
    below = least(0, reach_rows, 1, 1)
    left, right = least(2, 0, reach_columns, 0), least(2, 0, 0, reach_columns)
    return np.minimum(np.maximum(above, below), np.maximum(left, right))
