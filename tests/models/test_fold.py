"""Without batch norms a network says the same."""

import pytest
import torch
from test_segmenter import FAST, SMALL, build, inputs
from torch import nn

from fusionseg.config import ModelConfig
from fusionseg.models.fold import folded
from fusionseg.models.segmenter import Segmenter


def trained(config: ModelConfig) -> Segmenter:
    """A network whose norms have statistics and gains of their own."""
    torch.manual_seed(1)
    model = build.__wrapped__(config)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.5, 2.0),
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.2, 0.2),
            ):
                nn.init.uniform_(tensor, low, high)
    return model


@pytest.mark.parametrize("config", [SMALL, FAST])
@pytest.mark.parametrize("present", [[1, 1], [1, 0], [0, 1]])
def test_it_says_the_same_with_fewer_parts(config: ModelConfig, present: list[int]) -> None:
    model = trained(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    slim = folded(model)
    arguments = inputs(45, 61)
    arguments[2] = torch.tensor([present, [1, 1]]).float()
    with torch.inference_mode():
        for one, two in zip(model(*arguments)[:2], slim(*arguments)[:2], strict=True):
            torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)
    # the auxiliary heads never run in inference, and the LiDAR stem divides before its norm
    left = [
        name
        for name, layer in slim.named_modules()
        if isinstance(layer, nn.BatchNorm2d) and not name.startswith(("image_head", "lidar_head"))
    ]
    assert left == ["lidar_encoder.stem.after.0"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_norm_that_is_not_alone_in_using_its_convolution_stays() -> None:
    model = trained(SMALL)
    block = model.head.context
    first, norm = block.depthwise[0], block.depthwise[1]

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = first, norm

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return y + self.norm(y)

    block.depthwise = nn.Sequential(Both(), nn.Hardswish())
    assert folded(model) is model
