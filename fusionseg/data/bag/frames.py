"""Coordinate frames of a recording and how they lie to each other over time: what ROS calls tf."""

from array import array
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.bag.messages import Link
from fusionseg.geometry.transform import compose, invert, make_transform, rotation_from_quaternion

# first those that do not jump when the vehicle finds out where it is
FIXED_FRAMES = ("odom", "map", "world", "earth")
VEHICLE_FRAMES = ("base_link", "base_footprint", "base", "ego_vehicle")
BEYOND_NS = 100_000_000
"""How far past its first and last pose a motion is continued."""
GAP_NS = 1_000_000_000
"""Between poses further apart than this, nobody knows where the vehicle was."""
WINDOW_NS = 5_000_000_000
"""Only poses recorded this close are looked at: after a clock jumps back its stamps come a second time."""
SAME = 1e-9


Taken = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]


class Moment(NamedTuple):
    """A time by the sensors' clock, and when it was recorded."""

    time_ns: int
    recorded_ns: int


class _Edge:
    """``parent_T_child`` over time."""

    def __init__(self) -> None:
        self.static = False
        self._stamps, self._recorded, self._values = array("q"), array("q"), array("d")

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, link: Link, recorded_ns: int) -> None:
        """One transform more."""
        self._stamps.append(link.stamp_ns)
        self._recorded.append(recorded_ns)
        self._values.extend((*link.quaternion_wxyz, *link.translation_m))

    def freeze(self, taken: Taken) -> None:
        """Sort what was added; an edge that never changes is static."""
        order = np.argsort(np.array(self._recorded), kind="stable")
        self.recorded_ns = np.array(self._recorded, dtype=np.int64)[order]
        self.times_ns = taken(np.array(self._stamps, dtype=np.int64)[order], self.recorded_ns)
        rows = np.array(self._values).reshape(-1, 7)[order]
        self.static = self.static or bool(np.abs(rows - rows[0]).max() < SAME)
        if self.static:
            rows = rows[-1:]
        self.matrices = make_transform(rotation_from_quaternion(rows[:, :4]), rows[:, 4:])

    def at(self, moment: Moment | None) -> NDArray[np.float64] | None:
        """(4, 4), or None where the time is unknown or too far from any pose."""
        if self.static:
            matrix: NDArray[np.float64] = self.matrices[0]
            return matrix
        if moment is None:
            return None
        low, high = np.searchsorted(self.recorded_ns, np.array([-WINDOW_NS, WINDOW_NS]) + moment.recorded_ns)
        times, first = np.unique(self.times_ns[low:high], return_index=True)
        if len(times) < 2:
            return None
        after = int(np.clip(np.searchsorted(times, moment.time_ns), 1, len(times) - 1))
        start, end = times[after - 1], times[after]
        if end - start > GAP_NS or not start - BEYOND_NS <= moment.time_ns <= end + BEYOND_NS:
            return None
        part = float(moment.time_ns - start) / float(end - start)
        return _between(self.matrices[low + first[after - 1]], self.matrices[low + first[after]], part)


def _between(start: NDArray[np.float64], end: NDArray[np.float64], part: float) -> NDArray[np.float64]:
    """The pose a part of the way from one to another, at constant velocity."""
    motion = compose(invert(start), end)
    turn = cv2.Rodrigues(cv2.Rodrigues(motion[:3, :3])[0] * part)[0]
    return compose(start, make_transform(turn, motion[:3, 3] * part))


class FrameTree:
    """Every transform of a recording; ``freeze`` ends the adding and begins the asking."""

    def __init__(self) -> None:
        self._edges: dict[tuple[str, str], _Edge] = {}
        self._paths: dict[tuple[str, str], list[tuple[_Edge, bool]] | None] = {}

    def add(self, link: Link, recorded_ns: int, static: bool) -> None:
        """Take one transform; a static one holds at all times."""
        edge = self._edges.setdefault((link.parent, link.child), _Edge())
        edge.static |= static
        values = (*link.quaternion_wxyz, *link.translation_m)
        if np.isfinite(values).all() and any(link.quaternion_wxyz):
            edge.add(link, recorded_ns)

    def freeze(self, taken: Taken) -> None:
        """Make ready for questions; ``taken`` makes times of the sensors' clock of stamps and recording times."""
        self._edges = {frames: edge for frames, edge in self._edges.items() if len(edge)}
        for edge in self._edges.values():
            edge.freeze(taken)

    def lookup(self, target: str, source: str, moment: Moment | None = None) -> NDArray[np.float64] | None:
        """``target_T_source`` (4, 4) at a time, or None where no transforms lead there.

        Without a moment only transforms that never change are used.
        """
        path = self._path(target, source)
        if path is None:
            return None
        result = np.eye(4)
        for edge, forwards in path:
            matrix = edge.at(moment)
            if matrix is None:
                return None
            result = compose(result, matrix if forwards else invert(matrix))
        return result

    def fixed_frame(self, frame: str) -> str | None:
        """A frame at rest in which ``frame`` moves."""
        for fixed in FIXED_FRAMES:
            path = self._path(fixed, frame)
            if path is not None and not all(edge.static for edge, _ in path):
                return fixed
        return None

    def _path(self, target: str, source: str) -> list[tuple[_Edge, bool]] | None:
        """Edges from target to source, each with whether it is taken from parent to child; static ones if they do."""
        key = (target, source)
        if key not in self._paths:
            static = [(frames, edge) for frames, edge in self._edges.items() if edge.static]
            found = _search(static, target, source)
            self._paths[key] = _search(list(self._edges.items()), target, source) if found is None else found
        return self._paths[key]


def _search(edges: list[tuple[tuple[str, str], _Edge]], target: str, source: str) -> list[tuple[_Edge, bool]] | None:
    """The shortest path between two frames."""
    neighbours: dict[str, list[tuple[str, _Edge, bool]]] = {}
    for (parent, child), edge in edges:
        neighbours.setdefault(parent, []).append((child, edge, True))
        neighbours.setdefault(child, []).append((parent, edge, False))
    paths: dict[str, list[tuple[_Edge, bool]]] = {target: []}
    waiting = deque([target])
    while waiting:
        here = waiting.popleft()
        if here == source:
            return paths[here]
        for there, edge, forwards in neighbours.get(here, ()):
            if there not in paths:
                paths[there] = [*paths[here], (edge, forwards)]
                waiting.append(there)
    return None
