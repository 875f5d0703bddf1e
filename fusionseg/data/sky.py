"""Where a LiDAR looked up and nothing came back: weak labels for sky in logs that have labels for points alone."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.prepare import CELL_STRIDE, View, grid_size
from fusionseg.geometry.projection import cells
from fusionseg.labels import IGNORE

# below this, facades beyond the LiDAR's range look like sky
LOWEST_DEG = 3.0
# around the topmost return of a column, for wires, leaves and what the beams miss
MARGIN_CELLS = 2
WINDOW_CELLS = 7
# so many open cells below the highest returns, and the rest of the column is sky too
OPEN_CELLS = 3
MIN_POINTS = 100


def open_sky(view: View) -> NDArray[np.bool_]:
    """(h, w) bool on the stride-4 grid: cells above the topmost return around, where the sweep could return more.

    The elevation of a ray is taken against the fitted ground, whose normal follows from the points' heights. A column
    is open if ``OPEN_CELLS`` between ``LOWEST_DEG`` and the highest returns of the view (99.5 %) are; then it is sky up
    to the image's edge. Nothing is marked where the view has no returns to compare with.
    """
    rows, columns = grid_size(view.camera.height, view.camera.width, CELL_STRIDE)
    nothing = np.zeros((rows, columns), dtype=bool)
    if len(view.index) < MIN_POINTS:
        return nothing
    sample = view.points_camera[:: max(1, len(view.index) // 2000)]
    heights = view.height_m[:: max(1, len(view.index) // 2000)]
    up = np.linalg.lstsq(np.column_stack([sample, np.ones(len(sample))]), heights, rcond=None)[0][:3]
    if not np.linalg.norm(up) > 0.5:
        return nothing
    up /= np.linalg.norm(up)
    returned = sample @ up / np.linalg.norm(sample, axis=1)
    highest = np.percentile(returned, 99.5)
    occupied = np.zeros((rows, columns), dtype=bool)
    occupied.reshape(-1)[cells(view.uv, view.camera.width, view.camera.height, CELL_STRIDE)] = True
    top = np.where(occupied.any(axis=0), occupied.argmax(axis=0), 0).astype(np.float32)
    top = cv2.erode(top[None], np.ones((1, WINDOW_CELLS), np.uint8))[0]
    above = np.arange(rows)[:, None] < top - MARGIN_CELLS
    elevation = _cell_rays(view, rows, columns) @ up
    above &= elevation > np.sin(np.radians(LOWEST_DEG))
    seen = above & (elevation < highest)
    # what stands so far below the LiDAR's upper edge does not reach above it either
    sky: NDArray[np.bool_] = above & (seen.sum(axis=0) >= OPEN_CELLS)
    return sky


def _cell_rays(view: View, rows: int, columns: int) -> NDArray[np.float64]:
    """(h, w, 3) unit rays through the cells' centres, camera frame; the lens distortion is left out."""
    v, u = np.mgrid[:rows, :columns] * CELL_STRIDE + (CELL_STRIDE - 1) / 2
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(view.camera.K).T
    unit: NDArray[np.float64] = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return unit


def sky_labels(view: View, sky: int) -> NDArray[np.uint8]:
    """(H, W) uint8: ``sky`` in the cells of ``open_sky``, 255 elsewhere."""
    marked = np.where(open_sky(view), np.uint8(sky), np.uint8(IGNORE))
    pixels = np.repeat(np.repeat(marked, CELL_STRIDE, axis=0), CELL_STRIDE, axis=1)
    return pixels[: view.camera.height, : view.camera.width]
