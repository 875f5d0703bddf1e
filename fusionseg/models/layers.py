"""Small building blocks shared by the parts of the network."""

from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"hardswish": nn.Hardswish, "relu": nn.ReLU}
"""Hard swish learns better; a rectifier is part of the convolution before it in exported runtimes and costs nothing."""


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    act: str | None = "hardswish",
) -> nn.Sequential:
    """Convolution, batch norm and, unless ``act`` is None, one of ``ACTIVATIONS``."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    if act:
        layers.append(ACTIVATIONS[act](inplace=True))
    return nn.Sequential(*layers)


class SeparableBlock(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, residual where the shape stays (MobileNets, Howard et al. 2017)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, kernel: int = 3, act: str = "hardswish"
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        self.depthwise = conv_bn(in_channels, in_channels, kernel, stride=stride, groups=in_channels, act=act)
        self.pointwise = conv_bn(in_channels, out_channels, act=None if self.residual else act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return x + y if self.residual else y
