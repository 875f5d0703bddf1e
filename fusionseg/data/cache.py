"""Prepared views on disk, so that training is bound neither by decoding nor by projection."""

import dataclasses
import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from fusionseg.data.log import Log
from fusionseg.data.prepare import PREPARE_VERSION, View, prepare_frame
from fusionseg.files import atomic_write
from fusionseg.geometry.camera import Camera

logger = logging.getLogger(__name__)

_ARRAYS = (
    "image",
    "index",
    "points_camera",
    "uv",
    "height_m",
    "intensity",
    "visible",
    "supervised",
    "labels",
    "pixel_labels",
)
# what a truncated or overwritten file makes numpy, zipfile and json raise
_BROKEN = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class ViewCache:
    """The prepared views of a log at one size, one uncompressed ``.npz`` each under ``folder/<key>/``.

    The key tells apart format, path, options, class table (with the content of its file), size and version of the
    preparation. A view is made anew when a file of its frame (``Log.files``) has another size or time than it had, or
    when its own file is broken.

    Args:
        folder: where they are kept, or None to prepare them each time.
        log: where they come from.
        size: (height, width) of the network input in pixels.
    """

    def __init__(self, folder: Path | None, log: Log, size: tuple[int, int]) -> None:
        self.log = log
        self.size = size
        self.folder = None if folder is None else Path(folder) / _key(log, size)

    def views(self, frame: int, cameras: Sequence[str] | None = None) -> list[View]:
        """The views of a frame in the order of ``cameras`` (all when None); those not kept are prepared together.

        Raises:
            FrameError: a file of the frame cannot be read.
            ValueError: the folder cannot be written.
        """
        names = list(cameras or self.log.cameras)
        if self.folder is None:
            return prepare_frame(self.log.frame(frame, names), self.size)
        sources = _fingerprint(self.log.files(frame))
        kept = {name: self._load(frame, name, sources) for name in names}
        missing = [name for name, view in kept.items() if view is None]
        if missing:
            for name, view in zip(missing, prepare_frame(self.log.frame(frame, missing), self.size), strict=True):
                self._save(view, self._path(frame, name), sources)
                kept[name] = view
        return [view for view in (kept[name] for name in names) if view is not None]

    def _path(self, frame: int, camera_name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{frame:06d}_{quote(camera_name, safe='')}.npz"

    def _load(self, frame: int, camera_name: str, sources: list[list[Any]]) -> View | None:
        path = self._path(frame, camera_name)
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                if header["sources"] != sources:
                    return None
                arrays: dict[str, Any] = {name: file[name] if name in file.files else None for name in _ARRAYS}
            view = header["view"]
            camera = Camera(**view.pop("camera"))
            return View(camera=camera, **view, **arrays)
        except FileNotFoundError:
            return None
        except _BROKEN as error:
            logger.warning("%s: broken (%s), prepared anew", path, error)
            return None

    def _save(self, view: View, path: Path, sources: list[list[Any]]) -> None:
        camera = dataclasses.asdict(view.camera)
        header = {
            "sources": sources,
            "view": {
                "log": view.log,
                "frame": int(view.frame),
                "camera_name": view.camera_name,
                "lidar_present": view.lidar_present,
                "camera": {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in camera.items()},
            },
        }
        arrays = {name: getattr(view, name) for name in _ARRAYS}
        content = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        with atomic_write(path) as file:
            np.savez(file, header=content, **{name: array for name, array in arrays.items() if array is not None})


def _key(log: Log, size: tuple[int, int]) -> str:
    """16 hexadecimal digits."""
    kind = type(log)
    parts = [
        PREPARE_VERSION,
        [log.format, kind.__module__, kind.__qualname__, str(Path(log.path).resolve()), log.name],
        sorted((name, repr(value)) for name, value in log.options.items()),
        _class_file(log.options.get("classes")),
        [log.table.name, log.table.names, log.table.sets],
        [int(v) for v in size],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _class_file(classes: Any) -> str | None:
    """What a class table of one's own says: its ids may change their meaning while its classes stay."""
    if not (isinstance(classes, str) and classes.endswith((".yaml", ".yml")) and Path(classes).is_file()):
        return None
    return hashlib.sha256(Path(classes).read_bytes()).hexdigest()


def _fingerprint(files: Sequence[Path]) -> list[list[Any]]:
    """[path, bytes, nanoseconds of the last change] of each file, -1 where there is none."""
    states: list[list[Any]] = []
    for file in files:
        try:
            state = file.stat()
            states.append([str(file), state.st_size, state.st_mtime_ns])
        except OSError:
            states.append([str(file), -1, -1])
    return states
