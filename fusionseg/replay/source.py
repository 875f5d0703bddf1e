"""A log as a stream of frames in order, each loaded and timed, none lost silently."""

import logging
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusionseg.data.log import FrameError, Log
from fusionseg.sample import Sample

logger = logging.getLogger(__name__)

MOST_TOLD = 10
"""Frames that are named to people; a log may lack thousands."""


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


def time_ns(sample: Sample) -> int | None:
    """When the frame was taken: the sweep's time before the image's."""
    return sample.image_time_ns if sample.sweep_time_ns is None else sample.sweep_time_ns


def cut(
    log: Log, frames: Sequence[int], start_s: float | None = None, end_s: float | None = None, every: int = 1
) -> list[int]:
    """Every ``every``-th of the frames taken from ``start_s`` until before ``end_s``, seconds after the first of them.

    A few frames are read to find the two ends: log time is taken to run forward.

    Raises:
        ValueError: nothing is left, or the log has no times.
        FrameError: one of the frames that are asked for their time cannot be read.
    """
    if every < 1:
        raise ValueError(f"every is {every}; expected at least 1")
    chosen = list(frames)
    if chosen and not (start_s is None and end_s is None):
        first_ns = _frame_time_ns(log, chosen[0])
        bounds = [float("-inf") if start_s is None else start_s, float("inf") if end_s is None else end_s]
        first, last = (
            bisect_left(chosen, bound, key=lambda frame: (_frame_time_ns(log, frame) - first_ns) / 1e9)
            for bound in bounds
        )
        chosen = chosen[first:last]
    if not chosen:
        ends = "on" if end_s is None else f"until before {end_s:g} s"
        raise ValueError(f"no frame of {log.path} lies from {start_s or 0:g} s {ends}; give other seconds")
    return chosen[::every]


def _frame_time_ns(log: Log, frame: int) -> int:
    found = time_ns(log.frame(frame, log.cameras[:1])[0])
    if found is None:
        raise ValueError(f"{log.path}: frame {frame} has no time, so that seconds mean nothing; choose with --frames")
    return found


def reason_of(error: Exception) -> str:
    """Why a frame could not be labelled, in one line; what is no fault of the frame's files is named and logged."""
    if isinstance(error, ValueError | OSError):
        return " ".join(str(error).split())
    logger.warning("a frame is skipped", exc_info=error)
    return " ".join(f"{type(error).__name__}: {error}".split())


def reason_lines(left_out: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    """A line for each of the first frames left out (``frame``, ``reason``), and how many more stand in ``where``."""
    lines = [f"  frame {entry['frame']}: {entry['reason']}" for entry in left_out[:MOST_TOLD]]
    more = len(left_out) - len(lines)
    return [*lines, f"  and {more:,} more, see {where}"] if more else lines


def stream(log: Log, frames: Sequence[int], cameras: Sequence[str], strict: bool = False) -> Iterator[Loaded]:
    """Every frame in order, read when it is asked for.

    Raises:
        FrameError: a frame cannot be read and ``strict`` is set.
    """
    for frame in frames:
        start = time.perf_counter()
        try:
            samples, reason = log.frame(frame, cameras), None
        except Exception as error:
            samples, reason = [], reason_of(error)
            if strict:
                raise FrameError(reason) from error
        yield Loaded(frame, samples, reason, (time.perf_counter() - start) * 1000.0)
