import numpy as np
import pytest
from make_figures import TABLE, confusion, make_figures

from fusionseg.metrics import bootstrap_miou
from fusionseg.replay.page import Cell
from fusionseg.replay.report_tables import (
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

GOOD = confusion((100, 100, 0))
"""All right: mean IoU 1."""
POOR = confusion((100, 50, 0), [(1, 0, 50)])
"""Half the cars are road: IoU of road 100 / 150, of car 50 / 100."""
POOR_MIOU = (100 / 150 + 50 / 100) / 2
BLIND = confusion((100, 0, 0), [(1, 3, 100)])
"""No car is found: IoU of road 1, of car 0."""
SETTINGS = ("both", "camera", "lidar")


def scored(both, camera, lidar):
    return make_figures({"points/both": both, "points/camera": camera, "points/lidar": lidar})


def plain(rows):
    return [[value.text if isinstance(value, Cell) else value for value in row] for row in rows]


def test_scores_of_known_counts():
    figures = scored([GOOD, POOR], [GOOD, GOOD], [BLIND, BLIND])
    table = score_table(figures, "points", SETTINGS, min_count=150)
    assert table.head == ["class", "points", "camera + LiDAR", "camera alone", "LiDAR alone"]
    rows = {row[0]: row[1:] for row in plain(table.rows)}
    # both frames together: road 200 right of 250, car 150 of 200
    assert rows["road"] == ["200", "80.0\xa0%", "100.0\xa0%", "100.0\xa0%"]
    assert rows["car"] == ["200", "75.0\xa0%", "100.0\xa0%", "0.0\xa0%"]
    assert rows["mean of classes"] == ["", "77.5\xa0%", "100.0\xa0%", "50.0\xa0%"]
    assert rows["right of all"] == ["", "87.5\xa0%", "100.0\xa0%", "50.0\xa0%"]
    low, high = bootstrap_miou(np.array([GOOD, POOR]), np.array([True, True, False]))
    assert rows["95 % interval"][1:] == [f"{100 * low:.1f} to {100 * high:.1f}", "100.0 to 100.0", "50.0 to 50.0"]
    assert "sky" not in rows and "*" not in table.caption
    assert table.rows[0][2].bar == pytest.approx(0.8)


def test_a_rare_class_is_marked_and_not_in_the_mean():
    rare = confusion((100, 3, 0), [(1, 0, 3)])
    table = score_table(make_figures({"pixels/both": [rare]}), "pixels", ["both"], min_count=50)
    rows = {row[0]: row[1:] for row in plain(table.rows)}
    assert rows["car *"] == ["6", "50.0\xa0%"]
    assert rows["mean of classes"] == ["", "97.1\xa0%"]
    assert rows["mean of every class"] == ["", "73.5\xa0%"]
    assert rows["95 % interval"] == ["", "-"]
    assert "fewer than 50" in table.caption


def test_confusion_is_in_percent_of_the_true_class():
    matrix = confusion((200, 150, 0), [(1, 0, 49), (1, 3, 1)])
    table = confusion_table(matrix, TABLE.names, "c")
    assert table.head == ["class", "road", "car", "no answer"]
    assert plain(table.rows) == [["road", "100", "", ""], ["car", "24", "75", "<1"]]
    assert [cell.strong for cell in table.rows[1][1:]] == [False, True, False]
    assert table.rows[1][1].shade == pytest.approx(0.245)


def test_worst_rescued_and_spoilt_frames_are_found():
    #                frame 0: fusion saves it, 10: both as good as the camera, 20: fusion spoils it
    figures = scored([GOOD, GOOD, BLIND], [BLIND, GOOD, POOR], [POOR, BLIND, BLIND])
    worst, rescued, spoilt = rankings(figures, "points", SETTINGS)
    assert worst.frames == [20, 0, 10]
    assert worst.table.rows[0] == ["20", "50.0\xa0%", "car 0.0\xa0%, road 100.0\xa0%"]
    assert rescued.frames == [0] and spoilt.frames == [20]
    percents = ["100.0\xa0%", "50.0\xa0%", "58.3\xa0%"]
    assert rescued.table.rows == [["0", *percents, f"{100 * (1 - POOR_MIOU):+.1f}"]]
    assert spoilt.table.rows[0][-1] == f"{100 * (0.5 - POOR_MIOU):+.1f}"
    np.testing.assert_allclose(fusion_gain(figures, "points"), [1 - POOR_MIOU, 0, 0.5 - POOR_MIOU])


def test_without_labels_the_frames_where_the_sensors_disagree_are_named():
    (found,) = rankings(make_figures(count=4, disagreement=[0.1, 0.4, np.nan, 0.0]), None, SETTINGS)
    assert found.frames == [10, 0]
    assert found.table.rows == [["10", "40.0\xa0%"], ["0", "10.0\xa0%"]]
    assert rankings(make_figures(count=2), None, ["both"]) == []


def test_one_setting_ranks_by_iou_alone():
    assert [r.note for r in rankings(make_figures({"points/both": [GOOD]}), "points", ["both"])] == ["low IoU"]


def test_latencies_are_those_of_the_stages():
    figures = make_figures(count=3)
    rows = {row[0]: row[1:] for row in stage_table(figures).rows}
    assert rows["forward"][0] == "101.0" and rows["end to end"][0] == "118.0"
    chart = latency_chart(figures)
    assert [series.name for series in chart.series] == ["load", "project", "preprocess", "forward", "postprocess"]
    assert chart.marks[0].text == "p50 118\xa0ms"


def test_shares_name_the_frames_of_their_extremes():
    figures = make_figures(count=3)
    figures.predicted[2] = [0, 100, 0, 0]
    rows = {row[0]: row[1:] for row in share_table(figures).rows}
    assert rows["car"] == ["53.3\xa0%", "30.0\xa0% in 0", "100.0\xa0% in 20"]
    assert "unknown" not in rows
    chart = share_chart(figures)
    assert [series.name for series in chart.series] == ["road", "car", "sky"]
    assert chart.series[0].colour == "#0a141e"


def test_score_chart_has_a_line_per_setting():
    chart = score_chart(scored([GOOD] * 2, [POOR] * 2, [BLIND] * 2), "points", SETTINGS)
    assert [series.name for series in chart.series] == ["camera + LiDAR", "camera alone", "LiDAR alone"]
