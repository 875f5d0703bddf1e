"""Playing a log at the speed it was recorded at, and counting the frames whose labels come too late."""

import time
from threading import Event
from typing import Any

import numpy as np

from fusionseg.deploy.timing import SENSOR_PERIOD_S, percentiles
from fusionseg.replay.source import time_ns
from fusionseg.sample import Sample

LONGEST_STEP_S = 60.0
"""Between two frames; where the log says more, or runs backwards, its clock was set."""


class Pacer:
    """Holds every frame back until it is due: as long after the first as the log says (10 Hz where it has no times).

    A frame at which the log's clock was set is due a period after the one before.
    """

    def __init__(self) -> None:
        self._began_s = self._next_s = 0.0
        self._last_ns: int | None = None
        self._began = False
        self._jumps = 0
        self._due_s: list[float] = []
        self._lag_s: list[float] = []

    def wait(self, sample: Sample, stop: Event) -> float:
        """Return when the frame is due, or when ``stop`` is set; seconds from the first frame to when it was due."""
        now_ns = time_ns(sample)
        if self._began:
            self._next_s += self._step_s(now_ns)
        else:
            self._began, self._began_s = True, time.perf_counter()
        self._last_ns = now_ns
        stop.wait(max(0.0, self._began_s + self._next_s - time.perf_counter()))
        return self._next_s

    def _step_s(self, now_ns: int | None) -> float:
        if now_ns is None or self._last_ns is None:
            return SENSOR_PERIOD_S
        step_s = (now_ns - self._last_ns) / 1e9
        if 0 <= step_s <= LONGEST_STEP_S:
            return step_s
        self._jumps += 1
        return SENSOR_PERIOD_S

    def labelled(self, due_s: float) -> None:
        """The labels of the frame that was due then are ready."""
        self._lag_s.append(time.perf_counter() - self._began_s - due_s)
        self._due_s.append(due_s)

    def report(self) -> dict[str, Any] | None:
        """What ``summary.json`` says; a deadline is missed by labels that take longer than the period of the frames."""
        if not self._lag_s:
            return None
        period_s = float(np.median(np.diff(self._due_s))) if len(self._due_s) > 1 else SENSOR_PERIOD_S
        missed = int(np.sum(np.array(self._lag_s) > period_s))
        return {
            "frames": len(self._lag_s),
            "missed": missed,
            "missed_share": missed / len(self._lag_s),
            "period_ms": round(1e3 * period_s, 3),
            "clock_jumps": self._jumps,
            "lag_ms": percentiles([1e3 * lag_s for lag_s in self._lag_s]),
        }
