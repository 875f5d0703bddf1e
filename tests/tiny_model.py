"""A tiny network with random weights in a real model file, for tests of what is around the network."""

from pathlib import Path

import torch

from fusionseg.config import DataConfig, ModelConfig, TrainConfig
from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS
from fusionseg.labels import DRIVING12, ClassTable
from fusionseg.models.build import build_model
from fusionseg.models.checkpoint import save_checkpoint

SMALL = (8, 8, 8, 8)


def save_tiny_model(
    path: Path,
    size: tuple[int, int] = (64, 96),
    classes: str = "driving12",
    table: ClassTable = DRIVING12,
    image_encoder: str = "mobilenetv3_small_050",
) -> Path:
    torch.manual_seed(0)
    config = TrainConfig(
        data=DataConfig(size=size, classes=classes),
        model=ModelConfig(
            image_encoder=image_encoder,
            lidar_channels=SMALL,
            fusion_channels=SMALL,
            head_channels=8,
            point_channels=8,
            auxiliary=False,
        ),
    )
    model = build_model(
        config.model, classes=len(table), raster_channels=len(RASTER_CHANNELS), point_features=len(POINT_FEATURES)
    )
    save_checkpoint(path, model, config, table)
    return path
