"""Several logs by several workers: the labels of single replays, each log once, and every frame accounted for."""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from make_logs import make_plain_log
from tiny_graph import save_tiny_export

from fusionseg.cli import main
from fusionseg.data.open import open_log
from fusionseg.deploy.runtime import load
from fusionseg.metrics import groups_of, iou, mean_over, merge
from fusionseg.replay.figures import Figures
from fusionseg.replay.fleet import Job, Outcome, fleet_jobs, frames_done, run_fleet
from fusionseg.replay.fleet_report import fleet_results, write_fleet_page
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan
from fusionseg.replay.sink import RUN_FILE
from fusionseg.replay.workers import LocalWorker, RayWorker, Replayer, WorkerDied, ray_room, start_ray

FRAMES = 4
LIMIT_S = 240
"""Longer than the tests of processes take on a busy core; what hangs, fails."""


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """An export, since a process that runs one is there seconds before one that imports torch."""
    return save_tiny_export(tmp_path_factory.mktemp("model") / "tiny", (64, 96))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Two logs of one name."""
    folder = tmp_path_factory.mktemp("logs")
    return [make_plain_log(folder / place / "drive", frames=FRAMES) for place in ("a", "b")]


@pytest.fixture
def limited():
    def stop(number, frame):
        raise TimeoutError(f"{LIMIT_S} s are over")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def labels(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "labels").iterdir()}


def replay_or_die(model, log, out, *, dying):
    """A replay that kills its own process after two frames, the first time it is given the log named ``dying``."""
    opened, died, seen = open_log(log), out.with_name(f"{out.name}.died"), []
    out.with_name(f"{os.getpid()}.pid").touch()

    def on_frame(note):
        seen.append(note)
        if out.name == dying and len(seen) == 2 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    plan = Plan(frames=opened.frames, cameras=opened.cameras, sensors="camera")
    replay(opened, model, out, plan, on_frame, resume=(out / RUN_FILE).is_file())


def is_running(pid: str) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def check_every_frame_once(jobs, outcomes, model_file, tmp_path):
    """With a worker that died, and none left behind."""
    model = load(model_file, threads=1)
    for job, outcome in zip(jobs, outcomes, strict=True):
        log = open_log(job.log)
        assert [entry["frame"] for entry in frames_done(job)] == list(log.frames)
        assert (outcome.fault, outcome.seen, outcome.written, outcome.skipped) == (None, FRAMES, FRAMES, 0)
        single = tmp_path / f"single-{job.folder.name}"
        replay(log, model, single, Plan(frames=log.frames, cameras=log.cameras, sensors="camera"))
        assert labels(job.folder) == labels(single)
    assert [outcome.attempts for outcome in outcomes] == [1, 2]
    # a second time nothing is left to do, by nobody
    assert run_fleet(jobs, lambda: pytest.fail("a worker is hired"), 1, lambda outcome: None) == outcomes
    pids = [path.stem for path in jobs[0].folder.parent.glob("*.pid")]
    assert len(pids) >= 2
    ends = time.monotonic() + 20
    while any(map(is_running, pids)):
        assert time.monotonic() < ends, "a worker outlives the fleet"
        time.sleep(0.1)


def test_a_log_whose_process_is_killed_goes_to_a_new_one(tmp_path, logs, model_file, limited):
    out = tmp_path / "out"
    jobs = fleet_jobs(logs, out)
    hire = partial(LocalWorker, partial(load, model_file, threads=1), partial(replay_or_die, dying="drive-2"))
    outcomes = run_fleet(jobs, hire, 1, lambda outcome: None)
    assert (out / "drive-2.died").exists()
    check_every_frame_once(jobs, outcomes, model_file, tmp_path)


def test_a_log_whose_actor_is_killed_goes_to_a_new_one(tmp_path, logs, model_file, limited):
    cloudpickle = pytest.importorskip("ray.cloudpickle", reason="Ray is not installed (extra distributed)")
    # actors do not import the tests
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    out = tmp_path / "out"
    jobs = fleet_jobs(logs, out)
    hire = partial(RayWorker, partial(load, model_file, threads=1), partial(replay_or_die, dying="drive-2"))
    try:
        ray = start_ray(None, 2)
    except ValueError as error:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        if "timed out during startup" not in str(error):
            raise
        pytest.skip("Ray allows itself 30 s to start, and this machine is too busy for that")
    try:
        assert [ray_room(ray, cores, False) for cores in (1, 2)] == [2, 1]
        with pytest.raises(ValueError, match="no worker with 3 cores; choose fewer --threads"):
            ray_room(ray, 3, False)
        outcomes = run_fleet(jobs, hire, 2, lambda outcome: None)
    finally:
        ray.shutdown()
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert (out / "drive-2.died").exists()
    check_every_frame_once(jobs, outcomes, model_file, tmp_path)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, r"Ray cannot start here \(it timed out\); free the machine or use --engine local"),
        (
            "10.0.0.9:6379",
            r"10\.0\.0\.9:6379: no Ray cluster there \(it timed out\); give what `ray start --head` said",
        ),
    ],
)
def test_a_ray_that_is_not_there_says_the_fix(monkeypatch, address, said):
    def init(*args, **options):
        raise ConnectionError("it\ntimed out")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(ValueError, match=said):
        start_ray(address, 2)


class WorkerHere:
    """Does in this process what others do in theirs; dies over each log named in ``deadly``."""

    def __init__(self, model_file, deadly=()):
        self._replayer = Replayer(partial(load, model_file, threads=1), partial(replay_or_die, dying=""), ".")
        self._deadly, self.closed = deadly, False

    def replay(self, log, out):
        assert not self.closed
        if out.name in self._deadly:
            raise WorkerDied("it died")
        return self._replayer.replay(log, out)

    def close(self):
        self.closed = True


def test_a_log_that_ends_every_worker_fails_alone(tmp_path, logs, model_file):
    hired, told = [], []

    def hire():
        hired.append(WorkerHere(model_file, deadly=["drive"]))
        return hired[-1]

    first, second = run_fleet(fleet_jobs(logs, tmp_path), hire, 1, told.append)
    assert (first.fault, first.attempts, first.seen) == ("it died, 3 of 3 attempts", 3, 0)
    assert (second.fault, second.attempts, second.written) == (None, 1, FRAMES)
    assert len(hired) == 4 and all(worker.closed for worker in hired)
    assert told == [first, second]


def test_an_interrupted_fleet_goes_on_with_what_is_left(tmp_path, logs, model_file):
    jobs, hired, told = fleet_jobs(logs, tmp_path), [], []

    def hire():
        hired.append(WorkerHere(model_file))
        return hired[-1]

    def interrupted(outcome):
        told.append(outcome)
        raise KeyboardInterrupt

    # the second log is not begun while a thread waits to be given it
    with pytest.raises(KeyboardInterrupt):
        run_fleet(jobs[:1], hire, 1, interrupted)
    assert hired[0].closed
    outcomes = run_fleet(jobs, hire, 2, told.append)
    assert told == [outcomes[0], outcomes[0], outcomes[1]]
    assert len(hired) == 2 and [outcome.written for outcome in outcomes] == [FRAMES, FRAMES]


def test_the_command(tmp_path, capsys, logs, model_file, limited):
    """Equal to single replays, whatever fails beside them; a second time it does nothing."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra distributed)")
    empty, broken = tmp_path / "empty", make_plain_log(tmp_path / "broken", frames=3)
    empty.mkdir()
    stamp = sorted((broken / "sweeps").iterdir())[1]
    stamp.write_bytes(b"short")
    out = tmp_path / "out"
    options = ["--model", str(model_file), "--sensors", "camera", "--threads", "1", "--min-count", "1"]
    line = ["replay", *map(str, (*logs, empty, broken)), *options, "--workers", "1", "--out", str(out)]
    assert main(line) == 1
    shown = capsys.readouterr().out.splitlines()
    rows = [row.split()[:3] for row in shown[1:5]]
    assert rows == [["drive", "4", "0"], ["drive-2", "4", "0"], ["empty", "0", "0"], ["broken", "2", "1"]]
    assert "failed: " in shown[3] and "failed: 1 of 4 logs" in "\n".join(shown)

    report = json.loads((out / "fleet.json").read_text())
    assert report["frames"] == {"seen": 2 * FRAMES + 3, "written": 2 * FRAMES + 2, "skipped": 1}
    assert report["failed"] == 1 and report["logs"][2]["fault"]
    assert report["throughput"]["frames"] == 2 * FRAMES + 3
    assert "empty failed: " in (out / "fleet.html").read_text()
    check_equal_to_single_replays(out, logs, options, report, tmp_path)
    check_mean_of_all_logs(out, ("drive", "drive-2", "broken"), report)

    table = parquet.read_table(out / "frames.parquet").to_pylist()
    numbers = {name: list(open_log(path).frames) for name, path in zip(("drive", "drive-2"), logs, strict=True)}
    numbers["broken"] = list(open_log(broken).frames)
    assert [(row["log"], row["frame"]) for row in table] == [(n, frame) for n in numbers for frame in numbers[n]]
    assert [row["skipped"] is None for row in table] == [*[True] * (2 * FRAMES), True, False, True]
    assert all((row["total_ms"] is None) == (row["skipped"] is not None) for row in table)

    # without the empty folder all is done
    line.remove(str(empty))
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/**/*")}
    assert main(line) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/**/*")} == before
    again = json.loads((out / "fleet.json").read_text())
    assert again["failed"] == 0 and again["logs"] == [log for log in report["logs"] if log["name"] != "empty"]
    assert {key: again[key] for key in ("frames", "throughput", "accuracy")} == {
        key: report[key] for key in ("frames", "throughput", "accuracy")
    }

    # an expectation that one log misses, and other options than those of the folder
    assert main([*line, "--expect", f"written>={FRAMES}"]) == 1
    assert "broken: not met" in capsys.readouterr().out
    assert main([*line, "--every", "2"]) == 2
    assert "holds a replay with every 1, not 2" in capsys.readouterr().err


