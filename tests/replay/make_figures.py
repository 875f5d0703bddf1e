"""Figures of a run by hand: three classes, confusion counts as given, latencies that rise with the frame."""

import json

import numpy as np

from fusionseg.labels import ClassTable
from fusionseg.replay.figures import REPORTED, Figures

TABLE = ClassTable("three", ("road", "car", "sky"), ((10, 20, 30), (200, 0, 0), (0, 0, 200)))


def confusion(right, wrong=()):
    """(3, 4) counts: ``right`` on the diagonal, then (true, predicted, count) of each mistake; predicted 3: none."""
    counts = np.zeros((3, 4), dtype=np.int32)
    counts[range(3), range(3)] = right
    for row, column, count in wrong:
        counts[row, column] += count
    return counts


def make_figures(counts=None, *, count=3, sensors="both", disagreement=None, spent_ms=None, frames=None):
    """``counts``: ``points/both`` and so on -> one confusion per frame."""
    count = len(next(iter(counts.values()))) if counts else count
    # frame i: load 10 + i, project 1, preprocess 2, forward 100 + i, postprocess 3, render 0, write 5
    rows = [[10 + i, 1, 2, 100 + i, 3, 0, 5, 106 + i, 116 + 2 * i] for i in range(count)]
    assert len(rows[0]) == len(REPORTED)
    return Figures(
        table=TABLE,
        sensors=sensors,
        frames=np.arange(count) * 10 if frames is None else np.array(frames),
        checksums=np.arange(count) + 1000,
        spent_ms=np.array(rows, dtype=float) if spent_ms is None else spent_ms,
        predicted=np.tile([50, 30, 20, 0], (count, 1)),
        disagreement=np.full(count, np.nan) if disagreement is None else np.array(disagreement, dtype=float),
        counts={name: np.array(values, dtype=np.int32) for name, values in (counts or {}).items()},
    )


def write_run(folder, figures, labels=None, **summary):
    """A folder as replay leaves it; ``labels`` per frame, 0 road, 1 car, 2 sky."""
    (folder / "labels").mkdir(parents=True)
    figures.write(folder)
    for frame, values in zip(figures.frames, labels or [[0, 1, 2]] * len(figures), strict=True):
        (folder / "labels" / f"{frame:06d}.label").write_bytes(np.array(values, dtype="<u4").tobytes())
    about = {"model": folder.name, "log": {"path": "drive", "cameras": ["front"]}, "machine": {"cores": 2}}
    (folder / "summary.json").write_text(json.dumps(about | summary))
    return folder
