"""The report of a replay: one HTML file that needs no network, to be read by people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusionseg.data.log import Log
from fusionseg.deploy.runtime import Model, Sensors
from fusionseg.metrics import group_names
from fusionseg.replay.charts import css_colour
from fusionseg.replay.doctor import recording_check
from fusionseg.replay.figures import KINDS, Figures
from fusionseg.replay.page import TIGHT, Fact, Table, milliseconds, percent, points, write_page
from fusionseg.replay.pictures import choose_frames, picture_frames
from fusionseg.replay.plan import Plan
from fusionseg.replay.report_tables import (
    TITLES,
    Ranking,
    confusion_table,
    fusion_gain,
    latency_chart,
    rankings,
    score_chart,
    score_table,
    share_chart,
    share_table,
    stage_table,
)

NAME = "report.html"
MOST_SKIPPED = 100
SECTIONS = {
    "summary": "Summary",
    "pictures": "Pictures",
    "frames": "Frames to look at",
    "classes": "Classes",
    "confusion": "Confusion",
    "latency": "Latency",
    "shares": "What was predicted",
    "skipped": "Frames left out",
}


def write_report(folder: Path, log: Log, model: Model, plan: Plan, summary: Mapping[str, Any]) -> Path:
    """Write ``report.html`` into the folder of a replay; returns its path.

    The figures are those the replay left in the folder; the frames whose pictures are shown are labelled once more.

    Args:
        folder: what ``replay`` wrote to.
        log: what was replayed.
        model: what labelled it.
        plan: how; with ``plan.alone`` the report says what fusion gained.
        summary: what ``replay`` returned.

    Raises:
        FileNotFoundError, ValueError: the folder has no figures, no frame was labelled, or the file cannot be written.
    """
    figures = Figures.read(folder)
    if not len(figures):
        raise ValueError(
            f"{folder}: no frame was labelled, so there is nothing to report; {folder / 'summary.json'} says why"
        )
    settings = _settings(log, figures, plan)
    kind = figures.kind
    ranked = rankings(figures, kind, settings)
    pictures = _pictures(log, model, plan, figures, settings, ranked)
    skipped = _skipped(summary)
    left_out = {
        "pictures": not pictures,
        "classes": kind is None,
        "confusion": kind is None,
        "skipped": not skipped.rows,
    }
    path = folder / NAME
    write_page(
        path,
        "report.html",
        title=f"{log.name}: what {model.name} made of it",
        subtitle=_subtitle(summary),
        sections=[(key, name) for key, name in SECTIONS.items() if not left_out.get(key)],
        facts=_facts(figures, settings, summary),
        remarks=_remarks(summary, kind),
        shown=pictures,
        pictured=[str(item["frame"]) for item in pictures],
        picture_text=_picture_text(pictures, figures),
        settings=[(name, TITLES[name]) for name in settings],
        truth=any(view["truth"] for item in pictures for view in item["views"].values()),
        classes=_colours(model, pictures),
        rankings=[ranking.table for ranking in ranked],
        ranking_remarks=_ranking_remarks(figures, settings),
        **_scores(figures, settings, plan.min_count),
        latency=latency_chart(figures),
        stages=stage_table(figures),
        shares=share_chart(figures),
        share_table=share_table(figures),
        skipped=skipped,
    )
    return path


def _settings(log: Log, figures: Figures, plan: Plan) -> list[Sensors]:
    """What was replayed, then each sensor alone where that was labelled too and is something else."""
    alone: list[Sensors] = ["camera", "lidar"] if plan.alone and log.has_images and log.has_lidar else []
    return [plan.sensors, *(name for name in alone if name != plan.sensors)]


def _scores(figures: Figures, settings: Sequence[str], min_count: int) -> dict[str, Any]:
    kinds = [kind for kind in KINDS if f"{kind}/{settings[0]}" in figures.counts]
    names = group_names(figures.groups(), figures.table)
    caption = "Of the {} of each class (row), how many percent were labelled as what (column)"
    return {
        "scores": [score_table(figures, kind, settings, min_count) for kind in kinds],
        "score_chart": score_chart(figures, kinds[0], settings) if kinds else None,
        "confusion": [
            confusion_table(figures.matrices(kind).sum(axis=0), names, caption.format(kind)) for kind in kinds
        ],
    }


def _pictures(
    log: Log, model: Model, plan: Plan, figures: Figures, settings: Sequence[Sensors], ranked: Sequence[Ranking]
) -> list[dict[str, Any]]:
    """Views of the chosen frames in their order in the log."""
    frames = choose_frames([ranking.frames for ranking in ranked], figures.frames.tolist())
    shown = dict(picture_frames(log, model, frames, plan.cameras, settings, plan.size))
    notes = {frame: [item.note for item in ranked if frame in item.frames] for frame in shown}
    return [
        {"frame": frame, "note": ", ".join(notes[frame]), "views": shown[frame]}
        for frame in figures.frames.tolist()
        if frame in shown
    ]


def _picture_text(pictures: Sequence[Mapping[str, Any]], figures: Figures) -> str:
    shown = "All frames" if len(pictures) == len(figures) else f"{len(pictures)} of {len(figures)} frames"
    return (
        f"{shown}: those named below and others spread over the log. Labels of pixels are half transparent over the "
        "image, labels of points are the stronger squares."
    )


def _colours(model: Model, pictures: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(class, colour) of the key; grey stands for labels of more than one class where there is ground truth."""
    table = model.table
    key = [(name, css_colour(colour)) for name, colour in zip(table.names, table.colours, strict=True)]
    if table.sets and any(view["truth"] for item in pictures for view in item["views"].values()):
        key.append(("one of several classes", css_colour(table.palette[len(table)])))
    return key


