"""What an export writes, in fewer bits too, and the gate that refuses what disagrees with PyTorch."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tiny_exports import Exports

from fusionseg.cli import main
from fusionseg.data.log import Log
from fusionseg.data.open import open_log
from fusionseg.deploy import export as exporting
from fusionseg.deploy import quantize
from fusionseg.deploy.export import ParityError, export
from fusionseg.deploy.exported import read_export
from fusionseg.deploy.parity import MAX_DROP, Parity, miou
from fusionseg.deploy.runtime import load
from fusionseg.labels import DRIVING12


@pytest.fixture
def traced(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    """The graph that tracing gives, without the wait; a test may change it."""
    graph = onnx.load(exports.folders["onnx"] / "model.onnx")
    monkeypatch.setattr(exporting, "trace", lambda *_: graph)
    return graph


def test_a_damaged_export_is_refused_and_leaves_nothing(
    exports: Exports, traced: onnx.ModelProto, log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # the classes of the pixels in another order
    weights = next(t for t in traced.graph.initializer if len(t.dims) == 4 and t.dims[0] == len(DRIVING12))
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights)[::-1].copy(), weights.name))
    with pytest.raises(ParityError, match=r"refused: .*% of the labels agree with PyTorch, at least 99.9% must"):
        export(exports.checkpoint, tmp_path / "out", log, frames=log.frames[:2])
    words = ["--calibration", str(log.path), "--frames", "0:2", "--out", str(tmp_path / "out")]
    assert main(["export", str(exports.checkpoint), *words]) == 1
    printed = capsys.readouterr().err
    assert "of pixels agree" in printed and "refused" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "coreml"}, "target is 'coreml'; choose one of onnx, openvino"),
        ({"precision": "int4"}, "precision is 'int4'"),
        ({"precision": "int8", "frames": [0, 1, 2]}, "3 views; int8 needs at least 8"),
        ({"size": (64, 64)}, "another shape than 64x64, the only size of this export; choose --size"),
    ],
)
def test_what_cannot_be_exported_is_named(
    exports: Exports, log: Log, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        export(exports.checkpoint, tmp_path / "out", log, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "to", "precision"),
    [("onnx", "onnx", "fp32"), ("openvino", "openvino", "fp32"), ("nncf", "openvino", "int8")],
)
def test_a_missing_package_is_named(
    exports: Exports, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, to: str, precision: str
) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == missing else "there")
    message = rf"{missing} is not installed; pip install {missing}, .*'fusionseg\[deploy\]'"
    with pytest.raises(ValueError, match=message):
        export(exports.checkpoint, tmp_path / "out", log, to=to, precision=precision)


def test_a_lower_precision_needs_labels(exports: Exports, tmp_path: Path) -> None:
    from make_logs import make_kitti_raw_log

    unlabelled = open_log(make_kitti_raw_log(tmp_path / "raw"))
    with pytest.raises(ValueError, match="no labels, so that what fp16 loses cannot be told"):
        export(exports.checkpoint, tmp_path / "out", unlabelled, precision="fp16")


@pytest.mark.parametrize(
    ("precision", "agreement", "drop", "allowed"),
    [
        ("fp32", 0.999, 0.5, True),
        ("fp32", 0.9989, 0.0, False),
        ("fp16", 0.5, 0.005, True),
        ("fp16", 1.0, 0.0051, False),
        ("int8", 0.5, 0.01, True),
        ("int8", 1.0, 0.011, False),
        ("int8", 1.0, None, False),
    ],
)
def test_the_gate(precision: str, agreement: float, drop: float | None, allowed: bool) -> None:
    assert (Parity(agreement, drop, 1, {}).refusal(precision) is None) == allowed


def test_mean_iou_of_points_over_views() -> None:
    labels = [np.array([0, 0, 1, 255], np.uint8), None, np.array([1], np.uint8)]
    found = [np.array([0, 1, 1, 3], np.uint8), np.array([5], np.uint8), np.array([1], np.uint8)]
    # class 0: 1 of 2; class 1: 2 hits, 1 false alarm
    assert miou(labels, found, DRIVING12) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert miou([None], [np.zeros(1, np.uint8)], DRIVING12) is None


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits(
    exports: Exports, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, precision: str
) -> None:
    pytest.importorskip("nncf")
    if precision == "int8":
        # a random network loses what a trained one does not, and looking for the parts that do takes long
        monkeypatch.setattr(quantize, "ALLOWED_LOSS", 1.0)
        monkeypatch.setitem(MAX_DROP, precision, 1.0)
    parity = export(exports.checkpoint, tmp_path / "out", log, to=to, precision=precision, frames=log.frames[:8])
    assert parity.miou_drop is not None and parity.miou_drop <= MAX_DROP[precision]
    exported = read_export(tmp_path / "out")
    assert exported.manifest.precision == load(tmp_path / "out").session.precision == precision
    if precision == "fp16":
        assert parity.agreement > 0.95
        stored = exported.model if to == "onnx" else exported.model.with_suffix(".bin")
        assert stored.stat().st_size < 0.8 * (exports.folders[to] / stored.name).stat().st_size
        return
    assert "point_head" in parity.kept_float and "in float: fusion.1.ask_image, " in parity.describe()
    assert json.loads((tmp_path / "out" / "parity.json").read_text())["kept_float"] == list(parity.kept_float)
    names = quantised_layers(exported.model)
    assert any("head.context" in name for name in names) and any("image_encoder" in name for name in names)
    assert not [name for name in names if "point_head" in name or ".ask_" in name]


def quantised_layers(path: Path) -> set[str]:
    """The names of the convolutions and matrix products in eight bits."""
    if path.suffix == ".onnx":
        graph = onnx.load(path).graph
        made = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        return {
            node.name for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in made
        }
    import openvino

    nodes = openvino.Core().read_model(path).get_ops()
    layers = [node for node in nodes if node.get_type_name() in ("Convolution", "GroupConvolution", "MatMul")]
    feeding = {node: node.input(0).get_source_output().get_node().get_type_name() for node in layers}
    return {node.get_friendly_name() for node, kind in feeding.items() if kind == "FakeQuantize"}


def test_the_worst_parts_go_back_to_float_until_little_is_lost() -> None:
    harm = {"encoder.a": 0.002, "encoder.b": 0.02, "head.c": 0.006, "head.d": -0.001}
    asked = []

    def attempt(kept: Sequence[str]) -> tuple[str, float]:
        asked.append(set(kept))
        return ",".join(kept), sum(loss for part, loss in harm.items() if part not in kept)

    graph, kept = quantize._restored(attempt, ["point_head"], list(harm))
    assert kept == ["point_head", "encoder.b", "head.c"] and graph == "point_head,encoder.b,head.c"
    assert asked[1] == {"point_head", "encoder.a", "head.c", "head.d"}
    harm |= dict.fromkeys(harm, 0.1)
    with pytest.raises(ValueError, match="every part of this network loses too much in eight bits"):
        quantize._restored(attempt, ["point_head"], list(harm))


def test_parts_are_the_modules_of_the_networks_own_modules() -> None:
    modules = ["head.refine.0.depthwise", "head.logits", "head", "fusion.1.ask_lidar.query", "fusion.1.gate", "hook.x"]
    assert quantize._parts([*modules, "point_head.own"], ["head", "fusion", "point_head"]) == [
        "fusion.1",
        "head.logits",
        "head.refine",
    ]


def test_halved_weights_are_widened_in_the_graph() -> None:
    values = np.array([[1.0, 1e6], [2**-10, -3.0]] * 8, np.float32)
    stored = [numpy_helper.from_array(values, "w"), numpy_helper.from_array(np.float32([0.1]), "scale")]
    shapes = {"x": [16, 16], "y": [16, 2]}
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", sides[:1], sides[1:], stored)
    half = quantize.halved(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]))
    onnx.checker.check_model(half)
    assert [t.data_type for t in half.graph.initializer] == [TensorProto.FLOAT16, TensorProto.FLOAT]
    # beyond its range half precision has infinities, which the largest number is better than
    evaluated = ReferenceEvaluator(half).run(None, {"x": np.eye(16, dtype=np.float32)})[0]
    np.testing.assert_array_equal(evaluated, np.where(values == 1e6, np.float32(65504), values))
    assert [t.data_type for t in graph.initializer] == [TensorProto.FLOAT, TensorProto.FLOAT]
