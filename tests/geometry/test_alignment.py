import numpy as np
import pytest
from scene import View, picture, sweep

from fusionseg.geometry.alignment import AXES, CURVE_DEG, align, edge_view, rotation_from_degrees
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.depth_edges import depth_edges
from fusionseg.geometry.transform import make_transform

VIEW = View(480, 300)
CAMERA = Camera(VIEW.width, VIEW.height, VIEW.K)


@pytest.fixture(scope="module")
def frames():
    """Images of a ray-cast street and the depth edges of a fine sweep of it."""
    found = []
    for frame in (0, 4, 8):
        points = sweep(frame, rows=100, columns=1440)[0]
        edges = depth_edges(points)
        found.append((picture(frame, VIEW)[0], points[edges.sides], points[edges.rims]))
    return found


def aligned(frames, turn_deg=(0.0, 0.0, 0.0)):
    wrong = make_transform(rotation_from_degrees(np.array(turn_deg)), np.zeros(3)) @ VIEW.camera_T_lidar
    return align([edge_view(image, CAMERA, wrong, sides, rims) for image, sides, rims in frames])


@pytest.fixture(scope="module")
def true(frames):
    return aligned(frames)


def test_the_true_calibration_is_at_the_optimum(true):
    assert np.abs(true.turn_deg).max() < 0.3
    assert true.lost < 0.2 and true.peak > 0.3
    assert true.away < true.given <= true.best + 1e-9


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("angle", [-1.0, 1.0])
def test_a_turned_camera_is_found_with_axis_and_angle(frames, true, axis, angle):
    turn = np.where(np.arange(3) == axis, angle, 0.0)
    found = aligned(frames, turn)
    assert np.abs(found.turn_deg + turn - true.turn_deg).max() < 0.2  # the turn back
    assert found.lost > 0.25 and found.sure > 2 and found.sure_of_axes[axis] > 2
    curve = np.array(found.curves[AXES[axis]])
    assert abs(CURVE_DEG[int(curve.argmax())] + angle) <= 0.5


def test_an_image_of_elsewhere_aligns_with_nothing(frames):
    image = np.random.default_rng(0).integers(0, 255, (VIEW.height, VIEW.width, 3), dtype=np.uint8)
    assert aligned([(image, sides, rims) for _, sides, rims in frames]).peak < 0.1


def test_without_edges_in_view_there_is_no_answer(frames):
    image = frames[0][0]
    behind = np.array([[-10.0, 0.0, 0.0, 0.5]], dtype=np.float32)
    assert aligned([(image, behind, behind)]) is None
    assert align([]) is None
