"""The doctor's LiDAR: axes, ground, intensity, density and field of view, beside the data that models learned from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.ground import Ground, fit_ground
from fusionseg.geometry.projection import cells, project
from fusionseg.replay.doctor_check import Check, judge
from fusionseg.sample import Sample

TRAINING: dict[str, dict[str, float]] = {
    "PandaSet 002": {"height_m": 2.11, "intensity": 0.19, "intensity_95": 0.39, "filled_least": 0.27},
    "synthetic worlds": {"height_m": 1.70, "intensity": 0.10, "intensity_95": 0.40, "filled_least": 0.33},
}
"""What the shipped student learned from (its card): median height of the LiDAR over the ground, median and 95 % of
intensity, and the least share, of all cameras, of the network's LiDAR cells that hold a return. Measured with the
functions below on frames 0, 20, 28, 36 and 43 of PandaSet 002 (merged cloud) and on two worlds of ``fusionseg synth``
with 64 and 32 beams."""
GRID = (90, 160)
"""Rows and columns of the network's LiDAR raster: 360x640 pixels at stride 4."""

_UPS: dict[str, NDArray[np.float32]] = {
    "z": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32),
    "-z": np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1]], dtype=np.float32),
    "y": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32),
    "-y": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=np.float32),
    "x": np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]], dtype=np.float32),
    "-x": np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=np.float32),
}
"""Rotations to a frame whose z is that axis."""
_CONSIDERED = 40_000
_CLEARLY = 2.0
_TILT_DEG = 5.0
_LEAN_DEG = 45.0
_AHEAD_DEG = 60.0
_COLUMNS = 0.5
_NOT_FINITE = 0.01
_SATURATED = 0.05


