"""A training run small enough for a test."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fusionseg.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SourceConfig,
    TrainConfig,
    load_config,
)
from fusionseg.engine.train import train

MODEL = ModelConfig(
    image_encoder="mobilenetv3_small_050",
    lidar_channels=(8, 8, 16, 16),
    fusion_channels=(8, 8, 16, 16),
    head_channels=16,
    point_channels=16,
)


def tiny_config(log: Path, cache: Path, **changes: Any) -> TrainConfig:
    """A log of twelve views, six steps an epoch."""
    config = TrainConfig(
        data=DataConfig(train=(SourceConfig(str(log)),), size=(64, 96), cache=str(cache), max_points=256),
        model=MODEL,
        augment=AugmentConfig(drop_image=0.3, drop_lidar=0.3, point_dropout=0.2, scale=(1.0, 1.2)),
        loss=LossConfig(perception=0.1),
        optimizer=OptimizerConfig(warmup_steps=2),
        epochs=2,
        batch_size=2,
        threads=1,
        device="cpu",
        checkpoint_every_steps=1,
        validate_every=0,
    )
    return replace(config, **changes)


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a model file."""
    return load_file(path)


def differing(first: Path, second: Path, names: Sequence[str] | None = None) -> list[str]:
    """Names of the tensors that are not bit for bit the same in two model files."""
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    return [name for name in names or one if not torch.equal(one[name], two[name])]


if __name__ == "__main__":
    # a run of its own process: tiny.py CONFIG OUT [resume]
    train(load_config(sys.argv[1]), Path(sys.argv[2]), resume="resume" in sys.argv[3:])
