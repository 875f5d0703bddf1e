"""The figures of every frame of a replay, beside its labels: ``metrics.csv`` to read, ``frames.npz`` to compute."""

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionseg.deploy.result import STAGES
from fusionseg.files import atomic_write
from fusionseg.labels import ClassTable
from fusionseg.metrics import Confusion, Groups, class_counts, groups_of, iou, mean_over, merge, pixel_accuracy

REPORTED = ("load", *STAGES, "render", "write", "total", "end_to_end")
KINDS = ("points", "pixels")
FRAME_MIN_COUNT = 50
"""Labelled points (pixels) that a class needs in a frame to be in that frame's mean IoU."""
ARCHIVE = "frames.npz"


@dataclass(frozen=True, eq=False, kw_only=True)
class Figures:
    """What is known of F frames of a replay, in the order they were replayed.

    Attributes:
        table: the class table of the labels.
        sensors: the setting that was replayed: ``both``, ``camera`` or ``lidar``.
        frames: (F,) the log's own frame numbers.
        checksums: (F,) of the sensor data, to know the same frame of the same log again.
        spent_ms: (F, stages) in the order of ``REPORTED``.
        predicted: (F, K + 1) points of the sweep (pixels, where there is no LiDAR) per predicted class; last unknown.
        disagreement: (F,) share of the points in view that camera and LiDAR, each alone, name differently; NaN where
            it was not measured.
        counts: ``points/both``, ``pixels/camera`` and so on -> (F, L, K + 1) as of ``Confusion``, 0 without labels.
    """

    table: ClassTable
    sensors: str
    frames: NDArray[np.int64]
    checksums: NDArray[np.int64]
    spent_ms: NDArray[np.float64]
    predicted: NDArray[np.int64]
    disagreement: NDArray[np.float64]
    counts: Mapping[str, NDArray[np.int32]]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def kind(self) -> str | None:
        """What there were labels of: ``points`` before ``pixels``; None without any."""
        return next((kind for kind in KINDS if f"{kind}/{self.sensors}" in self.counts), None)

    def settings(self, kind: str) -> list[str]:
        """The sensor settings that were scored, the replayed one first."""
        names = [key.partition("/")[2] for key in self.counts if key.startswith(f"{kind}/")]
        return sorted(names, key=lambda name: (name != self.sensors, name))

    def confusions(self, kind: str) -> list[Confusion]:
        """One per frame with labels, of the replayed setting."""
        found = []
        for counts in self.counts.get(f"{kind}/{self.sensors}", ()):
            if counts.any():
                found.append(Confusion(self.table))
                found[-1].counts += counts
        return found

    def groups(self) -> Groups:
        """Classes to be scored as one, over points and pixels alike."""
        labels = np.zeros(len(self.table) + len(self.table.sets), dtype=np.int64)
        for counts in self.counts.values():
            labels += counts.sum(axis=(0, 2))
        return groups_of(labels, self.table)

    def matrices(self, kind: str, setting: str | None = None) -> NDArray[np.int64]:
        """(F, G, G + 1) confusion of each frame over ``groups``."""
        return merge(self.counts[f"{kind}/{setting or self.sensors}"], self.groups(), self.table)

    def frame_miou(self, kind: str, setting: str | None = None) -> NDArray[np.float64]:
        """(F,) mean IoU of each frame over the classes with ``FRAME_MIN_COUNT`` labels in it; NaN without such."""
        return frame_miou(self.matrices(kind, setting))

    def shares(self) -> NDArray[np.float64]:
        """(F, K + 1) share of each predicted class, unknown last; 0 for an empty frame."""
        shares: NDArray[np.float64] = self.predicted / np.maximum(self.predicted.sum(axis=1, keepdims=True), 1)
        return shares

    def take(self, rows: NDArray[np.intp]) -> "Figures":
        """The same of some of the frames."""
        return Figures(
            table=self.table,
            sensors=self.sensors,
            frames=self.frames[rows],
            checksums=self.checksums[rows],
            spent_ms=self.spent_ms[rows],
            predicted=self.predicted[rows],
            disagreement=self.disagreement[rows],
            counts={name: counts[rows] for name, counts in self.counts.items()},
        )

    def write(self, folder: Path) -> None:
        """``metrics.csv`` and ``frames.npz`` in the folder of the run.

        Raises:
            ValueError: they cannot be written.
        """
        with atomic_write(folder / "metrics.csv") as file:
            file.write(self._csv().encode())
        arrays = {name: getattr(self, name) for name in _ARRAYS} | dict(self.counts)
        about = json.dumps({"table": self.table.to_dict(), "sensors": self.sensors, "stages": REPORTED})
        with atomic_write(folder / ARCHIVE) as file:
            np.savez_compressed(file, about=np.array(about), **arrays)

    def _csv(self) -> str:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        shares = [f"share_{name}" for name in (*self.table.names, "unknown")]
        rows.writerow(["frame", *(f"{stage}_ms" for stage in REPORTED), "miou", "accuracy", "disagreement", *shares])
        nothing = np.full(len(self), np.nan)
        kind = self.kind
        miou, accuracy = (nothing, nothing) if kind is None else (self.frame_miou(kind), self._accuracy(kind))
        columns = np.column_stack([miou, accuracy, self.disagreement, self.shares()])
        for frame, spent_ms, values in zip(self.frames, self.spent_ms, columns, strict=True):
            # an empty field is a figure that the frame does not have
            shown = ["" if np.isnan(value) else f"{value:.6g}" for value in values]
            rows.writerow([int(frame), *(f"{value:.3f}" for value in spent_ms), *shown])
        return text.getvalue()

    def _accuracy(self, kind: str) -> NDArray[np.float64]:
        return pixel_accuracy(self.matrices(kind))

    @classmethod
    def read(cls, folder: Path) -> "Figures":
        """The figures of a run.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: the file is damaged or of another version.
        """
        path = folder / ARCHIVE
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder}: is no folder of a replay, as it has no {ARCHIVE}; name what --out named"
            )
        try:
            with np.load(path, allow_pickle=False) as archive:
                content = {name: archive[name] for name in archive.files}
            about = json.loads(str(content.pop("about")))
            table, sensors = ClassTable.from_dict(about["table"]), str(about["sensors"])
            arrays = {name: content.pop(name) for name in _ARRAYS}
            found = cls(table=table, sensors=sensors, counts=content, **arrays)
            found._check(tuple(about["stages"]))
            return found
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: is damaged or of another version ({error}); replay the log again") from error

    def _check(self, stages: Sequence[str]) -> None:
        count, classes = len(self.frames), len(self.table)
        shapes: dict[str, tuple[int, ...]] = {"checksums": (count,), "disagreement": (count,)}
        shapes |= {"spent_ms": (count, len(REPORTED)), "predicted": (count, classes + 1)}
        arrays = {name: getattr(self, name) for name in shapes} | dict(self.counts)
        for name, values in arrays.items():
            expected = shapes.get(name, (count, classes + len(self.table.sets), classes + 1))
            if values.shape != expected:
                raise ValueError(f"{name} has shape {values.shape}, expected {expected}")
        if tuple(stages) != REPORTED:
            raise ValueError(f"its stages are {', '.join(stages)}")


_ARRAYS = ("frames", "checksums", "spent_ms", "predicted", "disagreement")


def frame_miou(matrices: NDArray[np.int64]) -> NDArray[np.float64]:
    """(F,) mean IoU of (F, G, G + 1) over the classes with ``FRAME_MIN_COUNT`` labels in each frame."""
    return mean_over(iou(matrices), class_counts(matrices) >= FRAME_MIN_COUNT)
