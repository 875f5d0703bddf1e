"""Project and rasterise a 120k-point sweep into 1242x375, and all else that labelling does besides the network.

This package against plain NumPy where both do the same, in one run on one thread:

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest tests/benchmarks/bench_projection.py

Needs no data: the sweep is a synthetic HDL-64 one (64 lasers, 1875 azimuths, ground, walls and boxes).
"""

from time import perf_counter

import numpy as np
import pytest

from fusionseg.data.prepare import encode, project_sample, with_image
from fusionseg.deploy.result import ViewResult, merge_views
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.ground import fit_ground
from fusionseg.geometry.projection import cells, nearest_per_cell, project, visible
from fusionseg.geometry.transform import make_transform
from fusionseg.sample import Sample

WIDTH, HEIGHT = 1242, 375
CAMERA = Camera.from_focal(WIDTH, HEIGHT, 721.5, 721.5, 609.6, 172.9)
DISTORTED = Camera(WIDTH, HEIGHT, CAMERA.K, "pinhole", [-0.37, 0.2, 0.001, 0.0005, -0.07])
CAMERA_T_LIDAR = make_transform([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0.0, -0.08, -0.27])
STRIDES = (1, 4)
INPUT = (384, 1248)


@pytest.fixture(scope="module")
def sweep():
    """(120000, 4) float32 in the order of a spinning LiDAR's file: laser by laser."""
    rng = np.random.default_rng(0)
    elevation = np.deg2rad(np.linspace(2, -24.8, 64))[:, None]
    azimuth = np.deg2rad(np.linspace(-180, 180, 1875, endpoint=False))[None]
    ground = np.where(elevation < 0, 1.73 / np.maximum(np.tan(-elevation), 1e-3), np.inf)
    wall = 12.0 / np.maximum(np.abs(np.sin(azimuth)), 1e-3)
    boxes = 6.0 + 30.0 * rng.random(24)[((azimuth + np.pi) / (2 * np.pi) * 24).astype(int) % 24]
    r = np.minimum(np.minimum(ground, wall), np.where(elevation > np.deg2rad(-6), boxes, np.inf))
    r = np.minimum(r, 80.0) + rng.normal(0, 0.02, r.shape)
    xyz = np.stack([r * np.cos(azimuth), r * np.sin(azimuth), r * np.tan(elevation)], axis=-1).reshape(-1, 3)
    return np.concatenate([xyz, rng.random((len(xyz), 1))], axis=1).astype(np.float32)


