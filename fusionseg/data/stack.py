"""Views to the arrays that a network takes, in whatever runtime (NumPy only)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.prepare import CELL_STRIDE, POINT_FEATURES, RASTER_CHANNELS, View, encode, grid_size

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Stack:
    """The inputs of B views of H x W pixels, padding included; raster of h x w cells, N points.

    The image of a single view that needs no padding is the view's own memory.

    Attributes:
        image: (B, H, W, 3) uint8 RGB, zeros where absent.
        lidar: (B, C, h, w) float32, zeros where absent.
        present: (B, 2) float32, 1 where image, LiDAR are there.
        points: (B, N, F) float32, zeros in padding.
        cell: (B, N) int64 flat cell on the grid of the logits, padding included; -1 where there is no point.
        grid: (rows, columns) of the logits that lie inside the views.
    """

    image: NDArray[np.uint8]
    lidar: NDArray[np.float32]
    present: NDArray[np.float32]
    points: NDArray[np.float32]
    cell: NDArray[np.int64]
    grid: tuple[int, int]


def stack(
    views: Sequence[View],
    stride: int,
    rows: Sequence[NDArray[np.intp] | None] | None = None,
    *,
    multiple: int = 1,
    bucket: int = 1,
) -> Stack:
    """Stack views of one size, rasters of ``stride``.

    Args:
        views: at least one.
        stride: of the raster, pixels.
        rows: per view, which of its points to take, or None for all; rasters keep all.
        multiple: height and width are padded with zeros, at the bottom and the right, to a multiple of it.
        bucket: the number of points is padded to a multiple of it, and to one bucket at least.

    Raises:
        ValueError: no views, or views of several sizes.
    """
    if not views:
        raise ValueError("no views to collate; expected at least one")
    height, width = views[0].camera.height, views[0].camera.width
    rows = [None] * len(views) if rows is None else rows
    most = max(len(view.index) if taken is None else len(taken) for view, taken in zip(views, rows, strict=True))
    count = max(-(-most // bucket), bucket > 1) * bucket
    full_height, full_width = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    encoded = [encode(view, stride) for view in views]
    points = np.zeros((len(views), count, len(POINT_FEATURES)), dtype=np.float32)
    cell = np.full((len(views), count), -1, dtype=np.int64)
    present = np.zeros((len(views), 2), dtype=np.float32)
    for b, (view, taken) in enumerate(zip(views, rows, strict=True)):
        if (view.camera.height, view.camera.width) != (height, width):
            sizes = f"{view.camera.width}x{view.camera.height} and {width}x{height}"
            raise ValueError(f"views of {sizes} in one batch; train on crops of one size (augment.crop)")
        present[b] = view.image is not None, view.lidar_present and len(view.index) > 0
        item = encoded[b]
        chosen = slice(None) if taken is None else taken
        number = len(item.cell) if taken is None else len(taken)
        points[b, :number] = item.points[chosen]
        cell[b, :number] = item.cell[chosen]
    image = padded([view.image for view in views], (full_height, full_width, 3), np.uint8)
    rasters = [item.raster if there else None for item, there in zip(encoded, present[:, 1], strict=True)]
    lidar = padded(rasters, (len(RASTER_CHANNELS), *grid_size(full_height, full_width, stride)), np.float32)
    grid = grid_size(height, width, CELL_STRIDE)
    return Stack(image, lidar, present, points, _on_padded_grid(cell, grid[1], -(-full_width // CELL_STRIDE)), grid)


def padded(items: Sequence[NDArray[T] | None], shape: tuple[int, ...], dtype: type[T]) -> NDArray[T]:
    """The items (None: absent) one after the other in zeros of a shape; one alone that fills it is not copied."""
    first = items[0]
    # torch takes writable memory only
    if len(items) == 1 and first is not None and first.shape == shape and first.flags.carray:
        return first[None]
    whole = np.zeros((len(items), *shape), dtype=dtype)
    for b, item in enumerate(items):
        if item is not None:
            whole[b][tuple(slice(side) for side in item.shape)] = item
    return whole


def _on_padded_grid(cell: NDArray[np.int64], columns: int, full_columns: int) -> NDArray[np.int64]:
    """Flat cells of a grid as flat cells of a wider one; -1 stays."""
    if columns == full_columns:
        return cell
    return np.where(cell < 0, cell, cell + cell // columns * (full_columns - columns))
