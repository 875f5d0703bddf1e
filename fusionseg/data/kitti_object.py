"""KITTI object detection (Geiger et al., CVPR 2012): single frames with one calibration file each."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import read_image
from fusionseg.data.kitti_calibration import (
    IMAGE_SUFFIXES,
    matrix,
    numbered_files,
    read_calibration,
    read_velodyne,
    split_projection,
    velodyne_extrinsics,
)
from fusionseg.data.log import Log, frame_errors
from fusionseg.data.recent import Recent
from fusionseg.geometry.camera import Camera
from fusionseg.label_maps import class_table
from fusionseg.sample import Sample

SPLITS = ("training", "testing")
CAMERA = "image_2"
IMAGE_SIZE = (1242, 375)
"""Stands for a frame without an image; the real ones differ by up to 18 pixels."""


class KittiObjectLog(Log):
    """The frames of ``training`` or ``testing``, by their 6-digit number; there are no labels per point or pixel.

    Args:
        path: the folder that holds ``training`` or ``testing``, or one of them.
        classes: ``driving12`` or a YAML file; it only names the classes.
        split: ``training`` (the first choice) or ``testing``.

    Raises:
        ValueError: a split that does not exist or contradicts the path.
        FileNotFoundError: no sweeps and images.
    """

    format: ClassVar[str] = "kitti_object"
    needs: ClassVar[str] = "{training,testing}/{calib/NNNNNN.txt,velodyne/NNNNNN.bin,image_2/NNNNNN.png}"
    cameras = (CAMERA,)

    def __init__(self, path: Path, *, classes: str = "driving12", split: str | None = None) -> None:
        if split is not None and split not in SPLITS:
            raise ValueError(f"split is {split!r}; choose one of {', '.join(SPLITS)}")
        folders = _find_splits(Path(path))
        if split is not None and split not in folders:
            raise ValueError(f"{path}: no split {split} here; found {', '.join(folders) or 'none'}")
        if not folders:
            raise FileNotFoundError(f"{path}: no KITTI object frames; expected {self.needs}")
        split = split or next(iter(folders))
        self.path = folders[split]
        self.name = f"kitti_object/{split}"
        self.table = class_table(classes)
        self._sweeps = numbered_files(self.path / "velodyne", (".bin",))
        self._images = numbered_files(self.path / CAMERA, IMAGE_SUFFIXES)
        self.frames = sorted(set(self._sweeps) | set(self._images))
        if not self.frames:
            raise FileNotFoundError(f"{self.path}: no frames; expected velodyne/000000.bin and image_2/000000.png")
        self.has_lidar, self.has_images = bool(self._sweeps), bool(self._images)
        self._recent = Recent(self._read_sweep)

    def _read_sweep(self, frame: int) -> NDArray[np.float32]:
        return read_velodyne(self._sweeps[frame])

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the path is or holds ``training`` or ``testing`` with a ``calib`` folder."""
        return bool(_find_splits(path))

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One view; ``image`` is None or the cloud empty where that file is missing."""
        if camera_name != CAMERA:
            raise KeyError(f"{self.name} has no camera {camera_name!r}; it has {CAMERA}")
        if frame not in self._images and frame not in self._sweeps:
            raise KeyError(f"{self.name} has no frame {frame}; it has {len(self.frames)} from {self.frames[0]}")
        file = self.path / "calib" / f"{frame:06d}.txt"
        with frame_errors():
            rows = read_calibration(file)
            K, camera_T_rectified = split_projection(matrix(rows, "P2", (3, 4), file), file)
            rectified_T_velodyne = velodyne_extrinsics(
                matrix(rows, "R0_rect", (3, 3), file), matrix(rows, "Tr_velo_to_cam", (3, 4), file), file
            )
            image = read_image(self._images[frame]) if frame in self._images else None
            width, height = IMAGE_SIZE if image is None else image.shape[1::-1]
            return Sample(
                log=self.name,
                frame=frame,
                camera_name=CAMERA,
                camera=Camera(width, height, K),
                image=image,
                points_lidar=self._recent(frame) if frame in self._sweeps else np.zeros((0, 4), dtype=np.float32),
                camera_T_lidar=camera_T_rectified @ rectified_T_velodyne,
            )

    def files(self, frame: int) -> list[Path]:
        """Sweep, image and calibration."""
        found = [files[frame] for files in (self._sweeps, self._images) if frame in files]
        return [*found, self.path / "calib" / f"{frame:06d}.txt"]


def _find_splits(path: Path) -> dict[str, Path]:
    """``training``/``testing`` -> folder."""

    def holds_frames(folder: Path) -> bool:
        return (folder / "calib").is_dir() and any((folder / name).is_dir() for name in ("velodyne", CAMERA))

    if holds_frames(path):
        name = path.resolve().name
        return {name if name in SPLITS else SPLITS[0]: path}
    return {split: path / split for split in SPLITS if holds_frames(path / split)}
