"""A replay that was stopped, by kill -9 too, goes on without doubling or losing a frame."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from make_logs import make_plain_log
from tiny_model import save_tiny_model

from fusionseg.cli import main
from fusionseg.data.open import open_log
from fusionseg.files import atomic_write
from fusionseg.replay import pipeline
from fusionseg.replay.figures import Figures
from fusionseg.replay.journal import read_journal
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan
from fusionseg.replay.sink import Video

FRAMES = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_plain_log(tmp_path_factory.mktemp("resume") / "log", frames=FRAMES)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, folder, tiny_model):
    """The run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole") / "out"
    log = open_log(folder)
    replay(log, tiny_model, out, Plan(frames=log.frames, cameras=log.cameras, sensors="camera", video=True))
    return out


def brightness(path: Path) -> list[float]:
    with av.open(str(path)) as video:
        return [float(frame.to_ndarray(format="rgb24").mean()) for frame in video.decode(video=0)]


def same_run(out: Path, whole: Path) -> bool:
    """Labels, figures but the times, and the pictures of the video."""
    names = sorted(path.name for path in (whole / "labels").iterdir())
    assert sorted(path.name for path in (out / "labels").iterdir()) == names and len(names) == FRAMES + 1
    assert all((out / "labels" / name).read_bytes() == (whole / "labels" / name).read_bytes() for name in names)
    a, b = Figures.read(out), Figures.read(whole)
    for name in ("frames", "checksums", "predicted"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.counts["points/camera"], b.counts["points/camera"])
    assert np.isfinite(a.spent_ms).all()
    if (out / "video").is_dir():
        shown, expected = (brightness(folder / "video" / "front.mp4") for folder in (out, whole))
        assert len(shown) == len(expected) == FRAMES
        np.testing.assert_allclose(shown, expected, atol=2.0)
        assert [path.name for path in (out / "video").iterdir()] == ["front.mp4"]
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (out, whole)]
    assert summaries[0]["frames"] == summaries[1]["frames"] == {"seen": FRAMES, "written": FRAMES, "skipped": []}
    return bool(summaries[0]["accuracy"]["points"] == summaries[1]["accuracy"]["points"])


@pytest.mark.parametrize(("video", "stopped_at"), [(False, 2), (True, 1), (True, 4)])
def test_a_stopped_replay_goes_on(tmp_path, monkeypatch, tiny_model, folder, whole, video, stopped_at):
    """It leaves a valid result when it is stopped, and what one run leaves when it has gone on."""
    monkeypatch.setattr(pipeline, "CHECKPOINT_FRAMES", 3)
    log, out, noted = open_log(folder), tmp_path / "out", []
    plan = Plan(frames=log.frames, cameras=log.cameras, sensors="camera", video=video)

    def press(note):
        noted.append(note)
        if len(noted) == stopped_at:
            os.kill(os.getpid(), signal.SIGINT)

    first = replay(log, tiny_model, out, plan, press)
    assert first["interrupted"] and stopped_at <= first["frames"]["written"] < FRAMES
    if video:
        assert len(brightness(out / "video" / "front.mp4")) == first["frames"]["written"]
    replay(log, tiny_model, out, plan, noted.append, resume=True)
    # the frames that were done are not replayed again
    assert [note.partition(":")[0] for note in noted] == [f"frame {frame}" for frame in log.frames]
    assert same_run(out, whole)


def test_a_resumed_run_that_is_complete_stays_as_it_is(tmp_path, tiny_model, folder, whole):
    log, noted = open_log(folder), []
    plan = Plan(frames=log.frames, cameras=log.cameras, sensors="camera", video=True)
    out = tmp_path / "out"
    replay(log, tiny_model, out, plan)
    replay(log, tiny_model, out, plan, noted.append, resume=True)
    assert noted == [] and same_run(out, whole)


def test_what_a_kill_left_of_a_file_is_cleared_away(tmp_path, monkeypatch, tiny_model, folder, whole):
    """A submission with a torn file in it would be refused."""
    log, out = open_log(folder), tmp_path / "out"
    plan = Plan(frames=log.frames, cameras=log.cameras, sensors="camera", ply=True)
    replay(log, tiny_model, out, plan)
    expected = sorted(out.rglob("*"))
    torn = []

    def killed(source, target):
        torn.append(shutil.copy(source, tmp_path / Path(source).name))
        raise RuntimeError

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(RuntimeError), atomic_write(out / "labels" / "000002.label") as file:
        file.write(b"half")
    monkeypatch.undo()
    shutil.copy(torn[0], out / "labels")
    shutil.copy(torn[0], out / "clouds" / ".000002.part.ply")
    assert len(list(out.rglob("*"))) == len(expected) + 2
    replay(log, tiny_model, out, plan, resume=True)
    assert sorted(out.rglob("*")) == expected and same_run(out, whole)


