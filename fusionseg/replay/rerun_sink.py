"""A replay as a recording of rerun (https://rerun.io): the coloured sweep in 3D above the cameras."""

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from fusionseg.deploy.result import FrameResult
from fusionseg.labels import IGNORE, ClassTable
from fusionseg.replay.recording import Recording
from fusionseg.replay.scene import CameraScene, Scene, scene_of
from fusionseg.sample import Sample

POINTS = "world/points"
_UNKNOWN = (96, 96, 96)


class RerunFile(Recording):
    """The replay as one ``.rrd`` file.

    ``world/points`` holds the sweep, coloured and named by class; ``world/cameras/NAME`` the calibration of a camera
    and where it stands; below it lie ``image`` and ``labels``. The timelines are ``frame`` and the log's ``time``.
    rerun knows no lens distortion: where a camera has one, points and image agree in the middle of the image. Its tool
    joins the parts in memory: that of the whole recording is needed once, at the end.

    Args:
        path: of the file.
        table: the class table of the labels.
        cameras: names, for the layout of the viewer.
        name: of the recording.
        position: where the run goes on; what the file holds of the frames before it is kept.

    Raises:
        ValueError: rerun is not installed, or the folder cannot be written.
    """

    # what is read off a stream lists its chunks once for every read; joining makes one list of them
    single = True

    def __init__(self, path: Path, table: ClassTable, cameras: Sequence[str], name: str, position: int = 0) -> None:
        self._rerun = import_rerun()
        super().__init__(path, position)
        self._table, self._cameras, self._name = table, list(cameras), name
        self._stream: Any = None
        self._encoded: Any = None

    def draw(self, samples: Sequence[Sample], result: FrameResult) -> Scene:
        """What is shown of a frame."""
        return scene_of(samples, result, self._table)

    def _begin(self, file: IO[bytes], *, first: bool) -> None:
        rr = self._rerun
        # parts with one id are one recording
        self._stream = rr.RecordingStream("fusionseg", recording_id=self._name)
        # rerun's own file writer gives up on a full disk without a word, and waits for ever after that
        self._encoded = self._stream.binary_stream()
        if first:
            self._stream.send_blueprint(self._blueprint())
        self._stream.log("world", rr.ViewCoordinates.FLU, static=True)
        classes = zip(self._table.names, self._table.colours, strict=True)
        known = [(i, name, colour) for i, (name, colour) in enumerate(classes)]
        self._stream.log("world", rr.AnnotationContext([*known, (IGNORE, "unknown", _UNKNOWN)]), static=True)

    def _append(self, file: IO[bytes], frame: int, drawn: Scene) -> None:
        rr = self._rerun
        self._stream.set_time("frame", sequence=frame)
        self._stream.set_time("time", timestamp=np.datetime64(drawn.time_ns, "ns"))
        cloud = rr.Points3D(drawn.points_lidar[:, :3], class_ids=drawn.labels, radii=rr.Radius.ui_points(1.5))
        self._stream.log(POINTS, cloud)
        for camera in drawn.cameras:
            self._log_camera(camera)
        file.write(self._encoded.read() or b"")

    def _end(self, file: IO[bytes]) -> None:
        file.write(self._encoded.read() or b"")
        self._stream.disconnect()

    def _join(self, parts: Sequence[Path], whole: Path) -> None:
        command = [sys.executable, "-m", "rerun", "rrd", "merge", *map(str, parts), "-o", str(whole)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(None, f"rerun rrd merge: {' '.join(done.stderr.split())[-200:]}")

    def _log_camera(self, scene: CameraScene) -> None:
        rr, camera, place = self._rerun, scene.camera, f"world/cameras/{scene.name}"
        pose = scene.lidar_T_camera
        self._stream.log(place, rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        lens = rr.Pinhole(
            image_from_camera=camera.K,
            resolution=[camera.width, camera.height],
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=1.0,
        )
        self._stream.log(place, lens)
        self._stream.log(f"{place}/image", rr.EncodedImage(contents=scene.image, media_type="image/jpeg"))
        self._stream.log(f"{place}/labels", rr.SegmentationImage(scene.labels, opacity=0.45))

    def _blueprint(self) -> Any:
        """The sweep in 3D above a row of the cameras."""
        views = importlib.import_module("rerun.blueprint")
        around = views.Spatial3DView(origin="world", name="sweep")
        cameras = [views.Spatial2DView(origin=f"world/cameras/{name}", name=name) for name in self._cameras]
        return views.Blueprint(views.Vertical(around, views.Horizontal(*cameras), row_shares=[2, 1]))


def import_rerun() -> Any:
    """The module ``rerun``.

    Raises:
        ValueError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module("rerun")
    except ImportError as error:
        raise ValueError(f".rrd needs rerun ({error}); pip install 'fusionseg[rerun]'") from error
