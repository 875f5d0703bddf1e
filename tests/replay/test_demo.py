import json

import cv2
import numpy as np
import pytest
from make_logs import make_plain_log, make_semantickitti_log

from fusionseg.data.open import open_log
from fusionseg.data.synth.spec import Spec
from fusionseg.engine.evaluate import evaluate
from fusionseg.labels import DRIVING12
from fusionseg.replay import demo
from fusionseg.replay.demo import WORLD, Outcome, cache_folder, demonstrate, describe, frame_picture, synthetic_log

SMALL_WORLD = Spec(frames=1, width=96, height=64, beams=32, split="test")


@pytest.fixture(scope="module")
def shown(tmp_path_factory, tiny_model):
    """(outcome, log, folder) of a demonstration on a small log."""
    folder = tmp_path_factory.mktemp("demo")
    log = open_log(make_semantickitti_log(folder / "log", frames=3))
    return demonstrate(tiny_model, log, folder / "out", min_count=1), log, folder / "out"


def test_a_demonstration_leaves_video_picture_and_figures(shown, tiny_model):
    outcome, log, out = shown
    assert outcome.video == out / "video" / "image_2.mp4" and outcome.video.stat().st_size > 0
    assert cv2.imread(str(outcome.picture)) is not None
    report = evaluate(tiny_model, log, min_count=1)
    assert outcome.miou == {name: report["sensors"][name]["points"]["miou"] for name in ("both", "camera", "lidar")}
    assert json.loads((out / "evaluation.json").read_text())["sensors"] == report["sensors"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"]["written"] == 3
    assert outcome.fps["sweep"] == pytest.approx(1000 / summary["stages_ms"]["total"]["p50"])
    assert outcome.fps["view"] > 0


def test_figures_without_enough_points_stay_open(tmp_path, tiny_model):
    log = open_log(make_plain_log(tmp_path / "log", frames=1))
    outcome = demonstrate(tiny_model, log, tmp_path / "out", min_count=10**6)
    assert outcome.miou == {"both": None, "camera": None, "lidar": None}


def test_the_end_names_everything(tmp_path):
    outcome = Outcome(
        video=tmp_path / "a.mp4",
        picture=tmp_path / "b.jpg",
        miou={"both": 0.8125, "camera": None, "lidar": 0.5},
        fps={"view": 12.34, "sweep": 2.0},
    )
    lines = describe(outcome).splitlines()
    assert lines[0].endswith("a.mp4") and lines[1].endswith("b.jpg")
    assert "both 0.812, camera -, lidar 0.500" in lines[2]
    assert "12.3 for an image" in lines[3] and "2.0 with the whole sweep" in lines[3]
    assert lines[4] == "synthetic data: no evidence about real roads"


def test_the_picture_shows_camera_labels_and_cloud(shown, tiny_model):
    _, log, _ = shown
    sample = log.frame(0)[0]
    result = tiny_model.predict_frame([sample])
    result.points[:] = 10
    result.pixels[sample.camera_name][:] = 0
    picture = frame_picture(sample, result, DRIVING12)
    left, right = demo.PICTURE_PX
    assert picture.shape[1] == left + right + 4
    height = round(sample.camera.height * left / sample.camera.width)
    shown_image = cv2.resize(sample.image, (left, height), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(picture[40:height, :left], shown_image[40:])
    middle = picture[height + 40 : 2 * height, :left].astype(float)
    expected = 0.4 * shown_image[40:] + 0.6 * np.array(DRIVING12.colours[0])
    np.testing.assert_allclose(middle, expected, atol=1)
    car = (picture == DRIVING12.colours[10]).all(axis=2)
    assert car[2 * height : 3 * height, :left].sum() > 100 and car[: 3 * height, left:].sum() > 100


def test_the_drive_is_made_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    log = synthetic_log(SMALL_WORLD)
    assert log.path.is_relative_to(tmp_path / "fusionseg")
    (sample,) = log.frame(log.frames[0])
    assert sample.image.shape == (64, 96, 3) and sample.point_labels is not None
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert synthetic_log(SMALL_WORLD).path == log.path
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_demo_shows_a_world_that_training_never_has():
    assert WORLD.split == "test"


@pytest.mark.parametrize("given", ["", "relative/cache"])
def test_without_an_absolute_cache_the_home_folder_is_used(tmp_path, monkeypatch, given):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_folder() == tmp_path / ".cache" / "fusionseg"


def test_a_cache_that_cannot_be_written_is_one_clear_error(tmp_path, monkeypatch):
    (tmp_path / "fusionseg").write_text("a file in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="fusionseg"):
        synthetic_log(SMALL_WORLD)
