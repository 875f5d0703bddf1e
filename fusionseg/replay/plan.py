"""What a replay is to do, whether it can be done, and the sinks that it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionseg.data.log import Log
from fusionseg.deploy.runtime import Model, Sensors
from fusionseg.labels import ClassTable
from fusionseg.replay.clouds import Clouds
from fusionseg.replay.mcap_sink import McapFile, import_mcap
from fusionseg.replay.render import Videos
from fusionseg.replay.rerun_sink import RerunFile, import_rerun
from fusionseg.replay.sinks import LabelFiles, Sink
from fusionseg.replay.submission import Submission, check_target


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to replay and how.

    Attributes:
        frames: the log's own frame numbers, in order.
        cameras: camera names.
        sensors: ``both``, ``camera`` or ``lidar``.
        size: (height, width) of the network input, or None for the model's own.
        video: also write a video per camera (one of the whole sweep for a log without images).
        mcap: also write ``replay.mcap``, for Foxglove.
        rerun: also write ``replay.rrd``, for rerun.
        ply: also write the coloured clouds as PLY.
        pcd: and as PCD.
        submission: also write the files of an official benchmark: ``semantickitti`` or ``nuscenes``.
        alone: also label each frame with camera and LiDAR alone, for a report; costs two more passes, which are in no
            stage's time.
        strict: stop at a frame that cannot be read in place of skipping it.
        paced: play at the speed of the log's times and count the frames labelled too late.
        min_count: ground-truth points a class needs to count in ``miou``.
    """

    frames: Sequence[int]
    cameras: Sequence[str]
    sensors: Sensors = "both"
    size: tuple[int, int] | None = None
    video: bool = False
    mcap: bool = False
    rerun: bool = False
    ply: bool = False
    pcd: bool = False
    submission: str | None = None
    alone: bool = False
    strict: bool = False
    paced: bool = False
    min_count: int = 2000

    @property
    def streams(self) -> bool:
        """Whether frames go into long files, of which a kill leaves less than what is labelled."""
        return self.video or self.mcap or self.rerun

    def identity(self) -> dict[str, Any]:
        """What two halves of one run must agree on."""
        shared = ("sensors", "size", "video", "mcap", "rerun", "ply", "pcd", "submission", "alone")
        return {
            "frames": list(self.frames),
            "cameras": list(self.cameras),
            **{name: getattr(self, name) for name in shared},
        }


def check_plan(log: Log, model: Model, plan: Plan) -> None:
    """Refuse what cannot be done, before anything is written.

    Raises:
        ValueError: the log lacks the one sensor that was asked for, a package is missing, or a submission needs another
            model or log.
    """
    for sensor, there in (("camera", log.has_images), ("lidar", log.has_lidar)):
        if plan.sensors == sensor and not there:
            raise ValueError(f"{log.path}: the log has no {sensor}, and sensors is {sensor}; use both")
    if plan.submission:
        check_target(plan.submission, model.table, log)
    if plan.mcap:
        import_mcap()
    if plan.rerun:
        import_rerun()


def open_sinks(log: Log, table: ClassTable, out: Path, plan: Plan, position: int) -> list[Sink]:
    """What the plan asks for; the run goes on at ``position``."""
    sinks: list[Sink] = [LabelFiles(out / "labels", table, log.has_lidar)]
    if plan.submission:
        sinks.append(Submission(out / "submission", plan.submission, table, log, plan.sensors))
    formats = [name for name in ("ply", "pcd") if getattr(plan, name)]
    if formats:
        sinks.append(Clouds(out / "clouds", table, formats))
    if plan.video:
        sinks.append(Videos(out / "video", table, log, plan.cameras, position))
    if plan.mcap:
        sinks.append(McapFile(out / "replay.mcap", table, position))
    if plan.rerun:
        cameras = plan.cameras if log.has_images else []
        sinks.append(RerunFile(out / "replay.rrd", table, cameras, f"{log.name}/{out.name}", position))
    return sinks
