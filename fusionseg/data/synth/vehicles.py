"""Bodies of cars, vans, trucks, buses and bicycles, centred on the ground, looking along x."""

import itertools
from dataclasses import dataclass

import numpy as np

from fusionseg.data.synth.classes import Kind, Material
from fusionseg.data.synth.mesh import Colour, Mesh, box, cylinder, join, quads, soup

PAINTS: tuple[Colour, ...] = (
    (0.02, 0.02, 0.022),
    (0.62, 0.62, 0.6),
    (0.3, 0.31, 0.32),
    (0.1, 0.105, 0.11),
    (0.35, 0.03, 0.025),
    (0.03, 0.06, 0.2),
    (0.05, 0.12, 0.09),
    (0.42, 0.36, 0.24),
    (0.12, 0.2, 0.33),
    (0.45, 0.22, 0.04),
    (0.75, 0.75, 0.74),
    (0.17, 0.03, 0.05),
)
DARK: Colour = (0.015, 0.015, 0.016)
GLASS: Colour = (0.02, 0.025, 0.028)


@dataclass(frozen=True)
class Body:
    """A side view: ``outline`` is x (share of the length, rear to front) and z (share of the height) of the roof line.

    ``glass`` holds the indices of the outline's segments that are windows (rear and front); ``belt`` is the height
    at which the side windows begin, as a share; ``cabin`` the segments between which side windows run.
    """

    length_m: float
    width_m: float
    height_m: float
    outline: tuple[tuple[float, float], ...]
    glass: tuple[int, ...]
    belt: float = 0.6
    taper: float = 0.82


_SEDAN = ((-0.5, 0.62), (-0.48, 0.68), (-0.33, 0.7), (-0.2, 0.98), (0.06, 1.0), (0.23, 0.66), (0.45, 0.56), (0.5, 0.46))
_HATCH = (
    (-0.5, 0.58),
    (-0.47, 0.66),
    (-0.4, 0.94),
    (-0.25, 1.0),
    (0.08, 0.98),
    (0.27, 0.64),
    (0.46, 0.54),
    (0.5, 0.44),
)
_ESTATE = ((-0.5, 0.6), (-0.48, 0.66), (-0.42, 0.95), (-0.3, 1.0), (0.1, 0.98), (0.25, 0.65), (0.46, 0.55), (0.5, 0.45))
_SUV = ((-0.5, 0.58), (-0.49, 0.64), (-0.45, 0.95), (-0.3, 1.0), (0.12, 0.99), (0.25, 0.66), (0.47, 0.6), (0.5, 0.45))
_VAN = ((-0.5, 0.5), (-0.49, 0.6), (-0.48, 0.97), (-0.4, 1.0), (0.2, 0.99), (0.38, 0.62), (0.48, 0.48), (0.5, 0.36))
_PICKUP = (
    (-0.5, 0.56),
    (-0.49, 0.58),
    (-0.12, 0.58),
    (-0.08, 0.96),
    (0.1, 1.0),
    (0.23, 0.66),
    (0.47, 0.6),
    (0.5, 0.45),
)
_COUPE = ((-0.5, 0.64), (-0.47, 0.7), (-0.4, 0.72), (-0.12, 0.99), (0.02, 1.0), (0.2, 0.66), (0.44, 0.54), (0.5, 0.42))
_MICRO = ((-0.5, 0.5), (-0.48, 0.62), (-0.46, 0.9), (-0.28, 1.0), (0.15, 0.96), (0.4, 0.6), (0.47, 0.52), (0.5, 0.4))
_BOXY = ((-0.5, 0.5), (-0.5, 0.6), (-0.49, 0.98), (-0.45, 1.0), (0.14, 1.0), (0.22, 0.62), (0.49, 0.58), (0.5, 0.44))
_MPV = ((-0.5, 0.55), (-0.48, 0.62), (-0.43, 0.92), (-0.25, 1.0), (0.05, 0.99), (0.36, 0.6), (0.47, 0.52), (0.5, 0.42))

CARS: dict[str, tuple[Body, ...]] = {
    "train": (
        Body(4.6, 1.8, 1.45, _SEDAN, (2, 4)),
        Body(4.1, 1.75, 1.48, _HATCH, (1, 4)),
        Body(4.7, 1.82, 1.5, _ESTATE, (1, 4)),
        Body(4.6, 1.88, 1.72, _SUV, (1, 4)),
        Body(5.1, 1.95, 2.1, _VAN, (1, 4), 0.58, 0.9),
        Body(5.4, 1.95, 1.82, _PICKUP, (2, 4)),
    ),
    "test": (
        Body(4.4, 1.8, 1.36, _COUPE, (2, 4)),
        Body(3.6, 1.65, 1.55, _MICRO, (1, 4)),
        Body(4.5, 1.9, 1.85, _BOXY, (1, 4), 0.62, 0.9),
        Body(4.8, 1.86, 1.66, _MPV, (1, 4)),
    ),
}


