"""The workers of a fleet: a process of this machine or an actor of Ray, each with one model and one log at a time."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from fusionseg.deploy.runtime import Model
from fusionseg.replay.source import reason_of

ReplayLog = Callable[[Model, str, Path], object]
"""Replays the log at a path into a folder, or goes on with what the folder holds."""


class WorkerDied(Exception):
    """The process is gone; its log can be resumed by another."""


class Worker(Protocol):
    """Replays logs in a process of its own."""

    def replay(self, log: str, out: Path) -> str | None:
        """Wait for a log; why it could not be replayed, or None.

        Raises:
            WorkerDied: in the middle of it.
        """

    def close(self) -> None:
        """End the process at once; what the log at hand has not written is left to a restart."""


class Replayer:
    """What runs in the process of a worker.

    Args:
        load_model: called once.
        replay_log: called for each log.
        folder: the working folder that relative paths of the two refer to.
    """

    def __init__(self, load_model: Callable[[], Model], replay_log: ReplayLog, folder: str) -> None:
        os.chdir(folder)
        self._load_model, self._replay_log = load_model, replay_log
        self._model: Model | None = None

    def replay(self, log: str, out: Path) -> str | None:
        """Why the log could not be replayed, in one line; None where it was."""
        try:
            if self._model is None:
                self._model = self._load_model()
            self._replay_log(self._model, log, out)
        except Exception as error:
            return reason_of(error)
        return None


class LocalWorker:
    """A process of this machine; arguments are those of ``Replayer`` and must be picklable."""

    def __init__(self, load_model: Callable[[], Model], replay_log: ReplayLog) -> None:
        # spawned, since a fork of a process with threads of torch may hang
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, load_model, replay_log, str(Path.cwd()))
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        # the process alone holds this end, so that its death is the end of the pipe
        theirs.close()

    def replay(self, log: str, out: Path) -> str | None:
        """See ``Worker``."""
        try:
            self._pipe.send((log, out))
            reason: str | None = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied("its worker process died") from error
        return reason

    def close(self) -> None:
        """See ``Worker``."""
        self._process.kill()
        self._process.join()


def _work(pipe: Connection, load_model: Callable[[], Model], replay_log: ReplayLog, folder: str) -> None:
    """Replay what comes through the pipe until it ends."""
    # a terminal sends Ctrl-C to all; the parent ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    replayer = Replayer(load_model, replay_log, folder)
    with suppress(EOFError, OSError):
        while True:
            pipe.send(replayer.replay(*pipe.recv()))


def _end_with_parent() -> None:
    """A worker that outlives a killed parent would write into the folder that a restart resumes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class RayWorker:
    """An actor of the Ray cluster that ``start_ray`` joined.

    Args:
        load_model: see ``Replayer``.
        replay_log: see ``Replayer``.
        cores: that Ray keeps for it.
        gpu: the model runs on one, which Ray keeps for it.
    """

    def __init__(
        self, load_model: Callable[[], Model], replay_log: ReplayLog, *, cores: int = 1, gpu: bool = False
    ) -> None:
        import ray

        actor = ray.remote(num_cpus=cores, num_gpus=int(gpu), max_restarts=0)(Replayer)
        self._actor = actor.remote(load_model, replay_log, str(Path.cwd()))

    def replay(self, log: str, out: Path) -> str | None:
        """See ``Worker``."""
        import ray

        try:
            reason: str | None = ray.get(self._actor.replay.remote(log, out.resolve()))
        except ray.exceptions.RayActorError as error:
            raise WorkerDied("its Ray actor died") from error
        return reason

    def close(self) -> None:
        """See ``Worker``."""
        import ray

        ray.kill(self._actor)


def start_ray(address: str | None, cores: int) -> Any:
    """Join the cluster at ``address``, or start one of this machine with ``cores``; its ``shutdown`` leaves or ends it.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """
    # Ray reads it when it is imported; nothing is reported to anybody without being asked for
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError("--engine ray needs Ray; pip install 'fusionseg[distributed]'") from error
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address is None:
            ray.init(num_cpus=cores, include_dashboard=False, **quiet)
        else:
            ray.init(address, **quiet)
    except Exception as error:
        # Ray has no class of its own for a start that takes longer than the 30 s it allows
        reason = " ".join(str(error).split())
        if address is None:
            raise ValueError(f"Ray cannot start here ({reason}); free the machine or use --engine local") from error
        raise ValueError(f"{address}: no Ray cluster there ({reason}); give what `ray start --head` said") from error
    return ray


def ray_room(ray: Any, cores: int, gpu: bool) -> int:
    """How many workers of so many cores, with a GPU each or not, the cluster can hold.

    Raises:
        ValueError: not one.
    """
    resources = ray.cluster_resources()
    room = int(resources.get("CPU", 0) // cores)
    if gpu:
        room = min(room, int(resources.get("GPU", 0)))
    if not room:
        needs = f"{cores} cores{' and a GPU' if gpu else ''}"
        raise ValueError(f"the Ray cluster has no worker with {needs}; choose fewer --threads or see `ray status`")
    return room
