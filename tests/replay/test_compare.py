import json
import re

import cv2
import numpy as np
import pytest
from make_figures import TABLE, confusion, make_figures, write_run
from make_logs import make_camvid_log, make_plain_log
from tiny_model import save_tiny_model

from fusionseg.cli import main
from fusionseg.labels import ClassTable
from fusionseg.replay.compare import compare
from fusionseg.replay.compare_page import write_comparison
from fusionseg.replay.compare_results import format_results, ranked_frames, results, verdict
from fusionseg.replay.figures import REPORTED

GOOD = confusion((100, 100, 0))
POOR = confusion((100, 50, 0), [(1, 0, 50)])
POOR_MIOU = (100 / 150 + 50 / 100) / 2


def pair(tmp_path, a=None, b=None, labels_a=None, labels_b=None, **options):
    """Two runs of the same frames with these figures."""
    figures = [make_figures() if found is None else found for found in (a, b)]
    runs = [(tmp_path / "old", figures[0], labels_a), (tmp_path / "new", figures[1], labels_b)]
    return compare(*(write_run(*run) for run in runs), **{"min_count": 1, **options})


def scored(*confusions, **options):
    return make_figures({"points/both": list(confusions)}, **options)


def test_agreement_counts_what_both_named(tmp_path):
    first, second = [[0, 0, 1, 255], [2, 2], [255]], [[0, 1, 1, 0], [2, 2], [255]]
    comparison = pair(tmp_path, labels_a=first, labels_b=second)
    np.testing.assert_allclose(comparison.agreement(), [2 / 3, 1, np.nan])
    np.testing.assert_allclose(comparison.class_agreement(), [1 / 2, 1, 1])
    found = results(comparison)["agreement"]
    assert found["all"] == pytest.approx(4 / 5)
    assert found["classes"] == {"road": 0.5, "car": 1.0, "sky": 1.0}
    assert found["frames"] == {"0": pytest.approx(2 / 3), "10": 1.0, "20": None}


def test_a_run_against_itself_changes_nothing(tmp_path):
    figures = scored(GOOD, POOR, POOR)
    found = results(pair(tmp_path, figures, figures))
    assert found["agreement"]["all"] == 1.0
    item = found["scores"]["points"]["miou"]
    assert (item["change"], item["interval"]) == (0.0, [0.0, 0.0]) and verdict(item) == "no clear change"
    assert found["latency_ms"]["total"] == {"a": 107.0, "b": 107.0, "ratio": 1.0, "interval": [1.0, 1.0]}
    frames = found["scores"]["points"]["frames"]
    assert (frames["better"], frames["worse"]) == (0, 0)


def test_changes_of_known_counts(tmp_path):
    found = results(pair(tmp_path, scored(POOR, POOR, POOR), scored(GOOD, GOOD, GOOD)))
    scores = found["scores"]["points"]
    assert scores["classes"]["car"] == {
        "count": 300, "in_miou": True, "a": 0.5, "b": 1.0, "change": 0.5, "interval": [0.5, 0.5],
    }  # fmt: skip
    assert scores["classes"]["road"]["change"] == pytest.approx(1 / 3)
    assert scores["miou"]["change"] == pytest.approx(1 - POOR_MIOU)
    assert verdict(scores["miou"]) == "better" and "sky" not in scores["classes"]
    assert scores["frames"]["better"] == 3


def test_frames_that_got_better_or_worse(tmp_path):
    bad = confusion((100, 20, 0), [(1, 0, 80)])
    found = results(pair(tmp_path, scored(POOR, GOOD, GOOD, GOOD), scored(GOOD, POOR, bad, GOOD)))
    frames = found["scores"]["points"]["frames"]
    assert (frames["better"], frames["worse"]) == (1, 2)
    assert ranked_frames(frames["miou"], best=True) == ["0"]
    assert ranked_frames(frames["miou"], best=False) == ["20", "10"]
    assert frames["miou"]["10"]["change"] == pytest.approx(POOR_MIOU - 1)
    text = format_results(found)
    assert "frames: 1 better, 2 worse" in text and "most better: 0 (+41.7)" in text


