"""What an exported graph costs: multiply-accumulates and time of its nodes, as its runtime counts and shows them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.deploy.costs import RUNS, Layer

Feeds = Mapping[str, NDArray[np.generic]]
Shape = Sequence[int]
WEIGHTS_AT = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""ONNX operator of a convolution -> position of its weights (O, I / groups, ...) among the inputs."""
PRODUCTS = ("MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul", "Gemm", "FusedGemm", "QGemm")
"""ONNX operators that multiply matrices."""


def onnx_costs(path: Path, feeds: Feeds) -> dict[str, int | None]:
    """``params`` (numbers stored in the graph; None without the package onnx) and ``macs`` of one pass of an ONNX file.

    The work is counted without the runtime's own changes to the graph, which pad channels.
    """
    macs = sum(layer.macs for layer in onnx_layers(path, feeds, threads=None, runs=1, optimised=False))
    try:
        import onnx
    except ImportError:  # an edge device has the runtime alone
        return {"params": None, "macs": macs}
    # 64-bit integers are shapes and indices
    stored = (t for t in onnx.load(str(path)).graph.initializer if t.data_type != onnx.TensorProto.INT64)
    return {"params": sum(prod(tensor.dims) for tensor in stored), "macs": macs}


def onnx_layers(path: Path, feeds: Feeds, threads: int | None, runs: int = RUNS, optimised: bool = True) -> list[Layer]:
    """The nodes that ONNX Runtime runs on the CPU, the slowest first."""
    import onnxruntime

    from fusionseg.deploy.onnx_session import session_options

    options = session_options(threads)
    options.enable_profiling = True
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with TemporaryDirectory(prefix="fusionseg-profile-") as folder:
        options.profile_file_prefix = str(Path(folder) / "nodes")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent_us: dict[str, list[float]] = defaultdict(list)
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        name, kernel, rest = event["name"].rpartition("_kernel_time")
        if event.get("cat") == "Node" and kernel and not rest:
            spent_us[name].append(event["dur"])
            found[name] = event["args"]
    layers = [
        Layer(name, args["op_name"], 1e-3 * float(np.median(spent_us[name])), _onnx_macs(args))
        for name, args in found.items()
    ]
    return sorted(layers, key=lambda layer: -layer.ms)


def _onnx_macs(args: Mapping[str, Any]) -> int:
    inputs, outputs = ([_shape(item) for item in args[f"{side}_type_shape"]] for side in ("input", "output"))
    kind = args["op_name"]
    if kind in WEIGHTS_AT:
        return prod(outputs[0]) * prod(inputs[WEIGHTS_AT[kind]][1:])
    if kind in PRODUCTS:
        # (m, k) by (k, n), either of them transposed: m of the k m numbers on the left are rows of the answer
        rows = outputs[0][-2] if len(outputs[0]) > 1 else 1
        return prod(outputs[0]) * (prod(inputs[0][-2:]) // max(1, rows))
    return 0


def _shape(item: Mapping[str, Shape]) -> Shape:
    """Of ``{"float": [1, 3, 4, 4]}``."""
    return next(iter(item.values()))


def openvino_costs(path: Path, feeds: Feeds) -> dict[str, int]:
    """``params`` (numbers stored in the graph) and ``macs`` of one pass of an OpenVINO model."""
    model = _openvino_model(path, feeds)
    constants = (op for op in model.get_ordered_ops() if op.get_type_name() == "Constant")
    # 64-bit integers are shapes and indices
    stored = (op for op in constants if op.get_element_type().get_type_name() != "i64")
    return {"params": sum(prod(op.get_output_shape(0)) for op in stored), "macs": sum(_openvino_macs(model).values())}


def openvino_layers(path: Path, feeds: Feeds, threads: int | None, *, bf16: bool = False) -> list[Layer]:
    """The nodes that OpenVINO runs on the CPU, the slowest first; what is fused into a node counts there."""
    import openvino

    macs = _openvino_macs(_openvino_model(path, feeds))
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}
    config["INFERENCE_PRECISION_HINT"] = "bf16" if bf16 else "f32"
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    request = openvino.Core().compile_model(str(path), "CPU", config).create_infer_request()
    spent_ms: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(RUNS):
        request.infer(dict(feeds))
        for node in request.profiling_info:
            spent_ms[node.node_name, node.node_type].append(1e3 * node.real_time.total_seconds())
    layers = [
        Layer(name, kind, float(np.median(values)), macs.get(name, 0)) for (name, kind), values in spent_ms.items()
    ]
    return sorted((layer for layer in layers if layer.ms), key=lambda layer: -layer.ms)


def _openvino_model(path: Path, feeds: Feeds) -> Any:
    """The graph with the sizes of its inputs fixed."""
    import openvino

    model = openvino.Core().read_model(str(path))
    model.reshape({name: list(array.shape) for name, array in feeds.items()})
    return model


def _openvino_macs(model: Any) -> dict[str, int]:
    """Name of a convolution or matrix product -> its multiply-accumulates."""
    macs = {}
    for op in model.get_ordered_ops():
        kind, name = op.get_type_name(), op.get_friendly_name()
        if kind in ("Convolution", "GroupConvolution"):
            # groups come first in the weights of a grouped one: (G, O / G, I / G, ...)
            macs[name] = prod(op.get_output_shape(0)) * prod(
                list(op.get_input_shape(1))[1 + (kind == "GroupConvolution") :]
            )
        elif kind == "MatMul":
            transposed = op.get_attributes()["transpose_a"]
            macs[name] = prod(op.get_output_shape(0)) * list(op.get_input_shape(0))[-2 if transposed else -1]
    return macs
