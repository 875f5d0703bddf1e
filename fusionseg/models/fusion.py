"""Bidirectional fusion of image and LiDAR features of one stride: a gate, linear or full cross-attention."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from fusionseg.models.layers import ACTIVATIONS, SeparableBlock, conv_bn

ATTENTION = ("linear", "full")
MIXES = ("gate", "sum")
HEADS = 4


def linear_attention(query: Tensor, key: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """Efficient attention (Shen et al. 2021; the kv-context of CMX, Zhang et al. 2023), cost linear in positions.

    Args:
        query: (B, heads, D, Nq).
        key: (B, heads, D, Nk).
        value: (B, heads, D, Nk).
        weight: (B, 1, 1, Nk) >= 0, trust in each key; all zero gives the mean of nothing, that is zero.

    Returns:
        (B, heads, D, Nq).
    """
    # softmax over positions, weighted: sum w exp(k) v / sum w exp(k)
    exp = torch.exp(key - key.amax(dim=-1, keepdim=True)) * weight
    attention = exp / (exp.sum(dim=-1, keepdim=True) + 1e-6)
    context = value @ attention.transpose(-1, -2)  # (B, heads, D, D)
    # the softmax of the query over D, divided by its sum at the end: exported runtimes are slow at a softmax over an
    # axis that is not the last
    query = torch.exp(query - query.amax(dim=-2, keepdim=True))
    return (context @ query) / query.sum(dim=-2, keepdim=True)


def full_attention(query: Tensor, key: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """Scaled dot-product attention with keys weighted by ``weight``; shapes and the all-zero case as above."""
    trusted = weight > 0
    # finite, since a row of infinities would turn into NaN
    bias = torch.where(trusted, torch.log(weight.clamp(min=1e-12)), -1e4)
    q, k, v = (t.transpose(-1, -2) for t in (query, key, value))
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(-1, -1, q.shape[-2], -1))
    return mixed.transpose(-1, -2) * trusted.any(dim=-1, keepdim=True)


class CrossAttention(nn.Module):
    """One direction: the target's positions ask, the source's positions answer; the answer is added to the target."""

    def __init__(self, channels: int, *, kind: str, heads: int) -> None:
        super().__init__()
        if kind not in ATTENTION:
            raise ValueError(f"attention is {kind!r}; choose one of {', '.join(ATTENTION)}")
        if channels % heads:
            raise ValueError(f"{channels} channels do not divide into {heads} heads")
        self.kind = kind
        self.heads = heads
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.out = conv_bn(channels, channels, act=None)

    def forward(self, target: Tensor, source: Tensor, weight: Tensor) -> Tensor:
        """target, source (B, C, H, W), weight (B, 1, H, W) of the source -> (B, C, H, W)."""
        query = rearrange(self.query(target), "b (heads d) y x -> b heads d (y x)", heads=self.heads)
        key, value = rearrange(
            self.key_value(source), "b (kv heads d) y x -> kv b heads d (y x)", kv=2, heads=self.heads
        )
        attend = linear_attention if self.kind == "linear" else full_attention
        mixed = attend(query, key, value, rearrange(weight, "b 1 y x -> b 1 1 (y x)"))
        answer: Tensor = self.out(rearrange(mixed, "b heads d (y x) -> b (heads d) y x", y=target.shape[-2]))
        return target + answer


class Gate(nn.Module):
    """A learned mix per position and channel, then a local residual block."""

    def __init__(self, channels: int, *, act: str) -> None:
        super().__init__()
        self.gate = nn.Conv2d(2 * channels, channels, 1)
        self.local = SeparableBlock(channels, channels, act=act)

    def forward(self, image: Tensor, lidar: Tensor) -> Tensor:
        """Two (B, C, H, W) -> (B, C, H, W)."""
        # a convolution of both, concatenated, as the sum of two: exported runtimes need not copy them together
        of_image, of_lidar = self.gate.weight.split(image.shape[1], dim=1)
        convolve = self.gate._conv_forward  # not the function, so that a layer that rounds does so here too
        share = torch.sigmoid(convolve(image, of_image, self.gate.bias) + convolve(lidar, of_lidar, None))
        fused: Tensor = self.local(lidar + share * (image - lidar))
        return fused


class Fusion(nn.Module):
    """Project both sensors to one width, stand in for a missing one, let each ask the other, mix.

    Args:
        image_channels, lidar_channels: of the incoming features.
        channels: of the fused feature.
        attention: ``linear``, ``full``, or None for the gate alone.
        heads: attention heads.
        act: one of ``ACTIVATIONS``.
    """

    def __init__(
        self,
        *,
        image_channels: int,
        lidar_channels: int,
        channels: int,
        attention: str | None,
        heads: int = HEADS,
        act: str = "hardswish",
    ) -> None:
        super().__init__()
        self.image_in = conv_bn(image_channels, channels, act=act)
        self.lidar_in = conv_bn(lidar_channels, channels, act=act)
        self.image_absent = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.lidar_absent = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.ask_lidar = CrossAttention(channels, kind=attention, heads=heads) if attention else None
        self.ask_image = CrossAttention(channels, kind=attention, heads=heads) if attention else None
        self.gate = Gate(channels, act=act)

    def forward(self, image: Tensor, lidar: Tensor, share: Tensor, present: Tensor) -> Tensor:
        """Features (B, Ci, H, W), (B, Cl, H, W), valid share (B, 1, H, W), present (B, 2) -> (B, C, H, W)."""
        has_image = present[:, :1, None, None]
        has_lidar = present[:, 1:, None, None]
        image = has_image * self.image_in(image) + (1 - has_image) * self.image_absent
        lidar = has_lidar * self.lidar_in(lidar) + (1 - has_lidar) * self.lidar_absent
        if self.ask_lidar is not None and self.ask_image is not None:
            image, lidar = (
                self.ask_lidar(image, lidar, share * has_lidar),
                self.ask_image(lidar, image, torch.ones_like(share) * has_image),
            )
        fused: Tensor = self.gate(image, lidar)
        return fused


class SumFusion(nn.Module):
    """The sum of both sensors, each projected to one width, then a local residual block: the cheapest fusion.

    An absent sensor adds nothing. Args as of ``Fusion``.
    """

    def __init__(self, *, image_channels: int, lidar_channels: int, channels: int, act: str = "hardswish") -> None:
        super().__init__()
        self.image_in = conv_bn(image_channels, channels, act=None)
        self.lidar_in = conv_bn(lidar_channels, channels, act=None)
        self.act = ACTIVATIONS[act]()
        self.local = SeparableBlock(channels, channels, act=act)

    def forward(self, image: Tensor, lidar: Tensor, share: Tensor, present: Tensor) -> Tensor:
        """As ``Fusion``; the share of valid cells takes no part."""
        has_image, has_lidar = present[:, :1, None, None], present[:, 1:, None, None]
        fused: Tensor = self.local(self.act(self.image_in(has_image * image) + self.lidar_in(has_lidar * lidar)))
        return fused
