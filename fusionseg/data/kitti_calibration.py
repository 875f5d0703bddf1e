"""What the three KITTI layouts share: calibration files, numbered files, Velodyne sweeps.

KITTI (Geiger et al., CVPR 2012) gives projection matrices P of rectified cameras; P = K [I | t], t = inv(K) P[:, 3], so
t is folded into the extrinsics and K alone stays in the camera.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import read_floats
from fusionseg.data.log import FrameError
from fusionseg.geometry.transform import check_rigid, make_transform

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_calibration(path: Path) -> dict[str, NDArray[np.float64]]:
    """The rows ``key: numbers`` of a KITTI calibration file; rows that hold no numbers (dates) are left out.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: calibration file is missing; copy it from the data set")
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file; expected rows like 'P2: 12 numbers'") from error
    rows: dict[str, NDArray[np.float64]] = {}
    for line in lines:
        key, _, numbers = line.partition(":")
        try:
            rows[key.strip()] = np.array([float(number) for number in numbers.split()])
        except ValueError:
            continue
    return rows


def matrix(rows: dict[str, NDArray[np.float64]], key: str, shape: tuple[int, int], path: Path) -> NDArray[np.float64]:
    """One row as a matrix.

    Raises:
        ValueError: the key is missing, or has another number of values, or one that is not finite.
    """
    if key not in rows:
        raise ValueError(f"{path}: key {key!r} is missing; it has {', '.join(rows) or 'no rows of numbers'}")
    values = rows[key]
    if values.size != shape[0] * shape[1] or not np.all(np.isfinite(values)):
        raise ValueError(f"{path}: {key} has {values.size} values; expected {shape[0] * shape[1]} finite numbers")
    return values.reshape(shape)


def split_projection(P: NDArray[np.float64], path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``K (3, 3)`` and ``camera_T_rectified (4, 4)`` of a projection matrix (3, 4).

    Raises:
        ValueError: its left part cannot be the K of a pinhole camera.
    """
    K = P[:, :3]
    if K[0, 0] <= 0 or K[1, 1] <= 0 or np.abs(K[2] - [0, 0, 1]).max() > 1e-6:
        raise ValueError(f"{path}: projection matrix {P.tolist()} does not start with a pinhole K")
    return K, make_transform(np.eye(3), np.linalg.solve(K, P[:, 3]))


def velodyne_extrinsics(
    R_rect: NDArray[np.float64], camera_T_velodyne: NDArray[np.float64], path: Path
) -> NDArray[np.float64]:
    """``rectified_T_velodyne`` (4, 4) from the rectifying rotation (3, 3) and the (3, 4) transform of camera 0."""
    rectified_T_camera = check_rigid(make_transform(R_rect, np.zeros(3)), f"{path}: rectifying rotation")
    transform = make_transform(camera_T_velodyne[:, :3], camera_T_velodyne[:, 3])
    return rectified_T_camera @ check_rigid(transform, f"{path}: camera_T_velodyne")


def numbered_files(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Frame number -> file, for the files whose stem is a number; empty when there is no such folder."""
    if not folder.is_dir():
        return {}
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.stem.isdecimal())
    return {int(file.stem): file for file in files}


def read_velodyne(path: Path) -> NDArray[np.float32]:
    """(N, 4) x, y, z in metres and intensity in [0, 1]; KITTI's Velodyne frame is the LiDAR frame of a sample.

    Raises:
        FrameError: missing, empty or truncated, or of another format.
    """
    points = read_floats(path, 4)
    brightest = float(np.nanmax(points[:, 3]))
    if not -0.01 <= brightest <= 1.01:
        raise FrameError(f"{path}: intensity reaches {brightest:g}; KITTI's is 0 to 1, scale the file's fourth column")
    return points
