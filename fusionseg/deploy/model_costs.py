"""What a model of ours costs in whatever runtime: its size, its work and layers, and how batches speed it up."""

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from fusionseg.data.prepare import project_sample, with_image
from fusionseg.deploy.costs import RUNS, Layer, count_macs, count_parameters, profile
from fusionseg.deploy.exported import BF16, DESCRIPTIONS, INPUTS, read_export
from fusionseg.deploy.runtime import Model
from fusionseg.models.shipped import find_model
from fusionseg.sample import Sample


def model_costs(
    model: Model, where: str, sample: Sample, size: tuple[int, int], threads: int, layers: bool = False
) -> dict[str, Any]:
    """What one view at an input size costs; null where the runtime does not tell.

    Args:
        model: opened from ``where``.
        where: shipped name, file or exported folder.
        sample: the view.
        size: (height, width) of the network input.
        threads: of the network.
        layers: also report every layer's time.

    Returns:
        ``params`` (of an export the numbers stored in its graph), ``macs`` and ``bytes``, and ``layers`` if asked for.
    """
    path = find_model(where)
    inputs = model.session.inputs([with_image(project_sample(sample, size), sample)])
    if path.is_dir():
        facts, found = _graph_costs(path, model.session.precision, inputs, threads, layers)
    else:
        facts, found = _torch_costs(model, inputs, layers)
        facts["bytes"] = path.stat().st_size
    return facts | ({"layers": [layer.as_dict() for layer in found]} if layers else {})


def throughput(model: Model, sample: Sample, size: tuple[int, int], batch: int) -> dict[str, float]:
    """Frames a second when the views of ``batch`` frames go through the network together, from decoded data to labels.

    Returns:
        ``size`` of the batch, ``ms`` (median, of a whole batch) and ``fps``.

    Raises:
        ValueError: an export that takes one view at a time.
    """
    session, usual = model.session, model.session.views_at_once
    spent_ms = []
    try:
        session.views_at_once = batch
        for _ in range(RUNS + 1):
            began = perf_counter()
            model.predict_many([[sample]] * batch, whole_sweep=False, size=size)
            spent_ms.append(1e3 * (perf_counter() - began))
    finally:
        session.views_at_once = usual
    # the first one of a size warms up
    middle = float(np.median(spent_ms[1:]))
    return {"size": batch, "ms": round(middle, 3), "fps": 1e3 * batch / middle}


def _torch_costs(model: Model, inputs: Any, layers: bool) -> tuple[dict[str, Any], list[Layer]]:
    import torch

    from fusionseg.deploy.torch_session import TorchSession

    session = model.session
    assert isinstance(session, TorchSession)  # nothing else runs a checkpoint
    # a compiled network shows neither its layers nor its operations
    with torch.compiler.set_stance("force_eager"):
        facts = {"params": count_parameters(session.network), "macs": count_macs(lambda: session.forward(inputs))}
        return facts, profile(session.network, lambda: session.forward(inputs)) if layers else []


def _graph_costs(
    folder: Path, precision: str, inputs: Any, threads: int, layers: bool
) -> tuple[dict[str, Any], list[Layer]]:
    from fusionseg.deploy.graph_costs import onnx_costs, onnx_layers, openvino_costs, openvino_layers

    exported = read_export(folder)
    files = (folder / name for name in exported.manifest.sha256 if name not in DESCRIPTIONS)
    facts: dict[str, Any] = {"bytes": sum(file.stat().st_size for file in files)}
    feeds = {name: getattr(inputs, name) for name in INPUTS}
    if exported.manifest.runtime == "openvino":
        facts |= openvino_costs(exported.model, feeds)
        bf16 = precision == BF16
        return facts, openvino_layers(exported.model, feeds, threads, bf16=bf16) if layers else []
    facts |= onnx_costs(exported.model, feeds)
    return facts, onnx_layers(exported.model, feeds, threads) if layers else []
