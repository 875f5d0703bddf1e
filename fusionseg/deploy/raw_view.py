"""Views that a GPU projects: calibration and the sweep as it is, stacked to arrays of few sizes (NumPy only)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.prepare import View
from fusionseg.data.stack import padded
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.ground import Ground
from fusionseg.sample import Sample

# few sizes, as each is recorded anew; sweeps of one LiDAR differ by a few thousand points
SWEEP_BUCKET = 16384
DISTORTIONS = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class RawView(View):
    """A view of which nothing is projected yet; which points lie in it is known on the device alone.

    ``index`` holds every row of the sweep, and the arrays of projected points (``points_camera``, ``uv``, ``height_m``,
    ``intensity``) are empty. In the answer, points outside the view are unknown (255, confidence 0).

    Attributes:
        points_lidar: (N, 4) float32 sweep, as in ``Sample``.
        calibration: (31,) float32, see ``calibration_of``.
    """

    points_lidar: NDArray[np.float32]
    calibration: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RawStack:
    """The inputs of B raw views of H x W pixels, of S sweeps padded to N points.

    Attributes:
        image: (B, H, W, 3) uint8 RGB, zeros where absent.
        sweeps: (S, N, 4) float32, NaN in padding.
        sweep: (B,) int64 whose sweep each view sees.
        calibration: (B, 31) float32.
        present: (B, 2) float32, 1 where the image is there and where LiDAR may be input.
    """

    image: NDArray[np.uint8]
    sweeps: NDArray[np.float32]
    sweep: NDArray[np.int64]
    calibration: NDArray[np.float32]
    present: NDArray[np.float32]


def raw_view(sample: Sample, size: tuple[int, int], ground: Ground) -> RawView:
    """``project_sample`` for a device: the view at ``size`` (height, width) pixels, its points left as they are."""
    height, width = size
    camera = sample.camera.resize(width, height)
    nothing = np.zeros(0, dtype=np.float32)
    return RawView(
        log=sample.log,
        frame=sample.frame,
        camera_name=sample.camera_name,
        camera=camera,
        image=None,
        index=np.arange(len(sample.points_lidar), dtype=np.int32),
        points_camera=nothing.reshape(0, 3),
        uv=nothing.reshape(0, 2),
        height_m=nothing,
        intensity=nothing,
        points_lidar=sample.points_lidar,
        calibration=calibration_of(camera, sample.camera_T_lidar, ground),
    )


def calibration_of(camera: Camera, camera_T_lidar: NDArray[np.float64], ground: Ground) -> NDArray[np.float32]:
    """All that a point's way into a view depends on besides the size of the image.

    Returns:
        (31,) float32: ``camera_T_lidar`` by rows without the last (12), fx, skew, cx, fy, cy (5), distortion filled up
        with zeros (8), 1 for a fisheye, the squared tangent at which the distortion folds back (infinite if never),
        the ground's normal (3) and offset.
    """
    distortion = np.pad(camera.distortion, (0, DISTORTIONS - len(camera.distortion)))
    K, limit = camera.K, camera.distortion_limit()
    focal = (K[0, 0], K[0, 1], K[0, 2], K[1, 1], K[1, 2])
    parts = (camera_T_lidar[:3].ravel(), focal, distortion, (camera.model == "fisheye", limit * limit), ground.normal)
    return np.concatenate([*parts, (ground.offset_m,)]).astype(np.float32)


def stack_raw(views: Sequence[RawView]) -> RawStack:
    """Stack raw views of one size; a sweep that several of them see is there once."""
    distinct = {id(view.points_lidar): view.points_lidar for view in views}
    number = {key: s for s, key in enumerate(distinct)}
    most = max(len(points) for points in distinct.values())
    sweeps = np.full((len(distinct), max(-(-most // SWEEP_BUCKET), 1) * SWEEP_BUCKET, 4), np.nan, dtype=np.float32)
    for s, points in enumerate(distinct.values()):
        sweeps[s, : len(points)] = points
    camera = views[0].camera
    return RawStack(
        image=padded([view.image for view in views], (camera.height, camera.width, 3), np.uint8),
        sweeps=sweeps,
        sweep=np.array([number[id(view.points_lidar)] for view in views]),
        calibration=np.stack([view.calibration for view in views]),
        present=np.array([(view.image is not None, view.lidar_present) for view in views], dtype=np.float32),
    )