def test_a_killed_replay_goes_on(tmp_path, folder, model_file, whole):
    """Killed without warning while it writes a video, it ends as if nothing had been."""
    out = tmp_path / "out"
    command = ["replay", str(folder), "--model", str(model_file), "--video", "--sensors", "camera", "--out", str(out)]
    code = (
        "import sys, time; from fusionseg.replay import pipeline, sinks; pipeline.CHECKPOINT_FRAMES = 3\n"
        "write = sinks.write_point_labels\n"
        "sinks.write_point_labels = lambda *given: (time.sleep(0.15), write(*given))\n"
        "from fusionseg.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    while len([entry for entry in read_journal(out) if "frame" in entry]) < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert not (out / "summary.json").exists()
    assert main([*command, "--resume"]) == 0
    assert same_run(out, whole)


def test_a_replay_killed_anywhere_goes_on_from_what_was_there(tmp_path, monkeypatch, tiny_model, folder, whole):
    """The folder as it was after each frame is what a kill would have left; the one who goes on is killed again."""
    monkeypatch.setattr(pipeline, "CHECKPOINT_FRAMES", 3)
    log, killed = open_log(folder), []
    plan = Plan(frames=log.frames, cameras=log.cameras, sensors="camera", video=True)

    def kill(out, after):
        def note(text):
            if text.startswith(f"frame {after}:"):
                killed.append(tmp_path / f"killed{len(killed)}")
                # temporary files come and go while the copy is made
                shutil.copytree(out, killed[-1], ignore_dangling_symlinks=True, ignore=shutil.ignore_patterns(".0*"))

        return note

    replay(log, tiny_model, tmp_path / "out", plan, kill(tmp_path / "out", 4))
    replay(log, tiny_model, killed[0], plan, kill(killed[0], 7), resume=True)
    assert same_run(killed[0], whole)
    assert not (killed[1] / "video" / "front.mp4").exists()
    replay(log, tiny_model, killed[1], plan, resume=True)
    assert same_run(killed[1], whole)


def test_a_replay_that_a_full_disk_has_stopped_goes_on(tmp_path, monkeypatch, tiny_model, folder, whole):
    """The disk is full when the eighth frame is in the labels and not in the video, after six frames were safe."""
    monkeypatch.setattr(pipeline, "CHECKPOINT_FRAMES", 3)
    log, out, encode, added = open_log(folder), tmp_path / "out", Video.add, []
    plan = Plan(frames=log.frames, cameras=log.cameras, sensors="camera", video=True)

    def add(video, picture):
        added.append(video)
        if len(added) == 8:
            raise ValueError("front.mp4: cannot be written (No space left on device)")
        encode(video, picture)

    with monkeypatch.context() as full:
        full.setattr(Video, "add", add)
        with pytest.raises(ValueError, match="No space left"):
            replay(log, tiny_model, out, plan)
    assert len(list((out / "labels").glob("*.label"))) == 8 and not (out / "video" / "front.mp4").exists()
    assert json.loads((out / "summary.json").read_text())["frames"]["written"] == 7
    noted = []
    replay(log, tiny_model, out, plan, noted.append, resume=True)
    assert len(noted) == FRAMES - 6 and same_run(out, whole)


def test_what_a_kill_left_of_a_line_does_not_count(tmp_path, tiny_model, folder, whole):
    log, out = open_log(folder), tmp_path / "out"
    plan = Plan(frames=log.frames, cameras=log.cameras, sensors="camera")
    replay(log, tiny_model, out, plan)
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (out / "journal.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:40])
    noted = []
    replay(log, tiny_model, out, plan, noted.append, resume=True)
    assert len(noted) == FRAMES - 5 and same_run(out, whole)


def test_skipped_frames_stay_skipped(tmp_path, tiny_model):
    folder = make_plain_log(tmp_path / "log", frames=5)
    sorted((folder / "sweeps").iterdir())[1].write_bytes(b"")
    log, out = open_log(folder), tmp_path / "out"
    plan = Plan(frames=log.frames, cameras=log.cameras, sensors="camera")
    first = replay(log, tiny_model, out, plan)
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (out / "journal.jsonl").write_bytes(b"".join(lines[:3]))
    again = replay(log, tiny_model, out, plan, resume=True)
    assert again["frames"] == first["frames"] and len(again["frames"]["skipped"]) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sensors", "lidar"], 'a replay with sensors "both", not "lidar"'),
        (["--frames", "0:4"], "with frames"),
        (["--every", "2"], "with frames"),
        (["--size", "64x64"], "with size null, not [64, 64]"),
        (["--video"], "with video false, not true"),
    ],
)
def test_the_folder_of_another_run_is_refused(tmp_path, capsys, tiny_model, folder, model_file, words, said):
    out = tmp_path / "out"
    base = ["replay", str(folder), "--model", str(model_file), "--out", str(out)]
    assert main([*base, "--frames", "0:2"]) == 0
    before = (out / "journal.jsonl").read_bytes()
    words = words if "--frames" in words else ["--frames", "0:2", *words]
    assert main([*base, "--resume", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("error: ") == 1
    assert (out / "journal.jsonl").read_bytes() == before


def test_another_model_or_log_does_not_go_on_with_a_run(tmp_path, capsys, folder, model_file):
    out = tmp_path / "out"
    base = ["--frames", "0:1", "--out", str(out)]
    assert main(["replay", str(folder), "--model", str(model_file), *base]) == 0
    other = save_tiny_model(tmp_path / "tiny.safetensors", size=(64, 64))
    assert main(["replay", str(folder), "--model", str(other), *base, "--resume"]) == 2
    assert "with model digest" in capsys.readouterr().err
    copy = make_plain_log(tmp_path / "log", frames=1)
    assert main(["replay", str(copy), "--model", str(model_file), *base, "--resume"]) == 2
    assert "with log" in capsys.readouterr().err
    assert main(["replay", str(folder), "--model", str(model_file), *base]) == 2
    assert "earlier run" in (err := capsys.readouterr().err) and "--resume" in err


def test_there_must_be_something_to_resume(tmp_path, capsys, folder, model_file):
    base = ["replay", str(folder), "--model", str(model_file), "--frames", "0:1", "--resume"]
    assert main(base) == 2 and "name it with --out" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main([*base, "--out", str(tmp_path / "mine")]) == 2 and "no replay to resume" in capsys.readouterr().err
    # nothing was begun: the run is a new one, so that a script may always say --resume
    assert main([*base, "--out", str(tmp_path / "new")]) == 0
    (tmp_path / "new" / "run.json").write_text("[]")
    assert main([*base, "--out", str(tmp_path / "new")]) == 2 and "is damaged" in capsys.readouterr().err
