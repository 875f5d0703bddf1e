"""A replay as an MCAP file with Foxglove's schemas, for Foxglove Studio and whatever else reads them."""

import importlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from fusionseg.deploy.result import FrameResult
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import quaternion_from_rotation
from fusionseg.labels import ClassTable
from fusionseg.replay.recording import Recording
from fusionseg.replay.scene import CameraScene, Scene, scene_of
from fusionseg.sample import Sample

LIDAR_FRAME = "lidar"
POINT = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z", "intensity")]
    + [(name, "u1") for name in ("red", "green", "blue", "alpha", "label")]
)
"""A point of the cloud, packed."""


class McapFile(Recording):
    """The replay as one MCAP file.

    Topics: ``/points`` (PointCloud with x, y, z, intensity, the colour of the class and its id as ``label``), ``/tf``
    (where each camera stands in the frame ``lidar``), and per camera ``/NAME/image`` and ``/NAME/labels``
    (CompressedImage) and ``/NAME/calibration`` (CameraCalibration). Times are those of the log.

    Args:
        path: of the file.
        table: the class table of the labels.
        position: where the run goes on; what the file holds of the frames before it is kept.

    Raises:
        ValueError: a package is missing, or the folder cannot be written.
    """

    def __init__(self, path: Path, table: ClassTable, position: int = 0) -> None:
        self._messages, self._mcap, self._reading = import_mcap()
        super().__init__(path, position)
        self._table = table
        self._writer: Any = None
        self._channels: dict[str, int] = {}

    def draw(self, samples: Sequence[Sample], result: FrameResult) -> tuple[int, list[tuple[str, Any]]]:
        """Time and messages by topic, encoded when they are written."""
        scene = scene_of(samples, result, self._table)
        messages = [("/points", self._cloud(scene))]
        for camera in scene.cameras:
            messages += self._camera(camera, scene.time_ns)
        return scene.time_ns, messages

    def _begin(self, file: IO[bytes], *, first: bool) -> None:
        self._writer, self._channels = self._mcap.Writer(file), {}
        self._writer.start(profile="", library="fusionseg")

    def _append(self, file: IO[bytes], frame: int, drawn: tuple[int, list[tuple[str, Any]]]) -> None:
        time_ns, messages = drawn
        times = {"log_time": time_ns, "publish_time": time_ns}
        for topic, message in messages:
            self._writer.add_message(self._channel(topic, message.get_schema()), data=message.encode(), **times)

    def _end(self, file: IO[bytes]) -> None:
        self._writer.finish()

    def _join(self, parts: Sequence[Path], whole: Path) -> None:
        with ExitStack() as files:
            self._begin(files.enter_context(whole.open("wb")), first=True)
            for part in parts:
                reader = self._reading.make_reader(files.enter_context(part.open("rb")))
                for schema, channel, message in reader.iter_messages(log_time_order=False):
                    times = {"log_time": message.log_time, "publish_time": message.publish_time}
                    self._writer.add_message(self._channel(channel.topic, schema), data=message.data, **times)
            self._writer.finish()

    def _channel(self, topic: str, schema: Any) -> int:
        if topic not in self._channels:
            number = self._writer.register_schema(schema.name, schema.encoding, schema.data)
            self._channels[topic] = self._writer.register_channel(topic, "protobuf", number)
        return self._channels[topic]

    def _cloud(self, scene: Scene) -> Any:
        points = np.zeros(len(scene.points_lidar), dtype=POINT)
        for column, name in enumerate(("x", "y", "z", "intensity")):
            points[name] = scene.points_lidar[:, column]
        for column, name in enumerate(("red", "green", "blue")):
            points[name] = scene.colours[:, column]
        points["alpha"], points["label"] = 255, scene.labels
        kinds = self._messages.PackedElementFieldNumericType
        fields = [
            self._messages.PackedElementField(
                name=name, offset=offset, type=kinds.Float32 if dtype == np.float32 else kinds.Uint8
            )
            for name, (dtype, offset) in ((name, POINT.fields[name][:2]) for name in POINT.names or () if POINT.fields)
        ]
        return self._messages.PointCloud(
            timestamp=self._stamp(scene.time_ns),
            frame_id=LIDAR_FRAME,
            point_stride=POINT.itemsize,
            fields=fields,
            data=points.tobytes(),
        )

    def _camera(self, camera: CameraScene, time_ns: int) -> list[tuple[str, Any]]:
        known = self._messages
        stamp = self._stamp(time_ns)
        pictures = {"image": camera.image, "labels": camera.overlay}
        messages = [
            (
                f"/{camera.name}/{name}",
                known.CompressedImage(timestamp=stamp, frame_id=camera.name, data=data, format="jpeg"),
            )
            for name, data in pictures.items()
        ]
        w, x, y, z = quaternion_from_rotation(camera.lidar_T_camera[:3, :3]).tolist()
        place = dict(zip("xyz", camera.lidar_T_camera[:3, 3].tolist(), strict=True))
        pose = known.FrameTransform(
            timestamp=stamp,
            parent_frame_id=LIDAR_FRAME,
            child_frame_id=camera.name,
            translation=known.Vector3(**place),
            rotation=known.Quaternion(x=x, y=y, z=z, w=w),
        )
        return [*messages, (f"/{camera.name}/calibration", self._calibration(camera, stamp)), ("/tf", pose)]

    def _calibration(self, scene: CameraScene, stamp: Any) -> Any:
        camera = scene.camera
        K = camera.K
        P = np.column_stack([K, np.zeros(3)])
        return self._messages.CameraCalibration(
            timestamp=stamp,
            frame_id=scene.name,
            width=camera.width,
            height=camera.height,
            distortion_model=distortion_model(camera),
            D=camera.distortion.tolist(),
            K=K.ravel().tolist(),
            R=np.eye(3).ravel().tolist(),
            P=P.ravel().tolist(),
        )

    def _stamp(self, time_ns: int) -> Any:
        return self._messages.Timestamp(*divmod(time_ns, 1_000_000_000))


def distortion_model(camera: Camera) -> str:
    """ROS' name of the camera model, which Foxglove uses too."""
    if camera.model == "fisheye":
        return "kannala_brandt"
    return "rational_polynomial" if len(camera.distortion) > 5 else "plumb_bob"


def import_mcap() -> tuple[Any, Any, Any]:
    """The modules ``foxglove.messages``, ``mcap.writer`` and ``mcap.reader``.

    Raises:
        ValueError: one of them is not installed; says how to install it.
    """
    try:
        names = ("foxglove.messages", "mcap.writer", "mcap.reader")
        messages, writer, reader = (importlib.import_module(name) for name in names)
    except ImportError as error:
        raise ValueError(f"MCAP needs mcap and foxglove-sdk ({error}); pip install 'fusionseg[viz]'") from error
    return messages, writer, reader
