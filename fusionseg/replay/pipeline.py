"""Replay of a log: load, label, write, score and draw every frame in order, with exact accounting."""

import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fusionseg.data.log import FrameError, Log
from fusionseg.data.prepare import fit_size
from fusionseg.deploy.result import STAGES, FrameResult
from fusionseg.deploy.runtime import Model, Sensors
from fusionseg.deploy.timing import percentiles
from fusionseg.metrics import score
from fusionseg.replay.figures import KINDS, REPORTED, Figures, Recorder
from fusionseg.replay.render import Renderer
from fusionseg.replay.sink import write_classes, write_json, write_label_image, write_point_labels
from fusionseg.replay.source import Loaded, stream
from fusionseg.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to replay and how.

    Attributes:
        frames: the log's own frame numbers, in order.
        cameras: camera names.
        sensors: ``both``, ``camera`` or ``lidar``.
        size: (height, width) of the network input, or None for the model's own.
        video: also write a video per camera (one of the whole sweep for a log without images).
        alone: also label each frame with camera and LiDAR alone, for a report; costs two more passes, which are in no
            stage's time.
        strict: stop at a frame that cannot be read in place of skipping it.
        min_count: ground-truth points a class needs to count in ``miou``.
    """

    frames: Sequence[int]
    cameras: Sequence[str]
    sensors: Sensors = "both"
    size: tuple[int, int] | None = None
    video: bool = False
    alone: bool = False
    strict: bool = False
    min_count: int = 2000


class Account:
    """What became of each frame, how long the stages took and how right the labels were."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.skipped: list[dict[str, Any]] = []
        self.interrupted = False
        self.inputs: dict[str, list[int]] = {}

    def skip(self, frame: int, reason: str) -> None:
        """A frame was left out."""
        self.skipped.append({"frame": frame, "reason": reason})

    def summary(self, figures: Figures, min_count: int) -> dict[str, Any]:
        """The frames, latencies and accuracy of ``summary.json``."""
        groups = figures.groups()
        scores = {kind: score(figures.confusions(kind), groups, min_count) for kind in KINDS}
        written = len(figures)
        stages_ms = {stage: percentiles(figures.spent_ms[:, i].tolist()) for i, stage in enumerate(REPORTED)}
        return {
            "frames": {"seen": written + len(self.skipped), "written": written, "skipped": self.skipped},
            "interrupted": self.interrupted,
            "stages_ms": stages_ms,
            "accuracy": scores if any(scores.values()) else None,
        }


def replay(
    log: Log, model: Model, out: Path, plan: Plan, on_frame: Callable[[str], None] = lambda note: None
) -> dict[str, Any]:
    """Replay a log into the folder ``out``; returns what ``summary.json`` holds.

    ``labels/`` gets one ``.label`` per sweep (or one PNG per image where there is no LiDAR), ``video/`` the videos,
    ``metrics.csv`` and ``frames.npz`` the figures of each frame.
    Ctrl-C finishes the frame at hand and leaves a valid partial result; a second one stops at once.

    Args:
        log: opened log.
        model: what labels it.
        out: empty folder.
        plan: what to replay and how.
        on_frame: called after each frame with a short note.

    Raises:
        FrameError: a frame cannot be read and ``plan.strict`` is set.
        ValueError: a file cannot be written, or the log lacks the one sensor that was asked for.
    """
    for sensor, there in (("camera", log.has_images), ("lidar", log.has_lidar)):
        if plan.sensors == sensor and not there:
            raise ValueError(f"{log.path}: the log has no {sensor}, and sensors is {sensor}; use both")
    account = Account(Recorder(model.table, plan.sensors, len(plan.frames)))
    renderer = Renderer(out / "video", model.table, log) if plan.video else None
    write_classes(out / "labels" / "classes.json", model.table)
    try:
        with _finish_frame_on_interrupt(account):
            for loaded in stream(log, plan.frames, plan.cameras, plan.strict):
                on_frame(_replay_frame(loaded, log, model, out, plan, account, renderer))
                if account.interrupted:
                    break
    except KeyboardInterrupt:
        account.interrupted = True
        raise
    finally:
        try:
            if renderer is not None:
                renderer.close()
        finally:
            finished = sorted(path.name for path in (out / "video").glob("[!.]*.mp4"))
            figures = account.recorder.figures()
            figures.write(out)
            summary = _about(log, model, plan, finished, account.inputs) | account.summary(figures, plan.min_count)
            write_json(out / "summary.json", summary)
    return summary


