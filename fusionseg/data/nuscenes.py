"""nuScenes v1.0 (Caesar et al., CVPR 2020) with lidarseg: six cameras and a LiDAR; tables are read directly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import read_bytes, read_floats, read_image, read_json
from fusionseg.data.log import FrameError, Log, frame_errors
from fusionseg.data.recent import Recent
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import compose, invert, make_transform, rotation_from_quaternion
from fusionseg.label_maps import label_map
from fusionseg.sample import Sample

LIDAR = "LIDAR_TOP"
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
COLUMNS = 5
INTENSITY_MAX = 255.0
NUSCENES_T_LIDAR = make_transform(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), np.zeros(3))
"""From x forward, y left to nuScenes' LiDAR frame: x right, y forward."""
# Lidarseg's 32 categories in the order of the ids that the class maps use.
# fmt: off
CATEGORIES = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck", "flat.driveable_surface",
    "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade", "static.other", "static.vegetation",
    "vehicle.ego",
)
# fmt: on

"""Lidarseg's 32 categories in the order of the ids that the class maps use."""

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class _Capture:
    """One file of one sensor: where it lies, when and from where it was taken."""

    token: str
    file: Path
    time_ns: int
    world_T_sensor: NDArray[np.float64]
    size: tuple[int, int]
    K: NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class _KeyFrame:
    """A sample: its captures by channel, and the label file of its sweep."""

    captures: dict[str, _Capture] = field(default_factory=dict)
    labels: Path | None = None


