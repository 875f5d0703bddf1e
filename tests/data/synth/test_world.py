"""Scenes, weathers and bodies: what differs between them, and what training never sees."""

import numpy as np
import pytest

from fusionseg.data.synth import street, vehicles
from fusionseg.data.synth.air import extinction_per_m, strongest
from fusionseg.data.synth.camera import Renderer, mounted_camera
from fusionseg.data.synth.classes import OUTLIER, Kind, Material
from fusionseg.data.synth.layout import Road
from fusionseg.data.synth.lidar import MODELS, Lidar
from fusionseg.data.synth.light import Light, light_of
from fusionseg.data.synth.mesh import box, cylinder, ellipsoid, join
from fusionseg.data.synth.scenes import build
from fusionseg.data.synth.spec import SCENES, WEATHERS, Spec
from fusionseg.data.synth.texture import road_paint
from fusionseg.data.synth.world import World


def spec_of(**changes):
    return Spec(**{"frames": 2, "seed": 2, "width": 320, "height": 120, "beams": 32, **changes})


@pytest.fixture(scope="module")
def rendered():
    views = {}
    for weather in WEATHERS:
        # few clouds, and the sun beside the camera
        spec = spec_of(weather=weather, seed=3)
        world = World(spec)
        views[weather] = Renderer(world, *mounted_camera(spec)).render(1), Lidar(world).sweep(1)
    return views


def test_weather_changes_light_but_not_what_is_there(rendered):
    clear = rendered["clear"][0]
    for weather in WEATHERS:
        np.testing.assert_array_equal(rendered[weather][0].semantic, clear.semantic)
        np.testing.assert_array_equal(rendered[weather][0].depth, clear.depth)
    sky = clear.semantic == 23
    colour = {weather: rendered[weather][0].image[sky].mean(axis=0) for weather in WEATHERS}
    assert colour["clear"][2] > colour["clear"][0] + 20, "a clear sky is blue"
    assert colour["dusk"][0] > colour["dusk"][2], "at dusk it is red"
    assert colour["night"].mean() < 90 < colour["fog"].mean()
    assert np.ptp(colour["fog"]) < 20, "fog is grey"


def test_fog_takes_contrast_with_distance(rendered):
    far = (rendered["clear"][0].depth > 40) & np.isfinite(rendered["clear"][0].depth)
    contrast = {weather: rendered[weather][0].image[far].astype(float).std() for weather in ("clear", "fog")}
    assert contrast["fog"] < 0.5 * contrast["clear"]


def test_headlights_light_the_road_ahead_at_night(rendered):
    view = rendered["night"][0]
    road = view.semantic == 7
    grey = view.image.mean(axis=2)
    near, far = road & (view.depth > 6) & (view.depth < 14), road & (view.depth > 45)
    assert grey[near].mean() > 1.3 * grey[far].mean()


def test_backscatter_in_fog_and_rain_only(rendered):
    share = {weather: (sweep.labels == OUTLIER).mean() for weather, (_, sweep) in rendered.items()}
    assert share["clear"] == share["dusk"] == share["night"] == 0
    assert 0.02 < share["fog"] < 0.4 and 0.002 < share["rain"] < 0.12
    reach = {
        weather: np.percentile(np.linalg.norm(s.points[:, :3], axis=1), 99) for weather, (_, s) in rendered.items()
    }
    assert reach["fog"] < 0.75 * reach["clear"]


def test_shadows_are_what_casting_every_ray_at_every_actor_says():
    world = World(spec_of(weather="rain"), threads=1)
    rng = np.random.default_rng(0)
    at = world.world_T_lidar(np.array([0.1]))[0, :3, 3]
    normals = np.tile(np.array([0, 0, 1], np.float32), (40_000, 1))
    points = (at + rng.uniform((-25, -10, -1.7), (25, 10, 0.5), normals.shape)).astype(np.float32)
    towards = rng.uniform((-1, -1, 0.15), (1, 1, 1), normals.shape).astype(np.float32)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    hidden = world.occluded(points, normals, towards, 0.1)
    starts = points + np.float32(0.02) * normals
    everything = world.cast(starts, towards, 0.1, slack_m=300.0)
    standing = world.cast_statics(starts, towards)
    np.testing.assert_array_equal(hidden, everything.triangle >= 0)
    assert ((everything.triangle >= 0) & (standing.triangle < 0)).sum() > 100, "actors cast shadows too"


