"""PandaSet (Hesai and Scale AI, 2021): six cameras, a spinning Pandar64 (d = 0) and a forward PandarGT (d = 1)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import REDUCED, read_image, read_json
from fusionseg.data.log import FrameError, Log, frame_errors
from fusionseg.data.recent import Recent
from fusionseg.data.unpickle import read_dataframe
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import compose, invert, make_transform, rotation_from_quaternion, transform_points
from fusionseg.label_maps import label_map
from fusionseg.sample import Sample

CAMERAS = ("front_camera", "front_left_camera", "front_right_camera", "left_camera", "right_camera", "back_camera")
IMAGE_SIZE = (1920, 1080)
"""Stands for a frame without an image."""

# The pose frame of lidar/poses.json is x right, y forward, z up; origin near the ground, 0.8 m behind the mast.
# Where the Pandar64 sits in it is nowhere given. Seen from its true place its beams have 64 elevations: minimising the
# entropy of the elevation histogram (bins of 0.02 degrees) over place and tilt, in frame 00 of log 002 where the car
# stands, falls to 4.38 (64 equal beams: 4.16; at the pose origin 6.9) at this place, with the sensor tilted by 0.9 deg.
POSE_R_LIDAR = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
SENSOR_IN_POSE_M = (0.0, 0.80, 1.86)
POSE_T_LIDAR = make_transform(POSE_R_LIDAR, SENSOR_IN_POSE_M)


@dataclass(frozen=True, eq=False)
class _Sweep:
    """What all views of one frame share."""

    points_lidar: NDArray[np.float32]
    lidar_id: NDArray[np.uint8]
    time_s: NDArray[np.float64]
    labels: NDArray[np.uint8] | None


def scale_intensity(intensity: NDArray[np.float64], lidar_id: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Intensity (N,) in [0, 1], each LiDAR on its own scale.

    Both sensors write 0..255. The Pandar64 is linear with a long tail (quartiles 2, 7, 20; 99 % 117; retroreflectors
    saturate at 255), the PandarGT is compressed (11, 27, 32; 99 % 70; the same signs read about 120). The square
    root of the first and the second divided by 120 agree: quartiles .09, .17, .28 and .09, .23, .27; 99 % .68 and .58.
    """
    spinning = np.sqrt(np.clip(intensity / 255.0, 0.0, 1.0))
    forward = np.clip(intensity / 120.0, 0.0, 1.0)
    return np.where(lidar_id == 0, spinning, forward).astype(np.float32)


