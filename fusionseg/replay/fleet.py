"""Many logs by several workers: each log once, whatever dies on the way."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

from fusionseg.files import write_json
from fusionseg.replay.expect import FIGURES
from fusionseg.replay.journal import read_journal
from fusionseg.replay.workers import Worker, WorkerDied

ATTEMPTS = 3
"""How many workers may die over a log."""
LOGS_FILE = "logs.json"
OUTCOME_FILE = "outcome.json"
"""What says in the folder of a log that it is done."""


@dataclass(frozen=True)
class Job:
    """A log, and the folder for its results."""

    log: Path
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a log.

    Attributes:
        name: of its folder.
        log: its path.
        fault: why it is not done; None where it is.
        seen: frames that are accounted for: ``written`` and ``skipped``.
        miou: of points, or of pixels where no points are labelled; None without labels.
        fps: frames a second, with the start of its workers; None where no frame was left to do.
        seconds: that the attempts took, those of earlier runs of the fleet left out.
        attempts: how many workers it was given to.
    """

    name: str
    log: str
    fault: str | None
    seen: int
    written: int
    skipped: int
    miou: float | None
    fps: float | None
    seconds: float
    attempts: int


def fleet_jobs(logs: Sequence[str | Path], out: Path) -> list[Job]:
    """A folder in ``out`` for each log, named after it; logs of one name are numbered in their order.

    ``logs.json`` keeps who has which folder, so that a log keeps its own whatever others are named beside it later. A
    log named twice is one.

    Raises:
        ValueError: ``logs.json`` is damaged or cannot be written.
    """
    path = out / LOGS_FILE
    try:
        folders: dict[str, str] = dict(json.loads(path.read_bytes())) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: is damaged ({error}); choose another --out") from error
    wanted = list(dict.fromkeys(Path(log).resolve() for log in logs))
    for log in wanted:
        names = (log.name if number == 1 else f"{log.name}-{number}" for number in range(1, len(folders) + 2))
        folders.setdefault(str(log), next(name for name in names if name not in folders.values()))
    write_json(path, folders)
    return [Job(log, out / folders[str(log)]) for log in wanted]


def run_fleet(
    jobs: Sequence[Job], hire: Callable[[], Worker], workers: int, on_log: Callable[[Outcome], None]
) -> list[Outcome]:
    """Replay the logs that are not done; a log whose worker died goes to a new one, which resumes it.

    Args:
        jobs: the logs.
        hire: starts a worker.
        workers: how many at a time.
        on_log: called with each log once it is done or given up, those of an earlier run first.

    Returns:
        One a job, in their order.

    Raises:
        KeyboardInterrupt: after the workers have ended; the same call goes on from there.
        ValueError: an outcome cannot be written.
    """
    outcomes = {job: found for job in jobs if (found := read_outcome(job))}
    for outcome in outcomes.values():
        on_log(outcome)
    left = [job for job in jobs if job not in outcomes]
    if not left:
        return list(outcomes.values())
    crew = _Crew(hire, min(workers, len(left)))
    with ThreadPoolExecutor(workers) as threads:
        futures = {threads.submit(crew.replay, job): job for job in left}
        try:
            for future in as_completed(futures):
                outcomes[futures[future]] = future.result()
                on_log(future.result())
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            crew.close()
    return [outcomes[job] for job in jobs]


class _Crew:
    """The workers, each with one log at a time."""

    def __init__(self, hire: Callable[[], Worker], count: int) -> None:
        self._hire, self._over = hire, Event()
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._all: list[Worker] = []
        for _ in range(count):
            self._idle.put(self._new())

    def _new(self) -> Worker:
        self._all.append(self._hire())
        return self._all[-1]

    def replay(self, job: Job) -> Outcome:
        """One log, by as many workers as it takes; runs in a thread."""
        before, began, attempts, fault = len(frames_done(job)), time.monotonic(), 0, None
        while attempts < ATTEMPTS and not self._over.is_set():
            attempts += 1
            worker = self._idle.get()
            try:
                fault = worker.replay(str(job.log), job.folder)
                break
            except WorkerDied as error:
                fault = f"{error}, {attempts} of {ATTEMPTS} attempts"
                if not self._over.is_set():
                    worker.close()
                    worker = self._new()
            finally:
                self._idle.put(worker)
        outcome = _outcome(job, fault, before, time.monotonic() - began, attempts)
        if outcome.fault is None:
            write_json(job.folder / OUTCOME_FILE, asdict(outcome))
        return outcome

    def close(self) -> None:
        self._over.set()
        for worker in self._all:
            worker.close()


def read_outcome(job: Job) -> Outcome | None:
    """That of a log that is done; None where the replay has to go on."""
    try:
        return Outcome(**json.loads((job.folder / OUTCOME_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def frames_done(job: Job) -> list[dict[str, Any]]:
    """What the journal of a log says of each frame that is accounted for."""
    return [entry for entry in read_journal(job.folder) if "frame" in entry]


def _outcome(job: Job, fault: str | None, before: int, seconds: float, attempts: int) -> Outcome:
    """``before`` is how many frames were done when the attempts began."""
    done = frames_done(job)
    skipped = [entry["skipped"] for entry in done if "skipped" in entry]
    if fault is None and skipped and len(skipped) == len(done):
        fault = f"none of {len(done)} frames could be labelled; the first: {skipped[0]}"
    summary = None if fault else json.loads((job.folder / "summary.json").read_bytes())
    return Outcome(
        name=job.folder.name,
        log=str(job.log),
        fault=fault,
        seen=len(done),
        written=len(done) - len(skipped),
        skipped=len(skipped),
        miou=summary and FIGURES["miou"](summary),
        fps=(len(done) - before) / seconds if len(done) > before else None,
        seconds=seconds,
        attempts=attempts,
    )
