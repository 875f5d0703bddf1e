"""The total of a configuration's loss terms, normalised so that two processes give the gradient of one.

Terms that are sums over points or pixels are divided by a count over *all* parts of the step (``counts`` needs labels
only, so it is known, and can be all-reduced, before any forward pass), and terms that are no sums (Lovasz, Dice,
Jaccard, boundary) are averaged over the parts. A part is one forward pass: one of ``accumulate`` micro-batches of one
of the processes. So the step's loss is the sum of ``total`` over all parts; where DDP averages gradients over W
processes, multiply by W before ``backward``.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fusionseg.config import LossConfig
from fusionseg.losses.terms import boundary_loss, lovasz_softmax, perception_kl, pixel_loss, set_cross_entropy

COUNTED = ("pixel", "point", "image", "lidar", "perception")


class OutputLike(Protocol):
    """Logits of the network: pixels (B, K, h, w), points (B, N, K), each modality alone (B, K, h, w) or None."""

    @property
    def pixels(self) -> Tensor: ...  # noqa: D102
    @property
    def points(self) -> Tensor: ...  # noqa: D102
    @property
    def image_pixels(self) -> Tensor | None: ...  # noqa: D102
    @property
    def lidar_pixels(self) -> Tensor | None: ...  # noqa: D102


class BatchLike(Protocol):
    """present (B, 2), cell (B, N), point_labels (B, N), supervised (B, N), pixel_labels (B, h, w)."""

    @property
    def present(self) -> Tensor: ...  # noqa: D102
    @property
    def cell(self) -> Tensor: ...  # noqa: D102
    @property
    def point_labels(self) -> Tensor: ...  # noqa: D102
    @property
    def supervised(self) -> Tensor: ...  # noqa: D102
    @property
    def pixel_labels(self) -> Tensor: ...  # noqa: D102


class Losses(NamedTuple):
    """One part's share of the step's loss.

    Attributes:
        total: scalar with graph, exactly 0 where nothing is labelled.
        values: each term by name before its weight, detached scalars; over the parts of a step they add up.
    """

    total: Tensor
    values: dict[str, Tensor]


class _Items(NamedTuple):
    """Labelled pixels: row in (B * h * w), label, and view, each (M,)."""

    row: Tensor
    label: Tensor
    view: Tensor

    def of(self, views: Tensor) -> "_Items":
        keep = views[self.view]
        return self if bool(keep.all()) else _Items(self.row[keep], self.label[keep], self.view[keep])


def _pixel_items(batch: BatchLike, membership: Tensor) -> _Items:
    """Cells of supervised labelled points, and cells with dense labels."""
    meaning = membership.any(dim=1)
    labelled = batch.supervised & (batch.cell >= 0) & meaning.take(batch.point_labels.long())
    size = batch.pixel_labels.shape[1] * batch.pixel_labels.shape[2]
    view, point = labelled.nonzero(as_tuple=True)
    dense = batch.pixel_labels.flatten()
    rows = meaning.take(dense.long()).nonzero()[:, 0]
    return _Items(
        torch.cat([view * size + batch.cell[view, point], rows]),
        torch.cat([batch.point_labels[view, point], dense[rows]]),
        torch.cat([view, rows // size]),
    )


def _both_items(batch: BatchLike) -> _Items:
    """Cells of supervised points of views that have both sensors."""
    size = batch.pixel_labels.shape[1] * batch.pixel_labels.shape[2]
    both = (batch.present > 0).all(dim=1)
    view, point = (batch.supervised & (batch.cell >= 0) & both[:, None]).nonzero(as_tuple=True)
    return _Items(view * size + batch.cell[view, point], batch.point_labels[view, point], view)


def counts(batch: BatchLike, membership: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """(5,) float64 normaliser of each sum, in the order of ``COUNTED``: the (weighted) number of labelled items.

    It depends on labels only; add it up over the parts of a step and pass it to ``total_loss``.
    """
    weights = membership.any(dim=1).double()
    if class_weights is not None:
        weights = weights * class_weights.double()
    pixels = _pixel_items(batch, membership)
    image, lidar = (pixels.of(batch.present[:, sensor] > 0).label for sensor in (0, 1))
    labelled = [pixels.label, batch.point_labels.flatten(), image, lidar]
    sums = [weights.take(label.long()).sum() for label in labelled]
    return torch.stack([*sums, weights.new_tensor(float(len(_both_items(batch).row)))])


def total_loss(
    output: OutputLike,
    batch: BatchLike,
    membership: Tensor,
    config: LossConfig,
    class_weights: Tensor | None = None,
    normalizers: Tensor | None = None,
    parts: int = 1,
) -> Losses:
    """All terms of the configuration, each normalised as the module says.

    Points learn at every labelled point; pixels at cells of supervised points and at dense labels; the auxiliary heads
    at the same pixels where their sensor is present; ``lovasz`` is relative to the weight of the term it joins.

    Args:
        output: logits; those of one modality may be None.
        batch: labels and cells; ``pixel_labels`` and ``output.pixels`` are of one grid.
        membership: (256, K) bool, which classes each label stands for.
        config: weights of the terms.
        class_weights: (256,) float per label, or None.
        normalizers: (5,) ``counts`` added up over all parts of the step; None for this batch alone.
        parts: forward passes in the step, over all processes.

    Raises:
        ValueError: an unknown ``pixel_loss``, or grids of different size.
    """
    if output.pixels.shape[-2:] != batch.pixel_labels.shape[-2:]:
        sizes = f"{tuple(output.pixels.shape[-2:])} and {tuple(batch.pixel_labels.shape[-2:])}"
        raise ValueError(f"logits and pixel labels have sizes {sizes}; collate with the stride of the logits")
    if normalizers is None:
        normalizers = counts(batch, membership, class_weights)
    norm = torch.where(normalizers > 0, normalizers, 1.0).to(torch.float32)
    values: dict[str, Tensor] = {}
    # every output takes part, so that no parameter of a process is without a gradient
    total = sum((o.sum() * 0.0 for o in (output.pixels, output.points)), start=torch.zeros((), device=norm.device))

    def add(name: str, weight: float, value: Tensor, counted: str | None) -> None:
        nonlocal total
        value = value / (norm[COUNTED.index(counted)] if counted else parts)
        values[name] = value.detach()
        total = total + weight * value

    def add_pixels(name: str, weight: float, logits: Tensor, items: _Items) -> Tensor:
        rows = _table(logits).index_select(0, items.row)
        value, summed = pixel_loss(
            config.pixel_loss, rows, items.label, membership, class_weights, config.label_smoothing
        )
        add(name, weight, value, name if summed else None)
        return rows

    items = _pixel_items(batch, membership)
    if config.point:
        logits, labels = output.points.flatten(0, 1), batch.point_labels.flatten()
        value, _ = set_cross_entropy(logits, labels, membership, class_weights, config.label_smoothing)
        add("point", config.point, value, "point")
        if config.lovasz:
            add("lovasz_point", config.point * config.lovasz, lovasz_softmax(logits, labels, membership), None)
    if config.pixel:
        rows = add_pixels("pixel", config.pixel, output.pixels, items)
        if config.lovasz:
            add("lovasz_pixel", config.pixel * config.lovasz, lovasz_softmax(rows, items.label, membership), None)
    if config.boundary:
        add("boundary", config.boundary, boundary_loss(output.pixels, batch.pixel_labels, membership), None)
    image, lidar = output.image_pixels, output.lidar_pixels
    if image is None or lidar is None:
        return Losses(total, values)
    total = total + (image.sum() + lidar.sum()) * 0.0
    if config.auxiliary:
        add_pixels("image", config.auxiliary, image, items.of(batch.present[:, 0] > 0))
        add_pixels("lidar", config.auxiliary, lidar, items.of(batch.present[:, 1] > 0))
    if config.perception:
        row = _both_items(batch).row
        value = perception_kl(_table(image).index_select(0, row), _table(lidar).index_select(0, row))
        add("perception", config.perception, value, "perception")
    return Losses(total, values)


def _table(pixels: Tensor) -> Tensor:
    """(B, K, h, w) -> (B * h * w, K)."""
    return pixels.flatten(2).transpose(1, 2).flatten(0, 1)
