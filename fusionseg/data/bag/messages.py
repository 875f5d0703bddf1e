"""What recorded messages hold, whoever wrote them (images, clouds, calibrations, transforms), and arrays of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import MAX_PIXELS, decode_image
from fusionseg.data.log import FrameError
from fusionseg.geometry.camera import DISTORTION_LENGTHS, Camera, Model
from fusionseg.geometry.transform import check_rigid, make_transform

Kind = Literal["image", "cloud", "calibration", "transforms"]

GREY_OR_COLOUR = {
    "rgb8": (3, None),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "8UC4": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "mono16": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb": (1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr": (1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg": (1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg": (1, cv2.COLOR_BayerGRBG2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}
"""Encoding -> numbers a pixel and what OpenCV does with them; Bayer patterns stand without their bits (8 or 16)."""
DEPTH_ENCODINGS = ("16UC1", "32FC1", "32FC3", "compressedDepth")
"""Images that hold no colours but distances or the like: no camera of ours."""

INTENSITY_FIELDS = ("intensity", "intensities", "i", "reflectivity", "reflectance")
TIME_FIELDS = ("time", "t", "timestamp", "time_stamp", "offset_time", "time_offset")
PINHOLE_MODELS = ("", "none", "pinhole", "plumb_bob", "rational_polynomial")
FISHEYE_MODELS = ("equidistant", "fisheye", "kannala_brandt")


@dataclass(frozen=True, eq=False)
class Picture:
    """An image: ``encoding`` and the layout of its rows, or a compressed file (``packed``), whose size is in it."""

    encoding: str
    data: NDArray[np.uint8]
    width: int = 0
    height: int = 0
    step: int = 0
    big_endian: bool = False
    packed: bool = False


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points in rows of ``row_step`` bytes, ``point_step`` bytes a point; fields by name: offset and dtype."""

    fields: Mapping[str, tuple[int, np.dtype[np.generic]]]
    width: int
    height: int
    point_step: int
    row_step: int
    data: NDArray[np.uint8]
    frame_T_points: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class CameraInfo:
    """Intrinsics as ROS and Foxglove give them: of the image as taken (K, D) and as rectified (R, P)."""

    width: int
    height: int
    model: str
    D: NDArray[np.float64]
    K: NDArray[np.float64]
    R: NDArray[np.float64]
    P: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Link:
    """``parent_T_child`` at a time."""

    parent: str
    child: str
    stamp_ns: int
    quaternion_wxyz: tuple[float, float, float, float]
    translation_m: tuple[float, float, float]


Message = Picture | Cloud | CameraInfo | list[Link]


