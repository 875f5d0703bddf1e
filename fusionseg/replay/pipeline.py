"""Replay of a log: read, prepare, label, draw and write at the same time, every frame in order and accounted for."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any

import fusionseg
from fusionseg.data.log import FrameError, Log
from fusionseg.data.prepare import fit_size
from fusionseg.deploy.result import STAGES, FrameResult
from fusionseg.deploy.runtime import Model, Prepared, Sensors
from fusionseg.files import write_json
from fusionseg.replay.account import Account, machine, safe_entries
from fusionseg.replay.journal import begin_run, check_same_run, clear_torn_files, read_journal
from fusionseg.replay.pace import Pacer
from fusionseg.replay.plan import Plan, check_plan, open_sinks
from fusionseg.replay.recorder import Row, measure
from fusionseg.replay.source import Loaded, reason_of, stream
from fusionseg.replay.stages import run_stages
from fusionseg.sample import Sample

CHECKPOINT_FRAMES = 100
"""How many frames of a video a kill may cost."""


@dataclass(eq=False)
class _Job:
    """A frame on its way: each stage fills in its part and drops what no later one needs."""

    frame: int
    samples: list[Sample]
    load_ms: float
    reason: str | None
    prepared: Prepared | None = None
    result: FrameResult | None = None
    alone: dict[str, FrameResult] = field(default_factory=dict)
    drawn: list[Any] = field(default_factory=list)
    row: Row | None = None
    inputs: dict[str, list[int]] = field(default_factory=dict)
    due_s: float = 0.0
    note: str = ""


def replay(
    log: Log,
    model: Model,
    out: Path,
    plan: Plan,
    on_frame: Callable[[str], None] = lambda note: None,
    *,
    resume: bool = False,
    digest: str = "",
) -> dict[str, Any]:
    """Replay a log into the folder ``out``; returns what ``summary.json`` holds.

    ``labels/`` gets one ``.label`` per sweep (or one PNG per image where there is no LiDAR), ``metrics.csv`` and
    ``frames.npz`` the figures of each frame; ``video/``, ``clouds/``, ``submission/``, ``replay.mcap`` and
    ``replay.rrd`` are there if the plan asks for them. While one frame is labelled, the next are read and
    prepared and the ones before are drawn and written. No frame is ever dropped; one that cannot be read or labelled is
    skipped and the reason noted.
    Ctrl-C finishes the frame at hand and leaves a valid partial result; a second one stops at once.

    Args:
        log: opened log.
        model: what labels it.
        out: empty folder, or the one of the run to resume.
        plan: what to replay and how.
        on_frame: called after each frame with a short note.
        resume: go on with the run in ``out`` where it was stopped.
        digest: of the model, so that another one is not taken to resume a run.

    Raises:
        FrameError: a frame cannot be read and ``plan.strict`` is set.
        FileNotFoundError: there is nothing to resume.
        ValueError: a file cannot be written, the log lacks the one sensor that was asked for, or the run to resume is
            of another log, model or plan.
    """
    check_plan(log, model, plan)
    identity = _identity(log, model, plan, digest)
    entries: Sequence[Mapping[str, Any]] = ()
    if resume:
        check_same_run(out, identity)
        clear_torn_files(out)
        entries = safe_entries(read_journal(out), plan.streams)
    else:
        begin_run(out, identity)
    account = Account(out, model.table, plan.sensors, len(plan.frames), entries)
    return _Replay(log, model, out, plan, account).run(on_frame)


def _identity(log: Log, model: Model, plan: Plan, digest: str) -> dict[str, Any]:
    return {
        "fusionseg": fusionseg.__version__,
        "log": str(log.path.resolve()),
        "format": log.format,
        "log options": {name: value for name, value in log.options.items() if value is not None},
        "model": model.name,
        "model digest": digest,
        **plan.identity(),
    }


class _Replay:
    """One run: the stages, in the order in which a frame meets them."""

    def __init__(self, log: Log, model: Model, out: Path, plan: Plan, account: Account) -> None:
        self._log, self._model, self._out, self._plan, self._account = log, model, out, plan, account
        self._stop = Event()
        # a frame is in some of the sinks and not in others
        self._torn = False
        self._pacer = Pacer() if plan.paced else None
        self._sinks = open_sinks(log, model.table, out, plan, account.done)

    def run(self, on_frame: Callable[[str], None]) -> dict[str, Any]:
        """All frames that are left; the summary."""
        began = time.perf_counter(), time.process_time(), self._account.done
        left = self._plan.frames[self._account.done :]
        loaded = stream(self._log, left, self._plan.cameras, self._plan.strict)
        stages = [self._guarded(step) for step in (self._prepare, self._label, self._draw)]
        try:
            with (
                _set_on_interrupt(self._stop),
                closing(run_stages(self._read(loaded), [*stages, self._write])) as jobs,
            ):
                for job in jobs:
                    on_frame(job.note)
        except KeyboardInterrupt:
            self._stop.set()
            raise
        finally:
            try:
                self._close()
            finally:
                summary = self._finish(*began)
        return summary

    def _close(self) -> None:
        """Finish the files; or leave them as they were at the last checkpoint, so that the run can be resumed."""
        try:
            if not self._torn:
                self._torn = True
                self._checkpoint()
                self._torn = False
        finally:
            with ExitStack() as each:
                for sink in self._sinks:
                    each.callback(sink.abandon if self._torn else sink.close)

    def _guarded(self, step: Callable[[_Job], None]) -> Callable[[_Job], _Job | None]:
        """The step as a stage: what goes wrong is a reason to skip the frame, or to stop if the run is strict."""

        def stage(job: _Job) -> _Job | None:
            if self._stop.is_set() and job.result is None:
                return None
            if job.reason is None:
                try:
                    step(job)
                except Exception as error:
                    job.reason = reason_of(error)
                    if self._plan.strict:
                        raise FrameError(job.reason) from error
            return job

        return stage

    def _read(self, loaded: Iterator[Loaded]) -> Iterator[_Job]:
        for frame in loaded:
            if self._stop.is_set():
                return
            yield _Job(frame.frame, frame.samples, frame.load_ms, frame.reason)

    def _prepare(self, job: _Job) -> None:
        check_sensors(job.samples, self._plan.sensors)
        if self._pacer is not None:
            job.due_s = self._pacer.wait(job.samples[0], self._stop)
        job.prepared = self._model.prepare([job.samples], sensors=self._plan.sensors, size=self._plan.size)

    def _label(self, job: _Job) -> None:
        assert job.prepared is not None
        result = self._model.label(job.prepared)[0]
        if self._pacer is not None:
            self._pacer.labelled(job.due_s)
        job.alone = self._alone(job.samples)
        job.prepared, job.result = None, result

    def _draw(self, job: _Job) -> None:
        assert job.result is not None
        scored = self._log.table.names == self._model.table.names
        row = measure(job.samples, job.result, sensors=self._plan.sensors, alone=job.alone, scored=scored)
        row.spent_ms["load"] = job.load_ms
        with _timed(row.spent_ms, "render"):
            job.drawn = [sink.draw(job.samples, job.result) for sink in self._sinks]
        size = self._plan.size
        job.inputs = {s.camera_name: list(size or fit_size(self._model.size, s.camera)) for s in job.samples}
        # images and clouds are large, and no later stage needs them
        job.samples, job.alone, job.row = [], {}, row

    def _write(self, job: _Job) -> _Job:
        self._torn = True
        if job.row is None:
            self._account.skip(job.frame, str(job.reason))
            job.note = f"frame {job.frame} skipped: {job.reason}"
        else:
            spent_ms = job.row.spent_ms
            with _timed(spent_ms, "write"):
                for sink, drawn in zip(self._sinks, job.drawn, strict=True):
                    sink.write(job.frame, drawn)
            spent_ms["total"] = sum(spent_ms[stage] for stage in STAGES)
            spent_ms["end_to_end"] = spent_ms["load"] + spent_ms["total"]
            self._account.write(job.row, job.inputs)
            job.note = f"frame {job.frame}: {spent_ms['total']:.0f} ms"
        if self._account.done % CHECKPOINT_FRAMES == 0:
            self._checkpoint()
        self._torn = False
        return _Job(job.frame, [], 0.0, None, note=job.note)

    def _checkpoint(self) -> None:
        for sink in self._sinks:
            sink.checkpoint(self._account.done)
        self._account.checkpoint()

    def _alone(self, samples: Sequence[Sample]) -> dict[str, FrameResult]:
        """The labels of points in view and of pixels from each sensor alone, if they are asked for."""
        settings: tuple[Sensors, ...] = ("camera", "lidar") if self._plan.alone else ()
        return {
            sensors: self._model.predict_frame(samples, sensors=sensors, whole_sweep=False, size=self._plan.size)
            for sensors in settings
        }

    def _finish(self, began_s: float, began_cpu_s: float, done_before: int) -> dict[str, Any]:
        spent_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        frames = max(1, self._account.done - done_before)
        self._account.close()
        figures = self._account.recorder.figures()
        finished = sorted(path.name for path in (self._out / "video").glob("[!.]*.mp4"))
        summary = {
            **_about(self._log, self._model, self._plan, finished, self._account.inputs),
            **self._account.summary(figures, self._plan.min_count),
            "interrupted": self._stop.is_set(),
            "throughput": {"wall_ms": 1e3 * spent_s / frames, "cpu_ms": 1e3 * cpu_s / frames},
            "pace": None if self._pacer is None else self._pacer.report(),
        }
        # what has stopped a torn run stops these too, and is the error to be told
        with suppress(ValueError) if self._torn else nullcontext():
            figures.write(self._out)
            write_json(self._out / "summary.json", summary)
        return summary


def check_sensors(samples: Sequence[Sample], sensors: Sensors) -> None:
    """Refuse to guess from nothing.

    Raises:
        ValueError: the frame lacks the one sensor that was asked for.
    """
    where = f"{samples[0].log} frame {samples[0].frame}"
    if sensors == "camera" and all(sample.image is None for sample in samples):
        raise ValueError(f"{where}: no image, and sensors is camera; use both or lidar")
    if sensors == "lidar" and not len(samples[0].points_lidar):
        raise ValueError(f"{where}: no points, and sensors is lidar; use both or camera")


@contextmanager
def _timed(spent_ms: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent_ms[stage] = (time.perf_counter() - start) * 1000.0


@contextmanager
def _set_on_interrupt(stop: Event) -> Iterator[None]:
    """The first Ctrl-C sets ``stop``, the next raises; outside the main thread signals stay alone."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    try:
        before = signal.signal(signal.SIGINT, interrupted)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _about(
    log: Log, model: Model, plan: Plan, videos: Sequence[str], inputs: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """What was run; ``input`` is (height, width) of the network input per camera."""
    return {
        "model": model.name,
        "runtime": model.session.name,
        "precision": model.session.precision,
        "input": inputs,
        "sensors": plan.sensors,
        "log": {
            "path": str(log.path),
            "format": log.format,
            "name": log.name,
            "cameras": list(plan.cameras),
            "findings": log.findings(),
        },
        "videos": videos,
        "machine": machine(model.session.name),
    }
