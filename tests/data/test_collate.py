"""Views to tensors: padding, absent sensors, subsets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fusionseg.config import ModelConfig
from fusionseg.data.collate import collate
from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS, View, encode
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.projection import in_view
from fusionseg.models.build import build_model

H, W = 40, 56


def make_view(count: int, seed: int = 0) -> View:
    rng = np.random.default_rng(seed)
    camera = Camera(W, H, np.array([[40.0, 0, 27.5], [0, 40, 19.5], [0, 0, 1]]))
    points = np.column_stack([rng.uniform(-2, 2, (4 * count, 2)), rng.uniform(3, 9, 4 * count)]).astype(np.float32)
    points = points[in_view(camera.project(points), W, H)][:count]
    assert len(points) == count
    return View(
        log="t",
        frame=0,
        camera_name="c",
        camera=camera,
        image=rng.integers(1, 255, (H, W, 3)).astype(np.uint8),
        index=np.arange(count, dtype=np.int32),
        points_camera=points,
        uv=camera.project(points),
        height_m=np.ones(count, np.float32),
        intensity=rng.uniform(0, 1, count).astype(np.float32),
        visible=np.ones(count, bool),
        supervised=np.arange(count) % 2 == 0,
        labels=rng.integers(0, 12, count).astype(np.uint8),
    )


def test_values_land_and_padding_is_inert() -> None:
    views = [make_view(30), make_view(50, 1)]
    batch = collate(views, 4)
    assert len(batch) == 2 and batch.points.shape[:2] == (2, 50)
    np.testing.assert_array_equal(batch.image[1].permute(1, 2, 0), views[1].image)
    np.testing.assert_array_equal(batch.lidar[0], encode(views[0], 4).raster)
    np.testing.assert_array_equal(batch.point_labels[0, :30], views[0].labels)
    assert (batch.point_labels[0, 30:] == 255).all() and (batch.cell[0, 30:] == -1).all()
    assert not batch.points[0, 30:].any() and not batch.supervised[0, 30:].any() and not batch.visible[0, 30:].any()
    np.testing.assert_array_equal(batch.supervised[1], views[1].supervised)
    assert (batch.pixel_labels == 255).all() and batch.pixel_labels.shape == (2, 10, 14)
    assert batch.present.tolist() == [[1, 1], [1, 1]] and batch.lidar.shape[1] == len(RASTER_CHANNELS)


def test_absent_sensors_are_zero_and_said_so() -> None:
    base = make_view(30)
    nothing = {n: getattr(base, n)[:0] for n in ("index", "points_camera", "uv", "height_m", "intensity", "visible")}
    camera_only = replace(base, lidar_present=False)
    empty = replace(base, **nothing, supervised=base.supervised[:0], labels=base.labels[:0])
    batch = collate([base, camera_only, replace(base, image=None), empty], 4)
    assert batch.present.tolist() == [[1, 1], [1, 0], [0, 1], [1, 0]]
    assert batch.lidar[0].any() and not batch.lidar[1].any() and batch.lidar[2].any() and not batch.lidar[3].any()
    assert not batch.image[2].any() and batch.image[1].any()
    # without LiDAR the points stay as places to label
    np.testing.assert_array_equal(batch.cell[1], batch.cell[0])
    np.testing.assert_array_equal(batch.point_labels[1], base.labels)


def test_a_subset_keeps_rows_together_and_rasters_whole() -> None:
    view = make_view(50)
    batch = collate([view, make_view(10)], 4, 20, np.random.default_rng(3))
    whole = collate([view], 4)
    assert batch.points.shape[1] == 20
    np.testing.assert_array_equal(batch.lidar[0], whole.lidar[0])
    rows = [int((whole.points[0] == p).all(dim=1).nonzero()[0]) for p in batch.points[0]]
    assert rows == sorted(set(rows))
    np.testing.assert_array_equal(batch.point_labels[0], whole.point_labels[0, rows])
    np.testing.assert_array_equal(batch.cell[0], whole.cell[0, rows])
    again = collate([view], 4, 20, np.random.default_rng(3))
    assert torch.equal(again.points[0], batch.points[0])


def test_a_finer_raster_leaves_cells_on_the_grid_of_the_logits() -> None:
    views = [replace(make_view(50), pixel_labels=np.full((H, W), 3, np.uint8))]
    fine, coarse = collate(views, 2), collate(views, 4)
    assert fine.lidar.shape[2:] == (20, 28) and coarse.lidar.shape[2:] == (10, 14)
    assert torch.equal(fine.cell, coarse.cell) and torch.equal(fine.pixel_labels, coarse.pixel_labels)
    config = ModelConfig(raster_stride=2)
    model = build_model(config, classes=12, raster_channels=len(RASTER_CHANNELS), point_features=len(POINT_FEATURES))
    output = model.eval()(fine.image, fine.lidar, fine.present, fine.points, fine.cell)
    assert output.pixels.shape[2:] == fine.pixel_labels.shape[1:] and torch.isfinite(output.points).all()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no views"):
        collate([], 4)
    small = make_view(10)
    with pytest.raises(ValueError, match="one batch"):
        collate([small, replace(small, camera=small.camera.resize(W, H - 1), image=None)], 4)


def test_moving_to_a_device_keeps_everything() -> None:
    batch = collate([make_view(10)], 4)
    moved = batch.to("cpu")
    assert torch.equal(moved.points, batch.points) and torch.equal(moved.present, batch.present)
