"""Exported graphs in fewer bits: weights in half precision, and eight-bit integers where they cost no accuracy."""

import copy
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from fusionseg.data.prepare import View
from fusionseg.data.stack import stack
from fusionseg.deploy.exported import INPUTS, OUTPUTS, PAD_MULTIPLE, POINT_BUCKET
from fusionseg.deploy.exported_session import Feeds
from fusionseg.deploy.parity import MAX_DROP, miou
from fusionseg.deploy.runtime import Model, Sensors, mask_sensors
from fusionseg.models.fake_quant import ALWAYS_FLOAT

logger = logging.getLogger(__name__)
ALLOWED_LOSS = MAX_DROP["int8"] / 2
"""On the calibration frames; the rest is for frames that were not looked at."""
MIN_HALVED = 16
"""Tensors of fewer numbers are scales and shapes, which half precision would save nothing of."""
_HALF = np.finfo(np.float16)


def halved(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with its weights stored in half precision; a runtime widens them once, as it loads the graph.

    It computes in single precision: processors have few units for less, and a GPU's runtime chooses its own.
    """
    half = onnx.ModelProto()
    half.CopyFrom(graph)
    casts = []
    for tensor in half.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < MIN_HALVED:
            continue
        narrow = numpy_helper.to_array(tensor).clip(_HALF.min, _HALF.max).astype(np.float16)
        wide, name = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(numpy_helper.from_array(narrow, name))
        casts.append(onnx.helper.make_node("Cast", [name], [wide], f"/widen/{wide}", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    return half


def quantized(
    graph: Any, reference: Model, views: Sequence[View], settings: Sequence[Sensors]
) -> tuple[Any, tuple[str, ...]]:
    """The graph with static eight-bit quantisation, but for the parts that cost accuracy, and the names of those.

    Ranges of values are measured on one half of ``views``, accuracy on the other. If all of the network in eight bits
    loses too much, each part's own loss is measured and the worst go back to float until the rest loses little enough.

    Args:
        graph: ONNX model (ONNX Runtime's quantiser) or OpenVINO model (NNCF), in float32, its nodes named after their
            modules.
        reference: the PyTorch original.
        views: labelled.
        settings: sensors to calibrate with and to be accurate with.

    Raises:
        ValueError: no part can be in eight bits, or a package is missing.
    """
    network = reference.session.network  # type: ignore[attr-defined]
    feeds = {s: [_feeds(mask_sensors(view, s), network.raster_stride) for view in views] for s in settings}
    examples = [item for setting in settings for item in feeds[setting][::2]]
    judged = {setting: feeds[setting][1::2] for setting in settings}
    loss = _judge(reference, views[1::2], judged)
    quantise = _with_onnxruntime if isinstance(graph, onnx.ModelProto) else _with_nncf

    def attempt(kept: Sequence[str]) -> tuple[Any, float]:
        candidate = quantise(graph, examples, kept)
        return candidate, loss(candidate)

    modules = {node.partition("/")[0] for node in _node_names(graph) if "/" in node}
    kept = sorted({match[1] for module in modules if (match := ALWAYS_FLOAT.fullmatch(module))})
    candidate, lost = attempt(kept)
    logger.info("eight bits everywhere but in %s: %.2f points of mIoU lost", ", ".join(kept), 100 * lost)
    if lost > ALLOWED_LOSS:
        candidate, kept = _restored(attempt, kept, _parts(modules, [name for name, _ in network.named_children()]))
    return candidate, tuple(kept)


Attempt = Callable[[Sequence[str]], tuple[Any, float]]
"""Parts left in float -> the graph, and how much of the mean IoU it loses."""


def _restored(attempt: Attempt, kept: Sequence[str], parts: Sequence[str]) -> tuple[Any, list[str]]:
    """The graph with the worst of ``parts`` in float, beside those ``kept``, so that it loses little enough.

    Raises:
        ValueError: no part can be in eight bits.
    """
    harm = {}
    for part in parts:
        _, harm[part] = attempt([*kept, *(other for other in parts if other != part)])
        logger.info("eight bits in %s alone: %.2f points lost", part, 100 * harm[part])
    floats = list(kept)
    for part in sorted(parts, key=lambda part: -harm[part])[:-1]:
        floats.append(part)
        candidate, lost = attempt(floats)
        logger.info("%s in float too: %.2f points lost", part, 100 * lost)
        if lost <= ALLOWED_LOSS:
            return candidate, floats
    raise ValueError("int8: every part of this network loses too much in eight bits; export it with --precision fp16")


def _parts(modules: Iterable[str], children: Sequence[str]) -> list[str]:
    """The parts of the network that go back to float one by one: the modules of its own modules ``children``."""
    changeable = [module for module in modules if not ALWAYS_FLOAT.fullmatch(module)]
    parts = {tuple(module.split(".")[:2]) for module in changeable if "." in module}
    return sorted(".".join(part) for part in parts if part[0] in children)


def _node_names(graph: Any) -> list[str]:
    if isinstance(graph, onnx.ModelProto):
        return [node.name for node in graph.graph.node]
    return [node.get_friendly_name() for node in graph.get_ops()]


def _inside(parts: Sequence[str]) -> str:
    """A pattern that the names of the nodes of some parts match as a whole."""
    return rf"(?:{'|'.join(map(re.escape, parts))})[./].*"


def _with_onnxruntime(graph: onnx.ModelProto, examples: Sequence[Feeds], kept: Sequence[str]) -> onnx.ModelProto:
    """The convolutions in eight bits (QDQ), those of the parts ``kept`` aside."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(examples)

        def get_next(self) -> Feeds | None:
            return next(self.rest, None)

    inside = re.compile(_inside(kept))
    with TemporaryDirectory(prefix="fusionseg-int8-") as folder, _hushed(logging.getLogger()):
        path = Path(folder) / "model.onnx"
        quantize_static(
            copy.deepcopy(graph),
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            # what lies between convolutions costs more to convert than eight bits save
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[name for name in _node_names(graph) if inside.fullmatch(name)],
        )
        return onnx.load(path)


def _with_nncf(graph: Any, examples: Sequence[Feeds], kept: Sequence[str]) -> Any:
    """All that NNCF puts into eight bits, the parts ``kept`` aside."""
    nncf = _nncf()
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    with _hushed(logging.getLogger("nncf")):
        return nncf.quantize(
            graph.clone(),
            nncf.Dataset(examples),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(examples),
            ignored_scope=nncf.IgnoredScope(patterns=[_inside(kept)], validate=False),
            # not the mean of the examples' extremes: where a sensor is masked they are zero
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )


def _judge(reference: Model, views: Sequence[View], feeds: dict[Sensors, list[Feeds]]) -> Callable[[Any], float]:
    """What tells how much of the mean IoU of points a graph loses, at worst over the sensor settings of ``feeds``."""
    truths = [view.labels for view in views]

    def figure(labels: Sequence[Any]) -> float:
        value = miou(truths, labels, reference.table)
        return 0.0 if value is None else value

    before = {setting: figure([r.points for r in reference.predict_views(views, setting)]) for setting in feeds}

    def loss(graph: Any) -> float:
        run = _runner(graph)
        losses = []
        for setting, items in feeds.items():
            labels = [run(item)[: len(view.index)] for item, view in zip(items, views, strict=True)]
            losses.append(before[setting] - figure(labels))
        return max(losses)

    return loss


def _feeds(view: View, stride: int) -> Feeds:
    stacked = stack([view], stride, multiple=PAD_MULTIPLE, bucket=POINT_BUCKET)
    return {name: getattr(stacked, name) for name in INPUTS}


def _runner(graph: Any) -> Callable[[Feeds], Any]:
    """The points' classes (N,), padding included, that a graph answers."""
    which = OUTPUTS.index("point_labels")
    if isinstance(graph, onnx.ModelProto):
        import onnxruntime

        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        return lambda feeds: session.run([OUTPUTS[which]], feeds)[0][0]
    import openvino

    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda feeds: compiled(feeds)[which][0]


@contextmanager
def _hushed(noisy: logging.Logger) -> Iterator[None]:
    """Without the advice and the progress that a quantiser gives."""
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        yield
    finally:
        noisy.setLevel(level)


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
