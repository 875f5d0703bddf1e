"""Training with eight-bit rounding in the loop, for networks that lose too much when they are rounded afterwards."""

import re

import torch
from torch import Tensor, nn

from fusionseg.models.segmenter import AUXILIARY

ALWAYS_FLOAT = re.compile(r"(point_head|lidar_encoder\.(?:stem|mix)|fusion\.\d+\.ask_(?:image|lidar))(?:\..*)?")
"""Modules that eight bits do not resolve: tables of features and logits in one range (8 to 10 points of mIoU lost), a
division by the share of valid cells and what takes both (68 points), exponentials (0.3 points, and no time won)."""


class RoundedConv2d(nn.Conv2d):
    """A convolution whose input and weights are rounded to eight bits as an int8 export rounds them.

    Inputs in 256 steps over their range in the batch, weights in 255 steps per output channel; batch norm that follows
    scales whole channels, so that it makes no difference whether it is part of the weights. Gradients pass as if
    nothing had been rounded (straight-through; Jacob et al., CVPR 2018).
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        answer: Tensor = super()._conv_forward(_rounded(input), _rounded_channels(weight), bias)
        return answer


def fake_quantize(network: nn.Module) -> int:
    """Let the convolutions of a network round as its int8 export will; their number. Names of weights stay.

    Left as they are: what an int8 export leaves in float (``ALWAYS_FLOAT``), heads that only training uses, and
    convolutions of classes other than torch's own.
    """
    chosen = [
        layer
        for name, layer in network.named_modules()
        if type(layer) is nn.Conv2d and not ALWAYS_FLOAT.fullmatch(name) and not name.startswith(AUXILIARY)
    ]
    for layer in chosen:
        layer.__class__ = RoundedConv2d
    return len(chosen)


def _rounded(x: Tensor) -> Tensor:
    # zero is one of the steps: padding and rectified values stay exact
    low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
    scale = ((high - low) / 255).clamp(min=torch.finfo(x.dtype).tiny).float()
    zero = (-low / scale).round().clamp(0, 255).int()
    rounded: Tensor = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)
    return rounded


def _rounded_channels(weight: Tensor) -> Tensor:
    largest = weight.detach().abs().amax(dim=(1, 2, 3))
    scale = (largest / 127).clamp(min=torch.finfo(weight.dtype).tiny).float()
    zero = torch.zeros_like(scale, dtype=torch.int32)
    rounded: Tensor = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)
    return rounded
