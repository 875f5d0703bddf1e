"""Frozen configuration dataclasses, strict YAML load and save, ``key=value`` overrides."""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from fusionseg.files import atomic_write


def _check(config: Any, low: float, high: float, *names: str, above: bool = False) -> None:
    """Every number of the named fields lies in [low, high], or in (low, high] with ``above``; None passes.

    Raises:
        ValueError: the field, its value and the range.
    """
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is None:
                continue
            inside = low < number <= high if above else low <= number <= high
            if not inside or not math.isfinite(number):
                least = f"a finite number {'above' if above else 'of at least'} {low}"
                rule = least if high == math.inf else f"{least} and at most {high}"
                raise ValueError(f"{name} is {value!r}; expected {rule}")


@dataclass(frozen=True)
class SourceConfig:
    """One log or data set to train on or evaluate.

    Attributes:
        path: folder, or a pattern (``data/drives/*``), one data set per match; ``$VARIABLES`` and ``~`` are expanded.
        format: loader name, or None to recognise it from the layout.
        frames: half-open range ``A:B`` in the log's own frame numbers, or None for all.
        cameras: camera names, or empty for all.
        split: of data sets that have splits (``train``, ``val``), or None.
        weight: how often its views are drawn relative to their number.
        options: further arguments of the loader.
    """

    path: str
    format: str | None = None
    frames: str | None = None
    cameras: tuple[str, ...] = ()
    split: str | None = None
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self, 0, math.inf, "weight", above=True)


@dataclass(frozen=True)
class DataConfig:
    """What is read and at which size.

    Attributes:
        train, val: logs and data sets.
        size: (height, width) of the network input in pixels.
        classes: ``driving12``, ``native``, or a YAML file with a table of one's own.
        cache: folder of prepared views; in the run's folder if left out.
        max_points: points of a view that a training step uses; the raster is made of all.
        workers: threads that prepare batches ahead.
        strict: stop at a frame that cannot be read instead of leaving it out.
        sky_from_lidar: views with labels for points alone learn sky where the LiDAR looked up and nothing came back.
    """

    train: tuple[SourceConfig, ...] = ()
    val: tuple[SourceConfig, ...] = ()
    size: tuple[int, int] = (360, 640)
    classes: str = "driving12"
    cache: str | None = None
    max_points: int = 16384
    workers: int = 0
    strict: bool = True
    sky_from_lidar: bool = True

    def __post_init__(self) -> None:
        _check(self, 1, math.inf, "size", "max_points")
        _check(self, 0, math.inf, "workers")


@dataclass(frozen=True)
class ModelConfig:
    """The network; only ``models/build.py`` reads it.

    Attributes:
        image_encoder: a timm model name that offers ``features_only``.
        pretrained: load timm's weights (needs the network).
        lidar_channels: channels of the LiDAR encoder at strides 4, 8, 16, 32.
        attention: ``linear`` or ``full`` at the strides of ``fusion_strides``.
        fusion_strides: strides at which cross-attention runs.
        mix: ``gate`` or ``sum`` of both sensors at the other strides.
        fusion_channels: channels of the fused features at strides 4, 8, 16, 32.
        head_channels: width of the top-down head.
        point_head: predict points from their own features too, not from their cell alone.
        point_channels: width of the point head.
        auxiliary: heads on each modality alone, in training only.
        raster_stride: stride of the LiDAR raster.
        lidar_depth: residual blocks of the LiDAR encoder at each stride.
        lidar_stem: side of the window of the LiDAR encoder's first convolution, cells.
        activation: ``hardswish``, or ``relu``, which is faster in exported runtimes; the image encoder has its own.
    """

    image_encoder: str = "mobilenetv3_small_100"
    pretrained: bool = False
    lidar_channels: tuple[int, int, int, int] = (32, 48, 64, 96)
    attention: str = "linear"
    fusion_strides: tuple[int, ...] = (8, 16)
    mix: str = "gate"
    fusion_channels: tuple[int, int, int, int] = (32, 48, 64, 96)
    head_channels: int = 64
    point_head: bool = True
    point_channels: int = 64
    auxiliary: bool = True
    raster_stride: int = 4
    lidar_depth: int = 2
    lidar_stem: int = 5
    activation: str = "hardswish"

    def __post_init__(self) -> None:
        _check(self, 1, math.inf, "lidar_channels", "fusion_strides", "fusion_channels", "head_channels")
        _check(self, 1, math.inf, "point_channels", "raster_stride", "lidar_stem")
        _check(self, 0, math.inf, "lidar_depth")


