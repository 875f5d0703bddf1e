"""What a fleet did, all logs together: ``fleet.json`` and ``fleet.html``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from fusionseg.labels import ClassTable
from fusionseg.metrics import Confusion, groups_of, score
from fusionseg.replay.figures import KINDS, Figures
from fusionseg.replay.fleet import Job, Outcome
from fusionseg.replay.page import NONE, Cell, Fact, Table, percent, write_page
from fusionseg.replay.report import NAME as REPORT


def fleet_results(
    jobs: Sequence[Job], outcomes: Sequence[Outcome], throughput: Mapping[str, Any] | None, min_count: int
) -> dict[str, Any]:
    """What ``fleet.json`` holds.

    ``accuracy`` is that of ``summary.json`` over all logs: their confusion matrices are summed; its interval is a
    bootstrap over logs, since frames of one drive resemble each other.

    Args:
        jobs: the logs.
        outcomes: what became of each.
        throughput: of the run, or None where it replayed nothing.
        min_count: ground-truth points a class needs to count in ``miou``.

    Raises:
        ValueError: the figures of a log are damaged.
    """
    finished = [job for job, outcome in zip(jobs, outcomes, strict=True) if outcome.fault is None]
    return {
        "frames": {name: sum(getattr(outcome, name) for outcome in outcomes) for name in _COUNTS},
        "failed": sum(outcome.fault is not None for outcome in outcomes),
        "throughput": None if throughput is None else dict(throughput),
        "accuracy": _accuracy(finished, min_count),
        "logs": [asdict(outcome) for outcome in outcomes],
    }


_COUNTS = ("seen", "written", "skipped")


def _accuracy(jobs: Sequence[Job], min_count: int) -> dict[str, Any] | None:
    """The scores of points and of pixels; None where no log has labels."""
    confusions: dict[str, list[Confusion]] = {kind: [] for kind in KINDS}
    table: ClassTable | None = None
    labels: Any = 0
    for job in jobs:
        figures = Figures.read(job.folder)
        table = figures.table
        labels = labels + sum(counts.sum(axis=(0, 2), dtype=np.int64) for counts in figures.counts.values())
        for kind in KINDS:
            counts = figures.counts.get(f"{kind}/{figures.sensors}")
            if counts is not None and counts.any():
                confusions[kind].append(Confusion(table))
                confusions[kind][-1].counts += counts.sum(axis=0, dtype=np.int64)
    if table is None or not any(confusions.values()):
        return None
    groups = groups_of(labels, table)
    return {kind: score(logs, groups, min_count) for kind, logs in confusions.items()}


def write_fleet_page(path: Path, found: Mapping[str, Any]) -> None:
    """The page of ``fleet_results``: one HTML file that needs no network.

    Raises:
        ValueError: the file cannot be written.
    """
    accuracy = {kind: scores for kind, scores in (found["accuracy"] or {}).items() if scores}
    sections = {"logs": ("Logs", [_log_table(found["logs"], path.parent)])}
    if accuracy:
        sections["classes"] = ("Classes", [_class_table(kind, scores) for kind, scores in accuracy.items()])
    write_page(
        path,
        "compare.html",
        title=f"Replay of {len(found['logs'])} logs",
        subtitle=f"{path.parent}; the folder of each log holds its labels, summary and figures.",
        sections=[("summary", "Summary"), *((key, name) for key, (name, _) in sections.items())],
        facts=_facts(found, accuracy),
        remarks=[f"{log['name']} failed: {log['fault']}" for log in found["logs"] if log["fault"]],
        content=[(key, name, items) for key, (name, items) in sections.items()],
    )


def _facts(found: Mapping[str, Any], accuracy: Mapping[str, Any]) -> list[Fact]:
    frames, logs = found["frames"], len(found["logs"])
    facts = [
        Fact("Logs", f"{logs - found['failed']} of {logs}", "are done"),
        Fact("Frames", f"{frames['written']:,}", f"written; {frames['skipped']:,} skipped"),
    ]
    for kind, scores in accuracy.items():
        low, high = scores["miou_interval"] or (None, None)
        note = f"95 % interval {percent(low)} to {percent(high)}, a bootstrap over logs" if low is not None else ""
        facts.append(Fact(f"Mean IoU, {kind}", percent(scores["miou"]), note))
    if found["throughput"]:
        spent = found["throughput"]
        note = f"{spent['frames']:,} frames in {spent['seconds']:.0f} s by {spent['workers']} workers, their start too"
        facts.append(Fact("Frames a second", f"{spent['fps']:.2f}", note))
    return facts


def _log_table(logs: Sequence[Mapping[str, Any]], out: Path) -> Table:
    """A row a log; its name leads to its own report, where it has one."""
    names = [log["name"] for log in logs]
    links = {name: quote(f"{name}/{REPORT}") for name in names if (out / name / REPORT).is_file()}
    rows: list[list[str | Cell]] = []
    for log in logs:
        fps = NONE if log["fps"] is None else f"{log['fps']:.2f}"
        state = "done" if log["fault"] is None else Cell("failed", strong=True)
        figures = (f"{log['written']:,}", f"{log['skipped']:,}", percent(log["miou"]), fps, str(log["attempts"]))
        rows.append([log["name"], state, *figures, log["log"]])
    head = ["log", "state", "written", "skipped", "mean IoU", "frames a second", "workers tried", "path"]
    caption = "Each log; frames a second are those of its own replay."
    return Table(caption=caption, head=head, rows=rows, links=links)


def _class_table(kind: str, scores: Mapping[str, Any]) -> Table:
    rare = set(scores["left_out"])
    rows: list[list[str | Cell]] = [
        [
            f"{name} *" if name in rare else name,
            f"{count:,}",
            Cell(percent(scores["iou"][name]), bar=scores["iou"][name]),
        ]
        for name, count in scores["counts"].items()
        if count
    ]
    rows.append(["mean of classes", "", Cell(percent(scores["miou"]), strong=True)])
    stars = " Classes with * are too rare for the mean." if rare else ""
    return Table(caption=f"IoU of {kind} over all logs.{stars}", head=["class", kind, "IoU"], rows=rows)