def car(body: Body, paint: Colour) -> Mesh:
    """A car, van or pickup."""
    length, width, height = body.length_m, body.width_m, body.height_m
    x = np.array([p[0] for p in body.outline]) * length
    z = np.array([p[1] for p in body.outline]) * height
    belt, floor = body.belt * height, 0.2
    half = np.where(z > belt + 0.05, width / 2 * body.taper, width / 2 * 0.97)
    left, right = np.stack([x, half, z], 1), np.stack([x, -half, z], 1)
    parts = []
    for i in range(len(x) - 1):
        window = i in body.glass
        strip = [right[i], right[i + 1], left[i + 1], left[i]]
        parts.append(_panel([strip], window, paint))
    parts += _flanks(x, z, half, width, belt, floor, paint)
    parts += _ends(x, z, width, floor, paint)
    for wheel_x in (-0.31 * length, 0.31 * length):
        parts += _wheel_pair(wheel_x, width, 0.33 if height < 1.9 else 0.37)
    return join(parts)


def _panel(strip: list[list[np.ndarray]], window: bool, paint: Colour) -> Mesh:
    material, colour = (Material.GLASS, GLASS) if window else (Material.PAINT, paint)
    return quads(strip, Kind.CAR, material, colour)


def _flanks(
    x: np.ndarray, z: np.ndarray, half: np.ndarray, width: float, belt: float, floor: float, paint: Colour
) -> list[Mesh]:
    """Both sides: doors below the belt line, windows above, a dark sill."""
    parts = []
    low = np.minimum(z, belt)
    cabin = [i for i in range(len(x) - 1) if max(z[i], z[i + 1]) > belt + 0.05]
    for sign in (1.0, -1.0):
        side, inner = sign * width / 2, sign * (width / 2 - 0.02)
        doors = [
            [(x[i], side, floor), (x[i + 1], side, floor), (x[i + 1], side, low[i + 1]), (x[i], side, low[i])]
            for i in range(len(x) - 1)
        ]
        parts.append(quads(doors, Kind.CAR, Material.PAINT, paint))
        sill = [(x[0], side * 1.005, floor), (x[-1], side * 1.005, floor), (x[-1], side * 1.005, floor + 0.12)]
        parts.append(quads([[*sill, (x[0], side * 1.005, floor + 0.12)]], Kind.CAR, Material.RUBBER, DARK))
        for i in cabin:
            a, b = (max(z[i], belt), max(z[i + 1], belt))
            pane = [
                (x[i], inner, belt),
                (x[i + 1], inner, belt),
                (x[i + 1], sign * half[i + 1], b),
                (x[i], sign * half[i], a),
            ]
            parts.append(quads([pane], Kind.CAR, Material.GLASS, GLASS))
            frame = np.array(pane)
            frame[:, 1] += sign * 0.008
            # the roof rail and, at each end of the cabin, a pillar
            rail = np.stack([frame[3] - (frame[3] - frame[0]) * 0.16, frame[2] - (frame[2] - frame[1]) * 0.16])
            parts.append(quads([[rail[0], rail[1], frame[2], frame[3]]], Kind.CAR, Material.PAINT, paint))
            edge = (frame[1] - frame[0]) * min(0.5, 0.09 / max(float(np.linalg.norm(frame[1] - frame[0])), 0.1))
            top = (frame[2] - frame[3]) * 0.12
            parts.append(
                quads([[frame[0], frame[0] + edge, frame[3] + top, frame[3]]], Kind.CAR, Material.PAINT, paint)
            )
        shelf = [
            [(x[i], side, low[i]), (x[i + 1], side, low[i + 1]), (x[i + 1], inner, low[i + 1]), (x[i], inner, low[i])]
            for i in cabin
        ]
        parts.append(quads(shelf, Kind.CAR, Material.PAINT, paint))
    return parts


