"""Distillation from start to figures: control and distilled student, seed by seed, scored side by side."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, median, stdev
from time import perf_counter
from typing import Any

import numpy as np

from fusionseg.config import DistillConfig, TrainConfig
from fusionseg.data.cache import ViewCache
from fusionseg.data.prepare import View
from fusionseg.data.transforms import jitter_calibration
from fusionseg.deploy.costs import count_macs, count_parameters
from fusionseg.deploy.runtime import SENSORS, Model, load
from fusionseg.deploy.timing import interleaved
from fusionseg.deploy.torch_session import TorchSession
from fusionseg.engine.dataset import Source, expand, open_source
from fusionseg.engine.evaluate import evaluate
from fusionseg.engine.progress import Progress
from fusionseg.engine.state import finished
from fusionseg.engine.train import train
from fusionseg.models.shipped import find_model

logger = logging.getLogger(__name__)

ERRORS_DEG = (1.0, 2.0, 3.0)
"""Calibration errors at which the students are compared."""
TIMED = 9
# 97.5 % quantile of Student's t for 1 to 9 degrees of freedom
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
Scores = dict[str, float | None]


def distil(config: TrainConfig, out: Path, seeds: Sequence[int], resume: bool = False) -> dict[str, Any]:
    """Train control and distilled student for every seed, and score them and the teacher on the validation logs.

    The control is the same configuration without its section ``distill``. Runs that are finished are not run again.

    Args:
        config: the recipe; must name a teacher and validation logs.
        out: folder; the runs are ``control-SEED`` and ``distilled-SEED`` in it.
        seeds: at most ten.
        resume: go on with what is in ``out``.

    Returns:
        Plain JSON: ``seeds``, ``teacher``, ``control`` and ``distilled`` (cost, and per log mean, spread and value per
        seed of each figure), ``gain`` (per log and figure the mean of the seeds' differences, its 95 % interval by
        Student's t, and the share of the teacher's lead that was recovered).

    Raises:
        ValueError: no teacher, no validation log, or no, too many or equal seeds.
    """
    if config.distill is None or not config.distill.teachers:
        raise ValueError("the config names no teacher; add distill.teachers=[FILE], or use fusionseg train")
    if not config.data.val:
        raise ValueError("data.val is empty; name the logs on which control and student are compared")
    if not 1 <= len(set(seeds)) == len(seeds) <= len(_T) + 1:
        raise ValueError(f"seeds are {list(seeds)}; expected 1 to {len(_T) + 1} different ones")
    sources = named_logs(config)
    cache = out / "cache" if config.data.cache is None else Path(config.data.cache).expanduser()
    runs: dict[str, list[Path]] = {"control": [], "distilled": []}
    for seed in seeds:
        for kind, paths in runs.items():
            own = replace(config, seed=seed, data=replace(config.data, cache=str(cache)))
            paths.append(
                train_once(own if kind == "distilled" else replace(own, distill=None), out / f"{kind}-{seed}", resume)
            )
    scores = {kind: [measure(path, sources, config, cache) for path in paths] for kind, paths in runs.items()}
    report: dict[str, Any] = {"seeds": list(seeds), "teacher": None}
    first = {kind: paths[0] for kind, paths in runs.items()}
    path = _teacher_path(config.distill)
    if path is not None:
        first["teacher"] = path
        scores["teacher"] = [measure(path, sources, config, cache)]
    spent = costs(first, sources, cache)
    for kind, items in scores.items():
        report[kind] = {"cost": spent[kind], "logs": _summary(items)}
    teacher = report["teacher"]
    if teacher is not None:
        teacher["model"] = list(config.distill.teachers)
    report["gain"] = gains(scores["control"], scores["distilled"], None if teacher is None else teacher["logs"])
    return report


def named_logs(config: TrainConfig) -> dict[str, Source]:
    """The validation logs of a configuration by number and folder."""
    entries = expand(config.data.val)
    return {f"{i}: {Path(entry.path).name}": open_source(entry, config.data) for i, entry in enumerate(entries)}


def train_once(config: TrainConfig, out: Path, resume: bool) -> Path:
    """Train, or go on, or find it done; the last weights."""
    last, state = out / "last.safetensors", out / "state.pt"
    if resume and last.is_file() and state.is_file() and finished(state, config):
        return last
    logger.info("%s", out)
    train(config, out, resume=resume and (out / "config.yaml").exists())
    return last


def measure(
    path: Path,
    sources: Mapping[str, Source],
    config: TrainConfig,
    cache: Path,
    errors_deg: Sequence[float] = ERRORS_DEG,
) -> dict[str, Scores]:
    """The figures of a model per log: ``points`` mIoU for both, camera, LiDAR, and for both with a wrong calibration.

    A calibration error of k degrees is a turn by +k or -k about one axis of the camera: the mean of the six, over the
    points in view before and after the turn. A log without point labels is scored by its pixels.
    """
    model = load(path)
    figures: dict[str, Scores] = {}
    for name, source in sources.items():
        views = ViewCache(cache, source.log, model.size).views
        scored = _scores(model, source, views, SENSORS)
        if errors_deg and source.log.has_images and source.log.has_lidar:
            with Progress(f"calibration errors on {name}", 6 * len(errors_deg)) as progress:
                for degrees in errors_deg:
                    turned = []
                    for angles in _turns(degrees):
                        turned.append(_scores(model, source, _turned(views, angles), ("both",))["both"])
                        progress.advance()
                    known = [value for value in turned if value is not None]
                    scored[f"{degrees:g} deg"] = fmean(known) if known else None
        figures[name] = scored
    return figures


def _scores(model: Model, source: Source, views: Callable[..., list[View]], sensors: Any) -> Scores:
    report = evaluate(
        model, source.log, frames=source.frames, cameras=source.cameras, sensors=sensors, strict=False, views=views
    )
    values: Scores = {}
    for setting in sensors:
        kinds = report["sensors"][setting]
        scored = kinds and (kinds["points"] or kinds["pixels"])
        values[setting] = scored["miou"] if scored else None
    return values


def _turns(degrees: float) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """+-degrees about x, y, z, in radians."""
    return [sign * np.radians(degrees) * axis for axis in np.eye(3) for sign in (1.0, -1.0)]


def _turned(views: Callable[..., list[View]], angles: Any) -> Callable[..., list[View]]:
    return lambda frame, cameras: [jitter_calibration(view, angles) for view in views(frame, cameras)]


def _teacher_path(config: DistillConfig) -> Path | None:
    """The first teacher's file, scored at its own input size; None for a teacher that is no model of this project."""
    name = config.teachers[0]
    return None if ":" in name and not Path(name).exists() else find_model(name)