class NuScenesLog(Log):
    """One scene. Frames are its key frames, counted from 0; a sensor without a capture there is absent.

    ``camera_T_lidar`` passes through the ego pose at the sweep and the one at the image, so that the ego motion between
    the two is in it. The sweep itself is compensated by nuScenes already and carries no time per point.

    Args:
        path: the data root, or its folder of tables (``v1.0-mini``, ``v1.0-trainval``, ...); behind it the name of a
            scene, as if it were a folder there: ``nuscenes/scene-0061``.
        classes: ``driving12``, ``native`` (the 16 of the lidarseg challenge) or a YAML file.
        split: must be None; choose scenes.
        scene: the same, where the path does not say it and the tables hold several.
        version: the folder of tables, when the root holds several.

    Raises:
        FileNotFoundError: a table is missing.
        ValueError: no scene or several to choose from, or tables that contradict each other.
    """

    format: ClassVar[str] = "nuscenes"
    needs: ClassVar[str] = "v1.0-*/{scene,sample,sample_data,calibrated_sensor,ego_pose,sensor}.json, samples/CHANNEL/"

    def __init__(
        self,
        path: Path,
        *,
        classes: str = "driving12",
        split: str | None = None,
        scene: str | None = None,
        version: str | None = None,
    ) -> None:
        if split is not None:
            raise ValueError(f"split is {split!r}; nuScenes is opened by scene, as v1.0-mini/scene-0061, not by split")
        self.path = Path(path)
        place, named = _place(self.path)
        self._tables = _choose_tables(place, version)
        chosen = _choose_scene(self._tables, named or scene)
        self.name = f"nuscenes/{chosen['name']}"
        self._map = label_map("nuscenes", classes)
        self.table = self._map.table
        try:
            self._frames = _key_frames(self._tables, chosen)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self._tables}: tables lack {error}; expected nuScenes v1.0, copied whole") from error
        self.frames = list(range(len(self._frames)))
        found = {channel for frame in self._frames for channel in frame.captures}
        self.has_lidar = LIDAR in found
        self.cameras = [name for name in CAMERAS if name in found]
        if not self.frames or not self.cameras:
            raise ValueError(f"{self._tables}: {chosen['name']} has no key frames with cameras; expected some")
        self._fine_ids = _fine_ids(self._tables)
        self._recent = Recent(self._read_sweep)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there are tables here or in a folder ``v1.0-*``; or there, where the path names a scene of theirs."""
        return bool(_table_folders(_place(path)[0]))

    @classmethod
    def is_there(cls, path: Path) -> bool:
        """Whether it is a folder, or named like a scene of one."""
        return path.exists() or cls.recognises(path)

    def world_T_lidar(self, frame: int) -> NDArray[np.float64]:
        """(4, 4) pose of the LiDAR at a frame's sweep, in the map's frame.

        Raises:
            KeyError: no sweep of this frame.
        """
        return compose(self._frames[frame].captures[LIDAR].world_T_sensor, NUSCENES_T_LIDAR)

    def sweep_token(self, frame: int) -> str:
        """The token of a frame's sweep in ``sample_data``, by which the lidarseg challenge names its files.

        Raises:
            KeyError: no sweep of this frame.
        """
        return self._frames[frame].captures[LIDAR].token

    @property
    def version(self) -> str:
        """The folder of tables: ``v1.0-mini``, ``v1.0-trainval``, ``v1.0-test``."""
        return self._tables.name

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One view; labels are None where lidarseg has none."""
        if frame not in self.frames:
            raise KeyError(f"{self.name} has no frame {frame}; it has {len(self.frames)} from 0")
        if camera_name not in self.cameras:
            raise KeyError(f"{self.name} has no camera {camera_name!r}; it has {', '.join(self.cameras)}")
        captures = self._frames[frame].captures
        capture, sweep = captures.get(camera_name), captures.get(LIDAR)
        if capture is None:
            raise FrameError(f"{self._tables}: key frame {frame} has no {camera_name}; choose other cameras or frames")
        points, labels = self._recent(frame)
        with frame_errors():
            return Sample(
                log=self.name,
                frame=frame,
                camera_name=camera_name,
                camera=Camera(*capture.size, np.asarray(capture.K)),
                image=read_image(capture.file),
                points_lidar=points,
                camera_T_lidar=np.eye(4)
                if sweep is None
                else compose(invert(capture.world_T_sensor), sweep.world_T_sensor, NUSCENES_T_LIDAR),
                point_labels=labels,
                image_time_ns=capture.time_ns,
                sweep_time_ns=None if sweep is None else sweep.time_ns,
            )

    def files(self, frame: int) -> list[Path]:
        """Sweep, images, labels and the tables."""
        key = self._frames[frame]
        tables = ("sample_data", "calibrated_sensor", "ego_pose", "category")
        return [
            *(capture.file for capture in key.captures.values()),
            *([] if key.labels is None else [key.labels]),
            *(self._tables / f"{name}.json" for name in tables),
        ]

    def _read_sweep(self, frame: int) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        key = self._frames[frame]
        if LIDAR not in key.captures:
            return np.zeros((0, 4), dtype=np.float32), None
        columns = read_floats(key.captures[LIDAR].file, COLUMNS)
        right, forward, up, intensity = columns[:, :4].T
        scaled = np.clip(np.nan_to_num(intensity) / np.float32(INTENSITY_MAX), 0.0, 1.0)
        points = np.stack([forward, -right, up, scaled], axis=1)
        return points, None if key.labels is None else self._read_labels(key.labels, len(points))

    def _read_labels(self, file: Path, count: int) -> NDArray[np.uint8]:
        ids = np.frombuffer(read_bytes(file), np.uint8)
        if len(ids) != count:
            raise FrameError(f"{file}: {len(ids)} labels for a sweep of {count} points; expected one byte a point")
        if ids.max(initial=0) >= len(self._fine_ids):
            raise FrameError(f"{file}: label {ids.max()}; category.json ends at {len(self._fine_ids) - 1}")
        with frame_errors():
            return self._map(self._fine_ids[ids], str(file))


def _place(path: Path) -> tuple[Path, str | None]:
    """Where to look for tables, and the scene that the path names as if it were a folder there."""
    return (path, None) if path.exists() else (path.parent, path.name)


def _table_folders(path: Path) -> list[Path]:
    if (path / "sample_data.json").is_file():
        return [path]
    return sorted(file.parent for file in path.glob("v1.0-*/sample_data.json"))


def _choose_tables(path: Path, version: str | None) -> Path:
    found = _table_folders(path)
    names = ", ".join(folder.name for folder in found) or "none"
    if version is not None:
        found = [folder for folder in found if folder.name == version]
    if len(found) != 1:
        raise ValueError(f"{path}: {len(found)} folders of tables fit (there are {names}); give the path of one")
    return found[0].resolve()


