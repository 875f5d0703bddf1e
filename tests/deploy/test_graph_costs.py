import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from fusionseg.deploy.graph_costs import onnx_costs, onnx_layers, openvino_costs, openvino_layers  # noqa: E402

CONV, GROUPED = 10 * 20 * 12 * 5 * 9, 10 * 20 * 12 * 3 * 1
PRODUCT = 12 * 7 * 200
PARAMS = 12 * 5 * 9 + 12 * 3 + 200 * 7
KINDS = {"Conv", "FusedConv", "Convolution"}


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A 3x3 convolution of 5 to 12 channels, one of 4 groups, and a product with (200, 7); channels are no multiple of
    what processors like."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((12, 5, 3, 3)),
        "g": rng.standard_normal((12, 3, 1, 1)),
        "m": rng.standard_normal((200, 7)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "g"], ["b"], "grouped", group=4),
        helper.make_node("Reshape", ["b", "shape"], ["c"], "reshape"),
        helper.make_node("MatMul", ["c", "m"], ["y"], "product"),
    ]
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    shape = helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, 12, 200])))
    model = helper.make_model(
        helper.make_graph(
            [shape, *nodes],
            "known",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5, "h", "w"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 12, 7])],
            stored,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    path = tmp_path_factory.mktemp("graph") / "known.onnx"
    onnx.save(model, path)
    return path, {"x": rng.standard_normal((1, 5, 10, 20)).astype(np.float32)}


def test_onnx_runtime_counts_what_the_graph_asks_for(graph):
    pytest.importorskip("onnxruntime")
    assert onnx_costs(*graph) == {"params": PARAMS, "macs": CONV + GROUPED + PRODUCT}


def test_onnx_runtime_shows_every_node_it_runs(graph, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    layers = onnx_layers(*graph, threads=1, runs=3)
    assert [layer.ms for layer in layers] == sorted((layer.ms for layer in layers), reverse=True)
    product = [layer.macs for layer in layers if "MatMul" in layer.kind]
    assert product == [PRODUCT]
    convolutions = [layer.macs for layer in layers if layer.kind in KINDS]
    # the runtime may pad channels for its own sake, never leave one out
    assert len(convolutions) == 2
    assert sum(convolutions) >= CONV + GROUPED
    assert list(tmp_path.iterdir()) == []


def test_openvino_counts_and_shows_the_same(graph):
    pytest.importorskip("openvino")
    assert openvino_costs(*graph) == {"params": PARAMS, "macs": CONV + GROUPED + PRODUCT}
    layers = openvino_layers(*graph, threads=1)
    assert {layer.macs for layer in layers} >= {CONV, PRODUCT}
    assert all(layer.ms > 0 for layer in layers)