def _facts(figures: Figures, settings: Sequence[str], summary: Mapping[str, Any]) -> list[Fact]:
    frames, stages_ms = summary["frames"], summary["stages_ms"]
    out = f"{len(frames['skipped'])} of {frames['seen']} left out" if frames["skipped"] else "none left out"
    facts = [Fact("Frames labelled", f"{frames['written']:,}", out)]
    for kind, scores in (summary["accuracy"] or {}).items():
        if scores:
            interval = scores["miou_interval"]
            note = f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
            facts.append(Fact(f"Mean IoU of {kind}", percent(scores["miou"]), note))
    if _fused(figures, settings):
        gain = fusion_gain(figures, str(figures.kind))
        better = int((gain > 0).sum())
        note = f"percentage points of mean IoU over the better sensor alone; above it in {better} of {len(gain)} frames"
        facts.append(Fact("Fusion gains, median frame", points(float(np.nanmedian(gain))), note))
    elif not np.isnan(figures.disagreement).all():
        note = "median share of the points in view that camera alone and LiDAR alone name differently"
        facts.append(Fact("Sensors disagree", percent(float(np.nanmedian(figures.disagreement))), note))
    for name, stage in (("Sensor data to labels", "total"), ("With reading", "end_to_end")):
        found = stages_ms[stage]
        note = f"median; 95{TIGHT}% within {milliseconds(found['p95'])}, 99{TIGHT}% within {milliseconds(found['p99'])}"
        facts.append(Fact(name, milliseconds(found["p50"]), note))
    return facts


def _fused(figures: Figures, settings: Sequence[str]) -> bool:
    """Whether frames tell what both sensors gain over each alone."""
    if figures.kind is None or settings[0] != "both" or len(settings) < 3:
        return False
    return not np.isnan(fusion_gain(figures, figures.kind)).all()


def _subtitle(summary: Mapping[str, Any]) -> str:
    sizes = sorted({f"{height} x {width}" for height, width in summary["input"].values()})
    return (
        f"Model {summary['model']}, sensors {summary['sensors']}, network input {', '.join(sizes)} (height x width). "
        f"Log {summary['log']['path']} ({summary['log']['format']}), cameras {', '.join(summary['log']['cameras'])}."
    )


def _remarks(summary: Mapping[str, Any], kind: str | None) -> list[str]:
    machine = summary["machine"]
    # other runtimes than torch do not tell how many threads they took
    threads = f"threads of the network: {machine['threads']}, " if "threads" in machine else ""
    network = f"the network in {summary['runtime']}, {summary['precision']}"
    lines = [f"Measured on {machine['processor']}; {network}; {threads}cores: {machine['cores']}."]
    lines += _recording_remarks(summary["log"]["findings"])
    if summary["interrupted"]:
        lines.append("The replay was interrupted; this is complete for the frames seen.")
    if kind is None:
        lines.append("The log has no labels in the classes of the model, so nothing here says how right it is.")
    return lines


def _recording_remarks(findings: Mapping[str, Any]) -> list[str]:
    """What a recording lacks: what could not be read of it, and where images and sweeps found no partner."""
    if not findings:
        return []
    found = recording_check(findings)
    lines = [] if found.status == "OK" else [f"The recording is not whole: {found.measured}."]
    for name, pairing in findings.get("pairing", {}).items():
        alone, unused = pairing["frames_without_image"], pairing["images_unpaired"]
        if alone or unused:
            lines.append(
                f"Camera {name}: frames without an image within {findings['pairing_tolerance_ms']:g} ms: {alone:,}; "
                f"images that belong to no frame: {unused:,}."
            )
    return lines


def _ranking_remarks(figures: Figures, settings: Sequence[str]) -> list[str]:
    if _fused(figures, settings):
        gain = fusion_gain(figures, str(figures.kind))
        better, worse = int((gain > 0).sum()), int((gain < 0).sum())
        return [f"Both sensors together beat the better one alone in {better} frames and lose to it in {worse}."]
    if figures.kind is not None:
        return []
    if np.isnan(figures.disagreement).all():
        return ["Without labels, and with one sensor, nothing tells good frames from bad ones."]
    return [
        "Without labels nobody knows which frames fusion rescued; where the sensors disagree, one of them is wrong."
    ]


def _skipped(summary: Mapping[str, Any]) -> Table:
    skipped = summary["frames"]["skipped"]
    rows = [[str(item["frame"]), str(item["reason"])] for item in skipped[:MOST_SKIPPED]]
    more = f"; the first {MOST_SKIPPED} of {len(skipped):,}, see summary.json" if len(skipped) > MOST_SKIPPED else ""
    return Table(caption=f"Frames that could not be labelled, and why{more}", head=["frame", "reason"], rows=rows)
