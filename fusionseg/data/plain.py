"""A person's own data: calibration, images and sweeps by stamp; labels and poses if there are any.

    calibration.yaml
        cameras:
          front:
            K: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]          or [fx, fy, cx, cy]
            size: [width, height]
            model: pinhole                                      or fisheye
            distortion: [k1, k2, p1, p2, k3]                    optional
            camera_T_lidar: 4x4 rows                            or {quaternion: [w, x, y, z], translation: [x, y, z]}
        intensity_max: 255                                      optional: full scale of the sweeps
        tolerance_ns: 50000000                                  optional: image to sweep, see below
    images/front/STAMP.png|jpg      sweeps/STAMP.bin|npy|pcd|ply
    labels/STAMP.label|npy          labels/classes.yaml: {id: class | [class, ...] | null}
    poses.txt                       a line of 12 numbers per sweep in order: world_T_lidar (3x4, row by row)

A stamp is an integer. If every stamp is below a million they are frame numbers: image and sweep belong together if they
have the same one, and a number with images alone is a frame without points. Otherwise they are nanoseconds: frames are
counted from 0 in the order of the sweeps (of the camera with most images if there is no sweep), each with the nearest
image of each camera within the tolerance; with poses the ego motion between the two is in ``camera_T_lidar``.
"""

import bisect
import difflib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import read_bytes, read_image
from fusionseg.data.images import IMAGE_SUFFIXES, read_yaml
from fusionseg.data.log import FrameError, Log, frame_errors
from fusionseg.data.points import POINT_SUFFIXES, read_points
from fusionseg.data.recent import Recent
from fusionseg.geometry.camera import Camera, camera_from_dict
from fusionseg.geometry.transform import check_rigid, compose, invert, make_transform, rotation_from_quaternion
from fusionseg.geometry.views import virtual_views
from fusionseg.label_maps import label_map, label_map_of
from fusionseg.labels import LabelMap
from fusionseg.sample import Sample

FRAME_NUMBERS_BELOW = 1_000_000
TOLERANCE_NS = 50_000_000
FILE_KEYS = ("cameras", "intensity_max", "tolerance_ns")
CAMERA_KEYS = ("K", "size", "model", "distortion", "camera_T_lidar")
LABEL_SUFFIXES = (".label", ".npy")
VIRTUAL_SIZE = (640, 360)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What calibration.yaml says: each camera with its place, the intensity's full scale, the pairing tolerance."""

    cameras: dict[str, tuple[Camera, NDArray[np.float64]]]
    intensity_max: float | None = None
    tolerance_ns: int = TOLERANCE_NS


def read_calibration(path: str | Path) -> Calibration:
    """calibration.yaml; a file with one camera's keys at the top level has that one camera, named ``camera``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, a key missing, unknown or wrong.
    """
    path = Path(path)
    content: dict[str, Any] = dict(read_yaml(path))
    intensity_max, tolerance_ns = content.pop("intensity_max", None), content.pop("tolerance_ns", TOLERANCE_NS)
    for key, value in (("intensity_max", intensity_max), ("tolerance_ns", tolerance_ns)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and math.isfinite(value) and value >= 0):
            raise ValueError(f"{path}: {key} is {value!r}; expected a positive number")
    entries: Any = {"camera": content}
    if "cameras" in content:
        entries = content.pop("cameras")
        _check_keys(content, (), path)
    else:
        _check_keys(content, CAMERA_KEYS, path)
    if not isinstance(entries, dict) or not entries:
        raise ValueError(
            f"{path}: cameras is {entries!r}; expected a mapping from camera name to K, size, camera_T_lidar"
        )
    cameras = {str(name): _camera(entry, f"{path}: camera {name!r}") for name, entry in entries.items()}
    return Calibration(cameras, None if intensity_max is None else float(intensity_max), int(tolerance_ns or 0))


