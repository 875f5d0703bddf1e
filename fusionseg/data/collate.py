"""Views to a Batch of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionseg.data.prepare import CELL_STRIDE, POINT_FEATURES, View, encode, stride_labels
from fusionseg.labels import IGNORE


@dataclass(frozen=True, eq=False)
class Batch:
    """What the network takes and what the losses need. B views of H x W pixels, raster of h x w cells, N points.

    Attributes:
        image: (B, 3, H, W) uint8 RGB, zeros where absent.
        lidar: (B, C, h, w) float32, zeros where absent.
        present: (B, 2) float32, 1 where image, LiDAR are there.
        points: (B, N, F) float32, zeros in padding.
        cell: (B, N) int64 flat cell on the grid of the logits, -1 in padding.
        point_labels: (B, N) uint8, 255 in padding.
        supervised: (B, N) bool, pixels may learn from this point.
        visible: (B, N) bool, passes the occlusion test.
        pixel_labels: (B, H/4, W/4) uint8 dense labels on the grid of the logits, 255 where there are none.
    """

    image: Tensor
    lidar: Tensor
    present: Tensor
    points: Tensor
    cell: Tensor
    point_labels: Tensor
    supervised: Tensor
    visible: Tensor
    pixel_labels: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on another device."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def __len__(self) -> int:
        return len(self.image)


def collate(
    views: Sequence[View], stride: int, max_points: int | None = None, rng: np.random.Generator | None = None
) -> Batch:
    """Stack views of one size, rasters of ``stride``.

    With ``max_points`` a random subset of each view's points; rasters keep all.
    """
    if not views:
        raise ValueError("no views to collate; expected at least one")
    height, width = views[0].camera.height, views[0].camera.width
    inputs = [encode(view, stride) for view in views]
    chosen = [_choose(len(item.cell), max_points, rng) for item in inputs]
    count = max(len(rows) for rows in chosen)
    image = np.zeros((len(views), height, width, 3), dtype=np.uint8)
    points = np.zeros((len(views), count, len(POINT_FEATURES)), dtype=np.float32)
    cell = np.full((len(views), count), -1, dtype=np.int64)
    labels = np.full((len(views), count), IGNORE, dtype=np.uint8)
    supervised = np.zeros((len(views), count), dtype=bool)
    visible = np.zeros((len(views), count), dtype=bool)
    for b, (view, item, rows) in enumerate(zip(views, inputs, chosen, strict=True)):
        if (view.camera.height, view.camera.width) != (height, width):
            sizes = f"{view.camera.width}x{view.camera.height} and {width}x{height}"
            raise ValueError(f"views of {sizes} in one batch; train on crops of one size (augment.crop)")
        if view.image is not None:
            image[b] = view.image
        points[b, : len(rows)] = item.points[rows]
        cell[b, : len(rows)] = item.cell[rows]
        supervised[b, : len(rows)] = view.supervised[rows]
        visible[b, : len(rows)] = view.visible[rows]
        if view.labels is not None:
            labels[b, : len(rows)] = view.labels[rows]
    present = np.array([[view.image is not None, view.lidar_present and len(view.index) > 0] for view in views])
    lidar = np.stack([item.raster for item in inputs])
    lidar[~present[:, 1]] = 0.0
    dense = [stride_labels(view.pixel_labels, height, width, CELL_STRIDE) for view in views]
    return Batch(
        image=torch.from_numpy(image).permute(0, 3, 1, 2),
        lidar=torch.from_numpy(lidar),
        present=torch.from_numpy(present.astype(np.float32)),
        points=torch.from_numpy(points),
        cell=torch.from_numpy(cell),
        point_labels=torch.from_numpy(labels),
        supervised=torch.from_numpy(supervised),
        visible=torch.from_numpy(visible),
        pixel_labels=torch.from_numpy(np.stack(dense)),
    )


def _choose(count: int, limit: int | None, rng: np.random.Generator | None) -> NDArray[np.intp]:
    if limit is None or count <= limit:
        return np.arange(count)
    rng = np.random.default_rng(0) if rng is None else rng
    return np.sort(rng.choice(count, limit, replace=False))
