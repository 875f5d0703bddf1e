"""Points into the image plane: pixels and depth with the map back to the sweep, rasters, occlusion, labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.camera import Camera

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
        points_camera = points_lidar.take(index, axis=0)[:, :3] @ matrix[:3, :3].T
        points_camera += matrix[:3, 3]
        uv = camera.project(points_camera)
        inside = in_view(uv, camera.width, camera.height) & (points_camera[:, 2] > min_depth_m)
    if not inside.all():
        index, points_camera, uv = index[inside], points_camera[inside], uv[inside]
    return Projection(index.astype(np.int32), points_camera, uv)


def _candidates(
    points_lidar: NDArray[np.float32], camera: Camera, camera_T_lidar: NDArray[np.float64], min_depth_m: float
) -> NDArray[np.intp]:
    """Rows that may lie in view: few besides those that do, found with one product and a few comparisons."""
    rows = camera_T_lidar[:3].copy()
    pinhole = camera.model == "pinhole" and not camera.distortion.any()
    if pinhole:
        rows = camera.K @ rows  # (u * z, v * z, z): the image borders become planes, without a division
    # Coordinates by rows, (3, N): every comparison then runs over contiguous memory.
    a, b, z = rows[:, :3].astype(np.float32) @ points_lidar[:, :3].T + rows[:, 3:].astype(np.float32)
    ahead = z > min_depth_m
    if pinhole:
        # Half a pixel more than the image, so that rounding here cannot lose a point at the border.
        ahead &= (a > -z) & (a < camera.width * z) & (b > -z) & (b < camera.height * z)
    elif np.isfinite(limit := camera.distortion_limit()):
        ahead &= a * a + b * b < np.float32(limit * limit) * z * z
    return np.flatnonzero(ahead)


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
    surface = np.full(count, np.inf, dtype=np.float32)
    np.minimum.at(surface, cell, depth)
    # Written from the last to the first: of several points at the same least depth the first stays.
    winners = np.flatnonzero(depth == surface[cell])[::-1].astype(np.int32)
    nearest = np.full(count, -1, dtype=np.int32)
    nearest[cell[winners]] = winners
    return nearest


def visible(
    projection_uv: NDArray[np.float32],
    depth: NDArray[np.float32],
    width: int,
    height: int,
    window_px: int = 8,
    margin: float = 0.05,
    margin_m: float = 0.3,
) -> NDArray[np.bool_]:
    """(M,) bool: False for a point behind a nearer surface by more than the margin within a small window.

    The nearest depth per 4-px cell is taken as the surface, widened by a minimum filter over ``window_px``.
    """
    import cv2

    stride = 4
    columns, rows = -(-width // stride), -(-height // stride)
    cell = cells(projection_uv, width, height, stride)
    nearest = nearest_per_cell(cell, depth, rows * columns)
    surface = np.where(nearest >= 0, depth[nearest] if len(depth) else np.inf, np.inf).astype(np.float32)
    size = max(1, round(window_px / stride)) | 1
    surface = cv2.erode(surface.reshape(rows, columns), np.ones((size, size), np.uint8)).reshape(-1)
    return depth <= surface[cell] * (1 + margin) + margin_m
