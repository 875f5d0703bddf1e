"""Is a camera calibrated to its LiDAR? Depth edges should lie on image edges, and no turn should better it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.projection import in_view
from fusionseg.geometry.transform import rotation_about_axis, transform_points

AXES = ("x", "y", "z")
"""Of the camera frame: turning about x moves points up and down, about y left and right, about z it rolls the image."""
CURVE_DEG = tuple(float(v) for v in np.arange(-3.0, 3.01, 0.25))
FINEST_DEG = 0.1
COARSEST_DEG = 0.6
"""Of a pixel: larger ones do not say where an edge is."""

_WINDOW_DEG = 3.0
_STRONGEST = 6.0
_FAINT = 2.0
_BLURS_DEG = (0.5, 0.2)
_WIDE, _SHARP = range(len(_BLURS_DEG))
_NEAREST_M = 1.0
_SEARCH = ((_WIDE, 0.5, 3.0), (_WIDE, 0.25, 1.5), (_SHARP, 0.125, 0.5), (_SHARP, 0.1, 0.3), (_SHARP, 0.1, 0.3))
"""Blur, step and reach in degrees of each round."""
_GRID_DEG = ((-2.0, -1.0, 0.0, 1.0, 2.0), (-2.0, -1.0, 0.0, 1.0, 2.0), (-1.5, 0.0, 1.5))
_ORDER = (1, 0, 2)
"""Axes in the order in which edges tell them most surely."""
_FEW = 100
_BLOCKS = 8
_AWAY_DEG = 1.5

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EdgeView:
    """One image and the depth edges around it, ready to be turned against each other.

    Attributes:
        camera: of the maps, whose pixels are 0.1 degrees or more.
        maps: kind (sides, rims) -> blur (wide, sharp) -> (H, W) float32, the strength of image edges across that kind.
        points_camera: kind -> (M, 3) float32 edge points in the camera frame.
    """

    camera: Camera
    maps: tuple[tuple[NDArray[np.float32], ...], ...]
    points_camera: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, eq=False)
class Alignment:
    """What the edges say of a calibration.

    Attributes:
        turn_deg: (3,) rotation vector about the camera's axes after which edges fit best: the better calibration is
            ``R(turn) @ camera_T_lidar``.
        sure: how many standard errors better the edges fit after the turn than as given.
        sure_of_axes: (3,) the same of the turn against the turn without its part about each axis.
        given, best, away: mean edge strength under the given calibration, after the turn, and away from both.
        edges: how many side and rim points took part.
        curves: axis -> score of the given calibration turned by each of ``CURVE_DEG`` about it.
    """

    turn_deg: Scores
    sure: float
    sure_of_axes: Scores
    given: float
    best: float
    away: float
    edges: tuple[int, int]
    curves: dict[str, list[float]]

    @property
    def peak(self) -> float:
        """How much of the best score is due to the alignment; near 0 if nothing aligns."""
        return (self.best - self.away) / self.best if self.best > 0 else 0.0

    @property
    def lost(self) -> float:
        """The share of the peak that the given calibration misses: 0 at the optimum, 1 as good as none."""
        height = self.best - self.away
        return float((self.best - self.given) / height) if height > 0 else 0.0


def edge_view(
    image: NDArray[np.uint8],
    camera: Camera,
    camera_T_lidar: NDArray[np.float64],
    sides_lidar: NDArray[np.float32],
    rims_lidar: NDArray[np.float32],
) -> EdgeView:
    """Maps of an image (H, W, 3) and the depth edges (M, 3 or more) in its camera's frame.

    Image edges are gradients across the kind of depth edge (horizontal for sides, vertical for rims), divided by their
    mean around, so that a busy texture draws no points, and blurred, so that a near miss counts (in place of the
    inverse distance transform of Levinson and Thrun, RSS 2013).
    """
    pixel_deg = pixel_size_deg(camera)
    scale = min(1.0, pixel_deg / FINEST_DEG)
    small_size = max(1, round(camera.width * scale)), max(1, round(camera.height * scale))
    small = camera.resize(*small_size)
    resized = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), small_size, interpolation=cv2.INTER_AREA)
    grey = np.asarray(cv2.GaussianBlur(resized.astype(np.float32), (0, 0), 1.0), dtype=np.float32)
    maps = tuple(_edge_maps(grey, kind, pixel_size_deg(small)) for kind in ((1, 0), (0, 1)))
    points = tuple(_ahead(transform_points(camera_T_lidar, p).astype(np.float32)) for p in (sides_lidar, rims_lidar))
    return EdgeView(small, maps, points)


def pixel_size_deg(camera: Camera) -> float:
    """The angle of a pixel at the principal point."""
    return float(np.degrees(1.0 / camera.K[1, 1]))


def _edge_maps(
    grey: NDArray[np.float32], derivative: tuple[int, int], pixel_deg: float
) -> tuple[NDArray[np.float32], ...]:
    strength = np.abs(cv2.Sobel(grey, cv2.CV_32F, *derivative))
    window = round(_WINDOW_DEG / pixel_deg) | 1
    strength = np.minimum(strength / (cv2.blur(strength, (window, window)) + _FAINT), _STRONGEST)
    return tuple(
        np.asarray(cv2.GaussianBlur(strength, (0, 0), max(blur / pixel_deg, 0.5)), dtype=np.float32)
        for blur in _BLURS_DEG
    )


def _ahead(points_camera: NDArray[np.float32]) -> NDArray[np.float32]:
    return points_camera[points_camera[:, 2] > _NEAREST_M]


def align(views: Sequence[EdgeView]) -> Alignment | None:
    """The small rotation that brings depth edges onto image edges best, over all views of one camera together.

    Axis by axis, from wide blur to sharp, from the given calibration and from the best of a coarse grid; None if no
    edge is in view. How sure each part of the
    rotation is comes from the scatter of its gain between blocks of each view (views alone may be too few).
    """
    counts = [sum(len(view.points_camera[kind]) for view in views) for kind in range(2)]
    if not _score(views, np.zeros(3), _SHARP)[1].any():
        return None
    found = [_climb(views, start) for start in _starts(views)]
    turn = max(found, key=lambda end: _score(views, end, _SHARP)[0])
    away = [_score(views, turn + _about(axis, angle), _SHARP)[0] for axis in range(3) for angle in _away_angles()]
    return Alignment(
        turn_deg=turn,
        sure=_sureness(views, turn, np.zeros(3)),
        sure_of_axes=np.array([_sureness(views, turn, turn - _about(i, float(turn[i]))) for i in range(3)]),
        given=_score(views, np.zeros(3), _SHARP)[0],
        best=_score(views, turn, _SHARP)[0],
        away=float(np.median(away)),
        edges=(counts[0], counts[1]),
        curves={
            name: _curve(views, np.zeros(3), axis, np.array(CURVE_DEG), _SHARP).tolist()
            for axis, name in enumerate(AXES)
        },
    )


def _starts(views: Sequence[EdgeView]) -> list[Scores]:
    """Where to search from: no turn, and the best of a coarse grid if that is another (axes may hide each other)."""
    grid = [np.array(turn) for turn in itertools.product(*_GRID_DEG)]
    best = max(grid, key=lambda turn: (_score(views, turn, _WIDE)[0], not turn.any()))
    return [np.zeros(3)] + ([best] if best.any() else [])


def _climb(views: Sequence[EdgeView], start_deg: Scores) -> Scores:
    """The turn reached axis by axis."""
    turn = start_deg.copy()
    for blur, step_deg, reach_deg in _SEARCH:
        steps = np.linspace(-reach_deg, reach_deg, 2 * round(reach_deg / step_deg) + 1)
        for axis in _ORDER:
            turn[axis] += _peak(steps, _curve(views, turn, axis, steps, blur))
    return turn


def _away_angles() -> list[float]:
    return [sign * angle for angle in (_AWAY_DEG, _AWAY_DEG + 0.5, _AWAY_DEG + 1.0) for sign in (-1, 1)]


def _about(axis: int, angle_deg: float) -> Scores:
    return np.where(np.arange(3) == axis, angle_deg, 0.0)


def _curve(views: Sequence[EdgeView], turn_deg: Scores, axis: int, steps_deg: Scores, blur: int) -> Scores:
    return np.array([_score(views, turn_deg + _about(axis, float(step)), blur)[0] for step in steps_deg])


def _peak(steps: Scores, scores: Scores) -> float:
    """Where the scores are highest, between the steps by the parabola through the highest three."""
    i = int(np.argmax(scores))
    if not 0 < i < len(steps) - 1:
        return float(steps[i])
    low, high = scores[i - 1], scores[i + 1]
    bend = low - 2 * scores[i] + high
    part = 0.5 * (low - high) / bend if bend < 0 else 0.0
    return float(steps[i] + part * (steps[1] - steps[0]))


def rotation_from_degrees(turn_deg: Scores) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) of a rotation vector in degrees."""
    angle_deg = float(np.linalg.norm(turn_deg))
    return np.eye(3) if angle_deg < 1e-9 else rotation_about_axis(turn_deg, float(np.radians(angle_deg)))


