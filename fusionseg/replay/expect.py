"""What a replay must reach, as a line of text: ``miou>=0.5``, ``p95_ms<=100``."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def _scored(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    """A figure of the points, or of the pixels where no points carry labels."""

    def value(summary: Mapping[str, Any]) -> float | None:
        scores = summary["accuracy"] or {}
        found = scores.get("points") or scores.get("pixels")
        return None if found is None else found[name]

    return value


def _latency(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda summary: (summary["stages_ms"]["total"] or {}).get(name)


FIGURES: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "miou": _scored("miou"),
    "miou_all": _scored("miou_all"),
    "accuracy": _scored("accuracy"),
    "p50_ms": _latency("p50"),
    "p95_ms": _latency("p95"),
    "p99_ms": _latency("p99"),
    "wall_ms": lambda summary: summary["throughput"]["wall_ms"],
    "written": lambda summary: summary["frames"]["written"],
    "skipped": lambda summary: len(summary["frames"]["skipped"]),
    "missed": lambda summary: summary["pace"] and summary["pace"]["missed"],
}
"""Name -> the figure in ``summary.json``; latencies are those from sensor data to labels."""


@dataclass(frozen=True)
class Expectation:
    """One figure and what it must be; ``text`` is how it was written."""

    figure: str
    relation: str
    bound: float
    text: str

    def verdict(self, summary: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether a replay has reached it, and a line that says so."""
        value = FIGURES[self.figure](summary)
        if value is None:
            return False, f"not met: {self.text} (the replay has no {self.figure})"
        met = RELATIONS[self.relation](value, self.bound)
        return met, f"{'met' if met else 'not met'}: {self.text} ({self.figure} is {value:.4g})"


def parse_expectation(text: str) -> Expectation:
    """``FIGURE RELATION NUMBER``, with or without spaces.

    Raises:
        ValueError: not of that form, or an unknown figure; lists the known ones.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is no expectation; write FIGURE>=NUMBER or FIGURE<=NUMBER, as miou>=0.5")
    if match[1] not in FIGURES:
        raise ValueError(f"figure {match[1]!r} is not known; choose one of {', '.join(FIGURES)}")
    try:
        return Expectation(match[1], match[2], float(match[3]), text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r}: {match[3]!r} is no number; write it as 0.5 or 100") from error
