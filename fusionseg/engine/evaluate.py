"""How good a model is on a log: the three sensor settings score the same points and pixels."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.log import FrameError, Log, Skipped
from fusionseg.data.prepare import View, prepare_frame
from fusionseg.data.transforms import thin_lidar
from fusionseg.deploy.result import HEAD_STRIDE, PointLabels, ViewResult, merge_views
from fusionseg.deploy.runtime import SENSORS, Model, Sensors
from fusionseg.geometry.projection import cells, nearest_per_cell
from fusionseg.labels import IGNORE, ClassTable
from fusionseg.metrics import Confusion, Groups, group_names, groups_of, score

Views = Callable[[int, Sequence[str]], list[View]]
KINDS = ("points", "points_visible", "pixels")
LABELS_WITHIN = 10
"""Frames among which there must be one with labels."""


class NoLabelsError(ValueError):
    """A log has no labels to score against."""


@dataclass(eq=False)
class _Truth:
    """The labels of one sweep: in view, once per point.

    Attributes:
        rows: (M,) rows of the sweep that at least one view sees and that have a label.
        labels: (M,) their labels.
        visible: (M,) bool, passes the occlusion test in a view that sees it.
        count: rows of the sweep that need to be kept, at least the largest row + 1.
        pixels: per view, (H, W) dense labels at their own size, or None.
    """

    rows: NDArray[np.intp]
    labels: NDArray[np.uint8]
    visible: NDArray[np.bool_]
    count: int
    pixels: list[NDArray[np.uint8] | None]


@dataclass(eq=False)
class _Counts:
    """Per-frame confusions of one sensor setting, by kind."""

    table: ClassTable
    frames: dict[str, list[Confusion]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def add(self, truth: _Truth, labels: PointLabels, results: Sequence[ViewResult]) -> None:
        """Count one frame."""
        frame = {kind: Confusion(self.table) for kind in KINDS}
        predicted = labels.points[truth.rows]
        frame["points"].add(truth.labels, predicted)
        frame["points_visible"].add(truth.labels[truth.visible], predicted[truth.visible])
        for dense, result in zip(truth.pixels, results, strict=True):
            if dense is not None:
                frame["pixels"].add(dense, result.pixels_at(*dense.shape))
        for kind, confusion in frame.items():
            self.frames[kind].append(confusion)

    def totals(self) -> NDArray[np.int64]:
        """(L,) how often each label value occurs in points and pixels."""
        total = Confusion(self.table).counts
        for item in self.frames["points"] + self.frames["pixels"]:
            total += item.counts
        counts: NDArray[np.int64] = total.sum(axis=1)
        return counts


def evaluate(
    model: Model,
    log: Log,
    *,
    frames: str | Sequence[int] | None = None,
    cameras: Sequence[str] | None = None,
    sensors: Sequence[Sensors] = SENSORS,
    min_count: int = 2000,
    oracle: bool = False,
    withheld: bool = False,
    strict: bool = True,
    views: Views | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a model on a log; the answer is plain JSON (keys as in DESIGN.md, "Metrics and contracts").

    Points are the returns inside at least one selected image, each counted once per sweep with the label of its most
    confident view; pixels are scored at their labels' own size. A setting whose sensor the log lacks is null, and so
    is ``pixels`` without dense labels. ``oracle`` adds the mean IoU when every point takes the true label of the
    nearest point in its stride-4 cell: what the z-buffer alone would allow at the input size. ``withheld`` scores the
    pixels that no label of a log reaches, those between the beams: bands of beams are taken from both sensors' input
    (``thin_lidar``, seeded), and the points in them that nothing hides say what their pixels should have been.

    Args:
        model: what predicts.
        log: what is predicted, with labels of the model's class table.
        frames: ``A:B`` (half-open, the log's own numbers), frame numbers, or None for all.
        cameras: names, or None for all.
        sensors: settings to score, of ``both``, ``camera``, ``lidar``.
        min_count: ground-truth points (pixels) a class needs to enter ``miou``.
        oracle: compute the cell oracle too.
        withheld: score pixels at withheld points too; needs both sensors.
        strict: raise on an unreadable frame instead of naming it under ``frames.skipped``.
        views: gives the prepared views of a frame (a cache's ``views``) in place of preparing them here.
        progress: called with (frames done, frames in all).

    Raises:
        ValueError: classes of log and model differ, an unknown camera or sensor setting, or frames that are not there.
        NoLabelsError: the first ``LABELS_WITHIN`` frames have no labels.
        FrameError: an unreadable frame, with ``strict``.
    """
    _check_classes(model, log)
    numbers = select_frames(log, frames)
    names = _select_cameras(log, cameras)
    scored = _possible(log, sensors)
    _check_labels(log, numbers[:LABELS_WITHIN], names)
    if withheld and not (log.has_images and log.has_lidar):
        raise ValueError(f"{log.name} has one sensor; withheld points need camera and LiDAR")
    counts = {setting: _Counts(log.table) for setting in scored}
    oracle_frames: list[Confusion] = []
    withheld_frames: list[Confusion] = []
    skipped: list[Skipped] = []
    for done, number in enumerate(numbers):
        try:
            prepared, truth = _read(log, number, names, views, model.size)
        except FrameError as error:
            if strict:
                raise
            skipped.append(Skipped(number, None, str(error)))
            if progress is not None:
                progress(done + 1, len(numbers))
            continue
        for setting in scored:
            results = model.predict_views(prepared, setting)
            labels = merge_views(truth.count, [view.index for view in prepared], results)
            counts[setting].add(truth, labels, results)
        if oracle:
            oracle_frames.append(_oracle(prepared, truth, log.table))
        if withheld:
            withheld_frames.append(_withheld(model, prepared, log.table))
        if progress is not None:
            progress(done + 1, len(numbers))
    totals = next((item.totals() for item in counts.values()), Confusion(log.table).counts.sum(axis=1))
    groups = groups_of(totals, log.table)
    report = _report(model, log, counts, groups, min_count)
    report["frames"] = {
        "evaluated": len(numbers) - len(skipped),
        "skipped": [{"frame": item.frame, "reason": item.reason} for item in skipped],
    }
    report["cameras"] = list(names)
    if oracle:
        report["oracle"] = {"points": score(oracle_frames, groups, min_count)}
    if withheld:
        report["withheld"] = {"pixels": score(withheld_frames, groups, min_count)}
    return report