def _check_keys(content: dict[str, Any], further: Sequence[str], path: Path) -> None:
    """Only keys of the file's top level are there, with ``further`` ones where it holds one camera."""
    for key in map(str, content):
        if key not in further:
            known = (*FILE_KEYS, *further)
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"a calibration has {', '.join(known)}"
            raise ValueError(f"{path}: unknown key {key!r}; {hint}")


def _camera(entry: Any, where: str) -> tuple[Camera, NDArray[np.float64]]:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: is {entry!r}; expected a mapping with K, size and camera_T_lidar")
    entry = dict(entry)
    if "camera_T_lidar" not in entry:
        raise ValueError(f"{where}: key 'camera_T_lidar' is missing; give 4x4 rows or quaternion and translation")
    pose = entry.pop("camera_T_lidar")
    camera = camera_from_dict(entry, where)
    try:
        if isinstance(pose, dict):
            if set(pose) != {"quaternion", "translation"}:
                raise ValueError(
                    f"has keys {', '.join(map(str, pose))}; expected quaternion (w, x, y, z) and translation"
                )
            pose = make_transform(rotation_from_quaternion(pose["quaternion"]), np.reshape(pose["translation"], 3))
        return camera, check_rigid(pose, "the matrix")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: camera_T_lidar: {error}") from error


def _stamped(folder: Path, suffixes: Sequence[str]) -> dict[int, Path]:
    """Files of a folder by stamp, in order.

    Raises:
        ValueError: a name that is no integer, or two files of one stamp.
    """
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix.lower() not in suffixes or file.name.startswith("."):
            continue
        if not file.stem.isdecimal():
            raise ValueError(f"{file}: name is no stamp; expected an integer (frame number or nanoseconds)")
        if int(file.stem) in found:
            raise ValueError(f"{file}: same stamp as {found[int(file.stem)].name}; keep one file per stamp")
        found[int(file.stem)] = file
    return dict(sorted(found.items()))


