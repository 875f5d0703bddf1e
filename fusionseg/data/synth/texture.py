"""Albedo of a hit from where on its triangle it lies: noise, paint on roads, windows and bricks on facades."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.synth.classes import COARSE, FINE, GLOSS, Kind, Material
from fusionseg.data.synth.layout import Facade, Road
from fusionseg.data.synth.mesh import Floats, Mesh

TILE = 1024
_FINE_M, _COARSE_M = 0.02, 0.11
"""Size of a texel of the noise tile at the two scales."""
_FINE_SEEN_M, _COARSE_SEEN_M = 11.0, 60.0
"""Distances from which a pixel averages over texels, so that the contrast must fall."""
PAINT_WHITE = 0.52


@cache
def noise_tile() -> Floats:
    """(TILE, TILE) tileable 1/f noise, mean 0, standard deviation 1 (random phases, Fourier synthesis)."""
    rng = np.random.default_rng(20240)
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None, :]
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1.0
    spectrum = radius**-1.0 * np.exp(2j * np.pi * rng.random(radius.shape))
    spectrum[0, 0] = 0.0
    tile = np.fft.irfft2(spectrum, s=(TILE, TILE))
    return np.asarray(tile / tile.std(), dtype=np.float32)


@cache
def grain_tile() -> Floats:
    """(TILE, TILE) nearly white noise, mean 0, standard deviation 1."""
    rng = np.random.default_rng(20241)
    white = rng.standard_normal((TILE, TILE))
    soft = white + 0.6 * (np.roll(white, 1, 0) + np.roll(white, 1, 1)) + 0.5 * noise_tile()
    return np.asarray(soft / soft.std(), dtype=np.float32)


def lookup(tile: Floats, u: Floats, v: Floats, texel_m: float) -> Floats:
    """Nearest texel of a tile repeated without end, (N,)."""
    scale = np.float32(1 / texel_m)
    column = (u * scale).astype(np.int32) & (TILE - 1)
    row = (v * scale).astype(np.int32) & (TILE - 1)
    return tile.reshape(-1)[row * TILE + column]


@dataclass(frozen=True, eq=False)
class Look:
    """What N hits look like.

    Attributes:
        albedo: (N, 3) float32 linear.
        gloss: (N,) float32 mirrored share, looked at straight on.
        window: (N,) bool: glass of a facade.
        lit: (N,) float32: how brightly a window is lit from inside, where it is dark outside.
    """

    albedo: Floats
    gloss: Floats
    window: NDArray[np.bool_]
    lit: Floats


def coordinates(mesh: Mesh, triangle: NDArray[np.int64], bary: Floats) -> tuple[Floats, Floats]:
    """Texture coordinates u and v (N,), metres."""
    corners = mesh.uv.reshape(-1, 6)[triangle]
    b, c = bary[:, 0], bary[:, 1]
    a = 1 - b - c
    return (
        a * corners[:, 0] + b * corners[:, 2] + c * corners[:, 4],
        a * corners[:, 1] + b * corners[:, 3] + c * corners[:, 5],
    )


def road_paint(
    roads: Sequence[Road], style: NDArray[np.int16], u: Floats, v: Floats, worn: Floats | None = None
) -> NDArray[np.bool_]:
    """(N,) whether points (u along, v across) of road surfaces are painted."""
    painted = np.zeros(len(u), dtype=bool)
    for number in np.unique(style):
        road = roads[number]
        rows = np.flatnonzero(style == number)
        s, t = u[rows], v[rows]
        here = np.zeros(len(rows), dtype=bool)
        for offset, width, dash, period in road.lines:
            line = np.abs(t - np.float32(offset)) < width / 2
            here |= line & (s % np.float32(period) < dash) if period else line
        for low, high in road.fields:
            here &= (s < low) | (s > high)
        for s0, s1, t0, t1 in road.zebras:
            inside = (s > s0) & (s < s1) & (t > t0) & (t < t1)
            here = np.where(inside, t % np.float32(1.0) < 0.5, here)
        for at, t0, t1 in road.stops:
            here |= (np.abs(s - at) < 0.2) & (t > t0) & (t < t1)
        painted[rows] = here
    if worn is not None:
        painted &= worn < 1.6
    return painted


def _hash(a: NDArray[np.int64], b: NDArray[np.int64], seed: NDArray[np.int64]) -> Floats:
    """A number in [0, 1) per cell, the same wherever it is looked at from."""
    mixed = (a * 73856093) ^ (b * 19349663) ^ (seed * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(np.float32) / np.float32(65536)


@dataclass(frozen=True, eq=False)
class _Cells:
    """Where on the grid of its facade each hit lies."""

    x: Floats
    y: Floats
    frame: NDArray[np.bool_]
    window: NDArray[np.bool_]
    chance: Floats


@cache
def _facade_table(facades: tuple[Facade, ...]) -> Floats:
    rows: list[tuple[float, ...]] = [
        (
            f.bay_m,
            f.floor_m,
            f.window_width / 2,
            f.window_height / 2,
            f.pattern,
            f.shop,
            f.top_m,
            f.seed,
            *f.trim,
        )
        for f in facades
    ]
    return np.array(rows or [(1.0,) * 11], dtype=np.float32)


def _cells(table: Floats, style: NDArray[np.int16], u: Floats, v: Floats) -> _Cells:
    bay, floor, half_width, half_height, _, shop, top, seed = (table[:, i][style] for i in range(8))
    across, up = u / bay, v / floor
    column, row = np.floor(across), np.floor(up)
    x, y = across - column - np.float32(0.5), up - row - np.float32(0.52)
    ground = (row == 0) & (shop > 0)
    half_width = np.where(ground, np.float32(0.44), half_width)
    half_height = np.where(ground, np.float32(0.38), half_height)
    inside = (v > 0.5) & ((row + 1) * floor <= top + 0.3)
    dx, dy = np.abs(x) - half_width, np.abs(y) - half_height
    window = inside & (dx < 0) & (dy < 0)
    frame = inside & ~window & (dx < 0.07 / bay) & (dy < 0.07 / floor)
    mullion = window & ((np.abs(x) < 0.03 / bay) | (np.abs(y - 0.12) < 0.025 / floor)) & ~ground
    chance = _hash(column.astype(np.int64), row.astype(np.int64), seed.astype(np.int64))
    return _Cells(x, y, frame | mullion, window & ~mullion, chance)


def facade_windows(facades: Sequence[Facade], style: NDArray[np.int16], u: Floats, v: Floats) -> NDArray[np.bool_]:
    """(N,) whether points of walls are window panes."""
    return _cells(_facade_table(tuple(facades)), style, u, v).window


def _facade(
    facades: Sequence[Facade], style: NDArray[np.int16], u: Floats, v: Floats, base: Floats, near: Floats
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Albedo (N, 3), window panes and how many of them are lit."""
    table = _facade_table(tuple(facades))
    cell = _cells(table, style, u, v)
    pattern = table[:, 4][style]
    shade = np.ones(len(u), dtype=np.float32)
    brick = pattern == 1
    if brick.any():
        course = np.floor(v / 0.075)
        joint = (v % np.float32(0.075) < 0.014) | ((u + 0.1 * (course % 2)) % np.float32(0.22) < 0.014)
        vary = _hash(np.floor(u / 0.22).astype(np.int64), course.astype(np.int64), style.astype(np.int64))
        shade = np.where(brick, 1 + near * (np.where(joint, 0.5, 0.0) + 0.35 * (vary - 0.5)), shade)
    panel = (pattern == 2) | (pattern == 4)
    joint = (v % table[:, 1][style] < 0.05) | (u % table[:, 0][style] < 0.04)
    shade = np.where(panel & joint, 0.6, shade)
    shade = np.where((pattern == 3) & (v % np.float32(0.2) < 0.03), 1 - 0.4 * near, shade)
    # rain runs down below the sills and dirt gathers at the foot
    shade = shade * (1 - 0.12 * (v < 0.8)) * (1 - 0.05 * ((np.abs(cell.x) < 0.25) & (cell.y < -0.3)))
    albedo = base * shade[:, None].astype(np.float32)
    albedo = np.where(cell.frame[:, None], table[:, 8:11][style], albedo)
    curtain = np.where(cell.chance > 0.62, 0.18 * cell.chance, 0.02 + 0.03 * cell.chance)
    drawn = (cell.chance > 0.75) & (cell.y > 0.3 - cell.chance * 0.5)
    pane = np.where(drawn, np.float32(0.4), curtain).astype(np.float32)
    albedo = np.where(cell.window[:, None], pane[:, None] * np.array([1.0, 1.0, 1.02], np.float32), albedo)
    lit = np.where(cell.window & (cell.chance * 7.13 % 1.0 < 0.36), 0.5 + cell.chance, 0.0)
    return albedo.astype(np.float32), cell.window, lit.astype(np.float32)


