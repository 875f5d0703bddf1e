"""All that a stopped run needs to go on as if it had not stopped, in one file, so that no pair of files can tear."""

import io
import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusionseg.config import TrainConfig, to_dict
from fusionseg.engine.optimizer import MovingAverage
from fusionseg.files import atomic_write

FORMAT = "fusionseg.state.1"
# what may change between two halves of a run without changing its result (or is the person's own concern, as a path)
FREE = (
    "device",
    "threads",
    "validate_every",
    "checkpoint_every_steps",
    "data.cache",
    "data.workers",
    "data.val",
    "init",
)


@dataclass
class RunProgress:
    """How far a run is.

    Attributes:
        epoch: the epoch that is running (from 0).
        epoch_step: optimiser steps done in it.
        step: optimiser steps done in all.
        loss_sum: summed loss of the epoch's steps.
        best: the best validation score so far, or None.
        history: one row per finished epoch, the content of ``log.jsonl``.
    """

    epoch: int = 0
    epoch_step: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(
    path: Path,
    *,
    config: TrainConfig,
    progress: RunProgress,
    model: nn.Module,
    average: MovingAverage[Any],
    optimizer: torch.optim.Optimizer,
    distiller: nn.Module | None = None,
) -> None:
    """Write everything that changes while training."""
    content = {
        "format": FORMAT,
        "config": json.dumps(to_dict(config)),
        "progress": json.dumps(asdict(progress)),
        "model": model.state_dict(),
        "average": average.model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "distiller": {} if distiller is None else distiller.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def load_state(
    path: Path,
    *,
    config: TrainConfig,
    model: nn.Module,
    average: MovingAverage[Any],
    optimizer: torch.optim.Optimizer,
    distiller: nn.Module | None = None,
) -> RunProgress:
    """Put everything back in place.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a state of this project, truncated, or of a run with another configuration.
    """
    content = _read(path, config)
    model.load_state_dict(content["model"])
    average.model.load_state_dict(content["average"])
    optimizer.load_state_dict(content["optimizer"])
    if distiller is not None:
        distiller.load_state_dict(content["distiller"])
    torch.set_rng_state(content["random"])
    if content["random_cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(content["random_cuda"])
    return RunProgress(**json.loads(content["progress"]))


def _read(path: Path, config: TrainConfig) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no state of a run here; start without --resume")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: not a complete training state ({reason}); start again without --resume in another folder"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not a training state of this version (expected {FORMAT!r}); start again")
    changed = _difference(json.loads(content["config"]), to_dict(config))
    if changed:
        raise ValueError(f"{path}: the run was started with another configuration ({changed}); give it the same again")
    return content


def finished(path: Path, config: TrainConfig) -> bool:
    """Whether the state is that of a run of this configuration that has come to its end.

    Raises:
        FileNotFoundError, ValueError: as ``load_state``.
    """
    progress = RunProgress(**json.loads(_read(path, config)["progress"]))
    return progress.epoch >= config.epochs


def _difference(old: Any, new: Any, where: str = "") -> str | None:
    """The first setting that differs and matters, as ``key was x, is y``."""
    if where in FREE or where.endswith(".path"):
        return None
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new)):
            found = _difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return next(filter(None, (_difference(a, b, f"{where}.{i}") for i, (a, b) in pairs)), None)
    return None if old == new else f"{where} was {old!r}, is {new!r}"