def test_extinction_is_that_of_marshall_and_palmer():
    assert extinction_per_m(Light()) == 0
    # two cross-sections of 8000 exp(-slope D) drops per m3 and mm, summed by hand over the diameters
    diameter = np.arange(0.0005, 20, 0.001)
    slope = 4.1 * 25.0**-0.21
    summed = (2 * np.pi / 4 * diameter**2 * 8000 * np.exp(-slope * diameter)).sum() * 0.001 * 1e-6
    assert extinction_per_m(Light(rain_mm_h=25.0)) == pytest.approx(summed, rel=1e-3)


def test_clear_air_leaves_echoes_alone_and_fog_weakens_them():
    distance, power = np.full(500, 50.0, np.float32), np.full(500, 1e-4, np.float32)
    rng = np.random.default_rng(0)
    clear = strongest(Light(), distance, power, rng)
    np.testing.assert_array_equal(clear.range_m, distance)
    np.testing.assert_array_equal(clear.power, power)
    fog = strongest(Light(fog_per_m=0.01), distance, power, rng)
    np.testing.assert_allclose(fog.power[~fog.air], 1e-4 * np.exp(-1.0), rtol=1e-4)
    assert (fog.range_m[fog.air] < 50).all()


def test_beams_and_steps():
    assert {beams: (len(m.elevations_deg), m.steps) for beams, m in MODELS.items()} == {64: (64, 2000), 32: (32, 1800)}
    assert MODELS[64].elevations_deg.max() == 2.0 and MODELS[32].elevations_deg.min() == -30.67


def test_near_surfaces_return_and_far_ones_thin_out(rendered):
    points = rendered["clear"][1].points
    assert np.linalg.norm(points[:, :3], axis=1).max() <= 120.5
    assert len(points) > 0.6 * 32 * 1800


@pytest.mark.parametrize("scene", SCENES)
def test_scenes_have_what_they_should(scene):
    layout = build(spec_of(scene=scene))
    kinds = set(np.unique(layout.statics.kind).tolist())
    needed = {Kind.ROAD, Kind.TERRAIN, Kind.VEGETATION, Kind.TRUNK, Kind.POLE, Kind.SIGN}
    if scene != "highway":
        needed |= {Kind.BUILDING, Kind.WALL}
    if scene in ("urban", "intersection"):
        needed |= {Kind.SIDEWALK, Kind.CAR, Kind.BICYCLE, Kind.FENCE}
    if scene == "intersection":
        needed |= {Kind.TRAFFIC_LIGHT}
    if scene == "highway":
        needed |= {Kind.GUARDRAIL}
    assert needed <= kinds
    assert np.isfinite(layout.statics.corners).all()
    assert len(layout.actors) > 15
    numbers = [a.meshes[0].instance[0] for a in layout.actors] + np.unique(layout.statics.instance).tolist()[1:]
    assert len(set(map(int, numbers))) == len(numbers), "every object has a number of its own"


def test_test_worlds_have_shapes_facades_and_streets_of_their_own():
    train, test = (set(vehicles.CARS[split]) for split in ("train", "test"))
    assert not train & test and not {b.outline for b in train} & {b.outline for b in test}
    patterns, lanes = {"train": set(), "test": set()}, {"train": [], "test": []}
    for split in patterns:
        for seed in range(4):
            patterns[split] |= {f.pattern for f in build(spec_of(seed=seed, split=split)).facades}
            lanes[split].append(street.section(np.random.default_rng(seed), split == "test").lane)
    assert not patterns["train"] & patterns["test"]
    assert max(lanes["train"]) < min(lanes["test"])


