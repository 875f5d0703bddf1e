"""Losses over label sets: cross entropy, OHEM, Lovasz-softmax, boundaries, perception-aware KL, and their total.

A label is a value 0..255 that stands for the set of classes ``membership[label]``; a label without members is ignored.

Two processes give the gradient of one: terms that are sums over points or pixels are divided by a count over *all*
parts of the step (``counts`` needs labels only, so it is known, and can be all-reduced, before any forward pass), and
terms that are no sums (Lovasz, Dice, Jaccard, boundary) are averaged over the parts. A part is one forward pass: one of
``accumulate`` micro-batches of one of the processes. So the step's loss is the sum of ``total`` over all parts; where
DDP averages gradients over W processes, multiply by W before ``backward``.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fusionseg.config import LossConfig
from fusionseg.labels import IGNORE

COUNTED = ("pixel", "point", "image", "lidar", "perception")
PIXEL_LOSSES = ("ce", "ohem", "focal", "dice", "jaccard")
LOVASZ_ROWS = 12_000


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


def class_weights(label_counts: Tensor, power: float, membership: Tensor | None = None) -> Tensor:
    """(256,) float weight per label: frequency to the ``-power``, mean 1 over the classes that occur (1 for others).

    Args:
        label_counts: (256,) how often each label occurs; 255 is left out.
        power: 0 weighs all alike, 1 makes all labels count the same in sum.
        membership: (256, K); with it the count of a label for a set is shared evenly among its members, and the label
            weighs what they weigh on average.
    """
    count = label_counts.to(torch.float64).clone()
    count[IGNORE] = 0
    weights = torch.ones(256, dtype=torch.float64)
    if membership is None:
        single = count > 0
        if bool(single.any()):
            inverse = count[single] ** -power
            weights[single] = inverse / inverse.mean()
        return weights.float()
    members = membership.to(torch.float64).cpu()
    size = members.sum(dim=1, keepdim=True).clamp(min=1)
    per_class = (members / size).t() @ count
    occurs = per_class > 0
    if not bool(occurs.any()):
        return weights.float()
    class_weight = torch.ones_like(per_class)
    inverse = per_class[occurs] ** -power
    class_weight[occurs] = inverse / inverse.mean()
    # one more than counted, so that a set of classes that never occur has a mean
    share = members * (per_class + 1.0)
    labels = members.any(dim=1)
    weights[labels] = (share[labels] @ class_weight) / share[labels].sum(dim=1)
    return weights.float()


def set_cross_entropy_items(logits: Tensor, labels: Tensor, membership: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """(M,) -log of the summed probability of each label's set; logits (M, K), labels (M,), all with members."""
    # classes in rows: a softmax over few neighbours in memory does not vectorise
    log_p = functional.log_softmax(logits.float().t().contiguous(), dim=0)
    index = labels.long()
    item = -log_p.gather(0, _first_member(membership).take(index)[None])[0]
    ambiguous = _ambiguous(membership).take(index).nonzero()[:, 0]
    if len(ambiguous):
        members = membership.index_select(0, index[ambiguous]).t()
        some = log_p.index_select(1, ambiguous).masked_fill(~members, -math.inf)
        item = item.index_copy(0, ambiguous, -torch.logsumexp(some, dim=0))
    if label_smoothing:
        item = (1 - label_smoothing) * item - label_smoothing * log_p.mean(dim=0)
    return item


def _first_member(membership: Tensor) -> Tensor:
    """(256,) int64."""
    return membership.to(torch.uint8).argmax(dim=1)


def _ambiguous(membership: Tensor) -> Tensor:
    """(256,) bool."""
    return membership.sum(dim=1) > 1


def _certain(membership: Tensor, labels: Tensor) -> Tensor:
    """Rows of labels (M,) that stand for exactly one class."""
    return (membership.sum(dim=1) == 1).take(labels.long()).nonzero()[:, 0]


