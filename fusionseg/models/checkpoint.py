"""The model file: safetensors that carry their config and class table, written atomically."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

import fusionseg
from fusionseg.config import TrainConfig, from_dict, to_dict
from fusionseg.files import atomic_write
from fusionseg.labels import ClassTable
from fusionseg.models.build import build_model
from fusionseg.models.segmenter import Segmenter

FORMAT = "fusionseg.model.1"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model read from its file.

    Attributes:
        model: in evaluation mode, float32.
        config: of the run that made it.
        table: the classes it predicts.
        metadata: everything else the file says about itself (``version``, ``epoch``, ``miou`` and the like).
    """

    model: Segmenter
    config: TrainConfig
    table: ClassTable
    metadata: dict[str, str]


def save_checkpoint(
    path: str | Path,
    model: Segmenter,
    config: TrainConfig,
    table: ClassTable,
    extra: Mapping[str, str] | None = None,
    *,
    half: bool = False,
) -> None:
    """Write the model with all that is needed to build it again; ``half`` stores floats in 16 bits.

    Raises:
        ValueError: ``extra`` uses a key of the format itself, or the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "version": fusionseg.__version__,
        "config": json.dumps(to_dict(config)),
        "classes": json.dumps(table.to_dict()),
        "inputs": json.dumps(model_inputs(model)),
    }
    taken = sorted(set(metadata) & set(extra or {}))
    if taken:
        raise ValueError(f"metadata key {taken[0]!r} belongs to the format of a model file; choose another name")
    tensors = {name: _stored(tensor, half) for name, tensor in model.state_dict().items()}
    content = save(tensors, metadata | dict(extra or {}))
    with atomic_write(Path(path)) as file:
        file.write(content)


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of a file, built from the config inside it; no pretrained weights are fetched.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a model file of this project, truncated, or its weights do not fit its config.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    try:
        config = from_dict(TrainConfig, json.loads(metadata["config"]))
        table = ClassTable.from_dict(json.loads(metadata["classes"]))
        inputs = {name: int(count) for name, count in json.loads(metadata["inputs"]).items()}
        model = build_model(_without_pretrained(config).model, classes=len(table), **inputs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: its header does not describe a model ({reason}); save it again") from error
    problem = _mismatch(model.state_dict(), tensors)
    if problem:
        raise ValueError(f"{path}: the weights do not fit the config inside the file: {problem}")
    model.load_state_dict(tensors)
    rest = {key: value for key, value in metadata.items() if key not in ("config", "classes", "inputs")}
    return Checkpoint(model.eval().to(device), config, table, rest)


def load_fitting(model: nn.Module, path: str | Path) -> list[str]:
    """Fill ``model`` with every tensor of a file whose name and shape fit; the names of the model's others, in order.

    This is how fine-tuning starts (``init=MODEL``): another class table changes the heads' last layers only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a model file, or nothing in it fits.
    """
    path = Path(path)
    tensors, _ = _read(path)
    own = model.state_dict()
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape}
    if not any(t.dim() > 1 for t in fitting.values()):
        raise ValueError(f"{path}: no weight fits this model ({_mismatch(own, tensors)}); take the config of that file")
    model.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def model_inputs(model: Segmenter) -> dict[str, int]:
    """How many raster channels and point features the model takes: arguments of ``build_model``."""
    features = 0
    if model.point_head is not None:
        first = model.point_head.point[0]
        assert isinstance(first, nn.Linear)
        # the two presence flags are the head's own
        features = first.in_features - 2
    return {"raster_channels": model.lidar_encoder.stem.conv.in_channels, "point_features": features}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors (floats in 32 bits) and the metadata of a file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file; name a .safetensors file that training wrote")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: not a complete safetensors file ({error}); it is truncated or of another kind, copy it again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: a safetensors file, but not a model of fusionseg (format {metadata.get('format')!r}; "
            f"expected {FORMAT!r}); name a file that training wrote"
        )
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}, metadata


def _mismatch(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str | None:
    """The first difference of names or shapes, in the model's order."""
    for name, tensor in own.items():
        if name not in tensors:
            return f"{name} is missing"
        if tensors[name].shape != tensor.shape:
            return f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
    unknown = [name for name in tensors if name not in own]
    return f"{unknown[0]} is not part of the model" if unknown else None


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()


def _without_pretrained(config: TrainConfig) -> TrainConfig:
    values = to_dict(config)
    values["model"]["pretrained"] = False
    return from_dict(TrainConfig, values)
