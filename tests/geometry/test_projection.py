"""Projection, rasters, occlusion and labels carried both ways."""

import warnings

import cv2
import numpy as np
import pytest

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.projection import (
    cells,
    in_view,
    labels_from_cells,
    labels_to_cells,
    nearest_per_cell,
    project,
)
from fusionseg.geometry.transform import invert, make_transform, rotation_from_quaternion, transform_points

AHEAD = make_transform([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0, 0, 0])  # camera at the LiDAR, looking forward
CAMERA = Camera.from_focal(101, 61, 50.0, 50.0, 50.0, 30.0)
MODELS = {
    "pinhole": Camera(641, 377, np.array([[420.0, 0, 311.3], [0, 433, 190.8], [0, 0, 1]])),
    "skew": Camera(641, 377, np.array([[420.0, 4, 311.3], [0, 433, 190.8], [0, 0, 1]])),
    "brown": Camera(
        641, 377, np.array([[420.0, 0, 311.3], [0, 433, 190.8], [0, 0, 1]]), "pinhole", [-0.3, 0.09, 0.0007, -0.0011]
    ),
    "fisheye": Camera(
        641, 377, np.array([[220.0, 0, 311.3], [0, 221, 190.8], [0, 0, 1]]), "fisheye", [-0.02, 0.005, -0.003, 0.0006]
    ),
}


def lidar(*xyz):
    return np.array([[*p, 0.5] for p in xyz], dtype=np.float32).reshape(-1, 4)


def cloud(count=20000, seed=0):
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(count, 3)) * [30, 30, 8]
    return np.concatenate([xyz, rng.random((count, 1))], axis=1).astype(np.float32)


def mount(seed=3):
    """A camera looking about forward from somewhere near the LiDAR."""
    rng = np.random.default_rng(seed)
    wobble = make_transform(rotation_from_quaternion([1, *rng.normal(size=3) * 0.05]), rng.normal(size=3) * 0.4)
    return wobble @ AHEAD


