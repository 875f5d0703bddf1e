"""How the cameras of a recording are built and mounted: from its own calibration and transforms, or from a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.bag.frames import VEHICLE_FRAMES, FrameTree
from fusionseg.data.bag.messages import camera_of
from fusionseg.data.bag.recording import Recording
from fusionseg.data.bag.topics import Choice, calibration_topic, is_rectified
from fusionseg.data.plain import Calibration
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import compose, invert, make_transform

OPTICAL_T_BODY = make_transform(np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]), np.zeros(3))
"""From x forward, y left, z up to a camera's x right, y down, z forward."""
UPRIGHT = 0.7
"""An optical axis that rises more steeply (cosine of the angle to the vertical) is the z axis of a body frame."""


@dataclass(frozen=True, eq=False)
class Mounted:
    """One camera: ``camera_T_lidar`` (4, 4) of a vehicle that stands still, from the frame of our samples."""

    camera: Camera
    camera_T_lidar: NDArray[np.float64]
    remark: str | None = None


@dataclass(frozen=True, eq=False)
class Rig:
    """What was found.

    Attributes:
        cameras: by name.
        missing: name -> why a camera cannot be used.
        lidar_T_message: (4, 4) turns the message's points to x forward, y left, z up; None where they are so already.
    """

    cameras: dict[str, Mounted]
    missing: dict[str, str]
    lidar_T_message: NDArray[np.float64] | None


def read_rig(recording: Recording, choice: Choice, given: Calibration | None, given_path: Path | None) -> Rig:
    """The cameras of the chosen topics; what a calibration file gives replaces what the recording says.

    Raises:
        ValueError: the file has a camera that the recording does not have.
    """
    files = _given(choice, given, given_path)
    lidar_frame = None if choice.lidar is None else recording.streams[choice.lidar].frame
    turn = None if lidar_frame is None else _levelling(recording.tree, lidar_frame)
    message_T_lidar = np.eye(4) if turn is None else invert(turn)
    cameras, missing = {}, {}
    for name, topic in choice.cameras.items():
        if name in files:
            camera, camera_T_message = files[name]
            cameras[name] = Mounted(camera, camera_T_message @ message_T_lidar)
            continue
        try:
            cameras[name] = _mounted(recording, topic, lidar_frame, message_T_lidar)
        except ValueError as error:
            missing[name] = str(error)
    return Rig(cameras, missing, turn)


def _given(
    choice: Choice, given: Calibration | None, path: Path | None
) -> dict[str, tuple[Camera, NDArray[np.float64]]]:
    """The file's cameras by our names; a file that names none speaks of the only one."""
    if given is None:
        return {}
    found = given.cameras
    if list(found) == ["camera"] and len(choice.cameras) == 1:
        found = dict.fromkeys(choice.cameras, found["camera"])
    if unknown := [name for name in found if name not in choice.cameras]:
        have = ", ".join(f"{name} ({topic})" for name, topic in choice.cameras.items()) or "none"
        raise ValueError(f"{path}: camera {unknown[0]!r} is not in the recording; its cameras are {have}")
    return found


def _levelling(tree: FrameTree, lidar_frame: str) -> NDArray[np.float64] | None:
    """How a LiDAR that is mounted at an angle is turned to the axes of the vehicle; its origin stays."""
    for vehicle in VEHICLE_FRAMES:
        vehicle_T_lidar = tree.lookup(vehicle, lidar_frame)
        if vehicle_T_lidar is not None:
            level = np.abs(vehicle_T_lidar[:3, :3] - np.eye(3)).max() < 1e-9
            return None if level else make_transform(vehicle_T_lidar[:3, :3], np.zeros(3))
    return None


def _mounted(
    recording: Recording, topic: str, lidar_frame: str | None, message_T_lidar: NDArray[np.float64]
) -> Mounted:
    """A camera of which only the recording speaks.

    Raises:
        ValueError: what it does not say.
    """
    frame = recording.streams[topic].frame
    frames = {name: info[0] for name, info in recording.calibrations.items()}
    info_topic = calibration_topic(topic, frame, frames)
    if info_topic is None:
        raise ValueError(f"there is no CameraInfo for {topic}")
    found = camera_of(recording.calibrations[info_topic][1], is_rectified(topic))
    if found is None:
        raise ValueError(f"{info_topic} says that the camera is not calibrated (K is 0)")
    camera, camera_T_frame = found
    if lidar_frame is None:
        return Mounted(camera, np.eye(4))
    frame = frame or frames[info_topic]
    if frame == lidar_frame:
        raise ValueError(f"{topic} and the points both say that they are in {frame!r}")
    frame_T_message = recording.tree.lookup(frame, lidar_frame)
    if frame_T_message is None:
        raise ValueError(f"no fixed transform leads from the points ({lidar_frame!r}) to {topic} ({frame!r})")
    frame_T_lidar = compose(frame_T_message, message_T_lidar)
    remark = None
    if frame_T_lidar[2, 2] > UPRIGHT:
        frame_T_lidar = compose(OPTICAL_T_BODY, frame_T_lidar)
        remark = f"frame {frame!r} is taken for x forward, z up: as an optical frame it would look at the sky"
    return Mounted(camera, compose(camera_T_frame, frame_T_lidar), remark)
