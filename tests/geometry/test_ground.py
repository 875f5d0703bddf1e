"""The ground plane on clouds with known planes and on real sweeps with known mounting heights."""

import numpy as np
import pytest

from fusionseg.geometry.ground import FALLBACK_HEIGHT_M, fit_ground, height_above


def tilted_world(pitch_deg=4.0, roll_deg=-3.0, height_m=1.9, seed=0):
    """A tilted plane with noise, two walls, car roofs and a few returns from below the ground; and its normal."""
    rng = np.random.default_rng(seed)
    normal = np.array([np.tan(np.deg2rad(pitch_deg)), np.tan(np.deg2rad(roll_deg)), 1.0])
    normal /= np.linalg.norm(normal)

    def on_plane(x, y, above):
        return np.stack([x, y, (above - height_m - normal[0] * x - normal[1] * y) / normal[2]], axis=1)

    ground = on_plane(rng.uniform(-25, 25, 12000), rng.uniform(-9, 9, 12000), rng.normal(0, 0.02, 12000))
    walls = on_plane(rng.uniform(-25, 25, 9000), np.where(rng.random(9000) < 0.5, -9.0, 9.0), rng.uniform(0, 4.0, 9000))
    roofs = on_plane(rng.uniform(4, 8, 3000), rng.uniform(2, 4, 3000), np.full(3000, 1.5))
    ghosts = on_plane(rng.uniform(-25, 25, 60), rng.uniform(-9, 9, 60), rng.uniform(-3, -1, 60))
    xyz = np.concatenate([ground, walls, roofs, ghosts])
    points = np.concatenate([xyz, np.zeros((len(xyz), 1))], axis=1).astype(np.float32)
    return points[rng.permutation(len(points))], normal


@pytest.mark.parametrize(("pitch_deg", "roll_deg", "height_m"), [(0, 0, 1.7), (4, -3, 1.9), (-9, 6, 3.2), (2, 2, 0.3)])
def test_a_tilted_plane_among_objects_is_found(pitch_deg, roll_deg, height_m):
    points, normal = tilted_world(pitch_deg, roll_deg, height_m)
    ground = fit_ground(points)
    assert np.degrees(np.arccos(min(1.0, ground.normal @ normal))) < 0.3
    assert ground.offset_m == pytest.approx(height_m, abs=0.03)
    assert np.linalg.norm(ground.normal) == pytest.approx(1.0)
    assert ground.normal[2] > 0


def test_the_same_points_give_the_same_plane():
    points, _ = tilted_world()
    first, second = fit_ground(points), fit_ground(points.copy())
    assert np.array_equal(first.normal, second.normal)
    assert first.offset_m == second.offset_m


def test_non_finite_returns_change_nothing_that_matters():
    points, normal = tilted_world()
    rng = np.random.default_rng(1)
    points[rng.integers(0, len(points), 500), 2] = np.nan
    points[rng.integers(0, len(points), 500), 0] = np.inf
    points[rng.integers(0, len(points), 500), 1] = -1e30
    ground = fit_ground(points)
    assert ground.normal @ normal > 0.99998
    assert ground.offset_m == pytest.approx(1.9, abs=0.03)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_few_points_give_the_level_fallback(count):
    ground = fit_ground(np.full((count, 4), 5.0, dtype=np.float32))
    assert ground.support == 0
    assert ground.normal.tolist() == [0, 0, 1]
    assert ground.offset_m == FALLBACK_HEIGHT_M


def test_a_single_line_of_returns_gives_the_fallback():
    x = np.linspace(3, 29, 5000, dtype=np.float32)
    line = np.stack([x, np.zeros_like(x), np.full_like(x, -1.5), np.zeros_like(x)], axis=1)
    assert fit_ground(line).support == 0


def test_height_above_a_level_plane_by_hand():
    points, _ = tilted_world(0, 0, 1.7)
    ground = fit_ground(points)
    probes = np.array([[10, 0, -1.7, 0], [10, 0, 0, 0], [3, -4, 0.3, 0], [0, 0, np.nan, 0]], dtype=np.float32)
    heights = height_above(ground, probes)
    assert heights.dtype == np.float32
    assert heights[:3] == pytest.approx([0.0, 1.7, 2.0], abs=0.05)
    assert np.isnan(heights[3])
    assert height_above(ground, probes[:0]).shape == (0,)


def test_kitti_height_is_that_of_its_mount(shared_data):
    """The HDL-64 stands 1.73 m above the ground (Geiger et al., 2013)."""
    files = sorted((shared_data / "kitti_raw").rglob("velodyne_points/data/*.bin"))
    files += sorted((shared_data / "kitti_object").rglob("*.bin"))
    files += sorted((shared_data / "semantickitti").rglob("*.bin"))
    assert len(files) >= 3
    for path in files:
        content = path.read_bytes()
        points = np.frombuffer(content[: len(content) // 16 * 16], np.float32).reshape(-1, 4)
        ground = fit_ground(points)
        assert ground.offset_m == pytest.approx(1.73, abs=0.08), path.name
        assert ground.normal[2] > np.cos(np.deg2rad(3)), path.name


def test_semantickitti_road_lies_on_the_plane(shared_data):
    points = np.fromfile(next((shared_data / "semantickitti").rglob("*.bin")), np.float32).reshape(-1, 4)
    ids = np.fromfile(next((shared_data / "semantickitti").rglob("*.label")), np.uint32) & 0xFFFF
    near = np.hypot(points[:, 0], points[:, 1]) < 20
    heights = height_above(fit_ground(points), points)
    assert abs(np.median(heights[near & (ids == 40)])) < 0.06
    assert np.median(heights[near & (ids == 10)]) > 0.3  # cars
    assert np.median(heights[near & (ids == 50)]) > 1.0  # buildings


def test_pandaset_road_lies_on_the_plane(shared_data):
    pandaset = pytest.importorskip("fusionseg.data.pandaset")
    from fusionseg.labels import DRIVING12

    log = pandaset.PandaSetLog(shared_data / "pandaset" / "002")
    sample = log.sample(40, log.cameras[0])
    heights = height_above(fit_ground(sample.points_lidar), sample.points_lidar)
    near = np.hypot(sample.points_lidar[:, 0], sample.points_lidar[:, 1]) < 20
    road = near & (sample.point_labels == DRIVING12.names.index("road"))
    assert road.sum() > 1000
    assert abs(np.median(heights[road])) < 0.1
