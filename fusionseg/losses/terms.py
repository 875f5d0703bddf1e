"""Single loss terms over label sets, each a function of logits and labels.

A label is a value 0..255 that stands for the set of classes ``membership[label]``; a label without members is ignored.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fusionseg.labels import IGNORE

PIXEL_LOSSES = ("ce", "ohem", "focal", "dice", "jaccard")
LOVASZ_ROWS = 12_000


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