def select_frames(log: Log, frames: str | Sequence[int] | None) -> list[int]:
    """The log's frame numbers in ``A:B`` (half-open), in a list of numbers, or all of them for None.

    Raises:
        ValueError: not of that form, or no such frame.
    """
    held = f"{log.name} holds {len(log.frames)} frames" + (
        f", {log.frames[0]} to {log.frames[-1]}" if log.frames else ""
    )
    if frames is None:
        chosen = list(log.frames)
    elif isinstance(frames, str):
        match = re.fullmatch(r"(\d*):(\d*)", frames.strip(), flags=re.ASCII)
        if match is None:
            raise ValueError(f"frames is {frames!r}; expected A:B, the first frame number and the one after the last")
        first, end = int(match[1] or 0), float(match[2] or "inf")
        chosen = [number for number in log.frames if first <= number < end]
    else:
        missing = sorted(set(frames) - set(log.frames))
        if missing:
            raise ValueError(f"frame {missing[0]} is not there; {held}")
        chosen = list(frames)
    if not chosen:
        raise ValueError(f"frames {frames!r} selects none; {held}")
    return chosen


def _check_classes(model: Model, log: Log) -> None:
    if model.table.names != log.table.names:
        raise ValueError(
            f"{log.name} has the classes of {log.table.name}, the model those of {model.table.name}; "
            f"open the log with classes={model.table.name}"
        )


def _check_labels(log: Log, frames: Sequence[int], cameras: Sequence[str]) -> None:
    """One of these frames has labels, or cannot be read."""
    for frame in frames:
        try:
            samples = log.frame(frame, cameras)
        except FrameError:
            return
        if any(sample.point_labels is not None or sample.pixel_labels is not None for sample in samples):
            return
    raise NoLabelsError(
        f"{log.name}: no labels in the first {len(frames)} frames; choose frames with labels (--frames), or replay it"
    )


def _select_cameras(log: Log, cameras: Sequence[str] | None) -> list[str]:
    for name in cameras or ():
        if name not in log.cameras:
            raise ValueError(f"camera {name!r} is not in {log.name}; it has {', '.join(log.cameras)}")
    return list(cameras or log.cameras)


