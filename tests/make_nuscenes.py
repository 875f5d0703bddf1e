"""nuScenes v1.0 tables: around captures that a test gives, and around the ray-cast scene."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from make_logs import ids_of, write_png
from numpy.typing import NDArray
from scene import SENSOR_HEIGHT_M, STEP_M, View, picture, sweep

from fusionseg.geometry.transform import quaternion_from_rotation

IDS = {"road": 24, "sidewalk": 26, "terrain": 27, "building": 28, "vegetation": 30, "car": 17}
CHANNEL_YAW_RAD = {"CAM_FRONT": 0.0, "CAM_BACK": np.pi, "CAM_FRONT_LEFT": 0.9}
EGO_T_LIDAR = np.array([[0, 1, 0, 0.9], [-1, 0, 0, 0], [0, 0, 1, SENSOR_HEIGHT_M], [0, 0, 0, 1.0]])
"""nuScenes' LiDAR is x right, y forward; the ego frame x forward, y left, on the ground."""
PERIOD_US, IMAGE_DELAY_US = 500_000, 50_000
START_US = 1_532_402_927_000_000


@dataclass(frozen=True)
class Capture:
    """One key-frame file of one sensor."""

    channel: str
    file: str
    time_us: int
    world_T_ego: NDArray[np.float64]
    ego_T_sensor: NDArray[np.float64]
    K: NDArray[np.float64] | None = None
    size: tuple[int, int] = (0, 0)


def _pose(matrix: NDArray[np.float64]) -> dict[str, list[float]]:
    return {
        "rotation": quaternion_from_rotation(matrix[:3, :3]).tolist(),
        "translation": np.asarray(matrix[:3, 3]).tolist(),
    }


def write_tables(
    folder: Path, frames: Sequence[Sequence[Capture]], categories: Sequence[str], labels: Mapping[int, str]
) -> None:
    """The tables of one scene; ``labels`` names the label file of a frame."""
    tables: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor", "lidarseg")
    }
    for number, captures in enumerate(frames):
        sample = f"sample{number}"
        tables["sample"].append({"token": sample, "timestamp": captures[0].time_us, "scene_token": "scene"})
        for capture in captures:
            token, mount = f"{capture.channel}{number}", f"mount{capture.channel}"
            if number == 0:
                modality = "lidar" if capture.K is None else "camera"
                tables["sensor"].append({"token": capture.channel, "channel": capture.channel, "modality": modality})
                K = [] if capture.K is None else capture.K.tolist()
                row = {"token": mount, "sensor_token": capture.channel, "camera_intrinsic": K}
                tables["calibrated_sensor"].append({**row, **_pose(capture.ego_T_sensor)})
            tables["ego_pose"].append({"token": token, "timestamp": capture.time_us, **_pose(capture.world_T_ego)})
            tables["sample_data"].append(
                {
                    "token": token,
                    "sample_token": sample,
                    "ego_pose_token": token,
                    "calibrated_sensor_token": mount,
                    "timestamp": capture.time_us,
                    "is_key_frame": True,
                    "width": capture.size[0],
                    "height": capture.size[1],
                    "filename": capture.file,
                }
            )
            if capture.K is None and number in labels:
                row = {"token": token, "sample_data_token": token, "filename": labels[number]}
                tables["lidarseg"].append(row)
    if not labels:
        del tables["lidarseg"]
    rows = [{"token": f"category{i}", "name": name, "index": i} for i, name in enumerate(categories)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**tables, "scene": [{"token": "scene", "name": "scene-0001"}], "category": rows}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def _forward(metres: float) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[0, 3] = metres
    return matrix


def make_nuscenes_log(folder: Path, frames: int = 3, labels: bool = True, size: tuple[int, int] = (64, 96)) -> Path:
    """Three cameras that see the scene 50 ms (a tenth of a step) after the sweep, somewhere in a large map."""
    from fusionseg.data.nuscenes import CATEGORIES

    away = np.eye(4)
    away[:2, :2], away[:2, 3] = [[0.6, -0.8], [0.8, 0.6]], (400.0, 1200.0)
    ego_T_ours = np.eye(4)
    ego_T_ours[:3, 3] = EGO_T_LIDAR[:3, 3]
    written, label_files = [], {}
    for number in range(frames):
        points, hit = sweep(number)
        lidar = np.column_stack([-points[:, 1], points[:, 0], points[:, 2], np.round(points[:, 3] * 255), hit * 0])
        file = f"samples/LIDAR_TOP/{number}.pcd.bin"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        lidar.astype("<f4").tofile(folder / file)
        if labels:
            label_files[number] = f"lidarseg/v1.0-mini/{number}_lidarseg.bin"
            (folder / label_files[number]).parent.mkdir(parents=True, exist_ok=True)
            ids_of(hit, IDS).astype(np.uint8).tofile(folder / label_files[number])
        time_us = START_US + number * PERIOD_US
        captures = [Capture("LIDAR_TOP", file, time_us, away @ _forward(STEP_M * number), EGO_T_LIDAR)]
        later = number + IMAGE_DELAY_US / PERIOD_US
        for channel, yaw_rad in CHANNEL_YAW_RAD.items():
            view = View(size[1], size[0], yaw_rad)
            file = f"samples/{channel}/{number}.png"
            write_png(folder / file, picture(later, view)[0])
            ego_T_camera = ego_T_ours @ np.linalg.inv(view.camera_T_lidar)
            place = away @ _forward(STEP_M * later)
            time = time_us + IMAGE_DELAY_US
            captures.append(Capture(channel, file, time, place, ego_T_camera, view.K, (view.width, view.height)))
        written.append(captures)
    write_tables(folder / "v1.0-mini", written, CATEGORIES, label_files)
    return folder


def make_real_key_frame(folder: Path, data: Path) -> dict[str, NDArray[np.float64]]:
    """Tables around the real key frame; returns ``lidar2cam`` of its info file per camera, the known answer.

    The ego pose at an image is what that file's matrices imply; only they are in it.
    """
    import pickle

    (info,) = data.glob("*.pkl")
    frame = pickle.loads(info.read_bytes())["data_list"][0]  # a file of our own test data
    world_T_ego, ego_T_lidar = (np.array(m) for m in (frame["ego2global"], frame["lidar_points"]["lidar2ego"]))
    (sweep_file,) = data.glob("*LIDAR_TOP*")
    captures = [Capture("LIDAR_TOP", sweep_file.name, round(1e6 * frame["timestamp"]), world_T_ego, ego_T_lidar)]
    known = {}
    for channel, entry in frame["images"].items():
        ego_T_camera, known[channel] = np.array(entry["cam2ego"]), np.array(entry["lidar2cam"])
        place = world_T_ego @ ego_T_lidar @ np.linalg.inv(known[channel]) @ np.linalg.inv(ego_T_camera)
        time = round(1e6 * entry["timestamp"])
        K = np.array(entry["cam2img"])
        captures.append(Capture(channel, entry["img_path"], time, place, ego_T_camera, K, (1600, 900)))
    folder.mkdir(parents=True, exist_ok=True)
    for capture in captures:
        shutil.copy(data / capture.file, folder / capture.file)
    write_tables(folder / "v1.0-mini", [captures], [], {})
    return known
