"""Recordings in ROS 1, ROS 2 and Foxglove's schemas: of messages that a test gives, and of the ray-cast scene."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from numpy.typing import NDArray
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scene import SENSOR_HEIGHT_M, STEP_M, View, picture, sweep

from fusionseg.data.log import Log
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import invert, make_transform, quaternion_from_rotation

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
IMAGE_DELAY_NS = 25_000_000
TRAVEL_NS = 3_000_000
"""How long a message travels to the recorder."""
YAW_RAD = {"front": 0.0, "left": np.pi / 2, "back": np.pi, "right": -np.pi / 2}
DTYPE_CODES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
FOXGLOVE_CODES = {"u1": 1, "i1": 2, "u2": 3, "i2": 4, "u4": 5, "i4": 6, "f4": 7, "f8": 8}
XYZI = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4")])


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels as they lie in the message; ``encoding`` jpeg or png makes a compressed image of RGB."""

    stamp_ns: int
    frame: str
    pixels: NDArray[np.integer]
    encoding: str = "rgb8"

    @property
    def packed(self) -> bytes | None:
        if self.encoding not in ("jpeg", "png"):
            return None
        return cv2.imencode(f".{self.encoding}", self.pixels[..., ::-1])[1].tobytes()


@dataclass(frozen=True, eq=False)
class Cloud:
    """A structured array (N,) or (H, W)."""

    stamp_ns: int
    frame: str
    points: NDArray[np.void]
    big_endian: bool = False


@dataclass(frozen=True, eq=False)
class Info:
    """Calibration of a camera."""

    stamp_ns: int
    frame: str
    camera: Camera
    model: str = "plumb_bob"
    R: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    P: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 4)))


@dataclass(frozen=True, eq=False)
class Pose:
    """``parent_T_child``."""

    stamp_ns: int
    parent: str
    child: str
    matrix: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Message:
    """Something on a topic, and when it was recorded."""

    topic: str
    recorded_ns: int
    content: Image | Cloud | Info | Pose


def cloud_of(points: NDArray[np.float32]) -> NDArray[np.void]:
    """x, y, z, intensity (N, 4) as fields."""
    return np.ascontiguousarray(points.astype("<f4")).view(XYZI).reshape(-1)


# -- ROS


