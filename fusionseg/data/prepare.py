"""From a Sample to what the network sees: resize, project, test occlusion, rasterise, point features (NumPy only)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.ground import Ground, fit_ground, height_above
from fusionseg.geometry.projection import cells, nearest_per_cell, project, visible
from fusionseg.labels import IGNORE
from fusionseg.sample import Sample

# raised with every change of what ``prepare`` makes of a sample: views prepared by older code are then made anew
PREPARE_VERSION = 2
MAX_TIME_OFFSET_S = 0.05
# of the cells that points look at and that carry dense labels: the stride of the network's logits
CELL_STRIDE = 4
# beyond it returns are junk, whose squares overflow float32; one such number would spoil the whole view
FARTHEST_M = 1000.0
RASTER_CHANNELS = ("valid", "log_range", "direction_x", "direction_y", "height", "intensity", "log_count", "log_spread")
POINT_FEATURES = ("log_range", "height", "intensity", "log_depth_ratio", "cell_u", "cell_v")


@dataclass(frozen=True, eq=False)
class Teaching:
    """What a teacher says of the image plane of a view, on grids of its own that cover the view as it was prepared.

    Attributes:
        pixels: (K, h, w) float16 logits.
        feature: (C, h', w') float16, or None.
        placed: (2, 3) where the corners of those grids are: (u, v, 1) in [0, 1] to pixels of the view as it is now.
    """

    pixels: NDArray[np.float16]
    feature: NDArray[np.float16] | None
    placed: NDArray[np.float64]

    def moved(self, affine: NDArray[np.float64]) -> "Teaching":
        """The same after the view's pixels have moved by ``affine`` (2, 3)."""
        shift = np.array([[0.0, 0.0, 1.0]]) * affine[:, 2:]
        return replace(self, placed=affine[:, :2] @ self.placed + shift)


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """A sample at the input size, projected. All point arrays hold the M points inside the image.

    Attributes:
        camera: intrinsics of the resized image.
        image: (H, W, 3) uint8 RGB, or None.
        index: (M,) int32 rows of the points in the sweep.
        points_camera: (M, 3) float32, camera frame, metres.
        uv: (M, 2) float32 pixels of the resized image.
        height_m: (M,) float32 above the fitted ground plane.
        intensity: (M,) float32 in [0, 1].
        visible: (M,) bool, passes the occlusion test; None where it was not made, as labelling needs it not.
        supervised: (M,) bool, visible and measured at most 50 ms from the image (pixels may learn from it); or None.
        labels: (M,) uint8, or None.
        pixel_labels: (H, W) uint8, or None.
        measured: (M,) bool, the points that are input, where the others are places to label; None where all are.
        lidar_present: False where the network must do without LiDAR; the points then are places to label, no input.
        teaching: what a teacher says of the pixels, or None.
        teacher_points: (M, K) float16 logits of that teacher, NaN where it does not know; or None.
    """

    log: str
    frame: int
    camera_name: str
    camera: Camera
    image: NDArray[np.uint8] | None
    index: NDArray[np.int32]
    points_camera: NDArray[np.float32]
    uv: NDArray[np.float32]
    height_m: NDArray[np.float32]
    intensity: NDArray[np.float32]
    visible: NDArray[np.bool_] | None = None
    supervised: NDArray[np.bool_] | None = None
    measured: NDArray[np.bool_] | None = None
    labels: NDArray[np.uint8] | None = None
    pixel_labels: NDArray[np.uint8] | None = None
    lidar_present: bool = True
    teaching: Teaching | None = None
    teacher_points: NDArray[np.float16] | None = None


@dataclass(frozen=True, eq=False)
class Inputs:
    """The LiDAR inputs of one view.

    Attributes:
        raster: (C, h, w) float32, one channel per ``RASTER_CHANNELS``, 0 where ``valid`` is 0.
        points: (M, F) float32, one column per ``POINT_FEATURES``.
        cell: (M,) int32 flat cell of each point on the grid of the logits (``CELL_STRIDE``).
    """

    raster: NDArray[np.float32]
    points: NDArray[np.float32]
    cell: NDArray[np.int32]


def project_sample(sample: Sample, size: tuple[int, int], ground: Ground | None = None) -> View:
    """The points of ``sample`` in the view at ``size`` (height, width) pixels: all that labelling needs but the image.

    ``ground`` is fitted to the sweep when not given. There is no image yet, no truth and no occlusion test.
    """
    height, width = size
    camera = sample.camera.resize(width, height)
    projection = project(sample.points_lidar, camera, sample.camera_T_lidar)
    points = sample.points_lidar.take(projection.index, axis=0)
    if ground is None:
        ground = fit_ground(sample.points_lidar)
    return View(
        log=sample.log,
        frame=sample.frame,
        camera_name=sample.camera_name,
        camera=camera,
        image=None,
        index=projection.index,
        points_camera=projection.points_camera,
        uv=projection.uv,
        height_m=height_above(ground, points),
        intensity=points[:, 3],
    )


def with_image(view: View, sample: Sample) -> View:
    """The view with the image of its sample, resized."""
    if sample.image is None:
        return view
    return replace(view, image=resize_image(sample.image, view.camera.width, view.camera.height))


def prepare(sample: Sample, size: tuple[int, int], ground: Ground | None = None) -> View:
    """The view of ``sample`` at ``size`` (height, width) pixels with all that training and evaluation ask for.

    That is the occlusion test and the labels, beside what ``project_sample`` and ``with_image`` give.
    """
    height, width = size
    view = with_image(project_sample(sample, size, ground), sample)
    supervised = seen = visible(view.uv, view.points_camera[:, 2], width, height)
    if sample.time_offset_s is not None:
        supervised = seen & (np.abs(sample.time_offset_s[view.index]) <= MAX_TIME_OFFSET_S)
    return replace(
        view,
        visible=seen,
        supervised=supervised,
        labels=None if sample.point_labels is None else sample.point_labels[view.index],
        pixel_labels=None if sample.pixel_labels is None else resize_labels(sample.pixel_labels, width, height),
    )


