"""Both sides of a built-up street, block by block, and who walks and drives there."""

from dataclasses import dataclass

import numpy as np

from fusionseg.data.synth import furniture, living, vehicles
from fusionseg.data.synth.classes import Kind, Material
from fusionseg.data.synth.layout import STRIDES, Builder, Facade, Road
from fusionseg.data.synth.mesh import Colour, Mesh
from fusionseg.data.synth.path import Path

KERB_M = 0.13
GRASS: Colour = (0.07, 0.1, 0.032)
_PLASTER: tuple[Colour, ...] = (
    (0.58, 0.5, 0.36),
    (0.62, 0.58, 0.5),
    (0.5, 0.3, 0.18),
    (0.45, 0.47, 0.46),
    (0.6, 0.42, 0.3),
    (0.35, 0.42, 0.4),
    (0.66, 0.63, 0.56),
)
_BRICK: tuple[Colour, ...] = ((0.24, 0.09, 0.06), (0.3, 0.15, 0.09), (0.2, 0.11, 0.085), (0.38, 0.27, 0.17))
_PANEL: tuple[Colour, ...] = ((0.42, 0.41, 0.4), (0.3, 0.33, 0.36), (0.5, 0.46, 0.4), (0.2, 0.21, 0.23))
_BOARDS: tuple[Colour, ...] = ((0.55, 0.56, 0.52), (0.2, 0.27, 0.33), (0.4, 0.14, 0.1), (0.5, 0.45, 0.28))


@dataclass(frozen=True)
class Section:
    """Cross-section of a street, metres from the centre line outwards."""

    lane: float
    parking: float
    verge: float
    sidewalk: float
    garden: float

    @property
    def kerb(self) -> float:
        """Half width of the carriageway."""
        return self.lane + self.parking

    @property
    def walk(self) -> float:
        """Inner edge of the sidewalk."""
        return self.kerb + self.verge

    @property
    def back(self) -> float:
        """Outer edge of the sidewalk."""
        return self.walk + self.sidewalk

    @property
    def front(self) -> float:
        """Where the houses stand."""
        return self.back + self.garden


def section(rng: np.random.Generator, test: bool) -> Section:
    """A random cross-section; the lane widths of training and test streets do not overlap."""
    return Section(
        lane=float(rng.uniform(3.65, 3.95) if test else rng.uniform(3.1, 3.5)),
        parking=2.2,
        verge=float(rng.choice([0.0, 1.4, 1.8])),
        sidewalk=float(rng.uniform(3.5, 4.5) if test else rng.uniform(2.2, 3.3)),
        garden=float(rng.choice([0.6, 2.0, 3.5, 5.0])),
    )


def street_paint(sec: Section, dash: bool = True) -> tuple[tuple[float, float, float, float], ...]:
    """Centre line and the edges of the parking lanes."""
    centre = (0.0, 0.13, 3.0, 8.0) if dash else (0.0, 0.13, 0.0, 0.0)
    return centre, (sec.lane, 0.1, 1.0, 2.0), (-sec.lane, 0.1, 1.0, 2.0)


def ground(
    b: Builder, path: Path, spans: list[tuple[float, float]], sec: Section, rng: np.random.Generator, paved: Colour
) -> None:
    """Kerbs, verges, sidewalks and front gardens on both sides, over the given spans of s."""
    for span in spans:
        for side in (1, -1):
            edges = (side * sec.kerb, side * (sec.kerb + 0.14))
            b.strip(path, span, (edges[0], edges[0]), Kind.SIDEWALK, (0.36, 0.35, 0.33), (0, KERB_M), Material.CURB)
            b.strip(path, span, edges, Kind.SIDEWALK, (0.36, 0.35, 0.33), (KERB_M,) * 2, Material.CURB)
            if sec.verge:
                b.strip(path, span, (edges[1], side * sec.walk), Kind.TERRAIN, GRASS, (KERB_M,) * 2)
            inner = side * sec.walk if sec.verge else edges[1]
            b.strip(path, span, (inner, side * sec.back), Kind.SIDEWALK, paved, (KERB_M,) * 2)
            b.terrain(path, span, side, sec.back, GRASS, 0.25, rng, KERB_M)


