"""What camera and LiDAR say about the same world must agree, exactly where both see a surface."""

import cv2
import numpy as np
import pytest

from fusionseg.data.open import open_log
from fusionseg.data.synth.camera import Renderer, pixel_rays
from fusionseg.data.synth.spec import Spec
from fusionseg.data.synth.world import World
from fusionseg.data.synth.write import DEPTH_SCALE, generate
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.projection import project
from fusionseg.labels import IGNORE

TOLERANCE_M = 0.25


def spec_of(**changes):
    return Spec(**{"scene": "urban", "frames": 4, "seed": 3, "width": 800, "height": 240, **changes})


@pytest.fixture(scope="module", params=["urban", "intersection", "highway", "rural"])
def log(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    generate(spec_of(scene=request.param), out)
    return open_log(out)


def depth_of(log, frame):
    png = cv2.imread(str(log.path / f"depth_2/{frame:06d}.png"), cv2.IMREAD_UNCHANGED)
    return np.where(png > 0, png / DEPTH_SCALE, np.inf)


def seen_points(log, frame):
    """Projection of a frame's points, the pixel each falls on, and which pass the exact-depth occlusion test."""
    sample = log.sample(frame, "image_2")
    view = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
    column, row = np.rint(view.uv).astype(int).T
    # the surface within half a pixel of the point: an edge or grazing ground spans many depths in a pixel
    near = cv2.erode(depth_of(log, frame).astype(np.float32), np.ones((3, 3), np.uint8))[row, column]
    exact = depth_of(log, frame)[row, column]
    visible = np.abs(exact - view.depth) < TOLERANCE_M + 0.02 * view.depth
    return sample, view, (row, column), visible, near


def test_labels_of_visible_points_are_those_of_their_pixels(log):
    sample, view, pixel, visible, _ = seen_points(log, 2)
    labels = sample.point_labels[view.index]
    scored = labels != IGNORE
    assert scored.sum() > 8000
    assert (~visible[scored]).mean() <= 0.15
    point_sets = log.table.membership[labels]
    pixel_sets = log.table.membership[sample.pixel_labels[pixel]]
    agree = (point_sets & pixel_sets).any(axis=1)
    assert agree[visible & scored].mean() >= 0.98


def test_depth_of_image_and_range_of_points_agree(log):
    _, view, pixel, visible, _ = seen_points(log, 2)
    error = depth_of(log, 2)[pixel][visible] - view.depth[visible]
    assert abs(np.median(error)) < 0.02
    assert np.percentile(np.abs(error), 90) < 0.2


def test_no_point_lies_before_what_the_camera_sees(log):
    _, view, _, _, near = seen_points(log, 2)
    assert (view.depth < near - TOLERANCE_M - 0.02 * view.depth).mean() < 0.01


def test_standing_points_of_one_frame_land_on_the_surfaces_of_another(log):
    sample, view, _, visible, _ = seen_points(log, 1)
    raw = np.fromfile(log.path / "labels/000001.label", "<u4") & 0xFFFF
    index = view.index[visible & np.isin(raw[view.index], (40, 48, 50, 60, 72))]
    to_later = np.linalg.inv(log.world_T_lidar(3)) @ log.world_T_lidar(1)
    moved = sample.points_lidar[index].copy()
    moved[:, :3] = moved[:, :3] @ to_later[:3, :3].T + to_later[:3, 3]
    again = project(moved, sample.camera, sample.camera_T_lidar)
    misfit, large = misfit_to(log, 3, again)
    assert len(misfit) > 2500
    assert np.median(misfit) == 0 and (misfit > large).mean() < 0.001
    # and without the motion they do not: the test can fail
    unmoved, large = misfit_to(log, 3, project(sample.points_lidar[index], sample.camera, sample.camera_T_lidar))
    assert (unmoved > large).mean() > 0.02


def misfit_to(log, frame, view):
    """How far points lie off the surfaces within a pixel of them, and what is too far, metres.

    Only where that pixel shows ground or a house: anything else may stand or drive before what the point was on.
    """
    column, row = np.rint(view.uv).astype(int).T
    depth = np.minimum(depth_of(log, frame), 1000).astype(np.float32)
    low, high = (f(depth, np.ones((3, 3), np.uint8))[row, column] for f in (cv2.erode, cv2.dilate))
    large = np.isin(log.sample(frame, "image_2").pixel_labels[row, column], (0, 1, 2, 3))
    misfit = np.maximum(0, np.maximum(low - 0.05 - view.depth, view.depth - high - 0.05))
    return misfit[large], TOLERANCE_M + 0.02 * view.depth[large]


def test_instances_of_points_and_pixels_have_the_same_numbers(log):
    sample, view, pixel, visible, _ = seen_points(log, 2)
    instances = cv2.imread(str(log.path / "instance_2/000002.png"), cv2.IMREAD_UNCHANGED)
    points = sample.point_instances[view.index]
    chosen = visible & (points > 0)
    assert chosen.sum() > 50
    assert (instances[pixel][chosen] == points[chosen]).mean() > 0.95


def test_the_ground_is_where_the_lidar_stands(log):
    sample = log.sample(0, "image_2")
    raw = np.fromfile(log.path / "labels/000000.label", "<u4") & 0xFFFF
    x, y, z = sample.points_lidar[:, :3].T
    road = np.isin(raw, (40, 60)) & (np.hypot(x, y) < 8)
    assert np.median(z[road]) == pytest.approx(-1.73, abs=0.1)
    assert sample.points_lidar[:, 3].min() >= 0 and sample.points_lidar[:, 3].max() <= 1


def test_rolling_sweep_is_compensated_unless_asked_not_to(tmp_path):
    clouds = {}
    for compensate in (True, False):
        spec = spec_of(scene="highway", frames=1, width=96, height=64, compensate=compensate)
        generate(spec, tmp_path / str(compensate))
        log = open_log(tmp_path / str(compensate))
        clouds[compensate] = log.sample(0, "image_2").points_lidar
    assert clouds[True].shape == clouds[False].shape
    moved = clouds[True][:, 0] - clouds[False][:, 0]
    azimuth = np.arctan2(clouds[False][:, 1], clouds[False][:, 0])
    ahead, behind_left = np.abs(azimuth) < 0.05, azimuth > 3.0
    speed = World(spec_of(scene="highway", frames=1, width=96, height=64)).layout.ego_speed_mps
    assert abs(np.median(moved[ahead])) < 0.05
    # the turn begins 0.05 s early, looking back: those points were measured from farther back
    assert np.median(moved[behind_left]) == pytest.approx(-0.05 * speed, rel=0.1)


def test_pixel_rays_undo_the_distortion():
    camera = Camera.from_focal(320, 200, 250, 250, 160, 100, distortion=np.array([-0.2, 0.05, 0.001, -0.001]))
    rays = pixel_rays(camera)
    uv = camera.project(rays.reshape(-1, 3).astype(np.float64)).reshape(200, 320, 2)
    v, u = np.mgrid[:200, :320]
    np.testing.assert_allclose(uv, np.stack([u, v], -1), atol=0.02)


def test_a_distorting_lens_bends_the_picture():
    world = World(spec_of(width=160, height=96))
    camera_T_lidar = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    plain = Camera.from_focal(160, 96, 100, 100, 80, 48)
    bent = Camera.from_focal(160, 96, 100, 100, 80, 48, distortion=np.array([-0.25, 0.05, 0, 0]))
    first, second = (Renderer(world, camera, camera_T_lidar).render(0) for camera in (plain, bent))
    middle = (slice(46, 51), slice(78, 83))
    assert (first.semantic[middle] == second.semantic[middle]).mean() > 0.9
    assert (first.semantic != second.semantic).mean() > 0.02
