"""Segmentation metrics: confusion counts first, then pure functions of counts (NumPy only).

A confusion matrix has one row per true class and one column per predicted class, (..., G, G) or (..., G, G + 1); the
last column of the latter holds what was left without an answer, which counts against its true class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.labels import IGNORE, ClassTable

Groups = tuple[tuple[int, ...], ...]


class Confusion:
    """Counts of (label, prediction) pairs; labels may stand for sets of classes that a data set cannot tell apart.

    Attributes:
        table: the class table of labels and predictions.
        counts: (L, K + 1) int64: L label values (K classes, then the table's sets), K predicted classes, no answer.
    """

    def __init__(self, table: ClassTable) -> None:
        self.table = table
        self.counts: NDArray[np.int64] = np.zeros((len(table) + len(table.sets), len(table) + 1), dtype=np.int64)

    def add(self, labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> None:
        """Count arrays of one shape; pairs whose label is 255 are left out, a prediction of 255 is no answer.

        Raises:
            ValueError: shapes differ, or a value that the class table does not have.
        """
        if labels.shape != predictions.shape:
            raise ValueError(f"labels have shape {labels.shape}, predictions {predictions.shape}; expected the same")
        rows, columns = self.counts.shape
        pairs = np.bincount(labels.ravel().astype(np.int32) * 256 + predictions.ravel(), minlength=65536)
        pairs = pairs.reshape(256, 256)[:IGNORE]
        if pairs[rows:].any():
            value = rows + int(np.flatnonzero(pairs[rows:].any(axis=1))[0])
            raise ValueError(f"label {value} is not in class table {self.table.name}; expected below {rows}, or 255")
        if pairs[:, columns - 1 : IGNORE].any():
            value = columns - 1 + int(np.flatnonzero(pairs[:, columns - 1 : IGNORE].any(axis=0))[0])
            raise ValueError(f"prediction {value} is no class of table {self.table.name}; expected below {columns - 1}")
        self.counts[:, :-1] += pairs[:rows, : columns - 1]
        self.counts[:, -1] += pairs[:rows, IGNORE]


def groups_of(label_counts: NDArray[np.integer], table: ClassTable) -> Groups:
    """Classes to be scored as one: every ambiguous set that occurs among the labels (L,) joins its members.

    Sets that share a class join too, as a point of either cannot be held against the other. Every class is in exactly
    one group; groups are ordered by their first class.
    """
    parent = list(range(len(table)))
    for members, count in zip(table.sets, label_counts[len(table) :], strict=True):
        if count:
            joined = {parent[i] for i in members}
            parent = [min(joined) if p in joined else p for p in parent]
    return tuple(tuple(i for i, p in enumerate(parent) if p == root) for root in sorted(set(parent)))


def group_names(groups: Groups, table: ClassTable) -> list[str]:
    """``road``, or ``barrier|static_object`` for a merged group."""
    return ["|".join(table.names[i] for i in group) for group in groups]


def merge(counts: NDArray[np.integer], groups: Groups, table: ClassTable) -> NDArray[np.int64]:
    """Counts (..., L, K + 1) of ``Confusion`` as a confusion matrix (..., G, G + 1) over groups.

    Raises:
        ValueError: a set of classes occurs that lies across two groups.
    """
    group_of_class = np.empty(len(table), dtype=np.intp)
    for number, group in enumerate(groups):
        group_of_class[list(group)] = number
    rows = np.zeros((len(groups), len(table) + len(table.sets)), dtype=np.int64)
    rows[group_of_class, np.arange(len(table))] = 1
    for j, members in enumerate(table.sets):
        hosts = {int(group_of_class[i]) for i in members}
        if len(hosts) == 1:
            rows[hosts.pop(), len(table) + j] = 1
        elif counts[..., len(table) + j, :].any():
            raise ValueError(f"label {table.label_name(len(table) + j)} occurs but its classes are not merged")
    columns = np.zeros((len(table) + 1, len(groups) + 1), dtype=np.int64)
    columns[np.arange(len(table)), group_of_class] = 1
    columns[-1, -1] = 1
    merged: NDArray[np.int64] = rows @ counts @ columns
    return merged


def _true_positives(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    hit: NDArray[np.float64] = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    return hit


def _predicted(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    predicted: NDArray[np.float64] = matrix[..., : matrix.shape[-2]].sum(axis=-2).astype(np.float64)
    return predicted


def _share(part: NDArray[np.floating], whole: NDArray[np.floating]) -> NDArray[np.float64]:
    """``part / whole``, NaN where the whole is 0."""
    share: NDArray[np.float64] = np.full(np.broadcast(part, whole).shape, np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share


def class_counts(matrix: NDArray[np.integer]) -> NDArray[np.int64]:
    """(..., G) ground-truth points (pixels) of each class."""
    counts: NDArray[np.int64] = matrix.sum(axis=-1)
    return counts


def pixel_accuracy(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    """(...) share of all points (pixels) that are right; NaN without any."""
    return _share(_true_positives(matrix).sum(axis=-1), class_counts(matrix).sum(axis=-1).astype(np.float64))


def class_accuracy(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    """(..., G) recall of each class; NaN where a class does not occur in the ground truth."""
    return _share(_true_positives(matrix), class_counts(matrix).astype(np.float64))


def mean_class_accuracy(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    """(...) mean recall over the classes that occur."""
    return mean_over(class_accuracy(matrix))


def iou(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    """(..., G) intersection over union of each class (Jaccard); NaN where it does not occur in the ground truth."""
    true = class_counts(matrix).astype(np.float64)
    hit = _true_positives(matrix)
    return np.where(true > 0, _share(hit, true + _predicted(matrix) - hit), np.nan)


def dice(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    """(..., G) Dice coefficient (F1) of each class; NaN where a class does not occur in the ground truth."""
    true = class_counts(matrix).astype(np.float64)
    return np.where(true > 0, _share(2 * _true_positives(matrix), true + _predicted(matrix)), np.nan)


def frequency_weighted_iou(matrix: NDArray[np.integer]) -> NDArray[np.float64]:
    """(...) IoU weighted by how often each class occurs; NaN without any ground truth."""
    true = class_counts(matrix).astype(np.float64)
    return _share(np.nansum(iou(matrix) * true, axis=-1), true.sum(axis=-1))


def mean_over(values: NDArray[np.float64], chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """(...) mean of (..., G) over the chosen classes, NaNs left out; NaN where nothing is left."""
    keep = ~np.isnan(values)
    if chosen is not None:
        keep &= chosen
    return _share(np.where(keep, values, 0.0).sum(axis=-1), keep.sum(axis=-1).astype(np.float64))


def bootstrap_miou(
    frames: NDArray[np.integer], chosen: NDArray[np.bool_], resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of the mean IoU over the chosen classes when frames are drawn with replacement.

    Args:
        frames: (F, G, G or G + 1) one confusion matrix per frame (Efron's percentile bootstrap, 1979).
        chosen: (G,) bool classes of the mean; one that a resample does not hold is left out of that resample.
        resamples: number of draws.
        seed: of the draws.
    """
    return _interval(mean_over(_resampled_iou(frames, resamples, seed), chosen))


@dataclass(frozen=True)
class Change:
    """95 % intervals of what changed from one model to another, in IoU.

    Attributes:
        classes: (low, high) per class; NaN where no resample holds the class.
        mean: (low, high) of the mean over the chosen classes.
    """

    classes: list[tuple[float, float]]
    mean: tuple[float, float]


def bootstrap_change(
    before: NDArray[np.integer],
    after: NDArray[np.integer],
    chosen: NDArray[np.bool_],
    resamples: int = 1000,
    seed: int = 0,
) -> Change:
    """The 2.5 and 97.5 percentiles of ``after`` less ``before`` when the same frames are drawn for both.

    Paired, since frames differ from each other far more than two models do on one frame (Efron and Tibshirani, An
    introduction to the bootstrap, 1993).

    Args:
        before: (F, G, G or G + 1) one confusion matrix per frame.
        after: the same of the other model on the same frames.
        chosen: (G,) bool classes of the mean.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"confusions have shapes {before.shape} and {after.shape}; expected the same frames, classes")
    ious = [_resampled_iou(frames, resamples, seed) for frames in (before, after)]
    difference = ious[1] - ious[0]
    means = mean_over(ious[1], chosen) - mean_over(ious[0], chosen)
    return Change([_interval(column) for column in difference.T], _interval(means))


def _resampled_iou(frames: NDArray[np.integer], resamples: int, seed: int) -> NDArray[np.float64]:
    """(R, G) IoU when frames (F, G, G or G + 1) are drawn with replacement; the draws depend on F and seed alone."""
    count = len(frames)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=resamples)
    matrices = (draws.astype(np.float64) @ frames.reshape(count, -1)).reshape(resamples, *frames.shape[1:])
    return iou(matrices)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def score(
    frames: Sequence[Confusion], groups: Groups, min_count: int = 2000, resamples: int = 1000
) -> dict[str, Any] | None:
    """All figures of one evaluation as plain JSON values, from one ``Confusion`` per frame; None without any label.

    ``miou`` is the mean over groups with at least ``min_count`` ground-truth points (null if there is none), with its
    95 % bootstrap interval over frames (null for one labelled frame, which does not tell how much frames differ);
    ``miou_all`` over every group that occurs. ``left_out`` names the groups that occur but are too rare for ``miou``.
    """
    if not frames or not any(item.counts.any() for item in frames):
        return None
    table = frames[0].table
    per_frame = merge(np.stack([item.counts for item in frames]), groups, table)
    matrix = per_frame.sum(axis=0)
    names = group_names(groups, table)
    counts = class_counts(matrix)
    chosen = counts >= max(min_count, 1)
    per_class = iou(matrix)
    labelled = int((per_frame.sum(axis=(1, 2)) > 0).sum())
    interval = bootstrap_miou(per_frame, chosen, resamples) if chosen.any() and labelled > 1 else None
    return {
        "miou": _plain(mean_over(per_class, chosen)),
        "miou_interval": interval and list(interval),
        "miou_all": _plain(mean_over(per_class)),
        "accuracy": _plain(pixel_accuracy(matrix)),
        "mean_class_accuracy": _plain(mean_class_accuracy(matrix)),
        "frequency_weighted_iou": _plain(frequency_weighted_iou(matrix)),
        "iou": dict(zip(names, map(_plain, per_class), strict=True)),
        "dice": dict(zip(names, map(_plain, dice(matrix)), strict=True)),
        "counts": dict(zip(names, map(int, counts), strict=True)),
        "left_out": [name for name, n, kept in zip(names, counts, chosen, strict=True) if n and not kept],
    }


def _plain(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
