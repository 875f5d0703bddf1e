"""A benchmark for people: Markdown tables, ratios to an earlier run, a histogram of the latencies."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from fusionseg.deploy.contender import REPORTED
from fusionseg.files import atomic_write

Report = Mapping[str, Any]
SHOWN_LAYERS = 20
SAME = (
    *("machine.cpu", "machine.gpu", "threads", "input", "points", "data"),
    *("repetitions", "whole_sweep", "compiled"),
)
"""What two reports must share for their ratios to mean something."""


def format_benchmark(report: Report) -> str:
    """The report as Markdown: what was measured on, the models with speed, size and accuracy, the stages, the rest."""
    models = report["models"]
    parts = [_conditions(report), _table(_overview(report)), _table(_stages(models))]
    for title, rows in (("Deadline", _deadlines(models)), ("Batches", _batches(models))):
        if len(rows) > 1:
            parts.append(f"{title}:\n\n{_table(rows)}")
    parts += [
        f"Layers of {_label(model)}:\n\n{_table(_layers(model, report))}" for model in models if model.get("layers")
    ]
    parts += [f"{item['name']}: could not run ({item['reason']})" for item in report["failed"]]
    parts += [
        f"{_label(model)}: input {model['input'][1]}x{model['input'][0]}, unlike the first; --size makes them the same"
        for model in models
        if model["input"] != report["input"]
    ]
    return "\n\n".join(parts)


def read_report(path: Path) -> Report:
    """The JSON of an earlier run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not what ``benchmark --json`` writes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name one that benchmark --json wrote")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        for model in report["models"]:
            for key in ("name", "runtime", "precision"):
                str(model[key])
            for stage in REPORTED:
                float(model["stages_ms"][stage]["p50"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{path}: not a benchmark ({reason}); name a file that benchmark --json wrote") from error
    found: Report = report
    return found


def check_outputs(json_file: str | None, picture: str | None) -> None:
    """What would spoil a long measurement at its end is found at its beginning.

    Raises:
        ValueError: a name that no such file can have, or matplotlib is missing.
    """
    for option, name, suffix in (("--json", json_file, ".json"), ("--histogram", picture, ".png")):
        if name is not None and (Path(name).suffix != suffix or Path(name).is_dir()):
            raise ValueError(f"{option} is {name}; expected the name of a {suffix} file")
    if picture is not None and find_spec("matplotlib") is None:
        raise ValueError("--histogram needs matplotlib; pip install 'fusionseg[viz]'")


def compare(report: Report, base: Report) -> str:
    """How many times as fast each model is as the same one in an earlier run, stage by stage (p50), as Markdown.

    Raises:
        ValueError: the two runs have no model in common.
    """
    earlier = {_key(model): model for model in base["models"]}
    rows = [["model", *REPORTED]]
    for model in report["models"]:
        before = earlier.get(_key(model))
        if before is not None:
            rows.append([_label(model), *_ratios(model["stages_ms"], before["stages_ms"])])
    if len(rows) == 1:
        raise ValueError(
            f"no model of this run is in the earlier one, which has {', '.join(map(_label, base['models']))}"
        )
    # what is false or null may be missing in reports of earlier versions
    different = [name for name in SAME if (_get(report, name) or None) != (_get(base, name) or None)]
    warning = [f"not the same as in that run: {', '.join(different)}"] if different else []
    return "\n\n".join(["Times as fast as in the earlier run (p50, above 1 is faster):", _table(rows), *warning])


def write_histogram(path: Path, totals_ms: Mapping[str, Sequence[float]]) -> None:
    """How often ``total`` took how long, a PNG with one outline per model (see ``check_outputs``).

    Raises:
        ValueError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="total, ms", ylabel="frames", xscale="log")
    low, high = min(map(min, totals_ms.values())), max(map(max, totals_ms.values()))
    # bins of equal ratio, so that fast and slow models are told apart alike
    edges = [low * (1.001 * high / low) ** (i / 60) for i in range(61)]
    for label, values in totals_ms.items():
        axes.hist(values, bins=edges, histtype="step", label=label)
    axes.legend(fontsize="small")
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    with atomic_write(path) as file:
        file.write(content.getvalue())


def _conditions(report: Report) -> str:
    machine = report["machine"]
    height, width = report["input"]
    gpu = f"{machine['gpu']}; " if machine["gpu"] else ""
    how = "whole sweep, with virtual views; " if report.get("whole_sweep") else ""
    how += "checkpoints compiled; " if report.get("compiled") else ""
    return (
        f"{gpu}{machine['cpu']}, {report['threads']} threads on cores {', '.join(map(str, machine['affinity']))}; "
        f"{report['data']}, {report['frames']} frames, {report['points']} points a sweep, input {width}x{height}; "
        f"{report['repetitions']} repetitions by turns after {report['warmup']}; {how}"
        f"matrix product {report['matrix_product_macs_per_s'] / 1e9:.0f} GMAC/s; commit {report['git'] or 'unknown'}"
    )


def _overview(report: Report) -> list[list[str]]:
    names = "model | sensors | params M | GMAC | total ms p50 | p95 | p99 | FPS | speed | of peak | memory MB"
    rows = [[*names.split(" | "), "cold start s", "mIoU points", "mIoU pixels", "status"]]
    first = report["models"][0]["stages_ms"]["total"]["p50"]
    for model in report["models"]:
        total, cold = model["stages_ms"]["total"], model["cold_start"]
        rows.append(
            [
                _label(model),
                model["sensors"],
                _number(model["params"], 1e-6, 2),
                _number(model["macs"], 1e-9, 2),
                *(_number(total[p]) for p in ("p50", "p95", "p99")),
                _number(model["fps"]["total"]),
                f"{first / total['p50']:.2f}x",
                "-" if model["share_of_peak"] is None else f"{100 * model['share_of_peak']:.0f} %",
                _number(model["peak_memory_mb"], digits=0),
                _number(cold["cold_start_s"] if cold else None, digits=2),
                *(_miou(model["accuracy"], kind) for kind in ("points", "pixels")),
                model["status"],
            ]
        )
    return rows


def _stages(models: Sequence[Report]) -> list[list[str]]:
    rows = [["ms p50 / p99", *REPORTED]]
    for model in models:
        stages = model["stages_ms"]
        rows.append([_label(model), *(f"{stages[s]['p50']:.1f} / {stages[s]['p99']:.1f}" for s in REPORTED)])
    return rows


def _deadlines(models: Sequence[Report]) -> list[list[str]]:
    rows = [["model", "frames", "in time", "missed", "came while one ran", "not in time"]]
    for model in models:
        found = model.get("deadline")
        if found:
            counts = (str(found[key]) for key in ("frames", "in_time", "missed", "late"))
            rows.append([_label(model), *counts, f"{100 * found['missed_share']:.1f} %"])
    return rows


def _batches(models: Sequence[Report]) -> list[list[str]]:
    rows = [["model", "batch", "ms", "FPS"]]
    for model in models:
        for item in model.get("batches") or ():
            rows.append([_label(model), str(item["size"]), _number(item["ms"]), _number(item["fps"])])
    return rows


def _layers(model: Report, report: Report) -> list[list[str]]:
    rows = [["layer", "kind", "ms", "MMAC", "GMAC/s", "of peak"]]
    peak = report["matrix_product_macs_per_s"]
    for layer in model["layers"][:SHOWN_LAYERS]:
        speed = layer["macs_per_s"]
        share = f"{100 * speed / peak:.0f} %"
        numbers = (_number(layer["ms"], digits=2), _number(layer["macs"], 1e-6), _number(speed, 1e-9))
        rows.append([layer["name"] or "(network)", layer["kind"], *numbers, share])
    return rows


def _ratios(now: Report, before: Report) -> list[str]:
    return [f"{before[s]['p50'] / now[s]['p50']:.2f}" if now[s]["p50"] else "-" for s in REPORTED]


def _key(model: Report) -> tuple[str, str, str]:
    return model["name"], model["runtime"], model["precision"]


def _label(model: Report) -> str:
    return "{} ({}, {})".format(*_key(model))


def _get(report: Report, path: str) -> Any:
    value: Any = report
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _miou(accuracy: Report | None, kind: str) -> str:
    scores = accuracy[kind] if accuracy else None
    return _number(scores["miou"] if scores else None, digits=3)


def _number(value: float | None, scale: float = 1.0, digits: int = 1) -> str:
    return "-" if value is None else f"{scale * value:.{digits}f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown with aligned columns, so that it reads well in a terminal too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = " | ".join("-" * max(3, width) for width in widths)
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))
