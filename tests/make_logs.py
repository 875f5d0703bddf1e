"""Tiny valid logs in every format, written from one ray-cast scene (``tests/scene.py``); each returns its folder.

``make_generated_log`` is the exception: a street of the synthetic world, whose labels are dense too.

Vehicles stand still, the sensors move ``STEP_M`` forward a frame; PandaSet's intensity is 0..255, KITTI's 0..1.
"""

import gzip
import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from scene import NAMES, SENSOR_HEIGHT_M, STEP_M, View, picture, sweep

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import quaternion_from_rotation

Size = tuple[int, int]
FRAME_NS = 100_000_000
YAW_RAD = {
    "front": 0.0,
    "left": np.pi / 2,
    "back": np.pi,
    "right": -np.pi / 2,
    "front_camera": 0.0,
    "back_camera": np.pi,
}

PANDASET_IDS = {"road": 7, "sidewalk": 11, "terrain": 6, "building": 41, "vegetation": 5, "car": 13}
SEMANTICKITTI_IDS = {"road": 40, "sidewalk": 48, "terrain": 72, "building": 50, "vegetation": 70, "car": 10}
CAMVID_IDS = {"road": 3, "sidewalk": 4, "terrain": 11, "building": 1, "vegetation": 5, "sky": 0, "car": 8}
CITYSCAPES_IDS = {"road": 7, "sidewalk": 8, "terrain": 22, "building": 11, "vegetation": 21, "sky": 23, "car": 26}
DRIVING12_IDS = {"road": 0, "sidewalk": 1, "terrain": 2, "building": 3, "vegetation": 6, "sky": 7, "car": 10}


def ids_of(hit: NDArray[np.int64], ids: Mapping[str, int]) -> NDArray[np.int64]:
    """Scene classes as a data set's ids."""
    return np.array([ids.get(name, 0) for name in NAMES])[hit]


def write_png(path: Path, image: NDArray[np.integer]) -> None:
    """RGB or single-channel, by suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def write_bin(path: Path, points: NDArray[np.float32]) -> None:
    """x, y, z, intensity as float32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    points.astype("<f4").tofile(path)


def _numbers(matrix: NDArray[np.float64]) -> str:
    return " ".join(f"{v:.12e}" for v in np.asarray(matrix).reshape(-1))


