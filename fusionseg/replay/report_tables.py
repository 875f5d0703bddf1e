"""What a report says of the figures of a run: scores, frames to look at, latencies, what was predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionseg.deploy.result import STAGES
from fusionseg.deploy.timing import percentiles
from fusionseg.metrics import bootstrap_miou, class_counts, group_names, iou, mean_over, pixel_accuracy
from fusionseg.replay import charts
from fusionseg.replay.charts import Chart, css_colour
from fusionseg.replay.figures import FRAME_MIN_COUNT, REPORTED, Figures
from fusionseg.replay.page import NONE, Cell, Table, milliseconds, percent, points

TITLES = {"both": "camera + LiDAR", "camera": "camera alone", "lidar": "LiDAR alone"}
MOST_RANKED = 8
_WEAKEST = 2


@dataclass(frozen=True)
class Ranking:
    """Frames to look at, the most striking first, the table that says why, and the same in a word or two."""

    frames: Sequence[int]
    table: Table
    note: str


def score_table(figures: Figures, kind: str, settings: Sequence[str], min_count: int) -> Table:
    """IoU of each class that occurs and their means, the sensor settings side by side."""
    matrices = {name: figures.matrices(kind, name) for name in settings}
    totals = {name: frames.sum(axis=0) for name, frames in matrices.items()}
    first = totals[settings[0]]
    counts = class_counts(first)
    chosen = counts >= max(min_count, 1)
    ious = {name: iou(total) for name, total in totals.items()}
    rows: list[list[str | Cell]] = []
    for i, name in enumerate(group_names(figures.groups(), figures.table)):
        if counts[i]:
            cells = [Cell(percent(found[i]), bar=float(found[i])) for found in ious.values()]
            rows.append([name if chosen[i] else f"{name} *", f"{counts[i]:,}", *cells])
    labelled = [frames[class_counts(frames).any(axis=1)] for frames in matrices.values()]
    rows += [
        ["mean of classes", "", *(Cell(percent(float(mean_over(v, chosen))), strong=True) for v in ious.values())],
        ["95 % interval", "", *(_interval(frames, chosen) for frames in labelled)],
        ["mean of every class", "", *(percent(float(mean_over(v))) for v in ious.values())],
        ["right of all", "", *(percent(float(pixel_accuracy(total))) for total in totals.values())],
    ]
    rare = (
        f" Classes with * have fewer than {min_count:,} and are not in the mean."
        if (counts[counts > 0] < min_count).any()
        else ""
    )
    caption = f"IoU (intersection over union) of {kind}; the interval is a bootstrap over frames.{rare}"
    return Table(caption=caption, head=["class", kind, *(TITLES[name] for name in settings)], rows=rows)


def _interval(frames: NDArray[np.int64], chosen: NDArray[np.bool_]) -> str:
    if len(frames) < 2 or not chosen.any():
        return NONE
    low, high = bootstrap_miou(frames, chosen)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def score_chart(figures: Figures, kind: str, settings: Sequence[str]) -> Chart:
    """Mean IoU over frames."""
    values = {TITLES[name]: figures.frame_miou(kind, name) for name in settings}
    text = f"Of {kind}, per frame, over the classes with at least {FRAME_MIN_COUNT} in it"
    return charts.lines("Mean IoU over frames", f"{text}.", figures.frames, _percents(values), " %", low=0, high=100)


def _percents(values: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    return {name: 100 * column for name, column in values.items()}


def confusion_table(matrix: NDArray[np.int64], names: Sequence[str], caption: str) -> Table:
    """A confusion matrix (G, G + 1) in percent of each row, the classes that occur; the diagonal stands out."""
    counts = class_counts(matrix)
    there = np.flatnonzero((counts > 0) | (matrix[:, : len(counts)].sum(axis=0) > 0))
    columns = [*there, len(counts)] if matrix[:, -1].any() else list(there)
    rows: list[list[str | Cell]] = []
    for i in there[counts[there] > 0]:
        shares = matrix[i] / counts[i]
        rows.append([names[i], *(Cell(_whole_percent(shares[j]), float(shares[j]), strong=i == j) for j in columns)])
    return Table(caption=caption, head=["class", *([*names, "no answer"][j] for j in columns)], rows=rows, narrow=True)


def _whole_percent(share: float) -> str:
    return "" if share == 0 else "<1" if share < 0.01 else f"{100 * share:.0f}"


def rankings(figures: Figures, kind: str | None, settings: Sequence[str]) -> list[Ranking]:
    """Worst frames, those that fusion saved or spoilt; without labels those where camera and LiDAR disagree most."""
    if kind is None:
        return [_disagreement(figures)] if not np.isnan(figures.disagreement).all() else []
    found = [_worst(figures, kind)]
    if len(settings) == 3 and settings[0] == "both":
        gain = fusion_gain(figures, kind)
        found += [_gained(figures, kind, gain, rescued=True), _gained(figures, kind, gain, rescued=False)]
    return [ranking for ranking in found if ranking.frames]


def fusion_gain(figures: Figures, kind: str) -> NDArray[np.float64]:
    """(F,) mean IoU of a frame with both sensors less that of the better one alone; NaN without labels."""
    alone = np.fmax(figures.frame_miou(kind, "camera"), figures.frame_miou(kind, "lidar"))
    gain: NDArray[np.float64] = figures.frame_miou(kind, "both") - alone
    return gain


def _ranked(values: NDArray[np.float64], keep: NDArray[np.bool_]) -> list[int]:
    """Rows from the lowest value, those to keep alone, at most ``MOST_RANKED``."""
    return [int(row) for row in np.argsort(values, kind="stable") if keep[row]][:MOST_RANKED]


def _worst(figures: Figures, kind: str) -> Ranking:
    miou, matrices = figures.frame_miou(kind), figures.matrices(kind)
    names = group_names(figures.groups(), figures.table)
    rows, order = [], _ranked(miou, ~np.isnan(miou))
    for row in order:
        found = np.where(class_counts(matrices[row]) >= FRAME_MIN_COUNT, iou(matrices[row]), np.nan)
        weakest = [i for i in np.argsort(found)[:_WEAKEST] if not np.isnan(found[i])]
        about = ", ".join(f"{names[i]} {percent(found[i])}" for i in weakest)
        rows.append([str(figures.frames[row]), percent(miou[row]), about])
    table = Table(caption="Worst frames by mean IoU", head=["frame", "mIoU", "weakest classes"], rows=rows, frames=True)
    return Ranking([int(figures.frames[row]) for row in order], table, "low IoU")


def _gained(figures: Figures, kind: str, gain: NDArray[np.float64], *, rescued: bool) -> Ranking:
    values = [figures.frame_miou(kind, name) for name in TITLES]
    order = _ranked(-gain, gain > 0) if rescued else _ranked(gain, gain < 0)
    rows = [
        [str(figures.frames[row]), *(percent(column[row]) for column in values), points(gain[row])] for row in order
    ]
    caption = (
        "Frames that fusion rescued: mean IoU above that of the better sensor alone"
        if rescued
        else "Frames that fusion made worse: mean IoU below that of the better sensor alone"
    )
    table = Table(caption=caption, head=["frame", *TITLES.values(), "gain"], rows=rows, frames=True)
    return Ranking([int(figures.frames[row]) for row in order], table, "fusion helps" if rescued else "fusion hurts")


def _disagreement(figures: Figures) -> Ranking:
    order = _ranked(-figures.disagreement, figures.disagreement > 0)
    rows = [[str(figures.frames[row]), percent(figures.disagreement[row])] for row in order]
    table = Table(
        caption="Frames where camera alone and LiDAR alone disagree most (share of the points in view)",
        head=["frame", "disagreement"],
        rows=rows,
        frames=True,
    )
    return Ranking([int(figures.frames[row]) for row in order], table, "sensors disagree")


def latency_chart(figures: Figures) -> Chart:
    """Time of each stage from reading to labels over frames, with the percentiles of their sum."""
    values = {stage: figures.spent_ms[:, REPORTED.index(stage)] for stage in ("load", *STAGES)}
    whole = percentiles(figures.spent_ms[:, REPORTED.index("end_to_end")].tolist()) or {}
    marks = {f"{name} {milliseconds(value)}": value for name, value in whole.items()}
    text = "Time of each stage from reading to labels, stacked; dashed: what half, 95 % and 99 % of frames stay below."
    return charts.bands(
        "Latency over frames", text, figures.frames, values, charts.PALETTE[: len(values)], " ms", marks=marks
    )


def stage_table(figures: Figures) -> Table:
    """Percentiles of every stage."""
    rows = []
    for i, stage in enumerate(REPORTED):
        found = percentiles(figures.spent_ms[:, i].tolist()) or {}
        rows.append([stage.replace("_", " "), *(f"{value:.1f}" for value in found.values())])
    caption = "Milliseconds per frame. total: sensor data to labels (project to postprocess); end to end: with load."
    return Table(caption=caption, head=["stage", "p50", "p95", "p99"], rows=rows)


def share_chart(figures: Figures) -> Chart:
    """What share of the labels each class has, over frames."""
    names = [*figures.table.names, "unknown"]
    colours = [css_colour(colour) for colour in (*figures.table.colours, (255, 255, 255))]
    shares = figures.shares()
    there = np.flatnonzero(shares.any(axis=0))
    values = _percents({names[i]: shares[:, i] for i in there})
    return charts.bands(
        "Predicted classes over frames",
        "Share of each class among the labels of a frame, stacked; a jump is a new place or a failing model.",
        figures.frames,
        values,
        [colours[i] for i in there],
        " %",
        top=100.0,
    )


def share_table(figures: Figures) -> Table:
    """Mean, lowest and highest share of each class, and the frames of the latter two."""
    shares, names = figures.shares(), [*figures.table.names, "unknown"]
    rows = []
    for i in np.flatnonzero(shares.any(axis=0)):
        column = shares[:, i]
        ends = ((column[row], figures.frames[row]) for row in (np.argmin(column), np.argmax(column)))
        rows.append([names[i], percent(column.mean()), *(f"{percent(share)} in {frame}" for share, frame in ends)])
    return Table(caption="Share of each class per frame", head=["class", "mean", "lowest", "highest"], rows=rows)
