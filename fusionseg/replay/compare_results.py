"""The figures of a comparison, as JSON values and as text."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.metrics import bootstrap_change, class_counts, group_names, iou, mean_over
from fusionseg.replay.compare import Comparison, Run
from fusionseg.replay.figures import REPORTED

RESAMPLES = 1000
SAME_MIOU = 0.005
"""Frames whose mean IoU changes by less are neither better nor worse."""
MOST_NAMED = 5


def results(comparison: Comparison) -> dict[str, Any]:
    """All figures as JSON values; shares and IoU in [0, 1], a change is ``b`` less ``a``, intervals are of 95 %."""
    a, b = comparison.a, comparison.b
    agreement, frames = comparison.agreement(), comparison.frames
    return {
        **{name: _about(run) for name, run in (("a", a), ("b", b))},
        "log": a.summary["log"]["path"],
        "frames": len(frames),
        "agreement": {
            "all": _plain(comparison.agreement_of_all()),
            "classes": _by_name(comparison.table.names, comparison.class_agreement()),
            "frames": _by_name(map(str, frames), agreement),
        },
        "scores": {kind: _scores(comparison, kind) for kind in comparison.kinds()},
        "latency_ms": {stage: _latency(*comparison.spent_ms(stage)) for stage in REPORTED},
        "same_machine": _same_machine(a.summary["machine"], b.summary["machine"]),
    }


def _same_machine(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether what both runs tell of their machine is the same; one may have run in torch and the other not."""
    return all(a[fact] == b[fact] for fact in a.keys() & b.keys())


def _about(run: Run) -> dict[str, Any]:
    return {"run": str(run.folder), "model": run.summary["model"], "sensors": run.figures.sensors}


def _scores(comparison: Comparison, kind: str) -> dict[str, Any]:
    """Mean IoU, the IoU of each class that occurs, and frames that changed."""
    per_frame = comparison.matrices(kind)
    totals = [frames.sum(axis=0) for frames in per_frame]
    counts = class_counts(totals[0])
    chosen = counts >= max(comparison.min_count, 1)
    labelled = class_counts(per_frame[0]).any(axis=1)
    change = bootstrap_change(per_frame[0][labelled], per_frame[1][labelled], chosen, RESAMPLES)
    # one frame does not tell how much frames differ
    told = labelled.sum() > 1
    ious = [iou(total) for total in totals]
    names = group_names(comparison.a.figures.groups(), comparison.table)
    means = [float(mean_over(values, chosen)) for values in ious]
    return {
        "miou": _changed(means[0], means[1], change.mean if told else None),
        "classes": {
            name: {
                "count": int(counts[i]),
                "in_miou": bool(chosen[i]),
                **_changed(float(ious[0][i]), float(ious[1][i]), change.classes[i] if told else None),
            }
            for i, name in enumerate(names)
            if counts[i]
        },
        "frames": _frame_changes(comparison, kind),
    }


def _frame_changes(comparison: Comparison, kind: str) -> dict[str, Any]:
    before, after = comparison.frame_miou(kind)
    change = after - before
    return {
        "better": int((change >= SAME_MIOU).sum()),
        "worse": int((change <= -SAME_MIOU).sum()),
        "miou": {
            str(frame): _changed(float(x), float(y), None)
            for frame, x, y in zip(comparison.frames, before, after, strict=True)
        },
    }


def _latency(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, Any]:
    """Medians, and how many times as long ``b`` takes; the interval is a bootstrap over frames."""
    rows = np.random.default_rng(0).integers(0, len(a), (RESAMPLES, len(a)))
    medians = [np.median(column[rows], axis=1) for column in (a, b)]
    middle = float(np.median(a)), float(np.median(b))
    if not middle[0] or not medians[0].all():
        return {"a": middle[0], "b": middle[1], "ratio": None, "interval": None}
    interval = [float(end) for end in np.percentile(medians[1] / medians[0], (2.5, 97.5))]
    return {
        "a": middle[0],
        "b": middle[1],
        "ratio": middle[1] / middle[0],
        "interval": interval if len(a) > 1 else None,
    }


def _changed(a: float, b: float, interval: tuple[float, float] | None) -> dict[str, Any]:
    ends = None if interval is None or np.isnan(interval).any() else list(interval)
    return {"a": _plain(a), "b": _plain(b), "change": _plain(b - a), "interval": ends}


