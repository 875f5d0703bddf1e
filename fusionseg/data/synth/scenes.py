"""The four scenes: urban street, intersection, highway, rural road."""

from collections.abc import Callable

import numpy as np

from fusionseg.data.synth import furniture, living, street
from fusionseg.data.synth.classes import Kind
from fusionseg.data.synth.layout import STRIDES, Builder, Layout, Road
from fusionseg.data.synth.path import Path, crossing, curved
from fusionseg.data.synth.spec import FRAME_S, Spec

AHEAD_M = 230.0
BEHIND_M = 90.0
_MEADOW = (0.085, 0.115, 0.036)


def build(spec: Spec) -> Layout:
    """The layout of a spec's scene; weather has no part in it."""
    scene: dict[str, Callable[[Spec, np.random.Generator], Layout]] = {
        "urban": urban,
        "intersection": intersection,
        "highway": highway,
        "rural": rural,
    }
    return scene[spec.scene](spec, spec.rng("layout"))


def _road(spec: Spec, rng: np.random.Generator, speed: float, bend: float, bend_m: float, rise: float) -> Path:
    travel = speed * spec.frames * FRAME_S
    scale = 1.9 if spec.split == "test" else 1.0
    bend *= scale * float(rng.uniform(0.6, 1.0)) * float(rng.choice([-1, 1]))
    return curved(-BEHIND_M, travel + AHEAD_M, bend, bend_m, rise, 170.0)


def _span(path: Path) -> tuple[float, float]:
    return float(path.s[0]), float(path.s[-1])


def _horizon(b: Builder, path: Path, rng: np.random.Generator, every_m: float, near: float, far: float) -> None:
    """Woods far from the road, and the plain under everything."""
    middle = path.points(float(path.s.mean()), 0.0)
    b.plain(middle, _MEADOW, float(path.z.min()) - 1.5)
    for side in (1, -1):
        for s in np.arange(path.s[0], path.s[-1], every_m):
            tree = living.tree(rng, float(rng.uniform(9, 17)), 420, bool(rng.random() < 0.3))
            b.put(tree, path, s + rng.uniform(-6, 6), side * float(rng.uniform(near, far)), height=-0.6)
    for angle in np.arange(0, 2 * np.pi, 0.06):
        reach = float(path.s[-1] - path.s[0]) / 2 + 130
        copse = living.bush(rng, 22.0, 60).placed(
            middle[0] + reach * np.cos(angle), middle[1] + reach * np.sin(angle), float(path.z.min()) - 4
        )
        b.meshes.append(copse)


def _blocks(
    b: Builder, path: Path, spans: list[tuple[float, float]], sec: street.Section, rng: np.random.Generator, test: bool
) -> None:
    grey = float(rng.uniform(0.24, 0.36))
    street.ground(b, path, spans, sec, rng, (grey, grey * 0.97, grey * 0.92))
    for span in spans:
        for side in (1, -1):
            street.houses(b, path, span, side, sec, rng, test)
            street.kerbside(b, path, span, side, sec, rng)
            street.parked(b, path, span, side, sec, rng, test)


def urban(spec: Spec, rng: np.random.Generator) -> Layout:
    """A street with parked cars, sidewalks and rows of houses."""
    b, test = Builder(), spec.split == "test"
    speed = float(rng.uniform(7.5, 10.5))
    path = _road(spec, rng, speed, 0.07, 260.0, 0.0)
    sec, span = street.section(rng, test), _span(path)
    ego = (0.0, -sec.lane / 2, speed)
    zebra = float(rng.uniform(22, 34))
    paint = Road(street.street_paint(sec), zebras=((zebra, zebra + 3.0, -sec.kerb, sec.kerb),))
    street.carriageway(b, path, span, sec.kerb, paint, rng)
    _blocks(b, path, [span], sec, rng, test)
    _works(b, path, zebra + 35.0, sec)
    lanes = [(-sec.lane / 2, speed, 24.0), (sec.lane / 2, -8.5, 20.0)]
    street.traffic(b, path, lanes, ego, spec.rng("actors"), test, 0.18)
    street.walkers(b, path, span, sec, spec.rng("actors", 1), 6.0)
    street.riders(b, path, span, sec.lane - 0.35, spec.rng("actors", 2), 26.0)
    _crossing_person(b, path, zebra + 1.5, ego, rng)
    _horizon(b, path, rng, 14.0, 75.0, 120.0)
    return b.finish(path, ego)


def _works(b: Builder, path: Path, s: float, sec: street.Section) -> None:
    """A building site on the left parking lane behind concrete barriers."""
    for i in range(4):
        b.put(furniture.jersey_barrier(2.9), path, s + 3.0 * i, sec.lane + 0.35)


