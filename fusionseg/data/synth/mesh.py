"""Triangles with what the renderers need to know about each, and the few solids that everything is built from.

Meshes are soups: corners are not shared, so that each triangle has texture coordinates and labels of its own.
Coordinates are metres, x forward, y left, z up. Which way a triangle winds does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusionseg.data.synth.classes import Kind, Material

Floats = NDArray[np.float32]
Colour = tuple[float, float, float]


def dot(a: Floats, b: Floats) -> Floats:
    """(N,) inner products of the rows of (N, 3) and (N, 3); by columns it takes a quarter of the time of einsum."""
    return np.asarray(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])


@dataclass(frozen=True, eq=False)
class Mesh:
    """T triangles.

    Attributes:
        corners: (T, 3, 3) float32 metres.
        uv: (T, 3, 2) float32 texture coordinates in metres.
        kind: (T,) uint8, ``Kind``.
        material: (T,) uint8, ``Material``.
        colour: (T, 3) float32 linear RGB albedo.
        style: (T,) int16, row of the layout's table of roads and facades.
        instance: (T,) uint16, 0 for none.
    """

    corners: Floats
    uv: Floats
    kind: NDArray[np.uint8]
    material: NDArray[np.uint8]
    colour: Floats
    style: NDArray[np.int16]
    instance: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.corners)

    def placed(self, x: float, y: float, z: float, yaw_rad: float = 0.0, scale: float = 1.0) -> "Mesh":
        """Scaled, turned about z, moved."""
        sin, cos = np.sin(yaw_rad), np.cos(yaw_rad)
        rotation = (scale * np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])).astype(np.float32)
        return replace(self, corners=self.corners @ rotation.T + np.array([x, y, z], np.float32))

    def as_instance(self, number: int) -> "Mesh":
        """All triangles are of one object."""
        return replace(self, instance=np.full(len(self), number, np.uint16))


def soup(
    corners: ArrayLike,
    kind: Kind,
    material: Material,
    colour: ArrayLike,
    uv: ArrayLike | None = None,
    style: int = 0,
) -> Mesh:
    """Triangles (T, 3, 3) that are all alike; ``colour`` (3,) or (T, 3)."""
    points = np.asarray(corners, dtype=np.float32).reshape(-1, 3, 3)
    count = len(points)
    coordinates = points[:, :, :2] if uv is None else np.asarray(uv, dtype=np.float32)
    return Mesh(
        points,
        np.ascontiguousarray(coordinates, dtype=np.float32),
        np.full(count, kind, np.uint8),
        np.full(count, material, np.uint8),
        np.ascontiguousarray(np.broadcast_to(np.asarray(colour, np.float32), (count, 3))),
        np.full(count, style, np.int16),
        np.zeros(count, np.uint16),
    )


def quads(
    corners: ArrayLike,
    kind: Kind,
    material: Material,
    colour: ArrayLike,
    uv: ArrayLike | None = None,
    style: int = 0,
) -> Mesh:
    """Quadrilaterals (Q, 4, 3) in order around each; by default uv are metres along the first and the last edge."""
    points = np.asarray(corners, dtype=np.float32).reshape(-1, 4, 3)
    if uv is None:
        across = np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
        up = np.linalg.norm(points[:, 3] - points[:, 0], axis=1)
        zero = np.zeros_like(up)
        coordinates = np.stack([zero, zero, across, zero, across, up, zero, up], axis=1).reshape(-1, 4, 2)
    else:
        coordinates = np.asarray(uv, dtype=np.float32).reshape(-1, 4, 2)
    order = [0, 1, 2, 0, 2, 3]
    tint = np.asarray(colour, np.float32)
    if tint.ndim == 2:
        tint = np.repeat(tint, 2, axis=0)
    return soup(
        points[:, order].reshape(-1, 3, 3), kind, material, tint, coordinates[:, order].reshape(-1, 3, 2), style
    )


def box(
    low: ArrayLike,
    high: ArrayLike,
    kind: Kind,
    material: Material,
    colour: ArrayLike,
    style: int = 0,
    top: float = 1.0,
) -> Mesh:
    """An upright box between two corners; ``top`` shrinks its upper face about the centre."""
    a, b = np.asarray(low, np.float64), np.asarray(high, np.float64)
    middle, half = (a + b) / 2, (b - a) / 2
    ring = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    bottom = np.column_stack([middle[:2] + ring * half[:2], np.full(4, a[2])])
    upper = np.column_stack([middle[:2] + top * ring * half[:2], np.full(4, b[2])])
    sides = [[bottom[i], bottom[(i + 1) % 4], upper[(i + 1) % 4], upper[i]] for i in range(4)]
    return quads(np.array([*sides, upper, bottom]), kind, material, colour, style=style)


def cylinder(
    start: ArrayLike,
    end: ArrayLike,
    radius_m: float,
    kind: Kind,
    material: Material,
    colour: ArrayLike,
    sides: int = 8,
    end_radius_m: float | None = None,
    caps: bool = False,
) -> Mesh:
    """A cylinder or cone between two points."""
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = (b - a) / max(float(np.linalg.norm(b - a)), 1e-9)
    side = np.cross(axis, [0, 0, 1] if abs(axis[2]) < 0.9 else [1, 0, 0])
    side /= np.linalg.norm(side)
    angle = 2 * np.pi * np.arange(sides) / sides
    ring = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(axis, side)
    first, second = a + radius_m * ring, b + (radius_m if end_radius_m is None else end_radius_m) * ring
    wall = np.stack([first, np.roll(first, -1, 0), np.roll(second, -1, 0), second], axis=1)
    mesh = quads(wall, kind, material, colour)
    if not caps:
        return mesh
    discs = [np.stack([np.tile(p, (sides, 1)), r, np.roll(r, -1, 0)], axis=1) for p, r in ((a, first), (b, second))]
    return join([mesh, soup(np.concatenate(discs), kind, material, colour)])


def ellipsoid(
    centre: ArrayLike,
    radii_m: ArrayLike,
    kind: Kind,
    material: Material,
    colour: ArrayLike,
    rings: int = 5,
    sides: int = 8,
    rough: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Mesh:
    """An ellipsoid; ``rough`` moves its corners in and out by that share, drawn from ``rng``."""
    polar, azimuth = np.linspace(0, np.pi, rings + 1), 2 * np.pi * np.arange(sides) / sides
    unit = np.stack(
        [
            np.sin(polar)[:, None] * np.cos(azimuth),
            np.sin(polar)[:, None] * np.sin(azimuth),
            np.repeat(np.cos(polar)[:, None], sides, axis=1),
        ],
        axis=-1,
    )
    if rng is not None and rough:
        unit = unit * (1 + rough * rng.uniform(-1, 1, unit.shape[:2]))[..., None]
        unit[0], unit[-1] = unit[0, :1], unit[-1, :1]
    points = np.asarray(centre, np.float64) + unit * np.asarray(radii_m, np.float64)
    right = np.roll(points, -1, axis=1)
    faces = np.stack([points[:-1], right[:-1], right[1:], points[1:]], axis=2).reshape(-1, 4, 3)
    return quads(faces, kind, material, colour)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of all."""
    return Mesh(
        np.concatenate([m.corners for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
        np.concatenate([m.kind for m in meshes]),
        np.concatenate([m.material for m in meshes]),
        np.concatenate([m.colour for m in meshes]),
        np.concatenate([m.style for m in meshes]),
        np.concatenate([m.instance for m in meshes]),
    )
