"""The page of a comparison: one HTML file that needs no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fusionseg.replay import charts
from fusionseg.replay.charts import Chart
from fusionseg.replay.compare import Comparison
from fusionseg.replay.compare_results import SAME_MIOU, ranked_frames, verdict
from fusionseg.replay.figures import FRAME_MIN_COUNT
from fusionseg.replay.page import NONE, TIGHT, Cell, Fact, Table, percent, points, write_page
from fusionseg.replay.report_tables import MOST_RANKED, confusion_table

Results = Mapping[str, Any]


def write_comparison(path: Path, comparison: Comparison, found: Results) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        comparison: two runs.
        found: their ``results``.

    Raises:
        ValueError: the file cannot be written.
    """
    sections = {
        "summary": ("Summary", []),
        "classes": ("Classes", [_class_table(kind, scores) for kind, scores in found["scores"].items()]),
        "frames": ("Frames", _frame_items(comparison, found)),
        "agreement": ("Where they agree", _agreement_items(comparison, found)),
        "latency": ("Latency", [_latency_chart(comparison), _latency_table(found["latency_ms"])]),
    }
    shown = {key: section for key, section in sections.items() if section[1] or key == "summary"}
    write_page(
        path,
        "compare.html",
        title=f"{_name(found['a'])} against {_name(found['b'])}",
        subtitle=f"{found['frames']} frames of {found['log']}. A is {found['a']['run']}, B is {found['b']['run']}.",
        sections=[(key, name) for key, (name, _) in shown.items()],
        facts=_facts(found),
        remarks=_remarks(found),
        content=[(key, name, items) for key, (name, items) in shown.items() if items],
    )


def _name(about: Results) -> str:
    return f"{about['model']} ({about['sensors']}, {Path(about['run']).name})"


def _facts(found: Results) -> list[Fact]:
    facts = []
    for kind, scores in found["scores"].items():
        item = scores["miou"]
        note = f"{percent(item['a'])} to {percent(item['b'])}; 95 % interval {_ends(item)}: {verdict(item)}"
        facts.append(Fact(f"Change of mean IoU, {kind}", points(item["change"]), note))
    facts.append(Fact("Agreement", percent(found["agreement"]["all"]), "of the labels that both gave"))
    for kind, scores in found["scores"].items():
        frames = scores["frames"]
        note = f"by {100 * SAME_MIOU:g} percentage points of mean IoU or more"
        facts.append(Fact(f"Frames better / worse, {kind}", f"{frames['better']} / {frames['worse']}", note))
    item = found["latency_ms"]["total"]
    if item["ratio"] is not None:
        ends = "" if item["interval"] is None else ", 95 % interval {:.2f} to {:.2f}".format(*item["interval"])
        note = f"median from sensor data to labels, B / A{ends}"
        facts.append(Fact("Time B takes", f"{item['ratio']:.2f} times A", note))
    return facts


def _remarks(found: Results) -> list[str]:
    lines = [
        "A change is B less A, in percentage points; its interval is a paired bootstrap over frames. Frames of a drive "
        "resemble each other: the interval tells how sure the change is on this drive, not elsewhere."
    ]
    if not found["scores"]:
        lines.append("The log has no labels in the classes of the models, so nothing here says which one is right.")
    if not found["same_machine"]:
        lines.append("The runs were measured on different machines: the ratios of times say nothing of the models.")
    return lines


def _class_table(kind: str, scores: Results) -> Table:
    items = {**scores["classes"], "mean of classes": scores["miou"]}
    ends = [abs(end) for item in items.values() for end in (*(item["interval"] or ()), item["change"] or 0.0)]
    reach = max(ends, default=0.0) or 1.0
    rows: list[list[str | Cell]] = []
    for name, item in items.items():
        rare = item.get("in_miou") is False
        count = f"{item['count']:,}" if "count" in item else ""
        drawn = None if item["change"] is None else _drawn(item, reach)
        change = Cell(points(item["change"]), strong=verdict(item) != "no clear change")
        cells: list[str | Cell] = [
            percent(item["a"]),
            percent(item["b"]),
            change,
            _ends(item),
            Cell("", span=drawn),
            verdict(item),
        ]
        rows.append([f"{name} *" if rare else name, count, *cells])
    stars = (
        " Classes with * are too rare for the mean." if any(i.get("in_miou") is False for i in items.values()) else ""
    )
    span = f"from -{100 * reach:.1f} to +{100 * reach:.1f}"
    caption = f"IoU of {kind}; drawn is the change with its interval, {span}.{stars}"
    head = ["class", kind, "A", "B", "change", "95 % interval", "drawn", "verdict"]
    return Table(caption=caption, head=head, rows=rows)