def _crossing_person(
    b: Builder, path: Path, s: float, ego: tuple[float, float, float], rng: np.random.Generator
) -> None:
    """Somebody crosses well before the ego vehicle arrives."""
    model = tuple(living.person(np.random.default_rng(int(rng.integers(1 << 30))), x) for x in STRIDES)
    arrival_s = (s - ego[0]) / ego[2]
    line = crossing(path.points(s, 0.0), path.heading(s) + np.pi / 2, 12.0)
    b.move(model, line, 4.5 - 1.4 * arrival_s, 0.0, 1.4, vehicle=False)
    b.move(model, line, 3.2 - 1.3 * arrival_s, 0.9, 1.3, vehicle=False)


def intersection(spec: Spec, rng: np.random.Generator) -> Layout:
    """A junction of two streets with signals, crossings and waiting traffic."""
    b, test = Builder(), spec.split == "test"
    speed = float(rng.uniform(6.0, 8.5))
    path = _road(spec, rng, speed, 0.0, 300.0, 0.0)
    sec, other, span = street.section(rng, test), street.section(rng, test), _span(path)
    ego = (0.0, -sec.lane / 2, speed)
    centre = float(rng.uniform(34, 46))
    cross = crossing(path.points(centre, 0.0), path.heading(centre) + np.pi / 2, 130.0)
    low, high = centre - other.kerb, centre + other.kerb
    zebras = ((low - 3.6, low - 0.8, -sec.kerb, sec.kerb), (high + 0.8, high + 3.6, -sec.kerb, sec.kerb))
    stops = ((low - 5.0, -sec.lane, 0.0), (high + 5.0, 0.0, sec.lane))
    paint = Road(street.street_paint(sec, False), zebras, stops, ((low - 5.0, high + 5.0),))
    street.carriageway(b, path, span, sec.kerb, paint, rng)
    street.ground(b, path, [(span[0], low), (high, span[1])], sec, rng, (0.3, 0.29, 0.27))
    clear = other.front + 14.0
    for part in ((span[0], centre - clear), (centre + clear, span[1])):
        for side in (1, -1):
            street.houses(b, path, part, side, sec, rng, test)
            street.kerbside(b, path, part, side, sec, rng)
            street.parked(b, path, part, side, sec, rng, test)
    _cross_street(b, cross, sec, other, rng, test)
    _corners(b, path, centre, sec, other, rng)
    lanes = [(-sec.lane / 2, speed, 22.0), (sec.lane / 2, -7.5, 18.0)]
    street.traffic(b, path, lanes, ego, spec.rng("actors"), test, 0.18)
    street.walkers(b, path, span, sec, spec.rng("actors", 1), 7.0)
    street.riders(b, path, span, sec.lane - 0.35, spec.rng("actors", 2), 24.0)
    _crossing_person(b, path, low - 2.2, ego, rng)
    _horizon(b, path, rng, 16.0, 95.0, 130.0)
    return b.finish(path, ego)


def _cross_street(
    b: Builder, cross: Path, sec: street.Section, other: street.Section, rng: np.random.Generator, test: bool
) -> None:
    ends = _span(cross)
    paint = Road(
        street.street_paint(other, False), stops=((-sec.kerb - 5.0, -other.lane, 0), (sec.kerb + 5.0, 0, other.lane))
    )
    parts = [(ends[0], -sec.kerb), (sec.kerb, ends[1])]
    for part in parts:
        street.carriageway(b, cross, part, other.kerb, paint, rng)
    blocks = [(ends[0], -sec.front - 13.0), (sec.front + 13.0, ends[1])]
    street.ground(b, cross, [(ends[0], -sec.back), (sec.back, ends[1])], other, rng, (0.3, 0.29, 0.27))
    for part in blocks:
        for side in (1, -1):
            street.houses(b, cross, part, side, other, rng, test)
            street.parked(b, cross, part, side, other, rng, test)
    for direction in (1.0, -1.0):
        for i in range(4):
            large = i == 1
            mesh = street.random_large(rng, test) if large else street.random_car(rng, test)
            at = -(sec.kerb + 8.5 + 9.5 * i + (5.0 if large else 0.0)) * direction
            b.put(mesh, cross, at, -direction * other.lane / 2, 0.0 if direction > 0 else np.pi, thing=True)
        leaving = street.random_car(rng, test)
        b.move([leaving], cross, direction * (sec.kerb + 9.0), -direction * other.lane / 2, 6.0 * direction)


