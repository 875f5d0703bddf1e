"""The image encoder: any timm backbone that offers features at strides 4, 8, 16 and 32."""

import difflib
from typing import Any

import timm
import torch
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
# ImageNet statistics of RGB in 0..255, which timm's weights expect
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class ImageEncoder(nn.Module):
    """Features of an image at strides 4, 8, 16, 32.

    Args:
        name: a timm model that offers ``features_only``.
        pretrained: load timm's weights (needs the network).

    Raises:
        ValueError: timm has no such model, or it has no features at one of the strides.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, name: str, pretrained: bool = False) -> None:
        super().__init__()
        try:
            body: Any = timm.create_model(name, pretrained=pretrained, features_only=True)
        except (RuntimeError, AttributeError) as error:
            near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=5)) or "none"
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"image encoder {name!r} cannot be made by timm ({reason}); close names: {near}"
            ) from error
        reductions = body.feature_info.reduction()
        if not set(STRIDES) <= set(reductions):
            raise ValueError(
                f"image encoder {name!r} has features at strides {reductions}; expected {STRIDES} among them"
            )
        self.picked = tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES)
        self.channels = tuple(body.feature_info.channels()[i] for i in self.picked)
        self.body = body
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) RGB in 0..255, H and W multiples of 32 -> four features."""
        features = self.body((image - self.mean) / self.std)
        return [features[i] for i in self.picked]
