"""Rigid transforms: known answers, round trips, batches, bad input."""

import time

import numpy as np
import pytest

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.ground import fit_ground
from fusionseg.geometry.projection import project
from fusionseg.geometry.transform import (
    BLOCK,
    check_rigid,
    compose,
    invert,
    make_transform,
    quaternion_from_rotation,
    rotate,
    rotation_about_axis,
    rotation_from_quaternion,
    transform_points,
)

HALF = np.sqrt(0.5)


@pytest.mark.parametrize(
    ("quaternion", "moved"),
    [
        ([1, 0, 0, 0], [1, 2, 3]),
        ([HALF, 0, 0, HALF], [-2, 1, 3]),  # 90 degrees about z: x -> y
        ([HALF, HALF, 0, 0], [1, -3, 2]),  # 90 degrees about x: y -> z
        ([HALF, 0, HALF, 0], [3, 2, -1]),  # 90 degrees about y: z -> x
        ([0, 0, 0, 5], [-1, -2, 3]),  # 180 degrees about z, not normalised
    ],
)
def test_quaternions_turn_a_point_as_by_hand(quaternion, moved):
    assert rotation_from_quaternion(quaternion) @ [1, 2, 3] == pytest.approx(moved)


def test_quaternion_round_trip_everywhere():
    rng = np.random.default_rng(0)
    q = rng.normal(size=(500, 4))
    q[:4] = np.eye(4) + 1e-7 * rng.normal(size=(4, 4))  # half turns, where trace formulas break down
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    back = quaternion_from_rotation(rotation_from_quaternion(q))
    assert np.all(back[:, 0] >= 0)
    assert np.abs(np.sum(q * back, axis=1)) == pytest.approx(np.ones(500), abs=1e-9)  # q and -q are one rotation


def test_rotation_about_axis_is_right_handed():
    assert rotation_about_axis([0, 0, 2], np.pi / 2) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert rotation_about_axis([1, 1, 1], 2 * np.pi / 3) @ [1, 0, 0] == pytest.approx([0, 1, 0])


@pytest.mark.parametrize("quaternion", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 1], [1, 0, 0]])
def test_bad_quaternions_are_refused(quaternion):
    with pytest.raises(ValueError, match="quaternion"):
        rotation_from_quaternion(quaternion)


def random_transforms(count, seed=0):
    rng = np.random.default_rng(seed)
    return make_transform(rotation_from_quaternion(rng.normal(size=(count, 4))), rng.normal(size=(count, 3)) * 50)


def test_inverse_and_composition():
    a_T_b, b_T_c, c_T_d = random_transforms(3)
    assert compose(a_T_b, invert(a_T_b)) == pytest.approx(np.eye(4), abs=1e-12)
    assert invert(a_T_b) == pytest.approx(np.linalg.inv(a_T_b), abs=1e-10)
    points_d = np.random.default_rng(1).normal(size=(20, 3))
    stepwise = transform_points(a_T_b, transform_points(b_T_c, transform_points(c_T_d, points_d)))
    assert transform_points(compose(a_T_b, b_T_c, c_T_d), points_d) == pytest.approx(stepwise)
    assert np.allclose(invert(compose(a_T_b, b_T_c)), compose(invert(b_T_c), invert(a_T_b)))


def test_batches_equal_single_transforms():
    batch = random_transforms(5)
    points = np.random.default_rng(2).normal(size=(5, 7, 3))
    moved = transform_points(batch, points)
    assert moved.shape == (5, 7, 3)
    for one, matrix, inverse, own in zip(moved, batch, invert(batch), points, strict=True):
        assert one == pytest.approx(own @ matrix[:3, :3].T + matrix[:3, 3])
        assert inverse == pytest.approx(np.linalg.inv(matrix))


def test_points_by_hand_keep_their_dtype_and_lose_their_intensity():
    matrix = make_transform(rotation_about_axis([0, 0, 1], np.pi / 2), [10, 20, 30])
    points = np.array([[1, 2, 3, 0.5]], dtype=np.float32)
    moved = transform_points(matrix, points)
    assert moved.dtype == np.float32
    assert moved == pytest.approx(np.array([[8, 21, 33]]))
    assert transform_points(matrix, points[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(3), "shape"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.diag([2.0, 1, 1, 1]), "no rotation"),
        (np.diag([-1.0, 1, 1, 1]), "no rotation"),
        (np.eye(4) + np.outer([0, 0, 0, 1], [1, 0, 0, 0]), "last row"),
    ],
)
def test_what_is_not_rigid_is_refused_by_name(matrix, words):
    with pytest.raises(ValueError, match=f"camera_T_lidar.*{words}"):
        check_rigid(matrix, "camera_T_lidar")


@pytest.mark.parametrize("count", [0, 5, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_points_are_turned_block_by_block_as_at_once(count):
    rng = np.random.default_rng(count)
    points = rng.normal(size=(2, count, 4))
    turns = np.stack([np.eye(3), rotation_from_quaternion([HALF, 0, 0, HALF])])
    turned = rotate(turns, points[..., :3])
    np.testing.assert_allclose(turned[0], points[0, :, :3])
    x, y, z = points[1, :, :3].T
    np.testing.assert_allclose(turned[1], np.stack([-y, x, z], axis=1), atol=1e-12)


def test_no_other_thread_is_set_to_work():
    """A thread of OpenBLAS spins for 20 ms after every product it took part in, and takes the core from a network."""
    rng = np.random.default_rng(0)
    sweep = np.column_stack([rng.uniform(-40, 40, (120_000, 2)), rng.uniform(-2, 3, 120_000), rng.random(120_000)])
    sweep = sweep.astype(np.float32)
    camera = Camera.from_focal(1600, 900, 300, 300, 800, 450)
    pose = make_transform([[0, -1, 0], [0, 0, -1], [1, 0, 0]], [0, 0, 0])

    def work():
        assert len(project(transform_points(np.eye(4), sweep), camera, pose).index) > 40_000
        fit_ground(sweep)

    def others_s():
        before, mine = time.process_time(), time.thread_time()
        work()
        time.sleep(0.03)
        return time.process_time() - before - (time.thread_time() - mine)

    work()
    # the least: threads of other tests may still be winding down
    assert min(others_s() for _ in range(5)) < 0.005
