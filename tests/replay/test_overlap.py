"""A replay as a pipeline: its stages meet, its order and bytes are fixed, and what goes wrong is accounted for."""

import json
import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from make_logs import make_plain_log

from fusionseg.data.log import FrameError
from fusionseg.data.open import open_log
from fusionseg.replay.figures import Figures
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return open_log(make_plain_log(tmp_path_factory.mktemp("overlap") / "log", frames=8))


def plan_for(log, **options):
    return Plan(**{"frames": log.frames, "cameras": log.cameras, **options})


def label_files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "labels").glob("*.label"))}


def test_frames_are_read_prepared_and_written_while_another_is_labelled(tmp_path, monkeypatch, tiny_model, log):
    """Frame 2 is labelled only once frame 3 is prepared, 4 is read and 1 is written: in turns that never happens."""
    seen = {name: threading.Event() for name in ("read 4", "prepared 3", "written 1")}
    frame_of, prepare, label = log.frame, tiny_model.prepare, tiny_model.label
    labelled = []

    def reads(frame, cameras=None):
        if frame == log.frames[4]:
            seen["read 4"].set()
        return frame_of(frame, cameras)

    def prepares(frames, **options):
        done = prepare(frames, **options)
        if frames[0][0].frame == log.frames[3]:
            seen["prepared 3"].set()
        return done

    def labels(prepared):
        labelled.append(len(labelled))
        if labelled[-1] == 2:
            assert all(event.wait(PATIENCE_S) for event in seen.values())
        return label(prepared)

    def notes(note):
        if note.startswith(f"frame {log.frames[1]}:"):
            seen["written 1"].set()

    monkeypatch.setattr(log, "frame", reads)
    monkeypatch.setattr(tiny_model, "prepare", prepares)
    monkeypatch.setattr(tiny_model, "label", labels)
    summary = replay(log, tiny_model, tmp_path / "out", plan_for(log), notes)
    assert summary["frames"] == {"seen": 8, "written": 8, "skipped": []}


def test_the_same_replay_leaves_the_same_bytes(tmp_path, tiny_model, log):
    for name in ("a", "b"):
        replay(log, tiny_model, tmp_path / name, plan_for(log, alone=True))
    first, second = (label_files(tmp_path / name) for name in ("a", "b"))
    assert len(first) == 8 and first == second
    a, b = (Figures.read(tmp_path / name) for name in ("a", "b"))
    assert a.frames.tolist() == list(log.frames)
    for name in ("frames", "checksums", "predicted", "disagreement"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.counts.keys() == b.counts.keys() and all((a.counts[name] == b.counts[name]).all() for name in a.counts)


@pytest.mark.parametrize("stage", ["prepare", "label"])
def test_an_error_of_any_kind_skips_its_frame_and_says_so(tmp_path, monkeypatch, caplog, tiny_model, log, stage):
    work, calls = getattr(tiny_model, stage), []

    def breaks(*args, **options):
        calls.append(stage)
        if len(calls) == 3:
            raise RuntimeError("the network\nis out of order")
        return work(*args, **options)

    monkeypatch.setattr(tiny_model, stage, breaks)
    with caplog.at_level(logging.WARNING):
        frames = replay(log, tiny_model, tmp_path / "out", plan_for(log))["frames"]
    assert frames == {
        "seen": 8,
        "written": 7,
        "skipped": [{"frame": log.frames[2], "reason": "RuntimeError: the network is out of order"}],
    }
    assert len(label_files(tmp_path / "out")) == 7 and "a frame is skipped" in caplog.text
    calls.clear()
    with pytest.raises(FrameError, match="out of order"):
        replay(log, tiny_model, tmp_path / "strict", plan_for(log, strict=True))
    # those before it are complete, none after it is there
    assert list(label_files(tmp_path / "strict")) == [f"{frame:06d}.label" for frame in log.frames[:2]]
    assert json.loads((tmp_path / "strict" / "summary.json").read_text())["frames"]["written"] == 2


def test_a_full_disk_stops_the_replay_with_one_error(tmp_path, monkeypatch, tiny_model, log):
    from fusionseg.replay import sinks

    write = sinks.write_point_labels

    def full(path, labels):
        if path.stem == f"{log.frames[3]:06d}":
            raise ValueError(f"{path}: cannot be written (No space left on device)")
        write(path, labels)

    monkeypatch.setattr(sinks, "write_point_labels", full)
    threads = threading.active_count()
    with pytest.raises(ValueError, match="No space left"):
        replay(log, tiny_model, tmp_path / "out", plan_for(log))
    assert threading.active_count() == threads
    assert len(label_files(tmp_path / "out")) == 3
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"]["written"] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_journal_on_a_full_disk_is_one_clear_error(tmp_path, tiny_model, log):
    (tmp_path / "out").mkdir()
    os.symlink("/dev/full", tmp_path / "out" / "journal.jsonl")
    with pytest.raises(ValueError, match=r"journal\.jsonl: cannot be written"):
        replay(log, tiny_model, tmp_path / "out", plan_for(log))


def test_the_summary_says_what_a_frame_took(tmp_path, tiny_model, log):
    spent = replay(log, tiny_model, tmp_path / "out", plan_for(log))["throughput"]
    assert spent["wall_ms"] > 1 and spent["cpu_ms"] > 1
