"""Image-only networks to compare with, run the way their authors publish them but in our runtime, on our images.

Random weights: they cost the same time as trained ones, nothing is downloaded, and there is no accuracy to report.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.prepare import resize_image, resize_labels
from fusionseg.deploy.costs import count_macs, count_parameters
from fusionseg.sample import Sample

if TYPE_CHECKING:
    from torch import nn

CLASSES = 12
PAD_MULTIPLE = 32
Forward = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""(1, H, W, 3) RGB to (H, W) classes."""


def _lraspp() -> "nn.Module":
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    network: nn.Module = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES)
    return network


def _smp(architecture: str) -> "nn.Module":
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise ValueError(
            f"peer {architecture} needs segmentation-models-pytorch; pip install 'fusionseg[train]'"
        ) from error
    network: nn.Module = getattr(smp, architecture)("mobilenet_v2", encoder_weights=None, classes=CLASSES)
    return network


PEERS: dict[str, Callable[[], "nn.Module"]] = {
    "lraspp_mobilenet_v3_large": _lraspp,
    "deeplabv3plus_mobilenet_v2": lambda: _smp("DeepLabV3Plus"),
    "unet_mobilenet_v2": lambda: _smp("Unet"),
}
"""torchvision's LR-ASPP (Howard et al. 2019), segmentation-models-pytorch's DeepLabV3+ (Chen et al. 2018) and U-Net
(Ronneberger et al. 2015) on MobileNetV2."""


def build_peer(name: str) -> "nn.Module":
    """(1, H, W, 3) uint8 RGB to (H, W) uint8 classes: ImageNet's normalisation, the network, argmax at full size.

    Raises:
        ValueError: unknown peer, or its package is missing.
    """
    if name not in PEERS:
        raise ValueError(f"peer {name!r} is not known; choose among {', '.join(PEERS)}")
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    class Labeller(nn.Module):
        mean: Tensor
        scale: Tensor

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("mean", 255 * torch.tensor([0.485, 0.456, 0.406])[:, None, None])
            self.register_buffer("scale", 1 / (255 * torch.tensor([0.229, 0.224, 0.225]))[:, None, None])

        def forward(self, image: Tensor) -> Tensor:
            height, width = image.shape[1:3]
            x = (image.permute(0, 3, 1, 2).float() - self.mean) * self.scale
            below, right = -height % PAD_MULTIPLE, -width % PAD_MULTIPLE
            x = functional.pad(x, (0, right, 0, below)) if below or right else x
            output = self.network(x)
            logits = output["out"] if isinstance(output, dict) else output
            labels: Tensor = logits[0, :, :height, :width].argmax(dim=0).to(torch.uint8)
            return labels

    return Labeller(PEERS[name]()).eval()


def peer_costs(network: "nn.Module", size: tuple[int, int]) -> dict[str, int]:
    """``params`` and ``macs`` of a peer at an input size."""
    import torch

    image = torch.zeros(1, *size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        return {"params": count_parameters(network), "macs": count_macs(lambda: network(image))}


def export_peer(network: "nn.Module", path: Path, size: tuple[int, int]) -> None:
    """The peer as an ONNX file for inputs of ``size`` (height, width), as ONNX Runtime and OpenVINO read it.

    Raises:
        ValueError: the exporter is missing.
    """
    import torch

    example = torch.zeros(1, *size, 3, dtype=torch.uint8)
    try:
        torch.onnx.export(
            network,
            (example,),
            str(path),
            input_names=["image"],
            output_names=["labels"],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except ImportError as error:
        raise ValueError(f"peers in an exported runtime need {error.name}; pip install 'fusionseg[deploy]'") from error


def torch_forward(network: "nn.Module", device: str) -> Forward:
    """The peer in PyTorch."""
    import torch

    network = network.to(device)

    def forward(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with torch.inference_mode():
            labels: NDArray[np.uint8] = network(torch.from_numpy(image).to(device)).cpu().numpy()
        return labels

    return forward


def onnxruntime_forward(path: Path, threads: int) -> Forward:
    """The exported peer in ONNX Runtime on the CPU."""
    import onnxruntime

    from fusionseg.deploy.onnx_session import session_options

    session = onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def openvino_forward(path: Path, threads: int) -> Forward:
    """The exported peer in OpenVINO on the CPU, for shortest latency."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()

    def forward(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        labels: NDArray[np.uint8] = np.array(request.infer([image], share_inputs=True)[0])
        return labels

    return forward


def open_forward(name: str, runtime: str, file: Path, threads: int, device: str = "cpu") -> Forward:
    """The peer in a runtime: from its exported ``file``, or built anew for torch.

    Raises:
        ValueError: peers cannot run there.
    """
    if runtime == "torch":
        return torch_forward(build_peer(name), device)
    if device != "cpu":
        raise ValueError(f"peers run on {device} in torch alone; compare checkpoints there, or exports on cpu")
    if runtime == "onnxruntime":
        return onnxruntime_forward(file, threads)
    if runtime == "openvino":
        return openvino_forward(file, threads)
    raise ValueError(f"peers do not run in {runtime!r}; compare in torch, onnxruntime or openvino")


@dataclass(frozen=True)
class Peer:
    """A peer at work.

    Attributes:
        name: of the network.
        size: (height, width) of its input.
        forward: the network, normalisation and argmax included.
    """

    name: str
    size: tuple[int, int]
    forward: Forward

    def run(self, sample: Sample) -> dict[str, float]:
        """Label one image at its own size; milliseconds of the stages and their ``total``.

        Raises:
            ValueError: there is no image.
        """
        if sample.image is None:
            raise ValueError(
                f"{sample.log} frame {sample.frame} has no image; peers see nothing else, leave --peers out"
            )
        began = perf_counter()
        resized = resize_image(sample.image, self.size[1], self.size[0])
        ready = perf_counter()
        labels = self.forward(resized[None])
        answered = perf_counter()
        resize_labels(labels, sample.camera.width, sample.camera.height)
        done = perf_counter()
        return stage_times(began, ready, answered, done)


def stage_times(began: float, ready: float, answered: float, done: float) -> dict[str, float]:
    """Milliseconds per stage of what projects nothing, from the seconds at which its stages ended."""
    spent: dict[str, Any] = {"project": 0.0, "preprocess": ready - began, "forward": answered - ready}
    spent |= {"postprocess": done - answered, "total": done - began}
    return {stage: 1e3 * seconds for stage, seconds in spent.items()}