def _drawn(item: Results, reach: float) -> tuple[float, float, float]:
    """Low end, change and high end between -``reach`` (0) and ``reach`` (1)."""
    low, high = item["interval"] or (item["change"], item["change"])
    first, middle, last = (0.5 + value / reach / 2 for value in (low, item["change"], high))
    return first, middle, last


def _ends(item: Results) -> str:
    return NONE if item["interval"] is None else "{:+.1f} to {:+.1f}".format(*(100 * end for end in item["interval"]))


def _frame_items(comparison: Comparison, found: Results) -> list[Table | Chart]:
    items: list[Table | Chart] = []
    for kind, scores in found["scores"].items():
        a, b = comparison.frame_miou(kind)
        values = {f"A: {found['a']['model']}": 100 * a, f"B: {found['b']['model']}": 100 * b}
        text = f"Of {kind}, per frame, over the classes with at least {FRAME_MIN_COUNT} in it."
        items.append(charts.lines("Mean IoU over frames", text, comparison.frames, values, " %", low=0, high=100))
        items += [_changed_frames(kind, scores["frames"]["miou"], best=best) for best in (True, False)]
    return [item for item in items if not (isinstance(item, Table) and not item.rows)]


def _changed_frames(kind: str, frames: Results, *, best: bool) -> Table:
    word = "better" if best else "worse"
    ranked = ranked_frames(frames, best=best)[:MOST_RANKED]
    rows = [
        [frame, *(percent(frames[frame][key]) for key in "ab"), points(frames[frame]["change"])] for frame in ranked
    ]
    return Table(
        caption=f"Frames that got most {word}, mean IoU of {kind}", head=["frame", "A", "B", "change"], rows=rows
    )


def _agreement_items(comparison: Comparison, found: Results) -> list[Table | Chart]:
    agreement = comparison.agreement()
    if np.isnan(agreement).all():
        return []
    values = {"agreement": 100 * agreement}
    text = "Share of the labels that both gave, per frame, that are the same."
    chart = charts.lines("Agreement over frames", text, comparison.frames, values, " %", low=0, high=100)
    order = [int(row) for row in np.argsort(agreement, kind="stable") if not np.isnan(agreement[row])][:MOST_RANKED]
    apart = Table(
        caption="Frames where they agree least",
        head=["frame", "agreement"],
        rows=[[str(comparison.frames[row]), percent(agreement[row])] for row in order],
    )
    caption = "Of what A gave each class (row), how many percent B gave which class (column)"
    matrix = confusion_table(comparison.pairs.sum(axis=0)[:-1], comparison.table.names, caption)
    return [chart, apart, matrix]


def _latency_chart(comparison: Comparison) -> Chart:
    a, b = comparison.spent_ms("total")
    high = charts.ceiling(float(max(a.max(), b.max())))
    values = {"A": a, "B": b}
    text = "From sensor data to labels; frames that share a column are averaged."
    return charts.lines("Latency over frames", text, comparison.frames, values, f"{TIGHT}ms", low=0.0, high=high)


def _latency_table(stages: Results) -> Table:
    rows = []
    for stage, item in stages.items():
        ratio = NONE if item["ratio"] is None else f"{item['ratio']:.2f}"
        ends = NONE if item["interval"] is None else "{:.2f} to {:.2f}".format(*item["interval"])
        rows.append([stage.replace("_", " "), f"{item['a']:.1f}", f"{item['b']:.1f}", ratio, ends])
    caption = (
        "Median milliseconds per frame; below 1, B is faster. total: sensor data to labels; end to end: with load."
    )
    return Table(caption=caption, head=["stage", "A", "B", "B / A", "95 % interval"], rows=rows)
