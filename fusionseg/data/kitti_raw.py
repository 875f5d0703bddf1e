"""KITTI raw data (Geiger et al., IJRR 2013): drives with rectified colour cameras and a Velodyne HDL-64."""

from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import image_size, read_image
from fusionseg.data.kitti_calibration import (
    IMAGE_SUFFIXES,
    matrix,
    numbered_files,
    read_calibration,
    read_velodyne,
    split_projection,
    velodyne_extrinsics,
)
from fusionseg.data.log import FrameError, Log, frame_errors
from fusionseg.data.recent import Recent
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.views import virtual_views
from fusionseg.label_maps import class_table
from fusionseg.sample import Sample

CAMERAS = ("image_02", "image_03")
VIRTUAL_SIZE = (640, 448)
"""Width and height of the virtual views of a drive without images: six of them hold -25 to 15 degrees."""


def find_drives(path: Path) -> list[Path]:
    """The drive folders in a root, a date folder, or the path itself if it is one."""

    def is_drive(folder: Path) -> bool:
        return any((folder / name).is_dir() for name in ("velodyne_points", "image_02", "image_03"))

    if not path.is_dir():
        return []
    if is_drive(path):
        return [path]
    return sorted(folder for pattern in ("*", "*/*") for folder in path.glob(pattern) if is_drive(folder))


