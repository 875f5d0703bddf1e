"""The tables of README are those of the JSON files beside it."""

import json
from pathlib import Path

from fusionseg.deploy.benchmark_report import format_benchmark, read_report
from fusionseg.engine.prune import format_pruning
from fusionseg.engine.recipe import format_distillation

ROOT = Path(__file__).parent.parent


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_distillation_is_what_was_measured() -> None:
    report = json.loads((ROOT / "docs" / "distillation.json").read_text())
    shown = (ROOT / "README.md").read_text()
    table = rows(format_distillation(report))
    assert len(table) > 15 and "\n".join(table[:6]) in shown
    assert all(line in shown for line in table)


def test_pruning_is_what_was_measured() -> None:
    report = json.loads((ROOT / "docs" / "pruning.json").read_text())
    assert format_pruning(report) in (ROOT / "README.md").read_text()


def test_the_ablation_is_what_was_measured() -> None:
    report = json.loads((ROOT / "docs" / "ablation.json").read_text())
    shown = rows((ROOT / "README.md").read_text())
    assert len(report["rows"]) > 5
    for row in report["rows"]:
        cells = [
            " / ".join("-" if scores[key] is None else f"{100 * scores[key]:.1f}" for key in row["settings"])
            for scores in row["points_miou"].values()
        ]
        assert any(line.startswith(f"| {row['name']} |") and all(c in line for c in cells) for line in shown)


def test_speed_is_what_was_measured() -> None:
    assert format_benchmark(read_report(ROOT / "docs" / "benchmark.json")) in (ROOT / "README.md").read_text()
