"""One frame from bare files: an image, a point file and a calibration, each of which may be missing."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import read_image
from fusionseg.data.plain import read_calibration
from fusionseg.data.points import read_points
from fusionseg.deploy.result import Result
from fusionseg.deploy.runtime import Model, Sensors
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.projection import project
from fusionseg.replay.sink import write_classes, write_label_image, write_picture, write_point_labels
from fusionseg.visualize import birds_eye, draw_points, legend, overlay, stack

MISSING = ("none", "-")


def predict_files(
    model: Model,
    image: str,
    points: str,
    calibration: str,
    out: Path,
    *,
    sensors: Sensors = "both",
    camera_name: str | None = None,
    size: tuple[int, int] | None = None,
) -> list[Path]:
    """Label one frame; write what there is of ``labels.label``, ``pixels.png``, ``overlay.png``, ``birds_eye.png``.

    Args:
        model: what labels it.
        image: JPEG or PNG, or ``none``.
        points: ``.bin``, ``.npy``, ``.pcd`` or ``.ply``, or ``none``.
        calibration: YAML as of format ``plain``, or ``none`` where one sensor is missing.
        out: folder.
        sensors: which of them the network may use.
        camera_name: which camera of the calibration; may be left out when it has one.
        size: (height, width) of the network input, or None for the model's own.

    Raises:
        FrameError: the image or the points cannot be read.
        FileNotFoundError: no such calibration.
        ValueError: nothing to label, a calibration that is broken, needed or of another size, or an unknown camera.
    """
    pixels = None if image in MISSING else read_image(Path(image))
    camera, camera_T_lidar, intensity_max = None, None, None
    if calibration not in MISSING:
        camera, camera_T_lidar, intensity_max = _camera(calibration, camera_name)
    cloud = None if points in MISSING else read_points(points, intensity_max)
    if pixels is not None and camera is not None and pixels.shape[:2] != (camera.height, camera.width):
        raise ValueError(
            f"{image}: image is {pixels.shape[1]}x{pixels.shape[0]}, {calibration} says "
            f"{camera.width}x{camera.height}; give the calibration of this image size"
        )
    if (sensors == "camera" and pixels is None) or (sensors == "lidar" and (cloud is None or not len(cloud))):
        raise ValueError(f"sensors is {sensors}, and there is nothing from that sensor; use both")
    result = model(pixels, cloud, camera, camera_T_lidar, sensors=sensors, size=size)
    return _write(out, result, cloud, camera, camera_T_lidar)


def _camera(calibration: str, name: str | None) -> tuple[Camera, NDArray[np.float64], float | None]:
    given = read_calibration(calibration)
    known = ", ".join(given.cameras)
    if name is None:
        if len(given.cameras) > 1:
            raise ValueError(f"{calibration}: has {len(given.cameras)} cameras; choose one with --camera: {known}")
        name = next(iter(given.cameras))
    if name not in given.cameras:
        raise ValueError(f"{calibration}: no camera {name!r}; it has {known}")
    return *given.cameras[name], given.intensity_max


def _write(
    out: Path,
    result: Result,
    cloud: NDArray[np.float32] | None,
    camera: Camera | None,
    camera_T_lidar: NDArray[np.float64] | None,
) -> list[Path]:
    table = result.table
    written = [out / "classes.json"]
    write_classes(written[0], table)
    if cloud is not None:
        written.append(out / "labels.label")
        write_point_labels(written[-1], result.points)
        written.append(out / "birds_eye.png")
        write_picture(written[-1], birds_eye(cloud, table.palette[result.points], size_px=800))
    if result.image is not None and result.pixels is not None:
        written.append(out / "pixels.png")
        write_label_image(written[-1], result.pixels)
        drawn = overlay(result.image, result.pixels, table.palette, alpha=0.45)
        if cloud is not None and camera is not None and camera_T_lidar is not None:
            seen = project(cloud, camera, camera_T_lidar)
            drawn = draw_points(drawn, seen.uv, table.palette[result.points[seen.index]], seen.depth)
        written.append(out / "overlay.png")
        write_picture(written[-1], stack([drawn, legend(table.names, table.colours, drawn.shape[1])]))
    return written
