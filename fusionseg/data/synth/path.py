"""A smooth road centre line: (s along, t to the left) to world coordinates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Path:
    """A centre line sampled every metre.

    Attributes:
        s: (N,) metres along.
        x, y, z: (N,) metres in the world.
        yaw: (N,) heading, radians.
    """

    s: Floats
    x: Floats
    y: Floats
    z: Floats
    yaw: Floats

    def points(self, s: Floats | float, t: Floats | float, height: Floats | float = 0.0) -> Floats:
        """World points (..., 3) at ``s`` metres along, ``t`` to the left and ``height`` above the road."""
        s, t, height = np.broadcast_arrays(
            np.asarray(s, np.float64), np.asarray(t, np.float64), np.asarray(height, np.float64)
        )
        yaw = np.interp(s, self.s, self.yaw)
        x = np.interp(s, self.s, self.x) - t * np.sin(yaw)
        y = np.interp(s, self.s, self.y) + t * np.cos(yaw)
        return np.stack([x, y, np.interp(s, self.s, self.z) + height], axis=-1)

    def heading(self, s: float) -> float:
        """Radians, counter-clockwise from the world's x."""
        return float(np.interp(s, self.s, self.yaw))

    def grade(self, s: float) -> float:
        """Rise per metre."""
        return float(np.interp(s + 1.0, self.s, self.z) - np.interp(s - 1.0, self.s, self.z)) / 2


def curved(start: float, end: float, bend: float, bend_m: float, rise_m: float, rise_every_m: float) -> Path:
    """A road that swings by ``bend`` radians every ``bend_m`` and rises and falls by ``rise_m``."""
    s = np.arange(np.floor(start), np.ceil(end) + 1.0)
    yaw = bend * np.sin(2 * np.pi * s / bend_m)
    zero = int(np.searchsorted(s, 0.0))
    x = np.concatenate([[0.0], np.cumsum(np.cos((yaw[1:] + yaw[:-1]) / 2))])
    y = np.concatenate([[0.0], np.cumsum(np.sin((yaw[1:] + yaw[:-1]) / 2))])
    z = rise_m * (1 - np.cos(2 * np.pi * s / rise_every_m)) / 2
    return Path(s, x - x[zero], y - y[zero], z, yaw)


def crossing(centre: Floats, yaw: float, reach_m: float) -> Path:
    """A straight level road through a point; s = 0 there."""
    s = np.arange(-np.ceil(reach_m), np.ceil(reach_m) + 1.0)
    return Path(
        s, centre[0] + s * np.cos(yaw), centre[1] + s * np.sin(yaw), np.full_like(s, centre[2]), np.full_like(s, yaw)
    )
