"""Whether an exported model still says what its PyTorch original says, measured on frames of a log."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.log import FrameError, Log
from fusionseg.data.prepare import View, fit_size, prepare
from fusionseg.deploy.result import ViewResult
from fusionseg.deploy.runtime import SENSORS, Model, Sensors
from fusionseg.labels import IGNORE, ClassTable
from fusionseg.metrics import Confusion, groups_of, score

MIN_AGREEMENT = 0.999
MAX_DROP = {"fp16": 0.005, "int8": 0.01}
"""Of the mean IoU of points, where the precision is less than fp32."""
MIN_COUNT = 2000


@dataclass(frozen=True)
class Parity:
    """What an export was measured to do.

    Attributes:
        agreement: smallest share of pixels and of points, over the sensor settings, that get the same class.
        miou_drop: largest loss in mean IoU of points over the sensor settings; None without labels.
        views: how many were compared.
        sensors: setting -> figures.
        kept_float: of an int8 export the parts of the network that lost too much in eight bits.
    """

    agreement: float
    miou_drop: float | None
    views: int
    sensors: dict[str, dict[str, float | None]]
    kept_float: tuple[str, ...] = ()

    def refusal(self, precision: str) -> str | None:
        """Why an export of that precision must not be used, or None if it may."""
        if precision == "fp32":
            if self.agreement >= MIN_AGREEMENT:
                return None
            return f"{self.agreement:.4%} of the labels agree with PyTorch, at least {MIN_AGREEMENT:.1%} must"
        limit = MAX_DROP[precision]
        if self.miou_drop is not None and self.miou_drop <= limit:
            return None
        lost = "not known" if self.miou_drop is None else f"{100 * self.miou_drop:.2f} points"
        return f"the mean IoU of points lost is {lost}, at most {100 * limit:.1f} points may be"

    def describe(self) -> str:
        """A table for people."""
        lines = [f"parity with PyTorch on {self.views} views"]
        for setting, figures in self.sensors.items():
            words = [f"{figures[kind]:.4%} of {kind} agree" for kind in ("pixels", "points")]
            if figures["miou"] is not None:
                words.append(f"mIoU of points {figures['miou_torch']:.4f} in PyTorch, {figures['miou']:.4f} exported")
            lines.append(f"  {setting:7}{', '.join(words)}")
        if self.kept_float:
            lines.append(f"  in float: {', '.join(self.kept_float)}")
        return "\n".join(lines)


def pick_views(
    log: Log,
    model: Model,
    count: int,
    frames: Sequence[int] | None = None,
    cameras: Sequence[str] | None = None,
) -> list[View]:
    """``count`` views of a log (all, where it has fewer) at evenly spaced frames, the cameras taking turns.

    Their labels are left out where they are not of the model's class table.

    Raises:
        FrameError: an unreadable frame, if the log is strict.
        ValueError: every frame is unreadable.
    """
    frames, cameras = list(frames or log.frames), list(cameras or log.cameras)
    most = max(min(count, len(frames)) - 1, 1)
    chosen = sorted({frames[round(i * (len(frames) - 1) / most)] for i in range(min(count, len(frames)))})
    # a log of few frames gives several cameras of each
    turns = min(len(cameras), -(-count // len(chosen)))
    views: list[View] = []
    for turn, (place, frame) in product(range(turns), enumerate(chosen)):
        try:
            sample = log.sample(frame, cameras[(place + turn) % len(cameras)])
        except FrameError:
            if log.strict:
                raise
            continue
        view = prepare(sample, fit_size(model.size, sample.camera))
        views.append(view if log.table.names == model.table.names else replace(view, labels=None))
    if not views:
        raise ValueError(f"{log.path}: no frame can be read; fusionseg inspect says why, name another log")
    return views[:count]


def settings_of(log: Log) -> list[Sensors]:
    """The sensor settings for which a log has the sensors."""
    has = {"both": log.has_images and log.has_lidar, "camera": log.has_images, "lidar": log.has_lidar}
    return [setting for setting in SENSORS if has[setting]]


def has_labels(views: Sequence[View]) -> bool:
    """Whether any point of the views has a label."""
    return any(view.labels is not None and (view.labels != IGNORE).any() for view in views)


def compare(reference: Model, candidate: Model, views: Sequence[View], settings: Sequence[Sensors]) -> Parity:
    """Compare the answers of two models, one of them the PyTorch original, on prepared views."""
    truths = [view.labels for view in views]
    sensors: dict[str, dict[str, float | None]] = {}
    agreements, drops = [], []
    for setting in settings:
        pairs = [
            (reference.predict_views([view], setting)[0], candidate.predict_views([view], setting)[0]) for view in views
        ]
        pixels = _agreement([(a.pixels, b.pixels) for a, b in pairs])
        points = _agreement([(a.points, b.points) for a, b in pairs])
        before = miou(truths, [a.points for a, _ in pairs], reference.table)
        after = miou(truths, [b.points for _, b in pairs], reference.table)
        sensors[setting] = {
            "pixels": pixels,
            "points": points,
            "confidence_difference": max((_distance(a, b) for a, b in pairs), default=0.0),
            "miou_torch": before,
            "miou": after,
        }
        agreements += [pixels, points]
        if before is not None and after is not None:
            drops.append(before - after)
    return Parity(min(agreements), max(drops, default=None), len(views), sensors)


def miou(
    labels: Sequence[NDArray[np.uint8] | None], predictions: Sequence[NDArray[np.uint8]], table: ClassTable
) -> float | None:
    """Mean IoU of points over the classes with ``MIN_COUNT`` of them (all that occur, where none has); None unlabelled.

    Args:
        labels: (M,) of each view, or None.
        predictions: (M,) of each view.
        table: of the classes.
    """
    frames = []
    for truth, predicted in zip(labels, predictions, strict=True):
        if truth is not None:
            frames.append(Confusion(table))
            frames[-1].add(truth, predicted)
    totals = sum((frame.counts.sum(axis=1) for frame in frames), start=Confusion(table).counts.sum(axis=1))
    figures = score(frames, groups_of(totals, table), MIN_COUNT, resamples=1)
    if figures is None:
        return None
    value: float | None = figures["miou_all"] if figures["miou"] is None else figures["miou"]
    return value


def _agreement(pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> float:
    same = sum(int((a == b).sum()) for a, b in pairs)
    return same / max(sum(a.size for a, _ in pairs), 1)


def _distance(a: ViewResult, b: ViewResult) -> float:
    return float(np.abs(a.confidence - b.confidence).max(initial=0.0))
