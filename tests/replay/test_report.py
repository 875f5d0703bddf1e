import base64
import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from make_figures import confusion, make_figures
from make_logs import make_camvid_log, make_plain_log, make_semantickitti_log

from fusionseg.data.open import open_log
from fusionseg.labels import DRIVING12, IGNORE
from fusionseg.replay.pictures import PIXEL_ALPHA, POINT_ALPHA, choose_frames, picture_frames, view_layers
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan
from fusionseg.replay.report import write_report

BOTH = ("both", "camera", "lidar")


def replayed(log, model, out, **options):
    """The text of the report of a replay."""
    plan = Plan(**{"frames": log.frames, "cameras": log.cameras, "alone": True, "min_count": 50, **options})
    out.mkdir(parents=True)
    summary = replay(log, model, out, plan)
    path = write_report(out, log, model, plan, summary)
    assert path == out / "report.html"
    return path.read_text()


def headings(page):
    return re.findall(r"<h2[^>]*>([^<]*)", page)


def picture(uri):
    kind, _, content = uri.partition(";base64,")
    assert kind in ("data:image/jpeg", "data:image/webp")
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)


def check_self_contained(page):
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert not re.search(r"https?:|@import|url\(", page)
    assert "default-src 'none'" in page


def test_report_of_a_labelled_log(tmp_path, tiny_model, any_log):
    log = open_log(any_log)
    page = replayed(log, tiny_model, tmp_path / "out", frames=log.frames[:3])
    check_self_contained(page)
    expected = ["Summary", "Pictures", "Frames to look at", "Classes", "Confusion", "Latency", "What was predicted"]
    assert headings(page) == expected
    assert "Worst frames by mean IoU" in page and "ground truth" in page
    assert ("IoU (intersection over union) of pixels" in page) == (log.format != "plain")
    # every in-page link leads somewhere
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'\bid="([^"]+)"', page))


def test_report_without_labels_names_where_the_sensors_disagree(tmp_path, tiny_model):
    page = replayed(open_log(make_plain_log(tmp_path / "log", frames=2, labels=False)), tiny_model, tmp_path / "out")
    assert headings(page) == ["Summary", "Pictures", "Frames to look at", "Latency", "What was predicted"]
    assert "disagree most" in page and "nothing here says how right it is" in page
    assert "prediction | ground truth" not in page


@pytest.mark.parametrize("make", [make_camvid_log, make_semantickitti_log])
def test_report_of_a_log_with_one_sensor(tmp_path, tiny_model, make):
    options = {} if make is make_camvid_log else {"images": False}
    page = replayed(open_log(make(tmp_path / "log", frames=2, **options)), tiny_model, tmp_path / "out")
    assert "Worst frames" in page and "camera alone" not in page and "LiDAR alone" not in page


def test_skipped_frames_stand_in_the_report_with_their_reason(tmp_path, tiny_model):
    folder = make_plain_log(tmp_path / "log", frames=3)
    sorted((folder / "sweeps").iterdir())[1].write_bytes(b"")
    page = replayed(open_log(folder), tiny_model, tmp_path / "out")
    assert headings(page)[-1] == "Frames left out" and "is empty" in page
    assert "1 of 3 left out" in page


