"""The figures of one frame after another: measured, kept in arrays of a fixed size, taken from and to JSON."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.deploy.result import STAGES, FrameResult
from fusionseg.labels import IGNORE, ClassTable
from fusionseg.metrics import Confusion
from fusionseg.replay.figures import REPORTED, Figures
from fusionseg.sample import Sample

_CHECKED_EVERY = 16


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """The figures of one frame; its attributes are a row of those of ``Figures``.

    Attributes:
        spent_ms: stage -> milliseconds of ``REPORTED``, filled in as the frame goes on.
        counts: (L, K + 1) int32 of ``points/both`` and so on.
    """

    frame: int
    checksum: int
    predicted: NDArray[np.int64]
    disagreement: float
    counts: Mapping[str, NDArray[np.int32]]
    spent_ms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; of the counts only those above 0."""
        counts = {}
        for name, found in self.counts.items():
            places = np.flatnonzero(found)
            counts[name] = [places.tolist(), found.ravel()[places].tolist()]
        return {
            "frame": self.frame,
            "checksum": self.checksum,
            "predicted": self.predicted.tolist(),
            "disagreement": None if np.isnan(self.disagreement) else self.disagreement,
            "counts": counts,
            "spent_ms": self.spent_ms,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], table: ClassTable) -> "Row":
        """The row of ``to_dict``'s values.

        Raises:
            KeyError, TypeError, ValueError, IndexError: they describe no row of labels of ``table``.
        """
        counts = {}
        for name, (places, found) in values["counts"].items():
            counts[name] = np.zeros_like(Confusion(table).counts, dtype=np.int32)
            counts[name].ravel()[places] = found
        alone = values["disagreement"]
        return cls(
            frame=int(values["frame"]),
            checksum=int(values["checksum"]),
            predicted=np.array(values["predicted"], dtype=np.int64),
            disagreement=float("nan") if alone is None else float(alone),
            counts=counts,
            spent_ms={stage: float(values["spent_ms"][stage]) for stage in REPORTED},
        )


def measure(
    samples: Sequence[Sample],
    result: FrameResult,
    *,
    sensors: str,
    alone: Mapping[str, FrameResult],
    scored: bool,
) -> Row:
    """The figures of a labelled frame.

    Args:
        samples: its views.
        result: the labels.
        sensors: the setting they were made with.
        alone: ``camera`` and ``lidar`` -> the labels with that sensor alone; may be empty.
        scored: the labels of the samples are of the model's class table.
    """
    # views beyond the samples are virtual ones, added for points that no camera sees
    in_view = (result.view >= 0) & (result.view < len(samples))
    disagreement = float("nan")
    if alone:
        camera, lidar = (alone[name].points[in_view] for name in ("camera", "lidar"))
        known = (camera != IGNORE) & (lidar != IGNORE)
        if known.any():
            disagreement = float(np.mean((camera != lidar)[known]))
    counts = {}
    if scored:
        for setting, answer in ({sensors: result} | dict(alone)).items():
            for kind, confusion in _confusions(samples, answer, in_view).items():
                counts[f"{kind}/{setting}"] = confusion.counts.astype(np.int32)
    return Row(
        frame=samples[0].frame,
        checksum=_checksum(samples),
        predicted=_histogram(result),
        disagreement=disagreement,
        counts=counts,
        spent_ms={stage: result.timing[stage] for stage in STAGES},
    )


class Recorder:
    """Gathers the figures of up to ``capacity`` frames.

    The arrays are filled from the start, so that memory does not grow with the frames replayed.
    """

    def __init__(self, table: ClassTable, sensors: str, capacity: int) -> None:
        self._table, self._sensors, self._capacity = table, sensors, capacity
        self._count = 0
        self._frames = np.full(capacity, -1, dtype=np.int64)
        self._checksums = np.full(capacity, -1, dtype=np.int64)
        self._spent_ms = np.full((capacity, len(REPORTED)), np.nan)
        self._predicted = np.full((capacity, len(table) + 1), -1, dtype=np.int64)
        self._disagreement = np.full(capacity, np.nan)
        self._counts: dict[str, NDArray[np.int32]] = {}

    def add(self, row: Row) -> None:
        """One more frame."""
        at = self._count
        self._frames[at], self._checksums[at], self._disagreement[at] = row.frame, row.checksum, row.disagreement
        self._spent_ms[at] = [row.spent_ms[stage] for stage in REPORTED]
        self._predicted[at] = row.predicted
        for name, counts in row.counts.items():
            self._room(name)[at] = counts
        self._count += 1

    def figures(self) -> Figures:
        """What was gathered so far."""
        return Figures(
            table=self._table,
            sensors=self._sensors,
            frames=self._frames[: self._count],
            checksums=self._checksums[: self._count],
            spent_ms=self._spent_ms[: self._count],
            predicted=self._predicted[: self._count],
            disagreement=self._disagreement[: self._count],
            counts={name: counts[: self._count] for name, counts in self._counts.items()},
        )

    def _room(self, name: str) -> NDArray[np.int32]:
        if name not in self._counts:
            rows, columns = Confusion(self._table).counts.shape
            self._counts[name] = np.full((self._capacity, rows, columns), 0, dtype=np.int32)
        return self._counts[name]


def _histogram(result: FrameResult) -> NDArray[np.int64]:
    planes = [result.points] if len(result.points) else list(result.pixels.values())
    found = np.zeros(256, dtype=np.int64)
    for labels in planes:
        found += np.bincount(labels.ravel(), minlength=256)
    return np.append(found[: len(result.table)], found[IGNORE])


def _checksum(samples: Sequence[Sample]) -> int:
    """Of every 16th point, or pixel row where there are no points: enough to tell frames apart, at no cost."""
    if len(samples[0].points_lidar):
        return zlib.crc32(samples[0].points_lidar[::_CHECKED_EVERY].tobytes())
    found = 0
    for sample in samples:
        if sample.image is not None:
            found = zlib.crc32(sample.image[::_CHECKED_EVERY].tobytes(), found)
    return found


def _confusions(samples: Sequence[Sample], result: FrameResult, in_view: NDArray[np.bool_]) -> dict[str, Confusion]:
    """Points inside at least one of the views, each once, and the pixels that carry labels."""
    found = {}
    labels = samples[0].point_labels
    if labels is not None:
        found["points"] = Confusion(result.table)
        found["points"].add(labels[in_view], result.points[in_view])
    dense = [sample for sample in samples if sample.pixel_labels is not None]
    if dense:
        found["pixels"] = Confusion(result.table)
    for sample in dense:
        assert sample.pixel_labels is not None
        found["pixels"].add(sample.pixel_labels, result.pixels[sample.camera_name])
    return found
