import json
import os
import signal
import threading

import av
import numpy as np
import pytest
from make_logs import make_camvid_log, make_plain_log, make_semantickitti_log

from fusionseg.data.log import FrameError
from fusionseg.data.open import open_log
from fusionseg.replay.figures import REPORTED, Figures
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan
from fusionseg.replay.source import select_cameras


def plan_for(log, **options):
    return Plan(**{"frames": log.frames, "cameras": log.cameras, **options})


def read_labels(path):
    return np.frombuffer(path.read_bytes(), "<u4")


def pictures(path):
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def test_every_point_of_every_sweep_gets_a_label(tmp_path, tiny_model, any_log):
    log = open_log(any_log)
    summary = replay(log, tiny_model, tmp_path / "out", plan_for(log, frames=log.frames[:3]))
    assert len(list((tmp_path / "out" / "labels").glob("*.label"))) == 3
    for frame in log.frames[:3]:
        samples = log.frame(frame)
        labels = read_labels(tmp_path / "out" / "labels" / f"{frame:06d}.label")
        expected = tiny_model.predict_frame(samples)
        np.testing.assert_array_equal(labels, expected.points)
        assert len(labels) == len(samples[0].points_lidar) > 1000
        # points no camera sees are labelled through virtual views, which hold -25 to 15 degrees
        x, y, z = samples[0].points_lidar[:, :3].T
        elevation_deg = np.rad2deg(np.arctan2(z, np.hypot(x, y)))
        held = (elevation_deg > -24.9) & (elevation_deg < 14.9)
        assert held.mean() > 0.8 and (labels[held] != 255).all()
    assert summary["frames"] == {"seen": 3, "written": 3, "skipped": []}
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    names = json.loads((tmp_path / "out" / "labels" / "classes.json").read_text())["names"]
    assert names["0"] == "road" and len(names) == 12


def test_summary_reports_stages_accuracy_and_circumstances(tmp_path, tiny_model, any_log):
    log = open_log(any_log)
    frames = log.frames[:2]
    summary = replay(log, tiny_model, tmp_path / "out", plan_for(log, frames=frames, min_count=1))
    stages = summary["stages_ms"]
    assert tuple(stages) == REPORTED
    for stage in ("load", "project", "preprocess", "forward", "write", "total", "end_to_end"):
        assert 0 < stages[stage]["p50"] <= stages[stage]["p95"] <= stages[stage]["p99"]
    assert stages["end_to_end"]["p50"] > stages["total"]["p50"] > stages["forward"]["p50"]
    in_view, pixels = 0, np.zeros(256, int)
    for samples in map(log.frame, frames):
        view = tiny_model.predict_frame(samples).view
        in_view += ((view >= 0) & (view < len(samples)) & (samples[0].point_labels != 255)).sum()
        for sample in samples:
            if sample.pixel_labels is not None:
                pixels += np.bincount(sample.pixel_labels.ravel(), minlength=256)
    assert sum(summary["accuracy"]["points"]["counts"].values()) == in_view
    if log.format == "plain":
        assert summary["accuracy"]["pixels"] is None
    else:
        counts = summary["accuracy"]["pixels"]["counts"]
        assert counts["sky"] == pixels[log.table.names.index("sky")] > 5000
        assert sum(counts.values()) == pixels[:255].sum()
    assert (summary["model"], summary["sensors"], summary["interrupted"]) == ("tiny", "both", False)
    assert summary["log"]["format"] == log.format
    assert summary["machine"]["threads"] >= 1
    assert (summary["runtime"], summary["precision"]) == ("torch", "fp32")


def test_no_labels_no_accuracy(tmp_path, tiny_model):
    log = open_log(make_plain_log(tmp_path / "log", frames=1, labels=False))
    assert replay(log, tiny_model, tmp_path / "out", plan_for(log))["accuracy"] is None


def test_a_video_shows_every_frame_of_a_generated_log(tmp_path, tiny_model, generated_log):
    log = open_log(generated_log)
    summary = replay(log, tiny_model, tmp_path / "out", plan_for(log, video=True))
    assert summary["frames"] == {"seen": 12, "written": 12, "skipped": []}
    assert summary["videos"] == ["image_2.mp4"]
    shown = pictures(tmp_path / "out" / "video" / "image_2.mp4")
    assert len(shown) == 12
    # the street moves on: no picture is the one before
    assert all(np.abs(a.astype(int) - b).mean() > 0.5 for a, b in zip(shown[1:], shown, strict=False))


def test_broken_frame_is_skipped_counted_and_explained(tmp_path, tiny_model):
    folder = make_plain_log(tmp_path / "log", frames=4)
    sweep = sorted((folder / "sweeps").iterdir())[1]
    sweep.write_bytes(sweep.read_bytes()[:-3])
    log = open_log(folder)
    frames = replay(log, tiny_model, tmp_path / "out", plan_for(log, video=True))["frames"]
    assert (frames["seen"], frames["written"]) == (4, 3)
    (skipped,) = frames["skipped"]
    assert skipped["frame"] == log.frames[1] and sweep.name in skipped["reason"]
    assert not (tmp_path / "out" / "labels" / "000001.label").exists()
    assert len(pictures(tmp_path / "out" / "video" / "front.mp4")) == 3


def test_strict_stops_at_a_broken_frame_and_keeps_what_is_done(tmp_path, tiny_model):
    folder = make_plain_log(tmp_path / "log", frames=3)
    sorted((folder / "sweeps").iterdir())[1].write_bytes(b"")
    log = open_log(folder)
    with pytest.raises(FrameError, match="empty"):
        replay(log, tiny_model, tmp_path / "out", plan_for(log, strict=True))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"]["written"] == 1