def test_latency_is_a_ratio_of_medians(tmp_path):
    spent = make_figures(count=3).spent_ms
    found = results(pair(tmp_path, make_figures(spent_ms=spent), make_figures(spent_ms=2 * spent)))
    item = found["latency_ms"]["forward"]
    assert item == {"a": 101.0, "b": 202.0, "ratio": 2.0, "interval": [2.0, 2.0]}
    # nothing was drawn in either
    assert found["latency_ms"]["render"]["ratio"] is None
    assert tuple(found["latency_ms"]) == REPORTED


def test_one_frame_tells_no_interval(tmp_path):
    found = results(pair(tmp_path, scored(POOR), scored(GOOD)))
    item = found["scores"]["points"]["miou"]
    assert item["interval"] is None and verdict(item) == "no clear change"
    assert found["latency_ms"]["total"]["interval"] is None
    json.dumps(found, allow_nan=False)


def test_settings_and_folders_may_differ(tmp_path):
    """A run with both sensors against one with the camera alone: what the LiDAR brings."""
    camera = make_figures({"points/camera": [POOR, POOR]}, sensors="camera")
    found = results(pair(tmp_path, camera, scored(GOOD, GOOD)))
    assert (found["a"]["sensors"], found["b"]["sensors"]) == ("camera", "both")
    assert found["scores"]["points"]["miou"]["change"] == pytest.approx(1 - POOR_MIOU)


def test_without_labels_there_is_agreement_and_latency(tmp_path):
    found = results(pair(tmp_path))
    assert found["scores"] == {} and "no labels to score against" in format_results(found)


def test_runs_on_different_machines_are_told_apart(tmp_path):
    a = write_run(tmp_path / "a", make_figures())
    b = write_run(tmp_path / "b", make_figures(), machine={"cores": 64})
    found = results(compare(a, b))
    assert not found["same_machine"] and "different machines" in format_results(found)
    # an export on the same machine does not tell its threads
    threads = write_run(tmp_path / "c", make_figures(), machine={"cores": 2, "threads": 1})
    assert results(compare(a, threads))["same_machine"]


