"""Exported graphs in fewer bits: half precision, and eight-bit integers where they cost no accuracy."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from fusionseg.data.prepare import View
from fusionseg.data.stack import stack
from fusionseg.deploy.exported import INPUTS, OUTPUTS, PAD_MULTIPLE, POINT_BUCKET
from fusionseg.deploy.exported_session import Feeds
from fusionseg.deploy.parity import MAX_DROP, masked, miou
from fusionseg.deploy.runtime import Model, Sensors
from fusionseg.labels import IGNORE

Graph = TypeVar("Graph")
# exponentials and their sums leave the range of half precision
KEPT_WHOLE = ("Exp", "ReduceSum", "Softmax", "Resize", "Range", "ArgMax")
RANKED_VIEWS = 12


def halved(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in half precision, inputs and outputs and what overflows aside."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    half: onnx.ModelProto = convert_float_to_float16(
        graph, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *KEPT_WHOLE]
    )
    return half


def quantized(graph: Graph, reference: Model, views: Sequence[View], settings: Sequence[Sensors]) -> Graph:
    """The graph with static eight-bit quantisation (QDQ), layers that cost accuracy left in float by turns.

    Done by NNCF, for ONNX and OpenVINO graphs alike: ranges from one half of ``views``, accuracy on the other, the
    layers that hurt most reverted until the mean IoU of points is within half of what an export may lose.

    Args:
        graph: ONNX model or OpenVINO model, in float32.
        reference: the PyTorch original.
        views: labelled.
        settings: sensors to calibrate with and to be accurate with.
    """
    nncf = _nncf()
    network = reference.session
    stride: int = network.network.raster_stride  # type: ignore[attr-defined]
    items = [
        (_feeds(view, stride), view.labels if view.labels is not None else np.full(len(view.index), IGNORE, np.uint8))
        for view in masked(views, settings)
    ]
    half = len(settings) * (len(views) // 2)
    table = reference.table

    def validate(model: Any, chosen: Iterable[tuple[Feeds, NDArray[np.uint8]]]) -> tuple[float, list[float]]:
        run = _runner(model)
        pairs = [(labels, run(feeds)[: len(labels)]) for feeds, labels in chosen]
        figure = miou([labels for labels, _ in pairs], [predicted for _, predicted in pairs], table)
        each = [
            float((labels == predicted)[labels != IGNORE].mean() if len(labels) else 1.0) for labels, predicted in pairs
        ]
        return (0.0 if figure is None else figure), [0.0 if np.isnan(share) else share for share in each]

    result: Graph = nncf.quantize_with_accuracy_control(
        graph,
        nncf.Dataset(items[:half], lambda item: item[0]),
        nncf.Dataset(items[half:]),
        validate,
        max_drop=MAX_DROP["int8"] / 2,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=half,
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=RANKED_VIEWS),
    )
    return result


def _feeds(view: View, stride: int) -> Feeds:
    stacked = stack([view], stride, multiple=PAD_MULTIPLE, bucket=POINT_BUCKET)
    return {name: getattr(stacked, name) for name in INPUTS}


def _accuracy(labels: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    known = labels != IGNORE
    return float((labels == predicted)[known].mean()) if known.any() else 0.0


def _runner(model: Any) -> Any:
    """The points' classes (N,) that a graph under validation gives."""
    which = OUTPUTS.index("point_labels")
    if not isinstance(model, onnx.ModelProto):
        return lambda feeds: model(feeds)[which][0]
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda feeds: session.run([OUTPUTS[which]], feeds)[0][0]


def _nncf() -> Any:
    """NNCF, with its reports to its makers turned off: it asks the environment, once, whether to send any."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        import nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
    return nncf
