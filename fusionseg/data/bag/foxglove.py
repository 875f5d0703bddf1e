"""Messages in Foxglove's schemas, as JSON or protobuf, read from MCAP files."""

import base64
import binascii
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from mcap.exceptions import McapError
from mcap.records import Schema
from mcap_protobuf.decoder import DecoderFactory
from numpy.typing import NDArray

from fusionseg.data.bag.container import Channel
from fusionseg.data.bag.messages import CameraInfo, Cloud, Kind, Link, Message, Picture
from fusionseg.data.log import FrameError
from fusionseg.geometry.transform import make_transform, rotation_from_quaternion

KINDS: dict[str, Kind] = {
    "foxglove.RawImage": "image",
    "foxglove.CompressedImage": "image",
    "foxglove.PointCloud": "cloud",
    "foxglove.CameraCalibration": "calibration",
    "foxglove.FrameTransform": "transforms",
    "foxglove.FrameTransforms": "transforms",
}
POINT_TYPES = {1: "u1", 2: "i1", 3: "<u2", 4: "<i2", 5: "<u4", 6: "<i4", 7: "<f4", 8: "<f8"}
"""Numeric types of a PackedElementField; its order is not that of ROS."""


class _Json:
    """A JSON object read like a protobuf message: by attribute, what is left out is absent or 0."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        value = self._content.get(name, 0)
        if isinstance(value, dict):
            return _Json(value)
        return [_Json(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else value


@cache
def _decoder(channel: Channel) -> Any:
    schema = Schema(id=1, name=channel.schema, encoding="protobuf", data=channel.definition)
    return DecoderFactory().decoder_for("protobuf", schema)


def _decode(channel: Channel, data: bytes) -> Any:
    try:
        if channel.encoding == "protobuf":
            return _decoder(channel)(data)
        content = json.loads(data)
        if not isinstance(content, dict):
            raise ValueError("no object")
        return _Json(content)
    # protobuf's own error derives from Exception alone
    except Exception as error:
        raise FrameError(f"{channel.topic}: a message is no {channel.schema} ({error}); it is damaged") from error


def stamp_and_frame(channel: Channel, data: bytes) -> tuple[int, str]:
    """Time stamp in ns and frame of a message.

    Raises:
        FrameError: bytes that are no message of that type.
    """
    message = _decode(channel, data)
    return _ns(message.timestamp), str(message.frame_id)


def parse(channel: Channel, data: bytes) -> Message:
    """The message.

    Raises:
        FrameError: bytes that are no message of that type, or fields that contradict it.
    """
    message = _decode(channel, data)
    try:
        return _PARSERS[channel.schema](message)
    except (ValueError, TypeError, AttributeError, KeyError, McapError, binascii.Error) as error:
        raise FrameError(f"{channel.topic}: a message is no {channel.schema} ({error}); it is damaged") from error


def _ns(time: Any) -> int:
    """Protobuf's seconds and nanos, JSON's sec and nsec."""
    if isinstance(time, _Json):
        return int(time.sec) * 1_000_000_000 + int(time.nsec)
    return int(time.seconds) * 1_000_000_000 + int(time.nanos) if time else 0


def _bytes(data: Any) -> NDArray[np.uint8]:
    """Protobuf's bytes, JSON's base64."""
    return np.frombuffer(base64.b64decode(data) if isinstance(data, str) else data or b"", np.uint8)


def _image(message: Any) -> Picture:
    return Picture(str(message.encoding), _bytes(message.data), message.width, message.height, message.step)


def _compressed_image(message: Any) -> Picture:
    return Picture(str(message.format), _bytes(message.data), packed=True)


def _cloud(message: Any) -> Cloud:
    data = _bytes(message.data)
    known = (field for field in message.fields if field.type in POINT_TYPES)
    fields = {str(field.name): (int(field.offset), np.dtype(POINT_TYPES[field.type])) for field in known}
    stride = int(message.point_stride)
    if stride < 1 or len(data) % stride:
        raise ValueError(f"{len(data)} bytes are no multiple of a point's {stride}")
    count = len(data) // stride
    return Cloud(fields, count, 1, stride, stride * count, data, _pose(message.pose))


def _pose(pose: Any) -> NDArray[np.float64] | None:
    """None where it moves nothing, so that points stay as they are to the bit."""
    if not pose:
        return None
    q, t = _quaternion(pose.orientation), _vector(pose.position)
    matrix = make_transform(rotation_from_quaternion(q) if any(q) else np.eye(3), t)
    return None if np.array_equal(matrix, np.eye(4)) else matrix


def _quaternion(q: Any) -> tuple[float, float, float, float]:
    return (float(q.w), float(q.x), float(q.y), float(q.z)) if q else (0.0, 0.0, 0.0, 0.0)


def _vector(t: Any) -> tuple[float, float, float]:
    return (float(t.x), float(t.y), float(t.z)) if t else (0.0, 0.0, 0.0)


def _camera_calibration(message: Any) -> CameraInfo:
    def matrix(values: Any, shape: tuple[int, int]) -> NDArray[np.float64]:
        numbers = np.asarray(list(values or ()), dtype=np.float64)
        return numbers.reshape(shape) if len(numbers) else np.zeros(shape)

    return CameraInfo(
        int(message.width),
        int(message.height),
        str(message.distortion_model or ""),
        np.asarray(list(message.D or ()), dtype=np.float64),
        matrix(message.K, (3, 3)),
        matrix(message.R, (3, 3)),
        matrix(message.P, (3, 4)),
    )


def _transform(message: Any) -> list[Link]:
    parent, child = str(message.parent_frame_id), str(message.child_frame_id)
    rotation = _quaternion(message.rotation)
    return [Link(parent, child, _ns(message.timestamp), rotation, _vector(message.translation))]


def _transforms(message: Any) -> list[Link]:
    return [link for item in message.transforms for link in _transform(item)]


_PARSERS: dict[str, Callable[[Any], Message]] = {
    "foxglove.RawImage": _image,
    "foxglove.CompressedImage": _compressed_image,
    "foxglove.PointCloud": _cloud,
    "foxglove.CameraCalibration": _camera_calibration,
    "foxglove.FrameTransform": _transform,
    "foxglove.FrameTransforms": _transforms,
}
