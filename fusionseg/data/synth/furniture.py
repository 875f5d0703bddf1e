"""What stands beside a road: buildings, fences, walls, guard rails, poles, lamps, signs, traffic lights."""

import itertools

import numpy as np

from fusionseg.data.synth.classes import Kind, Material
from fusionseg.data.synth.mesh import Colour, Mesh, box, cylinder, join, quads, soup

GREY: Colour = (0.22, 0.23, 0.23)
_SIGN_COLOURS: tuple[Colour, ...] = (
    (0.5, 0.03, 0.03),
    (0.03, 0.1, 0.45),
    (0.7, 0.7, 0.7),
    (0.65, 0.45, 0.02),
    (0.04, 0.25, 0.1),
)


def building(width_m: float, depth_m: float, height_m: float, colour: Colour, style: int, pitched: bool) -> Mesh:
    """A house whose front is the line y = 0 from x = 0 to ``width_m``; it stands on the side of positive y."""
    w, d, h = width_m, depth_m, height_m
    walls = np.array(
        [
            [(0, 0, -1), (w, 0, -1), (w, 0, h), (0, 0, h)],
            [(0, d, -1), (0, 0, -1), (0, 0, h), (0, d, h)],
            [(w, 0, -1), (w, d, -1), (w, d, h), (w, 0, h)],
            [(w, d, -1), (0, d, -1), (0, d, h), (w, d, h)],
        ],
        dtype=np.float32,
    )
    uv = [[(0, -1), (length, -1), (length, h), (0, h)] for length in (w, d, d, w)]
    parts = [quads(walls, Kind.BUILDING, Material.FACADE, colour, uv, style)]
    roof = (0.16, 0.07, 0.05) if colour[0] > colour[2] * 1.3 else (0.1, 0.1, 0.11)
    if pitched:
        top, eave = h + 0.32 * d, 0.35
        slopes = [
            [(-eave, -eave, h - 0.12), (w + eave, -eave, h - 0.12), (w + eave, d / 2, top), (-eave, d / 2, top)],
            [(-eave, d + eave, h - 0.12), (w + eave, d + eave, h - 0.12), (w + eave, d / 2, top), (-eave, d / 2, top)],
        ]
        gables = [[(x, 0, h), (x, d, h), (x, d / 2, top - 0.1)] for x in (0, w)]
        parts.append(quads(slopes, Kind.BUILDING, Material.ROOF, roof))
        parts.append(soup(gables, Kind.BUILDING, Material.CONCRETE, colour))
        parts.append(
            box((0.2 * w, d / 2 - 0.3, h), (0.2 * w + 0.6, d / 2 + 0.3, top + 0.7), Kind.BUILDING, Material.ROOF, roof)
        )
    else:
        parts.append(box((0, 0, h), (w, d, h + 0.02), Kind.BUILDING, Material.ROOF, (0.16, 0.16, 0.16)))
        lip = tuple(0.75 * c for c in colour)
        parts.append(box((-0.15, -0.25, h - 0.1), (w + 0.15, 0.1, h + 0.5), Kind.BUILDING, Material.CONCRETE, lip))
    parts.append(_relief(w, h, colour))
    return join(parts)


def _relief(w: float, h: float, colour: Colour) -> Mesh:
    """A plinth and a ledge above the ground floor, so that the front is not one plane."""
    stone = tuple(0.6 * c + 0.05 for c in colour)
    return join(
        [
            box((0, -0.08, -1), (w, 0, 0.45), Kind.BUILDING, Material.CONCRETE, stone),
            box((0, -0.14, min(3.2, h - 0.4)), (w, 0, min(3.45, h - 0.2)), Kind.BUILDING, Material.CONCRETE, stone),
        ]
    )


def balcony(width_m: float, height_m: float) -> Mesh:
    """A balcony hanging at y < 0 at the given height, along x from 0."""
    floor = box((0, -1.2, height_m), (width_m, 0, height_m + 0.15), Kind.BUILDING, Material.CONCRETE, (0.4, 0.39, 0.37))
    rail = box((0, -1.2, height_m), (width_m, -1.15, height_m + 1.0), Kind.BUILDING, Material.METAL, (0.12, 0.12, 0.13))
    return join([floor, rail])


def picket_fence(length_m: float, colour: Colour, height_m: float = 1.1) -> Mesh:
    """Vertical boards with gaps, along x, centred."""
    x = np.arange(-length_m / 2, length_m / 2, 0.19)
    boards = [[(a, 0, 0.05), (a + 0.13, 0, 0.05), (a + 0.13, 0, height_m), (a, 0, height_m)] for a in x]
    rails = [
        box((-length_m / 2, 0.01, z), (length_m / 2, 0.06, z + 0.09), Kind.FENCE, Material.PLANKS, colour)
        for z in (0.25, height_m - 0.3)
    ]
    return join([quads(boards, Kind.FENCE, Material.PLANKS, colour), *rails])