class TestProject:
    def test_by_hand(self):
        points = lidar([10, 0, 0], [10, 4, 0], [10, 0, -4], [-10, 0, 0], [0.4, 0, 0], [10, 11, 0], [0.6, 0, 0])
        projection = project(points, CAMERA, AHEAD)
        assert projection.index.tolist() == [0, 1, 2, 6]
        assert projection.index.dtype == np.int32
        assert projection.uv.tolist() == [[50, 30], [30, 30], [50, 50], [50, 30]]
        assert projection.depth == pytest.approx([10, 10, 10, 0.6])
        assert projection.points_camera[1] == pytest.approx([-4, 0, 10])

    def test_the_image_border_is_half_a_pixel_outside_the_outer_centres(self):
        def at(u, v):
            return [10, (50 - u) / 5, (30 - v) / 5]

        points = lidar(at(-0.49, 0), at(-0.51, 0), at(100.49, 60.49), at(100.51, 60), at(100, 60.51), at(3, -0.51))
        assert project(points, CAMERA, AHEAD).index.tolist() == [0, 2]
        assert in_view(np.array([[-0.5, -0.5], [100.5, 0], [0, 60.5]]), 101, 61).tolist() == [True, False, False]

    @pytest.mark.parametrize("name", MODELS)
    def test_agrees_with_opencv_on_every_point(self, name):
        camera, matrix, points = MODELS[name], mount(), cloud()
        projection = project(points, camera, matrix)
        points_camera = transform_points(matrix, points.astype(np.float64))
        ahead = np.flatnonzero(
            (points_camera[:, 2] > 0.5)
            & (np.hypot(*points_camera[:, :2].T) < camera.distortion_limit() * points_camera[:, 2])
        )
        chosen = points_camera[ahead].reshape(-1, 1, 3)
        if name == "fisheye":
            uv, _ = cv2.fisheye.projectPoints(chosen, np.zeros((3, 1)), np.zeros((3, 1)), camera.K, camera.distortion)
        elif name == "skew":  # which cv2.projectPoints ignores
            uv = (chosen @ camera.K.T)[..., :2] / chosen[..., 2:]
        else:
            uv, _ = cv2.projectPoints(chosen, np.zeros(3), np.zeros(3), camera.K, np.pad(camera.distortion, (0, 4))[:4])
        uv = uv.reshape(-1, 2)
        inside = in_view(uv, camera.width, camera.height)
        border = np.abs(uv - [320, 188]) - [320.5, 188.5]
        clear = np.abs(border).min(axis=1) > 0.02  # within that of the border rounding may decide
        assert inside.sum() > 500
        assert np.isin(ahead[inside & clear], projection.index).all()
        assert not np.isin(ahead[~inside & clear], projection.index).any()
        assert np.isin(projection.index, ahead).all()
        expected = dict(zip(ahead.tolist(), uv, strict=True))
        assert np.abs(projection.uv - [expected[i] for i in projection.index.tolist()]).max() < 0.01
        assert np.abs(projection.points_camera - points_camera[projection.index]).max() < 1e-4

    def test_back_through_the_inverse_gives_the_sweep(self):
        points = cloud()
        projection = project(points, MODELS["brown"], mount())
        back = transform_points(invert(mount()), projection.points_camera)
        assert np.abs(back - points[projection.index, :3]).max() < 1e-4
        assert np.all(np.diff(projection.index) > 0)

    @pytest.mark.parametrize("name", MODELS)
    def test_no_points(self, name):
        projection = project(np.zeros((0, 4), np.float32), MODELS[name], AHEAD)
        assert (projection.index.shape, projection.uv.shape, projection.points_camera.shape) == ((0,), (0, 2), (0, 3))
        assert project(lidar([-5, 0, 0], [-8, 1, 1]), MODELS[name], AHEAD).index.shape == (0,)

    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize("matrix", [AHEAD, mount()], ids=["ahead", "mounted"])
    def test_coordinates_that_are_not_finite_are_left_out_without_a_warning(self, name, matrix):
        good = [12.0, 0.2, -0.3]
        values = (np.nan, np.inf, -np.inf)
        bad = [[v if k == axis else c for k, c in enumerate(good)] for axis in range(3) for v in values]
        bad += [[np.inf] * 3, [np.nan] * 3, [3e38, 3e38, 3e38], [1e30, -1e38, 0]]
        points = lidar(*bad, good)
        points[-1, 3] = np.nan  # a strange intensity does not matter
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            projection = project(points, MODELS[name], matrix)
        assert projection.index[-1] == len(bad)
        assert np.isfinite(projection.uv).all()
        assert np.isfinite(projection.points_camera).all()
        assert not np.isin(projection.index, np.arange(11)).any()  # 11 and 12 are finite, if far away

    def test_distortion_does_not_fold_wide_points_back_into_the_image(self):
        camera = Camera(101, 61, CAMERA.K, "pinhole", [-0.3, 0, 0, 0])
        wide = lidar([10, 18.2, 0])  # x / z = 1.82: 1.82 * (1 - 0.3 * 3.31) = 0.01, the middle of the image
        assert camera.project(np.array([[-1.82, 0, 1]]))[0, 0] == pytest.approx(50, abs=1)
        assert len(project(wide, camera, AHEAD).index) == 0
        assert len(project(lidar([10, 4, 0]), camera, AHEAD).index) == 1

    @pytest.mark.parametrize("size", [(320, 188), (97, 333)])
    def test_resize_crop_and_flip_keep_points_on_their_pixels(self, size):
        camera, matrix, points = MODELS["brown"], mount(), cloud()
        full = project(points, camera, matrix)
        resized = project(points, camera.resize(*size), matrix)
        assert resized.index.tolist() == full.index.tolist()
        assert np.abs(resized.uv - ((full.uv + 0.5) * [size[0] / 641, size[1] / 377] - 0.5)).max() < 0.01
        cropped = project(points, camera.crop(100, 50, 201, 99), matrix)
        inside = in_view(full.uv - [100, 50], 201, 99)
        assert cropped.index.tolist() == full.index[inside].tolist()
        assert np.abs(cropped.uv - (full.uv[inside] - [100, 50])).max() < 0.01
        mirror = np.diag([-1.0, 1, 1, 1])  # of the camera frame; the caller mirrors the points, as transforms.py does
        mirrored_lidar = np.diag([1.0, -1, 1, 1])
        flipped = project(points * np.float32([1, -1, 1, 1]), camera.flip(), mirror @ matrix @ mirrored_lidar)
        assert flipped.index.tolist() == full.index.tolist()
        assert np.abs(flipped.uv - np.stack([640 - full.uv[:, 0], full.uv[:, 1]], axis=1)).max() < 0.01


