import numpy as np
import pytest

from fusionseg.data.prepare import CELL_STRIDE, prepare
from fusionseg.data.sky import open_sky, sky_labels
from fusionseg.geometry.camera import Camera
from fusionseg.labels import IGNORE
from fusionseg.sample import Sample

SKY = 7
CAMERA = Camera.from_focal(160, 120, 120.0, 120.0, 79.5, 59.5)
# camera x right, y down, z forward; LiDAR x forward, y left, z up
CAMERA_T_LIDAR = np.array([[0, -1.0, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def street(tower_deg: float = 15.0) -> np.ndarray:
    """Ground 1.7 m below, a wall 20 m ahead up to 2 m above the sensor, and at the far right a tower."""
    forward, left = np.meshgrid(np.arange(3.0, 20.0, 0.25), np.arange(-12.0, 12.0, 0.25))
    ground = np.column_stack([forward.ravel(), left.ravel(), np.full(forward.size, -1.7)])
    side, up = np.meshgrid(np.arange(-13.5, 13.5, 0.2), np.arange(-1.6, 2.0, 0.2))
    wall = np.column_stack([np.full(side.size, 20.0), side.ravel(), up.ravel()])
    side, up = np.meshgrid(np.arange(-13.0, -10.0, 0.1), np.arange(0, 23.7 * np.tan(np.radians(tower_deg)), 0.1))
    tower = np.column_stack([np.full(side.size, 20.0), side.ravel(), up.ravel()])
    points = np.vstack([ground, wall, tower])
    return np.column_stack([points, np.zeros(len(points))]).astype(np.float32)


def view(points: np.ndarray):
    image = np.zeros((120, 160, 3), dtype=np.uint8)
    sample = Sample(
        log="street",
        frame=0,
        camera_name="front",
        camera=CAMERA,
        image=image,
        points_lidar=points,
        camera_T_lidar=CAMERA_T_LIDAR,
    )
    return prepare(sample, (120, 160))


def elevation_deg(row: int, column: int) -> float:
    u, v = (CELL_STRIDE * i + (CELL_STRIDE - 1) / 2 for i in (column, row))
    x, y = (u - 79.5) / 120, (v - 59.5) / 120
    return float(np.degrees(np.arcsin(-y / np.sqrt(x * x + y * y + 1))))


def test_it_is_above_the_wall():
    sky = open_sky(view(street()))
    assert sky.shape == (30, 40)
    marked = [elevation_deg(r, c) for r, c in np.argwhere(sky)]
    # the wall ends at 5.7 degrees straight ahead
    assert min(marked) > 6.0
    assert sky[0, 18], "an open column is open up to the image's edge"
    ahead = [r for r in range(30) if sky[r, 18]]
    assert [elevation_deg(r, 18) for r in ahead][-1] < 11.0, "two cells above the wall at most stay unmarked"
    assert len(ahead) >= 2
    assert not sky[:, 37].any(), "the tower is no sky"
    assert not sky[15:].any(), "nothing below the horizon"


@pytest.mark.parametrize("tower_deg", [4.0, 8.5])
def test_without_returns_well_above_the_wall_nothing_is_known(tower_deg):
    assert not open_sky(view(street(tower_deg)))[:, 18].any()


@pytest.mark.parametrize("count", [0, 50])
def test_too_few_points_mark_nothing(count):
    assert not open_sky(view(street()[:count])).any()


def test_labels_are_at_the_size_of_the_input():
    prepared = view(street())
    labels = sky_labels(prepared, SKY)
    assert labels.shape == (120, 160) and set(np.unique(labels)) == {SKY, IGNORE}
    assert (labels == SKY).sum() == open_sky(prepared).sum() * CELL_STRIDE**2