class Points:
    """Clouds and views of some frames of a log."""

    def __init__(self) -> None:
        self._up: list[dict[str, int]] = []
        self._grounds: list[Ground] = []
        self._intensity: list[NDArray[np.float64]] = []
        self._saturated: list[float] = []
        self._filled: dict[str, list[tuple[float, float]]] = {}
        self._looks: dict[str, tuple[float, float, float]] = {}

    def add(self, samples: Sequence[Sample]) -> None:
        """Take the views of one frame into account."""
        points = samples[0].points_lidar
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            return
        if not self._up:
            some = points[:: -(-len(points) // _CONSIDERED) | 1, :3]
            self._up.append({name: fit_ground(some @ turn.T).support for name, turn in _UPS.items()})
        self._grounds.append(fit_ground(points))
        self._intensity.append(np.quantile(points[:, 3], [0.05, 0.5, 0.95]).astype(np.float64))
        self._saturated.append(float((points[:, 3] >= 0.999).mean()))
        for sample in samples:
            self._filled.setdefault(sample.camera_name, []).append(_filled(sample))
            self._looks[sample.camera_name] = _look(sample.camera_T_lidar)

    def checks(self, cameras: Sequence[str]) -> list[Check]:
        """Those of the LiDAR, then those of the cameras named (none of virtual views); none without points."""
        if not self._up:
            return []
        found = [self._axes(), self._ground(), self._range()]
        looks = {name: self._looks[name] for name in cameras if name in self._looks}
        if looks:
            found.append(_forward(looks))
        for name, (_, up_deg, roll_deg) in looks.items():
            found.append(_upright(name, up_deg, roll_deg))
            found.append(_view(name, np.array(self._filled[name])))
        return found

    def _axes(self) -> Check:
        support = self._up[0]
        best = max(support, key=lambda name: support[name])
        wrong = best != "z" and support[best] > _CLEARLY * support["z"]
        return Check(
            "axes",
            "lidar",
            judge(support["z"] == 0, wrong),
            f"ground lies below along {best}, {support[best]} returns on it" if support[best] else "no ground found",
            "x forward, y left, z up: ground below along z",
            f"turn points and camera_T_lidar so that {best} becomes z"
            if wrong
            else "check the axes of points and camera_T_lidar, and that the LiDAR sees the ground within 30 m",
            {"support": support},
        )

    def _ground(self) -> Check:
        height_m = float(np.median([ground.offset_m for ground in self._grounds]))
        tilt_deg = float(np.median([np.degrees(np.arccos(ground.normal[2])) for ground in self._grounds]))
        known = [entry["height_m"] for entry in TRAINING.values()]
        low, high = min(known) - 0.5, max(known) + 0.5
        no_fit = all(ground.support == 0 for ground in self._grounds)
        return Check(
            "ground",
            "lidar",
            judge(no_fit or not low <= height_m <= high or tilt_deg > _TILT_DEG),
            "no plane fits" if no_fit else f"{height_m:.2f} m below the LiDAR, tilted by {tilt_deg:.1f} degrees",
            f"{low:.1f} to {high:.1f} m (training data {min(known):.1f} to {max(known):.1f} m), tilt at most "
            f"{_TILT_DEG:g} degrees",
            "check unit (metres), origin and axes of the points; a truck or robot may need its own training data",
            {"height_m": height_m, "tilt_deg": tilt_deg},
        )

    def _range(self) -> Check:
        low, middle, high = (float(v) for v in np.median(self._intensity, axis=0))
        saturated = float(np.median(self._saturated))
        known = [entry["intensity"] for entry in TRAINING.values()]
        least, most = min(known) / 2, max(known) * 2
        return Check(
            "intensity",
            "lidar",
            judge(not least <= middle <= most or saturated > _SATURATED),
            f"median {middle:.2f}, 5 to 95 % {low:.2f} to {high:.2f}, {100 * saturated:.1f} % at full scale",
            f"median {least:.2f} to {most:.2f} (training data {min(known):.2f} to {max(known):.2f}), at most "
            f"{100 * _SATURATED:g} % at full scale",
            "give the sensor's full scale (intensity_max in calibration.yaml), or fine-tune on this sensor",
            {"quantile_05": low, "median": middle, "quantile_95": high, "saturated": saturated},
        )


def _filled(sample: Sample) -> tuple[float, float]:
    """Shares of cells and of columns of the network's LiDAR raster that hold a return."""
    camera = sample.camera
    uv = project(sample.points_lidar, camera, sample.camera_T_lidar).uv
    rows, columns = GRID
    scale = np.array([columns / camera.width, rows / camera.height], dtype=np.float32)
    scaled = ((uv + 0.5) * scale - 0.5).astype(np.float32)
    held = np.unique(cells(scaled, columns, rows, 1))
    return len(held) / (rows * columns), len(np.unique(held % columns)) / columns


def _look(camera_T_lidar: NDArray[np.float64]) -> tuple[float, float, float]:
    """Where a camera looks in the LiDAR frame, degrees: left of x, above the horizon, rolled clockwise."""
    right, down, ahead = camera_T_lidar[:3, :3]
    left_deg = float(np.degrees(np.arctan2(ahead[1], ahead[0])))
    up_deg = float(np.degrees(np.arcsin(np.clip(ahead[2], -1, 1))))
    return left_deg, up_deg, float(np.degrees(np.arctan2(-right[2], -down[2])))


def _forward(looks: dict[str, tuple[float, float, float]]) -> Check:
    """Whether some camera looks along x: cars have one that does."""
    name = min(looks, key=lambda camera: abs(looks[camera][0]))
    left_deg = looks[name][0]
    return Check(
        "forward",
        "log",
        judge(abs(left_deg) > _AHEAD_DEG),
        f"{name} looks {left_deg:+.0f} degrees left of x, the least of {len(looks)}",
        f"a camera within {_AHEAD_DEG:g} degrees of x, which is forward",
        "turn points and camera_T_lidar so that x is forward and y left (no matter if no camera looks ahead)",
        {camera: angles[0] for camera, angles in looks.items()},
    )


def _upright(name: str, up_deg: float, roll_deg: float) -> Check:
    return Check(
        "upright",
        name,
        judge(abs(up_deg) > _LEAN_DEG or abs(roll_deg) > _LEAN_DEG, abs(roll_deg) > 90 + _LEAN_DEG),
        f"looks {up_deg:+.1f} degrees up, rolled by {roll_deg:+.1f}",
        f"at most {_LEAN_DEG:g} degrees each: camera x right, y down, z forward",
        "camera_T_lidar must take points to x right, y down, z forward (not the inverse); turn images that lie",
        {"up_deg": up_deg, "roll_deg": roll_deg},
    )


def _view(name: str, filled: NDArray[np.float64]) -> Check:
    share, columns = (float(v) for v in np.median(filled, axis=0))
    least = min(entry["filled_least"] for entry in TRAINING.values())
    nothing = bool((filled == 0).all())
    values: dict[str, Any] = {"cells": share, "columns": columns}
    return Check(
        "overlap",
        name,
        judge(share < least / 2 or columns < _COLUMNS, nothing),
        "no point in view"
        if nothing
        else f"points in {100 * columns:.0f} % of the columns and {100 * share:.0f} % of the network's cells",
        f"at least {100 * _COLUMNS:g} % of the columns and {100 * least / 2:.0f} % of the cells (training data from "
        f"{100 * least:.0f} %)",
        "check camera_T_lidar and K"
        if nothing
        else "expect the camera to decide where there are no points; merge LiDARs, or fine-tune on this sensor",
        values,
    )


def finite_check(not_finite: int, points: int) -> Check:
    """Whether coordinates are numbers."""
    share = not_finite / max(1, points)
    return Check(
        "finite",
        "lidar",
        judge(share > _NOT_FINITE, share > 0.5),
        f"{not_finite} of {points} points are not finite",
        f"at most {100 * _NOT_FINITE:g} %; they are left out",
        "write only returns, and look for fields read with the wrong offset or type",
        {"not_finite": not_finite, "points": points},
    )
