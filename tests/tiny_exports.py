"""A tiny network that names many classes, exported to each runtime from a graph that is traced once."""

from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import torch
from tiny_model import save_tiny_model
from torch import nn

from fusionseg.data.log import Log
from fusionseg.deploy import export as exporting
from fusionseg.deploy.export import export
from fusionseg.deploy.parity import pick_views
from fusionseg.deploy.runtime import load
from fusionseg.models.checkpoint import load_checkpoint, save_checkpoint

SIZE = (60, 92)
"""Padded to 64 x 96: no side is a multiple of 32."""


class Exports(NamedTuple):
    """A checkpoint and the folders it was exported to: target -> folder."""

    checkpoint: Path
    folders: dict[str, Path]


def fit_to(network: nn.Module, arrays: list[torch.Tensor]) -> None:
    """Statistics and logits of a random network as if trained on those inputs, so that it names many classes."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    image, *rest = arrays
    with torch.no_grad():
        network.train()(image.permute(0, 3, 1, 2), *rest)
        logits = network.eval()(image.permute(0, 3, 1, 2), *rest).pixels
        last = [layer for layer in network.head.modules() if isinstance(layer, nn.Conv2d)][-1]  # type: ignore[union-attr]
        std, mean = torch.std_mean(logits, dim=(0, 2, 3))
        last.weight /= std[:, None, None, None]
        assert last.bias is not None
        last.bias.copy_((last.bias - mean) / std)


def make_exports(root: Path, log: Log) -> Exports:
    """Of a single input size, ``SIZE``, for each runtime."""
    path = save_tiny_model(root / "tiny.safetensors", SIZE, image_encoder="test_efficientnet")
    model, checkpoint = load(path), load_checkpoint(path)
    stacked = model.session.inputs(pick_views(log, model, 2))
    arrays = [stacked.image, stacked.lidar, stacked.present, stacked.points, stacked.cell]
    fit_to(checkpoint.model, [torch.from_numpy(array) for array in arrays])
    save_checkpoint(path, checkpoint.model, checkpoint.config, checkpoint.table)
    export(path, root / "onnx", log, frames=log.frames[:3], size=SIZE)
    graph = onnx.load(root / "onnx" / "model.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "trace", lambda *_: graph)
        export(path, root / "openvino", log, frames=log.frames[:3], to="openvino", size=SIZE)
    return Exports(path, {"onnx": root / "onnx", "openvino": root / "openvino"})
