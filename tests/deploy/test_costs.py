import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from fusionseg.config import ModelConfig
from fusionseg.deploy.costs import count_macs, count_parameters, profile
from fusionseg.models.build import build_model


class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.01)
        return x


class Network(nn.Module):
    """A 3x3 convolution of 4 to 8 channels, then a sleep and a product of its own."""

    def __init__(self):
        super().__init__()
        # a list is no layer of its own: what is in it must be counted once
        self.parts = nn.ModuleList([nn.Conv2d(4, 8, 3, padding=1, bias=False), Slow()])

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x.flatten(2) @ x.flatten(2).transpose(1, 2)


def test_parameters_and_multiply_accumulates_of_a_known_network():
    network, x = Network(), torch.zeros(1, 4, 10, 20)
    assert count_parameters(network) == 4 * 8 * 9
    assert count_macs(lambda: network(x)) == 200 * 4 * 8 * 9 + 8 * 8 * 200


def test_a_layer_owns_what_it_does_itself():
    network, x = Network(), torch.zeros(1, 4, 10, 20)
    layers = profile(network, lambda: network(x))
    by_name = {layer.name: layer for layer in layers}
    assert set(by_name) == {"", "parts.0", "parts.1"}
    assert layers[0].name == "parts.1"
    assert layers[0].ms >= 10
    assert by_name["parts.0"].macs == 200 * 4 * 8 * 9
    assert by_name[""].macs == 8 * 8 * 200
    # the sleep inside is not the network's own time
    assert by_name[""].ms < layers[0].ms
    one = by_name["parts.0"].as_dict()
    assert one["macs_per_s"] * one["ms"] / 1e3 == pytest.approx(one["macs"])


def test_heads_that_only_training_uses_are_not_counted():
    narrow = ModelConfig(image_encoder="mobilenetv3_small_050", pretrained=False)
    trained, bare = (
        build_model(replace(narrow, auxiliary=auxiliary), classes=12, raster_channels=8, point_features=6)
        for auxiliary in (True, False)
    )
    assert sum(map(torch.numel, trained.parameters())) > sum(map(torch.numel, bare.parameters()))
    assert count_parameters(trained) == count_parameters(bare) == sum(map(torch.numel, bare.parameters()))
