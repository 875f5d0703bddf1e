"""Views to a Batch of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fusionseg.data.prepare import CELL_STRIDE, View, stride_labels
from fusionseg.data.stack import stack
from fusionseg.labels import IGNORE


@dataclass(frozen=True, eq=False)
class TeacherBatch:
    """What a teacher says of a batch's places; a weight is 0 in padding, outside its image and where it does not know.

    Attributes:
        pixels: (B, K, H/4, W/4) float32 logits.
        pixel_weight: (B, H/4, W/4) float32, 0 or 1.
        points: (B, N, K) float32 logits.
        point_weight: (B, N) float32, 0 or 1.
        feature: (B, C, H/8, W/8) float32, or None.
    """

    pixels: Tensor
    pixel_weight: Tensor
    points: Tensor
    point_weight: Tensor
    feature: Tensor | None


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
        teacher: what a teacher says, or None.
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
    teacher: TeacherBatch | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on another device."""
        return replace(self, **_on(self, device))

    def __len__(self) -> int:
        return len(self.image)


def collate(
    views: Sequence[View], stride: int, max_points: int | None = None, rng: np.random.Generator | None = None
) -> Batch:
    """Stack views of one size, rasters of ``stride``.

    With ``max_points`` a random subset of each view's points; rasters keep all.
    """
    chosen = [_choose(len(view.index), max_points, rng) for view in views]
    inputs = stack(views, stride, chosen)
    height, width = inputs.image.shape[1:3]
    count = inputs.points.shape[1]
    labels = np.full((len(views), count), IGNORE, dtype=np.uint8)
    supervised = np.zeros((len(views), count), dtype=bool)
    visible = np.zeros((len(views), count), dtype=bool)
    for b, (view, rows) in enumerate(zip(views, chosen, strict=True)):
        if view.supervised is not None:
            supervised[b, : len(rows)] = view.supervised[rows]
        if view.visible is not None:
            visible[b, : len(rows)] = view.visible[rows]
        if view.labels is not None:
            labels[b, : len(rows)] = view.labels[rows]
    dense = [stride_labels(view.pixel_labels, height, width, CELL_STRIDE) for view in views]
    return Batch(
        image=torch.from_numpy(inputs.image).permute(0, 3, 1, 2),
        lidar=torch.from_numpy(inputs.lidar),
        present=torch.from_numpy(inputs.present),
        points=torch.from_numpy(inputs.points),
        cell=torch.from_numpy(inputs.cell),
        point_labels=torch.from_numpy(labels),
        supervised=torch.from_numpy(supervised),
        visible=torch.from_numpy(visible),
        pixel_labels=torch.from_numpy(np.stack(dense)),
        teacher=_teacher([view for view in views if view.teaching is not None], chosen, count),
    )


def _on(tensors: Batch | TeacherBatch, device: torch.device | str) -> dict[str, Any]:
    values = {f.name: getattr(tensors, f.name) for f in fields(tensors)}
    moved: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, TeacherBatch):
            moved[name] = replace(value, **_on(value, device))
        elif value is not None:
            moved[name] = value.to(device, non_blocking=True)
    return moved


def _teacher(views: Sequence[View], chosen: Sequence[NDArray[np.intp]], count: int) -> TeacherBatch | None:
    """What the views' teacher says at their cells and chosen points; None where a view has none."""
    if len(views) < len(chosen):
        return None
    pixels, weights, features, points = [], [], [], []
    for view, rows in zip(views, chosen, strict=True):
        assert view.teaching is not None and view.teacher_points is not None
        sampled, inside = _sample(view.teaching.pixels, view.teaching.placed, view, CELL_STRIDE)
        pixels.append(sampled)
        weights.append(inside)
        if view.teaching.feature is not None:
            features.append(_sample(view.teaching.feature, view.teaching.placed, view, 2 * CELL_STRIDE)[0])
        full = np.full((count, view.teacher_points.shape[1]), np.nan, dtype=np.float32)
        full[: len(rows)] = view.teacher_points[rows]
        points.append(torch.from_numpy(full))
    said = torch.stack(points)
    known = ~said.isnan().any(dim=2)
    return TeacherBatch(
        pixels=torch.stack(pixels),
        pixel_weight=torch.stack(weights),
        points=said.nan_to_num(),
        point_weight=known.float(),
        feature=torch.stack(features) if len(features) == len(views) else None,
    )


def _sample(grid: NDArray[np.float16], placed: NDArray[np.float64], view: View, stride: int) -> tuple[Tensor, Tensor]:
    """A teacher's grid (K, h, w) at the cells of the view (K, H/stride, W/stride), and which of them lie inside it."""
    rows, columns = -(-view.camera.height // stride), -(-view.camera.width // stride)
    x, y = (np.arange(n) * stride + (stride - 1) / 2 for n in (columns, rows))
    inverse = np.linalg.inv(placed[:, :2])
    pixels = np.stack(np.meshgrid(x, y), axis=-1) - placed[:, 2]
    unit = torch.from_numpy((2 * (pixels @ inverse.T) - 1).astype(np.float32))
    source = torch.from_numpy(np.asarray(grid, dtype=np.float32))[None]
    sampled = functional.grid_sample(source, unit[None], mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[0], (unit.abs() <= 1).all(dim=-1).float()


def _choose(count: int, limit: int | None, rng: np.random.Generator | None) -> NDArray[np.intp]:
    if limit is None or count <= limit:
        return np.arange(count)
    rng = np.random.default_rng(0) if rng is None else rng
    return np.sort(rng.choice(count, limit, replace=False))
