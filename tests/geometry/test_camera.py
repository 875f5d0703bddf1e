"""Camera models against OpenCV and by hand; resize, crop and flip keep points on their pixels."""

import cv2
import numpy as np
import pytest

from fusionseg.geometry.camera import Camera, camera_from_dict

BROWN = {
    "none": [],
    "k1 k2 p1 p2": [-0.30, 0.09, 0.0007, -0.0011],
    "with k3": [-0.36, 0.17, 0.0012, -0.0005, -0.04],
    "rational": [0.4, -0.2, 0.0003, 0.0002, 0.05, 0.7, -0.1, 0.02],
}
FISHEYE = [-0.02, 0.005, -0.003, 0.0006]


def pinhole(distortion=(), width=641, height=377, skew=0.0):
    return Camera(width, height, np.array([[420.0, skew, 311.3], [0, 433.0, 190.8], [0, 0, 1]]), "pinhole", distortion)


def fisheye(width=641, height=377):
    return Camera(width, height, np.array([[220.0, 0, 311.3], [0, 221.0, 190.8], [0, 0, 1]]), "fisheye", FISHEYE)


def cone(tangent, count=400, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.uniform(1, 60, count)
    return np.stack([rng.uniform(-tangent, tangent, count) * z, rng.uniform(-tangent, tangent, count) * z, z], axis=1)


@pytest.mark.parametrize("name", BROWN)
def test_pinhole_agrees_with_opencv(name):
    camera = pinhole(BROWN[name])
    points = cone(0.6)
    expected, _ = cv2.projectPoints(
        points.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), camera.K, np.array(BROWN[name] or [0.0] * 4)
    )
    assert np.abs(camera.project(points) - expected.reshape(-1, 2)).max() < 1e-6
    assert np.abs(camera.project(points.astype(np.float32)) - expected.reshape(-1, 2)).max() < 1e-2


def test_fisheye_agrees_with_opencv():
    camera = fisheye()
    points = np.concatenate([cone(3.0), [[0.0, 0.0, 5.0], [1e-9, 0.0, 1.0]]])
    expected, _ = cv2.fisheye.projectPoints(
        points.reshape(-1, 1, 3), np.zeros((3, 1)), np.zeros((3, 1)), camera.K, np.array(FISHEYE)
    )
    assert np.abs(camera.project(points) - expected.reshape(-1, 2)).max() < 1e-6


def test_pixels_by_hand():
    camera = Camera.from_focal(200, 100, 100.0, 50.0, 99.5, 49.5)
    points = np.array([[0, 0, 10], [1, 0, 10], [0, 1, 10], [-2, -4, 20.0]])
    assert camera.project(points).tolist() == [[99.5, 49.5], [109.5, 49.5], [99.5, 54.5], [89.5, 39.5]]
    skewed = Camera(200, 100, np.array([[100.0, 10, 99.5], [0, 50, 49.5], [0, 0, 1]]))
    assert skewed.project(np.array([[1, 2, 10.0]])).tolist() == [[99.5 + 10 + 2, 59.5]]
    equidistant = Camera(200, 100, camera.K, "fisheye", np.zeros(4))
    at_60 = equidistant.project(np.array([[np.sqrt(3.0), 0, 1]]))
    assert at_60[0] == pytest.approx([99.5 + 100 * np.pi / 3, 49.5])


def test_brown_conrady_by_hand():
    camera = Camera(200, 100, np.array([[100.0, 0, 0], [0, 100, 0], [0, 0, 1]]), "pinhole", [0.1, 0.01, 0.02, 0.03])
    # x = 1, y = 2, r2 = 5, radial = 1.75; tangential x: 2*.02*2 + .03*(5+2) = .29, y: .02*(5+8) + 2*.03*2 = .38
    assert camera.project(np.array([[1, 2, 1.0]]))[0] == pytest.approx([204.0, 388.0])