def facade(b: Builder, rng: np.random.Generator, height: float, test: bool) -> tuple[int, Colour]:
    """A new facade in the builder's table and its base colour; test worlds have patterns of their own."""
    pattern = int(rng.choice([2, 3, 4]) if test else rng.choice([0, 0, 1]))
    palette = {0: _PLASTER, 1: _BRICK, 2: _PANEL, 3: _BOARDS, 4: _PANEL}[pattern]
    base = palette[rng.integers(len(palette))]
    shade = float(rng.uniform(0.8, 1.15))
    white = float(rng.uniform(0.3, 0.65))
    b.facades.append(
        Facade(
            bay_m=float(rng.uniform(1.5, 2.4) if pattern == 4 else rng.uniform(2.2, 3.6)),
            floor_m=float(rng.uniform(2.8, 3.4)),
            window_width=0.94 if pattern == 4 else float(rng.uniform(0.36, 0.6)),
            window_height=0.8 if pattern == 4 else float(rng.uniform(0.45, 0.62)),
            pattern=pattern,
            shop=bool(rng.random() < 0.35),
            trim=(white, white, white * 0.95),
            top_m=height,
            seed=int(rng.integers(1 << 20)),
        )
    )
    return len(b.facades) - 1, (base[0] * shade, base[1] * shade, base[2] * shade)


def houses(
    b: Builder, path: Path, span: tuple[float, float], side: int, sec: Section, rng: np.random.Generator, test: bool
) -> None:
    """Rows of houses with gaps, where there are fences, walls, hedges and trees; and a second row behind."""
    s = span[0]
    while s < span[1] - 6:
        width = float(rng.uniform(9, 20))
        width = min(width, span[1] - s)
        if rng.random() < 0.72 and width > 6:
            _house(b, path, s, width, side, sec.front + float(rng.uniform(0, 0.8)), rng, test)
            if sec.garden > 1.5:
                _boundary(b, path, s, width, side, sec.back + 0.25, rng, low=True)
        else:
            _gap(b, path, s, width, side, sec, rng)
        s += width + (float(rng.uniform(1.5, 5)) if rng.random() < 0.3 else 0.02)
    for s in np.arange(span[0], span[1], 26.0):
        width, height = float(rng.uniform(12, 22)), float(rng.uniform(7, 22))
        style, colour = facade(b, rng, height, test)
        mesh = furniture.building(width, 12, height, colour, style, bool(height < 11))
        beside(b, mesh, path, float(s), width, side, sec.front + float(rng.uniform(26, 42)))


def beside(
    b: Builder, mesh: Mesh, path: Path, s: float, width: float, side: int, t: float, height: float = 0.0
) -> None:
    """Place a mesh that runs along x from 0 and whose front is y = 0 with that front towards the road."""
    b.put(mesh, path, s if side > 0 else s + width, side * t, 0.0 if side > 0 else np.pi, height)


def _house(
    b: Builder, path: Path, s: float, width: float, side: int, t: float, rng: np.random.Generator, test: bool
) -> None:
    pitched = bool(rng.random() < 0.45)
    height = float(rng.uniform(5.5, 8.5) if pitched else rng.uniform(6.5, 17))
    style, colour = facade(b, rng, height, test)
    depth = float(rng.uniform(9, 13))
    beside(b, furniture.building(width, depth, height, colour, style, pitched), path, s, width, side, t)
    look = b.facades[style]
    if look.pattern != 4 and not pitched and rng.random() < 0.5:
        for floor in range(1, int(height / look.floor_m)):
            balcony = furniture.balcony(2.4, floor * look.floor_m + 0.1).placed(0.35 * width, 0, 0)
            beside(b, balcony, path, s, width, side, t)


def _boundary(
    b: Builder, path: Path, s: float, width: float, side: int, t: float, rng: np.random.Generator, low: bool = False
) -> None:
    """A fence, wall or hedge along the sidewalk."""
    middle, length = s + width / 2, width - 0.6
    wood = np.array([0.24, 0.15, 0.085]) * rng.uniform(0.6, 1.6)
    colour: Colour = (float(wood[0]), float(wood[1]), float(wood[2]))
    choice = int(rng.integers(6))
    if choice in (0, 1):
        mesh = furniture.picket_fence(length, (0.6, 0.6, 0.57) if rng.random() < 0.3 else colour)
    elif choice == 2:
        mesh = furniture.wall(
            length, float(rng.uniform(0.7, 1.1) if low else rng.uniform(1.2, 2.2)), (0.36, 0.32, 0.27)
        )
    elif choice == 3 or not low:
        mesh = furniture.board_fence(length, colour, 1.2 if low else 1.8)
    else:
        mesh = living.hedge(rng, length, float(rng.uniform(0.9, 1.5)))
    b.put(mesh, path, middle, side * t, 0.0, KERB_M)