def costs(paths: Mapping[str, Path], sources: Mapping[str, Source], cache: Path) -> dict[str, dict[str, float]]:
    """Parameters, multiply-accumulates and median milliseconds of a forward pass of one view of the first log.

    The models run by turns, so that a machine that slows down slows all of them alike.
    """
    source = next(iter(sources.values()))
    passes: list[Callable[[], object]] = []
    found: dict[str, dict[str, float]] = {}
    for name, path in paths.items():
        model = load(path)
        session = model.session
        assert isinstance(session, TorchSession)
        (view,) = ViewCache(cache, source.log, model.size).views(source.frames[0], source.cameras[:1])
        passes.append(partial(session.forward, session.inputs([view])))
        # it also warms the model up
        found[name] = {"params": count_parameters(session.network), "macs": count_macs(passes[-1])}
    times_ms: list[list[float]] = [[] for _ in passes]
    for order in interleaved(len(passes), TIMED):
        for i in order:
            start = perf_counter()
            passes[i]()
            times_ms[i].append(1e3 * (perf_counter() - start))
    for spent, values in zip(found.values(), times_ms, strict=True):
        spent["forward_ms"] = median(values)
    return found


def _summary(items: Sequence[Mapping[str, Scores]]) -> dict[str, dict[str, Any]]:
    """Per log and figure: mean, spread (standard deviation over the seeds) and the value of each seed."""
    summary: dict[str, dict[str, Any]] = {}
    for log in items[0]:
        summary[log] = {}
        for figure in items[0][log]:
            values = [item[log][figure] for item in items]
            known = [value for value in values if value is not None]
            summary[log][figure] = {
                "mean": fmean(known) if known else None,
                "spread": stdev(known) if len(known) > 1 else None,
                "values": values,
            }
    return summary


