"""Running the network with PyTorch: the only part of the runtime that needs torch."""

from collections.abc import Sequence
from pathlib import Path

import torch

from fusionseg.data.prepare import View
from fusionseg.data.stack import Stack, stack
from fusionseg.deploy.device_projection import project_and_encode
from fusionseg.deploy.exported import POINT_BUCKET
from fusionseg.deploy.exported_session import Hardware
from fusionseg.deploy.raw_view import RawStack, RawView, stack_raw
from fusionseg.deploy.result import Answer
from fusionseg.labels import IGNORE
from fusionseg.models.checkpoint import Checkpoint, load_checkpoint
from fusionseg.models.fold import folded
from fusionseg.models.segmenter import Segmenter

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchSession:
    """A network on a device, from prepared views to class ids.

    Args:
        network: of any device; it is moved to ``device``.
        device: where it runs.
        precision: ``fp32``, or ``bf16`` or ``fp16`` on a GPU (autocast: what needs float32 keeps it).
        compiled: let torch.compile make one program of the graph, at the first frame and for every new input size.
        projects: take raw views and project them on the device; by default where it is a GPU. A frame's image and
            sweep then go there once and its labels come back, nothing in between; ``forward`` is the time of it all.
            Compiled, projection and network are one graph; not compiled, the network asks the device once more which
            sensors are absent.
    """

    name = "torch"

    def __init__(
        self,
        network: Segmenter,
        device: str = "cpu",
        precision: str = "fp32",
        *,
        compiled: bool = False,
        projects: bool | None = None,
    ) -> None:
        self.network = network.to(device)
        self.device = torch.device(device)
        self.precision = precision
        # a processor is done with six views a third to a half sooner one by one: what they give rise to stays in its
        # cache; a GPU is filled by several at once
        self.views_at_once = 1 if self.device.type == "cpu" else 6
        self.projects = self.device.type != "cpu" if projects is None else projects
        # every new number of points is compiled anew, and on a GPU recorded anew: let there be few
        self._bucket = POINT_BUCKET if compiled else 1
        # one launch for all kernels (CUDA graphs); answers leave their memory before the next frame writes to it
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        self._forward = torch.compile(self._answer, mode=mode) if compiled else self._answer

    def inputs(self, views: Sequence[View]) -> Stack | RawStack:
        """Rasters, point features and images of views of one size; of raw views sweeps and images."""
        raw = [view for view in views if isinstance(view, RawView)]
        return stack_raw(raw) if raw else stack(views, self.network.raster_stride, bucket=self._bucket)

    def forward(self, inputs: Stack | RawStack) -> Answer:
        """Most likely classes and the points' confidence; the network's training mode is left as it was."""
        raw = isinstance(inputs, RawStack)
        arrays = (
            (inputs.image, inputs.sweeps, inputs.present, inputs.sweep, inputs.calibration)
            if isinstance(inputs, RawStack)
            else (inputs.image, inputs.lidar, inputs.present, inputs.points, inputs.cell)
        )
        training = self.network.training
        self.network.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, PRECISIONS[self.precision], enabled=self.precision != "fp32"),
            ):
                tensors = [torch.from_numpy(array).to(self.device, non_blocking=True) for array in arrays]
                pixels, points, confidence = self._forward(tensors, raw=raw)
        finally:
            self.network.train(training)
        return Answer(pixels.cpu().numpy(), points.cpu().numpy(), confidence.cpu().numpy())

    def _answer(self, tensors: Sequence[torch.Tensor], *, raw: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        run = answer_raw if raw else answer
        return run(self.network, *tensors)


def answer(
    network: torch.nn.Module,
    image: torch.Tensor,
    lidar: torch.Tensor,
    present: torch.Tensor,
    points: torch.Tensor,
    cell: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The network and what follows it, in every runtime: from the arrays of a ``Stack`` to those of an ``Answer``."""
    output = network(image.permute(0, 3, 1, 2), lidar, present, points, cell)
    logits = output.points.float()
    highest, labels = logits.max(dim=-1)
    # the softmax of the winner alone: exported runtimes are slow at a softmax over few classes
    confidence = 1 / torch.exp(logits - highest[..., None]).sum(dim=-1)
    return output.pixels.argmax(dim=1).to(torch.uint8), labels.to(torch.uint8), confidence


def answer_raw(
    network: Segmenter,
    image: torch.Tensor,
    sweeps: torch.Tensor,
    present: torch.Tensor,
    sweep: torch.Tensor,
    calibration: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``answer`` from the arrays of a ``RawStack``; what no sensor sees, and points outside a view, are unknown."""
    height, width = image.shape[1:3]
    lidar, points, cell = project_and_encode(
        sweeps.index_select(0, sweep), calibration, (height, width), network.raster_stride
    )
    inside = cell >= 0
    present = present * torch.stack([torch.ones_like(inside[:, 0]), inside.any(dim=1)], dim=1)
    lidar = lidar * present[:, 1, None, None, None]
    pixels, labels, confidence = answer(network, image, lidar, present, points, cell)
    sensed = (present > 0).any(dim=1)[:, None]
    return (
        torch.where(sensed[..., None], pixels, IGNORE),
        torch.where(inside, labels, IGNORE),
        torch.where(inside, confidence, 0.0),
    )


def open_torch(
    path: Path, hardware: Hardware, precision: str | None = None, *, compiled: bool = False
) -> tuple[TorchSession, Checkpoint]:
    """What runs the network of a checkpoint, and that checkpoint.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, a device that cannot be used, or a precision that it does not have.
    """
    device, precision = hardware.device, precision or "fp32"
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; torch runs {', '.join(PRECISIONS)} (int8: export the model)")
    if precision != "fp32" and device == "cpu":
        raise ValueError(f"precision {precision} needs a GPU in torch; add device='cuda', or leave precision out")
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}); choose cpu, cuda or cuda:N") from error
    checkpoint = load_checkpoint(path, device=device)
    # images come with their channels last; weights in that order too save a tenth to a third of the time
    network = folded(checkpoint.model).to(memory_format=torch.channels_last)
    return TorchSession(network, device, precision, compiled=compiled), checkpoint
