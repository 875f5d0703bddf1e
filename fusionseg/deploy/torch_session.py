"""Running the network with PyTorch: the only part of the runtime that needs torch."""

from collections.abc import Sequence

import torch

from fusionseg.data.collate import Batch, collate
from fusionseg.data.prepare import View
from fusionseg.deploy.result import Answer
from fusionseg.models.segmenter import Segmenter


class TorchSession:
    """A network on a device, from prepared views to class ids.

    Args:
        network: of any device; it is moved to ``device``.
        device: where it runs.
    """

    name = "torch"

    def __init__(self, network: Segmenter, device: str = "cpu") -> None:
        self.network = network.to(device)
        self.device = device
        # a processor is done with six views a third to a half sooner one by one: what they give rise to stays in its
        # cache; a GPU is filled by several at once
        self.views_at_once = 1 if torch.device(device).type == "cpu" else 6

    def inputs(self, views: Sequence[View]) -> Batch:
        """Rasters, point features and images of views of one size as tensors on the device."""
        return collate(views, self.network.raster_stride).to(self.device)

    def forward(self, inputs: Batch) -> Answer:
        """Most likely classes and the points' confidence; the network's training mode is left as it was."""
        training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode():
                output = self.network(inputs.image, inputs.lidar, inputs.present, inputs.points, inputs.cell)
                pixels = output.pixels.argmax(dim=1).to(torch.uint8)
                confidence, points = output.points.float().softmax(dim=-1).max(dim=-1)
        finally:
            self.network.train(training)
        return Answer(pixels.cpu().numpy(), points.to(torch.uint8).cpu().numpy(), confidence.cpu().numpy())
