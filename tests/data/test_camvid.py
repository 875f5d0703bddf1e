import cv2
import numpy as np
import pytest
from make_logs import make_camvid_log

from fusionseg.data.camvid import CamVid
from fusionseg.data.log import FrameError, Skipped
from fusionseg.data.open import open_log
from fusionseg.label_maps import label_map


def test_the_shared_set_has_its_two_splits(shared_data):
    log = open_log(shared_data / "camvid")
    assert log.format == "camvid" and len(log.frames) == 367 + 101
    assert list(log.cameras) == ["camera"] and not log.has_lidar and log.has_images
    assert len(open_log(shared_data / "camvid", split="train").frames) == 367
    val = open_log(shared_data / "camvid", split="val", classes="native")
    assert len(val.frames) == 101
    sample = val.sample(0, "camera")
    assert sample.image.shape == (360, 480, 3) and len(sample.points_lidar) == 0 and sample.point_labels is None
    ids = cv2.imread(str(shared_data / "camvid" / "valannot" / "0016E5_07959.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(sample.pixel_labels, np.where(ids == 11, 255, ids))


def test_classes_that_camvid_cannot_tell_apart_become_sets():
    table = (labels := label_map("camvid", "driving12")).table
    names = [table.label_name(label) for label in labels(np.arange(12), "ids")]
    assert names == [
        "sky",
        "building|barrier",
        "static_object",
        "road",
        "sidewalk",
        "vegetation|terrain"
        if table.names.index("vegetation") < table.names.index("terrain")
        else "terrain|vegetation",
        "static_object",
        "barrier",
        "car|large_vehicle",
        "person",
        "two_wheeler",
        "ignored",
    ]


def test_frames_count_through_the_sorted_names(tmp_path):
    log = CamVid(make_camvid_log(tmp_path / "set"), split="val")
    assert [log.image_path(frame).name for frame in log.frames] == [f"0001TP_{30 * i:06d}.png" for i in range(3)]
    assert log.image_path(0).parent.name == "val"


def test_test_split_is_read_when_there(tmp_path):
    folder = make_camvid_log(tmp_path / "set")
    (folder / "val").rename(folder / "test")
    (folder / "valannot").rename(folder / "testannot")
    assert len(CamVid(folder, split="test").frames) == 3
    with pytest.raises(FileNotFoundError, match="valannot/"):
        CamVid(folder, split="val")


def test_the_nominal_camera_sees_60_degrees(tmp_path):
    camera = CamVid(make_camvid_log(tmp_path / "set")).sample(0, "camera").camera
    left = np.array([[-np.tan(np.radians(30.0)), 0.0, 1.0]])
    assert np.allclose(camera.project(left), [[-0.5, 0.5 * (camera.height - 1)]])


def test_an_unreadable_annotation_skips_its_frame_alone(tmp_path):
    folder = make_camvid_log(tmp_path / "set")
    broken = folder / "trainannot" / "0001TP_000030.png"
    broken.write_bytes(broken.read_bytes()[:40])
    log = CamVid(folder, split="train")
    frames = list(log.iterate(strict=False))
    assert [isinstance(frame, Skipped) for frame in frames] == [False, True, False]
    assert frames[1].frame == 1 and "0001TP_000030.png" in frames[1].reason
    with pytest.raises(FrameError, match="truncated"):
        log.sample(1, "camera")
