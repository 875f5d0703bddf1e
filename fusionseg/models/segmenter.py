"""The whole network: encoders, fusion per stride, heads. Takes ready-made parts."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionseg.models.head import PointHead, TopDownHead
from fusionseg.models.image_encoder import STRIDES, ImageEncoder
from fusionseg.models.lidar_encoder import LidarEncoder

PAD_MULTIPLE = 32
# what the names of the weights that only training uses begin with
AUXILIARY = ("image_head.", "lidar_head.")


class Output(NamedTuple):
    """What the network answers.

    Attributes:
        pixels: (B, K, h, w) logits at stride 4.
        points: (B, N, K) logits.
        image_pixels, lidar_pixels: (B, K, h, w) logits of each modality alone, in training only.
        fused: (B, C, H/8, W/8) the fused feature at stride 8.
    """

    pixels: Tensor
    points: Tensor
    image_pixels: Tensor | None = None
    lidar_pixels: Tensor | None = None
    fused: Tensor | None = None


class Segmenter(nn.Module):
    """Camera + LiDAR segmentation; either sensor may be absent (``present`` 0), of any input size."""

    def __init__(
        self,
        *,
        image_encoder: ImageEncoder,
        lidar_encoder: LidarEncoder,
        fusion: list[nn.Module],
        head: TopDownHead,
        point_head: PointHead | None,
        image_head: nn.Module | None,
        lidar_head: nn.Module | None,
        raster_stride: int,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.lidar_encoder = lidar_encoder
        self.fusion = nn.ModuleList(fusion)
        self.head = head
        self.point_head = point_head
        self.image_head = image_head
        self.lidar_head = lidar_head
        self.raster_stride = raster_stride

    def forward(self, image: Tensor, lidar: Tensor, present: Tensor, points: Tensor, cell: Tensor) -> Output:
        """Image (B, 3, H, W) RGB in 0..255, lidar (B, C, h, w), present (B, 2), points (B, N, F), cell (B, N)."""
        rows, columns = -(-image.shape[-2] // 4), -(-image.shape[-1] // 4)
        image = _pad(image.to(lidar.dtype), PAD_MULTIPLE)
        lidar = _pad(lidar, PAD_MULTIPLE // self.raster_stride)
        image_features = self._encode_image(image, present[:, 0])
        lidar_features, shares = self._encode_lidar(lidar, present[:, 1])
        fused = [block(image_features[i], lidar_features[i], shares[i], present) for i, block in enumerate(self.fusion)]
        feature, logits = self.head(fused)
        feature, logits = feature[..., :rows, :columns], logits[..., :rows, :columns]
        if self.point_head is not None:
            point_logits = self.point_head(feature, logits, points, cell, present)
        else:
            point_logits = _gather(logits, cell)
        if not self.training or self.image_head is None or self.lidar_head is None:
            return Output(logits, point_logits, fused=fused[1])
        return Output(
            logits,
            point_logits,
            self.image_head(image_features)[1][..., :rows, :columns],
            self.lidar_head(lidar_features)[1][..., :rows, :columns],
            fused[1],
        )

    def _encode_image(self, image: Tensor, present: Tensor) -> list[Tensor]:
        if _runs_whole(present):
            return list(self.image_encoder(image))
        rows = present.nonzero()[:, 0]
        if not len(rows):
            return _nothing(image, self.image_encoder.channels)
        return [_spread(feature, rows, len(image)) for feature in self.image_encoder(image[rows])]

    def _encode_lidar(self, lidar: Tensor, present: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if _runs_whole(present):
            features, shares = self.lidar_encoder(lidar)
            return list(features), list(shares)
        rows = present.nonzero()[:, 0]
        if not len(rows):
            channels = self.lidar_encoder.channels
            empty = lidar.new_zeros((*lidar.shape[:2], *(side * self.raster_stride for side in lidar.shape[2:])))
            return _nothing(empty, channels), _nothing(empty, (1,) * len(channels))
        features, shares = self.lidar_encoder(lidar[rows])
        return [_spread(f, rows, len(lidar)) for f in features], [_spread(s, rows, len(lidar)) for s in shares]


def _runs_whole(present: Tensor) -> bool:
    """Whether an encoder runs on all views: none is absent, or a graph without control flow is being made.

    Else absent views stay out of the batch statistics and cost nothing; their features are never looked at.
    """
    return torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export() or bool(present.all())


def _nothing(image: Tensor, channels: tuple[int, ...]) -> list[Tensor]:
    """Zeros in place of features at strides 4 to 32 of an image (B, C, H, W)."""
    batch, _, rows, columns = image.shape
    return [
        image.new_zeros((batch, width, rows // stride, columns // stride))
        for width, stride in zip(channels, STRIDES, strict=True)
    ]


def _spread(feature: Tensor, rows: Tensor, batch: int) -> Tensor:
    """Rows of a sub-batch at their places in the batch, zeros elsewhere."""
    full = feature.new_zeros((batch, *feature.shape[1:]))
    return full.index_copy(0, rows, feature)


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Zeros at the right and bottom up to a multiple."""
    below, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return functional.pad(x, (0, right, 0, below)) if below or right else x


def _gather(logits: Tensor, cell: Tensor) -> Tensor:
    """Logits (B, K, h, w) at cells (B, N) -> (B, N, K)."""
    index = cell.clamp(min=0)[:, None, :].expand(-1, logits.shape[1], -1)
    return torch.gather(logits.flatten(2), 2, index).transpose(1, 2)