class PlainLog(Log):
    """A person's own log in the layout of this module's docstring.

    Without any image folder the cameras are virtual views. Labels are ``.npy`` of integers, or ``.label`` of uint32
    (class in the lower 16 bits, instance in the upper) or uint8; ids are driving12 unless ``labels/classes.yaml`` says.

    Args:
        path: the folder.
        classes: ``driving12``, ``native`` (the names of ``labels/classes.yaml``) or a YAML class table.
        split: there are none; must be None.

    Raises:
        FileNotFoundError: neither sweeps nor images, or images without calibration.yaml.
        ValueError: a calibration, stamp, class file or pose file that breaks the rules.
    """

    format: ClassVar[str] = "plain"
    needs: ClassVar[str] = "calibration.yaml, images/CAMERA/STAMP.png, sweeps/STAMP.bin|npy|pcd|ply"

    def __init__(self, path: str | Path, *, classes: str = "driving12", split: str | None = None) -> None:
        if split is not None:
            raise ValueError(f"split is {split!r}; a plain log has no splits, choose frames instead")
        self.path = Path(path)
        self.name = self.path.resolve().name
        self._sweeps = _stamped(self.path / "sweeps", POINT_SUFFIXES)
        self._labels = _stamped(self.path / "labels", LABEL_SUFFIXES)
        folders = [f for f in sorted((self.path / "images").glob("*")) if f.is_dir()]
        self._images = {folder.name: _stamped(folder, IMAGE_SUFFIXES) for folder in folders}
        self.has_lidar = bool(self._sweeps)
        self.has_images = any(self._images.values())
        if not self.has_lidar and not self.has_images:
            raise FileNotFoundError(f"{path}: neither sweeps nor images; a plain log has {self.needs}")
        self._calibration = self._read_calibration()
        self.cameras = list(self._calibration.cameras)
        self._map = _labels_of(self.path / "labels" / "classes.yaml", classes)
        self.table = self._map.table
        self._stamps = self._frame_stamps()
        self.frames = list(self._stamps)
        self._poses = self._read_poses()
        self._recent = Recent(self._read_cloud)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a calibration.yaml or a folder of sweeps by stamp."""
        return (path / "calibration.yaml").is_file() or (path / "sweeps").is_dir()

    def _read_calibration(self) -> Calibration:
        file = self.path / "calibration.yaml"
        if not self.has_images:
            views = {name: (camera, pose) for name, camera, pose in virtual_views(*VIRTUAL_SIZE)}
            given = read_calibration(file) if file.is_file() else Calibration({})
            return Calibration(views, given.intensity_max, given.tolerance_ns)
        calibration = read_calibration(file)
        for name in self._images:
            if name not in calibration.cameras:
                known = ", ".join(calibration.cameras)
                raise ValueError(f"{file}: no camera {name!r}, which images/{name} needs; it has {known}")
        return calibration

    def _frame_stamps(self) -> dict[int, int]:
        """Frame number -> stamp."""
        stamps = set(self._sweeps).union(*self._images.values())
        self._numbered = max(stamps) < FRAME_NUMBERS_BELOW
        if self._numbered:
            return {stamp: stamp for stamp in sorted(stamps)}
        reference = self._sweeps or max(self._images.values(), key=len)
        return dict(enumerate(reference))

    def _read_poses(self) -> NDArray[np.float64] | None:
        file = self.path / "poses.txt"
        if not file.is_file():
            return None
        rows = [
            line.split() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
        if len(rows) != len(self._sweeps):
            raise ValueError(f"{file}: {len(rows)} poses for {len(self._sweeps)} sweeps; expected one line per sweep")
        poses = np.tile(np.eye(4), (len(rows), 1, 1))
        for i, row in enumerate(rows):
            try:
                poses[i, :3] = np.array([float(v) for v in row]).reshape(3, 4)
                check_rigid(poses[i], "world_T_lidar")
            except ValueError as error:
                raise ValueError(f"{file} line {i + 1}: {error}; expected 12 numbers of a rigid transform") from error
        return poses

    def world_T_lidar(self, frame: int) -> NDArray[np.float64]:
        """(4, 4) pose of the LiDAR at a frame's sweep.

        Raises:
            KeyError: no poses.txt, or no sweep of this frame.
        """
        stamp = self._stamps[frame]
        if self._poses is None or stamp not in self._sweeps:
            raise KeyError(f"{self.name} has no pose of frame {frame}; poses.txt holds one line per sweep")
        pose: NDArray[np.float64] = self._poses[list(self._sweeps).index(stamp)]
        return pose

    def _image_stamp(self, stamp: int, camera_name: str) -> int | None:
        """The stamp of the image that belongs to a frame, or None."""
        stamps = list(self._images.get(camera_name, ()))
        if self._numbered or not stamps:
            return stamp if stamp in stamps else None
        at = bisect.bisect_left(stamps, stamp)
        nearest = min(stamps[max(0, at - 1) : at + 1], key=lambda other: abs(other - stamp))
        return nearest if abs(nearest - stamp) <= self._calibration.tolerance_ns else None

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One view of one sweep."""
        if frame not in self._stamps:
            raise KeyError(f"{self.name} has no frame {frame}; it has {len(self.frames)} from {self.frames[0]}")
        if camera_name not in self._calibration.cameras:
            raise KeyError(f"{self.name} has no camera {camera_name!r}; it has {', '.join(self.cameras)}")
        stamp = self._stamps[frame]
        camera, camera_T_lidar = self._calibration.cameras[camera_name]
        image_stamp = self._image_stamp(stamp, camera_name)
        image = None
        if image_stamp is not None:
            file = self._images[camera_name][image_stamp]
            image = read_image(file)
            if image.shape[:2] != (camera.height, camera.width):
                raise FrameError(
                    f"{file}: image is {image.shape[1]}x{image.shape[0]}; calibration.yaml says "
                    f"{camera.width}x{camera.height} for camera {camera_name!r}; write the size and K of the images "
                    "as they are stored there"
                )
            if not self._numbered and self._poses is not None:
                camera_T_lidar = camera_T_lidar @ self._ego_motion(stamp, image_stamp)
        points, labels, instances = self._recent(stamp)
        with frame_errors():
            return Sample(
                log=self.name,
                frame=frame,
                camera_name=camera_name,
                camera=camera,
                image=image,
                points_lidar=points,
                camera_T_lidar=camera_T_lidar,
                point_labels=labels,
                point_instances=instances,
                image_time_ns=None if self._numbered else image_stamp,
                sweep_time_ns=None if self._numbered or stamp not in self._sweeps else stamp,
            )

    def files(self, frame: int) -> list[Path]:
        """Sweep, labels, images, poses, calibration and classes."""
        stamp = self._stamps[frame]
        images = ((files, self._image_stamp(stamp, name)) for name, files in self._images.items())
        return [
            *(files[stamp] for files in (self._sweeps, self._labels) if stamp in files),
            *(files[image_stamp] for files, image_stamp in images if image_stamp is not None),
            *(self.path / name for name in ("poses.txt", "calibration.yaml", "labels/classes.yaml")),
        ]

    def _ego_motion(self, sweep_ns: int, image_ns: int) -> NDArray[np.float64]:
        """``lidar(at the image)_T_lidar(at the sweep)``, constant motion between neighbouring sweeps."""
        stamps = list(self._sweeps)
        assert self._poses is not None
        if image_ns == sweep_ns or len(stamps) < 2:
            return np.eye(4)
        here = stamps.index(sweep_ns)
        other = here + 1 if image_ns > sweep_ns else here - 1
        if not 0 <= other < len(stamps):
            other = here - 1 if other > here else here + 1
        motion = compose(invert(self._poses[here]), self._poses[other])
        part = (image_ns - sweep_ns) / (stamps[other] - sweep_ns)
        turn = cv2.Rodrigues(cv2.Rodrigues(motion[:3, :3])[0] * part)[0]
        return invert(make_transform(turn, motion[:3, 3] * part))

    def _read_cloud(self, stamp: int) -> tuple[Any, ...]:
        """Points, labels and instances of a sweep; no points where an image has none."""
        if stamp not in self._sweeps:
            return np.zeros((0, 4), dtype=np.float32), None, None
        points = read_points(self._sweeps[stamp], self._calibration.intensity_max)
        return points, *self._read_labels(stamp, len(points))

    def _read_labels(self, stamp: int, count: int) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint16] | None]:
        file = self._labels.get(stamp)
        if file is None:
            return None, None
        ids, instances = read_label_ids(file, count)
        with frame_errors():
            return self._map(ids, str(file)), instances


