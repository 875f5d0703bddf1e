"""SemanticKITTI (Behley et al., ICCV 2019): KITTI odometry sequences with a label per LiDAR point."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import image_size, read_bytes, read_image, read_label_image
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
from fusionseg.geometry.transform import compose, invert, make_transform
from fusionseg.geometry.views import virtual_views
from fusionseg.label_maps import label_map
from fusionseg.labels import LabelMap
from fusionseg.sample import Sample

CAMERAS = {"image_2": "P2", "image_3": "P3"}
SPLITS = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": tuple(f"{i:02d}" for i in range(11, 22)),
}
VIRTUAL_SIZE = (640, 448)
"""Width and height of the virtual views of a sequence without images: six of them hold -25 to 15 degrees."""


@dataclass(frozen=True, eq=False)
class _Sweep:
    points_lidar: NDArray[np.float32]
    labels: NDArray[np.uint8] | None
    instances: NDArray[np.uint16] | None


class SemanticKittiLog(Log):
    """One sequence. A frame is a sweep; labels, images, poses and times are used where they are there.

    Without ``image_2`` and ``image_3`` the cameras are virtual views that tile the circle, with no image.
    ``semantic_2`` PNGs (Cityscapes label ids, as in KITTI's pixel benchmark) become the pixel labels of ``image_2``.

    Args:
        path: the root, its ``sequences`` folder, or one sequence.
        classes: ``driving12``, ``native`` (the official 19 of the single-scan benchmark) or a YAML file.
        split: ``train``, ``val`` or ``test`` limits the choice of sequences to the official split.
        sequence: for example ``"00"`` or 0, when the path holds several.

    Raises:
        ValueError: no sequence or several to choose from, or broken calibration.
        FileNotFoundError: no sweeps, or images without ``calib.txt``.
    """

    format: ClassVar[str] = "semantickitti"
    needs: ClassVar[str] = "sequences/NN/velodyne/NNNNNN.bin, calib.txt, optional image_2, image_3, labels, poses.txt"

    def __init__(
        self,
        path: Path,
        *,
        classes: str = "driving12",
        split: str | None = None,
        sequence: str | int | None = None,
    ) -> None:
        self.path = _choose_sequence(Path(path), split, sequence)
        self.name = f"semantickitti/{self.path.resolve().name}"
        self._map = label_map("semantickitti", classes)
        self.table = self._map.table
        self._sweeps = numbered_files(self.path / "velodyne", (".bin",))
        self.frames = sorted(self._sweeps)
        if not self.frames:
            raise FileNotFoundError(f"{self.path / 'velodyne'}: no sweeps; expected files like 000000.bin")
        images = {name: numbered_files(self.path / name, IMAGE_SUFFIXES) for name in CAMERAS}
        self._images = {name: files for name, files in images.items() if files}
        self.has_images = bool(self._images)
        self._dense = numbered_files(self.path / "semantic_2", (".png",)) if "image_2" in self._images else {}
        self._dense_map = self._pixel_map(classes)
        self._times = _rows(self.path / "times.txt", 1)
        self._poses = _rows(self.path / "poses.txt", 12)
        self._views: dict[str, tuple[Camera, NDArray[np.float64]]] = {}
        if self.has_images:
            self._read_calibration()
            self.cameras: list[str] = list(self._images)
        else:
            self._views = {name: (camera, T) for name, camera, T in virtual_views(*VIRTUAL_SIZE)}
            self.cameras = list(self._views)
        self._recent = Recent(self._read_sweep)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the path is or holds a sequence: ``velodyne`` without KITTI object's folder ``calib``."""
        return bool(_find_sequences(path))

    def _pixel_map(self, classes: str) -> LabelMap | None:
        """Dense labels are in Cityscapes ids: they have no place in the native table of this data set."""
        return label_map("cityscapes", classes) if self._dense and classes != "native" else None

    def _rectified_T_lidar(self) -> NDArray[np.float64]:
        file = self.path / "calib.txt"
        Tr = matrix(read_calibration(file), "Tr", (3, 4), file)
        return velodyne_extrinsics(np.eye(3), Tr, file)

    def _read_calibration(self) -> None:
        file = self.path / "calib.txt"
        rectified_T_lidar = self._rectified_T_lidar()
        rows = read_calibration(file)
        self._K: dict[str, NDArray[np.float64]] = {}
        self._camera_T_lidar: dict[str, NDArray[np.float64]] = {}
        for name in self._images:
            self._K[name], camera_T_rectified = split_projection(matrix(rows, CAMERAS[name], (3, 4), file), file)
            self._camera_T_lidar[name] = camera_T_rectified @ rectified_T_lidar

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One view; labels are None when the sweep has no label file, ``image`` is None when it has no image."""
        if frame not in self._sweeps:
            raise KeyError(f"{self.name} has no frame {frame}; it has {len(self.frames)} from {self.frames[0]}")
        if camera_name not in self.cameras:
            raise KeyError(f"{self.name} has no camera {camera_name!r}; it has {', '.join(self.cameras)}")
        sweep = self._recent(frame)
        image, camera, camera_T_lidar = self._view(frame, camera_name)
        time_ns = None if self._times is None else round(1e9 * float(self._row(self._times, frame, "times.txt")[0]))
        with frame_errors():
            return Sample(
                log=self.name,
                frame=frame,
                camera_name=camera_name,
                camera=camera,
                image=image,
                points_lidar=sweep.points_lidar,
                camera_T_lidar=camera_T_lidar,
                point_labels=sweep.labels,
                point_instances=sweep.instances,
                pixel_labels=self._pixel_labels(frame, camera_name),
                image_time_ns=time_ns,
                sweep_time_ns=time_ns,
            )

    def files(self, frame: int) -> list[Path]:
        """Sweep, labels, images, dense labels, times, poses and calibration."""
        numbered = (self._sweeps, self._dense, *self._images.values())
        return [
            *(files[frame] for files in numbered if frame in files),
            self.path / "labels" / f"{self._sweeps[frame].stem}.label",
            *(self.path / name for name in ("times.txt", "poses.txt", "calib.txt")),
        ]

    def world_T_lidar(self, frame: int) -> NDArray[np.float64] | None:
        """(4, 4) pose of the LiDAR, in the LiDAR frame of the sequence's start; None without ``poses.txt``.

        Raises:
            FrameError: ``poses.txt`` ends before this frame.
        """
        if self._poses is None:
            return None
        pose = self._row(self._poses, frame, "poses.txt").reshape(3, 4)
        camera_T_lidar = self._rectified_T_lidar()
        return compose(invert(camera_T_lidar), make_transform(pose[:, :3], pose[:, 3]), camera_T_lidar)

    def _row(self, rows: NDArray[np.float64], frame: int, file: str) -> NDArray[np.float64]:
        if frame >= len(rows):
            raise FrameError(f"{self.path / file}: {len(rows)} rows, none for frame {frame}; the file is too short")
        row: NDArray[np.float64] = rows[frame]
        return row

    def _view(self, frame: int, name: str) -> tuple[NDArray[np.uint8] | None, Camera, NDArray[np.float64]]:
        if not self.has_images:
            return None, *self._views[name]
        files = self._images[name]
        image = read_image(files[frame]) if frame in files else None
        width, height = image_size(next(iter(files.values()))) if image is None else image.shape[1::-1]
        return image, Camera(width, height, self._K[name]), self._camera_T_lidar[name]

    def _read_sweep(self, frame: int) -> _Sweep:
        points = read_velodyne(self._sweeps[frame])
        file = self.path / "labels" / f"{self._sweeps[frame].stem}.label"
        if not file.is_file():
            return _Sweep(points, None, None)
        content = read_bytes(file)
        if len(content) != 4 * len(points):
            raise FrameError(
                f"{file}: {len(content) / 4:g} labels for a sweep of {len(points)} points; "
                "expected one 4-byte label a point"
            )
        raw = np.frombuffer(content, "<u4")
        with frame_errors():
            labels = self._map((raw & 0xFFFF).astype(np.int64), str(file))
        return _Sweep(points, labels, (raw >> 16).astype(np.uint16))

    def _pixel_labels(self, frame: int, camera_name: str) -> NDArray[np.uint8] | None:
        if camera_name != "image_2" or self._dense_map is None or frame not in self._dense:
            return None
        file = self._dense[frame]
        return self._dense_map(read_label_image(file).astype(np.int64), str(file))


def _find_sequences(path: Path) -> list[Path]:
    """Sequence folders in the root, in ``sequences``, or the path itself."""

    def is_sequence(folder: Path) -> bool:
        return (folder / "velodyne").is_dir() and not (folder / "calib").is_dir()  # KITTI object has a calib folder

    if is_sequence(path):
        return [path]
    patterns = ("sequences/*", "dataset/sequences/*") + (("*",) if path.name == "sequences" else ())
    return sorted(folder for pattern in patterns for folder in path.glob(pattern) if is_sequence(folder))


def _choose_sequence(path: Path, split: str | None, sequence: str | int | None) -> Path:
    if split is not None and split not in SPLITS:
        raise ValueError(f"split is {split!r}; choose one of {', '.join(SPLITS)}")
    found = _find_sequences(path)
    names = ", ".join(folder.name for folder in found) or "none"
    if split is not None:
        found = [folder for folder in found if folder.resolve().name in SPLITS[split]]
    if sequence is not None:
        wanted = f"{int(sequence):02d}" if str(sequence).isdecimal() else str(sequence)
        found = [folder for folder in found if folder.resolve().name == wanted]
    if len(found) != 1:
        raise ValueError(
            f"{path}: {len(found)} sequences fit (there are {names}; split {split}, sequence {sequence}); "
            "give one sequence's folder or its number as sequence="
        )
    return found[0]


def _rows(path: Path, columns: int) -> NDArray[np.float64] | None:
    """(N, columns) numbers of a text file, or None if there is no such file."""
    if not path.is_file():
        return None
    try:
        rows = [[float(number) for number in line.split()] for line in path.read_text(encoding="ascii").splitlines()]
        return np.array([row for row in rows if row], dtype=np.float64).reshape(-1, columns)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; expected {columns} numbers a line") from error