def look(
    mesh: Mesh,
    triangle: NDArray[np.int64],
    bary: Floats,
    distance: Floats,
    roads: Sequence[Road],
    facades: Sequence[Facade],
) -> Look:
    """What the hits (N,) on triangles of a mesh look like from a distance in metres."""
    material, albedo = mesh.material[triangle], mesh.colour[triangle]
    u, v = coordinates(mesh, triangle, bary)
    grain, cloud = lookup(grain_tile(), u, v, _FINE_M), lookup(noise_tile(), u, v, _COARSE_M)
    near = np.minimum(np.float32(1), _FINE_SEEN_M / np.maximum(distance, 1))
    far = np.minimum(np.float32(1), _COARSE_SEEN_M / np.maximum(distance, 1))
    tone = 1 + FINE[material] * 0.7 * near * grain + COARSE[material] * far * cloud
    gloss = GLOSS[material]
    window, lit = np.zeros(len(u), dtype=bool), np.zeros(len(u), dtype=np.float32)

    rows = np.flatnonzero(material == Material.FACADE)
    if len(rows):
        style = mesh.style[triangle[rows]]
        albedo[rows], window[rows], lit[rows] = _facade(facades, style, u[rows], v[rows], albedo[rows], near[rows])
        gloss[rows[window[rows]]] = 0.14
    rows = np.flatnonzero(material == Material.ASPHALT)
    if len(rows):
        painted = road_paint(roads, mesh.style[triangle[rows]], u[rows], v[rows], grain[rows])
        _asphalt(albedo, tone, rows, u, v, cloud, painted)
    rows = np.flatnonzero(material == Material.GRASS)
    if len(rows):
        dry = np.clip(0.3 + 0.25 * lookup(noise_tile(), v[rows], u[rows], 0.4), 0, 0.8)[:, None]
        albedo[rows] = albedo[rows] * (1 - dry) + np.array([0.19, 0.165, 0.075], np.float32) * dry
    _joints(material, mesh.kind[triangle], u, v, near, tone)
    albedo *= np.maximum(tone, 0.15)[:, None]
    return Look(albedo, gloss, window, lit)