class _Ros:
    """Messages of rosbags' types; the two versions differ in a header's ``seq`` and in capitals."""

    def __init__(self, first: bool) -> None:
        self.first = first
        self.store = get_typestore(Stores.ROS1_NOETIC if first else Stores.ROS2_HUMBLE)
        if first:
            text = "geometry_msgs/TransformStamped[] transforms"
            self.store.register(get_types_from_msg(text, "tf2_msgs/msg/TFMessage"))

    def _make(self, name: str, *values: Any) -> Any:
        return self.store.types[name](*values)

    def _header(self, stamp_ns: int, frame: str) -> Any:
        time = self._make("builtin_interfaces/msg/Time", *divmod(stamp_ns, 1_000_000_000))
        return self._make("std_msgs/msg/Header", *((0,) if self.first else ()), time, frame)

    def message(self, content: Image | Cloud | Info | Pose) -> tuple[str, Any]:
        """Type name and message."""
        return getattr(self, f"_{type(content).__name__.lower()}")(content)

    def _image(self, image: Image) -> tuple[str, Any]:
        header = self._header(image.stamp_ns, image.frame)
        if image.packed is not None:
            name, data = "sensor_msgs/msg/CompressedImage", np.frombuffer(image.packed, np.uint8)
            return name, self._make(name, header, image.encoding, data)
        name, pixels = "sensor_msgs/msg/Image", np.ascontiguousarray(image.pixels)
        height, width = pixels.shape[:2]
        data = pixels.reshape(-1).view(np.uint8)
        return name, self._make(name, header, height, width, image.encoding, 0, len(data) // height, data)

    def _cloud(self, cloud: Cloud) -> tuple[str, Any]:
        name, rows = "sensor_msgs/msg/PointCloud2", np.atleast_2d(cloud.points)
        fields = [
            self._make("sensor_msgs/msg/PointField", key, offset, DTYPE_CODES[dtype.str[1:]], 1)
            for key, (dtype, offset) in rows.dtype.fields.items()
        ]
        width, step = rows.shape[1], rows.dtype.itemsize
        data = np.frombuffer(rows.tobytes(), np.uint8)
        header = self._header(cloud.stamp_ns, cloud.frame)
        size = (rows.shape[0], width, fields, cloud.big_endian, step, step * width)
        return name, self._make(name, header, *size, data, True)

    def _info(self, info: Info) -> tuple[str, Any]:
        name, camera = "sensor_msgs/msg/CameraInfo", info.camera
        roi = self._make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        matrices = camera.distortion, camera.K.reshape(-1), info.R.reshape(-1), info.P.reshape(-1)
        header = self._header(info.stamp_ns, info.frame)
        return name, self._make(name, header, camera.height, camera.width, info.model, *matrices, 0, 0, roi)

    def _pose(self, pose: Pose) -> tuple[str, Any]:
        w, x, y, z = quaternion_from_rotation(pose.matrix[:3, :3]).tolist()
        moved = self._make(
            "geometry_msgs/msg/Transform",
            self._make("geometry_msgs/msg/Vector3", *pose.matrix[:3, 3].tolist()),
            self._make("geometry_msgs/msg/Quaternion", x, y, z, w),
        )
        header = self._header(pose.stamp_ns, pose.parent)
        item = self._make("geometry_msgs/msg/TransformStamped", header, pose.child, moved)
        return "tf2_msgs/msg/TFMessage", self._make("tf2_msgs/msg/TFMessage", [item])


def write_ros1(path: Path, messages: Iterable[Message], compression: str | None = None) -> Path:
    """A ``.bag``; compression is ``bz2`` or ``lz4``."""
    ros = _Ros(first=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = Writer1(path)
    if compression:
        writer.set_compression(Writer1.CompressionFormat[compression.upper()])
    with writer:
        connections: dict[str, Any] = {}
        for message in messages:
            name, content = ros.message(message.content)
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(message.topic, name, typestore=ros.store)
            data = ros.store.serialize_ros1(content, name)
            writer.write(connections[message.topic], message.recorded_ns, data)
    return path


def write_ros2(folder: Path, messages: Iterable[Message], storage: str = "sqlite3", compression: str = "none") -> Path:
    """A folder with ``metadata.yaml``; storage is ``sqlite3`` or ``mcap``, compression none, file, message, storage."""
    ros = _Ros(first=False)
    folder.parent.mkdir(parents=True, exist_ok=True)
    writer = Writer2(folder, version=9, storage_plugin=StoragePlugin[storage.upper()])
    if compression != "none":
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for message in messages:
            name, content = ros.message(message.content)
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(message.topic, name, typestore=ros.store)
            data = ros.store.serialize_cdr(content, name)
            writer.write(connections[message.topic], message.recorded_ns, data)
    return folder


def write_ros1_mcap(path: Path, messages: Iterable[Message]) -> Path:
    """What a ROS 1 bag becomes when it is converted to MCAP: the same messages under their old type names."""
    ros = _Ros(first=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = McapWriter(file, chunk_size=200_000, compression=CompressionType.LZ4)
        writer.start(profile="ros1", library="tests")
        channels: dict[str, int] = {}
        for message in messages:
            name, content = ros.message(message.content)
            if message.topic not in channels:
                schema = writer.register_schema(name=name.replace("/msg/", "/"), encoding="ros1msg", data=b"")
                channels[message.topic] = writer.register_channel(message.topic, "ros1", schema)
            data, ns = bytes(ros.store.serialize_ros1(content, name)), message.recorded_ns
            writer.add_message(channels[message.topic], ns, data, publish_time=ns)
        writer.finish()
    return path


# -- Foxglove


def _json_time(ns: int) -> dict[str, int]:
    return dict(zip(("sec", "nsec"), divmod(ns, 1_000_000_000), strict=True))


def _foxglove(content: Image | Cloud | Info | Pose) -> tuple[str, dict[str, Any]]:
    """Schema name and message as JSON, with bytes in place of base64."""
    head = {"timestamp": _json_time(content.stamp_ns)}
    if isinstance(content, Pose):
        w, x, y, z = quaternion_from_rotation(content.matrix[:3, :3]).tolist()
        frames = {"parent_frame_id": content.parent, "child_frame_id": content.child}
        moved = dict(zip("xyz", content.matrix[:3, 3].tolist(), strict=True))
        rotation = {"x": x, "y": y, "z": z, "w": w}
        return "foxglove.FrameTransform", head | frames | {"translation": moved, "rotation": rotation}
    head["frame_id"] = content.frame
    if isinstance(content, Image):
        if content.packed is not None:
            return "foxglove.CompressedImage", head | {"data": content.packed, "format": content.encoding}
        height, width = content.pixels.shape[:2]
        data = np.ascontiguousarray(content.pixels).tobytes()
        layout = {"width": width, "height": height, "encoding": content.encoding, "step": len(data) // height}
        return "foxglove.RawImage", head | layout | {"data": data}
    if isinstance(content, Cloud):
        fields = [
            {"name": key, "offset": offset, "type": FOXGLOVE_CODES[dtype.str[1:]]}
            for key, (dtype, offset) in content.points.dtype.fields.items()
        ]
        stride = content.points.dtype.itemsize
        return "foxglove.PointCloud", head | {
            "point_stride": stride,
            "fields": fields,
            "data": content.points.tobytes(),
        }
    camera = content.camera
    matrices = {"D": camera.distortion, "K": camera.K, "R": content.R, "P": content.P}
    numbers = {key: np.asarray(value).reshape(-1).tolist() for key, value in matrices.items()}
    size = {"width": camera.width, "height": camera.height, "distortion_model": content.model}
    return "foxglove.CameraCalibration", head | size | numbers


def _to_json(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, default=lambda data: base64.b64encode(data).decode()).encode()


def _to_protobuf(name: str, message: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Schema and message, of Foxglove's own generated classes."""
    from importlib import import_module

    from mcap_protobuf.schema import build_file_descriptor_set

    kind = name.removeprefix("foxglove.")
    made = getattr(import_module(f"foxglove_schemas_protobuf.{kind}_pb2"), kind)()
    for key, value in message.items():
        if key == "timestamp":
            made.timestamp.seconds, made.timestamp.nanos = value["sec"], value["nsec"]
        elif isinstance(value, dict):
            for inner, number in value.items():
                setattr(getattr(made, key), inner, number)
        elif isinstance(value, list):
            for item in value:
                getattr(made, key).add(**item) if isinstance(item, dict) else getattr(made, key).append(item)
        else:
            setattr(made, key, value)
    return build_file_descriptor_set(type(made)).SerializeToString(), made.SerializeToString()


def write_foxglove(path: Path, messages: Iterable[Message], encoding: str = "protobuf", chunked: bool = True) -> Path:
    """An ``.mcap`` file; encoding is ``protobuf`` or ``json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = McapWriter(file, chunk_size=200_000, compression=CompressionType.ZSTD, use_chunking=chunked)
        writer.start(profile="", library="tests")
        channels: dict[str, int] = {}
        for number, message in enumerate(messages):
            name, content = _foxglove(message.content)
            schema, data = (b"{}", _to_json(content)) if encoding == "json" else _to_protobuf(name, content)
            if message.topic not in channels:
                kind = "jsonschema" if encoding == "json" else "protobuf"
                schema_id = writer.register_schema(name=name, encoding=kind, data=schema)
                channels[message.topic] = writer.register_channel(message.topic, encoding, schema_id)
            ns = message.recorded_ns
            writer.add_message(channels[message.topic], ns, data, publish_time=ns, sequence=number)
        writer.finish()
    return path


# -- what is recorded


def record(topic: str, content: Image | Cloud | Info | Pose) -> Message:
    """A message that took the usual time to the recorder."""
    return Message(topic, content.stamp_ns + TRAVEL_NS, content)


def in_order(messages: Iterable[Message]) -> list[Message]:
    """As a recorder gets them."""
    return sorted(messages, key=lambda message: message.recorded_ns)


def scene_messages(
    frames: int = 3,
    size: tuple[int, int] = (64, 96),
    cameras: Sequence[str] = ("front", "back"),
    poses: bool = True,
    packed: bool = False,
) -> list[Message]:
    """The scene at 10 Hz: sweeps of ``/lidar/points``, images 25 ms later, the vehicle driving STEP_M a frame."""
    found = [record("/tf_static", Pose(START_NS, "base_link", "lidar", make_transform(np.eye(3), [0.9, 0.0, 1.7])))]
    for name in cameras:
        view = View(size[1], size[0], YAW_RAD[name])
        found.append(record("/tf_static", Pose(START_NS, "lidar", f"{name}_optical", invert(view.camera_T_lidar))))
        info = Info(START_NS, f"{name}_optical", Camera(view.width, view.height, view.K))
        found.append(record(f"/camera/{name}/camera_info", info))
    later = IMAGE_DELAY_NS / PERIOD_NS if poses else 0.0
    for frame in range(frames):
        time = START_NS + frame * PERIOD_NS
        points = cloud_of(sweep(frame)[0])
        found.append(record("/lidar/points", Cloud(time, "lidar", points)))
        for name in cameras:
            pixels = picture(frame + later, View(size[1], size[0], YAW_RAD[name]))[0]
            image = Image(time + IMAGE_DELAY_NS, f"{name}_optical", pixels, "png" if packed else "rgb8")
            topic = f"/camera/{name}/image_raw" + ("/compressed" if packed else "")
            found.append(record(topic, image))
    # poses come twice as often, and not at the time of any sweep or image
    for half in range(-1, 2 * frames + 1) if poses else ():
        place = [STEP_M * (half / 2 + 0.1), 0.0, SENSOR_HEIGHT_M - 1.7]
        time = START_NS + half * PERIOD_NS // 2 + PERIOD_NS // 10
        found.append(record("/tf", Pose(time, "odom", "base_link", make_transform(np.eye(3), place))))
    return in_order(found)


def make_bag_log(folder: Path, frames: int = 3) -> Path:
    """The scene as a ROS 2 recording."""
    return write_ros2(folder, scene_messages(frames))


def messages_of(log: Log, lidar: str = "velo_link") -> list[Message]:
    """Another log's frames as messages: 10 Hz, sweep and images at one time, cameras where they are."""
    found = [record("/tf_static", Pose(START_NS, "base_link", lidar, make_transform(np.eye(3), [0.0, 0.0, 1.73])))]
    for frame in log.frames:
        time = START_NS + frame * PERIOD_NS
        for sample in log.frame(frame):
            name, place = sample.camera_name, invert(sample.camera_T_lidar)
            if frame == log.frames[0]:
                found.append(record(f"/kitti/{name}/camera_info", Info(time, name, sample.camera)))
                found.append(record("/tf_static", Pose(time, lidar, name, place)))
            assert sample.image is not None
            found.append(record(f"/kitti/{name}/image_raw", Image(time, name, sample.image)))
        found.append(record("/kitti/velo/pointcloud", Cloud(time, lidar, cloud_of(sample.points_lidar))))
    return in_order(found)