def other_table(figures):
    table = ClassTable("two", TABLE.names[:2], TABLE.colours[:2])
    changed = {**vars(figures), "table": table, "predicted": figures.predicted[:, :3]}
    return type(figures)(**changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_table, r"of other classes, three \(3\) and two \(2\)"),
        (lambda f: type(f)(**{**vars(f), "checksums": f.checksums + 1}), "of other logs .*frame 0 differ"),
        (lambda f: f.take(np.array([0, 1])), r"of other frames \(frame 20 and 0 more .* same --frames"),
        (lambda f: f.take(np.array([1, 0, 2])), "their order differs"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        pair(tmp_path, make_figures(), change(make_figures()))


def test_other_logs_without_a_common_frame_are_refused(tmp_path):
    a = write_run(tmp_path / "a", make_figures())
    b = write_run(tmp_path / "b", make_figures(frames=[5, 6, 7]), log={"path": "other", "cameras": ["front"]})
    with pytest.raises(ValueError, match=r"other logs .drive, other: no frame is in both"):
        compare(a, b)


def test_other_cameras_are_refused(tmp_path):
    a = write_run(tmp_path / "a", make_figures())
    b = write_run(tmp_path / "b", make_figures(), log={"path": "drive", "cameras": ["front", "left"]})
    with pytest.raises(ValueError, match=r"other cameras \(front and front, left\).*--cameras"):
        compare(a, b)


def test_other_ground_truth_is_refused(tmp_path):
    relabelled = confusion((90, 110, 0))
    with pytest.raises(ValueError, match="other ground truth of points in frame 10"):
        pair(tmp_path, scored(GOOD, GOOD), scored(GOOD, relabelled))
    with pytest.raises(ValueError, match="one alone has ground truth of points"):
        pair(tmp_path / "again", scored(GOOD, GOOD), make_figures(count=2))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda run: (run / "frames.npz").unlink(), FileNotFoundError, "new: is no folder of a replay"),
        (lambda run: (run / "frames.npz").write_bytes(b"PK"), ValueError, "frames.npz: is damaged"),
        (lambda run: (run / "summary.json").unlink(), FileNotFoundError, "no summary.json"),
        (lambda run: (run / "summary.json").write_text("{}"), ValueError, "summary.json: is damaged .*'model'"),
        (lambda run: (run / "labels/000010.label").unlink(), FileNotFoundError, "000010.label: is missing"),
        (lambda run: (run / "labels/000010.label").write_bytes(b"abcde"), ValueError, "000010.label: is damaged"),
        (lambda run: (run / "labels/000010.label").write_bytes(b""), ValueError, "3 and 0 labels of frame 10"),
        (lambda run: (run / "labels/000010.label").write_bytes(b"\x07\0\0\0" * 3), ValueError, "label 7 of frame 10"),
    ],
)
def test_missing_and_damaged_files_are_one_clear_line(tmp_path, capsys, spoil, error, message):
    old, new = (write_run(tmp_path / name, make_figures()) for name in ("old", "new"))
    spoil(new)
    with pytest.raises(error, match=message):
        compare(old, new)
    assert main(["compare", str(old), str(new), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(message, said)
    assert not (tmp_path / "out").exists()


def test_the_page_holds_the_figures_and_needs_nothing_else(tmp_path):
    figures = scored(POOR, POOR, GOOD), scored(GOOD, GOOD, GOOD)
    comparison = pair(tmp_path, *figures, labels_b=[[0, 1, 1]] * 3)
    found = results(comparison)
    write_comparison(tmp_path / "page.html", comparison, {**found, "log": "<b>drive</b>"})
    page = (tmp_path / "page.html").read_text()
    assert re.findall(r"<h2[^>]*>([^<]*)", page) == ["Summary", "Classes", "Frames", "Where they agree", "Latency"]
    assert "<b>drive" not in page and "&lt;b&gt;drive" in page
    assert not re.search(r"""https?:|url\(|(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert "Frames that got most better" in page and "Frames that got most worse" not in page


def test_two_replays_are_compared_from_the_command_line(tmp_path, capsys):
    log = str(make_plain_log(tmp_path / "log", frames=2))
    model = str(save_tiny_model(tmp_path / "tiny.safetensors"))
    for name, options in (("a", ["--report"]), ("b", ["--size", "32x48"])):
        assert main(["replay", log, "--model", model, "--out", str(tmp_path / name), *options]) == 0
    assert f"report: {tmp_path / 'a' / 'report.html'}" in capsys.readouterr().out
    out = tmp_path / "out"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out), "--min-count", "1"]) == 0
    said = capsys.readouterr().out
    found = json.loads((out / "comparison.json").read_text())
    labels = [
        [np.frombuffer((tmp_path / run / "labels" / f"{frame:06d}.label").read_bytes(), "<u4") for frame in (0, 1)]
        for run in "ab"
    ]
    first, second = (np.concatenate(run) for run in labels)
    named = (first != 255) & (second != 255)
    assert found["agreement"]["all"] == pytest.approx((first == second)[named].mean())
    assert found["scores"]["points"]["miou"]["b"] is not None
    assert "B / A" in said and said.splitlines()[-1] == f"next:    fusionseg inspect {log}"
    assert (out / "comparison.html").stat().st_size > 10_000


def test_a_report_is_not_made_at_the_pace_of_the_sensors(tmp_path, capsys):
    assert main(["replay", str(tmp_path), "--report", "--pace", "sensor"]) == 2
    assert "--report labels each frame three times" in capsys.readouterr().err


def test_label_pictures_are_compared_too(tmp_path):
    log = str(make_camvid_log(tmp_path / "log", frames=1))
    model = str(save_tiny_model(tmp_path / "tiny.safetensors"))
    for name in "ab":
        words = ["replay", log, "--split", "val", "--model", model, "--out", str(tmp_path / name)]
        assert main(words) == 0
    (picture,) = (tmp_path / "b" / "labels" / "camera").iterdir()
    pixels = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
    half = pixels.shape[0] // 2
    pixels[:half] = (pixels[:half] + 1) % 12
    cv2.imwrite(str(picture), pixels)
    assert compare(tmp_path / "a", tmp_path / "b").agreement() == pytest.approx([1 - half / len(pixels)])
    picture.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="is no picture"):
        compare(tmp_path / "a", tmp_path / "b")
    picture.unlink()
    with pytest.raises(FileNotFoundError, match="is missing"):
        compare(tmp_path / "a", tmp_path / "b")
