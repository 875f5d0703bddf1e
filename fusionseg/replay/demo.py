"""The demonstration: a model scored on a log with each sensor setting, a replay with video, a picture of a frame."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.log import Log
from fusionseg.data.open import open_log
from fusionseg.data.synth.spec import VERSION, Spec
from fusionseg.data.synth.write import generate, missing_frames
from fusionseg.deploy.result import FrameResult
from fusionseg.deploy.runtime import SENSORS, Model
from fusionseg.engine.evaluate import evaluate
from fusionseg.engine.progress import Progress
from fusionseg.files import write_json
from fusionseg.geometry.projection import project
from fusionseg.labels import ClassTable
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan
from fusionseg.replay.sink import write_picture
from fusionseg.sample import Sample
from fusionseg.visualize import dark_canvas, draw_points, legend, overlay, perspective, side_by_side, stack, write_text

logger = logging.getLogger(__name__)
TIMED_RUNS = 10
WORLD = Spec(scene="urban", weather="clear", frames=20, seed=1000, split="test")
"""Shapes, facades and a layout that no training world has."""
PICTURE_PX = (900, 750)
"""Widths of the camera's and of the cloud's part of the picture."""


@dataclass(frozen=True)
class Outcome:
    """What a demonstration found.

    Attributes:
        video: the first camera's mp4.
        picture: one frame, camera beside cloud.
        miou: setting -> mean IoU of points in [0, 1]; None where the log lacks a sensor or labels.
        fps: frames per second from decoded sensor data to labels (1000 / median ms): ``view`` of one image and the
            points in it, ``sweep`` of the images and the whole sweep.
    """

    video: Path
    picture: Path
    miou: dict[str, float | None]
    fps: dict[str, float]


def cache_folder() -> Path:
    """Where the program keeps what it can make again: ``$XDG_CACHE_HOME/fusionseg`` or ``~/.cache/fusionseg``."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification has relative paths ignored
    return (given if given.is_absolute() else Path.home() / ".cache") / "fusionseg"


def synthetic_log(spec: Spec | None = None) -> Log:
    """The log of a world (``WORLD``) from the cache, made there first where it is not (complete) yet.

    Raises:
        ValueError: the cache cannot be written.
    """
    spec = spec or WORLD
    folder = cache_folder() / f"world{VERSION}-{spec.scene}-{spec.weather}-{spec.split}-{spec.seed}-{spec.frames}"
    missing = missing_frames(spec, folder)
    state = "from the cache" if not missing else "made once, then cached"
    logger.info("synthetic %s drive, %d frames, %s: %s", spec.scene, spec.frames, state, folder)
    with Progress("synthetic drive", spec.frames, done=spec.frames - missing) as progress:
        generate(spec, folder, workers=min(os.cpu_count() or 1, 4, max(1, missing)), progress=progress.advance)
    return open_log(folder)


def demonstrate(model: Model, log: Log, out: Path, *, min_count: int = 2000) -> Outcome:
    """Score, replay and draw a log into the folder ``out``.

    Args:
        model: what labels it.
        log: a log with images and sweeps.
        out: empty folder; gets what a replay leaves, ``evaluation.json`` and ``demo.jpg``.
        min_count: points a class needs to count in the mean IoU.

    Raises:
        FrameError: a frame cannot be read.
        ValueError: a file cannot be written.
        KeyboardInterrupt: the replay was interrupted; what it wrote is complete for the frames seen.
    """
    logger.info("scoring %s on %d frames: both sensors, camera alone, LiDAR alone", model.name, len(log.frames))
    with Progress("evaluate (both, camera, lidar)", len(log.frames)) as progress:
        report = evaluate(model, log, min_count=min_count, progress=lambda done, total: progress.advance())
    write_json(out / "evaluation.json", report)
    plan = Plan(frames=list(log.frames), cameras=list(log.cameras), video=True, strict=True, min_count=min_count)
    logger.info("replaying them with video")
    with Progress("replay", len(plan.frames)) as progress:
        summary = replay(log, model, out, plan, progress.advance)
    if summary["interrupted"]:
        raise KeyboardInterrupt(f"{out} holds the frames replayed so far")
    picture = out / "demo.jpg"
    sample = log.frame(log.frames[len(log.frames) // 2])[0]
    write_picture(picture, frame_picture(sample, model.predict_frame([sample]), model.table))
    settings = {name: report["sensors"][name] for name in SENSORS}
    return Outcome(
        video=out / "video" / summary["videos"][0],
        picture=picture,
        miou={name: s["points"]["miou"] if s and s["points"] else None for name, s in settings.items()},
        fps={"view": _fps_of_view(model, sample), "sweep": 1000.0 / summary["stages_ms"]["total"]["p50"]},
    )


def _fps_of_view(model: Model, sample: Sample) -> float:
    spent_ms = [model(sample, whole_sweep=False).timing["total"] for _ in range(TIMED_RUNS)]
    return 1000.0 / float(np.median(spent_ms))


def describe(outcome: Outcome) -> str:
    """The outcome as text for people."""
    miou = [f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in outcome.miou.items()]
    fps = outcome.fps
    return "\n".join(
        [
            f"video:   {outcome.video}",
            f"picture: {outcome.picture}",
            f"mIoU:    {', '.join(miou)} (points in view)",
            f"FPS:     {fps['view']:.1f} for an image and the points in it, {fps['sweep']:.1f} with the whole sweep",
            "synthetic data: no evidence about real roads",
        ]
    )


def frame_picture(sample: Sample, result: FrameResult, table: ClassTable) -> NDArray[np.uint8]:
    """Left the image, its labels and its points; right the sweep ahead, from above; a legend below."""
    width, right = PICTURE_PX
    height = max(1, round(sample.camera.height * width / sample.camera.width))
    image = dark_canvas(height, width)
    if sample.image is not None:
        image = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    labels = overlay(image, result.pixels[sample.camera_name], table.palette, alpha=0.6)
    seen = project(sample.points_lidar, sample.camera.resize(width, height), sample.camera_T_lidar)
    points = draw_points(
        dark_canvas(height, width), seen.uv, table.palette[result.points[seen.index]], seen.depth, size_px=2
    )
    left = stack([write_text(image, "camera"), write_text(labels, "labels of pixels"), write_text(points, "of points")])
    cloud = perspective(sample.points_lidar, table.palette[result.points], right, left.shape[0])
    both = side_by_side([left, write_text(cloud, "labels of the sweep")])
    return stack([both, legend(table.names, table.colours, both.shape[1])])
