import re

import numpy as np
import pytest

from fusionseg.replay import charts
from fusionseg.replay.charts import BOTTOM, LEFT, MOST_COLUMNS, RIGHT, TOP, bands, css_colour, lines

MIDDLE = (TOP + BOTTOM) / 2


def points_of(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML]([-\d.]+),([-\d.]+)", path)]


def stack(values, frames=None, **options):
    columns = {name: np.array(column, dtype=float) for name, column in values.items()}
    count = len(next(iter(columns.values())))
    frames = np.arange(count) if frames is None else np.array(frames)
    return bands("t", "x", frames, columns, ["#000000"] * len(columns), " ms", **options)


def test_bands_are_stacked_from_the_bottom():
    chart = stack({"low": [50, 0], "high": [50, 100]}, top=100.0)
    low, high = (points_of(series.path) for series in chart.series)
    assert low == [(LEFT, MIDDLE), (RIGHT, BOTTOM), (RIGHT, BOTTOM), (LEFT, BOTTOM)]
    assert high == [(LEFT, TOP), (RIGHT, TOP), (RIGHT, BOTTOM), (LEFT, MIDDLE)]
    assert all(series.filled and series.path.endswith("Z") for series in chart.series)


def test_the_axis_ends_on_a_round_number_and_is_read_in_round_numbers():
    chart = stack({"a": [700, 1], "b": [120, 2]})
    assert [row.text for row in chart.rows] == ["0 ms", "250 ms", "500 ms", "750 ms", "1,000 ms"]
    assert [row.y for row in chart.rows] == pytest.approx(np.linspace(BOTTOM, TOP, 5))
    assert [row.text for row in stack({"a": [15016, 0]}).rows][1:] == [
        "5,000 ms",
        "10,000 ms",
        "15,000 ms",
        "20,000 ms",
    ]
    assert stack({"a": [0, 0]}).rows[-1].text == "1 ms"


def test_one_slow_frame_among_thousands_is_still_seen():
    quick = np.full(10_000, 1.0)
    quick[4321] = 100.0
    chart = stack({"a": quick, "b": np.full(10_000, 1.0)})
    ridge = points_of(chart.series[0].path)[:MOST_COLUMNS]
    assert len(points_of(chart.series[0].path)) == 2 * MOST_COLUMNS
    # the axis ends at 200: 101 is the highest stack
    assert min(y for _, y in ridge) == pytest.approx(MIDDLE, abs=0.05)
    assert sum(y < BOTTOM - 10 for _, y in ridge) == 1


def test_frames_of_a_column_are_averaged_where_the_axis_is_given():
    chart = stack({"a": np.tile([0.0, 100.0], MOST_COLUMNS)}, top=100.0)
    assert {y for _, y in points_of(chart.series[0].path)[:MOST_COLUMNS]} == {MIDDLE}


def test_a_thick_band_bears_its_name_and_a_thin_one_does_not():
    chart = stack({"thick": [90, 90, 90], "thin": [2, 2, 2]}, top=100.0)
    (note,) = chart.notes
    assert note.text == "thick" and TOP < note.y < BOTTOM and LEFT < note.x < RIGHT


def test_marks_stand_at_their_height():
    chart = stack({"a": [100, 100]}, marks={"half": 50.0})
    (mark,) = chart.marks
    assert (mark.text, mark.y) == ("half", MIDDLE)


def test_frame_numbers_below_are_the_logs_own():
    chart = stack({"a": [1] * 9}, frames=range(100, 190, 10))
    assert [note.text for note in chart.columns] == ["100", "120", "140", "160", "180"]
    assert [note.x for note in chart.columns] == pytest.approx(np.linspace(LEFT, RIGHT, 5))


def test_one_frame_is_drawn_from_end_to_end():
    chart = stack({"a": [100]}, top=100.0)
    assert points_of(chart.series[0].path) == [(LEFT, TOP), (RIGHT, TOP), (RIGHT, BOTTOM), (LEFT, BOTTOM)]
    assert [note.text for note in chart.columns] == ["0"]


def test_a_line_has_gaps_where_nothing_is_known_and_dots_between_them():
    values = {"miou": np.array([100, 100, np.nan, 0, np.nan, 50])}
    (series,) = lines("t", "x", np.arange(6), values, " %", low=0, high=100).series
    step = (RIGHT - LEFT) / 5
    expected = f"M{LEFT}.0,{TOP}.0h0L{LEFT + step:.1f},{TOP}.0M{LEFT + 3 * step:.1f},{BOTTOM}.0h0M{RIGHT}.0,{MIDDLE}h0"
    assert series.path == expected and not series.filled


def test_lines_differ_in_more_than_colour():
    values = {name: np.zeros(2) for name in "abcd"}
    drawn = lines("t", "x", np.arange(2), values, "", low=0, high=1).series
    assert len({series.dash for series in drawn}) == 4 == len({series.colour for series in drawn})


def test_colours_are_written_as_css():
    assert css_colour((255, 0, 16)) == "#ff0010"
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in charts.PALETTE)