def _replay_frame(
    loaded: Loaded, log: Log, model: Model, out: Path, plan: Plan, account: Account, renderer: Renderer | None
) -> str:
    """One frame through all stages; a note on what became of it."""
    reason, result = loaded.reason, None
    if reason is None:
        try:
            check_sensors(loaded.samples, plan.sensors)
            result = model.predict_frame(loaded.samples, sensors=plan.sensors, size=plan.size)
            alone = _alone(loaded.samples, model, plan)
        except ValueError as error:
            if plan.strict:
                raise FrameError(str(error)) from error
            reason = str(error)
    if result is None:
        account.skip(loaded.frame, str(reason))
        return f"frame {loaded.frame} skipped: {reason}"
    spent_ms = {stage: result.timing[stage] for stage in STAGES} | {"load": loaded.load_ms}
    with _timed(spent_ms, "write"):
        write_labels(out / "labels", loaded, result, log.has_lidar)
    with _timed(spent_ms, "render"):
        if renderer is not None:
            renderer.add(loaded.samples, result)
    for sample in loaded.samples:
        account.inputs.setdefault(sample.camera_name, list(plan.size or fit_size(model.size, sample.camera)))
    account.recorder.add(loaded.samples, result, spent_ms, alone=alone, scored=log.table.names == model.table.names)
    return f"frame {loaded.frame}: {sum(spent_ms[stage] for stage in STAGES):.0f} ms"


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


def write_labels(folder: Path, loaded: Loaded, result: FrameResult, has_lidar: bool) -> None:
    """``<frame>.label`` for every point of the sweep, or ``<camera>/<frame>.png`` where there is no LiDAR."""
    if has_lidar:
        write_point_labels(folder / f"{loaded.frame:06d}.label", result.points)
        return
    for name, pixels in result.pixels.items():
        write_label_image(folder / name / f"{loaded.frame:06d}.png", pixels)


def _alone(samples: Sequence[Sample], model: Model, plan: Plan) -> dict[str, FrameResult]:
    """The labels of points in view and of pixels from each sensor alone, if they are asked for."""
    settings: tuple[Sensors, ...] = ("camera", "lidar") if plan.alone else ()
    return {
        sensors: model.predict_frame(samples, sensors=sensors, whole_sweep=False, size=plan.size)
        for sensors in settings
    }


@contextmanager
def _timed(spent_ms: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent_ms[stage] = (time.perf_counter() - start) * 1000.0


@contextmanager
def _finish_frame_on_interrupt(account: Account) -> Iterator[None]:
    """The first Ctrl-C sets ``account.interrupted``, the next raises; outside the main thread signals stay alone."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        if account.interrupted:
            raise KeyboardInterrupt
        account.interrupted = True

    try:
        before = signal.signal(signal.SIGINT, interrupted)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _about(log: Log, model: Model, plan: Plan, videos: list[str], inputs: dict[str, list[int]]) -> dict[str, Any]:
    """What was run; ``input`` is (height, width) of the network input per camera."""
    return {
        "model": model.name,
        "input": inputs,
        "sensors": plan.sensors,
        "log": {"path": str(log.path), "format": log.format, "name": log.name, "cameras": list(plan.cameras)},
        "videos": videos,
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """What the latencies were measured on."""
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