def plain_numpy(points, camera, camera_T_lidar, stride):
    """The usual few lines: everything in float64, sorted by cell and from far to near, assigned in that order."""
    points_camera = points[:, :3].astype(np.float64) @ camera_T_lidar[:3, :3].T + camera_T_lidar[:3, 3]
    z = points_camera[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = ((points_camera @ camera.K.T)[:, :2] / z[:, None]).T
    inside = (z > 0.5) & (u >= -0.5) & (u < camera.width - 0.5) & (v >= -0.5) & (v < camera.height - 0.5)
    index = np.flatnonzero(inside)
    columns, rows = -(-camera.width // stride), -(-camera.height // stride)
    cell = ((v[index] + 0.5) // stride).astype(int) * columns + ((u[index] + 0.5) // stride).astype(int)
    order = np.lexsort((-z[index], cell))
    nearest = np.full(rows * columns, -1)
    nearest[cell[order]] = index[order]
    return nearest


def ours(points, camera, camera_T_lidar, stride):
    """The same answer from the package."""
    projection = project(points, camera, camera_T_lidar)
    count = -(-camera.height // stride) * -(-camera.width // stride)
    nearest = nearest_per_cell(cells(projection.uv, camera.width, camera.height, stride), projection.depth, count)
    filled = nearest >= 0
    nearest[filled] = projection.index[nearest[filled]]
    return nearest


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.benchmark(group="project and rasterise")
def test_plain_numpy(benchmark, sweep, stride):
    benchmark(plain_numpy, sweep, CAMERA, CAMERA_T_LIDAR, stride)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.benchmark(group="project and rasterise")
def test_fusionseg(benchmark, sweep, stride):
    nearest = benchmark(ours, sweep, CAMERA, CAMERA_T_LIDAR, stride)
    # float32 against float64 moves the odd point over a cell's edge; anything more would be a wrong answer fast.
    assert np.mean(nearest != plain_numpy(sweep, CAMERA, CAMERA_T_LIDAR, stride)) < 1e-3


@pytest.mark.benchmark(group="project and rasterise")
def test_fusionseg_distorted(benchmark, sweep):
    benchmark(ours, sweep, DISTORTED, CAMERA_T_LIDAR, 4)


@pytest.mark.benchmark(group="others")
def test_visible(benchmark, sweep):
    projection = project(sweep, CAMERA, CAMERA_T_LIDAR)
    benchmark(visible, projection.uv, projection.depth, WIDTH, HEIGHT)


@pytest.mark.benchmark(group="others")
def test_fit_ground(benchmark, sweep):
    assert benchmark(fit_ground, sweep).offset_m == pytest.approx(1.73, abs=0.05)


@pytest.fixture(scope="module")
def sample(sweep):
    """One view with an image of noise-free stripes: what it shows does not matter to the time."""
    image = np.tile(np.arange(WIDTH, dtype=np.uint8)[None, :, None], (HEIGHT, 1, 3))
    return Sample(
        log="bench",
        frame=0,
        camera_name="camera",
        camera=CAMERA,
        image=image,
        points_lidar=sweep,
        camera_T_lidar=CAMERA_T_LIDAR,
    )


def answer(view):
    """Classes as a network could give them."""
    rng = np.random.default_rng(0)
    count = len(view.index)
    pixels = rng.integers(0, 12, (INPUT[0] // 4, INPUT[1] // 4), dtype=np.uint8)
    return ViewResult(pixels, rng.integers(0, 12, count, dtype=np.uint8), rng.random(count, dtype=np.float32), INPUT)


@pytest.mark.benchmark(group="labelling without the network")
def test_project_stage(benchmark, sample):
    view = benchmark(lambda: project_sample(sample, INPUT, fit_ground(sample.points_lidar)))
    assert len(view.index) > 10_000


@pytest.mark.benchmark(group="labelling without the network")
def test_preprocess_stage(benchmark, sample):
    view = project_sample(sample, INPUT)
    inputs = benchmark(lambda: (with_image(view, sample), encode(view, 4))[1])
    assert inputs.raster.shape == (8, INPUT[0] // 4, INPUT[1] // 4)


@pytest.mark.benchmark(group="labelling without the network")
def test_postprocess_stage(benchmark, sample):
    view = project_sample(sample, INPUT)
    result = answer(view)
    count = len(sample.points_lidar)
    pixels, labels = benchmark(lambda: (result.pixels_at(HEIGHT, WIDTH), merge_views(count, [view.index], [result])))
    assert pixels.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(labels.points[view.index], result.points)


@pytest.mark.parametrize("stride", STRIDES)
def test_at_least_twice_as_fast(sweep, stride):
    """Interleaved runs, medians: what the other core does meanwhile hits both sides alike."""
    times = {plain_numpy: [], ours: []}
    for _ in range(40):
        for function, taken in times.items():
            start = perf_counter()
            function(sweep, CAMERA, CAMERA_T_LIDAR, stride)
            taken.append(perf_counter() - start)
    plain_s, ours_s = (float(np.median(taken)) for taken in times.values())
    ratio = plain_s / ours_s
    print(f"stride {stride}: plain NumPy {plain_s * 1e3:.2f} ms, fusionseg {ours_s * 1e3:.2f} ms, {ratio:.1f}x")
    assert ratio >= 2