def _gap(b: Builder, path: Path, s: float, width: float, side: int, sec: Section, rng: np.random.Generator) -> None:
    _boundary(b, path, s, width, side, sec.back + 0.3, rng)
    for _ in range(1 + int(width / 6)):
        at, t = s + float(rng.uniform(0.1, 0.9)) * width, sec.back + float(rng.uniform(3, 14))
        conifer = bool(rng.random() < 0.2)
        b.put(living.tree(rng, float(rng.uniform(5, 12)), 1500, conifer), path, at, side * t, rng.uniform(0, 6), KERB_M)
    for _ in range(int(width / 4)):
        at, t = s + float(rng.uniform(0, 1)) * width, sec.back + float(rng.uniform(1, 5))
        b.put(living.bush(rng, float(rng.uniform(0.8, 1.8))), path, at, side * t, 0, KERB_M)


def kerbside(
    b: Builder, path: Path, span: tuple[float, float], side: int, sec: Section, rng: np.random.Generator
) -> None:
    """Lamps, trees, signs, bollards, posts and parked bicycles along the kerb."""
    at = sec.kerb + 0.55
    inwards = 0.0 if side > 0 else np.pi
    for s in np.arange(span[0] + rng.uniform(2, 14), span[1], 27.0):
        b.put(furniture.street_lamp(7.5, 1.8), path, s, side * at, inwards, KERB_M)
        b.lamps.append(path.points(s, side * (at - 1.8), 7.3))
    for s in np.arange(span[0] + rng.uniform(2, 10), span[1], float(rng.uniform(9, 15))):
        if rng.random() < 0.7:
            mesh = living.tree(rng, float(rng.uniform(4.5, 8.5)), 1400)
            b.put(mesh, path, s + rng.uniform(-1, 1), side * (at + 0.2), rng.uniform(0, 6), KERB_M)
    for s in np.arange(span[0] + rng.uniform(4, 18), span[1], 15.0):
        facing = (np.pi if side > 0 else 0.0) + rng.uniform(-0.15, 0.15)
        b.put(furniture.sign(rng), path, s + rng.uniform(-3, 3), side * (sec.kerb + 0.4), facing, KERB_M)
        if rng.random() < 0.5:
            for i in range(4):
                b.put(furniture.bollard(), path, s + 5 + 1.5 * i, side * (sec.kerb + 0.35), 0, KERB_M)
        else:
            for i in range(int(rng.integers(2, 5))):
                kind = Kind.MOTORCYCLE if rng.random() < 0.25 else Kind.BICYCLE
                mesh = vehicles.bicycle(living.CLOTHES[rng.integers(1, 10)], kind)
                b.put(mesh, path, s + 6 + 0.8 * i, side * (at + 0.3), np.pi / 2 + rng.uniform(-0.2, 0.2), KERB_M, True)
    for s in np.arange(span[0] + 11, span[1], 38.0):
        b.put(furniture.pole(float(rng.uniform(7, 9))), path, s, side * (sec.back - 0.25), 0, KERB_M)


def random_car(rng: np.random.Generator, test: bool) -> Mesh:
    """A car of a shape that this split may use."""
    bodies = vehicles.CARS["test" if test else "train"]
    return vehicles.car(bodies[rng.integers(len(bodies))], vehicles.PAINTS[rng.integers(len(vehicles.PAINTS))])


def random_large(rng: np.random.Generator, test: bool) -> Mesh:
    """A bus or truck; lengths of the splits differ."""
    paints: tuple[Colour, ...] = (
        (0.45, 0.04, 0.03),
        (0.04, 0.12, 0.3),
        (0.5, 0.42, 0.08),
        (0.55,) * 3,
        (0.06, 0.2, 0.12),
    )
    paint, cargo = paints[rng.integers(5)], paints[rng.integers(5)]
    longer = 1.7 if test else 0.0
    choice = rng.integers(3)
    if choice == 0:
        return vehicles.bus(paint, 10.5 + longer)
    return vehicles.truck(paint, cargo, (7.2 if choice == 1 else 14.0) + longer, articulated=bool(choice == 2))


