"""A spinning LiDAR: rays while the vehicle moves, echoes, noise, and the labels of what was hit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.synth import air, texture
from fusionseg.data.synth.classes import KITTI_IDS, MARKING_ID, OUTLIER, REFLECTANCE, Material
from fusionseg.data.synth.light import light_of
from fusionseg.data.synth.mesh import Floats, dot
from fusionseg.data.synth.spec import FRAME_S
from fusionseg.data.synth.world import Hits, World
from fusionseg.geometry.transform import invert

MAX_RANGE_M = 120.0
MIN_RANGE_M = 1.2
RANGE_NOISE_M = 0.02
_FLOOR = 1.4e-6
"""The weakest echo that is noticed half of the time: 10 % reflectance at about 120 m, and half at grazing angles."""
_PAINT_REFLECTANCE = 0.6
_GLASS_LOST = 0.75
_RANDOM_LOST = 0.01


@dataclass(frozen=True, eq=False)
class Model:
    """Elevations (B,) of the beams in degrees, top first, and steps per turn."""

    elevations_deg: NDArray[np.float64]
    steps: int


def _hdl64() -> NDArray[np.float64]:
    """Velodyne HDL-64E: 32 beams of a third of a degree each above 32 of half a degree."""
    return np.concatenate([np.linspace(2.0, -8.33, 32), np.linspace(-8.83, -24.33, 32)])


MODELS = {64: Model(_hdl64(), 2000), 32: Model(np.linspace(10.67, -30.67, 32), 1800)}


@dataclass(frozen=True, eq=False)
class Sweep:
    """One turn.

    Attributes:
        points: (N, 4) float32 x, y, z, intensity in the LiDAR frame.
        labels: (N,) uint32: SemanticKITTI id below, instance in the upper 16 bits.
        offset_s: (N,) float32 when each point was measured, relative to the middle of the turn.
    """

    points: Floats
    labels: NDArray[np.uint32]
    offset_s: Floats


class Lidar:
    """Sweeps of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.light = light_of(world.spec)
        model = MODELS[world.spec.beams]
        rng = world.spec.rng("lidar")
        beams = len(model.elevations_deg)
        elevation = np.deg2rad(model.elevations_deg + rng.normal(0, 0.03, beams))
        azimuth_shift = np.deg2rad(rng.uniform(-0.5, 0.5, beams))
        turn = np.arange(model.steps) / model.steps
        # clockwise from above; it looks straight back at both ends of the turn and ahead in the middle
        azimuth = np.pi - 2 * np.pi * turn[None, :] + azimuth_shift[:, None]
        flat = np.cos(elevation)[:, None]
        self.directions = np.stack(
            [
                flat * np.cos(azimuth),
                flat * np.sin(azimuth),
                np.broadcast_to(np.sin(elevation)[:, None], azimuth.shape),
            ],
            axis=-1,
        ).astype(np.float32)
        self.column_offset_s = (turn - 0.5) * FRAME_S
        self._shape = (beams, model.steps)

    def sweep(self, frame: int) -> Sweep:
        """The sweep of a frame, motion compensated or as measured as the spec says."""
        time_s = self.world.frame_time_s(frame)
        poses = self.world.world_T_lidar(time_s + self.column_offset_s)
        origins, directions = self.rays(poses)
        offset = np.broadcast_to(self.column_offset_s.astype(np.float32), self._shape).reshape(-1)
        slack_m = self.world.layout.ego_speed_mps * FRAME_S
        hits = self.world.cast(origins, directions, time_s, offset, slack_m)
        rng = self.world.spec.rng("lidar", frame + 1)
        range_m, intensity, labels = self._echoes(hits, directions, rng)
        kept = np.flatnonzero(range_m > 0)
        measured = self.directions.reshape(-1, 3)[kept] * range_m[kept, None]
        if self.world.spec.compensate:
            measured = self._compensate(measured, kept % self._shape[1], poses, time_s)
        points = np.column_stack([measured, intensity[kept]]).astype(np.float32)
        return Sweep(points, labels[kept], offset[kept])

    def rays(self, poses: NDArray[np.float64]) -> tuple[Floats, Floats]:
        """Origins and directions (beams x steps, 3) in the world; one pose (steps, 4, 4) for each step."""
        rotation = poses[:, :3, :3].astype(np.float32)
        directions = np.einsum("cij,bcj->bci", rotation, self.directions)
        origins = np.broadcast_to(poses[:, :3, 3].astype(np.float32), self.directions.shape)
        return origins.reshape(-1, 3), directions.reshape(-1, 3)

    def _compensate(
        self, measured: Floats, column: NDArray[np.intp], poses: NDArray[np.float64], time_s: float
    ) -> Floats:
        """Points as the sensor would have seen a standing world in the middle of the turn."""
        reference = self.world.world_T_lidar(np.array([time_s]))[0]
        moves = (invert(reference) @ poses).astype(np.float32)
        turned = np.einsum("nij,nj->ni", moves[column, :3, :3], measured)
        return np.asarray(turned + moves[column, :3, 3], dtype=np.float32)

    def _echoes(
        self, hits: Hits, directions: Floats, rng: np.random.Generator
    ) -> tuple[Floats, Floats, NDArray[np.uint32]]:
        """Range (0 where nothing came back), intensity and label of each ray."""
        mesh = self.world.triangles
        solid = hits.triangle >= 0
        triangle = np.where(solid, hits.triangle, 0)
        reflectance = REFLECTANCE[mesh.material[triangle]] * (0.6 + 0.4 * mesh.colour[triangle].mean(axis=1) / 0.25)
        reflectance = np.clip(reflectance, 0.03, 1.0)
        painted, glass = self._surface(triangle, hits, solid)
        reflectance[painted] = _PAINT_REFLECTANCE
        cosine = np.abs(dot(hits.normal, directions))
        cosine = np.where(mesh.material[triangle] == Material.SIGN, np.sqrt(cosine), cosine)  # retroreflective
        brightness = np.where(solid, reflectance * (0.25 + 0.75 * cosine), 0).astype(np.float32)
        distance = np.where(solid, hits.distance, np.inf)
        power = np.where(solid, reflectance * np.maximum(cosine, 0.01) / np.where(solid, distance, 1) ** 2, 0)
        lost = (rng.random(len(power)) < _RANDOM_LOST) | (glass & (rng.random(len(power)) < _GLASS_LOST))
        power[lost] = 0
        echo = air.strongest(self.light, distance, power, rng)
        chance = echo.power / (echo.power + _FLOOR)
        heard = (rng.random(len(power)) < chance**0.5) & (echo.power > 0)
        heard &= (echo.range_m < MAX_RANGE_M) & (echo.range_m > MIN_RANGE_M)
        noisy = echo.range_m + rng.normal(0, RANGE_NOISE_M, len(power)).astype(np.float32)
        range_m = np.where(heard, np.where(np.isinf(noisy), 0, noisy), 0).astype(np.float32)
        faded = np.where(echo.air, np.minimum(echo.power * 60, 0.12), brightness)
        intensity = np.clip(faded * rng.normal(1, 0.08, len(power)) + rng.normal(0, 0.01, len(power)), 0, 1)
        return range_m, intensity.astype(np.float32), self._labels(triangle, hits, painted, echo.air)

    def _surface(
        self, triangle: NDArray[np.int64], hits: Hits, solid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rays hit paint on a road, and which hit glass."""
        mesh, layout = self.world.triangles, self.world.layout
        material = mesh.material[triangle]
        painted, glass = np.zeros(len(triangle), dtype=bool), (material == Material.GLASS) & solid
        for kind, result in ((Material.ASPHALT, painted), (Material.FACADE, glass)):
            rows = np.flatnonzero((material == kind) & solid)
            u, v = texture.coordinates(mesh, triangle[rows], hits.bary[rows])
            style = mesh.style[triangle[rows]]
            if kind == Material.ASPHALT:
                result[rows] = texture.road_paint(layout.roads, style, u, v)
            else:
                result[rows] = texture.facade_windows(layout.facades, style, u, v)
        return painted, glass

    def _labels(
        self, triangle: NDArray[np.int64], hits: Hits, painted: NDArray[np.bool_], from_air: NDArray[np.bool_]
    ) -> NDArray[np.uint32]:
        mesh = self.world.triangles
        ids = KITTI_IDS[mesh.kind[triangle], hits.moving.astype(np.int64)].astype(np.uint32)
        ids[painted] = MARKING_ID
        labels: NDArray[np.uint32] = ids | np.left_shift(mesh.instance[triangle], 16, dtype=np.uint32)
        labels[from_air] = OUTLIER
        return labels
