"""Messages of ROS 1 and ROS 2 (CDR): types of the rosbags library, whichever definitions a bag carries or lacks."""

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from fusionseg.data.bag.container import Channel
from fusionseg.data.bag.messages import CameraInfo, Cloud, Kind, Link, Message, Picture
from fusionseg.data.log import FrameError

ENCODINGS = ("ros1", "cdr")
KINDS: dict[str, Kind] = {
    "sensor_msgs/msg/Image": "image",
    "sensor_msgs/msg/CompressedImage": "image",
    "sensor_msgs/msg/PointCloud2": "cloud",
    "sensor_msgs/msg/CameraInfo": "calibration",
    "tf2_msgs/msg/TFMessage": "transforms",
    "tf/msg/tfMessage": "transforms",
}
POINT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""Data types of a PointField."""
BROKEN = (SerdeError, ValueError, IndexError, struct.error, TypeError, MemoryError, AssertionError)


@cache
def _types(encoding: str) -> Typestore:
    store = get_typestore(Stores.ROS1_NOETIC if encoding == "ros1" else Stores.ROS2_HUMBLE)
    for name in ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage"):
        if name not in store.fielddefs:
            store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", name))
    return store


def stamp_and_frame(channel: Channel, data: bytes) -> tuple[int, str]:
    """Time stamp in ns and frame of a message that starts with a header, without reading the rest.

    Raises:
        FrameError: too short.
    """
    try:
        if channel.encoding == "ros1":
            seconds, nanoseconds, length = struct.unpack_from("<4xIII", data)
            at = 16
        else:
            order = "<" if data[1] & 1 else ">"
            seconds, nanoseconds, length = struct.unpack_from(f"{order}4xiII", data)
            at = 16
        frame = data[at : at + length].rstrip(b"\0").decode("utf-8", "replace")
    except (struct.error, IndexError) as error:
        raise FrameError(f"{channel.topic}: a message of {len(data)} bytes; too short for {channel.schema}") from error
    return seconds * 1_000_000_000 + nanoseconds, frame.lstrip("/")


def parse(channel: Channel, data: bytes) -> Message:
    """The message.

    Raises:
        FrameError: bytes that are no message of that type.
    """
    types = _types(channel.encoding)
    read = types.deserialize_ros1 if channel.encoding == "ros1" else types.deserialize_cdr
    try:
        message: Any = read(data, channel.schema)
    except BROKEN as error:
        raise FrameError(f"{channel.topic}: a message is no {channel.schema} ({error}); it is damaged") from error
    return _PARSERS[channel.schema](message)


def _image(message: Any) -> Picture:
    size = message.width, message.height, message.step
    return Picture(message.encoding, message.data, *size, big_endian=bool(message.is_bigendian))


def _compressed_image(message: Any) -> Picture:
    # "16UC1; compressedDepth png" and the like hold distances behind a header of their own
    depth = "compressedDepth" in message.format
    return Picture("compressedDepth" if depth else message.format, message.data, packed=not depth)


def _cloud(message: Any) -> Cloud:
    order = ">" if message.is_bigendian else "<"
    known = (field for field in message.fields if field.datatype in POINT_TYPES)
    fields = {field.name: (field.offset, np.dtype(order + POINT_TYPES[field.datatype])) for field in known}
    return Cloud(fields, message.width, message.height, message.point_step, message.row_step, message.data)


def _camera_info(message: Any) -> CameraInfo:
    # ROS 1 writes the matrices in capitals
    D, K, R, P = (np.asarray(getattr(message, n, getattr(message, n.upper(), None)), np.float64) for n in "dkrp")
    size = message.width, message.height
    return CameraInfo(*size, message.distortion_model, D, K.reshape(3, 3), R.reshape(3, 3), P.reshape(3, 4))


def _transforms(message: Any) -> list[Link]:
    links = []
    for item in message.transforms:
        stamp, q, t = item.header.stamp, item.transform.rotation, item.transform.translation
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        parent, child = item.header.frame_id.lstrip("/"), item.child_frame_id.lstrip("/")
        links.append(Link(parent, child, stamp_ns, (q.w, q.x, q.y, q.z), (t.x, t.y, t.z)))
    return links


_PARSERS: dict[str, Callable[[Any], Message]] = {
    "sensor_msgs/msg/Image": _image,
    "sensor_msgs/msg/CompressedImage": _compressed_image,
    "sensor_msgs/msg/PointCloud2": _cloud,
    "sensor_msgs/msg/CameraInfo": _camera_info,
    "tf2_msgs/msg/TFMessage": _transforms,
    "tf/msg/tfMessage": _transforms,
}
