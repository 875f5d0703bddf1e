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

import numpy as np

from fusionseg.data.log import FrameError, Log
from fusionseg.data.prepare import fit_size
from fusionseg.deploy.result import STAGES, FrameResult
from fusionseg.deploy.runtime import Model, Sensors
from fusionseg.deploy.timing import percentiles
from fusionseg.metrics import Confusion, groups_of, score
from fusionseg.replay.render import Renderer
from fusionseg.replay.sink import write_classes, write_json, write_label_image, write_point_labels
from fusionseg.replay.source import Loaded, stream
from fusionseg.sample import Sample

REPORTED = ("load", *STAGES, "render", "write", "total", "end_to_end")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to replay and how.

    Attributes:
        frames: the log's own frame numbers, in order.
        cameras: camera names.
        sensors: ``both``, ``camera`` or ``lidar``.
        size: (height, width) of the network input, or None for the model's own.
        video: also write a video per camera (one of the whole sweep for a log without images).
        strict: stop at a frame that cannot be read in place of skipping it.
        min_count: ground-truth points a class needs to count in ``miou``.
    """

    frames: Sequence[int]
    cameras: Sequence[str]
    sensors: Sensors = "both"
    size: tuple[int, int] | None = None
    video: bool = False
    strict: bool = False
    min_count: int = 2000


class Account:
    """What became of each frame, how long the stages took and how right the labels were."""

    def __init__(self) -> None:
        self.written = 0
        self.skipped: list[dict[str, Any]] = []
        self.interrupted = False
        self.inputs: dict[str, list[int]] = {}
        self.points: list[Confusion] = []
        self.pixels: list[Confusion] = []
        self._spent_ms: dict[str, list[float]] = {stage: [] for stage in REPORTED}

    def skip(self, frame: int, reason: str) -> None:
        """A frame was left out."""
        self.skipped.append({"frame": frame, "reason": reason})

    def write(self, spent_ms: dict[str, float]) -> None:
        """A frame is done; ``total`` and ``end_to_end`` follow from the stages."""
        total = sum(spent_ms[stage] for stage in STAGES)
        for stage, value in (spent_ms | {"total": total, "end_to_end": spent_ms["load"] + total}).items():
            self._spent_ms[stage].append(value)
        self.written += 1

    def summary(self, min_count: int) -> dict[str, Any]:
        """The frames, latencies and accuracy of ``summary.json``."""
        scores = _scores(self.points, self.pixels, min_count)
        seen = self.written + len(self.skipped)
        return {
            "frames": {"seen": seen, "written": self.written, "skipped": self.skipped},
            "interrupted": self.interrupted,
            "stages_ms": {stage: percentiles(values) for stage, values in self._spent_ms.items()},
            "accuracy": scores if any(scores.values()) else None,
        }


def _scores(points: list[Confusion], pixels: list[Confusion], min_count: int) -> dict[str, Any]:
    """Both kinds over the same groups of classes, as ``evaluate`` scores them."""
    both = points + pixels
    if not both:
        return {"points": None, "pixels": None}
    groups = groups_of(np.sum([item.counts.sum(axis=1) for item in both], axis=0), both[0].table)
    return {kind: score(frames, groups, min_count) for kind, frames in (("points", points), ("pixels", pixels))}


def replay(
    log: Log, model: Model, out: Path, plan: Plan, on_frame: Callable[[str], None] = lambda note: None
) -> dict[str, Any]:
    """Replay a log into the folder ``out``; returns what ``summary.json`` holds.

    ``labels/`` gets one ``.label`` per sweep (or one PNG per image where there is no LiDAR), ``video/`` the videos.
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
    account = Account()
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
            summary = _about(log, model, plan, finished, account.inputs) | account.summary(plan.min_count)
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
    if log.table.names == model.table.names:
        _count(loaded.samples, result, account)
    account.write(spent_ms)
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


def _count(samples: Sequence[Sample], result: FrameResult, account: Account) -> None:
    """Score points inside at least one of the views, each once, and the pixels that carry labels."""
    labels = samples[0].point_labels
    if labels is not None:
        # views beyond the samples are virtual ones, added for points that no camera sees
        in_view = (result.view >= 0) & (result.view < len(samples))
        account.points.append(Confusion(result.table))
        account.points[-1].add(labels[in_view], result.points[in_view])
    dense = [sample for sample in samples if sample.pixel_labels is not None]
    if dense:
        account.pixels.append(Confusion(result.table))
    for sample in dense:
        assert sample.pixel_labels is not None
        account.pixels[-1].add(sample.pixel_labels, result.pixels[sample.camera_name])


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
        "log": {"path": str(log.path), "format": log.format, "cameras": list(plan.cameras)},
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