def test_what_a_recording_lacks_stands_in_summary_and_report(tmp_path, tiny_model):
    pytest.importorskip("rosbags", reason="needs the extra logs")
    from make_bags import START_NS, scene_messages, write_ros1

    lost = [m for m in scene_messages(4) if "image" not in m.topic or m.content.stamp_ns > START_NS + 5 * 10**7]
    path = write_ros1(tmp_path / "drive.bag", lost)
    path.write_bytes(path.read_bytes()[:-60])
    log = open_log(path)
    page = replayed(log, tiny_model, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["log"]["findings"] == log.findings()
    assert log.findings()["pairing"]["front"]["offsets_ms"][0] is None
    assert "The recording is not whole: not readable: drive.bag is cut off" in page
    assert "Camera front: frames without an image within 50 ms: 1; images that belong to no frame: 0." in page


def test_names_of_a_log_cannot_become_markup(tmp_path, tiny_model):
    log = open_log(make_plain_log(tmp_path / "log", frames=1))
    log.name = "<script>alert(1)</script>"
    page = replayed(log, tiny_model, tmp_path / "out")
    assert "alert(1)" in page and "<script>alert" not in page


def test_nothing_labelled_nothing_to_report(tmp_path, tiny_model):
    folder = make_plain_log(tmp_path / "log", frames=1)
    sorted((folder / "sweeps").iterdir())[0].write_bytes(b"")
    with pytest.raises(ValueError, match="no frame was labelled"):
        replayed(open_log(folder), tiny_model, tmp_path / "out")


def test_a_report_of_a_thousand_frames_of_six_cameras_is_small(tmp_path, tiny_model, monkeypatch):
    """Pictures of noise, which no codec makes small, fill the room they have and no more."""
    counts = [confusion((100, 50, 0), [(1, 0, i % 50)]) for i in range(1000)]
    figures = make_figures({f"points/{name}": counts for name in BOTH}, frames=range(1000))
    figures.write(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    uri = "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", noise)[1]).decode()
    layer = {"labels": uri, "about": "noise"}
    view = {"size": [640, 360], "image": uri, "predictions": dict.fromkeys(BOTH, layer), "truth": layer}
    monkeypatch.setattr("fusionseg.replay.pictures.view_layers", lambda *args: view)
    cameras = [f"camera{i}" for i in range(6)]
    samples = [SimpleNamespace(camera_name=name) for name in cameras]
    log = SimpleNamespace(name="log", table=DRIVING12, has_images=True, has_lidar=True, frame=lambda *args: samples)
    model = SimpleNamespace(name="model", table=DRIVING12, predict_frame=lambda *args, **options: None)
    stages_ms = {stage: {"p50": 1.0, "p95": 2.0, "p99": 3.0} for stage in ("total", "end_to_end")}
    summary = {
        "frames": {"seen": 3000, "written": 1000, "skipped": [{"frame": i, "reason": "torn"} for i in range(2000)]},
        "interrupted": False,
        "stages_ms": stages_ms,
        "accuracy": None,
        "model": "model",
        "runtime": "torch",
        "precision": "fp32",
        "sensors": "both",
        "input": {"camera0": [360, 640]},
        "log": {"path": "log", "format": "plain", "cameras": cameras, "findings": {}},
        "machine": {"processor": "p", "threads": 1, "cores": 2},
    }
    plan = Plan(frames=range(1000), cameras=cameras, alone=True)
    path = write_report(tmp_path, log, model, plan, summary)
    # a frame of six cameras and five pictures each takes 1.7 MB here
    assert 19e6 < path.stat().st_size < 22e6
    page = path.read_text()
    assert "11 of 1000 frames" in page
    assert page.count("torn") == 100 and "the first 100 of 2,000" in page and "2000 of 3000 left out" in page


def test_frames_are_chosen_by_rank_then_spread():
    frames = list(range(100))
    assert choose_frames([[7, 8], [9, 7, 3]], frames, most=6) == [7, 9, 8, 3, 0, 20]
    assert choose_frames([], frames, most=3) == [0, 50, 99]
    assert choose_frames([], [4], most=3) == [4]


def test_pictures_stop_when_the_room_is_taken(tmp_path, tiny_model):
    log = open_log(make_plain_log(tmp_path / "log", frames=3))
    options = {"cameras": log.cameras, "settings": ["both"], "size": None}
    order = [log.frames[i] for i in (2, 0, 1)]
    assert [frame for frame, _ in picture_frames(log, tiny_model, order, **options)] == order
    # the first is always shown
    assert [frame for frame, _ in picture_frames(log, tiny_model, order, room_bytes=1, **options)] == order[:1]


def test_layers_show_labels_and_nothing_else(tmp_path, tiny_model):
    log = open_log(make_plain_log(tmp_path / "log", frames=1))
    (sample,) = log.frame(log.frames[0], log.cameras[:1])
    result = tiny_model.predict_frame([sample], whole_sweep=False)
    result.points[:] = IGNORE
    labels = result.pixels[sample.camera_name]
    labels[:] = IGNORE
    labels[:10] = DRIVING12.names.index("car")
    view = view_layers(sample, {"both": result}, DRIVING12, scored=True)
    image, layer = picture(view["image"]), picture(view["predictions"]["both"]["labels"])
    assert view["size"] == [sample.image.shape[1], sample.image.shape[0]]
    assert np.abs(image[..., ::-1].astype(int) - sample.image).mean() < 12
    blue, green, red = DRIVING12.colours[DRIVING12.names.index("car")][::-1]
    assert (layer[:10] == (blue, green, red, PIXEL_ALPHA)).all() and not layer[10:, :, 3].any()
    assert view["predictions"]["both"]["about"] == "car 100 %"
    # the truth of this log is of points: squares, most of the picture is free
    truth = picture(view["truth"]["labels"])
    assert set(np.unique(truth[..., 3])) == {0, POINT_ALPHA}
    assert view_layers(sample, {}, DRIVING12, scored=False)["truth"] is None


def test_a_view_without_image_shows_points_alone(tmp_path, tiny_model):
    log = open_log(make_semantickitti_log(tmp_path / "log", frames=1, images=False))
    sample = log.frame(0)[0]
    result = tiny_model.predict_frame([sample], whole_sweep=False)
    view = view_layers(sample, {"both": result}, DRIVING12, scored=True)
    assert view["image"] is None
    assert set(np.unique(picture(view["predictions"]["both"]["labels"])[..., 3])) == {0, POINT_ALPHA}