def rail_fence(length_m: float, colour: Colour) -> Mesh:
    """Posts with two or three rails, as around a meadow."""
    posts = [
        box((a - 0.06, -0.06, -0.2), (a + 0.06, 0.06, 1.25), Kind.FENCE, Material.PLANKS, colour)
        for a in np.arange(-length_m / 2, length_m / 2 + 0.1, 2.5)
    ]
    rails = [
        box((-length_m / 2, 0.06, z), (length_m / 2, 0.1, z + 0.15), Kind.FENCE, Material.PLANKS, colour)
        for z in (0.3, 0.65, 1.0)
    ]
    return join([*posts, *rails])


def board_fence(length_m: float, colour: Colour, height_m: float = 1.8) -> Mesh:
    """A closed wooden fence."""
    return box((-length_m / 2, -0.04, 0), (length_m / 2, 0.04, height_m), Kind.FENCE, Material.PLANKS, colour)


def wall(length_m: float, height_m: float, colour: Colour) -> Mesh:
    """A masonry wall with a coping."""
    body = box((-length_m / 2, -0.12, -0.3), (length_m / 2, 0.12, height_m), Kind.WALL, Material.CONCRETE, colour)
    top = box(
        (-length_m / 2, -0.17, height_m), (length_m / 2, 0.17, height_m + 0.08), Kind.WALL, Material.CURB, (0.3,) * 3
    )
    return join([body, top])


def guard_rail(length_m: float) -> Mesh:
    """A steel beam on posts."""
    profile = [(0.0, 0.45), (0.07, 0.52), (0.0, 0.59), (0.07, 0.66), (0.0, 0.75)]
    beam = [
        [(-length_m / 2, y0, z0), (length_m / 2, y0, z0), (length_m / 2, y1, z1), (-length_m / 2, y1, z1)]
        for (y0, z0), (y1, z1) in itertools.pairwise(profile)
    ]
    posts = [
        box((a - 0.05, -0.1, -0.3), (a + 0.05, 0, 0.72), Kind.GUARDRAIL, Material.METAL, GREY)
        for a in np.arange(-length_m / 2 + 1, length_m / 2, 2.0)
    ]
    return join([quads(beam, Kind.GUARDRAIL, Material.METAL, (0.33, 0.34, 0.34)), *posts])


def jersey_barrier(length_m: float) -> Mesh:
    """A concrete barrier with the New Jersey profile."""
    profile = [(-0.3, 0), (-0.28, 0.1), (-0.12, 0.35), (-0.08, 0.85), (0.08, 0.85), (0.12, 0.35), (0.28, 0.1), (0.3, 0)]
    faces = [
        [(-length_m / 2, y0, z0), (length_m / 2, y0, z0), (length_m / 2, y1, z1), (-length_m / 2, y1, z1)]
        for (y0, z0), (y1, z1) in itertools.pairwise(profile)
    ]
    return quads(faces, Kind.GUARDRAIL, Material.CONCRETE, (0.42, 0.41, 0.39))


def street_lamp(height_m: float, arm_m: float) -> Mesh:
    """A lamp post whose arm reaches to negative y."""
    top = (0, -arm_m, height_m)
    return join(
        [
            cylinder((0, 0, -0.2), (0, 0, height_m - 0.5), 0.09, Kind.POLE, Material.METAL, GREY, 8, 0.06),
            cylinder((0, 0, height_m - 0.5), top, 0.06, Kind.POLE, Material.METAL, GREY, 6, 0.04),
            box(
                (-0.13, -arm_m - 0.35, height_m - 0.06),
                (0.13, -arm_m + 0.35, height_m + 0.06),
                Kind.POLE,
                Material.LAMP,
                (0.5, 0.5, 0.48),
            ),
        ]
    )


def pole(height_m: float, radius_m: float = 0.13, colour: Colour = (0.2, 0.16, 0.12)) -> Mesh:
    """A plain post; with over 6 m a telegraph pole with a cross-bar."""
    parts = [
        cylinder((0, 0, -0.2), (0, 0, height_m), radius_m, Kind.POLE, Material.BARK, colour, 8, 0.8 * radius_m, True)
    ]
    if height_m > 6:
        parts.append(box((-0.06, -0.9, height_m - 0.7), (0.06, 0.9, height_m - 0.58), Kind.POLE, Material.BARK, colour))
    return join(parts)