def _asphalt(
    albedo: Floats,
    tone: Floats,
    rows: NDArray[np.intp],
    u: Floats,
    v: Floats,
    cloud: Floats,
    painted: NDArray[np.bool_],
) -> None:
    """Repair patches, cracks, and paint that is cleaner than what it lies on."""
    patch = lookup(noise_tile(), u[rows] * 0.35, v[rows], 0.35)
    wide = np.where(patch > 1.3, np.float32(0.78), np.float32(1.0))
    crack = np.abs(lookup(noise_tile(), v[rows], u[rows], 0.045) - 0.4) < 0.012
    albedo[rows] *= np.where(crack & (patch < 0.2), np.float32(0.65), wide)[:, None]
    lines = rows[painted]
    albedo[lines] = PAINT_WHITE
    tone[lines] = 1 + 0.08 * cloud[lines]


def _joints(
    material: NDArray[np.uint8], kind: NDArray[np.uint8], u: Floats, v: Floats, near: Floats, tone: Floats
) -> None:
    """Joints between slabs, boards and courses of stone."""
    rows = np.flatnonzero(material == Material.PAVING)
    gap = (u[rows] % np.float32(0.6) < 0.02) | (v[rows] % np.float32(0.6) < 0.02)
    tone[rows] -= 0.3 * near[rows] * gap
    rows = np.flatnonzero(material == Material.PLANKS)
    tone[rows] -= 0.45 * near[rows] * (u[rows] % np.float32(0.15) < 0.015)
    rows = np.flatnonzero(kind == Kind.WALL)
    course = np.floor(v[rows] / np.float32(0.24))
    gap = (v[rows] % np.float32(0.24) < 0.025) | ((u[rows] + 0.21 * course) % np.float32(0.45) < 0.025)
    tone[rows] -= 0.35 * near[rows] * gap
