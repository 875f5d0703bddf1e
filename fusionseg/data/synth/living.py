"""People, riders, trees, bushes and hedges."""

import numpy as np

from fusionseg.data.synth.classes import Kind, Material
from fusionseg.data.synth.mesh import Colour, Mesh, box, cylinder, ellipsoid, join, soup
from fusionseg.data.synth.vehicles import bicycle

CLOTHES: tuple[Colour, ...] = (
    (0.02, 0.02, 0.025),
    (0.05, 0.07, 0.15),
    (0.35, 0.34, 0.32),
    (0.3, 0.04, 0.04),
    (0.08, 0.15, 0.08),
    (0.4, 0.3, 0.15),
    (0.55, 0.55, 0.55),
    (0.12, 0.1, 0.3),
    (0.5, 0.35, 0.02),
    (0.1, 0.3, 0.35),
)
SKINS: tuple[Colour, ...] = ((0.55, 0.33, 0.23), (0.4, 0.22, 0.14), (0.18, 0.09, 0.05), (0.6, 0.4, 0.3))
_HAIR: Colour = (0.03, 0.02, 0.015)


def person(rng: np.random.Generator, stride: float = 0.0) -> Mesh:
    """A pedestrian of 1.5 to 1.9 m; ``stride`` in [-1, 1] swings legs and arms."""
    top, trousers = CLOTHES[rng.integers(len(CLOTHES))], CLOTHES[rng.integers(len(CLOTHES))]
    skin = SKINS[rng.integers(len(SKINS))]
    scale = float(rng.uniform(0.88, 1.08))
    bulk = float(rng.uniform(0.9, 1.25))
    swing = 0.28 * stride
    kind = Kind.PERSON
    parts = [
        ellipsoid((0, 0, 1.62), (0.1, 0.085, 0.125), kind, Material.SKIN, skin, 5, 8),
        ellipsoid((-0.02, 0, 1.67), (0.105, 0.092, 0.1), kind, Material.CLOTH, _HAIR, 4, 8),
        cylinder((0, 0, 0.9), (0, 0, 1.46), 0.15 * bulk, kind, Material.CLOTH, top, 8, 0.19 * bulk),
        ellipsoid((0, 0, 1.44), (0.13 * bulk, 0.22 * bulk, 0.09), kind, Material.CLOTH, top, 4, 8),
        cylinder((0, 0, 0.82), (0, 0, 0.95), 0.16 * bulk, kind, Material.CLOTH, trousers, 8),
    ]
    for sign in (1.0, -1.0):
        y, s = sign * 0.09, sign * swing
        knee, foot = (0.6 * s + 0.03, y, 0.47), (1.4 * s, y, 0.05)
        hand, elbow = (-1.1 * s + 0.05, sign * 0.27, 0.82), (-0.4 * s, sign * 0.26 * bulk, 1.12)
        parts += [
            cylinder((0, y, 0.88), knee, 0.085 * bulk, kind, Material.CLOTH, trousers, 6, 0.065),
            cylinder(knee, foot, 0.065, kind, Material.CLOTH, trousers, 6, 0.05),
            box((foot[0] - 0.06, y - 0.045, 0), (foot[0] + 0.17, y + 0.045, 0.08), kind, Material.RUBBER, (0.03,) * 3),
            cylinder((0, sign * 0.21 * bulk, 1.43), elbow, 0.055, kind, Material.CLOTH, top, 6),
            cylinder(elbow, hand, 0.05, kind, Material.CLOTH, top, 6),
            ellipsoid(hand, (0.05, 0.03, 0.06), kind, Material.SKIN, skin, 3, 5),
        ]
    return join(parts).placed(0, 0, 0, 0, scale)


def cyclist(rng: np.random.Generator, motor: bool = False) -> Mesh:
    """A rider on a bicycle or a motor scooter."""
    top, trousers = CLOTHES[rng.integers(len(CLOTHES))], CLOTHES[rng.integers(len(CLOTHES))]
    skin = SKINS[rng.integers(len(SKINS))]
    colour = CLOTHES[rng.integers(1, len(CLOTHES))]
    kind = Kind.RIDER
    parts = [
        bicycle(colour, Kind.MOTORCYCLE if motor else Kind.BICYCLE),
        cylinder((-0.17, 0, 0.95), (0.1, 0, 1.45), 0.15, kind, Material.CLOTH, top, 8, 0.19),
        ellipsoid((0.2, 0, 1.66), (0.11, 0.09, 0.13), kind, Material.SKIN, skin, 5, 8),
        ellipsoid((0.18, 0, 1.73), (0.14, 0.11, 0.1), kind, Material.PAINT, colour, 4, 8),
    ]
    for sign in (1.0, -1.0):
        knee = (0.22, sign * 0.12, 0.72 + 0.12 * sign)
        parts += [
            cylinder((-0.15, sign * 0.09, 0.97), knee, 0.085, kind, Material.CLOTH, trousers, 6, 0.06),
            cylinder(knee, (0.02, sign * 0.12, 0.3 + 0.13 * sign), 0.06, kind, Material.CLOTH, trousers, 6),
            cylinder((0.1, sign * 0.2, 1.4), (0.4, sign * 0.25, 1.0), 0.05, kind, Material.CLOTH, top, 6),
        ]
    return join(parts)