def test_videos_hold_every_frame_in_even_sizes(tmp_path, tiny_model):
    log = open_log(make_plain_log(tmp_path / "log", frames=3, size=(63, 97), cameras=("front", "back")))
    summary = replay(log, tiny_model, tmp_path / "out", plan_for(log, video=True))
    assert sorted(summary["videos"]) == ["back.mp4", "front.mp4"]
    for name in summary["videos"]:
        shown = pictures(tmp_path / "out" / "video" / name)
        assert len(shown) == 3
        # beside the camera, 97 wide and 63 high, lies the sweep from above after a gap of 4
        assert shown[0].shape[0] % 2 == 0 and shown[0].shape[1] == 97 + 4 + 63
    assert not list((tmp_path / "out").rglob("*.part"))


def test_sweeps_without_images_are_labelled_whole(tmp_path, tiny_model):
    log = open_log(make_semantickitti_log(tmp_path / "log", frames=2, images=False))
    summary = replay(log, tiny_model, tmp_path / "out", plan_for(log, sensors="lidar", video=True))
    labels = read_labels(tmp_path / "out" / "labels" / "000000.label")
    assert len(labels) == len(log.frame(0)[0].points_lidar)
    assert (labels != 255).mean() > 0.95
    assert summary["videos"] == ["sweep.mp4"]
    assert len(pictures(tmp_path / "out" / "video" / "sweep.mp4")) == 2
    assert summary["accuracy"]["points"] is not None


def test_images_without_sweeps_get_a_label_picture_each(tmp_path, tiny_model):
    import cv2

    log = open_log(make_camvid_log(tmp_path / "log", frames=2), split="val")
    summary = replay(log, tiny_model, tmp_path / "out", plan_for(log, min_count=1))
    for frame in log.frames:
        written = cv2.imread(str(tmp_path / f"out/labels/camera/{frame:06d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, tiny_model.predict_frame(log.frame(frame)).pixels["camera"])
    assert not list((tmp_path / "out").rglob("*.label"))
    assert summary["accuracy"]["pixels"] is not None and summary["accuracy"]["points"] is None


@pytest.mark.parametrize(("make", "sensor"), [(make_camvid_log, "lidar"), (make_semantickitti_log, "camera")])
def test_a_sensor_that_is_not_there_is_refused(tmp_path, tiny_model, make, sensor):
    options = {} if make is make_camvid_log else {"images": False}
    log = open_log(make(tmp_path / "log", frames=1, **options))
    with pytest.raises(ValueError, match=f"no {sensor}"):
        replay(log, tiny_model, tmp_path / "out", plan_for(log, sensors=sensor))


def test_one_frame_without_its_image_is_skipped_when_the_camera_is_all_there_is(tmp_path, tiny_model):
    folder = make_plain_log(tmp_path / "log", frames=2)
    sorted((folder / "images" / "front").iterdir())[0].unlink()
    log = open_log(folder)
    frames = replay(log, tiny_model, tmp_path / "out", plan_for(log, sensors="camera"))["frames"]
    assert frames["written"] == 1 and "no image" in frames["skipped"][0]["reason"]


def test_first_interrupt_finishes_what_is_labelled_and_leaves_a_valid_result(tmp_path, tiny_model):
    log = open_log(make_plain_log(tmp_path / "log", frames=12))
    done = []

    def press(note):
        done.append(note)
        if len(done) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    summary = replay(log, tiny_model, tmp_path / "out", plan_for(log, video=True), press)
    assert signal.getsignal(signal.SIGINT) is before
    written = summary["frames"]["written"]
    # no more than one frame in each stage and one between any two
    assert summary["interrupted"] and 1 <= written == len(done) <= 9
    found = sorted(path.name for path in (tmp_path / "out" / "labels").glob("*.label"))
    assert found == [f"{frame:06d}.label" for frame in log.frames[:written]]
    assert Figures.read(tmp_path / "out").frames.tolist() == log.frames[:written]
    assert len(pictures(tmp_path / "out" / "video" / "front.mp4")) == written


def test_second_interrupt_stops_at_once_and_still_accounts(tmp_path, tiny_model):
    log = open_log(make_plain_log(tmp_path / "log", frames=12))

    def press_twice(note):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        replay(log, tiny_model, tmp_path / "out", plan_for(log), press_twice)
    assert threading.active_count() == threads
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    written = len(list((tmp_path / "out" / "labels").glob("*.label")))
    assert summary["interrupted"] and summary["frames"]["seen"] == written < 12


def test_replay_works_outside_the_main_thread(tmp_path, tiny_model):
    log = open_log(make_plain_log(tmp_path / "log", frames=1))
    found = []
    thread = threading.Thread(
        target=lambda: found.append(replay(log, tiny_model, tmp_path / "out", plan_for(log))["frames"]["written"])
    )
    thread.start()
    thread.join()
    assert found == [1]


def test_camera_names_are_checked(tmp_path):
    log = open_log(make_plain_log(tmp_path / "log", frames=1, cameras=("front", "left")))
    assert select_cameras(log, "left, front,left") == ["left", "front"]
    assert select_cameras(log, None) == ["front", "left"]
    with pytest.raises(ValueError, match=r"'rear' is not in .*front, left"):
        select_cameras(log, "rear")
    with pytest.raises(ValueError, match="no camera was named"):
        select_cameras(log, " , ")
