"""Rigid transforms as 4x4 matrices named ``dst_T_src``: ``points_dst = transform_points(dst_T_src, points_src)``.

Quaternions are (w, x, y, z), unit length, Hamilton convention. Every function takes leading batch dimensions.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating]
BLOCK = 16384
"""Points looked at together: few enough for the processor's cache, and for one thread in its matrix products."""


def rotation_from_quaternion(quaternion_wxyz: ArrayLike) -> NDArray[np.float64]:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) in w, x, y, z order; they are normalised first.

    Raises:
        ValueError: a quaternion is not finite or has no length.
    """
    q = np.asarray(quaternion_wxyz, dtype=np.float64)
    if q.shape[-1:] != (4,):
        raise ValueError(f"quaternion has shape {q.shape}; expected (..., 4) in w, x, y, z order")
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if not np.all(np.isfinite(norm)) or np.any(norm < 1e-9):
        raise ValueError(f"quaternion {q.tolist()} cannot be normalised; expected four finite numbers, not all zero")
    w, x, y, z = np.moveaxis(q / norm, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_rotation(rotation: ArrayLike) -> NDArray[np.float64]:
    """Unit quaternions (..., 4), w >= 0, of rotation matrices (..., 3, 3) (Bar-Itzhack 2000, stable everywhere)."""
    r = np.asarray(rotation, dtype=np.float64)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(r, (-2, -1), (0, 1))
    k = np.stack(
        [
            np.stack([xx - yy - zz, yx + xy, zx + xz, zy - yz], axis=-1),
            np.stack([yx + xy, yy - xx - zz, zy + yz, xz - zx], axis=-1),
            np.stack([zx + xz, zy + yz, zz - xx - yy, yx - xy], axis=-1),
            np.stack([zy - yz, xz - zx, yx - xy, xx + yy + zz], axis=-1),
        ],
        axis=-2,
    )
    vectors = np.linalg.eigh(k / 3.0)[1][..., -1]
    q = vectors[..., [3, 0, 1, 2]]
    return np.where(q[..., :1] < 0, -q, q)


def rotation_about_axis(axis: ArrayLike, angle_rad: float) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) by ``angle_rad`` about ``axis`` (3,), right-handed."""
    direction = np.asarray(axis, dtype=np.float64)
    direction = direction / np.linalg.norm(direction)
    half = 0.5 * angle_rad
    return rotation_from_quaternion(np.concatenate([[np.cos(half)], np.sin(half) * direction]))


def make_transform(rotation: ArrayLike, translation_m: ArrayLike) -> NDArray[np.float64]:
    """Matrices (..., 4, 4) from rotations (..., 3, 3) and translations (..., 3) in metres."""
    r = np.asarray(rotation, dtype=np.float64)
    t = np.asarray(translation_m, dtype=np.float64)
    matrix = np.zeros((*np.broadcast_shapes(r.shape[:-2], t.shape[:-1]), 4, 4))
    matrix[..., :3, :3] = r
    matrix[..., :3, 3] = t
    matrix[..., 3, 3] = 1.0
    return matrix


def invert(dst_T_src: ArrayLike) -> NDArray[np.float64]:
    """``src_T_dst`` (..., 4, 4) of rigid ``dst_T_src``: transposed rotation, no general inverse."""
    matrix = np.asarray(dst_T_src, dtype=np.float64)
    rotation_t = np.swapaxes(matrix[..., :3, :3], -1, -2)
    return make_transform(rotation_t, -(rotation_t @ matrix[..., :3, 3:])[..., 0])


def compose(first: ArrayLike, *others: ArrayLike) -> NDArray[np.float64]:
    """``a_T_b, b_T_c, c_T_d -> a_T_d`` (..., 4, 4)."""
    result = np.asarray(first, dtype=np.float64)
    for other in others:
        result = result @ np.asarray(other, dtype=np.float64)
    return result


def rotate(rotation: FloatArray, points: FloatArray) -> FloatArray:
    """Points (..., N, 3) turned by (..., 3, 3), both of one dtype.

    Block by block: OpenBLAS shares a larger product with a second thread, which then spins for 20 ms, on a core that a
    network could use.
    """
    count, turn = points.shape[-2], np.swapaxes(rotation, -1, -2)
    turned = np.empty((*np.broadcast_shapes(turn.shape[:-2], points.shape[:-2]), count, 3), dtype=points.dtype)
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK)
        np.matmul(points[..., block, :], turn, out=turned[..., block, :])
    return turned


def transform_points(dst_T_src: ArrayLike, points_src: FloatArray) -> FloatArray:
    """Points (..., N, 3 or more) in dst; only x, y, z are used, the dtype stays that of the points."""
    matrix = np.asarray(dst_T_src).astype(points_src.dtype, copy=False)
    moved = rotate(matrix[..., :3, :3], points_src[..., :3])
    moved += matrix[..., None, :3, 3]
    return moved


def check_rigid(dst_T_src: ArrayLike, name: str, tolerance: float = 1e-3) -> NDArray[np.float64]:
    """The matrix as float64 (4, 4), after checking that it is a rigid transform.

    Raises:
        ValueError: wrong shape, a number that is not finite, or a rotation part that is not orthonormal right-handed.
    """
    matrix = np.asarray(dst_T_src, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"{name} has shape {matrix.shape}; expected (4, 4)")
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"{name} holds numbers that are not finite; expected a rigid transform")
    rotation = matrix[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > tolerance or np.linalg.det(rotation) < 0:
        raise ValueError(f"{name}: its 3x3 part is no rotation (R R^T differs from I by over {tolerance}, or det < 0)")
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-9:
        raise ValueError(f"{name}: its last row is {matrix[3].tolist()}; expected 0 0 0 1")
    return matrix