def _strengths(view: EdgeView, kind: int, rotation: NDArray[np.float32], blur: int) -> tuple[Scores, NDArray[np.intp]]:
    """Edge strength under each point of a kind that is in view after the rotation, and its row."""
    points = view.points_camera[kind] @ rotation.T
    uv = view.camera.project(points)
    rows = np.flatnonzero(in_view(uv, view.camera.width, view.camera.height) & (points[:, 2] > _NEAREST_M / 2))
    u, v = np.rint(uv[rows]).astype(np.intp).T
    return view.maps[kind][blur][v, u].astype(np.float64), rows


def _score(views: Sequence[EdgeView], turn_deg: Scores, blur: int) -> tuple[float, NDArray[np.int64]]:
    """Mean edge strength over both kinds alike (a kind with few points counts less), and the points of each."""
    rotation = rotation_from_degrees(turn_deg).astype(np.float32)
    sums, counts = np.zeros(2), np.zeros(2, dtype=np.int64)
    for view in views:
        for kind in range(2):
            strengths, rows = _strengths(view, kind, rotation, blur)
            sums[kind] += strengths.sum()
            counts[kind] += len(rows)
    weights = counts / (counts + _FEW)
    if not counts.any():
        return 0.0, counts
    return float((weights * sums / np.maximum(counts, 1)).sum() / weights.sum()), counts