def make_plain_log(
    folder: Path,
    frames: int = 3,
    size: Size = (64, 96),
    cameras: Sequence[str] = ("front",),
    labels: bool = True,
    sweeps: bool = True,
    suffix: str = ".bin",
) -> Path:
    """A person's own log; labels are driving12 ids in uint8; cameras ``front``, ``left``, ``back``, ``right``."""
    views = {name: View(size[1], size[0], YAW_RAD[name]) for name in cameras}
    calibration = {
        "cameras": {
            name: {
                "K": view.K.tolist(),
                "size": [view.width, view.height],
                "camera_T_lidar": view.camera_T_lidar.tolist(),
            }
            for name, view in views.items()
        }
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calibration.yaml").write_text(yaml.safe_dump(calibration))
    for frame in range(frames):
        stamp = f"{1_000_000_000_000 + frame * FRAME_NS}"
        for name, view in views.items():
            write_png(folder / "images" / name / f"{stamp}.png", picture(frame, view)[0])
        if sweeps:
            points, hit = sweep(frame)
            if suffix == ".npy":
                (folder / "sweeps").mkdir(exist_ok=True)
                np.save(folder / "sweeps" / f"{stamp}.npy", points)
            else:
                write_bin(folder / "sweeps" / f"{stamp}.bin", points)
            if labels:
                (folder / "labels").mkdir(exist_ok=True)
                np.save(folder / "labels" / f"{stamp}.npy", ids_of(hit, DRIVING12_IDS).astype(np.uint8))
    if sweeps:
        poses = [np.hstack([np.eye(3), [[frame * STEP_M], [0], [0]]]) for frame in range(frames)]
        (folder / "poses.txt").write_text("\n".join(_numbers(pose) for pose in poses) + "\n")
    return folder


def make_semantickitti_log(
    folder: Path, frames: int = 3, labels: bool = True, images: bool = True, size: Size = (64, 96)
) -> Path:
    """SemanticKITTI sequence 00 with ``image_2``; the calibration keeps its form (P2 with a translation, Tr)."""
    sequence = folder / "sequences" / "00"
    view = View(size[1], size[0])
    baseline_m = 0.06
    P2 = np.hstack([view.K, view.K @ [[baseline_m], [0.0], [0.0]]])
    Tr = view.camera_T_lidar[:3].copy()
    Tr[0, 3] -= baseline_m
    P0 = np.hstack([view.K, np.zeros((3, 1))])
    sequence.mkdir(parents=True, exist_ok=True)
    rows = {"P0": P0, "P1": P0, "P2": P2, "P3": P2, "Tr": Tr}
    (sequence / "calib.txt").write_text("".join(f"{key}: {_numbers(value)}\n" for key, value in rows.items()))
    (sequence / "times.txt").write_text("".join(f"{0.1 * frame:.6e}\n" for frame in range(frames)))
    poses = [np.hstack([np.eye(3), [[0], [0], [frame * STEP_M]]]) for frame in range(frames)]
    (sequence / "poses.txt").write_text("".join(_numbers(pose) + "\n" for pose in poses))
    for frame in range(frames):
        points, hit = sweep(frame)
        write_bin(sequence / "velodyne" / f"{frame:06d}.bin", points)
        if images:
            write_png(sequence / "image_2" / f"{frame:06d}.png", picture(frame, view)[0])
        if labels:
            (sequence / "labels").mkdir(exist_ok=True)
            semantic = ids_of(hit, SEMANTICKITTI_IDS).astype("<u4")
            instance = (semantic == SEMANTICKITTI_IDS["car"]).astype("<u4")
            (semantic | instance << 16).tofile(sequence / "labels" / f"{frame:06d}.label")
    return folder


def make_generated_log(folder: Path, frames: int = 12, size: Size = (128, 192)) -> Path:
    """A log of the synthetic driving world: SemanticKITTI's layout with dense labels in ``semantic_2``."""
    from fusionseg.data.synth.spec import Spec
    from fusionseg.data.synth.write import generate

    generate(Spec(frames=frames, seed=0, width=size[1], height=size[0], beams=32), folder)
    return folder


def make_kitti_raw_log(folder: Path, frames: int = 3, size: Size = (64, 96)) -> Path:
    """KITTI raw: one drive of one day, the left colour camera, no time stamps."""
    day = folder / "2011_09_26"
    drive = day / "2011_09_26_drive_0001_sync"
    view = View(size[1], size[0])
    day.mkdir(parents=True, exist_ok=True)
    P = np.hstack([view.K, np.zeros((3, 1))])
    (day / "calib_cam_to_cam.txt").write_text(f"R_rect_00: {_numbers(np.eye(3))}\nP_rect_02: {_numbers(P)}\n")
    R, T = view.camera_T_lidar[:3, :3], view.camera_T_lidar[:3, 3]
    (day / "calib_velo_to_cam.txt").write_text(f"R: {_numbers(R)}\nT: {_numbers(T)}\n")
    for frame in range(frames):
        write_bin(drive / "velodyne_points" / "data" / f"{frame:010d}.bin", sweep(frame)[0])
        write_png(drive / "image_02" / "data" / f"{frame:010d}.png", picture(frame, view)[0])
    return folder


def make_kitti_object_log(folder: Path, frames: int = 2, size: Size = (64, 96)) -> Path:
    """KITTI object detection, ``training``."""
    training = folder / "training"
    view = View(size[1], size[0])
    P = np.hstack([view.K, np.zeros((3, 1))])
    rows = {f"P{i}": P for i in range(4)} | {"R0_rect": np.eye(3), "Tr_velo_to_cam": view.camera_T_lidar[:3]}
    text = "".join(f"{key}: {_numbers(value)}\n" for key, value in rows.items())
    for frame in range(frames):
        write_bin(training / "velodyne" / f"{frame:06d}.bin", sweep(frame)[0])
        write_png(training / "image_2" / f"{frame:06d}.png", picture(frame, view)[0])
        (training / "calib").mkdir(exist_ok=True)
        (training / "calib" / f"{frame:06d}.txt").write_text(text)
    return folder


def make_camvid_log(folder: Path, frames: int = 3, size: Size = (48, 64)) -> Path:
    """CamVid in SegNet's layout: train and val of ``frames`` each."""
    view = View(size[1], size[0])
    for offset, split in enumerate(("train", "val")):
        for frame in range(frames):
            image, hit = picture(frame + offset * frames, view)
            name = f"0001TP_{frame * 30:06d}.png"
            write_png(folder / split / name, image)
            write_png(folder / f"{split}annot" / name, ids_of(hit, CAMVID_IDS).astype(np.uint8))
    return folder


def make_cityscapes_log(folder: Path, frames: int = 2, size: Size = (48, 96)) -> Path:
    """Cityscapes: train and val, one city each, with camera calibration."""
    view = View(size[1], size[0])
    for offset, (split, city) in enumerate((("train", "aachen"), ("val", "frankfurt"))):
        for frame in range(frames):
            image, hit = picture(frame + offset * frames, view)
            stem = f"{city}_000000_{frame:06d}"
            write_png(folder / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", image)
            labels = ids_of(hit, CITYSCAPES_IDS).astype(np.uint8)
            write_png(folder / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", labels)
            calibration = folder / "camera" / split / city / f"{stem}_camera.json"
            calibration.parent.mkdir(parents=True, exist_ok=True)
            K = Camera(view.width, view.height, view.K).resize(2048, 1024).K
            intrinsic = {"fx": K[0, 0], "fy": K[1, 1], "u0": K[0, 2], "v0": K[1, 2]}
            calibration.write_text(json.dumps({"extrinsic": {}, "intrinsic": intrinsic}))
    return folder


def make_pandaset_log(folder: Path, frames: Sequence[int] = (0, 1, 2), labels: bool = True) -> Path:
    """PandaSet: two cameras of 1920x1080; points in the world; frames may have gaps."""
    import pandas as pd

    def dump(path: Path, frame: "pd.DataFrame") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(pickle.dumps(frame, protocol=4), compresslevel=1))

    # the pose frame is x right, y forward, origin on the road; the world is frame 0's
    pose_T_lidar = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, SENSOR_HEIGHT_M], [0, 0, 0, 1.0]])
    count = max(frames) + 1
    times = [1_557_539_956.5 + 0.1 * i for i in range(count)]
    lidar_poses = [_pandaset_pose(np.eye(3), np.array([0, STEP_M * i, 0])) for i in range(count)]
    _write_json(folder / "lidar" / "poses.json", lidar_poses)
    _write_json(folder / "lidar" / "timestamps.json", times)
    for name in ("front_camera", "back_camera"):
        # drawn small and enlarged by whole pixels: ray-casting two megapixels takes too long
        view = View(96, 54, YAW_RAD[name])
        pose_T_camera = pose_T_lidar @ np.linalg.inv(view.camera_T_lidar)
        where = folder / "camera" / name
        K = Camera(96, 54, view.K).resize(1920, 1080).K
        intrinsics = {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
        _write_json(where / "intrinsics.json", intrinsics)
        _write_json(where / "timestamps.json", [t - 0.05 for t in times])
        offsets = [np.array([0, STEP_M * i, 0]) for i in range(count)]
        poses = [_pandaset_pose(pose_T_camera[:3, :3], pose_T_camera[:3, 3] + o) for o in offsets]
        _write_json(where / "poses.json", poses)
        for frame in frames:
            write_png(where / f"{frame:02d}.jpg", np.kron(picture(frame, view)[0], np.ones((20, 20, 1), np.uint8)))
    for frame in frames:
        points, hit = sweep(frame)
        world = points[:, :3].astype(np.float64) @ pose_T_lidar[:3, :3].T + pose_T_lidar[:3, 3]
        world[:, 1] += STEP_M * frame
        columns = {axis: world[:, i] for i, axis in enumerate("xyz")}
        columns |= {"i": np.round(points[:, 3] * 255.0), "t": np.full(len(points), times[frame] - 0.05)}
        table = pd.DataFrame(columns | {"d": np.zeros(len(points), np.int64)})
        table.index.name = "index"
        dump(folder / "lidar" / f"{frame:02d}.pkl.gz", table)
        if labels:
            classes = pd.DataFrame({"class": ids_of(hit, PANDASET_IDS)})
            dump(folder / "annotations" / "semseg" / f"{frame:02d}.pkl.gz", classes)
    if labels:
        named = {"5": "Vegetation", "6": "Ground", "7": "Road", "11": "Sidewalk", "13": "Car", "41": "Building"}
        _write_json(folder / "annotations" / "semseg" / "classes.json", named)
    return folder


def _pandaset_pose(rotation: NDArray[np.float64], position: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    w, x, y, z = (float(v) for v in quaternion_from_rotation(rotation))
    return {
        "position": dict(zip("xyz", (float(v) for v in position), strict=True)),
        "heading": {"w": w, "x": x, "y": y, "z": z},
    }


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