def _corners(
    b: Builder, path: Path, centre: float, sec: street.Section, other: street.Section, rng: np.random.Generator
) -> None:
    """Signals, signs, and people who wait, at the four corners."""
    at = sec.kerb + 0.6
    for along in (-1, 1):
        for side in (1, -1):
            s, t = centre + along * (other.kerb + 0.7), side * at
            facing = 0.0 if along * side < 0 else -np.pi / 2
            go = along * side < 0
            yaw = facing if side < 0 else facing + np.pi
            b.put(furniture.traffic_light(5.2, -3.2, go), path, s, t, yaw, street.KERB_M)
            b.put(furniture.sign(rng), path, s + along * 3.0, t, 0.0 if side < 0 else np.pi, street.KERB_M)
            for i in range(2):
                person = living.person(rng, 0.0)
                b.put(person, path, s + along * 0.8 * i, t + side * 1.3, rng.uniform(0, 6.3), street.KERB_M, True)
            fence = furniture.wall(7.0, 1.1, (0.36, 0.31, 0.26))
            b.put(fence, path, centre + along * (other.back + 4.5), side * (sec.back + 0.5), 0.0, street.KERB_M)
            tree = living.tree(rng, float(rng.uniform(6, 10)), 1400)
            b.put(tree, path, centre + along * (other.back + 5.0), side * (sec.back + 6.0), 0.0, street.KERB_M)


def highway(spec: Spec, rng: np.random.Generator) -> Layout:
    """Two carriageways of three lanes with a median barrier, guard rails and banks."""
    b, test = Builder(), spec.split == "test"
    speed = float(rng.uniform(24, 30))
    path = _road(spec, rng, speed, 0.06, 700.0, 1.5)
    span = _span(path)
    lane = 3.8 if test else 3.5
    median, shoulder = 1.2, 2.5
    edge = median + 3 * lane
    half = edge + shoulder
    lines = [(side * t, 0.18, 0.0, 0.0) for side in (1, -1) for t in (median, edge)]
    lines += [(side * (median + i * lane), 0.15, 4.0, 12.0) for side in (1, -1) for i in (1, 2)]
    street.carriageway(b, path, span, half, Road(tuple(lines)), rng)
    wall_side = int(rng.choice([-1, 1]))
    for side in (1, -1):
        b.terrain(path, span, side, half, _MEADOW, 4.0, rng)
        _roadside_highway(b, path, span, side, half, rng, side == wall_side)
    for s in np.arange(span[0], span[1], 9.0):
        b.put(furniture.jersey_barrier(9.05), path, s, 0.0)
    for s in np.arange(span[0] + 40, span[1], 130.0):
        b.put(furniture.gantry(half - 0.3), path, s, -half - 0.2)
    for s in np.arange(span[0], span[1], 45.0):
        b.put(furniture.street_lamp(10.0, 2.5), path, s, half + 1.4)
        b.lamps.append(path.points(s, half - 1.1, 9.8))
    ego = (0.0, -(median + 1.5 * lane), speed)
    lanes = [(-(median + (i + 0.5) * lane), speed * f, 30.0) for i, f in ((0, 1.12), (1, 1.0), (2, 0.86))]
    lanes += [(median + (i + 0.5) * lane, -speed * f, 38.0) for i, f in ((0, 1.1), (1, 1.0), (2, 0.86))]
    street.traffic(b, path, lanes[:2] + lanes[3:5], ego, spec.rng("actors"), test, 0.12)
    street.traffic(b, path, [lanes[2], lanes[5]], ego, spec.rng("actors", 1), test, 0.6)
    _horizon(b, path, rng, 9.0, 45.0, 120.0)
    return b.finish(path, ego)


def _roadside_highway(
    b: Builder,
    path: Path,
    span: tuple[float, float],
    side: int,
    half: float,
    rng: np.random.Generator,
    noise_wall: bool,
) -> None:
    for s in np.arange(span[0], span[1], 8.0):
        b.put(furniture.guard_rail(8.1), path, s, side * (half + 0.5), 0.0 if side < 0 else np.pi)
        if noise_wall and s < span[0] + 0.6 * (span[1] - span[0]):
            b.put(furniture.wall(8.05, 3.2, (0.33, 0.33, 0.27)), path, s, side * (half + 4.0))
    for s in np.arange(span[0] + 15, span[1], 33.0):
        b.put(furniture.sign(rng), path, s, side * (half + 1.3), 0.0 if side < 0 else np.pi)
    for s in np.arange(span[0], span[1], 7.0):
        t = side * (half + float(rng.uniform(6, 20)))
        if rng.random() < 0.5:
            b.put(living.bush(rng, float(rng.uniform(1.2, 2.8))), path, s, t, 0, 0.2)
        elif rng.random() < 0.5:
            b.put(living.tree(rng, float(rng.uniform(5, 11)), 800), path, s, t, 0, 0.2)