def _ends(x: np.ndarray, z: np.ndarray, width: float, floor: float, paint: Colour) -> list[Mesh]:
    """Front and rear: body, bumper, plate, lamps; and the underside."""
    parts = []
    for sign, at, top, lamp, colour in (
        (1.0, x[-1], z[-1], Material.HEADLAMP, (0.75, 0.75, 0.72)),
        (-1.0, x[0], z[0], Material.TAILLAMP, (0.5, 0.02, 0.015)),
    ):
        w = width / 2
        parts.append(
            quads([[(at, -w, floor), (at, w, floor), (at, w, top), (at, -w, top)]], Kind.CAR, Material.PAINT, paint)
        )
        out = at + sign * 0.03
        parts.append(box((min(at, out), -w, floor), (max(at, out), w, floor + 0.2), Kind.CAR, Material.RUBBER, DARK))
        face = at + sign * 0.012
        grille = [(face, -0.4, top - 0.24), (face, 0.4, top - 0.24), (face, 0.4, top - 0.1), (face, -0.4, top - 0.1)]
        plate = [(out + sign * 0.01, -0.26, 0.42), (out + sign * 0.01, 0.26, 0.42)]
        plate += [(out + sign * 0.01, 0.26, 0.53), (out + sign * 0.01, -0.26, 0.53)]
        if sign > 0:
            parts.append(quads([grille], Kind.CAR, Material.RUBBER, DARK))
        parts.append(quads([plate], Kind.CAR, Material.SIGN, (0.6, 0.6, 0.55)))
        for y in (-1.0, 1.0):
            a, b = y * (w - 0.03), y * (w - 0.42)
            lamps = [(face, a, top - 0.2), (face, b, top - 0.18), (face, b, top - 0.06), (face, a, top - 0.03)]
            parts.append(quads([lamps], Kind.CAR, lamp, colour))
    w = width / 2
    under = [(x[0], -w, floor), (x[-1], -w, floor), (x[-1], w, floor), (x[0], w, floor)]
    parts.append(quads([under], Kind.CAR, Material.RUBBER, DARK))
    return parts


def _wheel_pair(x: float, width: float, radius: float, kind: Kind = Kind.CAR) -> list[Mesh]:
    parts = []
    for sign in (1.0, -1.0):
        outer, inner = sign * (width / 2 + 0.015), sign * (width / 2 - 0.2)
        tyre = cylinder((x, inner, radius), (x, outer, radius), radius, kind, Material.RUBBER, DARK, 14, caps=True)
        rim_at = outer + sign * 0.006
        rim = cylinder(
            (x, outer, radius), (x, rim_at, radius), radius * 0.6, kind, Material.METAL, (0.3,) * 3, 10, caps=True
        )
        parts += [tyre, rim]
    return parts


def _lamps(x: float, width: float, low: float, kind: Kind, front: bool) -> list[Mesh]:
    material, colour = (Material.HEADLAMP, (0.75, 0.75, 0.72)) if front else (Material.TAILLAMP, (0.5, 0.02, 0.015))
    out = []
    for y in (-1.0, 1.0):
        a, b = y * (width / 2 - 0.05), y * (width / 2 - 0.4)
        out.append(quads([[(x, a, low), (x, b, low), (x, b, low + 0.2), (x, a, low + 0.2)]], kind, material, colour))
    return out


def _windows(x0: float, x1: float, y: float, low: float, high: float, panes: int, kind: Kind) -> Mesh:
    edges = np.linspace(x0, x1, panes + 1)
    strips = [
        [(a + 0.06, y, low), (b - 0.06, y, low), (b - 0.06, y, high), (a + 0.06, y, high)]
        for a, b in itertools.pairwise(edges)
    ]
    return quads(strips, kind, Material.GLASS, GLASS)


def bus(paint: Colour, length_m: float = 11.5, stripe: Colour = (0.6, 0.6, 0.58)) -> Mesh:
    """A city bus."""
    w, h, half = 2.5, 3.1, length_m / 2
    kind = Kind.BUS
    parts = [
        box((-half, -w / 2, 0.35), (half, w / 2, h), kind, Material.PAINT, paint),
        box((-half + 0.3, -w / 2 + 0.2, h), (half - 2, w / 2 - 0.2, h + 0.2), kind, Material.PAINT, stripe),
    ]
    for y in (-w / 2 - 0.01, w / 2 + 0.01):
        parts.append(_windows(-half + 0.5, half - 0.4, y, 1.35, 2.5, 7, kind))
        band = [(-half, y, 0.95), (half, y, 0.95), (half, y, 1.15), (-half, y, 1.15)]
        parts.append(quads([band], kind, Material.PAINT, stripe))
    for x, low in ((half + 0.01, 1.1), (-half - 0.01, 1.5)):
        pane = [(x, -1.1, low), (x, 1.1, low), (x, 1.1, 2.5), (x, -1.1, 2.5)]
        board = [(x, -0.8, 2.65), (x, 0.8, 2.65), (x, 0.8, 2.95), (x, -0.8, 2.95)]
        parts.append(quads([pane], kind, Material.GLASS, GLASS))
        parts.append(quads([board], kind, Material.RUBBER, DARK))
        parts += _lamps(x, w, 0.6, kind, x > 0)
    for x in (-half + 2.6, half - 2.5):
        parts += _wheel_pair(x, w, 0.48, kind)
    return join(parts)


