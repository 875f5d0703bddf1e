"""The doctor's calibration check: do depth edges lie on image edges, and which small turn would fit better?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusionseg.geometry.alignment import (
    AXES,
    COARSEST_DEG,
    CURVE_DEG,
    Alignment,
    EdgeView,
    align,
    edge_view,
    pixel_size_deg,
)
from fusionseg.geometry.depth_edges import depth_edges
from fusionseg.replay.doctor_check import Check, Status
from fusionseg.replay.doctor_times import main_lidar
from fusionseg.sample import Sample

LATE_S = 0.05
SURE = 1.5
FELT_DEG = 0.3
OFF_DEG = 0.7
"""Off by this much, or by ``FELT_DEG`` where many edges lose ``LOST`` of the peak, is worth a warning."""
LOST, ALL_BUT_LOST = 0.35, 0.7
"""Who misses that much of the peak is off, however few edges there are to say by how much."""
WRONG_DEG = 1.5
FEW_EDGES = 300
MANY_EDGES = 1500
FLAT = 0.12
FINE_DEG = 0.2


class Calibration:
    """Evidence from some frames of a log.

    Attributes:
        views: camera name -> images with their depth edges.
    """

    def __init__(self) -> None:
        self.views: dict[str, list[EdgeView]] = {}
        self._pixel_deg: dict[str, float] = {}

    def add(self, samples: Sequence[Sample]) -> None:
        """Take the views of one frame into account: points of its main LiDAR, at most 50 ms from the image."""
        seen = [sample for sample in samples if sample.image is not None and len(sample.points_lidar)]
        if not seen:
            return
        first = seen[0]
        main = np.flatnonzero(main_lidar(first))
        edges = depth_edges(first.points_lidar[main])
        for sample in seen:
            image = sample.image
            assert image is not None
            sides, rims = main[edges.sides], main[edges.rims]
            if sample.time_offset_s is not None:
                sides, rims = (rows[np.abs(sample.time_offset_s[rows]) <= LATE_S] for rows in (sides, rims))
            points = sample.points_lidar
            view = edge_view(image, sample.camera, sample.camera_T_lidar, points[sides], points[rims])
            self.views.setdefault(sample.camera_name, []).append(view)
            self._pixel_deg[sample.camera_name] = pixel_size_deg(sample.camera)

    def checks(self) -> list[Check]:
        """One per camera."""
        return [self._check(name, views) for name, views in self.views.items()]

    def _check(self, name: str, views: Sequence[EdgeView]) -> Check:
        pixel_deg = self._pixel_deg[name]
        if pixel_deg > COARSEST_DEG:
            return _skipped(name, f"cannot be judged: a pixel is {pixel_deg:.1f} degrees")
        found = align(views)
        if found is None or sum(found.edges) < FEW_EDGES:
            return _skipped(name, f"cannot be judged: {0 if found is None else sum(found.edges)} depth edges in view")
        return calibration_check(name, found, pixel_deg)


def calibration_check(about: str, found: Alignment, pixel_deg: float) -> Check:
    """What an alignment means for the calibration of a camera whose pixels are this wide.

    Only parts of the turn that are felt (0.3 degrees, 1.5 standard errors) count. Edges by themselves leave up to 0.6
    degrees open about each axis (fences, few edges, a LiDAR of few beams), so that less than that is no fault. On
    real logs a degree about x or y is flagged from one frame of 64 beams; about z, the optical axis, from several.
    """
    felt = (np.abs(found.turn_deg) >= FELT_DEG) & (found.sure_of_axes >= SURE)
    off_deg = float(np.linalg.norm(found.turn_deg[felt]))
    many = sum(found.edges) >= MANY_EDGES
    off = off_deg >= OFF_DEG or (off_deg > 0 and found.lost >= LOST and many) or found.lost >= ALL_BUT_LOST
    turn = ", ".join(f"{axis} {angle:+.1f}" for axis, angle in zip(AXES, found.turn_deg, strict=True))
    status: Status
    if found.peak < FLAT:
        if not (many and pixel_deg <= FINE_DEG):
            return _skipped(about, "cannot be judged: no turn fits clearly better than another", found)
        status, measured = "WARN", "no turn within 3 degrees brings depth edges onto image edges (or fog hides them)"
    elif off:
        off_deg = off_deg or float(np.linalg.norm(found.turn_deg))
        status = "FAIL" if off_deg >= WRONG_DEG else "WARN"
        measured = f"off by {off_deg:.1f} degrees: edges fit best turned by {turn}"
    else:
        status, measured = "OK", f"within what edges tell (best turned by {turn})"
    return Check(
        "calibration",
        about,
        status,
        f"{measured}; misses {100 * max(0.0, found.lost):.0f} % of the peak, {sum(found.edges)} depth edges",
        f"edges fit best within {OFF_DEG:g} degrees of the given calibration, which misses under {100 * LOST:g} %",
        "calibrate anew; or try camera_T_lidar = R camera_T_lidar with R the turn about the camera's axes (x right, "
        "y down, z forward), and check the time offset first if the car moves",
        _values(found, off_deg),
    )


def _skipped(about: str, why: str, found: Alignment | None = None) -> Check:
    return Check(
        "calibration",
        about,
        "SKIP",
        why,
        f"at least {FEW_EDGES} depth edges in images with pixels of at most {COARSEST_DEG:g} degrees",
        "inspect more frames, with things standing around",
        {} if found is None else _values(found, 0.0),
    )


def _values(found: Alignment, off_deg: float) -> dict[str, Any]:
    return {
        "off_deg": off_deg,
        "turn_deg": found.turn_deg.tolist(),
        "standard_errors": found.sure_of_axes.tolist(),
        "lost": found.lost,
        "peak": found.peak,
        "edges": list(found.edges),
        "curve_deg": list(CURVE_DEG),
        "curves": found.curves,
    }
