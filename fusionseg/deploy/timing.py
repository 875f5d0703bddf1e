"""Rules of honest timing: percentiles, who runs when, and which frames miss their deadline (no clock of its own)."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

SENSOR_PERIOD_S = 0.1
"""LiDARs and cameras of driving logs deliver at 10 Hz."""


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """``p50``, ``p95`` and ``p99``; None without values."""
    if not values:
        return None
    found = np.percentile(values, (50, 95, 99))
    return {name: round(float(value), 3) for name, value in zip(("p50", "p95", "p99"), found, strict=True)}


def interleaved(count: int, rounds: int) -> Iterator[list[int]]:
    """For each round the order in which ``count`` contenders run: all once, in an order drawn anew (same every time).

    A machine that slows down (heat, neighbours) then slows all of them alike, and none always runs in the wake of the
    same other one, whose threads may still be busy and whose data fills the caches.
    """
    draw = random.Random(0)
    for _ in range(rounds):
        yield draw.sample(range(count), count)


@dataclass(frozen=True)
class Deadlines:
    """What became of frames that came at sensor rate.

    Attributes:
        frames: how many came.
        in_time: their labels were ready within a period.
        missed: they were labelled, but took longer.
        late: they came while another frame ran; the newest data goes first, so they were never started.
        missed_share: ``missed`` and ``late`` of all frames, in [0, 1].
        period_ms: time between frames, and what each may take.
    """

    frames: int
    in_time: int
    missed: int
    late: int
    missed_share: float
    period_ms: float

    def as_dict(self) -> dict[str, float]:
        """Plain JSON."""
        return asdict(self)


def pace(
    run: Callable[[int], object],
    frames: int,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    period_s: float = SENSOR_PERIOD_S,
) -> Deadlines:
    """Run ``run(frame)`` at sensor rate and count the frames whose labels come later than a period after they were due.

    The first frame is due a period after the call.

    Args:
        run: labels one frame.
        frames: how many come.
        clock: seconds from any beginning (``time.perf_counter``).
        sleep: waits for so many seconds.
        period_s: between two frames.

    Raises:
        ValueError: fewer than one frame.
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}; expected at least 1 to pace")
    began = clock() + period_s
    in_time = missed = late = 0
    for frame in range(frames):
        due = began + frame * period_s
        wait = due - clock()
        if wait < 0:
            late += 1
            continue
        # a sleep may end early
        while wait > 0:
            sleep(wait)
            wait = due - clock()
        run(frame)
        if clock() - due <= period_s:
            in_time += 1
        else:
            missed += 1
    return Deadlines(frames, in_time, missed, late, (missed + late) / frames, 1e3 * period_s)