@dataclass(frozen=True)
class AugmentConfig:
    """Probabilities and ranges of the joint augmentation; angles in degrees.

    ``calibration_jitter_deg`` turns the points about each camera axis in a ``calibration_jitter_share`` of the views;
    ``thin_lidar`` is the share of views whose LiDAR loses bands of beams.
    """

    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    rotation_deg: float = 0.0
    photometric: float = 0.5
    point_dropout: float = 0.0
    lidar_jitter_m: float = 0.0
    drop_image: float = 0.15
    drop_lidar: float = 0.25
    calibration_jitter_deg: float = 0.0
    calibration_jitter_share: float = 0.5
    thin_lidar: float = 0.0

    def __post_init__(self) -> None:
        _check(self, 0, 1, "flip", "photometric", "point_dropout", "drop_image", "drop_lidar")
        _check(self, 0, 1, "calibration_jitter_share", "thin_lidar")
        _check(self, 0, math.inf, "rotation_deg", "lidar_jitter_m", "calibration_jitter_deg")
        _check(self, 0, math.inf, "scale", above=True)
        if self.crop is not None:
            _check(self, 1, math.inf, "crop")
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale is {self.scale}; expected the smaller factor first")
        if self.drop_image + self.drop_lidar > 1:
            total = f"{self.drop_image} and {self.drop_lidar}"
            raise ValueError(
                f"drop_image and drop_lidar are {total}; expected a sum of at most 1, as one view keeps a sensor"
            )


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms; 0 leaves a term out.

    ``pixel_loss`` is ``ce``, ``ohem``, ``focal``, ``dice`` or ``jaccard``; ``class_balance`` is the power of the
    inverse class frequency (0 is none).
    """

    pixel_loss: str = "ce"
    pixel: float = 1.0
    point: float = 1.0
    lovasz: float = 0.5
    auxiliary: float = 0.3
    perception: float = 0.0
    boundary: float = 0.0
    class_balance: float = 0.5
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        weights = ("pixel", "point", "lovasz", "auxiliary", "perception", "boundary", "class_balance")
        _check(self, 0, math.inf, *weights)
        _check(self, 0, 1, "label_smoothing")


@dataclass(frozen=True)
class DistillConfig:
    """A teacher, and how much the student heeds it; 0 leaves a method out.

    Attributes:
        teachers: model files or shipped names, or ``module:function`` for a teacher of one's own; several are averaged.
        dist, kl: relations (DIST) and Kullback-Leibler divergence of the logits, at every cell of the image.
        point: weight of the same two at every point.
        cwd: channel-wise distillation of the fused feature at stride 8, through a 1x1 adapter.
        cirkd: relations between the places of all images of a batch, of that feature.
        attention: attention transfer of that feature.
        temperature: of ``dist`` and ``kl``.
        any_sensor: teach views whose camera or LiDAR was taken from the student too; the teacher always sees both.
        gaps: teach the pixels of a labelled view that carry no label too. A teacher that learnt from the same points is
            arbitrary there (between the rings, beyond the range); one that learnt from dense labels is not.
        flip: the teacher's answer is the mean over the view and its mirror image.
        confidence: what the teacher must give its class, to be heeded where there are no labels.
        unlabelled: logs without labels (or whose labels are not to be used).
    """

    teachers: tuple[str, ...] = ()
    dist: float = 1.0
    kl: float = 0.0
    point: float = 1.0
    cwd: float = 0.0
    cirkd: float = 0.0
    attention: float = 0.0
    temperature: float = 1.0
    any_sensor: bool = True
    gaps: bool = True
    flip: bool = True
    confidence: float = 0.7
    unlabelled: tuple[SourceConfig, ...] = ()

    def __post_init__(self) -> None:
        _check(self, 0, math.inf, "dist", "kl", "point", "cwd", "cirkd", "attention")
        _check(self, 0, math.inf, "temperature", above=True)
        _check(self, 0, 1, "confidence")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its schedule; ``schedule`` is ``cosine`` or ``poly``, ``name`` is ``adamw`` or ``sgd``."""

    name: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.02
    momentum: float = 0.9
    warmup_steps: int = 100
    schedule: str = "cosine"
    poly_power: float = 0.9
    clip_norm: float = 5.0
    ema_decay: float = 0.99

    def __post_init__(self) -> None:
        _check(self, 0, math.inf, "lr", above=True)
        _check(self, 0, math.inf, "weight_decay", "warmup_steps", "poly_power", "clip_norm")
        _check(self, 0, 1, "momentum", "ema_decay")


