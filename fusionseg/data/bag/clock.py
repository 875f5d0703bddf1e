"""One clock for all streams of a recording: that of the sensor whose messages are the frames.

A message says when it was taken (its stamp), the recorder when it was written. Stamps are better, as messages travel;
but drivers leave them at 0, count from when the sensor was switched on, or from a clock that is off or jumps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

JUMP_NS = 1_000_000_000
"""Clocks further apart than this do not agree; a message travels less long."""


@dataclass(frozen=True, eq=False)
class Times:
    """When the messages of a stream were taken and recorded, in the order of recording.

    Attributes:
        taken_ns: (N,) int64 by the sensors' clock.
        recorded_ns: (N,) int64.
    """

    taken_ns: NDArray[np.int64]
    recorded_ns: NDArray[np.int64]

    def jumps(self) -> int:
        """How often the clock jumps between two messages, forwards or back."""
        return int((np.abs(np.diff(self.taken_ns) - np.diff(self.recorded_ns)) > JUMP_NS).sum())

    def first_of_a_stamp(self) -> NDArray[np.bool_]:
        """(N,) False where the message before has the same stamp."""
        first: NDArray[np.bool_] = np.diff(self.taken_ns, prepend=self.taken_ns[:1] - 1) != 0
        return first


class Clock:
    """The clock of a stream, given its stamps and when they were recorded; both (N,) int64, in order of recording."""

    def __init__(self, stamps_ns: NDArray[np.int64], recorded_ns: NDArray[np.int64]) -> None:
        set_at_all = np.median(stamps_ns) > 0 and (len(stamps_ns) == 1 or np.ptp(stamps_ns) > 0)
        self._recorded_ns = recorded_ns
        self._delay_ns = recorded_ns - stamps_ns if set_at_all else np.zeros_like(recorded_ns)

    def _delay_at(self, recorded_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """How long after being taken messages were recorded at a time, by the nearest message of this clock."""
        after = np.clip(np.searchsorted(self._recorded_ns, recorded_ns), 1, max(1, len(self._recorded_ns) - 1))
        after = np.minimum(after, len(self._recorded_ns) - 1)
        before = np.maximum(after - 1, 0)
        nearer = recorded_ns - self._recorded_ns[before] < self._recorded_ns[after] - recorded_ns
        return self._delay_ns[np.where(nearer, before, after)]

    def agrees(self, stamps_ns: NDArray[np.int64], recorded_ns: NDArray[np.int64]) -> bool:
        """Whether another stream's stamps are of this clock."""
        return bool(np.median(np.abs(recorded_ns - stamps_ns - self._delay_at(recorded_ns))) <= JUMP_NS)

    def taken(self, stamps_ns: NDArray[np.int64], recorded_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """(N,) when messages were taken by this clock: their stamps if they agree, else when they were recorded."""
        agrees = self.agrees(stamps_ns, recorded_ns)
        return stamps_ns if agrees else recorded_ns - self._delay_at(recorded_ns)
