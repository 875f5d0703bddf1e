"""One camera view of one LiDAR sweep: what every loader returns and everything downstream takes."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import check_rigid


def _no_points() -> NDArray[np.float32]:
    return np.zeros((0, 4), dtype=np.float32)


def _identity() -> NDArray[np.float64]:
    return np.eye(4)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One view. A missing sensor is ``image=None`` or no points, never zeros that pretend to be data.

    Attributes:
        log, frame, camera_name: where it comes from; ``frame`` is the log's own number.
        camera: intrinsics of the image (or of the virtual view when there is no image).
        image: (H, W, 3) uint8 RGB, or None.
        points_lidar: (N, 4) float32: x forward, y left, z up in metres, origin at the sensor; intensity in [0, 1].
        camera_T_lidar: (4, 4) float64; ego motion between sweep and image time is already in it.
        point_labels: (N,) uint8, or None.
        pixel_labels: (H, W) uint8, or None.
        point_instances: (N,) uint16 instance ids, 0 for none, or None.
        time_offset_s: (N,) float32, when each point was measured relative to the image, or None if unknown.
        lidar_id: (N,) uint8, which LiDAR of a merged cloud, or None.
        image_time_ns, sweep_time_ns: time stamps, or None.

    Raises:
        ValueError: a shape, dtype or matrix that breaks this contract.
    """

    log: str
    frame: int
    camera_name: str
    camera: Camera
    image: NDArray[np.uint8] | None = None
    points_lidar: NDArray[np.float32] = field(default_factory=_no_points)
    camera_T_lidar: NDArray[np.float64] = field(default_factory=_identity)
    point_labels: NDArray[np.uint8] | None = None
    pixel_labels: NDArray[np.uint8] | None = None
    point_instances: NDArray[np.uint16] | None = None
    time_offset_s: NDArray[np.float32] | None = None
    lidar_id: NDArray[np.uint8] | None = None
    image_time_ns: int | None = None
    sweep_time_ns: int | None = None

    def __post_init__(self) -> None:
        where = f"{self.log} frame {self.frame} {self.camera_name}"
        size = (self.camera.height, self.camera.width)
        object.__setattr__(self, "camera_T_lidar", check_rigid(self.camera_T_lidar, f"{where}: camera_T_lidar"))
        if self.points_lidar.ndim != 2 or self.points_lidar.shape[1] != 4:
            given = self.points_lidar.shape
            raise ValueError(f"{where}: points have shape {given}; expected (N, 4): x, y, z, intensity")
        if self.image is not None and self.image.shape != (*size, 3):
            raise ValueError(
                f"{where}: image has shape {self.image.shape}; its camera says {(*size, 3)} (height, width, RGB)"
            )
        count = (len(self.points_lidar),)
        for name, dtype, shape in (
            ("image", np.uint8, None),
            ("points_lidar", np.float32, None),
            ("point_labels", np.uint8, count),
            ("pixel_labels", np.uint8, size),
            ("point_instances", np.uint16, count),
            ("time_offset_s", np.float32, count),
            ("lidar_id", np.uint8, count),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if value.dtype != dtype:
                raise ValueError(f"{where}: {name} is {value.dtype}; expected {np.dtype(dtype)}")
            if shape is not None and value.shape != shape:
                raise ValueError(f"{where}: {name} has shape {value.shape}; expected {shape}")
