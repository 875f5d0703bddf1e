"""Virtual pinhole cameras that tile 360 degrees: how points that no camera sees are labelled from LiDAR alone."""

import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import make_transform

# Room for float32 rounding, so that a point on the seam of two views is in both rather than in neither.
_SLACK = 1.002


def virtual_views(
    width: int,
    height: int,
    count: int = 6,
    lowest_deg: float = -25.0,
    highest_deg: float = 15.0,
) -> tuple[tuple[str, Camera, NDArray[np.float64]], ...]:
    """``(name, camera, camera_T_lidar)`` of ``count`` level pinhole cameras at the LiDAR's origin.

    View i looks ``360 / count * i`` degrees to the left of straight ahead and is named ``virtual_i``. Pixels are
    square; the focal length is the longest with which every direction between ``lowest_deg`` and ``highest_deg`` of
    elevation is inside at least one view, so views overlap where the image is wider or higher than that needs. What is
    nearer than the depth limit of ``project`` stays outside, and so do steeper directions.

    Raises:
        ValueError: fewer than three views, or elevations that a level pinhole camera cannot hold.
    """
    if count < 3:
        raise ValueError(f"virtual views: count is {count}; at least 3 pinhole views are needed to tile 360 degrees")
    if not -80.0 <= lowest_deg < highest_deg <= 80.0:
        raise ValueError(
            f"virtual views: elevations are {lowest_deg} to {highest_deg} degrees; "
            "expected lowest < highest, both within -80 to 80"
        )
    half_rad = np.pi / count
    # At yaw a from a view's axis, elevation e lies at y / z = -tan(e) / cos(a): furthest out at the view's side.
    tangents = np.tan(np.deg2rad([lowest_deg, highest_deg]))
    down = _SLACK * max(-tangents[0] / np.cos(half_rad), -tangents[0])
    up = _SLACK * max(tangents[1] / np.cos(half_rad), tangents[1])
    side = _SLACK * np.tan(half_rad)
    focal_px = float(min(width / (2 * side), height / (up + down)))
    spare_px = height - focal_px * (up + down)
    cy = -0.5 + spare_px / 2 + focal_px * up
    camera = Camera.from_focal(width, height, focal_px, focal_px, (width - 1) / 2, float(cy))
    return tuple(
        (f"virtual_{i}", camera, make_transform(_looking_left_by(2 * np.pi * i / count), np.zeros(3)))
        for i in range(count)
    )


def _looking_left_by(yaw_rad: float) -> NDArray[np.float64]:
    """Rotation (3, 3) from the LiDAR frame into a level camera whose axis is ``yaw_rad`` left of straight ahead."""
    sin, cos = np.sin(yaw_rad), np.cos(yaw_rad)
    return np.array([[sin, -cos, 0.0], [0.0, 0.0, -1.0], [cos, sin, 0.0]])
