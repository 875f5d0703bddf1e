"""From a sample to network inputs, with answers made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from fusionseg.data.prepare import (
    POINT_FEATURES,
    RASTER_CHANNELS,
    encode,
    fit_size,
    grid_size,
    prepare,
    prepare_frame,
    project_sample,
    resize_image,
    resize_labels,
    stride_labels,
    with_image,
)
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.ground import Ground, fit_ground
from fusionseg.sample import Sample

AXES = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
CAMERA = Camera(128, 96, np.array([[100.0, 0, 63.5], [0, 100, 47.5], [0, 0, 1]]))


def ground_cloud(height_m: float) -> np.ndarray:
    """A flat road ``height_m`` below the sensor, rows x, y, z, intensity."""
    x, y = np.meshgrid(np.arange(3, 30, 0.25), np.arange(-10, 10, 0.25))
    return np.column_stack([x.ravel(), y.ravel(), np.full(x.size, -height_m), np.full(x.size, 0.5)]).astype(np.float32)


def make_sample(points: np.ndarray, transform: np.ndarray = AXES, **kwargs: object) -> Sample:
    return Sample(
        log="t", frame=0, camera_name="c", camera=CAMERA, points_lidar=points, camera_T_lidar=transform, **kwargs
    )


def test_a_point_lands_where_the_resized_camera_sees_it() -> None:
    # 10 m ahead, 1 m to the right, 2 m down: u = 63.5 + 10, v = 47.5 + 20; at half size (u + 0.5) / 2 - 0.5
    points = np.array([[10, -1, -2, 0.25], [-10, 0, 0, 1], [10, 30, 0, 1]], dtype=np.float32)
    image = np.zeros((96, 128, 3), np.uint8)
    view = prepare(make_sample(points, image=image, point_labels=np.array([5, 6, 7], np.uint8)), (48, 64))
    np.testing.assert_array_equal(view.index, [0])
    np.testing.assert_allclose(view.uv, [[36.5, 33.5]], atol=1e-4)
    np.testing.assert_allclose(view.points_camera, [[1, 2, 10]], atol=1e-6)
    assert view.intensity.tolist() == [0.25] and view.labels is not None and view.labels.tolist() == [5]
    assert view.image is not None and view.image.shape == (48, 64, 3) and view.lidar_present


def test_hidden_and_late_points_teach_no_pixel() -> None:
    # two points at 5 m, a pixel above and below the centre, enclose one at 20 m; the last was measured 60 ms early
    points = np.array([[5, 0, 0.05, 1], [5, 0, -0.05, 1], [20, 0, 0, 1], [6, 2, 0, 1]], dtype=np.float32)
    offsets = np.array([0.0, 0.0, 0.0, -0.06], dtype=np.float32)
    view = prepare(make_sample(points, time_offset_s=offsets), (96, 128))
    assert view.visible.tolist() == [True, True, False, True]
    assert view.supervised.tolist() == [True, True, False, False]
    assert prepare(make_sample(points), (96, 128)).supervised.tolist() == [True, True, False, True]


def test_labelling_gets_the_same_inputs_without_what_truth_needs() -> None:
    rng = np.random.default_rng(0)
    sample = make_sample(
        ground_cloud(1.7),
        image=rng.integers(0, 256, (96, 128, 3), dtype=np.uint8),
        point_labels=np.ones(len(ground_cloud(1.7)), np.uint8),
        pixel_labels=np.ones((96, 128), np.uint8),
    )
    full, bare = prepare(sample, (48, 64)), project_sample(sample, (48, 64))
    assert (bare.image, bare.visible, bare.supervised, bare.labels, bare.pixel_labels) == (None,) * 5
    view = with_image(bare, sample)
    assert view.image is not None and full.image is not None
    np.testing.assert_array_equal(view.image, full.image)
    np.testing.assert_array_equal(view.image[0, 0], np.round(sample.image[:2, :2].mean(axis=(0, 1)) + 1e-6))
    for ours, theirs in zip(vars(encode(view, 4)).values(), vars(encode(full, 4)).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert with_image(bare, make_sample(ground_cloud(1.7))) is bare


def test_the_nearest_point_of_a_cell_wins_and_the_other_knows_its_step() -> None:
    points = np.array([[20, 0, 0, 0.9], [5, 0, 0, 0.1]], dtype=np.float32)
    inputs = encode(prepare(make_sample(points), (96, 128)), 4)
    assert inputs.raster.shape == (len(RASTER_CHANNELS), 24, 32)
    assert inputs.cell[0] == inputs.cell[1]
    column = dict(zip(RASTER_CHANNELS, inputs.raster.reshape(len(RASTER_CHANNELS), -1)[:, inputs.cell[0]], strict=True))
    assert column["valid"] == 1 and column["intensity"] == pytest.approx(0.1)
    assert column["log_range"] == pytest.approx(np.log(5) / 4)
    assert column["log_count"] == pytest.approx(np.log(3) / 2) and column["log_spread"] == pytest.approx(np.log(4))
    step = inputs.points[:, POINT_FEATURES.index("log_depth_ratio")]
    np.testing.assert_allclose(step, [np.log(4), 0], atol=1e-6)
    np.testing.assert_array_equal(inputs.raster[:, inputs.raster[0] == 0], 0)
    assert (np.abs(inputs.points[:, -2:]) <= 0.5).all()


def test_points_that_are_not_measured_are_no_input_but_have_features() -> None:
    points = np.array([[20, 0, 0, 0.9], [5, 0, 0, 0.1], [10, 3, 0, 0.5]], dtype=np.float32)
    view = prepare(make_sample(points), (96, 128))
    thin = encode(replace(view, measured=np.array([True, False, False])), 4)
    alone = encode(prepare(make_sample(points[:1]), (96, 128)), 4)
    np.testing.assert_array_equal(thin.raster, alone.raster)
    full = encode(view, 4)
    step = POINT_FEATURES.index("log_depth_ratio")
    np.testing.assert_array_equal(thin.points[:, :step], full.points[:, :step])
    np.testing.assert_array_equal(thin.points[:, step], 0)
    np.testing.assert_array_equal(thin.cell, full.cell)
    assert not encode(replace(view, measured=np.zeros(3, dtype=bool)), 4).raster.any()
    whole = encode(replace(view, measured=np.ones(3, dtype=bool)), 4)
    for ours, theirs in zip(vars(whole).values(), vars(full).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_inputs_do_not_depend_on_where_the_lidar_sits() -> None:
    """The same world from a LiDAR that is 0.9 m lower, 0.5 m aside and turned: same raster, same point features."""
    rng = np.random.default_rng(0)
    objects = np.column_stack(
        [rng.uniform(4, 25, (300, 1)), rng.uniform(-3, 3, (300, 1)), rng.uniform(-1.5, 1, (300, 1))]
    )
    world = np.concatenate([ground_cloud(1.8), np.column_stack([objects, np.full(300, 0.3)]).astype(np.float32)])
    a = encode(prepare(make_sample(world), (96, 128)), 4)
    yaw = np.radians(20)
    move = np.eye(4)
    move[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    move[:3, 3] = [0.3, 0.5, 0.9]
    moved = world.copy()
    moved[:, :3] = world[:, :3] @ move[:3, :3].T + move[:3, 3]
    b = encode(prepare(make_sample(moved, AXES @ np.linalg.inv(move)), (96, 128)), 4)
    assert len(a.cell) == len(b.cell) > 500
    same = a.cell == b.cell
    assert same.mean() > 0.99  # a point on the border of two cells may fall to either
    np.testing.assert_allclose(a.points[same, :4], b.points[same, :4], atol=0.02)
    assert (np.abs(a.raster - b.raster).max(axis=0) < 0.03).mean() > 0.98


def test_a_frame_has_one_ground() -> None:
    cloud = ground_cloud(1.6)
    views = prepare_frame([make_sample(cloud), make_sample(cloud)], (96, 128))
    assert np.abs(views[0].height_m).max() < 0.05
    np.testing.assert_array_equal(views[0].height_m, views[1].height_m)
    assert prepare_frame([], (96, 128)) == []
    ground = fit_ground(cloud)
    assert isinstance(ground, Ground)
    np.testing.assert_array_equal(prepare(make_sample(cloud), (96, 128), ground).height_m, views[0].height_m)


def test_without_points_everything_is_empty() -> None:
    view = prepare(make_sample(np.zeros((0, 4), np.float32)), (45, 61))
    inputs = encode(view, 4)
    assert inputs.raster.shape == (len(RASTER_CHANNELS), 12, 16) and not inputs.raster.any()
    assert inputs.points.shape == (0, len(POINT_FEATURES)) and inputs.cell.shape == (0,)
    assert view.image is None and view.labels is None


def test_resizing() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    assert resize_image(image, 6, 4) is image
    half = resize_image(image, 3, 2)
    np.testing.assert_allclose(half[0, 0], image[:2, :2].reshape(-1, 3).mean(axis=0), atol=1)
    labels = np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.uint8)
    np.testing.assert_array_equal(resize_labels(labels, 2, 1), [[5, 7]])
    np.testing.assert_array_equal(resize_labels(labels, 8, 2)[0], [0, 0, 1, 1, 2, 2, 3, 3])
    dense = np.arange(7 * 9, dtype=np.uint8).reshape(7, 9)
    assert grid_size(7, 9, 4) == (2, 3)
    np.testing.assert_array_equal(stride_labels(dense, 7, 9, 4), dense[np.ix_([2, 6], [2, 6, 8])])
    assert (stride_labels(None, 7, 9, 4) == 255).all()


@pytest.mark.parametrize(
    ("image", "fitted"),
    [
        ((1080, 1920), (360, 640)),
        ((376, 672), (360, 640)),  # within 2 %
        ((375, 1242), (264, 872)),
        ((360, 480), (416, 556)),
        ((1000, 10), (4800, 48)),
    ],
)
def test_the_input_keeps_the_shape_of_the_image(image, fitted):
    height, width = image
    camera = Camera.from_focal(width, height, 500, 500, width / 2, height / 2)
    assert fit_size((360, 640), camera) == fitted
    assert fitted[0] * fitted[1] == pytest.approx(360 * 640, rel=0.01)


def test_junk_numbers_in_one_return_leave_the_others_alone() -> None:
    """One NaN or overflow in the raster would reach every pixel of the view."""
    good = ground_cloud(1.6)
    junk = np.array(
        [[8, 0, 0, np.nan], [9, 1, 0, -np.inf], [9, -1, 0, np.inf], [1e25, 1e24, 0, 0.5], [3e38, 1e38, 1e38, 0.5]],
        dtype=np.float32,
    )
    inputs = encode(prepare(make_sample(np.concatenate([junk, good])), (96, 128)), 4)
    assert np.isfinite(inputs.raster).all() and np.isfinite(inputs.points).all()
    assert np.abs(inputs.raster).max() < 10
    intensity = inputs.points[:, POINT_FEATURES.index("intensity")]
    assert intensity[:3].tolist() == [0, 0, 1]
    clean = encode(prepare(make_sample(good), (96, 128)), 4)
    # heights are fitted to every 20,000th point or so, which the junk in front shifts
    np.testing.assert_allclose(inputs.points[-len(clean.points) :, :3], clean.points[:, :3], atol=1e-3)