def _foliage(
    rng: np.random.Generator, centres: np.ndarray, radii: np.ndarray, count: int, leaf_m: float, green: np.ndarray
) -> Mesh:
    """Loose triangles on the shells of several balls, darker towards the inside and below: a crown with holes."""
    ball = rng.integers(len(centres), size=count)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depth = rng.uniform(0.62, 1.06, count)
    middle = centres[ball] + direction * (radii[ball] * depth[:, None])
    spread = rng.normal(size=(count, 3, 3))
    # turned mostly along the shell, so that the crown is closed but rough
    spread -= 0.6 * (spread @ direction[:, :, None]) * direction[:, None, :]
    spread *= leaf_m * rng.uniform(0.6, 1.2, (count, 1, 1)) / np.linalg.norm(spread, axis=2, keepdims=True)
    low, high = middle[:, 2].min(), middle[:, 2].max()
    light = 0.45 + 0.55 * (middle[:, 2] - low) / max(high - low, 0.1)
    light *= np.clip(0.2 + 0.85 * depth, 0.5, 1.1) * rng.uniform(0.75, 1.25, count)
    tint = green * light[:, None] * rng.uniform(0.85, 1.15, (count, 3))
    corners = middle[:, None, :] + spread
    corners[..., 2] = np.maximum(corners[..., 2], 0.03)
    return soup(corners, Kind.VEGETATION, Material.LEAF, tint)


def _green(rng: np.random.Generator) -> np.ndarray:
    base = np.array([(0.075, 0.14, 0.028), (0.05, 0.11, 0.03), (0.1, 0.15, 0.03), (0.05, 0.095, 0.035)])
    return np.asarray(base[rng.integers(len(base))] * rng.uniform(0.85, 1.25))


def tree(rng: np.random.Generator, height_m: float, leaves: int = 1500, conifer: bool = False) -> Mesh:
    """A tree with trunk, branches and an irregular crown."""
    green = _green(rng)
    bark = np.array([0.09, 0.065, 0.045]) * rng.uniform(0.7, 1.6)
    radius = 0.028 * height_m * rng.uniform(0.8, 1.2)
    if conifer:
        levels = np.linspace(0.16, 0.97, 8)
        wide = 0.24 * height_m * (1.02 - levels)
        centres = np.stack([np.zeros(8), np.zeros(8), levels * height_m], 1)
        radii = np.stack([wide, wide, np.full(8, 0.09 * height_m)], 1)
        trunk = [cylinder((0, 0, 0), (0, 0, 0.95 * height_m), radius, Kind.TRUNK, Material.BARK, bark, 7, 0.03)]
        return join([*trunk, _foliage(rng, centres, radii, leaves, 0.3, green * (0.6, 0.75, 0.9))])
    bole = height_m * rng.uniform(0.28, 0.42)
    lean = rng.normal(0, 0.15, 2)
    fork = np.array([lean[0], lean[1], bole])
    spread = 0.27 * height_m * rng.uniform(0.8, 1.2)
    count = int(rng.integers(6, 11))
    angle, out = rng.uniform(0, 2 * np.pi, count), spread * rng.uniform(0.15, 0.8, count)
    up = np.linspace(0.05, 0.85, count) * (height_m - bole) + bole
    out *= np.sin(np.pi * np.clip((up - bole) / (height_m - bole) + 0.12, 0, 1)) ** 0.5
    centres = np.stack([lean[0] + out * np.cos(angle), lean[1] + out * np.sin(angle), up], 1)
    radii = spread * rng.uniform(0.42, 0.72, (count, 1)) * np.array([1, 1, 0.8])
    parts = [cylinder((0, 0, -0.1), fork, radius, Kind.TRUNK, Material.BARK, bark, 8, radius * 0.7)]
    parts += [cylinder(fork, c, radius * 0.5, Kind.TRUNK, Material.BARK, bark, 5, radius * 0.15) for c in centres[::2]]
    parts.append(_foliage(rng, centres, radii, leaves, 0.024 * height_m + 0.06, green))
    return join(parts)


def bush(rng: np.random.Generator, size_m: float, leaves: int = 320) -> Mesh:
    """A round bush."""
    count = 4
    centres = np.column_stack([rng.normal(0, 0.3 * size_m, (count, 2)), rng.uniform(0.25, 0.6, count) * size_m])
    radii = size_m * rng.uniform(0.35, 0.6, (count, 1)) * np.array([1, 1, 0.85])
    return _foliage(rng, centres, radii, leaves, 0.09 * size_m + 0.03, _green(rng))


def hedge(rng: np.random.Generator, length_m: float, height_m: float) -> Mesh:
    """A clipped hedge along x, centred."""
    green = _green(rng) * 0.85
    count = max(2, int(length_m / 0.8))
    centres = np.column_stack(
        [np.linspace(-length_m / 2, length_m / 2, count), rng.normal(0, 0.05, count), np.full(count, height_m * 0.5)]
    )
    radii = np.tile([0.65, 0.42, 0.5 * height_m], (count, 1)) * rng.uniform(0.9, 1.1, (count, 1))
    core = box(
        (-length_m / 2, -0.2, 0), (length_m / 2, 0.2, 0.7 * height_m), Kind.VEGETATION, Material.LEAF, green * 0.5
    )
    return join([core, _foliage(rng, centres, radii, int(150 * length_m), 0.12, green)])
