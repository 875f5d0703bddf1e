"""Playing a log at the speed it was recorded at, and counting the frames whose labels come too late."""

import time
from threading import Event
from typing import Any

import numpy as np

from fusionseg.deploy.timing import SENSOR_PERIOD_S, percentiles
from fusionseg.replay.source import time_ns
from fusionseg.sample import Sample


class Pacer:
    """Holds every frame back until it is due: as long after the first as the log says (10 Hz where it has no times)."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._first_ns: int | None = None
        self._count = 0
        self._due_s: list[float] = []
        self._lag_s: list[float] = []

    def wait(self, sample: Sample, stop: Event) -> float:
        """Return when the frame is due, or when ``stop`` is set; seconds from the first frame to when it was due."""
        now_ns = time_ns(sample)
        if self._count == 0:
            self._began_s, self._first_ns = time.perf_counter(), now_ns
        if now_ns is None or self._first_ns is None:
            due_s = self._count * SENSOR_PERIOD_S
        else:
            due_s = (now_ns - self._first_ns) / 1e9
        self._count += 1
        stop.wait(max(0.0, self._began_s + due_s - time.perf_counter()))
        return due_s

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
            "lag_ms": percentiles([1e3 * lag_s for lag_s in self._lag_s]),
        }