def image_array(picture: Picture, where: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; grey images have three equal channels, 16 bits are cut to the upper 8.

    Raises:
        FrameError: an encoding that is not known, rows that are missing, a compressed image that cannot be decoded.
    """
    if picture.packed:
        decoded = decode_image(picture.data.tobytes(), where)
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    name = picture.encoding
    wide = name == "mono16" or (name.startswith("bayer_") and name.endswith("16"))
    known = GREY_OR_COLOUR.get(name.removesuffix("16").removesuffix("8") if name.startswith("bayer_") else name)
    if known is None:
        raise FrameError(
            f"{where}: image encoding {name!r} is not known; expected rgb8, bgr8, mono8, bayer_rggb8, JPEG, PNG or the "
            "like: convert the topic, or choose others with --topics"
        )
    channels, conversion = known
    width, height, step = picture.width, picture.height, picture.step or picture.width * channels * (1 + wide)
    row = width * channels * (1 + wide)
    if width * height > MAX_PIXELS or step < row or len(picture.data) < step * (height - 1) + row or not width * height:
        raise FrameError(
            f"{where}: {len(picture.data)} bytes for {width}x{height} pixels of {name} in rows of {step} bytes; "
            "the message is truncated or contradicts itself"
        )
    pixels = np.ndarray((height, row), np.uint8, np.ascontiguousarray(picture.data), strides=(step, 1))
    if wide:  # of two bytes the upper one
        pixels = pixels[:, 0 if picture.big_endian else 1 :: 2]
    shaped = np.ascontiguousarray(pixels).reshape((height, width) if channels == 1 else (height, width, channels))
    if conversion is None:
        return shaped
    try:
        return cv2.cvtColor(shaped, conversion).astype(np.uint8, copy=False)
    except cv2.error as error:
        raise FrameError(f"{where}: {width}x{height} pixels of {name} cannot be converted ({error.err})") from error


def cloud_arrays(cloud: Cloud, where: str) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """(N, 4) x, y, z in metres and intensity as the sensor gives it (0 without that field), and (N,) raw times.

    Every point stays, also those without a return (NaN or zero): row i is point i of the message.

    Raises:
        FrameError: no x, y and z, or fewer bytes than points.
    """
    count = cloud.width * cloud.height
    if not count:
        return np.zeros((0, 4), dtype=np.float32), None
    missing = [name for name in "xyz" if name not in cloud.fields]
    if missing:
        raise FrameError(f"{where}: points have no field {missing[0]!r}; they have {', '.join(cloud.fields) or 'none'}")
    # drivers do not care for the length of an only row
    row_step = cloud.row_step if cloud.height > 1 else cloud.point_step * cloud.width
    due = row_step * (cloud.height - 1) + cloud.point_step * cloud.width
    ends = max(offset + dtype.itemsize for offset, dtype in cloud.fields.values())
    if len(cloud.data) < due or ends > cloud.point_step or row_step < cloud.point_step * cloud.width:
        raise FrameError(
            f"{where}: {len(cloud.data)} bytes for {count} points of {cloud.point_step} bytes; "
            "the message is truncated or contradicts itself"
        )
    names = list(cloud.fields)
    offsets, formats = zip(*cloud.fields.values(), strict=True)
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": cloud.point_step})
    strides = (row_step, cloud.point_step)
    rows = np.ndarray((cloud.height, cloud.width), dtype, np.ascontiguousarray(cloud.data), strides=strides)
    points = np.zeros((count, 4), dtype=np.float32)
    for column, name in enumerate("xyz"):
        points[:, column] = rows[name].reshape(-1)
    if cloud.frame_T_points is not None:
        moved = points[:, :3] @ cloud.frame_T_points[:3, :3].T + cloud.frame_T_points[:3, 3]
        points[:, :3] = moved
    if (intensity := intensity_field(cloud)) is not None:
        points[:, 3] = rows[intensity].reshape(-1)
    time = next((name for name in TIME_FIELDS if name in cloud.fields), None)
    return points, None if time is None else rows[time].reshape(-1).astype(np.float64)


def intensity_field(cloud: Cloud) -> str | None:
    """The field that holds the intensity."""
    return next((name for name in INTENSITY_FIELDS if name in cloud.fields), None)


def after_stamp_s(times: NDArray[np.float64], cloud: Cloud, stamp_ns: int) -> NDArray[np.float32]:
    """(N,) seconds after the message's stamp of each point, from its field of time.

    Drivers disagree: whole numbers are nanoseconds, others seconds (or, if that large, nanoseconds); both are counted
    from the stamp or, if that large, from 1970.
    """
    name = next(name for name in TIME_FIELDS if name in cloud.fields)
    top = float(np.nanmax(np.abs(times), initial=0.0))
    nanoseconds = cloud.fields[name][1].kind in "iu" or top > 1e14
    seconds = times * 1e-9 if nanoseconds else times
    since_1970 = top > (1e17 if nanoseconds else 1e8)
    return (seconds - (1e-9 * stamp_ns if since_1970 else 0.0)).astype(np.float32)


def camera_of(info: CameraInfo, rectified: bool) -> tuple[Camera, NDArray[np.float64]] | None:
    """The camera and ``camera_T_frame`` (4, 4); None where the message says that the camera is not calibrated (K is 0).

    The image as taken has K and D in the message's frame; a rectified one has P = K [I | t], and is turned by R.

    Raises:
        ValueError: a distortion model or numbers that make no camera.
    """
    if not info.K.any() and not info.P.any():
        return None
    if rectified and info.P.any():
        K = info.P[:, :3]
        turned = make_transform(info.R if info.R.any() else np.eye(3), np.linalg.solve(K, info.P[:, 3]))
        return Camera(info.width, info.height, K), check_rigid(turned, "R of CameraInfo")
    model: Model = "fisheye" if info.model in FISHEYE_MODELS else "pinhole"
    if model == "pinhole" and info.model not in PINHOLE_MODELS:
        known = ", ".join((*PINHOLE_MODELS[3:], *FISHEYE_MODELS))
        raise ValueError(f"distortion model {info.model!r} is not known; expected {known}")
    used = np.trim_zeros(info.D, "b")
    length = next((n for n in DISTORTION_LENGTHS[model] if n >= len(used)), None)
    if length is None:
        raise ValueError(f"distortion of {info.model!r} has {len(used)} coefficients; our {model} model has fewer")
    distortion = np.pad(used, (0, length - len(used)))
    return Camera(info.width, info.height, info.K, model, distortion), np.eye(4)


def place_of(path: Path, topic: str, stamp_ns: int) -> str:
    """How errors name a message."""
    return f"{path} {topic} at {stamp_ns / 1e9:.3f} s"
