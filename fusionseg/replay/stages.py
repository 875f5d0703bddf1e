"""Stages that work at the same time, each in a thread of its own, on jobs that keep their order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from threading import Condition, Thread
from typing import Generic, TypeVar

J = TypeVar("J")


class _Cancelled(Exception):
    """The other side has left."""


class Channel(Generic[J]):
    """A queue of at most ``room`` jobs between two threads, which either side can close."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._jobs: deque[J] = deque()
        self._changed = Condition()
        self._ended = self._cancelled = False

    def put(self, job: J) -> None:
        """Wait for room and add a job.

        Raises:
            _Cancelled: nobody will take it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or len(self._jobs) < self._room)
            if self._cancelled:
                raise _Cancelled
            self._jobs.append(job)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[J]:
        """Jobs as they come, until the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._cancelled or self._ended or self._jobs)
                if self._cancelled or not self._jobs:
                    return
                job = self._jobs.popleft()
                self._changed.notify_all()
            yield job
            # a job that is done with must not live on here while the next is waited for
            del job

    def end(self) -> None:
        """No more jobs will be put."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """No more jobs will be taken; those in the queue are forgotten."""
        with self._changed:
            self._cancelled = True
            self._jobs.clear()
            self._changed.notify_all()


def run_stages(source: Iterable[J], stages: Sequence[Callable[[J], J | None]], room: int = 1) -> Generator[J]:
    """Every job of ``source`` after all ``stages``, in the order of the source.

    The source and each stage have a thread; between two of them wait at most ``room`` jobs, so that a slow stage slows
    the others down and nothing is lost. A stage that raises is the last thing that happens: the jobs before it go
    through, then the error is raised here. Closing the iterator stops all threads after the job each has at hand.

    Args:
        source: iterated in the first thread.
        stages: each takes a job and returns it, or None to leave it out.
        room: jobs that wait between two stages.

    Raises:
        Exception: what the source or a stage has raised.
    """
    channels: list[Channel[J]] = [Channel(room) for _ in range(len(stages) + 1)]
    failures: list[BaseException] = []

    def work(jobs: Iterable[J], stage: Callable[[J], J | None], inlet: Channel[J] | None, outlet: Channel[J]) -> None:
        try:
            for job in jobs:
                done = stage(job)
                if done is not None:
                    outlet.put(done)
                del job, done
        except _Cancelled:
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            if inlet is not None:
                inlet.cancel()
            outlet.end()

    threads = [Thread(target=work, args=(source, lambda job: job, None, channels[0]), daemon=True)]
    for stage, inlet, outlet in zip(stages, channels, channels[1:], strict=False):
        threads.append(Thread(target=work, args=(inlet, stage, inlet, outlet), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield from channels[-1]
    finally:
        for channel in channels:
            channel.cancel()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