def _sureness(views: Sequence[EdgeView], turn_deg: Scores, other_deg: Scores) -> float:
    """How much better edges fit after the turn than after the other, in standard errors between blocks of columns."""
    with_turn, with_other = (rotation_from_degrees(turn).astype(np.float32) for turn in (turn_deg, other_deg))
    gains = []
    for kind in range(2):
        kind_gains = []
        for view in views:
            strengths, rows = _strengths(view, kind, with_turn, _SHARP)
            others, other_rows = _strengths(view, kind, with_other, _SHARP)
            both, mine, its = np.intersect1d(rows, other_rows, assume_unique=True, return_indices=True)
            x, _, z = view.points_camera[kind][both].T
            block = np.digitize(x / z, np.linspace(*_sides(view.camera), _BLOCKS + 1)[1:-1])
            kind_gains.append(np.bincount(block, strengths[mine] - others[its], _BLOCKS))
        gains.append(np.concatenate(kind_gains))
    counts = np.array([sum(len(view.points_camera[kind]) for view in views) for kind in range(2)], dtype=np.float64)
    weights = 1.0 / (counts + _FEW)
    total = weights @ np.array(gains)
    scatter = float(np.sqrt((total**2).sum()))
    return float(total.sum() / scatter) if scatter > 0 else 0.0


def _sides(camera: Camera) -> tuple[float, float]:
    """Tangents at the left and the right border of the image, without distortion."""
    return float(-camera.K[0, 2] / camera.K[0, 0]), float((camera.width - 1 - camera.K[0, 2]) / camera.K[0, 0])