def _possible(log: Log, sensors: Sequence[Sensors]) -> list[Sensors]:
    """The settings for which the log has the sensors.

    Raises:
        ValueError: an unknown setting, or none is left.
    """
    for setting in sensors:
        if setting not in SENSORS:
            raise ValueError(f"sensors is {setting!r}; choose among {', '.join(SENSORS)}")
    has = {"camera": log.has_images, "lidar": log.has_lidar, "both": log.has_images and log.has_lidar}
    possible = [setting for setting in SENSORS if setting in sensors and has[setting]]
    if not possible:
        holds = "images" if log.has_images else "sweeps"
        raise ValueError(f"{log.name} holds {holds} alone, sensors are {', '.join(sensors)}; choose another setting")
    return possible


def _read(
    log: Log, number: int, cameras: Sequence[str], views: Views | None, size: tuple[int, int]
) -> tuple[list[View], _Truth]:
    if views is None:
        samples = log.frame(number, cameras)
        prepared = prepare_frame(samples, size)
        pixels = [sample.pixel_labels for sample in samples]
    else:
        prepared = views(number, cameras)
        # prepared labels are resized; scores are taken at the labels' own size
        pixels = [
            None if view.pixel_labels is None else log.sample(number, view.camera_name).pixel_labels
            for view in prepared
        ]
    count = 1 + max((int(view.index[-1]) for view in prepared if len(view.index)), default=-1)
    labels = np.full(count, IGNORE, dtype=np.uint8)
    seen = np.zeros(count, dtype=bool)
    for view in prepared:
        if view.labels is not None:
            labels[view.index] = view.labels
        assert view.visible is not None  # every prepared view has been tested
        seen[view.index] |= view.visible
    rows = np.flatnonzero(labels != IGNORE)
    return prepared, _Truth(rows, labels[rows], seen[rows], count, pixels)


def _oracle(views: Sequence[View], truth: _Truth, table: ClassTable) -> Confusion:
    """Every point takes the true label of its cell's nearest labelled point, from the view in which that is closest."""
    class_of = np.full(256, IGNORE, dtype=np.uint8)
    labels = np.flatnonzero(table.membership.any(axis=1))
    class_of[labels] = table.membership[labels].argmax(axis=1)
    merged = PointLabels.empty(truth.count)
    for number, view in enumerate(views):
        if view.labels is None:
            continue
        known = np.flatnonzero(view.labels != IGNORE)
        depth = view.points_camera[known, 2]
        cell = cells(view.uv[known], view.camera.width, view.camera.height, HEAD_STRIDE)
        nearest = nearest_per_cell(cell, depth, int(cell.max(initial=-1)) + 1)[cell]
        merged.add(number, view.index[known], class_of[view.labels[known][nearest]], depth[nearest] / depth)
    confusion = Confusion(table)
    confusion.add(truth.labels, merged.points[truth.rows])
    return confusion


def _withheld(model: Model, views: Sequence[View], table: ClassTable) -> Confusion:
    """The pixels' classes at points whose beams the network did not get."""
    thinned = [thin_lidar(view, np.random.default_rng([view.frame, i])) for i, view in enumerate(views)]
    confusion = Confusion(table)
    for view, result in zip(thinned, model.predict_views(thinned, "both"), strict=True):
        if view.labels is None or view.measured is None or view.supervised is None:
            continue
        asked = ~view.measured & view.supervised
        cell = cells(view.uv[asked], view.camera.width, view.camera.height, HEAD_STRIDE)
        confusion.add(view.labels[asked], result.pixels.reshape(-1)[cell])
    return confusion


def _report(model: Model, log: Log, counts: dict[Sensors, _Counts], groups: Groups, min_count: int) -> dict[str, Any]:
    table = log.table
    settings: dict[str, Any] = dict.fromkeys(SENSORS)
    for setting, item in counts.items():
        settings[setting] = {kind: score(item.frames[kind], groups, min_count) for kind in KINDS}
    return {
        "model": model.name,
        "data": log.name,
        "classes": group_names(groups, table),
        "merged": [[table.names[i] for i in group] for group in groups if len(group) > 1],
        "min_count": min_count,
        "sensors": settings,
        "fusion_gain": {f"over_{one}": _gain(settings["both"], settings[one]) for one in ("camera", "lidar")},
    }


def _gain(both: dict[str, Any] | None, alone: dict[str, Any] | None) -> float | None:
    """Points' mean IoU of both sensors less that of one."""
    if not both or not alone or not both["points"] or not alone["points"]:
        return None
    x, y = both["points"]["miou"], alone["points"]["miou"]
    return None if x is None or y is None else float(x - y)