def test_nothing_stands_or_drives_where_the_ego_vehicle_goes():
    for seed in range(3):
        spec = spec_of(seed=seed, frames=30, width=64, height=48)
        world = World(spec)
        for frame in (0, 15, 29):
            time_s = world.frame_time_s(frame)
            pose = world.world_T_lidar(np.array([time_s]))[0]
            angle = np.deg2rad(np.linspace(-4, 4, 40))
            ahead = np.stack([np.cos(angle), np.sin(angle), np.full(40, -0.06)], 1) @ pose[:3, :3].T
            ahead = (ahead / np.linalg.norm(ahead, axis=1, keepdims=True)).astype(np.float32)
            hits = world.cast(pose[:3, 3].astype(np.float32), ahead, time_s)
            assert hits.distance.min() > 4.0, (seed, frame)


def test_rays_hit_a_moving_actor_where_it_is_when_they_are_cast():
    world = World(spec_of(scene="highway"))
    actor = next(a for a in world.actors if a.speed_mps > 20 and a.pose(0.0) is not None)
    position, heading = actor.pose(0.0)
    above = (position + np.array([0.0, 0.0, 30.0])).astype(np.float32)
    down = np.tile(np.array([[0, 0, -1.0]], np.float32), (3, 1))
    shift = np.float32(0.04) * np.float32(actor.speed_mps)
    forward = np.array([np.cos(heading), np.sin(heading), 0], np.float32)
    length = np.ptp(actor.meshes[0].corners[..., 0])
    front = above + forward * np.float32(length / 2 + 0.4)  # just ahead of the bumper
    hits = world.cast(np.stack([above, front, front]), down, 0.0, np.array([0.0, 0.0, 0.04], np.float32), slack_m=20.0)
    assert shift > 0.8
    assert hits.moving.tolist() == [True, False, True]


def test_solids():
    cube = box((0, 0, 0), (2, 3, 4), Kind.WALL, Material.CONCRETE, (0.5,) * 3)
    edges = np.cross(cube.corners[:, 1] - cube.corners[:, 0], cube.corners[:, 2] - cube.corners[:, 0])
    assert np.linalg.norm(edges, axis=1).sum() / 2 == pytest.approx(2 * (6 + 8 + 12))
    tube = cylinder((0, 0, 0), (0, 0, 5), 0.5, Kind.POLE, Material.METAL, (0.5,) * 3, sides=12)
    assert np.hypot(*tube.corners[..., :2].reshape(-1, 2).T).max() == pytest.approx(0.5)
    ball = ellipsoid((1, 2, 3), (1, 2, 0.5), Kind.PERSON, Material.SKIN, (0.5,) * 3)
    assert np.ptp(ball.corners[..., 2]) == pytest.approx(1.0)
    both = join([cube.as_instance(4), tube]).placed(10, 0, 0, np.pi / 2)
    assert both.corners[..., 0].min() == pytest.approx(7.0) and set(both.instance.tolist()) == {0, 4}


def test_paint_lies_where_the_road_says():
    road = Road(
        lines=((0.0, 0.2, 3.0, 8.0), (3.5, 0.2, 0.0, 0.0)), zebras=((20.0, 23.0, -4, 4),), fields=((30.0, 40.0),)
    )
    s = np.array([1.0, 5.0, 5.0, 21.0, 21.0, 35.0], np.float32)
    t = np.array([0.05, 0.0, 3.5, 1.25, 1.75, 3.5], np.float32)
    painted = road_paint([road], np.zeros(6, np.int16), s, t)
    assert painted.tolist() == [True, False, True, True, False, False]


def test_light_is_the_same_for_the_same_seed_and_another_for_another():
    assert light_of(spec_of()) == light_of(spec_of())
    assert light_of(spec_of()).sun_deg != light_of(spec_of(seed=3)).sun_deg