class PandaSetLog(Log):
    """One PandaSet sequence.

    ``points_lidar`` is the sweep in the frame of the Pandar64 at the end of the sweep; both LiDARs are in it. Rows keep
    the order of the file.

    Args:
        path: the sequence's folder (``.../002``).
        classes: ``driving12``, ``native`` or a YAML file.
        lidar: 0, 1 or ``merged``.
        split: PandaSet has none; must be None.
        reduced: 2, 4 or 8 decodes the images at that part of their size, for networks with a small input: with 2 in
            about half the time. Images, cameras and labels of pixels are then of the reduced size.

    Raises:
        ValueError: an option that does not exist, or a broken JSON file.
        FileNotFoundError: the folder lacks poses, sweeps or cameras.
    """

    format: ClassVar[str] = "pandaset"
    needs: ClassVar[str] = "lidar/poses.json, lidar/NN.pkl.gz, camera/<name>_camera/{poses,intrinsics}.json and NN.jpg"

    def __init__(
        self,
        path: Path,
        *,
        classes: str = "driving12",
        split: str | None = None,
        lidar: Literal[0, 1, "0", "1", "merged"] = "merged",
        reduced: int = 1,
    ) -> None:
        if str(lidar) not in ("0", "1", "merged"):
            raise ValueError(f"lidar is {lidar!r}; choose 0 (Pandar64), 1 (PandarGT) or merged")
        if reduced not in REDUCED:
            raise ValueError(f"reduced is {reduced!r}; choose one of {', '.join(map(str, REDUCED))}")
        if split is not None:
            raise ValueError(f"split is {split!r}; PandaSet has no splits, choose frames instead")
        self.path = Path(path)
        self.name = f"pandaset/{self.path.resolve().name}"
        self._reduced = reduced
        self._lidar = None if lidar == "merged" else int(lidar)
        self._map = label_map("pandaset", classes)
        self.table = self._map.table
        self._sweep_files = {
            int(file.name.split(".")[0]): file
            for pattern in ("*.pkl.gz", "*.pkl")
            for file in sorted((self.path / "lidar").glob(pattern))
            if file.name.split(".")[0].isdecimal()
        }
        self.frames = sorted(self._sweep_files)
        if not self.frames:
            raise FileNotFoundError(f"{self.path / 'lidar'}: no sweeps; expected files like 00.pkl.gz")
        self._lidar_poses = _poses(self.path / "lidar")
        self._lidar_times = _times(self.path / "lidar")
        self.cameras = [name for name in CAMERAS if (self.path / "camera" / name).is_dir()]
        if not self.cameras:
            raise FileNotFoundError(f"{self.path / 'camera'}: no camera folder; expected one of {', '.join(CAMERAS)}")
        folders = {name: self.path / "camera" / name for name in self.cameras}
        self._camera_poses = {name: _poses(folder) for name, folder in folders.items()}
        self._camera_times = {name: _times(folder) for name, folder in folders.items()}
        self._K = {name: _intrinsics(folder / "intrinsics.json") for name, folder in folders.items()}
        self._recent = Recent(self._read_sweep)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder looks like a PandaSet sequence."""
        return (path / "lidar").is_dir() and (path / "camera").is_dir()

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One view; labels are None when the frame has no semseg file, ``image`` is None when it has no image."""
        if frame not in self._sweep_files:
            raise KeyError(f"{self.name} has no frame {frame}; it has {len(self.frames)} from {self.frames[0]}")
        if camera_name not in self._K:
            raise KeyError(f"{self.name} has no camera {camera_name!r}; it has {', '.join(self.cameras)}")
        sweep = self._recent(frame)
        folder = self.path / "camera" / camera_name
        world_T_camera = _at(self._camera_poses[camera_name], frame, folder / "poses.json")
        camera_time_s = _at(self._camera_times[camera_name], frame, folder / "timestamps.json")
        with frame_errors():
            image, camera = self._image(frame, camera_name)
            return Sample(
                log=self.name,
                frame=frame,
                camera_name=camera_name,
                camera=camera,
                image=image,
                points_lidar=sweep.points_lidar,
                camera_T_lidar=compose(invert(world_T_camera), self.world_T_lidar(frame)),
                point_labels=sweep.labels,
                time_offset_s=(sweep.time_s - camera_time_s).astype(np.float32),
                lidar_id=sweep.lidar_id,
                image_time_ns=_nanoseconds(camera_time_s),
                sweep_time_ns=_nanoseconds(_at(self._lidar_times, frame, self.path / "lidar" / "timestamps.json")),
            )

    def files(self, frame: int) -> list[Path]:
        """Sweep, labels, images, poses, times and intrinsics."""
        labels = self.path / "annotations" / "semseg" / f"{frame:02d}.pkl"
        folders = [self.path / "camera" / name for name in self.cameras]
        return [
            *([self._sweep_files[frame]] if frame in self._sweep_files else []),
            labels.with_suffix(".pkl.gz"),
            labels,
            *(
                folder / name
                for folder in (self.path / "lidar", *folders)
                for name in ("poses.json", "timestamps.json")
            ),
            *(folder / name for folder in folders for name in ("intrinsics.json", f"{frame:02d}.jpg")),
        ]

    def world_T_lidar(self, frame: int) -> NDArray[np.float64]:
        """(4, 4) pose of the LiDAR frame (x forward, y left, z up, at the Pandar64) in the world.

        Raises:
            FrameError: ``lidar/poses.json`` ends before this frame.
        """
        return compose(_at(self._lidar_poses, frame, self.path / "lidar" / "poses.json"), POSE_T_LIDAR)

    def _image(self, frame: int, camera_name: str) -> tuple[NDArray[np.uint8] | None, Camera]:
        """The image, None if the frame has none, with its camera."""
        file = self.path / "camera" / camera_name / f"{frame:02d}.jpg"
        image = read_image(file, self._reduced) if file.is_file() else None
        width, height = IMAGE_SIZE if image is None else (side * self._reduced for side in image.shape[1::-1])
        K = self._K[camera_name]
        # A resized copy of the log would put every point in the wrong place without any other sign.
        if image is not None and not (0.25 < K[0, 2] / width < 0.75 and 0.25 < K[1, 2] / height < 0.75):
            raise FrameError(
                f"{file}: image is {width}x{height}, but its principal point is ({K[0, 2]:g}, {K[1, 2]:g}); "
                "the intrinsics are for another size, use the original images"
            )
        return image, Camera(width, height, K).resize(width // self._reduced, height // self._reduced)

    def _read_sweep(self, frame: int) -> _Sweep:
        file = self._sweep_files[frame]
        columns = read_dataframe(file)
        missing = [name for name in ("x", "y", "z", "i", "t", "d") if name not in columns]
        if missing:
            raise FrameError(f"{file}: column {missing[0]!r} is missing; a PandaSet sweep has x, y, z, i, t, d")
        if len(columns["x"]) == 0:
            raise FrameError(f"{file}: sweep has no points; copy it again from the log")
        lidar_id = columns["d"].astype(np.uint8)
        points_world = np.stack([columns[axis] for axis in "xyz"], axis=1).astype(np.float64)
        xyz = transform_points(invert(self.world_T_lidar(frame)), points_world)
        intensity = scale_intensity(columns["i"].astype(np.float64), lidar_id)
        points_lidar = np.concatenate([xyz, intensity[:, None]], axis=1).astype(np.float32)
        labels = self._labels(frame, len(points_lidar))
        keep = slice(None) if self._lidar is None else np.flatnonzero(lidar_id == self._lidar)
        return _Sweep(points_lidar[keep], lidar_id[keep], columns["t"][keep], None if labels is None else labels[keep])

    def _labels(self, frame: int, count: int) -> NDArray[np.uint8] | None:
        stem = self.path / "annotations" / "semseg" / f"{frame:02d}.pkl"
        file = next((f for f in (stem.with_suffix(".pkl.gz"), stem) if f.is_file()), None)
        if file is None:
            return None
        columns = read_dataframe(file)
        if "class" not in columns:
            raise FrameError(f"{file}: column 'class' is missing; it has {', '.join(columns)}")
        ids = columns["class"]
        if len(ids) != count:
            raise FrameError(f"{file}: {len(ids)} labels for a sweep of {count} points; both must be of one frame")
        with frame_errors():
            return self._map(ids.astype(np.int64), str(file))


def _json(file: Path) -> Any:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: missing; a PandaSet log needs it, copy it from the data set")
    return read_json(file)


def _poses(folder: Path) -> list[NDArray[np.float64]]:
    """world_T_sensor per frame number."""
    file = folder / "poses.json"
    poses = []
    entries = _json(file)
    if not isinstance(entries, list):
        raise ValueError(f"{file}: holds {type(entries).__name__}; expected a list of poses, one per frame")
    for i, entry in enumerate(entries):
        try:
            heading = [float(entry["heading"][key]) for key in "wxyz"]
            position = [float(entry["position"][key]) for key in "xyz"]
            poses.append(make_transform(rotation_from_quaternion(heading), position))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: pose {i} is broken ({error}); expected position xyz and heading wxyz") from error
    return poses


def _times(folder: Path) -> list[float]:
    file = folder / "timestamps.json"
    times = _json(file)
    if not isinstance(times, list) or not all(isinstance(t, int | float) for t in times):
        raise ValueError(f"{file}: expected a list of seconds")
    return times


def _intrinsics(file: Path) -> NDArray[np.float64]:
    content = _json(file)
    try:
        fx, fy, cx, cy = (float(content[key]) for key in ("fx", "fy", "cx", "cy"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error} is missing or no number; expected fx, fy, cx, cy in pixels") from error
    if min(fx, fy) <= 0:
        raise ValueError(f"{file}: focal lengths are {fx} and {fy}; both must be positive pixels")
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _at(values: list[Any], frame: int, file: Path) -> Any:
    if frame >= len(values):
        raise FrameError(f"{file}: {len(values)} entries, none for frame {frame}; the list is shorter than the log")
    return values[frame]


def _nanoseconds(seconds: float) -> int:
    """Microseconds are what a float64 holds of a Unix time."""
    return round(seconds * 1e6) * 1000