@dataclass(frozen=True)
class TrainConfig:
    """One experiment.

    ``quantize`` trains with the rounding of an int8 export, for networks that lose too much by it.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distill: DistillConfig | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: int = 40
    batch_size: int = 6
    accumulate: int = 1
    seed: int = 0
    amp: bool = False
    quantize: bool = False
    device: str = "auto"
    threads: int | None = None
    init: str | None = None
    validate_every: int = 10
    checkpoint_every_steps: int = 50

    def __post_init__(self) -> None:
        _check(self, 1, math.inf, "epochs", "batch_size", "accumulate", "threads")
        _check(self, 0, math.inf, "seed", "validate_every", "checkpoint_every_steps")


T = TypeVar("T")


def _convert(kind: Any, value: Any, where: str) -> Any:
    """``value`` (parsed YAML) as the annotated type, or a ValueError that names the key."""
    origin = typing.get_origin(kind)
    args = typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        return from_dict(typing.cast(type[Any], kind), value, where)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueError(f"{where} is {value!r}; expected a list")
        kinds = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise ValueError(f"{where} has {len(value)} entries; expected {len(kinds)}")
        return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}; expected a mapping")
        return dict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where} is {value!r}; expected {'a number' if kind is float else kind.__name__}")
    return value


def from_dict(kind: type[T], values: Any, where: str = "") -> T:
    """A configuration dataclass from a nested mapping.

    Raises:
        ValueError: an unknown key (with the nearest known one) or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or kind.__name__} is {values!r}; expected a mapping of keys to values")
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        name = f"{where}.{key}" if where else str(key)
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
            raise ValueError(f"unknown key {name!r}; {hint}")
        arguments[key] = _convert(hints[key], value, name)
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}.{error}" if where else str(error)) from error
    except TypeError as error:
        raise ValueError(f"{where or kind.__name__}: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict of a configuration dataclass; tuples become lists."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def load_config(path: str | Path, overrides: Sequence[str] = (), kind: type[T] = TrainConfig) -> T:  # type: ignore[assignment]
    """The experiment of a YAML file, with ``a.b=value`` overrides (values are YAML).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, an unknown key, a value of the wrong type, or an override without ``=``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such config file; name one of configs/*.yaml or your own")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text ({error}); expected a YAML file in UTF-8") from error
    values = _parse(text, str(path))
    values = {} if values is None else values
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"override {override!r} has no '='; write key=value, as in epochs=20")
        _set(values, key.strip().split("."), _parse(text, f"override {override!r}"), key)
    try:
        return from_dict(kind, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class _Loader(yaml.SafeLoader):
    """Safe, with YAML 1.2's numbers: 2e-3 is one, and the frame range 48:56 is none (YAML 1.1 counts in base 60)."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in (
    ("int", r"[-+]?[0-9]+$"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list("-+.0123456789"))


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        line = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(f"{where}: not valid YAML{line} ({problem})") from error


def _set(values: Any, keys: list[str], value: Any, name: str) -> None:
    """Set a nested key in place; a number steps into a list."""
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(values, list):
            if not key.isdigit() or int(key) >= len(values):
                raise ValueError(f"override {name!r}: {key!r} is no index of a list of {len(values)}")
            step: Any = int(key)
        elif isinstance(values, dict):
            step = key
            values.setdefault(key, {})
        else:
            raise ValueError(f"override {name!r}: {'.'.join(keys[:position])!r} is a single value")
        if last:
            values[step] = value
        else:
            values = values[step]


def save_config(config: Any, path: str | Path) -> None:
    """Write a configuration as YAML that ``load_config`` reads back."""
    with atomic_write(Path(path)) as file:
        file.write(yaml.safe_dump(to_dict(config), sort_keys=False).encode())
