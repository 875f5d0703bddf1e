"""How right a model is on the frames that a benchmark times."""

from collections.abc import Callable, Sequence
from typing import Any

from fusionseg.data.log import Log
from fusionseg.deploy.runtime import Model, Sensors
from fusionseg.engine.evaluate import NoLabelsError, evaluate

KEPT = ("miou", "miou_interval", "miou_all", "accuracy")


def accuracy_of(
    model: Model, log: Log, frames: Sequence[int], camera: str, progress: Callable[[int, int], None]
) -> dict[str, Any] | None:
    """The main figures of ``evaluate`` at the model's input size with every sensor the log has; None without labels.

    ``progress`` is called with (frames done, frames in all).

    Returns:
        ``data``, ``frames``, ``camera``, ``sensors``, and for ``points`` and ``pixels`` the figures ``KEPT`` or null.

    Raises:
        FrameError: a frame cannot be read.
        ValueError: log and model have other classes.
    """
    sensors: Sensors = "both" if log.has_images and log.has_lidar else "camera" if log.has_images else "lidar"
    try:
        report = evaluate(model, log, frames=frames, cameras=[camera], sensors=(sensors,), progress=progress)
    except NoLabelsError:
        return None
    scores = report["sensors"][sensors]
    figures = {kind: scores[kind] and {name: scores[kind][name] for name in KEPT} for kind in ("points", "pixels")}
    return {"data": log.name, "frames": len(frames), "camera": camera, "sensors": sensors, **figures}