def parked(
    b: Builder, path: Path, span: tuple[float, float], side: int, sec: Section, rng: np.random.Generator, test: bool
) -> None:
    """Cars, now and then a truck or bus, along the kerb."""
    s = span[0] + 3.0
    share = float(rng.uniform(0.25, 0.6))
    while s < span[1] - 4:
        if rng.random() < 0.06 and s < span[1] - 12:
            b.put(
                random_large(rng, test), path, s + 6, side * (sec.kerb - 1.35), 0.0 if side < 0 else np.pi, thing=True
            )
            s += 17.0
            continue
        if rng.random() < share:
            yaw = (0.0 if side < 0 else np.pi) + rng.normal(0, 0.015)
            b.put(random_car(rng, test), path, s, side * (sec.kerb - 1.1 + rng.normal(0, 0.06)), yaw, thing=True)
        s += float(rng.uniform(6.0, 7.2))


def walkers(
    b: Builder, path: Path, span: tuple[float, float], sec: Section, rng: np.random.Generator, every_m: float
) -> None:
    """Pedestrians on both sidewalks, some standing in twos, some walking."""
    models = [
        tuple(living.person(np.random.default_rng(seed), x) for x in STRIDES) for seed in rng.integers(1 << 30, size=12)
    ]
    for side in (1, -1):
        for s in np.arange(span[0], span[1], every_m):
            t = side * float(rng.uniform(sec.walk + 0.5, sec.back - 0.4))
            model = models[rng.integers(len(models))]
            if rng.random() < 0.3:
                b.put(model[0], path, s, t, rng.uniform(0, 6.3), KERB_M, True)
                b.put(
                    models[rng.integers(12)][0],
                    path,
                    s + 0.7,
                    t + rng.uniform(-0.3, 0.3),
                    rng.uniform(0, 6.3),
                    KERB_M,
                    True,
                )
            else:
                speed = float(rng.uniform(0.9, 1.6)) * float(rng.choice([-1, 1]))
                b.move(model, path, s + rng.uniform(-2, 2), t, speed, KERB_M, vehicle=False)


def traffic(
    b: Builder,
    path: Path,
    lanes: list[tuple[float, float, float]],
    ego: tuple[float, float, float],
    rng: np.random.Generator,
    test: bool,
    large: float,
) -> None:
    """Vehicles in lanes (t, speed, gap); the ego's own lane keeps its distance."""
    ego_s, ego_t, ego_speed = ego
    for t, speed, gap in lanes:
        own = abs(t - ego_t) < 1.5
        last = path.s[-1] + (abs(speed) * 60 if speed < 0 else 0)
        s = float(path.s[0]) + rng.uniform(2, 10)
        while s < last:
            ahead = s - ego_s
            if own and -18 < ahead < 16:
                s = ego_s + 16 + float(rng.uniform(0, 8))
                continue
            mesh = random_large(rng, test) if rng.random() < large else random_car(rng, test)
            factor = 1.0 if own else float(rng.uniform(0.97, 1.03))
            b.move([mesh], path, s, t + rng.normal(0, 0.12), (ego_speed if own else speed) * factor)
            s += gap * float(rng.uniform(0.8, 1.6)) + 8.0


def riders(
    b: Builder,
    path: Path,
    span: tuple[float, float],
    t: float,
    rng: np.random.Generator,
    every_m: float,
    speed: float = 4.5,
) -> None:
    """Cyclists and motor scooters at the right edge of both directions."""
    for side in (1, -1):
        for s in np.arange(span[0] + rng.uniform(0, every_m), span[1], every_m):
            motor = bool(rng.random() < 0.25)
            pace = speed * float(rng.uniform(0.9, 1.1)) * (-side)
            b.move([living.cyclist(rng, motor)], path, s + rng.uniform(-4, 4), side * t, pace, vehicle=False)


def carriageway(
    b: Builder, path: Path, span: tuple[float, float], half: float, road: Road, rng: np.random.Generator
) -> None:
    """The asphalt with its paint."""
    b.roads.append(road)
    grey = float(rng.uniform(0.085, 0.15))
    colour = (grey, grey * float(rng.uniform(0.97, 1.0)), grey * float(rng.uniform(0.93, 1.02)))
    for inner, outer in ((-half, 0.0), (0.0, half)):
        b.strip(path, span, (inner, outer), Kind.ROAD, colour, style=len(b.roads) - 1)
