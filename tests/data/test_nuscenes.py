"""nuScenes: axes, ego motion between sweep and image, lidarseg, and tables that are wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from make_nuscenes import IDS, make_nuscenes_log, make_real_key_frame
from scene import NAMES, STEP_M, sweep

from fusionseg.data.log import FrameError
from fusionseg.data.nuscenes import CAMERAS
from fusionseg.data.open import open_log
from fusionseg.geometry.projection import project

KEY_FRAME = "nuscenes_mmdet3d"


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return make_nuscenes_log(tmp_path_factory.mktemp("nuscenes") / "root", frames=2)


@pytest.fixture
def tiny(template, tmp_path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "root"))


def edit(folder: Path, table: str, change) -> None:
    file = folder / "v1.0-mini" / f"{table}.json"
    rows = json.loads(file.read_text())
    change(rows)
    file.write_text(json.dumps(rows))


def test_real_key_frame(shared_data, tmp_path):
    known = make_real_key_frame(tmp_path, shared_data / KEY_FRAME)
    log = open_log(tmp_path)
    assert (log.format, log.name, log.frames) == ("nuscenes", "nuscenes/scene-0001", [0])
    assert tuple(log.cameras) == CAMERAS
    ahead = {"FRONT": 0, "FRONT_RIGHT": -55, "FRONT_LEFT": 55, "BACK": 180, "BACK_LEFT": 110, "BACK_RIGHT": -110}
    shares = []
    for sample in log.frame(0):
        assert sample.image.shape == (900, 1600, 3)
        assert abs(sample.image_time_ns - sample.sweep_time_ns) < 60_000_000
        # the optical axis in x forward, y left, and image y downwards
        x, y, z = sample.camera_T_lidar[2, :3]
        off = np.rad2deg(np.arctan2(y, x)) - ahead[sample.camera_name.removeprefix("CAM_")]
        assert abs((off + 180) % 360 - 180) < 4 and abs(z) < 0.05
        assert sample.camera_T_lidar[1, 2] < -0.99
        # their frame is x right, y forward
        turned = known[sample.camera_name] @ np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        # quaternions lose the info file's own rounding, and a kilometre of map a few digits more
        assert np.allclose(sample.camera_T_lidar, turned, atol=2e-3)
        shares.append(len(project(sample.points_lidar, sample.camera, sample.camera_T_lidar).uv))
    assert len(sample.points_lidar) == 34688 and min(shares) > 2000
    assert sample.point_labels is None and 0 < sample.points_lidar[:, 3].max() <= 1
    # the road lies 1.84 m below the LiDAR
    near = np.linalg.norm(sample.points_lidar[:, :2], axis=1)
    ring = sample.points_lidar[(near > 4) & (near < 8), 2]
    assert np.median(ring) == pytest.approx(-1.84, abs=0.15)


def test_points_are_in_our_frame_and_labels_are_lidarseg(tiny):
    log = open_log(tiny)
    sample = log.sample(1, "CAM_FRONT")
    points, hit = sweep(1)
    assert np.allclose(sample.points_lidar[:, :3], points[:, :3], atol=1e-5)
    assert np.allclose(sample.points_lidar[:, 3], points[:, 3], atol=1 / 255)
    car = log.table.names.index("car")
    assert np.array_equal(sample.point_labels == car, hit == NAMES.index("car"))
    native = open_log(tiny, classes="native")
    assert len(native.table) == 16
    labels = native.sample(1, "CAM_FRONT").point_labels
    assert np.array_equal(labels == native.table.names.index("driveable_surface"), hit == NAMES.index("road"))


def test_ego_motion_between_sweep_and_image_is_compensated(tiny):
    sample = open_log(tiny).sample(0, "CAM_FRONT")
    # the camera stands 0.2 m ahead of the LiDAR and was carried a tenth of a step further
    lidar_T_camera = np.linalg.inv(sample.camera_T_lidar)
    assert np.allclose(lidar_T_camera[:3, 3], [0.2 + 0.1 * STEP_M, 0, -0.1], atol=1e-6)
    assert sample.image_time_ns - sample.sweep_time_ns == 50_000_000


def test_other_order_of_categories_means_the_same(tiny):
    before = open_log(tiny).sample(0, "CAM_FRONT").point_labels

    def swap(rows):
        rows[IDS["road"]]["name"], rows[IDS["car"]]["name"] = rows[IDS["car"]]["name"], rows[IDS["road"]]["name"]

    edit(tiny, "category", swap)
    log = open_log(tiny)
    after = log.sample(0, "CAM_FRONT").point_labels
    road, car = (log.table.names.index(name) for name in ("road", "car"))
    assert np.array_equal(before == road, after == car) and (before == road).any()
    edit(tiny, "category", lambda rows: rows[3].update(name="dragon"))
    with pytest.raises(ValueError, match="category 'dragon' is unknown"):
        open_log(tiny)


def test_without_lidarseg_there_are_no_labels(tmp_path):
    log = open_log(make_nuscenes_log(tmp_path, frames=1, labels=False))
    assert log.sample(0, "CAM_BACK").point_labels is None


def test_a_key_frame_without_a_sensor(tiny):
    def lose(rows):
        rows[:] = [row for row in rows if row["token"] not in ("LIDAR_TOP0", "CAM_BACK1")]

    edit(tiny, "sample_data", lose)
    log = open_log(tiny)
    assert len(log.sample(0, "CAM_FRONT").points_lidar) == 0
    with pytest.raises(FrameError, match="key frame 1 has no CAM_BACK"):
        log.sample(1, "CAM_BACK")


def test_scenes_are_chosen_by_name(tiny):
    edit(tiny, "scene", lambda rows: rows.append({"token": "other", "name": "scene-0002"}))
    expected = r"2 scenes fit \(there are scene-0001, scene-0002\); name one behind the path, as v1.0-mini/scene-0061"
    with pytest.raises(ValueError, match=expected):
        open_log(tiny)
    for path in (tiny / "scene-0001", tiny / "v1.0-mini" / "scene-0001"):
        log = open_log(path)
        assert (log.format, log.name, log.path, log.frames) == ("nuscenes", "nuscenes/scene-0001", path, [0, 1])
        assert len(open_log(path, "nuscenes").frame(1)[0].points_lidar) > 1000
    with pytest.raises(ValueError, match=r"0 scenes fit \(there are scene-0001, scene-0002\)"):
        open_log(tiny / "scene-0061")
    for path in (tiny / "scenes" / "scene-0001", tiny.parent / "scene-0001"):
        with pytest.raises(FileNotFoundError, match="no such file or folder"):
            open_log(path)
    assert open_log(tiny, scene="scene-0001").frames == [0, 1]
    with pytest.raises(ValueError, match="no key frames"):
        open_log(tiny, scene="scene-0002")
    with pytest.raises(ValueError, match="0 folders of tables fit"):
        open_log(tiny, version="v1.0-test")


def test_broken_tables_and_files(tiny):
    sweep_file = tiny / "samples" / "LIDAR_TOP" / "0.pcd.bin"
    sweep_file.write_bytes(sweep_file.read_bytes()[:-3])
    label_file = tiny / "lidarseg" / "v1.0-mini" / "1_lidarseg.bin"
    label_file.write_bytes(label_file.read_bytes()[:-3])
    log = open_log(tiny)
    with pytest.raises(FrameError, match="truncated"):
        log.sample(0, "CAM_FRONT")
    with pytest.raises(FrameError, match="labels for a sweep of"):
        log.sample(1, "CAM_FRONT")
    sensors = tiny / "v1.0-mini" / "sensor.json"
    sensors.rename(sensors.with_suffix(".away"))
    with pytest.raises(FileNotFoundError, match=r"sensor.json: no such table"):
        open_log(tiny)
    sensors.with_suffix(".away").rename(sensors)
    edit(tiny, "ego_pose", lambda rows: rows.pop())
    with pytest.raises(ValueError, match=r"ego_pose\.json: no row"):
        open_log(tiny)
    edit(tiny, "sample", lambda rows: rows[0].pop("timestamp"))
    with pytest.raises(ValueError, match="tables lack 'timestamp'"):
        open_log(tiny)
