"""The LiDAR encoder: a mask-aware stem on the sparse raster, then a light separable CNN."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionseg.models.layers import ACTIVATIONS, SeparableBlock, conv_bn


class MaskedStem(nn.Module):
    """Convolution over valid cells only, renormalised by their number (partial convolution, Liu et al. 2018).

    The renormalisation makes the response independent of how densely the LiDAR samples the window.
    """

    window: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, act: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.after = nn.Sequential(nn.BatchNorm2d(out_channels), ACTIVATIONS[act](inplace=True))
        self.register_buffer("window", torch.ones(1, 1, kernel, kernel), persistent=False)
        self.padding = kernel // 2

    def forward(self, raster: Tensor) -> tuple[Tensor, Tensor]:
        """Raster (B, C, h, w), channel 0 the validity -> features (B, out, h, w), share of valid cells (B, 1, h, w)."""
        valid = raster[:, :1]
        share = functional.conv2d(valid, self.window, padding=self.padding) / self.window.numel()
        features = self.conv(raster) / share.clamp(min=1.0 / self.window.numel())
        return self.after(features), share


class LidarEncoder(nn.Module):
    """Features of the LiDAR raster at strides 4, 8, 16 and 32 of the image.

    Args:
        in_channels: channels of the raster; the first is the validity.
        channels: output channels per stride.
        raster_stride: stride of the raster, 4 or 2.
        depth: residual blocks per stage.
        stem_kernel: side of the stem's window, cells; odd.
        act: one of ``ACTIVATIONS``.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: tuple[int, ...],
        raster_stride: int = 4,
        depth: int = 2,
        stem_kernel: int = 5,
        act: str = "hardswish",
    ) -> None:
        super().__init__()
        if raster_stride not in (2, 4):
            raise ValueError(f"raster stride is {raster_stride}; the LiDAR encoder takes 2 or 4")
        self.channels = channels
        self.stem = MaskedStem(in_channels, channels[0], kernel=stem_kernel, act=act)
        # the share of valid cells tells the network how far to trust what it sees
        self.mix = conv_bn(channels[0] + 1, channels[0], act=act)
        stages = []
        previous = channels[0]
        for position, width in enumerate(channels):
            stride = raster_stride // 2 if position == 0 and raster_stride == 2 else 1
            stride = 2 if position > 0 or raster_stride == 2 else stride
            first: list[nn.Module] = []
            if stride == 2 or width != previous:
                first = [SeparableBlock(previous, width, stride=stride, kernel=5, act=act)]
            blocks = (SeparableBlock(width, width, kernel=5, act=act) for _ in range(depth))
            stages.append(nn.Sequential(*first, *blocks))
            previous = width
        self.stages = nn.ModuleList(stages)

    def forward(self, raster: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(B, C, h, w) -> four features, and four shares of valid cells (B, 1, ...) at the same sizes."""
        x, share = self.stem(raster)
        x = self.mix(torch.cat([x, share], dim=1))
        features, shares = [], []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
            if share.shape[-2:] != x.shape[-2:]:
                share = functional.avg_pool2d(share, 2)
            shares.append(share)
        return features, shares
