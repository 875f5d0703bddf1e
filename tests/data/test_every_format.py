"""One scene in every format: whatever frame and calibration the files use, points land on what they hit."""

import make_logs
import numpy as np
import pytest
from scene import COLOURS, NAMES, STEP_M

from fusionseg.data.open import LOADERS, open_log
from fusionseg.geometry.projection import project, visible
from fusionseg.geometry.transform import compose, invert

LIDAR_FORMATS = ("pandaset", "semantickitti", "kitti_raw", "kitti_object", "plain")
CAMERA_FORMATS = ("camvid", "cityscapes")
GROUND = [NAMES.index(name) for name in ("road", "sidewalk", "terrain")]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    return {
        name: open_log(getattr(make_logs, f"make_{name}_log")(folder / name))
        for name in (*LIDAR_FORMATS, *CAMERA_FORMATS)
    }


def by_colour(image):
    """Index into ``NAMES`` of each pixel (..., 3)."""
    colours = np.array(list(COLOURS.values()))
    return np.abs(image[..., None, :].astype(int) - colours).sum(axis=-1).argmin(axis=-1)


def test_every_format_with_a_scene_is_recognised(logs):
    assert {name: log.format for name, log in logs.items()} == {name: name for name in logs}
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
            expected = np.array([log.table.label_of((name,)) for name in NAMES])[on_image]
            assert (labels == expected).mean() > 0.96


@pytest.mark.parametrize("name", CAMERA_FORMATS)
def test_pixel_labels_lie_on_their_colours(logs, name):
    log = logs[name]
    sample = log.sample(log.frames[1], "camera")
    members = log.table.membership[sample.pixel_labels]
    of_scene = np.array([log.table.names.index(name) for name in NAMES])[by_colour(sample.image)]
    right = np.take_along_axis(members, of_scene[..., None], axis=-1)[..., 0]
    assert right[sample.pixel_labels != 255].mean() > 0.99


@pytest.mark.parametrize("name", ["pandaset", "semantickitti", "plain"])
def test_the_vehicle_drives_forwards(logs, name):
    log = logs[name]
    first, second = log.frames[:2]
    motion = compose(invert(log.world_T_lidar(first)), log.world_T_lidar(second))
    assert np.allclose(motion[:3, :3], np.eye(3), atol=1e-6)
    assert np.allclose(motion[:3, 3], [STEP_M, 0, 0], atol=1e-6)


@pytest.mark.parametrize("name", LIDAR_FORMATS)
def test_the_views_of_a_frame_share_one_cloud(logs, name):
    views = logs[name].frame(logs[name].frames[0])
    assert all(np.array_equal(view.points_lidar, views[0].points_lidar) for view in views)
    assert views[0].points_lidar[:, 3].min() >= 0 and views[0].points_lidar[:, 3].max() <= 1
