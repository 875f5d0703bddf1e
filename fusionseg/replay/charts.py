"""Charts over the frames of a run as shapes of an SVG drawing: stacked bands and lines, for the templates to write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 800, 260
LEFT, RIGHT, TOP, BOTTOM = 70, 790, 10, 226
"""The plot inside the drawing, in its units."""
MOST_COLUMNS = 600
"""More frames than that share columns, so that the page does not grow with the log."""
PALETTE = ("#0550ae", "#c2570c", "#1a7f37", "#8250df", "#a40e26", "#6e7781", "#9a6700", "#0a3069")
DASHES = ("", "8 4", "2 4", "12 3 2 3")
_CHARACTER, _LINE = 6.6, 14.0

Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line or one filled band; ``path`` is what SVG calls ``d``."""

    name: str
    colour: str
    path: str
    filled: bool
    dash: str = ""


@dataclass(frozen=True, kw_only=True)
class Note:
    """Text at a place of the drawing."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart over frames, ready to be written.

    Attributes:
        title, text: what it shows, for those who see it and those who do not.
        series: its shapes, from the bottom to the top of a stack.
        rows: values beside the vertical axis; ``columns``: frame numbers below the horizontal one.
        marks: named heights, drawn as lines across.
        notes: names written into the bands they belong to.
    """

    title: str
    text: str
    series: Sequence[Series]
    rows: Sequence[Note]
    columns: Sequence[Note]
    marks: Sequence[Note] = ()
    notes: Sequence[Note] = ()


def bands(
    title: str,
    text: str,
    frames: NDArray[np.int64],
    values: Values,
    colours: Sequence[str],
    unit: str,
    *,
    top: float | None = None,
    marks: Mapping[str, float] | None = None,
) -> Chart:
    """Values (F,) >= 0 by name, stacked from the bottom.

    Args:
        title: what it shows.
        text: how to read it.
        frames: (F,) the log's own numbers, F >= 1.
        values: name -> (F,).
        colours: one per name.
        unit: written behind each value of the axis.
        top: end of the axis; frames that share a column are averaged. None: where the highest stack ends, and a column
            shows the highest stack among its frames.
        marks: name -> height of a line across.
    """
    stacked = np.nan_to_num(np.array(list(values.values())))
    bins = _bins(len(frames))
    if top is None:
        peaks = [part[np.argmax(stacked[:, part].sum(axis=0))] for part in bins]
        columns, high = stacked[:, peaks], ceiling(float(stacked.sum(axis=0).max()))
    else:
        columns, high = np.column_stack([stacked[:, part].mean(axis=1) for part in bins]), top
    edges = np.vstack([np.zeros(len(bins)), np.cumsum(columns, axis=0)])
    x, y = _across(len(bins)), _down(edges, 0.0, high)
    series, notes = [], []
    for i, (name, colour) in enumerate(zip(values, colours, strict=True)):
        path = f"{_polyline(x, y[i + 1])}{_polyline(x[::-1], y[i][::-1]).replace('M', 'L', 1)}Z"
        series.append(Series(name=name, colour=colour, path=path, filled=True))
        notes += _inside(name, x, y[i + 1], y[i])
    return Chart(
        title=title,
        text=text,
        series=series,
        rows=_rows(0.0, high, unit),
        columns=_columns(frames, bins),
        marks=[Note(x=RIGHT, y=float(_down(v, 0.0, high)), text=name) for name, v in (marks or {}).items()],
        notes=notes,
    )


def lines(
    title: str, text: str, frames: NDArray[np.int64], values: Values, unit: str, *, low: float, high: float
) -> Chart:
    """Values (F,) by name, each a line between ``low`` and ``high``; a NaN is a gap, columns are means."""
    bins = _bins(len(frames))
    x = _across(len(bins))
    series = []
    for i, (name, column) in enumerate(values.items()):
        means = np.array([_mean(column[part]) for part in bins])
        colour, dash = PALETTE[i % len(PALETTE)], DASHES[i % len(DASHES)]
        path = _polyline(x, _down(means, low, high))
        series.append(Series(name=name, colour=colour, path=path, filled=False, dash=dash))
    return Chart(title=title, text=text, series=series, rows=_rows(low, high, unit), columns=_columns(frames, bins))


def css_colour(colour: Sequence[int]) -> str:
    """``#rrggbb``."""
    return "#" + "".join(f"{int(value):02x}" for value in colour)


def _bins(count: int) -> list[NDArray[np.intp]]:
    """Which frames each column shows; one frame alone is drawn from end to end."""
    rows = np.arange(count)
    return [rows, rows] if count == 1 else np.array_split(rows, min(count, MOST_COLUMNS))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _across(count: int) -> NDArray[np.float64]:
    return np.linspace(LEFT, RIGHT, count)


def _down(values: NDArray[np.float64] | float, low: float, high: float) -> NDArray[np.float64]:
    height: NDArray[np.float64] = BOTTOM - (np.clip(values, low, high) - low) / (high - low) * (BOTTOM - TOP)
    return height


def _polyline(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    path, pen_up = "", True
    for u, v in zip(x, y, strict=True):
        if np.isnan(v):
            pen_up = True
            continue
        # a line to where it stands shows a frame between two gaps as a dot
        path += f"M{u:.1f},{v:.1f}h0" if pen_up else f"L{u:.1f},{v:.1f}"
        pen_up = False
    return path


def _inside(name: str, x: NDArray[np.float64], upper: NDArray[np.float64], lower: NDArray[np.float64]) -> list[Note]:
    """The name where the band is thick enough for it along the whole word, if it is anywhere."""
    need = _CHARACTER * (len(name) + 1)
    step = x[1] - x[0]
    span = min(int(np.ceil(need / step)) + 1, len(x))
    windows = np.lib.stride_tricks.sliding_window_view
    ceiling, floor = windows(upper, span).max(axis=1), windows(lower, span).min(axis=1)
    best = int(np.argmax(floor - ceiling))
    if floor[best] - ceiling[best] < _LINE:
        return []
    return [Note(x=float(x[best] + x[best + span - 1]) / 2, y=float(floor[best] + ceiling[best]) / 2 + 4, text=name)]


def ceiling(value: float) -> float:
    """The next 1, 2, 4, 6 or 8 times a power of ten: four steps to there are round numbers too."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value))


def _rows(low: float, high: float, unit: str) -> list[Note]:
    values = np.linspace(low, high, 5)
    # 15,000 rather than 1.5e+04
    texts = [f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in values]
    heights = [float(_down(value, low, high)) for value in values]
    return [Note(x=LEFT, y=y, text=f"{text}{unit}") for y, text in zip(heights, texts, strict=True)]


def _columns(frames: NDArray[np.int64], bins: Sequence[NDArray[np.intp]]) -> list[Note]:
    """Frame numbers at up to five places, the ends among them."""
    x = _across(len(bins))
    chosen = np.unique(np.linspace(0, len(bins) - 1, 5).round().astype(int)) if len(frames) > 1 else np.array([0])
    return [Note(x=float(x[i]), y=BOTTOM + 18, text=f"{int(frames[bins[i][0]])}") for i in chosen]
