"""Augmentation keeps calibration, labels and image together."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fusionseg.config import AugmentConfig
from fusionseg.data.prepare import View
from fusionseg.data.transforms import (
    BORDER_RGB,
    augment,
    drop_points,
    drop_sensor,
    flip,
    jitter_calibration,
    jitter_range,
    photometric,
    rotate,
    scale_crop,
    thin_lidar,
)
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.projection import in_view

W, H = 96, 64
K = np.array([[70.0, 0, 46.0], [0, 75.0, 33.5], [0, 0, 1]])
CAMERAS = {
    "pinhole": Camera(W, H, K),
    "skewed": Camera(W, H, K + np.array([[0, 3.0, 0], [0, 0, 0], [0, 0, 0]])),
    "distorted": Camera(W, H, K, "pinhole", np.array([-0.2, 0.05, 0.01, -0.02, 0.01])),
    "fisheye": Camera(W, H, K, "fisheye", np.array([0.05, -0.01, 0.002, 0.0])),
}
GEOMETRIC = AugmentConfig(
    flip=0.5, scale=(0.6, 1.8), rotation_deg=8, photometric=0, drop_image=0, drop_lidar=0, lidar_jitter_m=0.02
)


def ramp(width: int = W, height: int = H) -> NDArray[np.uint8]:
    """An image whose red tells the column and whose green tells the row, two grey steps a pixel."""
    v, u = np.mgrid[:height, :width]
    return np.stack([2 * u + 20, 2 * v + 20, np.full_like(u, 200)], axis=-1).astype(np.uint8)


def make_view(camera: Camera, count: int = 400, seed: int = 0) -> View:
    """Random points whose projection is exact; the index remembers them, the label is the image half they lie in."""
    rng = np.random.default_rng(seed)
    points = np.column_stack(
        [rng.uniform(-6, 6, 4 * count), rng.uniform(-4, 4, 4 * count), rng.uniform(3, 20, 4 * count)]
    )
    uv = camera.project(points)
    points = points[in_view(uv, W, H)][:count]
    uv = camera.project(points).astype(np.float32)
    labels = (uv[:, 0] > W / 2).astype(np.uint8)
    return View(
        log="t",
        frame=0,
        camera_name="c",
        camera=camera,
        image=ramp(),
        index=np.arange(len(points), dtype=np.int32),
        points_camera=points.astype(np.float32),
        uv=uv,
        height_m=rng.uniform(0, 3, len(points)).astype(np.float32),
        intensity=rng.uniform(0, 1, len(points)).astype(np.float32),
        visible=rng.uniform(size=len(points)) < 0.8,
        supervised=rng.uniform(size=len(points)) < 0.5,
        labels=labels,
        pixel_labels=np.broadcast_to((np.arange(W) > W / 2).astype(np.uint8), (H, W)).copy(),
    )


def assert_true(before: View, after: View) -> None:
    """Calibration holds, and every point lies on the image content it lay on."""
    uv = after.camera.project(after.points_camera.astype(np.float64))
    assert np.abs(uv - after.uv).max(initial=0) < 0.01
    assert in_view(after.uv, after.camera.width, after.camera.height).all()
    assert after.image is not None and after.image.shape == (after.camera.height, after.camera.width, 3)
    old = before.uv[after.index]
    new = np.rint(after.uv).astype(int)
    inner = (new > 1).all(axis=1) & (new[:, 0] < after.camera.width - 2) & (new[:, 1] < after.camera.height - 2)
    inner &= (old > 2).all(axis=1) & (old[:, 0] < W - 3) & (old[:, 1] < H - 3)
    assert inner.sum() > 20
    # the ramp tells which old pixel the nearest new pixel shows: at most 0.71 px away, times the zoom out
    seen = (after.image[new[inner, 1], new[inner, 0], :2].astype(float) - 20) / 2
    zoom = after.camera.K[1, 1] / before.camera.K[1, 1]
    assert np.abs(seen - old[inner]).max() < 0.75 / min(1.0, zoom) + 0.5
    assert np.abs(seen - old[inner]).mean() < 0.5 / min(1.0, zoom)
    for name in ("height_m", "intensity", "visible", "supervised", "labels"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name)[after.index])
    assert after.pixel_labels is not None and after.labels is not None
    clear = inner & (np.abs(old[:, 0] - W / 2) > 2)
    found = after.pixel_labels[new[clear, 1], new[clear, 0]]
    np.testing.assert_array_equal(found, after.labels[clear])


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("seed", range(6))
def test_points_stay_on_their_pixels(name: str, seed: int) -> None:
    view = make_view(CAMERAS[name], seed=seed)
    assert_true(view, augment(view, GEOMETRIC, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", CAMERAS)
def test_each_step_keeps_calibration(name: str) -> None:
    view = make_view(CAMERAS[name])
    rng = np.random.default_rng(3)
    for after in (flip(view), rotate(view, 0.2), rotate(flip(view), -0.1), scale_crop(view, 1.5, (48, 80), rng)):
        assert_true(view, after)


def test_flip_is_its_own_inverse_and_mirrors_exactly() -> None:
    view = make_view(CAMERAS["distorted"])
    once = flip(view)
    np.testing.assert_array_equal(once.image, view.image[:, ::-1])
    np.testing.assert_array_equal(once.pixel_labels, view.pixel_labels[:, ::-1])
    np.testing.assert_allclose(once.uv[:, 0], W - 1 - view.uv[:, 0], atol=1e-4)
    twice = flip(once)
    np.testing.assert_allclose(twice.camera.K, view.camera.K)
    np.testing.assert_array_equal(twice.image, view.image)
    np.testing.assert_array_equal(twice.points_camera, view.points_camera)


def test_rotation_by_a_quarter_turns_right_to_down() -> None:
    camera = Camera(65, 65, np.array([[50.0, 0, 32], [0, 50, 32], [0, 0, 1]]))
    view = make_view(CAMERAS["pinhole"])
    image = np.zeros((65, 65, 3), np.uint8)
    image[32, 52] = 255
    point = np.array([[2.0, 0, 5]], dtype=np.float32)
    view = replace(view, camera=camera, image=image, pixel_labels=None, points_camera=point, uv=camera.project(point))
    turned = rotate(replace(view, **{n: getattr(view, n)[:1] for n in ("index", "labels", "visible")}), np.pi / 2)
    np.testing.assert_allclose(turned.uv, [[32, 52]], atol=1e-4)
    np.testing.assert_allclose(turned.points_camera, [[0, 2, 5]], atol=1e-6)
    assert turned.image[52, 32].min() > 250


def test_zoom_out_pads_with_the_mean_colour_and_ignored_labels() -> None:
    view = make_view(CAMERAS["pinhole"])
    after = scale_crop(view, 0.5, None, np.random.default_rng(0))
    outside = (after.image == BORDER_RGB).all(axis=-1)
    assert 0.7 < outside.mean() < 0.78
    assert (after.pixel_labels == 255).mean() == pytest.approx(0.75, abs=0.03)
    assert len(after.index) == len(view.index)


def test_crop_drops_points_outside_and_gives_its_size() -> None:
    view = make_view(CAMERAS["pinhole"])
    after = scale_crop(view, 1.0, (32, 48), np.random.default_rng(1))
    left, top = view.camera.K[0, 2] - after.camera.K[0, 2], view.camera.K[1, 2] - after.camera.K[1, 2]
    assert (after.camera.width, after.camera.height) == (48, 32)
    inside = in_view(view.uv - np.float32([left, top]), 48, 32)
    np.testing.assert_array_equal(after.index, np.flatnonzero(inside))
    np.testing.assert_array_equal(after.image, view.image[int(top) : int(top) + 32, int(left) : int(left) + 48])


def test_calibration_jitter_moves_points_and_leaves_the_image() -> None:
    view = make_view(CAMERAS["fisheye"])
    after = jitter_calibration(view, np.radians([0.0, 2.0, 0.0]))
    assert after.image is view.image and len(after.index) < len(view.index)
    np.testing.assert_allclose(after.camera.project(after.points_camera), after.uv, atol=1e-3)
    shift = after.uv[:, 0] - view.uv[after.index, 0]
    # two degrees about y (down) turn the scene to the right, by f tan 2 deg near the centre
    assert shift.mean() == pytest.approx(70 * np.tan(np.radians(2)), abs=0.5)
    np.testing.assert_array_equal(after.labels, view.labels[after.index])


def test_range_noise_has_its_size_and_keeps_pixels() -> None:
    view = make_view(CAMERAS["distorted"], count=800)
    after = jitter_range(view, 0.05, np.random.default_rng(0))
    change = np.linalg.norm(after.points_camera, axis=1) - np.linalg.norm(view.points_camera, axis=1)
    assert change.std() == pytest.approx(0.05, rel=0.15)
    np.testing.assert_allclose(after.camera.project(after.points_camera), view.uv, atol=1e-3)


def test_point_dropout_takes_its_share() -> None:
    view = make_view(CAMERAS["pinhole"], count=1000)
    after = drop_points(view, 0.3, np.random.default_rng(0))
    assert len(after.index) / len(view.index) == pytest.approx(0.7, abs=0.05)
    np.testing.assert_array_equal(after.uv, view.uv[after.index])


def test_a_thinned_lidar_loses_whole_bands_and_keeps_their_labels() -> None:
    view = make_view(CAMERAS["pinhole"], 4000)
    shares = []
    for seed in range(40):
        thin = thin_lidar(view, np.random.default_rng(seed))
        assert thin.measured is not None and thin.labels is view.labels and thin.supervised is view.supervised
        shares.append(thin.measured.mean())
        rows = np.floor(view.uv[:, 1])
        # a band is eight rows at least: where a row has both kinds, a band ends, and that is in every eighth at most
        mixed = sum(len(set(thin.measured[rows == row])) == 2 for row in range(H))
        assert mixed <= H / 8 + 1
    assert 0.35 < np.mean(shares) < 0.65 and np.std(shares) > 0.1
    view = scale_crop(thin, 1.5, (40, 60), np.random.default_rng(0))
    assert view.measured is not None and len(view.measured) == len(view.index)


def test_sensor_dropout_frequencies_and_never_both() -> None:
    view = make_view(CAMERAS["pinhole"], count=10)
    rng = np.random.default_rng(0)
    kinds = [drop_sensor(view, 0.2, 0.5, rng) for _ in range(1000)]
    without_image = np.mean([v.image is None for v in kinds])
    without_lidar = np.mean([not v.lidar_present for v in kinds])
    assert without_image == pytest.approx(0.2, abs=0.05) and without_lidar == pytest.approx(0.5, abs=0.06)
    assert all(v.image is not None or v.lidar_present for v in kinds)
    assert all(len(v.index) == len(view.index) for v in kinds)
    camera_only = drop_points(view, 1.0, rng)
    lidar_only = replace(view, image=None)
    for _ in range(50):
        assert drop_sensor(camera_only, 0.5, 0.5, rng).image is not None
        assert drop_sensor(lidar_only, 0.5, 0.5, rng).lidar_present


def test_photometric_changes_colours_not_shapes() -> None:
    image = ramp()
    changed = [photometric(image, np.random.default_rng(seed)) for seed in range(8)]
    assert all(c.shape == image.shape and c.dtype == np.uint8 for c in changed)
    assert all(np.abs(c.astype(int) - image).mean() > 1 for c in changed)
    grey = np.full((4, 4, 3), 100, np.uint8)
    # neither hue nor saturation can colour grey
    assert all(np.ptp(photometric(grey, np.random.default_rng(s))[0, 0].astype(int)) <= 1 for s in range(8))


def test_nothing_asked_for_is_nothing_done_and_seeds_repeat() -> None:
    view = make_view(CAMERAS["pinhole"])
    still = AugmentConfig(flip=0, photometric=0, drop_image=0, drop_lidar=0)
    same = augment(view, still, np.random.default_rng(0))
    assert same.image is view.image and same.uv is view.uv
    busy = replace(GEOMETRIC, photometric=1.0, point_dropout=0.5, drop_lidar=0.5, calibration_jitter_deg=1.0)
    a, b = (augment(view, busy, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.uv, b.uv)


def test_views_without_image_or_points_pass() -> None:
    view = drop_points(
        replace(make_view(CAMERAS["pinhole"]), image=None, labels=None, pixel_labels=None),
        1.0,
        np.random.default_rng(0),
    )
    busy = replace(GEOMETRIC, photometric=1.0, point_dropout=0.5, calibration_jitter_deg=1.0, crop=(20, 30))
    after = augment(view, busy, np.random.default_rng(0))
    assert after.image is None and len(after.index) == 0 and after.labels is None
    assert (after.camera.width, after.camera.height) == (30, 20)
