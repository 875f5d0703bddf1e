"""An exported folder whose graph is written by hand: one convolution and one product, of known work."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fusionseg.config import TrainConfig
from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS
from fusionseg.deploy.exported import write_description
from fusionseg.labels import DRIVING12

CLASSES = len(DRIVING12)
INPUTS = {
    "image": (TensorProto.UINT8, ["b", "H", "W", 3]),
    "lidar": (TensorProto.FLOAT, ["b", len(RASTER_CHANNELS), "h", "w"]),
    "present": (TensorProto.FLOAT, ["b", 2]),
    "points": (TensorProto.FLOAT, ["b", "n", len(POINT_FEATURES)]),
    "cell": (TensorProto.INT64, ["b", "n"]),
}
OUTPUTS = {
    "pixels": (TensorProto.UINT8, ["b", "h", "w"]),
    "point_labels": (TensorProto.UINT8, ["b", "n"]),
    "confidence": (TensorProto.FLOAT, ["b", "n"]),
}
PARAMS = CLASSES * 3 * 16 + len(POINT_FEATURES) * CLASSES


def macs_of(height: int, width: int, points: int) -> int:
    """Of one view, padding included."""
    return (height // 4) * (width // 4) * CLASSES * 3 * 16 + points * len(POINT_FEATURES) * CLASSES


def save_tiny_export(folder: Path, size: tuple[int, int]) -> Path:
    """Pixels from a 4x4 convolution of stride 4 of the image, points from a product with their features."""
    rng = np.random.default_rng(0)
    weights = {"w": (CLASSES, 3, 4, 4), "m": (len(POINT_FEATURES), CLASSES)}
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w"], ["logits"], "pixel_logits", strides=[4, 4]),
        helper.make_node("ArgMax", ["logits"], ["classes"], axis=1, keepdims=0),
        helper.make_node("Cast", ["classes"], ["pixels"], to=TensorProto.UINT8),
        helper.make_node("MatMul", ["points", "m"], ["scores"], "point_scores"),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=2),
        helper.make_node("ArgMax", ["shares"], ["labels"], axis=2, keepdims=0),
        helper.make_node("Cast", ["labels"], ["point_labels"], to=TensorProto.UINT8),
        helper.make_node("ReduceMax", ["shares"], ["confidence"], axes=[2], keepdims=0),
    ]
    sides = ([helper.make_tensor_value_info(name, *kind) for name, kind in side.items()] for side in (INPUTS, OUTPUTS))
    stored = [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), name) for name, s in weights.items()]
    graph = helper.make_graph(nodes, "tiny", *sides, stored)
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), folder / "model.onnx"
    )
    facts = {"version": "0", "runtime": "onnxruntime", "precision": "fp32", "name": "tiny-graph", "model": "model.onnx"}
    facts |= {"classes": "driving12", "size": size, "fixed": False, "raster_stride": 4}
    write_description(folder, facts, DRIVING12, TrainConfig())
    return folder