def read_label_ids(file: Path, count: int) -> tuple[NDArray[np.integer[Any]], NDArray[np.uint16] | None]:
    """Class ids (N,) of a ``.label`` or ``.npy`` file, and instance ids where it holds them.

    Raises:
        FrameError: not one integer per point.
    """
    content = read_bytes(file)
    rule = f"expected one class id for each of {count} points"
    if file.suffix.lower() == ".npy":
        try:
            ids = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise FrameError(f"{file}: cannot be read as .npy ({str(error).splitlines()[0]}); {rule}") from error
        if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu" or ids.shape != (count,):
            shape = f"{ids.dtype} {ids.shape}" if isinstance(ids, np.ndarray) else "an archive"
            raise FrameError(f"{file}: holds {shape}; {rule} (integers)")
        return ids, None
    if len(content) == 4 * count:
        packed = np.frombuffer(content, "<u4")
        return (packed & 0xFFFF).astype(np.int64), (packed >> 16).astype(np.uint16)
    if len(content) == count:
        return np.frombuffer(content, np.uint8), None
    raise FrameError(f"{file}: {len(content)} bytes; {rule} as uint32 ({4 * count} bytes) or uint8 ({count} bytes)")


def _labels_of(file: Path, classes: str) -> LabelMap:
    """The label map that ``labels/classes.yaml`` declares, or driving12's own ids without that file."""
    if not file.is_file() or classes.endswith((".yaml", ".yml")):
        return label_map("plain", classes)
    return label_map_of("plain", classes, read_yaml(file), str(file))
