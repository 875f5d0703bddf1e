"""One scene in every format: whatever frame and calibration the files use, points land on what they hit."""

import itertools

import make_bags
import make_logs
import make_nuscenes
import numpy as np
import pytest
from scene import COLOURS, NAMES, STEP_M

from fusionseg.data.open import LOADERS, open_log
from fusionseg.geometry.projection import project, visible
from fusionseg.geometry.transform import compose, invert

LIDAR_FORMATS = ("pandaset", "semantickitti", "kitti_raw", "kitti_object", "plain", "nuscenes", "bag")
MAKERS = {"nuscenes": make_nuscenes, "bag": make_bags}
CAMERA_FORMATS = ("camvid", "cityscapes")
GROUND = [NAMES.index(name) for name in ("road", "sidewalk", "terrain")]


@pytest.fixture(scope="module")
def logs(tmp_path_factory, generated_log):
    folder = tmp_path_factory.mktemp("logs")
    made = {
        name: open_log(getattr(MAKERS.get(name, make_logs), f"make_{name}_log")(folder / name))
        for name in (*LIDAR_FORMATS, *CAMERA_FORMATS)
    }
    return {**made, "generated": open_log(generated_log)}


def by_colour(image):
    """Index into ``NAMES`` of each pixel (..., 3)."""
    colours = np.array(list(COLOURS.values()))
    return np.abs(image[..., None, :].astype(int) - colours).sum(axis=-1).argmin(axis=-1)


def test_every_format_with_a_scene_is_recognised(logs):
    formats = {name: log.format for name, log in logs.items()}
    assert formats == {name: name for name in logs} | {"generated": "semantickitti"}
    assert set(LOADERS) - set(logs) == {"images"}


@pytest.mark.parametrize("name", LIDAR_FORMATS)
def test_points_land_on_what_they_were_measured_on(logs, name):
    log = logs[name]
    for camera in log.cameras:
        sample = log.sample(log.frames[1], camera)
        view = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
        seen = visible(view.uv, view.depth, sample.camera.width, sample.camera.height)
        column, row = np.rint(view.uv[seen]).astype(int).T
        on_image = by_colour(sample.image[row, column])
        assert len(on_image) > 500
        # the ground lies one sensor height below the LiDAR, and what is above the horizon is not ground
        z = sample.points_lidar[view.index[seen], 2]
        low = z < z.min() + 0.05
        assert np.isin(on_image[low], GROUND).mean() > 0.97
        assert np.isin(on_image[z > 0.5], [NAMES.index("building"), NAMES.index("vegetation")]).mean() > 0.95
        if sample.point_labels is not None:
            labels = sample.point_labels[view.index[seen]]
            expected = np.array([log.table.names.index(name) for name in NAMES])[on_image]
            assert log.table.membership[labels, expected].mean() > 0.96


def test_points_of_a_generated_log_land_on_their_class(logs):
    log = logs["generated"]
    for frame in log.frames[::4]:
        sample = log.sample(frame, "image_2")
        view = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
        labels = sample.point_labels[view.index]
        near = visible(view.uv, view.depth, sample.camera.width, sample.camera.height) & (labels != 255)
        column, row = np.rint(view.uv[near]).astype(int).T
        members = log.table.membership
        same = (members[labels[near]] & members[sample.pixel_labels[row, column]]).any(axis=1)
        assert near.sum() > 5000 and same.mean() > 0.95
        # no sweep has an echo of the sky, and above the horizon's row there is some in the picture
        sky = log.table.names.index("sky")
        assert (sample.point_labels != sky).all() and (sample.pixel_labels[:20] == sky).mean() > 0.3
        # a point of a road lies one sensor height below the LiDAR
        road = sample.point_labels == log.table.names.index("road")
        close = np.linalg.norm(sample.points_lidar[:, :2], axis=1) < 8
        assert np.median(sample.points_lidar[road & close, 2]) == pytest.approx(-1.73, abs=0.1)


@pytest.mark.parametrize("name", CAMERA_FORMATS)
def test_pixel_labels_lie_on_their_colours(logs, name):
    log = logs[name]
    sample = log.sample(log.frames[1], "camera")
    members = log.table.membership[sample.pixel_labels]
    of_scene = np.array([log.table.names.index(name) for name in NAMES])[by_colour(sample.image)]
    right = np.take_along_axis(members, of_scene[..., None], axis=-1)[..., 0]
    assert right[sample.pixel_labels != 255].mean() > 0.99


@pytest.mark.parametrize("name", ["pandaset", "semantickitti", "plain", "nuscenes", "bag"])
def test_the_vehicle_drives_forwards(logs, name):
    log = logs[name]
    first, second = log.frames[:2]
    motion = compose(invert(log.world_T_lidar(first)), log.world_T_lidar(second))
    assert np.allclose(motion[:3, :3], np.eye(3), atol=1e-6)
    assert np.allclose(motion[:3, 3], [STEP_M, 0, 0], atol=1e-6)


def test_the_vehicle_of_a_generated_log_drives_forwards(logs):
    log = logs["generated"]
    for first, second in itertools.pairwise(log.frames):
        motion = compose(invert(log.world_T_lidar(first)), log.world_T_lidar(second))
        # a tenth of a second at 5 to 15 m/s
        assert 0.5 < motion[0, 3] < 1.5 and np.abs(motion[1:3, 3]).max() < 0.1
        assert np.allclose(motion[:3, :3], np.eye(3), atol=0.05)


@pytest.mark.parametrize("name", (*LIDAR_FORMATS, "generated"))
def test_the_views_of_a_frame_share_one_cloud(logs, name):
    views = logs[name].frame(logs[name].frames[0])
    assert all(np.array_equal(view.points_lidar, views[0].points_lidar) for view in views)
    assert views[0].points_lidar[:, 3].min() >= 0 and views[0].points_lidar[:, 3].max() <= 1
