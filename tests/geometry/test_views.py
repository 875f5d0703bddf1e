"""Virtual views: they tile the circle."""

import numpy as np
import pytest

from fusionseg.geometry.projection import project
from fusionseg.geometry.transform import check_rigid
from fusionseg.geometry.views import virtual_views


def directions(elevations_deg, range_m=12.0):
    azimuth, elevation = np.meshgrid(np.deg2rad(np.arange(0, 360, 0.5)), np.deg2rad(elevations_deg))
    xyz = np.stack([np.cos(azimuth), np.sin(azimuth), np.tan(elevation)], axis=-1).reshape(-1, 3) * range_m
    return np.concatenate([xyz, np.zeros((len(xyz), 1))], axis=1).astype(np.float32)


@pytest.mark.parametrize("count", [3, 4, 6, 9])
@pytest.mark.parametrize("size", [(640, 360), (321, 197), (96, 512), (1024, 64)])
def test_every_direction_in_range_is_in_a_view(count, size):
    points = directions(np.linspace(-25, 15, 41))
    seen = np.zeros(len(points), dtype=int)
    for _, camera, camera_T_lidar in virtual_views(*size, count=count):
        assert (camera.width, camera.height) == size
        assert camera.K[0, 0] == camera.K[1, 1]
        seen[project(points, camera, camera_T_lidar).index] += 1
    assert seen.min() >= 1
    assert seen.max() <= count


@pytest.mark.parametrize(("lowest", "highest"), [(-30, 10), (2, 20), (-20, -5)])
def test_other_elevations_are_covered_too(lowest, highest):
    points = directions(np.linspace(lowest, highest, 21))
    seen = np.zeros(len(points), dtype=bool)
    for _, camera, camera_T_lidar in virtual_views(640, 360, lowest_deg=lowest, highest_deg=highest):
        seen[project(points, camera, camera_T_lidar).index] = True
    assert seen.all()


def test_names_axes_and_sides():
    views = virtual_views(640, 360, count=4)
    assert [name for name, _, _ in views] == ["virtual_0", "virtual_1", "virtual_2", "virtual_3"]
    axes = [matrix[2, :3] for _, _, matrix in views]  # the optical axis in the LiDAR frame
    assert np.allclose(axes, [[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], atol=1e-12)
    for name, camera, camera_T_lidar in views:
        check_rigid(camera_T_lidar, name)
        assert camera.K[0, 2] == (640 - 1) / 2
    _, camera, camera_T_lidar = views[0]
    points = np.array([[10, 0, 0, 0], [10, 2, 0, 0], [10, 0, 1, 0]], dtype=np.float32)
    ahead, left, up = project(points, camera, camera_T_lidar).uv
    assert ahead[0] == pytest.approx(319.5, abs=1e-3)
    assert left[0] < ahead[0]
    assert up[1] < ahead[1]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"count": 2}, "at least 3"),
        ({"lowest_deg": 10, "highest_deg": -10}, "lowest < highest"),
        ({"highest_deg": 90}, "80"),
    ],
)
def test_impossible_views_are_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        virtual_views(640, 360, **kwargs)