def bollard() -> Mesh:
    """A low post with a white band."""
    post = cylinder((0, 0, 0), (0, 0, 0.9), 0.08, Kind.POLE, Material.METAL, (0.06, 0.06, 0.065), 8, caps=True)
    band = cylinder((0, 0, 0.68), (0, 0, 0.78), 0.085, Kind.POLE, Material.SIGN, (0.7,) * 3, 8)
    return join([post, band])


def sign(rng: np.random.Generator) -> Mesh:
    """A traffic sign on its post, facing negative x; round, triangular or a board."""
    height = float(rng.uniform(2.1, 2.6))
    colour = _SIGN_COLOURS[rng.integers(len(_SIGN_COLOURS))]
    shape = int(rng.integers(4))
    size = float(rng.uniform(0.32, 0.42))
    post = cylinder((0.03, 0, 0), (0.03, 0, height + size), 0.035, Kind.POLE, Material.METAL, GREY, 6)
    if shape == 3:
        face = _board(0.0, -0.45, height - 0.35, 0.45, height + 0.55, colour)
        inner = _board(-0.01, -0.36, height - 0.26, 0.36, height + 0.46, (0.7, 0.7, 0.7))
        return join([post, face, inner])
    corners = (16, 3, 4)[shape]
    return join(
        [post, _plate(0.0, height, size, corners, colour), _plate(-0.012, height, 0.66 * size, corners, (0.72,) * 3)]
    )


def _plate(x: float, z: float, radius: float, corners: int, colour: Colour) -> Mesh:
    angle = np.pi / 2 + 2 * np.pi * np.arange(corners + 1) / corners
    rim = np.stack([np.full(corners + 1, x), radius * np.cos(angle), z + radius * np.sin(angle)], 1)
    fans = np.stack([np.tile((x, 0, z), (corners, 1)), rim[:-1], rim[1:]], 1)
    return soup(fans, Kind.SIGN, Material.SIGN, colour)


def _board(x: float, y0: float, z0: float, y1: float, z1: float, colour: Colour) -> Mesh:
    return quads([[(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)]], Kind.SIGN, Material.SIGN, colour)


def gantry(span_m: float) -> Mesh:
    """A motorway gantry over y in [0, span], facing negative x, with blue boards."""
    parts = [cylinder((0, y, -0.3), (0, y, 6.6), 0.2, Kind.POLE, Material.METAL, GREY, 8) for y in (0.0, span_m)]
    parts.append(box((-0.15, 0, 6.2), (0.15, span_m, 6.7), Kind.POLE, Material.METAL, GREY))
    for centre in (0.28 * span_m, 0.72 * span_m):
        y0, y1 = centre - 2.2, centre + 2.2
        parts.append(_board(-0.25, y0, 5.4, y1, 7.6, (0.02, 0.09, 0.38)))
        parts += [
            _board(-0.27, y0 + 0.4, z, y0 + 0.4 + width, z + 0.28, (0.75,) * 3)
            for z, width in ((7.0, 2.6), (6.4, 3.2), (5.75, 1.9))
        ]
    return join(parts)


def traffic_light(height_m: float, arm_m: float, go: bool) -> Mesh:
    """Signals on a post and at the end of an arm (towards negative y), facing negative x."""
    parts = [cylinder((0, 0, 0), (0, 0, height_m), 0.08, Kind.POLE, Material.METAL, (0.08, 0.08, 0.085), 8)]
    heads = [(0.0, 2.6)]
    if arm_m > 0:
        parts.append(
            cylinder((0, 0, height_m - 0.2), (0, -arm_m, height_m), 0.05, Kind.POLE, Material.METAL, (0.08,) * 3, 6)
        )
        heads.append((-arm_m, height_m - 0.9))
    lit: tuple[Colour, ...] = ((0.5, 0.02, 0.01), (0.5, 0.3, 0.01), (0.02, 0.5, 0.2))
    for y, z in heads:
        case = box((-0.14, y - 0.17, z), (0.1, y + 0.17, z + 0.95), Kind.TRAFFIC_LIGHT, Material.RUBBER, (0.02,) * 3)
        parts.append(case)
        for i, colour in enumerate(lit):
            on = i == (2 if go else 0)
            centre = z + 0.78 - 0.3 * i
            angle = 2 * np.pi * np.arange(11) / 10
            rim = np.stack([np.full(11, -0.15), y + 0.11 * np.cos(angle), centre + 0.11 * np.sin(angle)], 1)
            lens = np.stack([np.tile((-0.15, y, centre), (10, 1)), rim[:-1], rim[1:]], 1)
            material = Material.SIGNAL if on else Material.RUBBER
            parts.append(soup(lens, Kind.TRAFFIC_LIGHT, material, colour if on else tuple(0.08 * c for c in colour)))
    return join(parts)
