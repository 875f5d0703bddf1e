"""Validation during training, and the one number that decides which model is the best."""

import logging
from collections.abc import Mapping
from pathlib import Path

from fusionseg.config import TrainConfig
from fusionseg.data.cache import ViewCache
from fusionseg.deploy.runtime import load
from fusionseg.engine.dataset import expand, open_source
from fusionseg.engine.evaluate import NoLabelsError, evaluate
from fusionseg.engine.progress import Progress

logger = logging.getLogger(__name__)
Scores = dict[str, dict[str, dict[str, float]]]


def validate(model_path: Path, config: TrainConfig, device: str, cache: Path | None) -> Scores:
    """The mean IoU of a model file on every validation log: ``{log: {sensors: {points: x, pixels: x}}}``.

    What a log cannot tell (no labels of that kind, a sensor it lacks) is left out.
    """
    model = load(model_path, device=device)
    scores: Scores = {}
    for item in expand(config.data.val):
        source = open_source(item, config.data)
        with Progress(f"validating on {source.log.name}", len(source.frames)) as progress:
            try:
                report = evaluate(
                    model,
                    source.log,
                    frames=source.frames,
                    cameras=source.cameras,
                    strict=config.data.strict,
                    views=ViewCache(cache, source.log, config.data.size).views,
                    progress=lambda done, total, bar=progress: bar.advance(),  # type: ignore[misc]
                )
            except NoLabelsError as error:
                # hours of training are not given up for a log that tells nothing
                logger.warning("not validated: %s", error)
                continue
        key = source.log.name if source.log.name not in scores else f"{source.log.name} ({item.path})"
        scores[key] = {
            sensors: {kind: result["miou"] for kind, result in kinds.items() if result and result["miou"] is not None}
            for sensors, kinds in report["sensors"].items()
            if kinds
        }
    return scores


def score(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> float | None:
    """One number for 'best': the mean over logs of the points' (else the pixels') mean IoU with all sensors there are.

    None when no log has a class with enough labels.
    """
    values = []
    for settings in scores.values():
        kinds = next((settings[name] for name in ("both", "camera", "lidar") if settings.get(name)), {})
        value = kinds.get("points", kinds.get("pixels"))
        if value is not None:
            values.append(value)
    return sum(values) / len(values) if values else None
