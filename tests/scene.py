"""A tiny world that a camera and a LiDAR both see exactly: a street with boxes, ray-cast, labels true."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SENSOR_HEIGHT_M = 1.7
STEP_M = 0.5
FAR_M = 80.0

# class of driving12 by name, RGB
COLOURS = {
    "road": (60, 60, 65),
    "sidewalk": (200, 150, 200),
    "terrain": (120, 200, 90),
    "building": (150, 90, 60),
    "vegetation": (20, 110, 30),
    "sky": (150, 190, 240),
    "car": (20, 30, 210),
}
NAMES = tuple(COLOURS)
SKY = NAMES.index("sky")

# centre x, y, then length, width, height in metres and the class; the world is x forward, y left, z up from the road
BOXES = (
    (12.0, 2.0, 4.0, 2.0, 1.8, "car"),
    (18.0, -2.5, 4.0, 2.0, 1.8, "car"),
    (-10.0, 1.5, 4.0, 2.0, 1.8, "car"),
    (15.0, 14.0, 30.0, 4.0, 9.0, "building"),
    (-15.0, -14.0, 30.0, 4.0, 9.0, "building"),
    (9.0, -6.5, 2.0, 2.0, 4.0, "vegetation"),
    (-6.0, 7.0, 2.0, 2.0, 4.0, "vegetation"),
)
AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
"""Rotation from x forward, y left, z up to a camera's x right, y down, z forward."""


@dataclass(frozen=True)
class View:
    """A pinhole camera at the LiDAR's place but for an offset, turned left by ``yaw_rad``."""

    width: int
    height: int
    yaw_rad: float = 0.0

    @property
    def K(self) -> NDArray[np.float64]:
        focal = 0.5 * self.width
        return np.array([[focal, 0, 0.5 * (self.width - 1)], [0, focal, 0.5 * (self.height - 1)], [0, 0, 1.0]])

    @property
    def camera_T_lidar(self) -> NDArray[np.float64]:
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])
        matrix = np.eye(4)
        matrix[:3, :3] = AXES @ turn
        matrix[:3, 3] = -matrix[:3, :3] @ (0.2, 0.0, -0.1)
        return matrix


def _cast(origin: NDArray[np.float64], rays: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance along each unit ray (N, 3) in the world, inf for the sky, and the index into ``NAMES``."""
    distance = np.full(len(rays), np.inf)
    hit = np.full(len(rays), SKY)
    with np.errstate(divide="ignore", invalid="ignore"):
        down = np.where(rays[:, 2] < 0, -origin[2] / rays[:, 2], np.inf)
        seen = down < FAR_M
        side = np.abs(np.where(seen, origin[1] + down * rays[:, 1], 0.0))
        distance[seen] = down[seen]
        ground = np.select([side < 4, side < 6], [NAMES.index("road"), NAMES.index("sidewalk")], NAMES.index("terrain"))
        hit[seen] = ground[seen]
        for x, y, length, width, height, name in BOXES:
            low = np.array([x - length / 2, y - width / 2, 0.0])
            high = np.array([x + length / 2, y + width / 2, height])
            a, b = (low - origin) / rays, (high - origin) / rays
            near, far = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
            closer = (near > 0) & (near <= far) & (near < np.minimum(distance, FAR_M))
            distance[closer] = near[closer]
            hit[closer] = NAMES.index(name)
    return distance, hit


def _place(frame: float) -> NDArray[np.float64]:
    return np.array([frame * STEP_M, 0.0, SENSOR_HEIGHT_M])


def sweep(frame: int, rows: int = 24, columns: int = 240) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points (N, 4) in the LiDAR frame (x, y, z, intensity in [0, 1]) and their index into ``NAMES``."""
    elevation, azimuth = np.meshgrid(
        np.radians(np.linspace(-24, 6, rows)), np.linspace(-np.pi, np.pi, columns, endpoint=False), indexing="ij"
    )
    level = np.cos(elevation)
    rays = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], axis=-1).reshape(-1, 3)
    distance, hit = _cast(_place(frame), rays)
    back = np.isfinite(distance)
    points = np.empty((int(back.sum()), 4), dtype=np.float32)
    points[:, :3] = rays[back] * distance[back, None]
    points[:, 3] = (hit[back] + 1) / (len(NAMES) + 1)
    return points, hit[back]


def picture(frame: float, view: View) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Image (H, W, 3) RGB and the index into ``NAMES`` of each pixel; half a frame is halfway to the next."""
    v, u = np.mgrid[: view.height, : view.width]
    rays_camera = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3) @ np.linalg.inv(view.K).T
    rays_camera /= np.linalg.norm(rays_camera, axis=1, keepdims=True)
    matrix = view.camera_T_lidar
    origin = _place(frame) - matrix[:3, :3].T @ matrix[:3, 3]
    hit = _cast(origin, rays_camera @ matrix[:3, :3])[1].reshape(view.height, view.width)
    noise = np.random.default_rng(int(frame)).normal(0, 4, (*hit.shape, 3))
    image = np.array(list(COLOURS.values()))[hit] + noise
    return np.clip(image, 0, 255).astype(np.uint8), hit
