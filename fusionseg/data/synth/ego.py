"""How the ego vehicle moves."""

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.synth.layout import Layout
from fusionseg.data.synth.spec import Spec

LIDAR_HEIGHT_M = 1.73


class Ego:
    """The ego vehicle of a layout."""

    def __init__(self, spec: Spec, layout: Layout) -> None:
        self.layout = layout
        rng = spec.rng("actors", 9)
        self._sway = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.5, 1.3, 4)

    def world_T_lidar(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 4, 4) poses of the LiDAR at times (N,): along the path, with a little sway on the springs."""
        path = self.layout.path
        s = self.layout.ego_s + self.layout.ego_speed_mps * time_s
        (a, b, c, d), (fa, fb, fc, fd) = self._sway
        pitch = np.deg2rad(0.25) * np.sin(2 * np.pi * fa * time_s + a) + np.deg2rad(0.15) * np.sin(9 * fb * time_s + b)
        roll = np.deg2rad(0.3) * np.sin(2 * np.pi * fc * time_s + c)
        heave = 0.015 * np.sin(2 * np.pi * fd * time_s + d)
        pitch = pitch - np.arctan((np.interp(s + 1.2, path.s, path.z) - np.interp(s - 1.2, path.s, path.z)) / 2.4)
        yaw = np.interp(s, path.s, path.yaw)
        poses = np.zeros((len(s), 4, 4))
        poses[:, :3, :3] = _yaw_pitch_roll(yaw, pitch, roll)
        poses[:, :3, 3] = path.points(s, self.layout.ego_t, LIDAR_HEIGHT_M + heave)
        poses[:, 3, 3] = 1.0
        return poses


def _yaw_pitch_roll(
    yaw: NDArray[np.float64], pitch: NDArray[np.float64], roll: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, 3, 3) of Rz(yaw) Ry(pitch) Rx(roll); positive pitch looks down."""
    (sy, cy), (sp, cp), (sr, cr) = ((np.sin(a), np.cos(a)) for a in (yaw, pitch, roll))
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