class TestRaster:
    def test_cells_by_hand(self):
        uv = np.array([[-0.5, -0.5], [3.49, 0], [3.5, 0], [100.4, 60.4], [0, 59.6]], dtype=np.float32)
        assert cells(uv, 101, 61, 4).tolist() == [0, 0, 1, 15 * 26 + 25, 15 * 26]
        assert cells(uv, 101, 61, 1).tolist() == [0, 3, 4, 60 * 101 + 100, 60 * 101]

    @pytest.mark.parametrize("stride", [1, 3, 4, 7])
    @pytest.mark.parametrize("size", [(101, 61), (64, 33), (5, 3)])
    def test_nearest_point_of_every_cell_as_a_plain_loop_finds_it(self, stride, size):
        rng = np.random.default_rng(stride)
        uv = (rng.random((3000, 2)) * size - 0.5).astype(np.float32)
        depth = rng.choice(np.arange(1, 40, dtype=np.float32), 3000)  # many equal depths
        columns, rows = -(-size[0] // stride), -(-size[1] // stride)
        expected = np.full(rows * columns, -1)
        for i, (u, v) in enumerate(uv.astype(np.float64)):
            k = int((v + 0.5) // stride) * columns + int((u + 0.5) // stride)
            if expected[k] < 0 or depth[i] < depth[expected[k]]:
                expected[k] = i
        nearest = nearest_per_cell(cells(uv, *size, stride), depth, rows * columns)
        assert nearest.dtype == np.int32
        assert nearest.tolist() == expected.tolist()

    def test_order_of_the_points_does_not_choose_the_depth(self):
        uv = np.tile(np.array([[10.0, 10.0]], np.float32), (5, 1))
        depth = np.array([5, 2, 9, 2, 7], np.float32)
        assert nearest_per_cell(cells(uv, 101, 61, 4), depth, 16 * 26)[2 * 26 + 2] == 1
        assert nearest_per_cell(cells(uv, 101, 61, 4), depth[::-1].copy(), 16 * 26)[2 * 26 + 2] == 1

    def test_depths_of_another_dtype_are_taken(self):
        assert nearest_per_cell(np.array([0, 0, 1]), np.array([0.3, 0.1, 0.7]), 3).tolist() == [1, 2, -1]
        assert nearest_per_cell(np.array([0, 0]), np.array([3, 2]), 1).tolist() == [1]

    def test_no_points_no_cells(self):
        empty = np.zeros(0, np.float32)
        assert nearest_per_cell(cells(np.zeros((0, 2), np.float32), 9, 9, 4), empty, 9).tolist() == [-1] * 9


class TestLabels:
    def test_point_labels_onto_pixels_and_cells(self):
        points = lidar([10, 0, 0], [5, 0, 0], [-5, 0, 0], [10, 4, 0], [10, -0.2, 0])
        labels = np.array([1, 2, 3, 4, 5], np.uint8)
        projection = project(points, CAMERA, AHEAD)
        pixels = labels_to_cells(labels, projection, 101, 61)
        assert pixels.shape == (61, 101)
        assert (pixels[30, 50], pixels[30, 30], pixels[30, 51]) == (2, 4, 5)
        assert (pixels != 255).sum() == 3
        coarse = labels_to_cells(labels, projection, 101, 61, stride=4)
        assert coarse.shape == (16, 26)
        assert (coarse[7, 12], coarse[7, 7]) == (2, 4)
        assert (coarse != 255).sum() == 2

    def test_pixel_labels_onto_points(self):
        points = lidar([10, 0, 0], [-5, 0, 0], [10, 4, 0])
        projection = project(points, CAMERA, AHEAD)
        raster = np.zeros((61, 101), np.uint8)
        raster[30, 50], raster[30, 30] = 7, 9
        assert labels_from_cells(raster, projection, 101, 61, 3).tolist() == [7, 255, 9]
        coarse = np.arange(16 * 26, dtype=np.uint16).reshape(16, 26).astype(np.uint8)
        assert labels_from_cells(coarse, projection, 101, 61, 3, stride=4).tolist() == [
            (7 * 26 + 12) % 256,
            255,
            (7 * 26 + 7) % 256,
        ]

    def test_there_and_back_keeps_the_label_of_the_nearest(self):
        points = cloud()
        labels = np.random.default_rng(0).integers(0, 12, len(points)).astype(np.uint8)
        projection = project(points, MODELS["pinhole"], mount())
        back = labels_from_cells(labels_to_cells(labels, projection, 641, 377), projection, 641, 377, len(points))
        winners = nearest_per_cell(cells(projection.uv, 641, 377, 1), projection.depth, 641 * 377)
        winners = projection.index[winners[winners >= 0]]
        assert np.array_equal(back[winners], labels[winners])
        outside = np.setdiff1d(np.arange(len(points)), projection.index)
        assert (back[outside] == 255).all()

    def test_a_raster_of_another_size_is_refused(self):
        projection = project(lidar([10, 0, 0]), CAMERA, AHEAD)
        with pytest.raises(ValueError, match=r"\(61, 100\).*\(61, 101\)"):
            labels_from_cells(np.zeros((61, 100), np.uint8), projection, 101, 61, 1)
