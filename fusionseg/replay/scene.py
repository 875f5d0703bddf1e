"""A labelled frame as recordings hold it: the coloured cloud, and each camera with its image and labels as JPEG."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.deploy.result import FrameResult
from fusionseg.deploy.timing import SENSOR_PERIOD_S
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import invert
from fusionseg.labels import ClassTable
from fusionseg.replay.render import base_picture, picture_width
from fusionseg.replay.source import time_ns
from fusionseg.sample import Sample
from fusionseg.visualize import overlay

_JPEG_QUALITY = 88


@dataclass(frozen=True, eq=False)
class CameraScene:
    """One camera.

    Attributes:
        name: of the camera.
        camera: intrinsics at the size of the pictures.
        lidar_T_camera: (4, 4) where it stands in the LiDAR frame.
        image: JPEG.
        overlay: the same with the labels drawn in.
        labels: (H, W) class ids at the size of the pictures.
    """

    name: str
    camera: Camera
    lidar_T_camera: NDArray[np.float64]
    image: bytes
    overlay: bytes
    labels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame.

    Attributes:
        time_ns: of the log, or 10 Hz from 0 where it has no times.
        points_lidar: (N, 4) x, y, z in metres, intensity in [0, 1]; those at no place (NaN) are left out.
        labels: (N,) class ids, 255 unknown.
        colours: (N, 3) RGB.
        cameras: those with images.
    """

    time_ns: int
    points_lidar: NDArray[np.float32]
    labels: NDArray[np.uint8]
    colours: NDArray[np.uint8]
    cameras: list[CameraScene]


def scene_of(samples: Sequence[Sample], result: FrameResult, table: ClassTable) -> Scene:
    """The scene of a frame's views and labels."""
    first = samples[0]
    finite = np.isfinite(first.points_lidar[:, :3]).all(axis=1)
    labels = result.points[finite]
    found = time_ns(first)
    return Scene(
        time_ns=round(1e9 * first.frame * SENSOR_PERIOD_S) if found is None else found,
        points_lidar=first.points_lidar[finite],
        labels=labels,
        colours=table.palette[labels],
        cameras=[_camera(s, result.pixels[s.camera_name], table) for s in samples if s.image is not None],
    )


def _camera(sample: Sample, pixels: NDArray[np.uint8], table: ClassTable) -> CameraScene:
    picture = base_picture(sample, picture_width(sample.camera))
    height, width = picture.shape[:2]
    labels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    return CameraScene(
        name=sample.camera_name,
        camera=sample.camera.resize(width, height),
        lidar_T_camera=invert(sample.camera_T_lidar),
        image=_jpeg(picture),
        overlay=_jpeg(overlay(picture, labels, table.palette, alpha=0.45)),
        labels=labels,
    )


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    good, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert good
    return encoded.tobytes()