def set_cross_entropy(
    logits: Tensor, labels: Tensor, membership: Tensor, weights: Tensor | None = None, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Sum of the weighted items and sum of their weights; logits (M, K), labels (M,), weights (256,) per label."""
    valid = membership.any(dim=1).take(labels.long()).nonzero()[:, 0]
    if len(valid) < len(labels):
        labels, logits = labels[valid], logits.index_select(0, valid)
    item = set_cross_entropy_items(logits, labels, membership, label_smoothing)
    weight = torch.ones_like(item) if weights is None else weights.take(labels.long())
    return (item * weight).sum(), weight.sum()


def hardest(item: Tensor, weight: Tensor, keep: float = 0.25, threshold: float = 0.7) -> Tensor:
    """Weighted sum of the hard items (M,), scaled to all of them: online hard example mining (Shrivastava et al. 2016).

    Hard is a probability below ``threshold``, and at least the hardest share ``keep`` (as in PIDNet, Xu et al. 2023).
    The sum is multiplied by all weights over the kept weights, so that it is divided by the same count as any other.
    """
    if not len(item):
        return item.sum()
    kept = max(1, math.ceil(keep * len(item)))
    least = item.detach().kthvalue(len(item) - kept + 1).values
    hard = (item.detach() >= least.clamp(max=-math.log(threshold))).to(item.dtype) * weight
    return (item * hard).sum() * weight.sum() / hard.sum().clamp(min=1e-12)


def lovasz_softmax(logits: Tensor, labels: Tensor, membership: Tensor, rows: int = LOVASZ_ROWS) -> Tensor:
    """Lovasz-softmax (Berman et al. 2018) over the labels present, mean over them.

    A label for a set of classes is one more region, whose probability is that of its members together. For a class of
    such a set its points are neither right nor wrong. Of logits (M, K) at most ``rows`` are used, evenly spaced,
    because the sort is what costs.
    """
    labelled = membership.any(dim=1).take(labels.long()).nonzero()[:, 0]
    if len(labelled) > rows:
        labelled = labelled[torch.linspace(0, len(labelled) - 1, rows, device=labelled.device).long()]
    if not len(labelled):
        return logits.sum() * 0.0
    label = labels[labelled].long()
    present = torch.bincount(label, minlength=256).nonzero()[:, 0]
    region = membership[present]
    # (R, 256): a label lies within a region, or overlaps it without lying within
    common = region.float() @ membership.float().t()
    within = (common == membership.sum(dim=1)) & (common > 0)
    unclear = ((common > 0) & ~within)[:, label]
    truth = within[:, label].float()
    chosen = logits.index_select(0, labelled).float().t().contiguous()
    probability = region.float() @ functional.softmax(chosen, dim=0)
    # an error of 0 sorts last and adds nothing
    probability = torch.where(unclear, truth, probability)
    error, order = (truth - probability).abs().sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    total = truth.sum(dim=1, keepdim=True)
    jaccard = 1.0 - (total - truth.cumsum(dim=1)) / (total + (1.0 - truth).cumsum(dim=1))
    jaccard[:, 1:] = jaccard[:, 1:] - jaccard[:, :-1].clone()
    return (error * jaccard).sum(dim=1).mean()


def boundary_loss(logits: Tensor, pixel_labels: Tensor, membership: Tensor) -> Tensor:
    """Balanced binary cross entropy on 'do two neighbours differ', logits (B, K, h, w), dense labels (B, h, w).

    The weighting is that of PIDNet's boundary branch (Xu et al. 2023); having no such branch, the probability of a
    boundary is the one that the class probabilities of two neighbouring pixels imply. Pairs of labels that may or may
    not be the same class are left out.
    """
    p = functional.softmax(logits.float(), dim=1)
    predicted, truth = [], []
    for axis in (1, 2):
        count = pixel_labels.shape[axis] - 1
        a, b = pixel_labels.narrow(axis, 0, count).long(), pixel_labels.narrow(axis, 1, count).long()
        common = (membership[a] & membership[b]).any(dim=-1)
        labelled = membership.any(dim=1)[a] & membership.any(dim=1)[b]
        decided = labelled & (~common | ((a == b) & (membership.sum(dim=1)[a] == 1)))
        same = (p.narrow(axis + 1, 0, count) * p.narrow(axis + 1, 1, count)).sum(dim=1)
        predicted.append(same[decided])
        truth.append(~common[decided])
    same, edge = torch.cat(predicted).clamp(1e-6, 1 - 1e-6), torch.cat(truth).float()
    if not len(edge):
        return logits.sum() * 0.0
    share = edge.mean()
    # PIDNet: each kind weighs as much as there is of the other
    weight = torch.where(edge > 0, 1 - share, share)
    item = -edge * torch.log1p(-same) - (1 - edge) * torch.log(same)
    return (item * weight).sum() / weight.sum() if bool((share > 0) & (share < 1)) else item.mean()


def perception_kl(image: Tensor, lidar: Tensor) -> Tensor:
    """Summed perception-aware KL (PMF, Zhuang et al. 2021) between the modalities' logits, both (M, K).

    Where one is more confident (1 - entropy / log K) it guides the other: KL(guide || other) weighted by the guide's
    confidence, the guide detached.
    """
    log_image = functional.log_softmax(image.float(), dim=1)
    log_lidar = functional.log_softmax(lidar.float(), dim=1)
    scale = 1.0 / math.log(image.shape[1])
    sure_image = 1.0 + (log_image.detach().exp() * log_image.detach()).sum(dim=1) * scale
    sure_lidar = 1.0 + (log_lidar.detach().exp() * log_lidar.detach()).sum(dim=1) * scale

    def guided(guide: Tensor, other: Tensor, weight: Tensor) -> Tensor:
        guide = guide.detach()
        return ((guide.exp() * (guide - other)).sum(dim=1) * weight).sum()

    from_image = guided(log_image, log_lidar, sure_image * (sure_image > sure_lidar))
    return from_image + guided(log_lidar, log_image, sure_lidar * (sure_lidar > sure_image))


def _library_loss(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Dice or Jaccard of segmentation_models_pytorch on logits (1, K, M) and classes (1, M), or its focal loss.

    Focal is one sigmoid per class, (M, K) logits and (M, K) zeros and ones to (M * K,): its binary mode, because what
    the multi-class mode reduces over differs between versions.
    """
    try:
        from segmentation_models_pytorch import losses as library
    except ImportError as error:
        raise ValueError(
            f"pixel_loss {kind!r} needs segmentation_models_pytorch; pip install fusionseg[train]"
        ) from error
    made: Any
    if kind == "focal":
        made = library.FocalLoss("binary", reduction="none")
    else:
        made = (library.DiceLoss if kind == "dice" else library.JaccardLoss)("multiclass", from_logits=True)
    return made  # type: ignore[no-any-return]


def pixel_loss(
    kind: str, logits: Tensor, labels: Tensor, membership: Tensor, weights: Tensor | None, label_smoothing: float = 0.0
) -> tuple[Tensor, bool]:
    """A pixel loss by name on logits (M, K), labels (M,), all with members, and whether it is a sum over items.

    ``focal``, ``dice`` and ``jaccard`` leave ambiguous labels out.

    Raises:
        ValueError: an unknown name, or the library for it is not installed.
    """
    if kind not in PIXEL_LOSSES:
        raise ValueError(f"loss.pixel_loss is {kind!r}; choose one of {', '.join(PIXEL_LOSSES)}")
    if kind == "ce":
        return set_cross_entropy(logits, labels, membership, weights, label_smoothing)[0], True
    weight = (torch.ones(256, device=logits.device) if weights is None else weights).take(labels.long())
    if kind == "ohem":
        return hardest(set_cross_entropy_items(logits, labels, membership, label_smoothing), weight), True
    loss = _library_loss(kind)
    certain = _certain(membership, labels)
    if not len(certain):
        return logits.sum() * 0.0, kind == "focal"
    some = logits.index_select(0, certain).float()
    classes = _first_member(membership).take(labels[certain].long())
    if kind == "focal":
        item = loss(some, functional.one_hot(classes, some.shape[1])).reshape(some.shape).sum(dim=1)
        return (item * weight[certain]).sum(), True
    return loss(some.t()[None], classes[None]), False


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
