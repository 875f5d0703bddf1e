"""The doctor's clock: stamps that stand still, run backwards, jump or jitter, and sensors that are out of step."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.projection import project
from fusionseg.replay.doctor_check import Check, judge
from fusionseg.sample import Sample

GAP_PERIODS = 1.5
JITTER_SHARE = 0.1
OFFSET_MS = 60.0
"""Where the seam of a sweep of 100 ms lies in view, points are 50 ms off on average."""
OFFSET_JITTER_MS = 20.0
"""At 50 km/h these are 0.3 m."""


class Times:
    """Stamps of one log, taken frame by frame."""

    def __init__(self, cameras: Sequence[str]) -> None:
        self._stamps_ns: dict[str, list[tuple[int, int]]] = {name: [] for name in ("lidar", *cameras)}
        self._offsets_ms: dict[str, list[float]] = {name: [] for name in cameras}

    def add(self, samples: Sequence[Sample], closely: bool) -> None:
        """Take the views of one frame into account; times of single points only where it is looked at closely."""
        first = samples[0]
        if len(first.points_lidar) and first.sweep_time_ns is not None:
            self._stamps_ns["lidar"].append((first.frame, first.sweep_time_ns))
        for sample in samples:
            if sample.image is None:
                continue
            if sample.image_time_ns is not None:
                self._stamps_ns[sample.camera_name].append((sample.frame, sample.image_time_ns))
            offset_ms = _offset_ms(sample) if closely or sample.time_offset_s is None else None
            if offset_ms is not None:
                self._offsets_ms[sample.camera_name].append(offset_ms)

    def checks(self) -> list[Check]:
        """One per sensor with stamps, and one per camera that is paired with a sweep."""
        streams = [stream_check(name, *np.array(ns).T) for name, ns in self._stamps_ns.items() if len(ns) > 1]
        return streams + [_offset_check(name, np.array(ms)) for name, ms in self._offsets_ms.items() if ms]


def _offset_ms(sample: Sample) -> float | None:
    """When the main LiDAR's points in view were measured, on average, relative to the image.

    The stamps' difference where points have no times of their own.
    """
    if not len(sample.points_lidar):
        return None
    if sample.time_offset_s is not None:
        seen = project(sample.points_lidar, sample.camera, sample.camera_T_lidar).index
        seen = seen[main_lidar(sample)[seen]]
        return 1e3 * float(sample.time_offset_s[seen].mean()) if len(seen) else None
    if sample.sweep_time_ns is None or sample.image_time_ns is None:
        return None
    return (sample.sweep_time_ns - sample.image_time_ns) / 1e6


def main_lidar(sample: Sample) -> NDArray[np.bool_]:
    """(N,) the points of the LiDAR that has most of a merged cloud; the others may turn freely beside it."""
    if sample.lidar_id is None or not len(sample.lidar_id):
        return np.ones(len(sample.points_lidar), dtype=bool)
    main: NDArray[np.bool_] = sample.lidar_id == np.bincount(sample.lidar_id).argmax()
    return main


def stream_check(about: str, frames: NDArray[np.int64], stamps_ns: NDArray[np.int64]) -> Check:
    """Period, jitter and gaps of one sensor's stamps (two or more) in the order of the frames.

    A jump over numbers that the log does not have either is no gap of this sensor.
    """
    steps_ms = np.diff(stamps_ns) / 1e6
    backwards = int((steps_ms <= 0).sum())
    if backwards:
        return Check(
            "stamps",
            about,
            "FAIL",
            f"{backwards} of {len(steps_ms)} steps stand still or run backwards (worst {steps_ms.min():.1f} ms)",
            "stamps that grow from frame to frame",
            "cut the log where its clock was set, or sort it; write one message per stamp",
            {"backwards": backwards},
        )
    numbers = np.maximum(np.diff(frames), 1)
    period_ms = float(np.median(steps_ms / numbers))
    periods = np.maximum(np.round(steps_ms / period_ms), 1)
    gaps = (steps_ms > (numbers - 1 + GAP_PERIODS) * period_ms) & (periods > numbers)
    missing = int((periods - numbers)[gaps].sum())
    jitter_ms = float(np.quantile(np.abs(steps_ms - np.where(gaps, periods, numbers) * period_ms), 0.95))
    measured = f"{1e3 / period_ms:.1f} Hz, jitter {jitter_ms:.1f} ms"
    if missing:
        count = int(gaps.sum())
        measured += f", {missing} messages missing in {count} gap{'' if count == 1 else 's'}"
    return Check(
        "stamps",
        about,
        judge(missing > 0 or jitter_ms > JITTER_SHARE * period_ms),
        measured,
        f"no gaps, jitter at most {100 * JITTER_SHARE:g} % of the period",
        "look for dropped messages in the recording, and stamp messages when they are measured, not when they arrive",
        {"period_ms": period_ms, "jitter_ms": jitter_ms, "missing": missing, "gaps": int(gaps.sum())},
    )


def _offset_check(about: str, offsets_ms: NDArray[np.float64]) -> Check:
    middle = float(np.median(offsets_ms))
    jitter = float(np.ptp(np.quantile(offsets_ms, [0.05, 0.95])))
    return Check(
        "time offset",
        about,
        judge(abs(middle) > OFFSET_MS or jitter > OFFSET_JITTER_MS),
        f"points {middle:+.1f} ms from the image, jitter {jitter:.1f} ms",
        f"at most {OFFSET_MS:g} ms, jitter at most {OFFSET_JITTER_MS:g} ms",
        "pair each sweep with the nearest image, correct a constant delay in the stamps, give poses",
        {"median_ms": middle, "jitter_ms": jitter},
    )
