"""What a student learns from a teacher: one small function per method, on tensors alone.

The teacher never gets a gradient. Every function returns a mean, exactly 0 with a graph where there is nothing to
compare, and computes in 32 bits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-8
_FLAT = 1e-14
"""Variance of probabilities that is rounding alone."""


def kl_divergence(student: Tensor, teacher: Tensor, weight: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of softened classes (Hinton et al. 2015), times the square of the temperature.

    Logits (M, K); ``weight`` (M,) of each row.
    """
    student, teacher, weight = _heeded(student, teacher, weight)
    if not len(student):
        return student.float().sum() * 0.0
    item = _divergence(student.float() / temperature, teacher.detach().float() / temperature, dim=1)
    return (item * weight).sum() / weight.sum() * temperature**2


def dist(student: Tensor, teacher: Tensor, weight: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """DIST (Huang et al. 2022): one less the correlation of the rows, plus one less that of the columns.

    A row is what one place says of all classes (inter-class relation), a column what all places say of one class
    (intra-class). Correlation, unlike KL, forgives a student that is less sure than its teacher. Logits (M, K);
    ``weight`` (M,) of each row.
    """
    student, teacher, weight = _heeded(student, teacher, weight)
    if not len(student):
        return student.float().sum() * 0.0
    p = functional.softmax(student.float() / temperature, dim=1)
    q = functional.softmax(teacher.detach().float() / temperature, dim=1)
    share = weight / weight.sum()
    inter = (share * _unlike(p, q, torch.full_like(p, 1.0 / p.shape[1]), dim=1)).sum()
    intra = _unlike(p, q, share[:, None].expand_as(p), dim=0).mean()
    return (inter + intra) * temperature**2


def channel_wise(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """CWD (Shu et al. 2021): KL between where each channel of the teacher and of the student looks.

    Features (B, C, h, w); the teacher's are resized to the student's grid.

    Raises:
        ValueError: different numbers of channels, which an adapter has to match.
    """
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"features have {student.shape[1]} and {teacher.shape[1]} channels; put a 1x1 adapter on the student's"
        )
    if not len(student):
        return student.float().sum() * 0.0
    looks = [x.flatten(2) / temperature for x in (student.float(), _resized(teacher, student))]
    return _divergence(looks[0], looks[1], dim=2).mean() * temperature**2


def cross_image_relations(student: Tensor, teacher: Tensor, temperature: float = 0.1, side: int = 8) -> Tensor:
    """CIRKD within a batch (Yang et al. 2022): how alike the places of one image are to those of every other.

    Features (B, C, h, w) and (B, D, h', w'), pooled to ``side`` x ``side`` places; only similarities are compared, so C
    and D may differ.
    """

    def relations(features: Tensor) -> Tensor:
        places = functional.adaptive_avg_pool2d(features.float(), side).flatten(2).transpose(1, 2)
        places = functional.normalize(places, dim=2).flatten(0, 1)
        return (places @ places.t()).reshape(-1, len(features), side * side) / temperature

    if not len(student):
        return student.float().sum() * 0.0
    return _divergence(relations(student), relations(teacher.detach()), dim=2).mean()


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of normalised maps of activation energy (Zagoruyko and Komodakis 2017), (B, any, any, any)."""

    def energy(features: Tensor) -> Tensor:
        return functional.normalize(features.float().square().mean(dim=1).flatten(1), dim=1)

    if not len(student):
        return student.float().sum() * 0.0
    return (energy(student) - energy(_resized(teacher, student))).square().sum(dim=1).mean()


def match_classes(teacher: Sequence[str], student: Sequence[str]) -> list[int]:
    """The teacher's column of each of the student's classes, by name.

    Raises:
        ValueError: the teacher lacks a class; names what is unmatched on both sides.
    """
    missing = [name for name in student if name not in teacher]
    if missing:
        spare = [name for name in teacher if name not in student]
        raise ValueError(
            f"the teacher lacks the classes {', '.join(missing)} of the student"
            + (f" (it has {', '.join(spare)} besides)" if spare else "")
            + "; choose a teacher of the same class table, or set data.classes to the teacher's"
        )
    return [list(teacher).index(name) for name in student]


def _heeded(student: Tensor, teacher: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of some weight, so that what a teacher did not say (NaN) may stand in the others."""
    if weight is None:
        return student, teacher, student.new_ones(len(student), dtype=torch.float32)
    rows = (weight > 0).nonzero()[:, 0]
    return student[rows], teacher[rows], weight[rows].float()


def _divergence(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
    """KL(teacher || student) of the softmax along ``dim``; a class that the teacher rules out (-inf) counts nothing."""
    log_student, target = functional.log_softmax(student, dim=dim), functional.softmax(teacher, dim=dim)
    return functional.kl_div(log_student, target, reduction="none").sum(dim=dim)


def _unlike(x: Tensor, y: Tensor, share: Tensor, dim: int) -> Tensor:
    """One less Pearson's correlation along ``dim``; ``share`` of each item adds up to 1.

    0 where ``y`` does not vary: it has no relation to teach.
    """
    x = x - (share * x).sum(dim=dim, keepdim=True)
    y = y - (share * y).sum(dim=dim, keepdim=True)
    variance = (share * y * y).sum(dim=dim)
    spread = (share * x * x).sum(dim=dim) * variance
    return (1.0 - (share * x * y).sum(dim=dim) / (spread + _TINY**2).sqrt()) * (variance > _FLAT)


def _resized(teacher: Tensor, student: Tensor) -> Tensor:
    teacher = teacher.detach().float()
    if teacher.shape[2:] == student.shape[2:]:
        return teacher
    return functional.interpolate(teacher, size=student.shape[2:], mode="bilinear", align_corners=False)
