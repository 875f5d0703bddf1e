"""The last few sweeps are kept, for threads too."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from fusionseg.data.recent import Recent


def test_the_last_two_are_kept() -> None:
    read: list[int] = []

    def note(frame: int) -> int:
        read.append(frame)
        return 10 * frame

    recent = Recent(note)
    assert [recent(frame) for frame in (1, 2, 1, 3, 1, 2)] == [10, 20, 10, 30, 10, 20]
    assert read == [1, 2, 3, 2]


def test_each_thread_gets_the_frame_it_asked_for() -> None:
    def slow(frame: int) -> int:
        time.sleep(0.0005)
        return frame

    recent = Recent(slow, size=1)
    start = threading.Barrier(8)

    def ask(offset: int) -> bool:
        start.wait()
        return all(recent((i * 7 + offset) % 5) == (i * 7 + offset) % 5 for i in range(100))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