def gains(
    control: Sequence[Mapping[str, Scores]],
    distilled: Sequence[Mapping[str, Scores]],
    teacher: Mapping[str, Mapping[str, Mapping[str, Any]]] | None,
) -> dict[str, dict[str, Any]]:
    """Distilled less control, seed by seed: mean, 95 % interval (paired t) and the recovered share of the lead."""
    found: dict[str, dict[str, Any]] = {}
    for log in control[0]:
        found[log] = {}
        for figure in control[0][log]:
            pairs = [(a[log][figure], b[log][figure]) for a, b in zip(control, distilled, strict=True)]
            differences = [b - a for a, b in pairs if a is not None and b is not None]
            if not differences:
                continue
            mean, n = fmean(differences), len(differences)
            half = _T[n - 2] * stdev(differences) / n**0.5 if n > 1 else None
            lead = None
            top = teacher[log][figure]["mean"] if teacher is not None and figure in teacher[log] else None
            if top is not None:
                lead = top - fmean(a for a, _ in pairs if a is not None)
            found[log][figure] = {
                "mean": mean,
                "interval": None if half is None else [mean - half, mean + half],
                "recovered": mean / lead if lead is not None and lead > 0 else None,
            }
    return found


def format_distillation(report: Mapping[str, Any]) -> str:
    """The report as Markdown, in percent."""
    rows = [name for name in ("teacher", "control", "distilled") if report[name] is not None]
    lines = [f"Seeds: {', '.join(map(str, report['seeds']))}. Points mIoU in percent: mean +- spread over the seeds."]
    for log, figures in report["control"]["logs"].items():
        names = list(figures)
        lines += ["", f"**{log}**", "", "| | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
        for row in rows:
            values = report[row]["logs"][log]
            lines.append(f"| {row} | " + " | ".join(_cell(values.get(name)) for name in names) + " |")
        gain = report["gain"][log]
        lines.append("| gain | " + " | ".join(_gain(gain.get(name)) for name in names) + " |")
    lines += ["", "| | parameters | GMAC | forward, ms | relative |", "| --- | --- | --- | --- | --- |"]
    base = report["distilled"]["cost"]["forward_ms"]
    for row in rows:
        one = report[row]["cost"]
        times = f"{one['forward_ms']:.1f} | {one['forward_ms'] / base:.2f}"
        lines.append(f"| {row} | {one['params']:,} | {one['macs'] / 1e9:.2f} | {times} |")
    return "\n".join(lines)


def _cell(item: Mapping[str, Any] | None) -> str:
    if item is None or item["mean"] is None:
        return "-"
    spread = "" if item["spread"] is None else f" +- {100 * item['spread']:.1f}"
    return f"{100 * item['mean']:.1f}{spread}"


def _gain(item: Mapping[str, Any] | None) -> str:
    if item is None:
        return "-"
    interval = "" if item["interval"] is None else " [{:+.1f}, {:+.1f}]".format(*(100 * x for x in item["interval"]))
    recovered = "" if item["recovered"] is None else f", {100 * item['recovered']:.0f} % of the lead"
    return f"{100 * item['mean']:+.1f}{interval}{recovered}"
