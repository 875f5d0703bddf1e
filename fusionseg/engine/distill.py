"""What a teacher adds to the loss of a training step."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusionseg.config import DistillConfig
from fusionseg.data.collate import Batch, TeacherBatch
from fusionseg.labels import IGNORE
from fusionseg.losses.distillation import attention_transfer, channel_wise, cross_image_relations, dist, kl_divergence
from fusionseg.losses.total import Losses
from fusionseg.models.segmenter import Output

ROWS = 16384
"""Places of a step at most, evenly spaced, whose logits are compared."""


def needs_feature(config: DistillConfig) -> bool:
    """Whether a method compares features."""
    return bool(config.cwd or config.cirkd or config.attention)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Places to compare: (M, K) logits of both."""

    student: Tensor
    teacher: Tensor


class Distiller(nn.Module):
    """The terms of a ``DistillConfig``; its only weights are the adapter from the student's feature to the teacher's.

    Args:
        config: weights of the methods.
        channels: of the student's fused feature at stride 8.
        teacher_channels: of the teacher's feature, or None where no method compares features.
    """

    def __init__(self, config: DistillConfig, channels: int, teacher_channels: int | None) -> None:
        super().__init__()
        self.config = config
        adapted = config.cwd and teacher_channels is not None
        self.adapter = nn.Conv2d(channels, teacher_channels or 1, 1) if adapted else None

    def forward(self, output: Output, batch: Batch) -> Losses:
        """The weighted sum of the methods for one forward pass, and each term before its weight."""
        config, said = self.config, batch.teacher
        assert said is not None
        total = output.pixels.sum() * 0.0
        values: dict[str, Tensor] = {}
        if self.adapter is not None:
            total = total + sum(p.sum() * 0.0 for p in self.adapter.parameters())

        def add(name: str, weight: float, value: Tensor) -> None:
            nonlocal total
            values[f"distill_{name}"] = value.detach()
            total = total + weight * value

        views = self._views(batch)
        pairs = {"pixel": (1.0, self._pixels(output, batch, said, views))}
        if config.point:
            pairs["point"] = (config.point, self._points(output, batch, said, views))
        for name, (weight, rows) in pairs.items():
            if config.dist:
                value = dist(rows.student, rows.teacher, None, config.temperature)
                add(f"dist_{name}", weight * config.dist, value)
            if config.kl:
                value = kl_divergence(rows.student, rows.teacher, None, config.temperature)
                add(f"kl_{name}", weight * config.kl, value)
        if said.feature is not None and output.fused is not None and bool(views.any()):
            mine, theirs = output.fused[views].float(), said.feature[views]
            if config.cwd and self.adapter is not None:
                add("cwd", config.cwd, channel_wise(self.adapter(mine), theirs))
            if config.cirkd:
                add("cirkd", config.cirkd, cross_image_relations(mine, theirs))
            if config.attention:
                add("attention", config.attention, attention_transfer(mine, theirs))
        return Losses(total, values)

    def _views(self, batch: Batch) -> Tensor:
        """(B,) bool, the views that the teacher comments on."""
        both = (batch.present > 0).all(dim=1)
        return torch.ones_like(both) if self.config.any_sensor else both

    def _pixels(self, output: Output, batch: Batch, said: TeacherBatch, views: Tensor) -> _Rows:
        heeded = (said.pixel_weight > 0) & self._sure(said.pixels.movedim(1, -1), batch) & views[:, None, None]
        if not self.config.gaps:
            heeded &= self._labelled_cells(batch)
        rows = _some(heeded.flatten())
        student, teacher = (t.movedim(1, -1).flatten(0, 2)[rows] for t in (output.pixels, said.pixels))
        return _Rows(student, teacher)

    def _labelled_cells(self, batch: Batch) -> Tensor:
        """(B, h, w) bool, the cells of labels and labelled points (turned ones too), and all of a view without any."""
        labelled = batch.pixel_labels != IGNORE
        view, point = ((batch.cell >= 0) & (batch.point_labels != IGNORE)).nonzero(as_tuple=True)
        labelled.flatten(1)[view, batch.cell[view, point]] = True
        return labelled | ~self._labelled_views(batch)[:, None, None]

    def _labelled_views(self, batch: Batch) -> Tensor:
        """(B,) bool."""
        return (batch.point_labels != IGNORE).any(dim=1) | (batch.pixel_labels != IGNORE).flatten(1).any(dim=1)

    def _points(self, output: Output, batch: Batch, said: TeacherBatch, views: Tensor) -> _Rows:
        heeded = (said.point_weight > 0) & (batch.cell >= 0) & self._sure(said.points, batch) & views[:, None]
        rows = _some(heeded.flatten())
        return _Rows(output.points.flatten(0, 1)[rows], said.points.flatten(0, 1)[rows])

    def _sure(self, logits: Tensor, batch: Batch) -> Tensor:
        """Where a view has no labels of its own, only an answer above the threshold counts; logits (B, ..., K)."""
        labelled = self._labelled_views(batch)
        if bool(labelled.all()):
            return torch.ones_like(logits[..., 0], dtype=torch.bool)
        sure = logits.softmax(dim=-1).amax(dim=-1) >= self.config.confidence
        return sure | labelled.reshape(-1, *[1] * (sure.dim() - 1))


def _some(mask: Tensor) -> Tensor:
    """At most ``ROWS`` rows of the mask, evenly spaced."""
    rows = mask.nonzero()[:, 0]
    if len(rows) <= ROWS:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, ROWS, device=rows.device).long()]
