"""The occlusion test on scenes whose occlusions are known, and on real sweeps."""

import numpy as np
import pytest

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.ground import fit_ground, height_above
from fusionseg.geometry.projection import project, visible
from fusionseg.geometry.transform import make_transform

FORWARD = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0.0]])


def grid(u0, u1, v0, v1, depth, step=3.0):
    """Pixels (M, 2) every ``step`` pixels in a rectangle, with their depth (M,)."""
    u, v = np.meshgrid(np.arange(u0, u1, step), np.arange(v0, v1, step))
    uv = np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float32)
    return uv, np.full(len(uv), depth, np.float32)


def see(*parts, size=(640, 360)):
    """What ``visible`` says of each part."""
    uv, depth = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    answers = visible(uv, depth, *size)
    return np.split(answers, np.cumsum([len(d) for _, d in parts])[:-1])


def test_a_wall_behind_a_car_is_hidden_and_beside_it_is_not():
    car = grid(200, 300, 150, 200, 8.0)
    behind = grid(206, 294, 156, 192, 20.0, step=4)
    beside = grid(310, 400, 150, 200, 20.0)
    above = grid(200, 300, 120, 148, 20.0)
    car_seen, behind_seen, beside_seen, above_seen = see(car, behind, beside, above)
    assert car_seen.all()
    assert not behind_seen.any()
    assert beside_seen.all()
    assert above_seen.all()


def test_the_margin_decides():
    front = grid(200, 300, 150, 200, 10.0)
    for depth, hidden in ((10.7, False), (10.9, True)):  # 10 m * 1.05 + 0.3 m = 10.8 m
        _, behind_seen = see(front, grid(206, 294, 156, 192, depth, step=4))
        assert behind_seen.all() != hidden
        assert behind_seen.any() != hidden


def test_a_thin_pole_hides_what_is_behind_it_only():
    pole = grid(320, 322, 100, 250, 6.0, step=2)
    behind = grid(321, 322, 120, 220, 15.0, step=5)
    sides = grid(300, 316, 100, 250, 15.0), grid(328, 345, 100, 250, 15.0)
    _, behind_seen, *sides_seen = see(pole, behind, *sides)
    assert not behind_seen.any()
    assert all(seen.all() for seen in sides_seen)


def sweep_of_flat_ground(camera_height_m=1.6, lidar_height_m=1.9, lasers=64):
    """Rings of a spinning LiDAR on flat ground (N, 4), and the camera below it."""
    elevation = np.deg2rad(np.linspace(-25, -1.6, lasers))
    ranges = lidar_height_m / np.tan(-elevation)
    azimuth = np.deg2rad(np.arange(-60, 60, 0.2))
    r, a = np.meshgrid(ranges, azimuth)
    xyz = np.stack([r * np.cos(a), r * np.sin(a), np.full_like(r, -lidar_height_m)], axis=-1).reshape(-1, 3)
    points = np.concatenate([xyz, np.zeros((len(xyz), 1))], axis=1).astype(np.float32)
    camera_in_lidar = np.array([0.3, 0.1, camera_height_m - lidar_height_m])
    return points, make_transform(FORWARD, -FORWARD @ camera_in_lidar)


@pytest.mark.parametrize(("size", "focal"), [((640, 360), 650.0), ((1242, 375), 720.0), ((1920, 1080), 1950.0)])
@pytest.mark.parametrize("lasers", [32, 64, 128])
def test_all_of_flat_ground_is_seen_however_far(size, focal, lasers):
    points, camera_T_lidar = sweep_of_flat_ground(lasers=lasers)
    camera = Camera.from_focal(*size, focal, focal, (size[0] - 1) / 2, (size[1] - 1) / 2)
    projection = project(points, camera, camera_T_lidar)
    assert projection.depth.max() > 50
    assert visible(projection.uv, projection.depth, *size).mean() > 0.999


def test_no_points_and_one_point():
    assert visible(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), 640, 360).shape == (0,)
    assert visible(np.array([[639.4, 359.4]], np.float32), np.array([3], np.float32), 640, 360).tolist() == [True]


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 640)])
def test_tiny_and_odd_images(size):
    uv = np.array([[0, 0], [size[0] - 0.6, size[1] - 0.6]], dtype=np.float32)
    assert visible(uv, np.array([5, 5], np.float32), *size).tolist() == [True, True]


def test_semantickitti_far_road_is_kept(shared_data):
    """A plain minimum over a window would reject all road beyond 25 m here: nearer ground lies just below it."""
    folder = shared_data / "semantickitti" / "sequences" / "00"
    points = np.fromfile(next((folder / "velodyne").glob("*.bin")), np.float32).reshape(-1, 4)
    ids = np.fromfile(next((folder / "labels").glob("*.label")), np.uint32) & 0xFFFF
    rows = dict(line.split(":", 1) for line in (folder / "calib.txt").read_text().splitlines() if ":" in line)
    matrix, velo = (np.array(rows[key].split(), float).reshape(3, 4) for key in ("P3", "Tr"))
    camera = Camera(1241, 376, matrix[:, :3])
    camera_T_lidar = np.eye(4)
    camera_T_lidar[:3] = velo
    camera_T_lidar[:3, 3] += np.linalg.solve(matrix[:, :3], matrix[:, 3])
    projection = project(points, camera, camera_T_lidar)
    seen = visible(projection.uv, projection.depth, 1241, 376)
    ids = ids[projection.index]
    assert seen[(ids == 40) & (projection.depth > 25)].mean() > 0.85
    assert seen[ids == 40].mean() > 0.97
    assert seen[ids == 10].mean() > 0.93
    heights = height_above(fit_ground(points), points)[projection.index]
    raised = (heights > 1.0) & (projection.depth > 8)
    assert 0.02 < (~seen[raised]).mean() < 0.3  # parallax over cars and through hedges does hide something