def truck(paint: Colour, cargo: Colour, length_m: float = 8.5, articulated: bool = False) -> Mesh:
    """A rigid truck, or a tractor with its semi-trailer (whose load space is of kind trailer)."""
    w, half = 2.45, length_m / 2
    load = Kind.TRAILER if articulated else Kind.TRUCK
    cab_back = half - 2.1
    parts = [
        box((cab_back, -w / 2, 0.55), (half, w / 2, 2.9), Kind.TRUCK, Material.PAINT, paint, top=0.94),
        box((-half, -0.5, 0.6), (half, 0.5, 0.95), Kind.TRUCK, Material.RUBBER, DARK),
        box((-half, -w / 2, 1.05), (cab_back - 0.35, w / 2, 3.75), load, Material.PAINT, cargo),
    ]
    pane = [(half + 0.01, -1.05, 1.65), (half + 0.01, 1.05, 1.65), (half - 0.05, 1.0, 2.5), (half - 0.05, -1.0, 2.5)]
    grille = [(half + 0.02, -0.8, 0.8), (half + 0.02, 0.8, 0.8), (half + 0.02, 0.8, 1.4), (half + 0.02, -0.8, 1.4)]
    parts += [
        quads([pane], Kind.TRUCK, Material.GLASS, GLASS),
        quads([grille], Kind.TRUCK, Material.RUBBER, DARK),
        *(_windows(cab_back + 0.7, half - 0.15, y, 1.65, 2.4, 1, Kind.TRUCK) for y in (-w / 2 - 0.01, w / 2 + 0.01)),
        *_lamps(half + 0.02, w, 0.75, Kind.TRUCK, True),
        *_lamps(-half - 0.02, w, 0.8, load, False),
        box((-half - 0.02, -w / 2, 0.45), (-half, w / 2, 0.7), load, Material.RUBBER, DARK),
    ]
    axles = [half - 1.2, -half + 1.4, -half + 2.6] + ([half - 4.2] if articulated else [])
    for x in axles:
        parts += _wheel_pair(x, w, 0.5, Kind.TRUCK if x > 0 or not articulated else load)
    return join(parts)


def bicycle(colour: Colour, kind: Kind = Kind.BICYCLE) -> Mesh:
    """A bicycle or, with ``Kind.MOTORCYCLE``, a scooter."""
    heavy = kind == Kind.MOTORCYCLE
    radius, base = (0.28, 0.62) if heavy else (0.34, 0.53)
    tyre = 0.07 if heavy else 0.022
    parts = []
    angles = 2 * np.pi * np.arange(15) / 14
    for x in (-base, base):
        ring = np.stack([x + radius * np.cos(angles), np.zeros(15), radius + radius * np.sin(angles)], 1)
        parts += [cylinder(a, b, tyre, kind, Material.RUBBER, DARK, 5) for a, b in itertools.pairwise(ring)]
        spokes = [np.array([(x, 0, radius), ring[i], ring[i + 1]]) for i in range(0, 14, 4)]
        parts.append(soup(np.array(spokes), kind, Material.METAL, (0.25,) * 3))
    bars = [
        ((-base, 0, radius), (-0.15, 0, 0.85)),
        ((-0.15, 0, 0.85), (0.42, 0, 0.8)),
        ((0.42, 0, 0.95), (base, 0, radius)),
    ]
    bars += [
        ((-0.05, 0, 0.35), (0.42, 0, 0.75)),
        ((-0.05, 0, 0.35), (-0.15, 0, 0.9)),
        ((-base, 0, radius), (-0.05, 0, 0.35)),
    ]
    thick = 0.07 if heavy else 0.022
    parts += [cylinder(a, b, thick, kind, Material.PAINT, colour, 5) for a, b in bars]
    parts.append(cylinder((0.4, -0.3, 0.98), (0.4, 0.3, 0.98), 0.02, kind, Material.RUBBER, DARK, 5))
    parts.append(box((-0.3, -0.08, 0.9), (-0.02, 0.08, 0.96), kind, Material.RUBBER, DARK))
    if heavy:
        parts.append(box((-0.6, -0.16, 0.42), (0.1, 0.16, 0.86), kind, Material.PAINT, colour, top=0.8))
        parts.append(box((0.38, -0.2, 0.35), (0.5, 0.2, 1.0), kind, Material.PAINT, colour, top=0.7))
    return join(parts)