def _rows(tables: Path, name: str) -> list[Row]:
    """The rows of a table.

    Raises:
        FileNotFoundError: no such table.
        ValueError: no list of objects with tokens.
    """
    file = tables / f"{name}.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such table; copy the folder {tables.name} whole")
    rows = read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "token" in row for row in rows):
        raise ValueError(f"{file}: no table; expected a list of rows with a token each, as in nuScenes v1.0")
    return rows


def _choose_scene(tables: Path, scene: str | None) -> Row:
    rows = _rows(tables, "scene")
    found = [row for row in rows if scene is None or scene in (row.get("name"), row["token"])]
    if len(found) != 1:
        names = [str(row.get("name")) for row in rows]
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        raise ValueError(
            f"{tables}: {len(found)} scenes fit (there are {shown or 'none'}); name one behind the path, "
            f"as {tables.name}/scene-0061 (in a config: options: {{scene: scene-0061}})"
        )
    return found[0]


def _key_frames(tables: Path, scene: Row) -> list[_KeyFrame]:
    """The key frames of a scene in time order; only its rows are kept of the large tables."""
    samples = [row for row in _rows(tables, "sample") if row["scene_token"] == scene["token"]]
    samples.sort(key=lambda row: int(row["timestamp"]))
    frames = {row["token"]: _KeyFrame() for row in samples}
    data = [row for row in _rows(tables, "sample_data") if row["is_key_frame"] and row["sample_token"] in frames]
    poses = _by_token(tables, "ego_pose", {row["ego_pose_token"] for row in data})
    sensors = {row["token"]: row["channel"] for row in _rows(tables, "sensor")}
    mounts = _by_token(tables, "calibrated_sensor", {row["calibrated_sensor_token"] for row in data})
    owners: dict[str, str] = {}
    for row in data:
        mount = mounts[row["calibrated_sensor_token"]]
        channel = sensors[mount["sensor_token"]]
        if channel != LIDAR and channel not in CAMERAS:  # radars
            continue
        pose = poses[row["ego_pose_token"]]
        K = np.asarray(mount["camera_intrinsic"], dtype=np.float64) if channel in CAMERAS else None
        frames[row["sample_token"]].captures[channel] = _Capture(
            token=row["token"],
            file=tables.parent / row["filename"],
            time_ns=1000 * int(row["timestamp"]),
            world_T_sensor=compose(_transform(pose), _transform(mount)),
            size=(int(row["width"] or 0), int(row["height"] or 0)),
            K=K,
        )
        owners[row["token"]] = row["sample_token"]
    labels = _label_files(tables, owners)
    return [_KeyFrame(frame.captures, labels.get(token)) for token, frame in frames.items()]


def _label_files(tables: Path, owners: Mapping[str, str]) -> dict[str, Path]:
    """Sample token -> label file; empty without lidarseg."""
    if not (tables / "lidarseg.json").is_file():
        return {}
    rows = _rows(tables, "lidarseg")
    return {
        owners[row["sample_data_token"]]: tables.parent / row["filename"]
        for row in rows
        if row["sample_data_token"] in owners
    }


def _by_token(tables: Path, name: str, wanted: set[str]) -> dict[str, Row]:
    found = {row["token"]: row for row in _rows(tables, name) if row["token"] in wanted}
    if missing := wanted - set(found):
        raise ValueError(f"{tables / name}.json: no row {min(missing)}, which sample_data names; copy the tables again")
    return found


def _transform(row: Row) -> NDArray[np.float64]:
    return make_transform(rotation_from_quaternion(row["rotation"]), np.asarray(row["translation"], dtype=np.float64))


def _fine_ids(tables: Path) -> NDArray[np.int64]:
    """Index in ``category.json`` -> the id in ``CATEGORIES``, which the class maps use."""
    if not (tables / "lidarseg.json").is_file():
        return np.arange(len(CATEGORIES))
    rows: Sequence[Row] = _rows(tables, "category")
    named = {int(row["index"]): row["name"] for row in rows if "index" in row}
    unknown = sorted(set(named.values()) - set(CATEGORIES))
    if not named or unknown:
        what = f"category {unknown[0]!r} is unknown" if unknown else "no row has an index"
        raise ValueError(f"{tables / 'category.json'}: {what}; copy the category.json that comes with lidarseg")
    ids = np.zeros(max(named) + 1, dtype=np.int64)
    for index, name in named.items():
        ids[index] = CATEGORIES.index(name)
    return ids
