"""The light top-down head for pixels, and the point head on the cell's features plus the point's own."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionseg.models.layers import SeparableBlock, conv_bn


class TopDownHead(nn.Module):
    """From features at strides 4 to 32 to one feature and logits at stride 4 (FPN, Lin et al. 2017, separable).

    Args:
        in_channels: of the features, finest first.
        channels: width of the head.
        classes: number of classes.
        act: one of ``ACTIVATIONS``.
    """

    def __init__(self, *, in_channels: tuple[int, ...], channels: int, classes: int, act: str = "hardswish") -> None:
        super().__init__()
        self.lateral = nn.ModuleList([conv_bn(width, channels, act=None) for width in in_channels])
        self.refine = nn.ModuleList([SeparableBlock(channels, channels, act=act) for _ in in_channels])
        self.context = SeparableBlock(channels, channels, kernel=5, act=act)
        self.logits = nn.Conv2d(channels, classes, 1)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Four (B, Ci, H/s, W/s), finest first -> feature (B, D, H/4, W/4), logits (B, K, H/4, W/4)."""
        x: Tensor | None = None
        for level in reversed(range(len(features))):
            y = self.lateral[level](features[level])
            if x is not None:
                y = y + functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.refine[level](y)
        assert x is not None
        x = self.context(x)
        return x, self.logits(x)


class PointHead(nn.Module):
    """Logits of each point from its cell's feature and logits and its own range, height, intensity and depth step.

    A point seen past an edge lies in the edge's cell; the depth step to the cell's nearest point tells them apart.
    Without LiDAR the point is only a place to look at: its measured features are masked, its place in the cell stays.

    Args:
        in_channels: of the cell's feature.
        point_features: columns of the point's own features; the last two are its place in the cell.
        channels: width.
        classes: number of classes.
    """

    def __init__(self, *, in_channels: int, point_features: int, channels: int, classes: int) -> None:
        super().__init__()
        self.cell = nn.Linear(in_channels, channels)
        self.point = nn.Sequential(nn.Linear(point_features + 2, channels), nn.ReLU(inplace=True))
        self.own = nn.Linear(channels, channels)
        self.hidden = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(channels, channels), nn.ReLU(inplace=True))
        self.logits = nn.Linear(channels, classes)

    def forward(self, feature: Tensor, logits: Tensor, points: Tensor, cell: Tensor, present: Tensor) -> Tensor:
        """Feature (B, D, h, w), logits (B, K, h, w), points (B, N, F), cell (B, N), present (B, 2) -> (B, N, K)."""
        batch, count, _ = points.shape
        flags = present[:, None, :]
        # the last two columns, the place in the cell, are known without LiDAR too
        known = torch.cat([flags[..., 1:].expand(-1, -1, points.shape[2] - 2), torch.ones_like(flags)], dim=-1)
        own = self.point(torch.cat([points * known, flags.expand(-1, count, -1)], dim=-1).flatten(0, 1))
        # the per-cell half of the first layer runs once a cell, then cells are looked up; with the biases of the
        # points' half in it, and as what the matrix product adds to, it costs no pass over all points
        table = functional.conv2d(feature, self.cell.weight[:, :, None, None], self.cell.bias + self.own.bias)
        scores = logits + self.logits.bias[:, None, None]
        offset = torch.arange(batch, device=cell.device)[:, None] * (feature.shape[2] * feature.shape[3])
        index = (cell.clamp(min=0) + offset).flatten()
        of_cell, of_class = (
            cells.flatten(2).transpose(1, 2).flatten(0, 1).index_select(0, index) for cells in (table, scores)
        )
        hidden = self.hidden(torch.addmm(of_cell, own, self.own.weight.t()))
        refined = torch.addmm(of_class, hidden, self.logits.weight.t())
        return refined.reshape(batch, count, logits.shape[1])
