"""What a world consists of before anything is rendered, and the builder that scenes fill it with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.synth.classes import Kind, Material
from fusionseg.data.synth.mesh import Colour, Floats, Mesh, join, quads
from fusionseg.data.synth.path import Path

STRIDES = (0.0, 1.0, 0.0, -1.0)
GROUND_MATERIAL = {
    Kind.ROAD: Material.ASPHALT,
    Kind.SIDEWALK: Material.PAVING,
    Kind.TERRAIN: Material.GRASS,
}


@dataclass(frozen=True)
class Road:
    """Paint on a carriageway, in its (s, t).

    Attributes:
        lines: (t, width, dash, period) metres; period 0 is a solid line.
        zebras: (s0, s1, t0, t1) of pedestrian crossings.
        stops: (s, t0, t1) of stop lines.
        fields: (s0, s1) between which no lines run (junctions).
    """

    lines: tuple[tuple[float, float, float, float], ...] = ()
    zebras: tuple[tuple[float, float, float, float], ...] = ()
    stops: tuple[tuple[float, float, float], ...] = ()
    fields: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Facade:
    """The pattern of a wall: windows in bays and floors on plaster, brick, panels or boards.

    Attributes:
        bay_m, floor_m: size of the grid.
        window_width, window_height: shares of a cell.
        pattern: 0 plaster, 1 brick, 2 concrete panels, 3 boards, 4 curtain wall.
        shop: whether the ground floor is shop windows.
        trim: colour of the window frames.
        top_m: no windows above.
        seed: which windows have curtains or light.
    """

    bay_m: float
    floor_m: float
    window_width: float
    window_height: float
    pattern: int
    shop: bool
    trim: Colour
    top_m: float
    seed: int


@dataclass(frozen=True, eq=False)
class Actor:
    """Something that moves at constant speed along a path.

    Attributes:
        meshes: one, or one per phase of a stride.
        speed_mps: negative is against the path's direction.
        vehicle: whether it carries lamps that light up at night.
    """

    meshes: tuple[Mesh, ...]
    path: Path
    s: float
    t: float
    speed_mps: float
    height: float = 0.0
    vehicle: bool = False

    def pose(self, time_s: float) -> tuple[NDArray[np.float64], float] | None:
        """World position (3,) and heading; None once it has left its path."""
        s = self.s + self.speed_mps * time_s
        if not self.path.s[0] < s < self.path.s[-1]:
            return None
        heading = self.path.heading(s) + (np.pi if self.speed_mps < 0 else 0.0)
        return self.path.points(s, self.t, self.height), heading

    def mesh(self, time_s: float) -> Mesh:
        """The mesh of the current phase."""
        return self.meshes[int(abs(self.speed_mps) * time_s / 0.36 + self.s) % len(self.meshes)]


@dataclass(frozen=True, eq=False)
class Layout:
    """A world.

    Attributes:
        statics: everything that stands still.
        actors: what moves.
        roads, facades: tables that ``Mesh.style`` points into.
        path, ego_s, ego_t, ego_speed_mps: the way of the ego vehicle.
        lamps: (L, 3) street lamps.
    """

    statics: Mesh
    actors: tuple[Actor, ...]
    roads: tuple[Road, ...]
    facades: tuple[Facade, ...]
    path: Path
    ego_s: float
    ego_t: float
    ego_speed_mps: float
    lamps: Floats


@dataclass(eq=False)
class Builder:
    """Collects the parts of a layout; numbers the objects from 1."""

    meshes: list[Mesh] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    roads: list[Road] = field(default_factory=list)
    facades: list[Facade] = field(default_factory=list)
    lamps: list[NDArray[np.float64]] = field(default_factory=list)
    _objects: int = 0

    def put(
        self, mesh: Mesh, path: Path, s: float, t: float, yaw: float = 0.0, height: float = 0.0, thing: bool = False
    ) -> None:
        """Stand a mesh at (s, t), turned by ``yaw`` from the path's direction."""
        x, y, z = path.points(s, t, height)
        placed = mesh.placed(x, y, z, path.heading(s) + yaw)
        self.meshes.append(placed.as_instance(self.number()) if thing else placed)

    def number(self) -> int:
        """The next object's number."""
        self._objects += 1
        return self._objects

    def move(
        self,
        meshes: Sequence[Mesh],
        path: Path,
        s: float,
        t: float,
        speed: float,
        height: float = 0.0,
        vehicle: bool = True,
    ) -> None:
        """Add an actor."""
        number = self.number()
        named = tuple(mesh.as_instance(number) for mesh in meshes)
        self.actors.append(Actor(named, path, s, t, speed, height, vehicle))

    def strip(
        self,
        path: Path,
        s: tuple[float, float],
        t: tuple[float, float],
        kind: Kind,
        colour: Colour,
        height: tuple[float, float] = (0.0, 0.0),
        material: Material | None = None,
        style: int = 0,
        step_m: float = 3.0,
    ) -> None:
        """Ground between two lines along a path, with (s, t) as texture coordinates."""
        if s[1] <= s[0]:
            return
        along = np.linspace(s[0], s[1], max(2, int(np.ceil((s[1] - s[0]) / step_m)) + 1))
        near, far = path.points(along, t[0], height[0]), path.points(along, t[1], height[1])
        corners = np.stack([near[:-1], near[1:], far[1:], far[:-1]], axis=1)
        a, b = along[:-1], along[1:]
        lo, hi = np.full_like(a, t[0]), np.full_like(a, t[1])
        uv = np.stack([a, lo, b, lo, b, hi, a, hi], axis=1).reshape(-1, 4, 2)
        self.meshes.append(quads(corners, kind, material or GROUND_MATERIAL[kind], colour, uv, style))

    def terrain(
        self,
        path: Path,
        s: tuple[float, float],
        side: int,
        edge_m: float,
        colour: Colour,
        relief_m: float,
        rng: np.random.Generator,
        first: float = 0.0,
        reach_m: float = 150.0,
    ) -> None:
        """Rolling ground from ``edge_m`` outwards on one side; it starts level at height ``first``."""
        offsets = np.array([0.0, 1.5, 4, 8, 14, 22, 34, 50, 75, 110, reach_m])
        along = np.arange(s[0], s[1] + 6.0, 6.0)
        grid_s, grid_t = np.meshgrid(along, offsets, indexing="ij")
        phase = rng.uniform(0, 2 * np.pi, 6)
        ramp = 1 - np.exp(-((grid_t / 18.0) ** 2))
        wave = np.sin(grid_s / 23 + phase[0]) + 0.8 * np.sin(grid_t / 17 + grid_s / 41 + phase[1])
        wave += 0.5 * np.sin(grid_s / 11 + grid_t / 9 + phase[2]) + 1.1 * np.sin(grid_s / 67 + phase[3])
        height = first + relief_m * ramp * (0.5 + 0.5 * wave)
        points = path.points(grid_s, side * (edge_m + grid_t), height)
        corners = np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]], axis=2)
        flat = np.stack([grid_s, grid_t], axis=-1)
        uv = np.stack([flat[:-1, :-1], flat[1:, :-1], flat[1:, 1:], flat[:-1, 1:]], axis=2).reshape(-1, 4, 2)
        self.meshes.append(quads(corners.reshape(-1, 4, 3), Kind.TERRAIN, Material.GRASS, colour, uv))

    def plain(self, centre: NDArray[np.float64], colour: Colour, level_m: float) -> None:
        """Level ground to the horizon, a little below everything else."""
        ring = 1500.0 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        corners = np.column_stack([centre[:2] + ring, np.full(4, level_m)])
        self.meshes.append(quads([corners], Kind.TERRAIN, Material.GRASS, colour, [ring]))

    def finish(self, path: Path, ego: tuple[float, float, float]) -> Layout:
        """The layout; ``ego`` is s, t and speed."""
        return Layout(
            statics=join(self.meshes),
            actors=tuple(self.actors),
            roads=tuple(self.roads),
            facades=tuple(self.facades),
            path=path,
            ego_s=ego[0],
            ego_t=ego[1],
            ego_speed_mps=ego[2],
            lamps=np.array(self.lamps, np.float32).reshape(-1, 3),
        )
