"""The optimiser, its learning-rate schedule and the moving average of the weights."""

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import nn

from fusionseg.config import OptimizerConfig

M = TypeVar("M", bound=nn.Module)


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum; vectors and scalars (norms, biases) are not decayed.

    Raises:
        ValueError: an optimiser of another name.
    """
    weights = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    raise ValueError(f"optimizer.name is {config.name!r}; choose adamw or sgd")


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of step ``step`` (from 0) of ``steps``: a linear warm-up, then cosine or poly decay to 0.

    Raises:
        ValueError: a schedule of another name.
    """
    if config.schedule not in ("cosine", "poly"):
        raise ValueError(f"optimizer.schedule is {config.schedule!r}; choose cosine or poly")
    # a short run warms up for at most a tenth of it
    warmup = min(config.warmup_steps, steps // 10)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    if config.schedule == "poly":
        return config.lr * math.pow(1.0 - done, config.poly_power)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * done))


class MovingAverage(Generic[M]):
    """Exponential moving average of weights and float buffers (batch norm's statistics), as in timm's ModelEma.

    The first steps average over what there is: decay min(``decay``, (1 + t) / (10 + t)) at update t.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.decay = decay
        self.model: M = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        own, new = self.model.state_dict(), model.state_dict()
        floats = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([own[n] for n in floats], [new[n] for n in floats], 1.0 - decay)
        for name, tensor in own.items():
            if not tensor.is_floating_point():
                tensor.copy_(new[name])