@pytest.mark.parametrize(
    "camera", [pinhole(), pinhole(BROWN["with k3"], skew=3.0), fisheye()], ids=["plain", "brown", "fisheye"]
)
class TestPointsStayOnTheirPixels:
    """What a changed image shows at a pixel is what its changed camera projects there."""

    @pytest.mark.parametrize("size", [(320, 188), (1282, 754), (97, 333), (641, 377), (1, 1)])
    def test_resize(self, camera, size):
        points = cone(0.5)
        uv = camera.project(points)
        resized = camera.resize(*size)
        assert (resized.width, resized.height) == size
        expected = (uv + 0.5) * [size[0] / 641, size[1] / 377] - 0.5
        assert resized.project(points) == pytest.approx(expected, abs=1e-9)

    def test_crop_also_outside_the_image(self, camera):
        points = cone(0.5)
        cropped = camera.crop(-7, 33, 255, 129)
        assert (cropped.width, cropped.height) == (255, 129)
        assert cropped.project(points) == pytest.approx(camera.project(points) - [-7, 33], abs=1e-9)

    def test_flip_sees_the_mirrored_points(self, camera):
        points = cone(0.5)
        u, v = camera.project(points).T
        mirrored = camera.flip().project(points * [-1, 1, 1])
        assert mirrored == pytest.approx(np.stack([640 - u, v], axis=1), abs=1e-9)
        assert np.allclose(camera.flip().flip().K, camera.K)

    def test_a_chain_of_changes(self, camera):
        points = cone(0.5)
        uv = camera.project(points)
        changed = camera.crop(11, 5, 400, 300).resize(200, 75).flip()
        expected = (uv - [11, 5] + 0.5) * [0.5, 0.25] - 0.5
        expected[:, 0] = 199 - expected[:, 0]
        assert changed.project(points * [-1, 1, 1]) == pytest.approx(expected, abs=1e-9)


def test_resize_moves_a_drawn_dot_as_the_image():
    image = np.zeros((60, 80), np.float32)
    image[24:28, 40:44] = 1.0  # centre of mass (41.5, 25.5)
    camera = Camera.from_focal(80, 60, 10.0, 10.0, 41.5, 25.5)
    small = cv2.resize(image, (20, 15), interpolation=cv2.INTER_AREA)
    rows, columns = np.nonzero(small > 0.5)
    uv = camera.resize(20, 15).project(np.array([[0, 0, 5.0]]))[0]
    assert uv == pytest.approx([columns.mean(), rows.mean()])


def test_the_limit_is_where_the_polynomial_turns():
    # r (1 - 0.3 r^2) grows up to r = 1 / sqrt(0.9)
    assert pinhole([-0.3, 0, 0, 0]).distortion_limit() == pytest.approx(1 / np.sqrt(0.9), rel=2e-3)
    assert pinhole([0.1, 0, 0, 0]).distortion_limit() == np.inf
    assert pinhole().distortion_limit() == np.inf
    # theta (1 - 0.4 theta^2) grows up to theta = 1 / sqrt(1.2)
    folding = Camera(100, 100, np.eye(3), "fisheye", [-0.4, 0, 0, 0])
    assert folding.distortion_limit() == pytest.approx(np.tan(1 / np.sqrt(1.2)), rel=2e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 10, np.eye(3)), "at least 1x1"),
        ((10, 10, np.eye(4)), "3x3"),
        ((10, 10, np.diag([np.nan, 1, 1])), "finite"),
        ((10, 10, np.diag([-1.0, 1, 1])), "positive"),
        ((10, 10, np.diag([1.0, 1, 2])), "expected"),
        ((10, 10, np.eye(3), "orthographic"), "choose one of"),
        ((10, 10, np.eye(3), "fisheye", [0.1]), "1 distortion coefficients"),
        ((10, 10, np.eye(3), "pinhole", [0.1, 0, 0]), "3 distortion coefficients"),
        ((10, 10, np.eye(3), "pinhole", [np.inf, 0, 0, 0]), "finite"),
    ],
)
def test_impossible_cameras_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Camera(*arguments)


def test_camera_from_dict():
    camera = camera_from_dict({"K": [100, 110, 50, 40], "size": [101, 81]}, "cam")
    assert camera.K.tolist() == [[100, 0, 50], [0, 110, 40], [0, 0, 1]]
    assert (camera.width, camera.height, camera.model) == (101, 81, "pinhole")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"size": [10, 10]}, "key 'K' is missing"),
        ({"K": [1, 1, 0, 0]}, "key 'size' is missing"),
        ({"K": [1, 1, 0, 0], "size": [10, 10], "distorsion": []}, "unknown key 'distorsion'"),
        ({"K": [1, 1, 0, 0], "size": [10]}, "values to unpack"),
        ({"K": "wide", "size": [10, 10]}, "could not convert"),
    ],
)
def test_bad_entries_name_the_key_and_the_place(entry, words):
    with pytest.raises(ValueError, match=f"calibration.yaml camera front: .*{words}"):
        camera_from_dict(entry, "calibration.yaml camera front")
