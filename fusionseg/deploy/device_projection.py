"""``project_sample`` and ``encode`` once more, in torch, for GPUs alone.

A second implementation, and no other than the NumPy one in what it says: it is there so that a sweep goes to the GPU as
it is and the network's inputs never are on the host. Every shape follows from the shapes of the inputs, no number is
read back, and products are written out (autocast and TF32 leave sums of products alone), so that torch.compile can
record it with the network as one CUDA graph. Tested on a processor against NumPy; not yet run on a GPU.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fusionseg.data.prepare import CELL_STRIDE, FARTHEST_M, grid_size
from fusionseg.geometry.projection import MIN_DEPTH_M


class Encoded(NamedTuple):
    """What a network takes of B views with N points each; see ``Stack``, which holds only the points in view.

    Attributes:
        lidar: (B, C, h, w) raster.
        points: (B, N, F) features, of points in view.
        cell: (B, N) int64, -1 for points that are not.
    """

    lidar: Tensor
    points: Tensor
    cell: Tensor


class _Projected(NamedTuple):
    """Points (B, N) in their views: camera frame, pixels, height over the ground; harmless numbers where outside."""

    inside: Tensor
    x: Tensor
    y: Tensor
    z: Tensor
    u: Tensor
    v: Tensor
    height_m: Tensor


def project_and_encode(points_lidar: Tensor, calibration: Tensor, size: tuple[int, int], stride: int) -> Encoded:
    """Rasters of a stride and features of the points that views see.

    Args:
        points_lidar: (B, N, 4) float32 sweeps; rows of NaN are padding. N is at least 1.
        calibration: (B, 31) float32, ``calibration_of`` each view.
        size: (height, width) of the views in pixels.
        stride: of the raster, pixels.
    """
    projected = _project(points_lidar, calibration, size)
    inside, x, y, z, u, v, height_m = projected
    rows, columns = grid_size(*size, stride)
    cell = _cells(projected, size, stride)
    depth = z.clamp(max=FARTHEST_M)
    nearest, filled = _nearest(cell, depth, rows * columns)
    range_m = (x * x + y * y + z * z).sqrt()
    log_range = range_m.clamp(0.5, FARTHEST_M).log() * 0.25
    # fmin and fmax take the number where the other is NaN
    height = height_m.fmin(height_m.new_full((), 12.0)).fmax(height_m.new_full((), -3.0)) * 0.25
    intensity = points_lidar[..., 3].fmax(depth.new_zeros(())).fmin(depth.new_ones(()))
    own = torch.stack([log_range, x / range_m, y / range_m, height, intensity, depth], dim=1)
    chosen = own.gather(2, nearest[:, None].expand(-1, own.shape[1], -1))
    # one cell more than there are takes the points outside
    counts = depth.new_zeros(len(cell), rows * columns + 1).scatter_add(1, cell, torch.ones_like(depth))
    surface = torch.cat([torch.where(filled, chosen[:, -1], 1.0), depth.new_ones(len(cell), 1)], dim=1)
    log_ratio = torch.where(inside, (depth / surface.gather(1, cell)).log(), 0.0)
    spread = torch.zeros_like(counts).scatter_reduce(1, cell, log_ratio, "amax")
    per_cell = torch.cat(
        [
            torch.ones_like(chosen[:, :1]),
            chosen[:, :-1],
            counts[:, None, :-1].log1p() * 0.5,
            spread[:, None, :-1],
        ],
        dim=1,
    )
    lidar = torch.where(filled[:, None], per_cell, 0.0).unflatten(2, (rows, columns))
    within = [(pixel + 0.5) * (1.0 / CELL_STRIDE) for pixel in (u, v)]
    places = [place - (place.floor() + 0.5) for place in within]
    points = torch.stack([log_range, height, intensity, log_ratio.clamp(max=2.0), *places], dim=-1)
    if stride != CELL_STRIDE:
        cell = _cells(projected, size, CELL_STRIDE)
    return Encoded(lidar, points, torch.where(inside, cell, -1))


def _project(points_lidar: Tensor, calibration: Tensor, size: tuple[int, int]) -> _Projected:
    """``geometry.projection.project`` and ``geometry.ground.height_above``."""
    (
        *turn_and_shift, fx, skew, cx, fy, cy, k1, k2, p1, p2, k3, k4, k5, k6, fisheye, limit, a, b, c, offset_m
    ) = calibration[:, :, None].unbind(1)  # each (B, 1)  # fmt: skip
    x, y, z = points_lidar[..., :3].unbind(-1)
    height_m = a * x + b * y + c * z + offset_m
    x, y, z = (
        turn_and_shift[i] * x + turn_and_shift[i + 1] * y + turn_and_shift[i + 2] * z + turn_and_shift[i + 3]
        for i in (0, 4, 8)
    )
    # what is not finite or not ahead fails one of these comparisons, all of which are False for NaN
    ahead = (z > MIN_DEPTH_M) & (limit.isinf() | (x * x + y * y < limit * z * z))
    s, t = x / z, y / z
    bent = _fisheye(s, t, k1, k2, p1, p2)
    straight = _brown_conrady(s, t, k1, k2, p1, p2, k3, k4, k5, k6)
    s, t = (torch.where(fisheye > 0, one, other) for one, other in zip(bent, straight, strict=True))
    u, v = s * fx + skew * t + cx, t * fy + cy
    rows, columns = size
    inside = ahead & (u >= -0.5) & (u < columns - 0.5) & (v >= -0.5) & (v < rows - 0.5)
    x, y, u, v, height_m = (torch.where(inside, value, 0.0) for value in (x, y, u, v, height_m))
    return _Projected(inside, x, y, torch.where(inside, z, 1.0), u, v, height_m)


def _fisheye(x: Tensor, y: Tensor, k1: Tensor, k2: Tensor, k3: Tensor, k4: Tensor) -> tuple[Tensor, Tensor]:
    radius = torch.hypot(x, y)
    theta = radius.atan()
    t2 = theta * theta
    bent = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    scale = torch.where(radius > 1e-8, bent / radius.clamp(min=1e-8), 1.0)
    return x * scale, y * scale


def _brown_conrady(
    x: Tensor, y: Tensor, k1: Tensor, k2: Tensor, p1: Tensor, p2: Tensor, k3: Tensor, k4: Tensor, k5: Tensor, k6: Tensor
) -> tuple[Tensor, Tensor]:
    r2, xy = x * x + y * y, x * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return (
        x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * xy,
    )


def _cells(projected: _Projected, size: tuple[int, int], stride: int) -> Tensor:
    """(B, N) int64 flat cells; the number of cells for points outside."""
    rows, columns = grid_size(*size, stride)
    row, column = (
        ((pixel + 0.5) * (1.0 / stride)).long().clamp(max=side - 1)
        for pixel, side in ((projected.v, rows), (projected.u, columns))
    )
    return torch.where(projected.inside, row * columns + column, rows * columns)


def _nearest(cell: Tensor, depth: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(B, count) the nearest point of each cell, the first of equals, and whether there is one; else any point.

    Depths are positive, and the bits of positive numbers are in the order of the numbers: with the row behind them one
    minimum finds both.
    """
    row = torch.arange(cell.shape[1], device=cell.device)
    key = (depth.contiguous().view(torch.int32).long() << 32) | row
    nothing = torch.iinfo(torch.int64).max
    least = key.new_full((len(cell), count + 1), nothing).scatter_reduce(1, cell, key, "amin")[:, :-1]
    filled = least != nothing
    return torch.where(filled, least & 0xFFFFFFFF, 0), filled
