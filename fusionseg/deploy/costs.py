"""What a network costs: parameters, multiply-accumulates, and which layers its time goes to."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionseg.data.prepare import View, project_sample, with_image
from fusionseg.deploy.result import ViewResult
from fusionseg.deploy.runtime import Model
from fusionseg.models.shipped import find_model
from fusionseg.sample import Sample

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


def model_costs(model: Model, where: str, sample: Sample, size: tuple[int, int]) -> dict[str, int | None]:
    """``params``, ``macs`` of one view at an input size and ``bytes`` of the file of a model of ours."""
    facts: dict[str, int | None] = {"params": None, "macs": None, "bytes": find_model(where).stat().st_size}
    network = _torch_network(model)
    if network is not None:
        inputs = model.session.inputs([_view(sample, size)])
        facts |= {"params": count_parameters(network), "macs": count_macs(lambda: model.session.forward(inputs))}
    return facts


def profile_model(model: Model, sample: Sample, size: tuple[int, int]) -> list[Layer] | None:
    """The layers of a model of ours on one view, the slowest first; None where its runtime does not show them."""
    network = _torch_network(model)
    if network is None:
        return None
    inputs = model.session.inputs([_view(sample, size)])
    return profile(network, lambda: model.session.forward(inputs))


def throughput(model: Model, sample: Sample, size: tuple[int, int], batch: int) -> dict[str, float]:
    """Frames a second when ``batch`` frames go through together, from decoded sensor data to labels.

    Returns:
        ``size`` of the batch, ``ms`` (median, of a whole batch) and ``fps``.
    """
    spent_ms = []
    for _ in range(RUNS + 1):
        began = perf_counter()
        views = [_view(sample, size) for _ in range(batch)]
        answer = model.session.forward(model.session.inputs(views))
        for pixels, points, confidence in zip(*answer, strict=True):
            ViewResult(pixels, points, confidence, size).pixels_at(sample.camera.height, sample.camera.width)
        spent_ms.append(1e3 * (perf_counter() - began))
    # the first one of a size warms up
    middle = float(np.median(spent_ms[1:]))
    return {"size": batch, "ms": round(middle, 3), "fps": 1e3 * batch / middle}


def _view(sample: Sample, size: tuple[int, int]) -> View:
    return with_image(project_sample(sample, size), sample)


def _torch_network(model: Model) -> "nn.Module | None":
    if model.session.name != "torch":
        return None
    from fusionseg.deploy.torch_session import TorchSession

    assert isinstance(model.session, TorchSession)
    return model.session.network


def count_parameters(network: "nn.Module") -> int:
    """How many numbers the network has learned."""
    return sum(tensor.numel() for tensor in network.parameters())


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
