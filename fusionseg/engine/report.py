"""The figures of an evaluation as a table for people."""

from collections.abc import Sequence
from typing import Any

KIND_TITLES = {
    "points": "points in view",
    "points_visible": "points that pass the occlusion test",
    "pixels": "pixels",
}
SETTING_TITLES = {"both": "camera+lidar", "camera": "camera", "lidar": "lidar"}
FIGURES = {
    "accuracy": "accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "frequency_weighted_iou": "weighted IoU",
}


def format_report(report: dict[str, Any]) -> str:
    """The answer of ``evaluate`` as text: one table per kind of label, the sensor settings side by side, in percent."""
    frames = report["frames"]
    lines = [f"{report['model']} on {report['data']}: {frames['evaluated']} frames, {len(report['cameras'])} cameras"]
    for item in frames["skipped"]:
        lines.append(f"  skipped frame {item['frame']}: {item['reason']}")
    for kind, title in KIND_TITLES.items():
        scores = {name: s[kind] for name, s in report["sensors"].items() if s is not None and s[kind] is not None}
        if kind == "points" and scores and report.get("oracle", {}).get("points"):
            scores["cell oracle"] = report["oracle"]["points"]
        if scores:
            lines += ["", *_table(title, scores, report["classes"], report["min_count"])]
    if report.get("withheld", {}).get("pixels"):
        scores = {"both": report["withheld"]["pixels"]}
        lines += ["", *_table("pixels at withheld points", scores, report["classes"], report["min_count"])]
    if not any(s is not None and any(s.values()) for s in report["sensors"].values()):
        lines.append("  no labels to score against")
    if report["merged"]:
        names = "; ".join(" and ".join(group) for group in report["merged"])
        lines += ["", f"scored as one class, since the labels do not tell them apart: {names}"]
    gains = [
        f"{100 * gain:+.1f} {key.replace('_', ' ')} alone"
        for key, gain in report["fusion_gain"].items()
        if gain is not None
    ]
    if gains:
        lines.append(f"what fusion gains (points, mIoU in percentage points): {', '.join(gains)}")
    return "\n".join(lines)


def _table(title: str, scores: dict[str, dict[str, Any]], classes: Sequence[str], min_count: int) -> list[str]:
    first = next(iter(scores.values()))
    width = max(len(name) for name in (*classes, *FIGURES.values())) + 2
    rows = [title.ljust(width) + "count".rjust(11)]
    rows[0] += "".join(SETTING_TITLES.get(name, name).rjust(14) for name in scores)
    rows.append("-" * len(rows[0]))
    for name in classes:
        if first["counts"][name]:
            mark = " *" if name in first["left_out"] else ""
            values = [_percent(item["iou"][name]) for item in scores.values()]
            rows.append((name + mark).ljust(width) + f"{first['counts'][name]:11,}" + _columns(values))
    rows.append("-" * len(rows[0]))
    pad = " " * 11
    rows.append("mIoU".ljust(width) + pad + _columns([_percent(item["miou"]) for item in scores.values()]))
    intervals = [item["miou_interval"] for item in scores.values()]
    texts = ["-" if pair is None else f"{100 * pair[0]:.1f}..{100 * pair[1]:.1f}" for pair in intervals]
    rows.append("  95 % interval".ljust(width) + pad + _columns(texts))
    rows.append("mIoU, every class".ljust(width) + pad + _columns([_percent(s["miou_all"]) for s in scores.values()]))
    for key, name in FIGURES.items():
        rows.append(name.ljust(width) + pad + _columns([_percent(item[key]) for item in scores.values()]))
    if first["left_out"]:
        rows.append(f"* fewer than {min_count:,}, not in mIoU: {', '.join(first['left_out'])}")
    return rows


def _columns(texts: Sequence[str]) -> str:
    return "".join(text.rjust(14) for text in texts)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
