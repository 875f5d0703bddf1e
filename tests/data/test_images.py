import cv2
import numpy as np
import pytest
from make_logs import write_png

from fusionseg.data.images import Images, nominal_camera
from fusionseg.data.log import FrameError
from fusionseg.data.open import open_log


def grey(value, size=(48, 64)):
    return np.full((*size, 3), value, np.uint8)


def test_a_folder_counts_its_pictures_by_name(tmp_path):
    for name, value in (("b.png", 20), ("a.png", 10), ("c.png", 30)):
        write_png(tmp_path / name, grey(value))
    (tmp_path / "notes.txt").write_text("no picture")
    log = open_log(tmp_path)
    assert log.format == "images" and list(log.frames) == [0, 1, 2] and not log.has_lidar
    assert [int(log.sample(i, "camera").image.mean()) for i in log.frames] == [10, 20, 30]
    assert len(log.sample(0, "camera").points_lidar) == 0 and log.sample(0, "camera").pixel_labels is None


def test_pictures_come_as_rgb(tmp_path):
    write_png(tmp_path / "a.png", np.tile(np.array([250, 10, 20], np.uint8), (8, 8, 1)))
    assert Images(tmp_path).sample(0, "camera").image[0, 0].tolist() == [250, 10, 20]


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    assert writer.isOpened()
    for i in range(6):
        writer.write(grey(40 * i))
    writer.release()
    return path


def test_a_video_is_read_forwards_backwards_and_by_jumps(video):
    log = open_log(video)
    assert log.format == "images" and list(log.frames) == list(range(6))
    for frame in (0, 1, 4, 2, 2, 5, 0):
        assert abs(float(log.sample(frame, "camera").image.mean()) - 40 * frame) < 3
    with pytest.raises(KeyError, match="no frame 6"):
        log.sample(6, "camera")


def test_colours_of_a_video_are_rgb(tmp_path):
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    writer.write(np.tile(np.array([20, 10, 250], np.uint8), (48, 64, 1)))
    writer.release()
    red, _, blue = Images(path).sample(0, "camera").image.reshape(-1, 3).mean(axis=0)
    assert red > 200 and blue < 60


def test_a_truncated_video_names_the_picture(video):
    log = Images(video)
    log.frames = range(9)
    with pytest.raises(FrameError, match="picture 8 cannot be decoded"):
        log.sample(8, "camera")


def test_field_of_view_and_calibration(tmp_path):
    write_png(tmp_path / "pictures" / "a.png", grey(0))
    assert np.isclose(Images(tmp_path / "pictures", hfov_deg=90.0).sample(0, "camera").camera.K[0, 0], 32.0)
    calibration = tmp_path / "camera.yaml"
    calibration.write_text("K: [50, 51, 31, 23]\nsize: [64, 48]\nmodel: fisheye\ndistortion: [0.1, 0, 0, 0]\n")
    camera = Images(tmp_path / "pictures", calibration=calibration).sample(0, "camera").camera
    assert camera.model == "fisheye" and camera.K[1, 1] == 51.0
    calibration.write_text("K: [50, 50, 31, 23]\nsize: [640, 480]\n")
    with pytest.raises(FrameError, match="image has shape"):
        Images(tmp_path / "pictures", calibration=calibration).sample(0, "camera")


def test_nominal_camera_is_centred():
    camera = nominal_camera(101, 51, 60.0)
    assert camera.K[0, 2] == 50.0 and camera.K[1, 2] == 25.0 and camera.K[0, 0] == camera.K[1, 1]
