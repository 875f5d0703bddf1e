"""Keep the last few decoded sweeps, so that the views of one frame decode it once."""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """``read(frame)``, remembered for the ``size`` frames asked for last; errors are not remembered.

    Threads may share it; two that ask for a new frame at once may both read it.
    """

    def __init__(self, read: Callable[[int], T], size: int = 2) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; expected at least 1 remembered frame")
        self._read = read
        self._size = size
        self._kept: OrderedDict[int, T] = OrderedDict()
        self._lock = Lock()

    def __call__(self, frame: int) -> T:
        """What ``read`` returns for the frame."""
        with self._lock:
            if frame in self._kept:
                self._kept.move_to_end(frame)
                return self._kept[frame]
        value = self._read(frame)
        with self._lock:
            self._kept[frame] = value
            self._kept.move_to_end(frame)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return value
