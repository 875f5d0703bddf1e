"""A log as a stream of frames in order, each loaded and timed, none lost silently."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fusionseg.data.log import FrameError, Log
from fusionseg.sample import Sample


@dataclass(frozen=True, eq=False)
class Loaded:
    """One frame: its views, or why it could not be read.

    Attributes:
        frame: the log's own number.
        samples: the views, which share one sweep; empty if the frame could not be read.
        reason: why it could not be read, or None.
        load_ms: time it took to read and decode.
    """

    frame: int
    samples: list[Sample]
    reason: str | None
    load_ms: float


def select_cameras(log: Log, cameras: str | Sequence[str] | None) -> list[str]:
    """Camera names from a list or from text separated by commas, all of the log's for None.

    Raises:
        ValueError: a name that the log does not have; lists those it has.
    """
    names = cameras.split(",") if isinstance(cameras, str) else list(cameras or log.cameras)
    names = [name.strip() for name in names if name.strip()]
    for name in names:
        if name not in log.cameras:
            raise ValueError(f"camera {name!r} is not in {log.path}; it has {', '.join(log.cameras)}")
    if not names:
        raise ValueError(f"no camera was named; {log.path} has {', '.join(log.cameras)}")
    return list(dict.fromkeys(names))


def stream(log: Log, frames: Sequence[int], cameras: Sequence[str], strict: bool = False) -> Iterator[Loaded]:
    """Every frame in order, read when it is asked for.

    Raises:
        FrameError: a frame cannot be read and ``strict`` is set.
    """
    for frame in frames:
        start = time.perf_counter()
        try:
            samples, reason = log.frame(frame, cameras), None
        except FrameError as error:
            if strict:
                raise
            samples, reason = [], str(error)
        yield Loaded(frame, samples, reason, (time.perf_counter() - start) * 1000.0)