def fit_size(size: tuple[int, int], camera: Camera) -> tuple[int, int]:
    """(height, width) of about as many pixels as ``size``, but in the shape of the image; multiples of the cell.

    An image squeezed into another shape is one the network never saw. Shapes that agree within 2 % keep ``size``.
    """
    height, width = size
    stretch = camera.width * height / (camera.height * width)
    if abs(stretch - 1) <= 0.02:
        return size
    factor = stretch**0.5
    fitted = (round(side / CELL_STRIDE) * CELL_STRIDE for side in (height / factor, width * factor))
    rows, columns = (max(CELL_STRIDE, side) for side in fitted)
    return rows, columns


def prepare_frame(samples: Sequence[Sample], size: tuple[int, int]) -> list[View]:
    """The views of one sweep, each at ``fit_size``; the ground is fitted once to the cloud they share."""
    ground = fit_ground(samples[0].points_lidar) if samples else None
    return [prepare(sample, fit_size(size, sample.camera), ground) for sample in samples]


def resize_image(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3); areas are averaged when it shrinks."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[1] > width
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False)


def resize_labels(labels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """(height, width), the label at each new pixel's centre."""
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(np.intp)
    resized: NDArray[np.uint8] = labels[rows[:, None], columns[None, :]]
    return resized


def grid_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """(rows, columns) of the raster of an image."""
    return -(-height // stride), -(-width // stride)


def encode(view: View, stride: int) -> Inputs:
    """Raster of a stride and point features of a view.

    They depend on the camera and the ground, not on where the LiDAR sits, and are finite whatever the file holds.
    """
    rows, columns = grid_size(view.camera.height, view.camera.width, stride)
    raster = np.zeros((len(RASTER_CHANNELS), rows * columns), dtype=np.float32)
    depth = np.minimum(view.points_camera[:, 2], np.float32(FARTHEST_M))
    cell = cells(view.uv, view.camera.width, view.camera.height, stride)
    with np.errstate(over="ignore"):
        x, y, z = view.points_camera.T
        range_m = np.sqrt(x * x + y * y + z * z)
    log_range = np.log(np.clip(range_m, 0.5, FARTHEST_M)) * np.float32(0.25)
    # fmin and fmax take the number where the other is NaN
    height = np.fmax(np.fmin(view.height_m, 12.0), -3.0) * np.float32(0.25)
    intensity = np.fmin(np.fmax(view.intensity, 0.0), 1.0)
    nearest = _nearest_measured(cell, depth, rows * columns, view.measured)
    filled = np.flatnonzero(nearest >= 0)
    chosen = nearest.take(filled)
    range_of_cell = range_m.take(chosen)
    raster[0][filled] = 1.0
    raster[1][filled] = log_range.take(chosen)
    raster[2][filled] = x.take(chosen) / range_of_cell
    raster[3][filled] = y.take(chosen) / range_of_cell
    raster[4][filled] = height.take(chosen)
    raster[5][filled] = intensity.take(chosen)
    counted = cell if view.measured is None else cell[view.measured]
    raster[6][filled] = np.log1p(np.bincount(counted, minlength=rows * columns).take(filled)) * np.float32(0.5)
    # the first depth of each cell, spread back to the cell's points
    surface = np.ones(rows * columns, dtype=np.float32)
    surface[filled] = depth.take(chosen)
    log_ratio = np.log(depth / surface.take(cell))
    if view.measured is not None:
        log_ratio[~view.measured] = 0.0
    np.maximum.at(raster[7], cell, log_ratio)
    if stride != CELL_STRIDE:
        cell = cells(view.uv, view.camera.width, view.camera.height, CELL_STRIDE)
    points = np.empty((len(depth), len(POINT_FEATURES)), dtype=np.float32)
    points[:, 0], points[:, 1], points[:, 2] = log_range, height, intensity
    np.minimum(log_ratio, 2.0, out=points[:, 3])
    within = (view.uv + 0.5) * np.float32(1.0 / CELL_STRIDE)
    within -= np.floor(within)
    # one column at a time: rows of two are slow to walk along
    for axis in range(2):
        np.subtract(within[:, axis], np.float32(0.5), out=points[:, 4 + axis])
    return Inputs(raster.reshape(-1, rows, columns), points, cell)


def _nearest_measured(
    cell: NDArray[np.int32], depth: NDArray[np.float32], count: int, measured: NDArray[np.bool_] | None
) -> NDArray[np.int32]:
    """``nearest_per_cell`` among the measured points, as rows of all of them."""
    if measured is None:
        return nearest_per_cell(cell, depth, count)
    rows = np.append(np.flatnonzero(measured), -1).astype(np.int32)  # the last is what -1, no point, stands for
    return rows[nearest_per_cell(cell[rows[:-1]], depth[rows[:-1]], count)]


def stride_labels(pixel_labels: NDArray[np.uint8] | None, height: int, width: int, stride: int) -> NDArray[np.uint8]:
    """(h, w) label of the pixel at each cell's centre; all ignored when there are no pixel labels."""
    rows, columns = grid_size(height, width, stride)
    if pixel_labels is None:
        return np.full((rows, columns), IGNORE, dtype=np.uint8)
    row = np.minimum(np.arange(rows) * stride + stride // 2, height - 1)
    column = np.minimum(np.arange(columns) * stride + stride // 2, width - 1)
    return pixel_labels[row[:, None], column[None, :]]