def check_equal_to_single_replays(out, logs, options, report, tmp_path):
    for name, log, told in zip(("drive", "drive-2"), logs, report["logs"], strict=False):
        assert main(["replay", str(log), *options, "--out", str(tmp_path / name)]) == 0
        assert labels(out / name) == labels(tmp_path / name)
        single = json.loads((tmp_path / name / "summary.json").read_text())
        assert (told["name"], told["attempts"]) == (name, 1)
        assert told["miou"] == single["accuracy"]["points"]["miou"]


def check_mean_of_all_logs(out, names, report):
    figures = [Figures.read(out / name) for name in names]
    counts = sum(np.asarray(item.counts["points/camera"], np.int64).sum(axis=0) for item in figures)
    table = figures[0].table
    expected = mean_over(iou(merge(counts, groups_of(counts.sum(axis=1), table), table)))
    assert report["accuracy"]["points"]["miou_all"] == pytest.approx(float(expected))
    assert sum(report["accuracy"]["points"]["counts"].values()) == counts.sum()
    assert report["accuracy"]["pixels"] is None


def test_the_page_leads_to_the_report_of_each_log_that_has_one(tmp_path):
    names = ("a drive#2", "b")
    jobs = [Job(tmp_path / "logs" / name, tmp_path / name) for name in names]
    figures = dict(seen=0, written=0, skipped=0, miou=None, fps=None, seconds=1.0, attempts=1)
    outcomes = [Outcome(name=job.folder.name, log=str(job.log), fault="it is empty", **figures) for job in jobs]
    jobs[0].folder.mkdir()
    (jobs[0].folder / "report.html").touch()
    write_fleet_page(tmp_path / "fleet.html", fleet_results(jobs, outcomes, None, 1))
    page = (tmp_path / "fleet.html").read_text()
    assert '<a href="a%20drive%232/report.html">a drive#2</a>' in page and "b/report.html" not in page


def test_folders_are_kept_whatever_is_named_later(tmp_path, logs):
    a, b = logs
    assert [job.folder.name for job in fleet_jobs([a, b, a], tmp_path)] == ["drive", "drive-2"]
    third = tmp_path / "c" / "drive"
    jobs = fleet_jobs([third, b, a], tmp_path)
    assert [(job.log, job.folder.name) for job in jobs] == [(third, "drive-3"), (b, "drive-2"), (a, "drive")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--address", "10.0.0.1:6379"], "--address is of a Ray cluster; add --engine ray"),
        (["--workers", "1", "--submission", "nuscenes"], "--submission is of one log"),
        (["--workers", "1", "--expect", "speed>=3"], "figure 'speed' is not known"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_made(tmp_path, capsys, logs, model_file, words, message):
    out = tmp_path / "out"
    assert main(["replay", str(logs[0]), "--model", str(model_file), "--out", str(out), *words]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
