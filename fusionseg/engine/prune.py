"""Pruning from start to figures: a narrower student that begins with the best channels of a trained one."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fusionseg.config import TrainConfig
from fusionseg.deploy.runtime import SENSORS
from fusionseg.engine.dataset import TrainingViews, check_same_table
from fusionseg.engine.progress import Progress
from fusionseg.engine.recipe import costs, measure, named_logs, train_once
from fusionseg.losses.terms import class_weights
from fusionseg.losses.total import counts, total_loss
from fusionseg.models.build import build_model
from fusionseg.models.checkpoint import Checkpoint, load_checkpoint, model_inputs, save_checkpoint
from fusionseg.models.prune import importance, narrow
from fusionseg.models.segmenter import Segmenter
from fusionseg.models.shipped import find_model

_CUT_FROM = "cut_from"
BATCHES = 16
"""Training batches whose gradients say which channels matter."""


def prune(model: str | Path, config: TrainConfig, out: Path, resume: bool = False) -> dict[str, Any]:
    """Cut a model to the widths of ``config.model``, train it on as the config says, and score it before and after.

    Args:
        model: shipped name or checkpoint: the wide one.
        config: the experiment; widths of LiDAR encoder, fusion and heads at most those of the wide model, the rest
            of the network the same. With a section ``distill`` the wide model can be the teacher.
        out: folder; ``cut.safetensors`` and the run ``tuned`` go there.
        resume: go on with what is in ``out``.

    Returns:
        Plain JSON: ``models`` ``before``, ``cut`` and ``tuned``, each with the size of its ``input``, ``cost`` and the
        figures per log.

    Raises:
        FileNotFoundError, ValueError: no such model, classes that differ, or widths it does not have.
    """
    if not config.data.val:
        raise ValueError("data.val is empty; name the logs on which the models are compared")
    wide_path, cut_path = find_model(model), out / "cut.safetensors"
    cache = out / "cache" if config.data.cache is None else Path(config.data.cache).expanduser()
    config = replace(config, data=replace(config.data, cache=str(cache)), init=str(cut_path))
    _cut_once(wide_path, config, cut_path, cache, resume)
    paths = {"before": wide_path, "cut": cut_path, "tuned": train_once(config, out / "tuned", resume)}
    logs = named_logs(config)
    spent = costs(paths, logs, cache)
    figures = {name: measure(path, logs, config, cache, errors_deg=()) for name, path in paths.items()}
    sizes = {name: list(load_checkpoint(path).config.data.size) for name, path in paths.items()}
    return {
        "models": {name: {"input": sizes[name], "cost": spent[name], "logs": figures[name]} for name in paths},
    }


def _cut_once(wide_path: Path, config: TrainConfig, cut_path: Path, cache: Path, resume: bool) -> None:
    """Cut the wide model, unless the file of a stopped run is there.

    Raises:
        ValueError: it was cut from another model.
    """
    digest = hashlib.sha256(wide_path.read_bytes()).hexdigest()
    if resume and cut_path.is_file():
        if load_checkpoint(cut_path).metadata.get(_CUT_FROM) != digest:
            raise ValueError(f"{cut_path} was not cut from {wide_path}; name the model of that run, or another --out")
        return
    wide = load_checkpoint(wide_path)
    save_checkpoint(cut_path, cut(wide, config, cache), config, wide.table, {_CUT_FROM: digest})


def cut(wide: Checkpoint, config: TrainConfig, cache: Path) -> Segmenter:
    """The network of ``config`` with the channels of ``wide`` that the training loss depends on most."""
    views = TrainingViews(replace(config, distill=None), cache)
    label_counts = torch.from_numpy(views.count_labels())
    check_same_table(views.table, wide.table, "the model")
    slim = build_model(config.model, classes=len(views.table), **model_inputs(wide.model))
    membership = torch.from_numpy(views.table.membership)
    weights = class_weights(label_counts, config.loss.class_balance, membership)
    plain = replace(config.loss, auxiliary=0.0, perception=0.0)
    order = views.order(0)
    starts = range(0, min(len(order), BATCHES * config.batch_size), config.batch_size)
    scores: dict[str, torch.Tensor] = {}
    with Progress("weighing channels", len(starts)) as progress:
        for start in starts:
            batch = views.batch(order, 0, start, min(start + config.batch_size, len(order)))
            wide.model.zero_grad()
            output = wide.model(batch.image, batch.lidar, batch.present, batch.points, batch.cell)
            labelled = counts(batch, membership, weights)
            total_loss(output, batch, membership, plain, weights, labelled, 1).total.backward()
            importance(wide.model, scores)
            progress.advance()
    narrow(wide.model, slim, scores)
    return slim


def format_pruning(report: dict[str, Any]) -> str:
    """The report as Markdown: mIoU of points in percent, both / camera / LiDAR."""
    models = report["models"]
    logs: Sequence[str] = list(models["before"]["logs"])
    head = ["", "parameters", "GMAC", "forward, ms", "relative", *logs]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " --- |" * (len(head) - 1)]
    base = models["before"]["cost"]["forward_ms"]
    for name, one in models.items():
        spent = one["cost"]
        cells = [name, f"{spent['params']:,}", f"{spent['macs'] / 1e9:.2f}", f"{spent['forward_ms']:.1f}"]
        cells.append(f"{spent['forward_ms'] / base:.2f}")
        for log in logs:
            values = (one["logs"][log][sensor] for sensor in SENSORS)
            cells.append(" / ".join("-" if value is None else f"{100 * value:.1f}" for value in values))
        lines.append("| " + " | ".join(cells) + " |")
    # reports of earlier versions do not tell
    before, tuned = (models[name].get("input") for name in ("before", "tuned"))
    if before != tuned:
        was, became = ("{1}x{0}".format(*size) for size in (before, tuned))
        lines += [
            "",
            f"Before: input {was}, then {became}: part of the difference is the size (data.size), not the cut.",
        ]
    return "\n".join(lines)