def _by_name(names: Iterable[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    return dict(zip(names, map(_plain, values), strict=True))


def _plain(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def verdict(change: Mapping[str, Any]) -> str:
    """``better`` or ``worse`` where the interval leaves 0 out, else ``no clear change``."""
    interval = change["interval"]
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "no clear change"
    return "better" if interval[0] > 0 else "worse"


def ranked_frames(found: Mapping[str, Mapping[str, Any]], *, best: bool) -> list[str]:
    """Frames by their change of mean IoU, the largest first, those that changed alone."""
    sign = 1 if best else -1
    changed = {frame: sign * item["change"] for frame, item in found.items() if item["change"] is not None}
    return sorted((frame for frame, by in changed.items() if by >= SAME_MIOU), key=lambda frame: -changed[frame])


def format_results(found: Mapping[str, Any]) -> str:
    """The results as text for people, in percent, percentage points and milliseconds."""
    a, b = (f"{found[name]['model']} ({found[name]['run']}, {found[name]['sensors']})" for name in "ab")
    lines = [
        f"{found['frames']} frames of {found['log']}",
        f"  A: {a}",
        f"  B: {b}",
        *_agreement_lines(found["agreement"]),
    ]
    for kind, scores in found["scores"].items():
        lines += ["", *_score_lines(kind, scores)]
    if not found["scores"]:
        lines += ["", "no labels to score against"]
    lines += ["", *_latency_lines(found["latency_ms"])]
    if not found["same_machine"]:
        lines.append("measured on different machines: the ratios say nothing of the models")
    return "\n".join(lines)


def _agreement_lines(agreement: Mapping[str, Any]) -> list[str]:
    if agreement["all"] is None:
        return ["agreement: nothing was named by both"]
    frames = {frame: value for frame, value in agreement["frames"].items() if value is not None}
    lowest = min(frames, key=lambda frame: frames[frame])
    return [
        f"agreement: {_percent(agreement['all'])} of the labels; lowest in frame {lowest}, {_percent(frames[lowest])}"
    ]


def _score_lines(kind: str, scores: Mapping[str, Any]) -> list[str]:
    width = max(map(len, (*scores["classes"], "mean of classes"))) + 2
    lines = [f"{'IoU of ' + kind:{width}}{'count':>12}{'A':>8}{'B':>8}{'change':>9}{'95 % interval':>18}"]
    for name, item in scores["classes"].items():
        mark = "" if item["in_miou"] else " *"
        lines.append(f"{name + mark:{width}}{item['count']:12,}{_change_columns(item)}")
    lines.append(f"{'mean of classes':{width}}{'':12}{_change_columns(scores['miou'])}")
    if not all(item["in_miou"] for item in scores["classes"].values()):
        lines.append("* too few to be in the mean")
    frames = scores["frames"]
    lines.append(f"frames: {frames['better']} better, {frames['worse']} worse by {100 * SAME_MIOU:g} points or more")
    for best, word in ((True, "better"), (False, "worse")):
        ranked = ranked_frames(frames["miou"], best=best)[:MOST_NAMED]
        named = ", ".join(f"{frame} ({100 * frames['miou'][frame]['change']:+.1f})" for frame in ranked)
        lines += [f"  most {word}: {named}"] if ranked else []
    return lines


def _change_columns(item: Mapping[str, Any]) -> str:
    change = "-" if item["change"] is None else f"{100 * item['change']:+.1f}"
    ends = "-" if item["interval"] is None else "{:+.1f} to {:+.1f}".format(*(100 * end for end in item["interval"]))
    return f"{_percent(item['a']):>8}{_percent(item['b']):>8}{change:>9}{ends:>18}  {verdict(item)}"


def _latency_lines(stages: Mapping[str, Any]) -> list[str]:
    lines = [f"{'median ms':14}{'A':>10}{'B':>10}{'B / A':>8}{'95 % interval':>18}"]
    for stage, item in stages.items():
        ratio = "-" if item["ratio"] is None else f"{item['ratio']:.2f}"
        ends = "-" if item["interval"] is None else "{:.2f} to {:.2f}".format(*item["interval"])
        lines.append(f"{stage.replace('_', ' '):14}{item['a']:10.1f}{item['b']:10.1f}{ratio:>8}{ends:>18}")
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
