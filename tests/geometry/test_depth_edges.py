import numpy as np

from fusionseg.geometry.depth_edges import depth_edges

HEIGHT_M = 1.8
BOX = {"low": np.array([9.0, -1.0, 0.0]), "high": np.array([11.0, 1.0, 1.2])}
WALL_M = 25.0


def street(box=True, crowd=False, step_deg=0.2):
    """Ground, a wall 25 m ahead, a box 9 m ahead (2 m wide, 1.2 m high) seen from 1.8 m; or many posts."""
    azimuth, elevation = np.radians(np.meshgrid(np.arange(-60, 60, step_deg), np.arange(-20, 8, step_deg)))
    rays = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1
    ).reshape(-1, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        range_m = np.where(rays[:, 2] < 0, -HEIGHT_M / rays[:, 2], np.inf)
        range_m = np.minimum(range_m, WALL_M / rays[:, 0])
        if box:
            low, high = (edge - [0, 0, HEIGHT_M] for edge in BOX.values())
            a, b = low / rays, high / rays
            near, far = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
            range_m = np.where((near > 0) & (near <= far), np.minimum(range_m, near), range_m)
        if crowd:
            post = (np.round(np.degrees(azimuth.ravel()) / step_deg).astype(int) % 6 < 2) & (rays[:, 2] > -0.1)
            range_m = np.where(post, 10.0, range_m)
    points = np.zeros((len(rays), 4), dtype=np.float32)
    points[:, :3] = rays * range_m[:, None]
    return points


def angles_deg(points):
    return np.degrees(np.arctan2(points[:, 1], points[:, 0])), np.degrees(
        np.arcsin(points[:, 2] / np.linalg.norm(points[:, :3], axis=1))
    )


def test_the_edges_of_a_box_are_its_sides_and_its_rim():
    points = street()
    edges = depth_edges(points)
    azimuth, _ = angles_deg(points[edges.sides])
    side = np.degrees(np.arctan2(1.0, 9.0))
    assert len(edges.sides) >= 4
    assert np.abs(np.abs(azimuth) - side).max() < 0.6
    assert (azimuth > 0).any() and (azimuth < 0).any()
    _, elevation = angles_deg(points[edges.rims])
    rim = np.degrees(np.arctan2(1.2 - HEIGHT_M, np.hypot([9.0, 11.0], 1.0)))
    assert len(edges.rims) > 20
    assert (elevation > rim[0] - 0.6).all() and (elevation < rim[1] + 0.6).all()


def test_ground_and_a_wall_alone_have_none():
    edges = depth_edges(street(box=False))
    assert len(edges.sides) == 0 and len(edges.rims) == 0


def test_crowded_edges_are_left_out():
    points = street(box=False, crowd=True)
    azimuth, _ = angles_deg(points[depth_edges(points).sides])
    assert (np.abs(azimuth) > 57).all()  # at its end a crowd has fewer neighbours


def test_points_that_are_not_finite_and_no_points_are_no_edges():
    points = street()
    expected = depth_edges(points)
    broken = np.vstack([points, np.full((3, 4), np.nan, np.float32), np.full((3, 4), np.inf, np.float32)])
    assert np.array_equal(depth_edges(broken).sides, expected.sides)
    assert len(depth_edges(points[:0]).sides) == 0


def test_lone_returns_of_rain_are_no_edges():
    points = street()
    rain = np.random.default_rng(0).uniform([4, -6, -1], [6, 6, 1], (60, 3)).astype(np.float32)
    edges = depth_edges(np.vstack([points, np.pad(rain, ((0, 0), (0, 1)))]))
    assert (edges.sides >= len(points)).sum() < 10
    assert (edges.sides < len(points)).sum() > 4
