"""Running an exported model: arrays in and out are the same whatever runtime runs the graph (needs no torch)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.prepare import View
from fusionseg.data.stack import Stack, stack
from fusionseg.deploy.exported import BF16, PAD_MULTIPLE, POINT_BUCKET, Exported
from fusionseg.deploy.result import Answer

Feeds = dict[str, NDArray[np.generic]]
PACKAGES = {"cv2": "opencv-python", "yaml": "pyyaml"}
"""Modules whose packages have other names."""
Run = Callable[[Feeds], Sequence[NDArray[np.generic]]]
"""Inputs by name to the outputs in the order of ``OUTPUTS``."""


@dataclass(frozen=True)
class Hardware:
    """Where a runtime runs.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of the network, or None for the runtime's choice.
    """

    device: str = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        kind, colon, number = self.device.partition(":")
        if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdecimal())):
            raise ValueError(f"device {self.device!r} cannot be used here; choose cpu, cuda or cuda:N")

    @property
    def index(self) -> int:
        """Number of the GPU."""
        return int(self.device.partition(":")[2] or 0)


class ExportedSession:
    """An exported graph, from prepared views to class ids.

    Args:
        exported: whose graph it is.
        name: of the runtime.
        precision: of what it computes.
        run: the graph.
        views_at_once: how many views it labels together fastest.
    """

    projects = False

    def __init__(self, exported: Exported, name: str, precision: str, run: Run, views_at_once: int) -> None:
        self.manifest = exported.manifest
        self.name = name
        self.precision = precision
        self.views_at_once = 1 if exported.manifest.fixed else views_at_once
        self._run = run

    def inputs(self, views: Sequence[View]) -> Stack:
        """Rasters, point features and images of views of one size, padded to sides and counts that the graph takes.

        Raises:
            ValueError: the export takes another size alone.
        """
        manifest = self.manifest
        stacked = stack(views, manifest.raster_stride, multiple=PAD_MULTIPLE, bucket=POINT_BUCKET)
        if manifest.fixed and stacked.image.shape[:3] != (1, *padded(manifest.size)):
            height, width = views[0].camera.height, views[0].camera.width
            raise ValueError(
                f"input of {len(views)} views of {height}x{width}; {manifest.name} was exported for one of "
                "{}x{} alone, export it again without --size for any".format(*manifest.size)
            )
        return stacked

    def forward(self, inputs: Stack) -> Answer:
        """The classes of those views; what the network says of padding is cut off."""
        feeds: Feeds = {
            "image": inputs.image,
            "lidar": inputs.lidar,
            "present": inputs.present,
            "points": inputs.points,
            "cell": inputs.cell,
        }
        pixels, points, confidence = self._run(feeds)
        rows, columns = inputs.grid
        return Answer(
            pixels[:, :rows, :columns].astype(np.uint8, copy=False),
            points.astype(np.uint8, copy=False),
            confidence.astype(np.float32, copy=False),
        )


def padded(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the graph's input for views of a size."""
    height, width = (-(-side // PAD_MULTIPLE) * PAD_MULTIPLE for side in size)
    return height, width


def open_export(
    exported: Exported, runtime: str | None, hardware: Hardware, precision: str | None = None
) -> ExportedSession:
    """What runs an exported model.

    Args:
        exported: the model.
        runtime: ``onnxruntime``, ``openvino`` or ``tensorrt``; None for the one it was exported to.
        hardware: where to run it.
        precision: one of its manifest's ``precisions``; None for its own.

    Raises:
        ValueError: it was exported to another runtime or precision, a package is missing, or the hardware.
    """
    runtime = runtime or exported.manifest.runtime
    file = exported.manifest.runtime
    if runtime != file and (runtime, file) != ("tensorrt", "onnxruntime"):
        target = "openvino" if runtime == "openvino" else "onnx"
        raise ValueError(
            f"{exported.folder}: was exported to {file}, {runtime} cannot run it; leave runtime out, or export the "
            f"model with --to {target}"
            if runtime != "torch"
            else f"{exported.folder}: was exported to {file}, torch runs checkpoints (.safetensors); leave runtime out"
        )
    own = exported.manifest.precision
    precision = precision or own
    if precision not in exported.manifest.precisions:
        advice = (
            "bf16 runs exports that were made with --to openvino in fp32 or fp16"
            if precision == BF16
            else f"leave precision out, or export the model with --precision {precision}"
        )
        raise ValueError(f"{exported.folder}: was exported to {file} in {own}, not {precision}; {advice}")
    run: Run
    try:
        if runtime == "openvino":
            from fusionseg.deploy.openvino_session import open_openvino

            run = open_openvino(exported, hardware, bf16=precision == BF16)
        else:
            from fusionseg.deploy.onnx_session import open_onnx

            run = open_onnx(
                exported.model, hardware, tensorrt=runtime == "tensorrt", fp16=exported.manifest.precision == "fp16"
            )
    except ImportError as error:
        raise missing_package(error.name or runtime) from error
    return ExportedSession(exported, runtime, precision, run, 1 if hardware.device == "cpu" else 6)


def missing_package(name: str) -> ValueError:
    """What to say where an optional package is not installed."""
    module = name.partition(".")[0]
    package = PACKAGES.get(module, module)
    return ValueError(
        f"{package} is not installed; pip install {package}, or all of it: pip install 'fusionseg[deploy]'"
    )


def unusable(path: Path, error: Exception) -> ValueError:
    """What to say of a model file that its runtime refuses."""
    reason = " ".join(str(error).split())
    return ValueError(f"{path}: cannot be opened ({reason[:300]}); export the model again")
