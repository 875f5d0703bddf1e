"""Two replays of one log, frame by frame: where they agree, what got better or worse, how much faster."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.labels import IGNORE, ClassTable
from fusionseg.metrics import merge
from fusionseg.replay.figures import KINDS, REPORTED, Figures, frame_miou


@dataclass(frozen=True, eq=False)
class Run:
    """What a replay left in its folder."""

    folder: Path
    summary: Mapping[str, Any]
    figures: Figures


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """What differs between two runs ``a`` and ``b`` of the same F frames.

    Attributes:
        a, b: the runs; a change is ``b`` less ``a``.
        pairs: (F, K + 1, K + 1) points of the sweep (pixels, where there is no LiDAR) by the class that ``a`` and that
            ``b`` gave them; the last row and column hold what was given none.
        min_count: ground-truth points that a class needs to count in the mean IoU.
    """

    a: Run
    b: Run
    pairs: NDArray[np.int64]
    min_count: int

    @property
    def frames(self) -> NDArray[np.int64]:
        """(F,) the log's own frame numbers."""
        return self.a.figures.frames

    @property
    def table(self) -> ClassTable:
        """The class table of both."""
        return self.a.figures.table

    def agreement_of_all(self) -> float:
        """Share of what both runs named that they named alike; NaN where there is none."""
        named = self.pairs[:, :-1, :-1].sum(axis=0)
        return float(share(np.trace(named), named.sum()))

    def agreement(self) -> NDArray[np.float64]:
        """(F,) share of what both runs named that they named alike; NaN where there is none."""
        named = self.pairs[:, :-1, :-1]
        same = np.trace(named, axis1=1, axis2=2)
        return share(same, named.sum(axis=(1, 2)))

    def class_agreement(self) -> NDArray[np.float64]:
        """(K,) share of each class of ``a`` that is the same in ``b``, where ``b`` named it; NaN for none."""
        named = self.pairs[:, :-1, :-1].sum(axis=0)
        return share(np.diagonal(named), named.sum(axis=1))

    def kinds(self) -> list[str]:
        """What both runs were scored on: ``points``, ``pixels``."""
        a, b = (run.figures for run in (self.a, self.b))
        return [kind for kind in KINDS if a.confusions(kind) and b.confusions(kind)]

    def matrices(self, kind: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(F, G, G + 1) confusions of ``a`` and of ``b`` over ``groups``."""
        counts = (run.figures.counts[f"{kind}/{run.figures.sensors}"] for run in (self.a, self.b))
        a, b = (merge(found, self.a.figures.groups(), self.table) for found in counts)
        return a, b

    def frame_miou(self, kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(F,) mean IoU of each frame in ``a`` and in ``b``."""
        a, b = map(frame_miou, self.matrices(kind))
        return a, b

    def spent_ms(self, stage: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(F,) milliseconds of a stage of ``REPORTED`` in ``a`` and in ``b``."""
        a, b = (run.figures.spent_ms[:, REPORTED.index(stage)] for run in (self.a, self.b))
        return a, b


def compare(folder_a: Path, folder_b: Path, min_count: int = 2000) -> Comparison:
    """Compare two folders of replays.

    Raises:
        FileNotFoundError: a folder is none of a replay, or lacks label files.
        ValueError: files are damaged, or the runs are of other logs, frames, cameras, classes or ground truth.
    """
    a, b = read_run(folder_a), read_run(folder_b)
    check_comparable(a, b)
    pairs = np.stack([_pairs(a, b, int(frame)) for frame in a.figures.frames])
    return Comparison(a=a, b=b, pairs=pairs, min_count=min_count)


def read_run(folder: Path) -> Run:
    """The figures and the summary of a replay.

    Raises:
        FileNotFoundError: the folder holds none.
        ValueError: they are damaged.
    """
    figures = Figures.read(folder)
    path = folder / "summary.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: has no summary.json, so its replay has not ended; let it, with --resume")
    try:
        summary = json.loads(path.read_bytes())
        for key in ("model", "log", "machine"):
            summary[key]
        summary["log"]["path"], summary["log"]["cameras"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is damaged or of another version ({error}); replay the log again") from error
    return Run(folder, summary, figures)


def check_comparable(a: Run, b: Run) -> None:
    """Refuse to compare what differs in more than the model.

    Raises:
        ValueError: names the first thing that differs, and the fix.
    """
    where, f, g = f"{a.folder} and {b.folder}", a.figures, b.figures
    if f.table.to_dict() != g.table.to_dict():
        raise ValueError(
            f"{where}: are of other classes, {f.table.name} ({len(f.table)}) and {g.table.name} ({len(g.table)}); "
            "compare models of one class table"
        )
    both, at_a, at_b = np.intersect1d(f.frames, g.frames, return_indices=True)
    differ = both[f.checksums[at_a] != g.checksums[at_b]]
    logs = [run.summary["log"]["path"] for run in (a, b)]
    if len(differ) or (not len(both) and logs[0] != logs[1]):
        what = f"sensor data of frame {differ[0]} differ" if len(differ) else "no frame is in both"
        raise ValueError(f"{where}: are of other logs ({logs[0]}, {logs[1]}: {what}); replay one log with both models")
    if not np.array_equal(f.frames, g.frames):
        alone = sorted(set(f.frames.tolist()) ^ set(g.frames.tolist()))
        what = f"frame {alone[0]} and {len(alone) - 1} more are in one alone" if alone else "their order differs"
        raise ValueError(f"{where}: are of other frames ({what}); replay both with the same --frames")
    if not len(f):
        raise ValueError(f"{where}: hold no labelled frame; replay the log again")
    cameras = [run.summary["log"]["cameras"] for run in (a, b)]
    if cameras[0] != cameras[1]:
        names = " and ".join(", ".join(map(str, found)) for found in cameras)
        raise ValueError(f"{where}: are of other cameras ({names}); replay both with the same --cameras")
    _check_same_truth(where, f, g)


def _check_same_truth(where: str, f: Figures, g: Figures) -> None:
    for kind in KINDS:
        counts = [figures.counts.get(f"{kind}/{figures.sensors}") for figures in (f, g)]
        if (counts[0] is None) != (counts[1] is None):
            raise ValueError(f"{where}: one alone has ground truth of {kind}; replay both on the log with its labels")
        if counts[0] is not None and counts[1] is not None:
            differ = (counts[0].sum(axis=2) != counts[1].sum(axis=2)).any(axis=1)
            if differ.any():
                frame = f.frames[np.argmax(differ)]
                raise ValueError(
                    f"{where}: have other ground truth of {kind} in frame {frame}; replay both on the log as it is now"
                )


def _pairs(a: Run, b: Run, frame: int) -> NDArray[np.int64]:
    """(K + 1, K + 1) labels of a frame in ``a`` and ``b``."""
    size = len(a.figures.table) + 1
    first, second = (_labels(run, frame) for run in (a, b))
    if first.shape != second.shape:
        raise ValueError(
            f"{a.folder} and {b.folder}: have {len(first)} and {len(second)} labels of frame {frame}; replay again"
        )
    counts: NDArray[np.int64] = np.bincount(first * size + second, minlength=size * size).reshape(size, size)
    return counts


def _labels(run: Run, frame: int) -> NDArray[np.int64]:
    """(N,) classes of the sweep's points, or of all cameras' pixels where there is no LiDAR; K for none."""
    classes = len(run.figures.table)
    sweep = run.folder / "labels" / f"{frame:06d}.label"
    if sweep.is_file():
        content = sweep.read_bytes()
        if len(content) % 4:
            raise ValueError(f"{sweep}: is damaged, {len(content)} bytes are no whole labels; replay the log again")
        found = np.frombuffer(content, "<u4").astype(np.int64)
    else:
        paths = [run.folder / "labels" / str(name) / f"{frame:06d}.png" for name in run.summary["log"]["cameras"]]
        found = np.concatenate([_pixels(path, sweep) for path in paths])
    bad = (found >= classes) & (found != IGNORE)
    if bad.any():
        raise ValueError(
            f"{run.folder}: label {found[bad][0]} of frame {frame} is none of {classes} classes; replay again"
        )
    return np.where(found == IGNORE, classes, found)


def _pixels(path: Path, sweep: Path) -> NDArray[np.int64]:
    if not path.is_file():
        raise FileNotFoundError(f"{sweep}: is missing, and so is {path}; replay the log again")
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path}: is no picture; replay the log again")
    return pixels.astype(np.int64).ravel()


def share(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    """``part / whole``, NaN where the whole is 0."""
    share: NDArray[np.float64] = np.divide(
        part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0
    )
    return share
