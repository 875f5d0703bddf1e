"""A folder of pictures or a video file: camera only, no labels. Also the nominal camera of sets without calibration."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from fusionseg.data.files import read_image
from fusionseg.data.log import FrameError, Log, frame_errors
from fusionseg.geometry.camera import Camera, camera_from_dict
from fusionseg.label_maps import label_map
from fusionseg.sample import Sample

NOMINAL_HFOV_DEG = 60.0
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")


def nominal_camera(width: int, height: int, hfov_deg: float = NOMINAL_HFOV_DEG) -> Camera:
    """A pinhole camera for images whose calibration is unknown.

    Square pixels, principal point in the middle, 60 degrees across unless told otherwise: a usual dash camera lies
    between 50 and 70. Nothing but the view of a LiDAR rests on it, and such data has none.

    Raises:
        ValueError: a field of view that no pinhole camera has.
    """
    if not 1.0 <= hfov_deg <= 170.0:
        raise ValueError(f"hfov_deg is {hfov_deg}; expected degrees between 1 and 170 (a pinhole camera)")
    focal = 0.5 * width / math.tan(math.radians(0.5 * hfov_deg))
    return Camera.from_focal(width, height, focal, focal, 0.5 * (width - 1), 0.5 * (height - 1))


def images_in(folder: Path) -> list[Path]:
    """JPEG and PNG files of a folder by name, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


class Images(Log):
    """A folder of JPEG/PNG files (frame = position in the sorted names) or a video file (frame = its picture number).

    Args:
        path: the folder or the video.
        classes: class table of the predictions, as in ``label_map``; there are no labels here.
        split: there are none; must be None.
        hfov_deg: horizontal field of view of the nominal camera.
        calibration: YAML file with ``K``, ``size`` and optionally ``model`` and ``distortion``; wins over ``hfov_deg``.

    Raises:
        FileNotFoundError: no such folder or video, or no picture in it.
        ValueError: a video that cannot be opened, a calibration or field of view that no camera has.
    """

    format: ClassVar[str] = "images"
    needs: ClassVar[str] = "a folder of JPEG/PNG files, or a video file"
    has_lidar = False

    def __init__(
        self,
        path: str | Path,
        *,
        classes: str = "driving12",
        split: str | None = None,
        hfov_deg: float = NOMINAL_HFOV_DEG,
        calibration: str | Path | None = None,
    ) -> None:
        if split is not None:
            raise ValueError(f"split is {split!r}; a folder of images has no splits, choose frames instead")
        self.path = Path(path)
        self.name = self.path.stem if self.path.is_file() else self.path.resolve().name
        self.table = label_map("plain", classes).table
        self.cameras: Sequence[str] = ("camera",)
        self._hfov_deg = hfov_deg
        nominal_camera(1, 1, hfov_deg)  # a wrong field of view should show now, not at the first frame
        self._camera = None if calibration is None else _read_calibration(Path(calibration))
        self._video: cv2.VideoCapture | None = None
        self._next = 0
        if self.path.is_dir():
            self._files = images_in(self.path)
            if not self._files:
                raise FileNotFoundError(f"{path}: no {', '.join(IMAGE_SUFFIXES)} file in this folder")
            self.frames = range(len(self._files))
        elif self.path.is_file():
            self._files = []
            self.frames = range(self._open_video())
        else:
            raise FileNotFoundError(f"{path}: no such folder or video file")

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether it is a video by its suffix, or a folder with pictures in it."""
        return bool(images_in(path)) if path.is_dir() else path.suffix.lower() in VIDEO_SUFFIXES

    def _open_video(self) -> int:
        """Open from the start; the number of pictures."""
        self._video = cv2.VideoCapture(str(self.path))
        self._next = 0
        count = int(self._video.get(cv2.CAP_PROP_FRAME_COUNT)) if self._video.isOpened() else 0
        if count < 1:
            raise ValueError(
                f"{self.path}: cannot be opened as a video; expected one of {', '.join(VIDEO_SUFFIXES)} "
                "or a folder of JPEG/PNG images"
            )
        return count

    def _read_video(self, frame: int) -> NDArray[np.uint8]:
        # seeking is inexact in many containers: decode forward, and from the start when asked to go back
        if self._video is None or frame < self._next:
            self._open_video()
        assert self._video is not None
        while self._next < frame and self._video.grab():
            self._next += 1
        good, image = self._video.read() if self._next == frame else (False, None)
        if not good or image is None:
            self._video = None
            raise FrameError(f"{self.path}: picture {frame} cannot be decoded; the video is truncated or damaged")
        self._next = frame + 1
        return np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8)

    def files(self, frame: int) -> list[Path]:
        """The picture, or the video; and the calibration."""
        calibration = self.options.get("calibration")
        return [self._files[frame] if self._files else self.path, *([Path(calibration)] if calibration else [])]

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One picture."""
        if frame not in self.frames or camera_name not in self.cameras:
            raise KeyError(f"{self.name} has no frame {frame} of camera {camera_name!r}")
        image = read_image(self._files[frame]) if self._files else self._read_video(frame)
        height, width = image.shape[:2]
        camera = self._camera or nominal_camera(width, height, self._hfov_deg)
        with frame_errors():
            return Sample(log=self.name, frame=frame, camera_name=camera_name, camera=camera, image=image)


def _read_calibration(path: Path) -> Camera:
    return camera_from_dict(read_yaml(path), str(path))


def read_yaml(path: Path) -> dict[str, object]:
    """A YAML mapping.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not YAML, or no mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected YAML")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"{path}: not valid YAML{line} ({problem}); indent with spaces") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds {type(content).__name__}; expected a mapping of keys to values")
    return content
