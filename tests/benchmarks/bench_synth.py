"""A synthetic frame (1242x375, 64 beams, shadows, files) against bare casting of its rays: one run, one thread.

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest tests/benchmarks/bench_synth.py
"""

from time import perf_counter

import numpy as np
import pytest

from fusionseg.data.synth.camera import mounted_camera, pixel_rays
from fusionseg.data.synth.lidar import Lidar
from fusionseg.data.synth.light import light_of
from fusionseg.data.synth.spec import SCENES, WEATHERS, Spec
from fusionseg.data.synth.world import World
from fusionseg.data.synth.write import FrameMaker

FRAMES = (3, 4, 5)


def bare_seconds(world, frame):
    """One ray a pixel, one shadow ray a hit, one ray a LiDAR step, against what stands still."""
    camera, camera_T_lidar = mounted_camera(world.spec)
    time_s = world.frame_time_s(frame)
    world_T_camera = world.world_T_lidar(np.array([time_s]))[0] @ np.linalg.inv(camera_T_lidar)
    directions = pixel_rays(camera).reshape(-1, 3) @ world_T_camera[:3, :3].T.astype(np.float32)
    eye = np.broadcast_to(world_T_camera[:3, 3].astype(np.float32), directions.shape)
    lidar = Lidar(world)
    sweep = lidar.rays(world.world_T_lidar(time_s + lidar.column_offset_s))
    began = perf_counter()
    hits = world.cast_statics(eye, directions)
    seen = hits.triangle >= 0
    points = eye[seen] + directions[seen] * hits.distance[seen, None]
    # where there is no sun the shadow ray goes to the sky; one direction for all is the cheapest there is
    sun = np.broadcast_to(light_of(world.spec).sun_direction, points.shape)
    world.cast_statics(points + 0.02 * sun, sun)
    world.cast_statics(*sweep)
    return perf_counter() - began


@pytest.mark.parametrize(
    ("scene", "weather"), [*(("urban", weather) for weather in WEATHERS), *((scene, "clear") for scene in SCENES[1:])]
)
def test_a_frame_costs_at_most_five_times_its_rays(scene, weather, tmp_path):
    spec = Spec(scene=scene, weather=weather, frames=10, seed=1)
    world, maker = World(spec, threads=1), FrameMaker(spec, tmp_path, threads=1)
    maker.make(0)
    bare, whole = [], []
    for frame in FRAMES:
        bare.append(bare_seconds(world, frame))
        began = perf_counter()
        maker.make(frame)
        whole.append(perf_counter() - began)
    name, ratio = f"{scene} {weather}", min(whole) / min(bare)
    print(f"\n{name}: rays {1e3 * min(bare):.0f} ms, frame {1e3 * min(whole):.0f} ms, {ratio:.1f}x")
    assert min(whole) <= 5 * min(bare)
