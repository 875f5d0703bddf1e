"""What a torch network costs: parameters, multiply-accumulates, and which layers its time goes to."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

RUNS = 10
"""Timed passes of a profile or a batch; the median counts."""


@dataclass(frozen=True)
class Layer:
    """One layer's own share of a forward pass, without the layers inside it.

    Attributes:
        name: path of the layer in the network.
        kind: its class.
        ms: median milliseconds.
        macs: multiply-accumulates of its convolutions and matrix products.
    """

    name: str
    kind: str
    ms: float
    macs: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, with the multiply-accumulates a second that it reaches."""
        return asdict(self) | {"macs_per_s": 1e3 * self.macs / self.ms if self.ms else None}


def count_parameters(network: "nn.Module") -> int:
    """How many learned numbers labelling needs: those of the heads that only training uses are left out."""
    from fusionseg.models.segmenter import AUXILIARY

    return sum(tensor.numel() for name, tensor in network.named_parameters() if not name.startswith(AUXILIARY))


def count_macs(forward: Callable[[], object]) -> int:
    """Multiply-accumulates of convolutions and matrix products in one pass of a torch network, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        forward()
    return int(counter.get_total_flops()) // 2


def profile(network: "nn.Module", forward: Callable[[], object]) -> list[Layer]:
    """Every layer of a torch network with its own time and work, the slowest first.

    Args:
        network: whose layers are watched.
        forward: one pass of it on a real input.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        flops = _own_shares(network, forward, counter.get_total_flops)
    runs = [_own_shares(network, forward, perf_counter) for _ in range(RUNS)]
    layers = [
        Layer(
            name, type(module).__name__, 1e3 * float(np.median([run[module] for run in runs])), int(flops[module]) // 2
        )
        for name, module in network.named_modules()
        if module in flops
    ]
    return sorted(layers, key=lambda layer: -layer.ms)


def _own_shares(
    network: "nn.Module", forward: Callable[[], object], clock: Callable[[], float]
) -> dict["nn.Module", float]:
    """What one pass adds to a clock by module, without what the modules inside it add."""
    spent: dict[nn.Module, float] = {}
    open_calls: list[tuple[float, float]] = []

    def enter(module: "nn.Module", inputs: Any) -> None:
        open_calls.append((clock(), 0))

    def leave(module: "nn.Module", inputs: Any, output: Any) -> None:
        began, inside = open_calls.pop()
        took = clock() - began
        spent[module] = spent.get(module, 0) + took - inside
        if open_calls:
            above, so_far = open_calls[-1]
            open_calls[-1] = (above, so_far + took)

    handles = []
    for module in network.modules():
        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return spent