class KittiRawLog(Log):
    """One drive. A frame is a number for which a sweep or an image exists; the sensor that lacks it is absent.

    The sweep is not compensated for ego motion and carries no time per point. There are no labels.

    Args:
        path: a drive's folder, a date folder or the root.
        classes: ``driving12`` or a YAML file; it only names the classes, as there are no labels.
        split: KITTI raw has none; must be None.
        drive: the drive's folder name, when the path holds several.

    Raises:
        ValueError: no drive or several to choose from, or broken calibration.
        FileNotFoundError: calibration, or every sweep and image, is missing.
    """

    format: ClassVar[str] = "kitti_raw"
    needs: ClassVar[str] = (
        "DATE/calib_velo_to_cam.txt, DATE/calib_cam_to_cam.txt, DATE/DRIVE/{velodyne_points,image_02}/data"
    )

    def __init__(
        self, path: Path, *, classes: str = "driving12", split: str | None = None, drive: str | None = None
    ) -> None:
        if split is not None:
            raise ValueError(f"split is {split!r}; KITTI raw has no splits, choose frames instead")
        self.path = _choose_drive(Path(path), drive)
        self.name = f"kitti_raw/{self.path.resolve().name}"
        self.table = class_table(classes)
        self._sweeps = numbered_files(self.path / "velodyne_points" / "data", (".bin",))
        images = {name: numbered_files(self.path / name / "data", IMAGE_SUFFIXES) for name in CAMERAS}
        self._images = {name: files for name, files in images.items() if files}
        self.frames = sorted(set(self._sweeps).union(*self._images.values()))
        self.has_images, self.has_lidar = bool(self._images), bool(self._sweeps)
        if not self.frames:
            raise FileNotFoundError(
                f"{self.path}: no images and no sweeps; expected files in image_02/data, image_03/data or "
                "velodyne_points/data"
            )
        if self.has_images:
            self.cameras = list(self._images)
            self._read_calibration(self.path.resolve().parent)
        else:
            self._virtual = {name: (camera, pose) for name, camera, pose in virtual_views(*VIRTUAL_SIZE)}
            self.cameras = list(self._virtual)
        self._image_times = {name: _times(self.path / name / "timestamps.txt") for name in self.cameras}
        self._sweep_times = _times(self.path / "velodyne_points" / "timestamps.txt")
        self._recent = Recent(self._read_sweep)

    def _read_sweep(self, frame: int) -> NDArray[np.float32]:
        return read_velodyne(self._sweeps[frame])

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the path is or holds a drive."""
        return bool(find_drives(path))

    def _read_calibration(self, date: Path) -> None:
        camera_file, velodyne_file = date / "calib_cam_to_cam.txt", date / "calib_velo_to_cam.txt"
        rows, velodyne = read_calibration(camera_file), read_calibration(velodyne_file)
        R = matrix(velodyne, "R", (3, 3), velodyne_file)
        T = matrix(velodyne, "T", (3, 1), velodyne_file)
        rectified_T_velodyne = velodyne_extrinsics(
            matrix(rows, "R_rect_00", (3, 3), camera_file), np.hstack([R, T]), camera_file
        )
        self._K: dict[str, NDArray[np.float64]] = {}
        self._camera_T_lidar: dict[str, NDArray[np.float64]] = {}
        for name in self.cameras:
            P = matrix(rows, f"P_rect_{name[-2:]}", (3, 4), camera_file)
            self._K[name], camera_T_rectified = split_projection(P, camera_file)
            self._camera_T_lidar[name] = camera_T_rectified @ rectified_T_velodyne

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One view; ``image`` is None or the cloud empty where the drive lacks that file."""
        if camera_name not in self.cameras:
            raise KeyError(f"{self.name} has no camera {camera_name!r}; it has {', '.join(self.cameras)}")
        if frame not in self._images.get(camera_name, {}) and frame not in self._sweeps:
            raise KeyError(f"{self.name} has no frame {frame}; it has {len(self.frames)} from {self.frames[0]}")
        image, camera, camera_T_lidar = self._view(frame, camera_name)
        points = self._recent(frame) if frame in self._sweeps else np.zeros((0, 4), dtype=np.float32)
        with frame_errors():
            return Sample(
                log=self.name,
                frame=frame,
                camera_name=camera_name,
                camera=camera,
                image=image,
                points_lidar=points,
                camera_T_lidar=camera_T_lidar,
                image_time_ns=_time_ns(self._image_times[camera_name], frame, self.path / camera_name),
                sweep_time_ns=_time_ns(self._sweep_times, frame, self.path / "velodyne_points"),
            )

    def _view(self, frame: int, name: str) -> tuple[NDArray[np.uint8] | None, Camera, NDArray[np.float64]]:
        if not self.has_images:
            return None, *self._virtual[name]
        files = self._images[name]
        image = read_image(files[frame]) if frame in files else None
        width, height = image_size(next(iter(files.values()))) if image is None else image.shape[1::-1]
        with frame_errors():
            return image, Camera(width, height, self._K[name]), self._camera_T_lidar[name]

    def files(self, frame: int) -> list[Path]:
        """Sweep, images, times and the calibration of the day."""
        date = self.path.resolve().parent
        folders = [self.path / name for name in ("velodyne_points", *self.cameras)]
        return [
            *(files[frame] for files in (self._sweeps, *self._images.values()) if frame in files),
            *(folder / "timestamps.txt" for folder in folders),
            date / "calib_cam_to_cam.txt",
            date / "calib_velo_to_cam.txt",
        ]


def _choose_drive(path: Path, drive: str | None) -> Path:
    drives = find_drives(path)
    names = ", ".join(folder.name for folder in drives) or "none"
    if drive is not None:
        drives = [folder for folder in drives if folder.name == drive]
    if len(drives) != 1:
        found = f"no drive {drive!r} here" if drive is not None and not drives else f"{len(drives)} drives here"
        raise ValueError(f"{path}: {found} ({names}); give a drive's folder, or one of their names as drive=")
    return drives[0]


def _times(path: Path) -> list[str] | None:
    return path.read_text(encoding="ascii", errors="replace").splitlines() if path.is_file() else None


def _time_ns(lines: list[str] | None, frame: int, folder: Path) -> int | None:
    """Nanoseconds since 1970 of a line like ``2011-09-26 13:02:25.594360375``; None where the drive gives no time."""
    if lines is None or frame >= len(lines) or not lines[frame].strip():
        return None
    seconds, _, fraction = lines[frame].strip().partition(".")
    try:
        moment = datetime.strptime(seconds, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        return int(moment.timestamp()) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    except ValueError as error:
        raise FrameError(
            f"{folder / 'timestamps.txt'}: line {frame + 1} is {lines[frame]!r}; expected 2011-09-26 13:02:25.594360375"
        ) from error