def rural(spec: Spec, rng: np.random.Generator) -> Layout:
    """A winding road between meadows, hedges, fences and farms."""
    b, test = Builder(), spec.split == "test"
    speed = float(rng.uniform(12, 17))
    path = _road(spec, rng, speed, 0.16, 340.0, 3.0)
    span = _span(path)
    lane = float(rng.uniform(3.3, 3.6) if test else rng.uniform(2.8, 3.15))
    half = lane + 0.5
    lines = ((0.0, 0.12, 4.0, 12.0), (lane, 0.12, 0.0, 0.0), (-lane, 0.12, 0.0, 0.0))
    street.carriageway(b, path, span, half, Road(lines), rng)
    for side in (1, -1):
        b.strip(path, span, (side * half, side * (half + 0.7)), Kind.TERRAIN, (0.17, 0.13, 0.08), (0.0, -0.03))
        b.terrain(path, span, side, half + 0.7, _MEADOW, 2.2, rng, -0.03)
        _roadside_rural(b, path, span, side, half, rng)
        _farms(b, path, span, side, half, rng, test)
    ego = (0.0, -lane / 2, speed)
    lanes = [(-lane / 2, speed, 60.0), (lane / 2, -speed, 45.0)]
    street.traffic(b, path, lanes, ego, spec.rng("actors"), test, 0.22)
    street.riders(b, path, span, lane - 0.2, spec.rng("actors", 2), 60.0)
    verge = street.Section(lane, 0.5, 0.0, 1.2, 0.0)
    street.walkers(b, path, span, verge, spec.rng("actors", 1), 55.0)
    _horizon(b, path, rng, 7.0, 40.0, 120.0)
    return b.finish(path, ego)


def _roadside_rural(
    b: Builder, path: Path, span: tuple[float, float], side: int, half: float, rng: np.random.Generator
) -> None:
    """Fences, hedges, stone walls, trees and posts along the verge."""
    s = span[0]
    while s < span[1]:
        length = float(rng.uniform(12, 30))
        choice, t = int(rng.integers(5)), side * (half + 3.0)
        if choice < 3:
            for at in np.arange(s + 2.5, s + length, 5.0):
                mesh = (
                    furniture.wall(5.05, 0.9, (0.3, 0.27, 0.22))
                    if choice == 2
                    else furniture.rail_fence(5.0, (0.2, 0.15, 0.1))
                )
                b.put(mesh, path, at, t, height=0.05)
        elif choice == 3:
            for at in np.arange(s + 2.5, s + length, 5.0):
                b.put(living.hedge(rng, 5.2, float(rng.uniform(1.2, 1.7))), path, at, t)
        s += length
    for s in np.arange(span[0], span[1], 25.0):
        b.put(furniture.pole(1.0, 0.06, (0.6,) * 3), path, s, side * (half + 0.9))
        if side > 0:
            b.put(furniture.pole(8.0), path, s + 9.0, half + 5.0)
    for s in np.arange(span[0] + rng.uniform(10, 30), span[1], 50.0):
        b.put(furniture.sign(rng), path, s, side * (half + 1.3), 0.0 if side < 0 else np.pi)
    for s in np.arange(span[0], span[1], 8.0):
        t = side * (half + float(rng.uniform(4.5, 18)))
        if rng.random() < 0.45:
            tree = living.tree(rng, float(rng.uniform(6, 13)), 1400, bool(rng.random() < 0.2))
            b.put(tree, path, s + rng.uniform(-3, 3), t, rng.uniform(0, 6))
        elif rng.random() < 0.6:
            b.put(living.bush(rng, float(rng.uniform(0.8, 2.2))), path, s, t)


def _farms(
    b: Builder, path: Path, span: tuple[float, float], side: int, half: float, rng: np.random.Generator, test: bool
) -> None:
    for s in np.arange(span[0] + rng.uniform(5, 40), span[1] - 20, 75.0):
        for i in range(2):
            height, width = float(rng.uniform(4, 6.5)), float(rng.uniform(10, 18))
            style, colour = street.facade(b, rng, height, test)
            mesh = furniture.building(width, 9, height, colour, style, True)
            street.beside(b, mesh, path, s + 22.0 * i, width, side, half + float(rng.uniform(10, 16)))
        car = street.random_car(rng, test)
        b.put(car, path, s + 9.0, side * (half + 6.5), rng.uniform(0, 6.3), 0.05, True)
