"""From a ModelConfig to a network; the only reader of ModelConfig."""

from torch import nn

from fusionseg.config import ModelConfig
from fusionseg.models.fusion import HEADS, MIXES, Fusion, SumFusion
from fusionseg.models.head import PointHead, TopDownHead
from fusionseg.models.image_encoder import STRIDES, ImageEncoder
from fusionseg.models.layers import ACTIVATIONS
from fusionseg.models.lidar_encoder import LidarEncoder
from fusionseg.models.segmenter import Segmenter


def build_model(config: ModelConfig, *, classes: int, raster_channels: int, point_features: int) -> Segmenter:
    """A freshly initialised network for ``classes`` classes.

    Raises:
        ValueError: a setting that no network can have; names it.
    """
    unknown = set(config.fusion_strides) - set(STRIDES)
    if unknown:
        raise ValueError(f"model.fusion_strides holds {sorted(unknown)}; choose among {STRIDES}")
    for stride, channels in zip(STRIDES, config.fusion_channels, strict=True):
        if stride in config.fusion_strides and channels % HEADS:
            raise ValueError(
                f"model.fusion_channels is {config.fusion_channels}; {channels} at stride {stride} is no multiple of "
                f"the {HEADS} attention heads, choose {channels + -channels % HEADS}"
            )
    if config.activation not in ACTIVATIONS:
        raise ValueError(f"model.activation is {config.activation!r}; choose one of {', '.join(ACTIVATIONS)}")
    if config.mix not in MIXES:
        raise ValueError(f"model.mix is {config.mix!r}; choose one of {', '.join(MIXES)}")
    if config.lidar_stem % 2 == 0:
        raise ValueError(f"model.lidar_stem is {config.lidar_stem}; a window has an odd side, choose 3, 5 or 7")
    image_encoder = ImageEncoder(name=config.image_encoder, pretrained=config.pretrained)
    lidar_encoder = LidarEncoder(
        in_channels=raster_channels,
        channels=config.lidar_channels,
        raster_stride=config.raster_stride,
        depth=config.lidar_depth,
        stem_kernel=config.lidar_stem,
        act=config.activation,
    )
    fusion: list[nn.Module] = []
    for i, stride in enumerate(STRIDES):
        widths = {
            "image_channels": image_encoder.channels[i],
            "lidar_channels": config.lidar_channels[i],
            "channels": config.fusion_channels[i],
        }
        attention = config.attention if stride in config.fusion_strides else None
        if attention is None and config.mix == "sum":
            fusion.append(SumFusion(**widths, act=config.activation))
        else:
            fusion.append(Fusion(**widths, attention=attention, act=config.activation))
    head = TopDownHead(
        in_channels=config.fusion_channels, channels=config.head_channels, classes=classes, act=config.activation
    )
    point_head = PointHead(
        in_channels=config.head_channels,
        point_features=point_features,
        channels=config.point_channels,
        classes=classes,
    )

    def auxiliary(channels: tuple[int, ...]) -> nn.Module | None:
        if not config.auxiliary:
            return None
        return TopDownHead(
            in_channels=channels, channels=config.head_channels // 2, classes=classes, act=config.activation
        )

    model = Segmenter(
        image_encoder=image_encoder,
        lidar_encoder=lidar_encoder,
        fusion=fusion,
        head=head,
        point_head=point_head if config.point_head else None,
        image_head=auxiliary(image_encoder.channels),
        lidar_head=auxiliary(config.lidar_channels),
        raster_stride=config.raster_stride,
    )
    return model
