"""Tables of the synthetic world: what things are (label ids) and what they are made of (looks and reflectance)."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

OUTLIER = 1
"""SemanticKITTI's id of points that no object returned: backscatter of fog and rain."""
MARKING_ID = 60
SKY_ID = 23
"""Cityscapes' label id of sky."""


class Kind(IntEnum):
    """What a triangle belongs to."""

    ROAD = 0
    SIDEWALK = 1
    TERRAIN = 2
    BUILDING = 3
    FENCE = 4
    WALL = 5
    GUARDRAIL = 6
    POLE = 7
    SIGN = 8
    TRAFFIC_LIGHT = 9
    VEGETATION = 10
    TRUNK = 11
    CAR = 12
    TRUCK = 13
    BUS = 14
    TRAILER = 15
    PERSON = 16
    BICYCLE = 17
    RIDER = 18
    MOTORCYCLE = 19


# Kind -> (SemanticKITTI id standing still, the same moving, Cityscapes label id).
_IDS: dict[Kind, tuple[int, int, int]] = {
    Kind.ROAD: (40, 40, 7),
    Kind.SIDEWALK: (48, 48, 8),
    Kind.TERRAIN: (72, 72, 22),
    Kind.BUILDING: (50, 50, 11),
    Kind.FENCE: (51, 51, 13),
    Kind.WALL: (51, 51, 12),
    Kind.GUARDRAIL: (51, 51, 14),
    Kind.POLE: (80, 80, 17),
    Kind.SIGN: (81, 81, 20),
    Kind.TRAFFIC_LIGHT: (81, 81, 19),
    Kind.VEGETATION: (70, 70, 21),
    Kind.TRUNK: (71, 71, 21),
    Kind.CAR: (10, 252, 26),
    Kind.TRUCK: (18, 258, 27),
    Kind.BUS: (13, 257, 28),
    Kind.TRAILER: (18, 258, 30),
    Kind.PERSON: (30, 254, 24),
    Kind.BICYCLE: (11, 253, 33),
    Kind.RIDER: (31, 253, 25),
    Kind.MOTORCYCLE: (15, 255, 32),
}
KITTI_IDS: NDArray[np.uint16] = np.array([_IDS[kind][:2] for kind in Kind], dtype=np.uint16)
"""(kinds, 2): SemanticKITTI ids standing and moving."""
CITYSCAPES_IDS: NDArray[np.uint8] = np.array([_IDS[kind][2] for kind in Kind], dtype=np.uint8)


class Material(IntEnum):
    """What a triangle is made of."""

    ASPHALT = 0
    PAVING = 1
    CURB = 2
    GRASS = 3
    SOIL = 4
    FACADE = 5
    ROOF = 6
    PLANKS = 7
    CONCRETE = 8
    METAL = 9
    SIGN = 10
    LEAF = 11
    BARK = 12
    PAINT = 13
    GLASS = 14
    RUBBER = 15
    HEADLAMP = 16
    TAILLAMP = 17
    CLOTH = 18
    SKIN = 19
    SIGNAL = 20
    PLAIN = 21
    LAMP = 22


@dataclass(frozen=True)
class Surface:
    """Looks and reflectance of a material.

    Attributes:
        reflectance: share of 905 nm light that comes back, diffuse (asphalt about 0.1, leaves 0.4, signs 0.9).
        fine, coarse: contrast of the noise at 2 cm and at 1 m and more.
        gloss: how much of the sky it mirrors, looked at straight on.
    """

    reflectance: float
    fine: float = 0.0
    coarse: float = 0.0
    gloss: float = 0.0


SURFACES: dict[Material, Surface] = {
    Material.ASPHALT: Surface(0.16, 0.22, 0.16),
    Material.PAVING: Surface(0.26, 0.12, 0.12),
    Material.CURB: Surface(0.3, 0.1, 0.1),
    Material.GRASS: Surface(0.36, 0.4, 0.35),
    Material.SOIL: Surface(0.3, 0.25, 0.25),
    Material.FACADE: Surface(0.32, 0.06, 0.1),
    Material.ROOF: Surface(0.22, 0.15, 0.12),
    Material.PLANKS: Surface(0.35, 0.12, 0.15),
    Material.CONCRETE: Surface(0.33, 0.1, 0.16),
    Material.METAL: Surface(0.4, 0.04, 0.08, 0.1),
    Material.SIGN: Surface(0.95, 0.0, 0.04),
    Material.LEAF: Surface(0.4, 0.35, 0.2),
    Material.BARK: Surface(0.3, 0.3, 0.2),
    Material.PAINT: Surface(0.35, 0.0, 0.03, 0.05),
    Material.GLASS: Surface(0.08, 0.0, 0.0, 0.12),
    Material.RUBBER: Surface(0.06, 0.05, 0.05),
    Material.HEADLAMP: Surface(0.7, 0.0, 0.0, 0.1),
    Material.TAILLAMP: Surface(0.8, 0.0, 0.0, 0.06),
    Material.CLOTH: Surface(0.4, 0.1, 0.14),
    Material.SKIN: Surface(0.45, 0.02, 0.05),
    Material.SIGNAL: Surface(0.2, 0.0, 0.0),
    Material.PLAIN: Surface(0.3, 0.03, 0.06),
    Material.LAMP: Surface(0.4, 0.0, 0.0, 0.05),
}
REFLECTANCE: NDArray[np.float32] = np.array([SURFACES[m].reflectance for m in Material], dtype=np.float32)
FINE: NDArray[np.float32] = np.array([SURFACES[m].fine for m in Material], dtype=np.float32)
COARSE: NDArray[np.float32] = np.array([SURFACES[m].coarse for m in Material], dtype=np.float32)
GLOSS: NDArray[np.float32] = np.array([SURFACES[m].gloss for m in Material], dtype=np.float32)
