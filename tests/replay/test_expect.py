"""Frames chosen by time, the pace of the sensors, and what a replay must reach."""

import json
from types import SimpleNamespace

import pytest
from make_logs import make_camvid_log, make_plain_log
from tiny_model import save_tiny_model

from fusionseg.cli import main
from fusionseg.data.open import open_log
from fusionseg.replay import pace
from fusionseg.replay.expect import parse_expectation
from fusionseg.replay.pace import Pacer
from fusionseg.replay.source import cut

SUMMARY = {
    "accuracy": {"points": {"miou": 0.61, "miou_all": 0.5, "accuracy": 0.9}, "pixels": None},
    "stages_ms": {"total": {"p50": 20.0, "p95": 100.0, "p99": 130.0}},
    "frames": {"seen": 10, "written": 9, "skipped": [{}]},
    "throughput": {"wall_ms": 33.0},
    "pace": None,
}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Six frames, 0.1 s apart."""
    return open_log(make_plain_log(tmp_path_factory.mktemp("times") / "log", frames=6))


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("miou>=0.61", True),
        ("miou > 0.61", False),
        ("miou_all<0.4", False),
        ("p95_ms<=100", True),
        ("p99_ms<=1e2", False),
        ("skipped<=0", False),
        ("written>=9", True),
        ("wall_ms<40", True),
    ],
)
def test_expectations_hold_or_not(text, met):
    found, line = parse_expectation(text).verdict(SUMMARY)
    assert found is met and line.startswith(f"{'met' if met else 'not met'}: {text} (")


def test_a_figure_that_is_not_there_is_not_met():
    assert parse_expectation("missed<=0").verdict(SUMMARY) == (False, "not met: missed<=0 (the replay has no missed)")
    without = SUMMARY | {"accuracy": None, "stages_ms": {"total": None}}
    assert not parse_expectation("miou>=0").verdict(without)[0]
    assert not parse_expectation("p95_ms<=100").verdict(without)[0]
    pixels = SUMMARY | {"accuracy": {"points": None, "pixels": {"miou": 0.7}}}
    assert parse_expectation("miou>=0.7").verdict(pixels)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [("miou=0.5", "no expectation"), ("iou>=0.5", "choose one of miou,"), ("miou>=0.5.1", "no number"), ("", "write")],
)
def test_wrong_expectations_say_the_fix(text, said):
    with pytest.raises(ValueError, match=said):
        parse_expectation(text)


def test_the_exit_code_says_whether_expectations_hold(tmp_path, capsys, log):
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    base = ["replay", str(log.path), "--model", str(model), "--sensors", "camera", "--frames", "0:2"]
    assert main([*base, "--out", str(tmp_path / "a"), "--expect", "p95_ms<=1e6", "--expect", "written>=2"]) == 0
    assert "met: p95_ms<=1e6" in capsys.readouterr().out
    assert main([*base, "--out", str(tmp_path / "b"), "--expect", "written>=2", "--expect", "miou_all>=0.99"]) == 1
    out = capsys.readouterr().out
    assert "\nmet: written>=2 (written is 2)\n" in out and "\nnot met: miou_all>=0.99 (miou_all is 0." in out
    # it is checked before anything is replayed
    assert main([*base, "--out", str(tmp_path / "c"), "--expect", "speed>=1"]) == 2
    assert not (tmp_path / "c").exists() and "p95_ms" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"start_s": 0.2}, [2, 3, 4, 5]),
        ({"start_s": 0.11, "end_s": 0.4}, [2, 3]),
        ({"end_s": 0.05}, [0]),
        ({"every": 4}, [0, 4]),
        ({"start_s": 0.1, "every": 2}, [1, 3, 5]),
    ],
)
def test_frames_are_cut_by_time(log, options, frames):
    assert cut(log, log.frames, **options) == frames


def test_seconds_count_from_the_first_chosen_frame(log):
    assert cut(log, log.frames[2:], start_s=0.1) == [3, 4, 5]


def test_wrong_cuts_say_the_fix(tmp_path, log):
    with pytest.raises(ValueError, match="every is 0"):
        cut(log, log.frames, every=0)
    with pytest.raises(ValueError, match=r"no frame of .* from 0\.6 s on; give"):
        cut(log, log.frames, start_s=0.6)
    timeless = open_log(make_camvid_log(tmp_path / "camvid", frames=2), split="val")
    with pytest.raises(ValueError, match=r"has no time.*--frames"):
        cut(timeless, timeless.frames, end_s=1.0)
    assert cut(timeless, timeless.frames, every=2) == list(timeless.frames[:1])


class Clock:
    """Time that passes when somebody waits for it."""

    def __init__(self):
        self.now_s = 100.0

    def perf_counter(self):
        return self.now_s

    def wait(self, seconds):
        self.now_s += seconds


@pytest.mark.parametrize("times_ns", [[0, 10**8, 2 * 10**8, 3 * 10**8], [None] * 4])
def test_frames_come_when_they_are_due_and_late_labels_are_counted(monkeypatch, times_ns):
    clock, pacer = Clock(), Pacer()
    monkeypatch.setattr(pace, "time", clock)
    came = []
    for time_ns, work_s in zip(times_ns, (0.02, 0.25, 0.02, 0.02), strict=True):
        due_s = pacer.wait(SimpleNamespace(sweep_time_ns=time_ns, image_time_ns=None), clock)
        came.append(round(clock.now_s - 100.0, 6))
        clock.wait(work_s)
        pacer.labelled(due_s)
    # the second is labelled 0.25 s after it came, the third thereby 0.17 s; the fourth has caught up
    assert came == [0.0, 0.1, 0.35, 0.37]
    report = pacer.report()
    assert (report["frames"], report["missed"], report["missed_share"]) == (4, 2, 0.5)
    assert report["period_ms"] == 100.0 and report["lag_ms"]["p50"] == pytest.approx(130, abs=1)


def test_a_clock_that_was_set_neither_stops_the_replay_nor_makes_its_labels_late(monkeypatch):
    clock, pacer = Clock(), Pacer()
    monkeypatch.setattr(pace, "time", clock)
    came = []
    hour_ns = 3600 * 10**9
    for time_ns in (0, 10**8, hour_ns, hour_ns + 10**8, 2 * 10**8, 3 * 10**8):
        due_s = pacer.wait(SimpleNamespace(sweep_time_ns=time_ns, image_time_ns=None), clock)
        came.append(round(clock.now_s - 100.0, 6))
        pacer.labelled(due_s)
    assert came == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    report = pacer.report()
    assert (report["missed"], report["clock_jumps"], report["period_ms"]) == (0, 2, 100.0)


def test_a_paced_replay_takes_as_long_as_the_log(tmp_path, capsys, log):
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    words = ["--sensors", "camera", "--pace", "sensor", "--out", str(tmp_path / "out"), "--every", "2"]
    assert main(["replay", str(log.path), "--model", str(model), *words]) == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["pace"]["frames"] == 3 and found["pace"]["period_ms"] == 200.0
    assert found["throughput"]["wall_ms"] * 3 >= 400
    assert "of 3 missed (200 ms each)" in capsys.readouterr().out


def test_nothing_paced_is_no_report():
    assert Pacer().report() is None
