"""From a checkpoint to a folder that runs without torch; what does not agree with the original is refused."""

import ast
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import fusionseg
from fusionseg.data.log import Log
from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS, View
from fusionseg.deploy import runtime
from fusionseg.deploy.exported import INPUTS, OUTPUTS, PAD_MULTIPLE, PARITY, POINT_BUCKET, PRECISIONS, write_description
from fusionseg.deploy.exported_session import missing_package, padded
from fusionseg.deploy.parity import Parity, compare, has_labels, pick_views, settings_of
from fusionseg.deploy.torch_session import answer
from fusionseg.files import write_json
from fusionseg.models.checkpoint import load_checkpoint
from fusionseg.models.segmenter import Segmenter
from fusionseg.models.shipped import find_model

if TYPE_CHECKING:
    import onnx

logger = logging.getLogger(__name__)
TARGETS = {"onnx": "onnxruntime", "openvino": "openvino"}
COMPARED_VIEWS = 24
CALIBRATION_VIEWS = 24
MIN_CALIBRATION_VIEWS = 4
OPSET = 20


class ParityError(Exception):
    """An export that does not agree with its original; nothing of it was kept."""


class _Answering(torch.nn.Module):
    """What is exported: the network and what follows it."""

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return answer(self.network, *arrays)


def export(
    model: str | Path,
    out: Path,
    log: Log,
    *,
    frames: Sequence[int] | None = None,
    cameras: Sequence[str] | None = None,
    to: str = "onnx",
    precision: str = "fp32",
    size: tuple[int, int] | None = None,
) -> Parity:
    """Write a model for another runtime, with its class table, configuration, checksums and parity report.

    Args:
        model: shipped name or checkpoint.
        out: folder to make; nothing is left there unless the export agrees with PyTorch.
        log: gives the frames on which both are compared and, for ``int8``, ranges of values are measured; other
            frames for the one than for the other. ``fp16`` and ``int8`` need labels of the model's class table.
        frames: numbers of the log's to choose from; None for all.
        cameras: the same.
        to: ``onnx`` or ``openvino``.
        precision: ``fp32``, ``fp16`` or ``int8``.
        size: (height, width) of the only input size the export takes; None for any.

    Raises:
        ParityError: the export disagrees too much.
        ValueError: an unknown target or precision, a log with too few frames or without labels, or a folder that
            cannot be written; or a package is not installed.
    """
    if to not in TARGETS:
        raise ValueError(f"target is {to!r}; choose one of {', '.join(TARGETS)}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
    for package in ("onnx", "onnxscript", TARGETS[to], *(["nncf"] if (to, precision) == ("openvino", "int8") else [])):
        if find_spec(package) is None:
            raise missing_package(package)
    path = find_model(model)
    reference, checkpoint = runtime.load(path, runtime="torch"), load_checkpoint(path)
    network, reference.size = checkpoint.model, size or reference.size
    count = COMPARED_VIEWS + (CALIBRATION_VIEWS if precision == "int8" else 0)
    views = pick_views(log, reference, count, frames, cameras)
    if size is not None:
        _check_shape(log, views, size)
    compared, calibration = _divide(views, precision, log)
    settings = settings_of(log)
    with _temporary_beside(out) as folder:
        logger.info("tracing %s", path)
        graph = trace(network, size)
        logger.info("writing it for %s in %s", TARGETS[to], precision)
        file, kept_float = _write(graph, folder, to, precision, calibration, settings, reference)
        facts = {
            "version": fusionseg.__version__,
            "runtime": TARGETS[to],
            "precision": precision,
            "name": f"{path.stem}-{to}-{precision}",
            "classes": reference.classes,
            "size": reference.size,
            "fixed": size is not None,
            "raster_stride": network.raster_stride,
            "model": file,
        }
        write_description(folder, facts, checkpoint.table, checkpoint.config)
        logger.info("comparing it with PyTorch on %d views", len(compared))
        parity = replace(compare(reference, runtime.load(folder), compared, settings), kept_float=kept_float)
        refusal = parity.refusal(precision)
        if refusal is not None:
            raise ParityError(f"{parity.describe()}\nrefused: {refusal}")
        write_json(folder / PARITY, {"data": log.name, **asdict(parity)})
        write_description(folder, facts, checkpoint.table, checkpoint.config)
        os.chmod(folder, 0o755)
        os.replace(folder, out)
    return parity


def _check_shape(log: Log, views: Sequence[View], size: tuple[int, int]) -> None:
    """Refuse a log with images that an export of one size cannot label."""
    for view in views:
        fitted = view.camera.height, view.camera.width
        if fitted != size:
            raise ValueError(
                f"{log.path}: images of {view.camera_name} have another shape than {size[0]}x{size[1]}, the only size "
                f"of this export; choose --size {fitted[0]}x{fitted[1]} for them, leave --size out for any size, or "
                "name another log"
            )


def trace(network: Segmenter, size: tuple[int, int] | None = None) -> "onnx.ModelProto":
    """The network as an ONNX graph from ``INPUTS`` to ``OUTPUTS``.

    Batch and number of points are free, and so are the sides, in multiples of ``PAD_MULTIPLE``; of a given ``size``
    only the number of points is.
    """
    from torch.export import Dim

    batch, (height, width) = (1, padded(size)) if size else (2, (2 * PAD_MULTIPLE, 3 * PAD_MULTIPLE))
    stride, count = network.raster_stride, POINT_BUCKET
    example = (
        torch.zeros(batch, height, width, 3, dtype=torch.uint8),
        torch.zeros(batch, len(RASTER_CHANNELS), height // stride, width // stride),
        torch.ones(batch, 2),
        torch.zeros(batch, count, len(POINT_FEATURES)),
        torch.zeros(batch, count, dtype=torch.int64),
    )
    free: tuple[dict[int, Any], ...] = ({}, {}, {}, {1: Dim("points")}, {1: Dim("points")})
    if size is None:
        rows, columns, views = Dim("rows", min=1), Dim("columns", min=1), {0: Dim("batch", min=1)}
        free[0].update({1: PAD_MULTIPLE * rows, 2: PAD_MULTIPLE * columns})
        free[1].update({2: PAD_MULTIPLE // stride * rows, 3: PAD_MULTIPLE // stride * columns})
        free = tuple(views | sides for sides in free)
    training = network.training
    with _quiet():
        program = torch.onnx.export(
            _Answering(network.eval()),
            example,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(free,),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            verbose=False,
        )
    network.train(training)
    assert program is not None
    graph: onnx.ModelProto = program.model_proto
    _name_by_module(graph)
    return graph


def _name_by_module(graph: "onnx.ModelProto") -> None:
    """Name every node after the module it comes from, and drop what else it knows of its origin.

    So a profile can be read, and parts of the network told from each other. The rest are lines of source code and paths
    of this machine.
    """
    for node in graph.graph.node:
        origin = {item.key: item.value for item in node.metadata_props}
        *modules, operation = ast.literal_eval(origin.get("pkg.torch.onnx.name_scopes", "[]")) or [node.name]
        module = modules[-1].removeprefix("network.") if modules else ""
        node.name = f"{module}/{operation}/{node.name}"
        del node.metadata_props[:]


def _divide(views: list[View], precision: str, log: Log) -> tuple[list[View], list[View]]:
    """Views to compare on, and others to calibrate with (for int8 alone).

    Raises:
        ValueError: too few, or without the labels that are needed.
    """
    calibrates = precision == "int8"
    if calibrates and len(views) < 2 * MIN_CALIBRATION_VIEWS:
        raise ValueError(
            f"{log.path}: {len(views)} views; int8 needs at least {2 * MIN_CALIBRATION_VIEWS} to calibrate and "
            "compare, name a longer log"
        )
    compared, calibration = (views[::2], views[1::2]) if calibrates else (views, [])
    if precision != "fp32" and not has_labels(compared):
        raise ValueError(
            f"{log.path}: no labels, so that what {precision} loses cannot be told; name a labelled log, or leave "
            "--calibration out for a generated one"
        )
    return compared, calibration


def _write(
    graph: "onnx.ModelProto",
    folder: Path,
    to: str,
    precision: str,
    calibration: Sequence[View],
    settings: Sequence[runtime.Sensors],
    reference: runtime.Model,
) -> tuple[str, tuple[str, ...]]:
    """Write the graph for a runtime; the name of its file, and of int8 the parts that stayed in float."""
    from fusionseg.deploy.quantize import halved, quantized

    kept_float: tuple[str, ...] = ()
    plain = folder / "model.onnx"
    if to == "onnx":
        if precision == "fp16":
            graph = halved(graph)
        elif precision == "int8":
            graph, kept_float = quantized(graph, reference, calibration, settings)
        plain.write_bytes(graph.SerializeToString())
        return plain.name, kept_float
    import openvino
    from openvino.passes import ConstantFolding, Manager

    plain.write_bytes(graph.SerializeToString())
    # not its converter, which reports to its makers
    model = openvino.Core().read_model(str(plain))
    # half of the operations work out sizes that are known; each costs time at every load
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    if precision == "int8":
        model, kept_float = quantized(model, reference, calibration, settings)
    openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=precision == "fp16")
    plain.unlink()
    return "model.xml", kept_float


@contextmanager
def _temporary_beside(out: Path) -> Iterator[Path]:
    """A folder next to ``out`` that is gone afterwards, unless it was renamed."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise ValueError(f"{out}: cannot be made ({error.strerror}); choose another folder") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hush torch's exporter, which speaks of its own workings."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript", "torch.onnx")]
    levels = [item.level for item in loggers]
    for item in loggers:
        item.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for item, level in zip(loggers, levels, strict=True):
            item.setLevel(level)
