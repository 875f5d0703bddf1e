import numpy as np
import pytest
from make_logs import make_plain_log

from fusionseg.data.files import read_image, read_label_image
from fusionseg.replay.predict import predict_files
from fusionseg.replay.sink import write_label_image


@pytest.fixture
def bare(tmp_path):
    folder = make_plain_log(tmp_path / "log", frames=1, cameras=("front", "left"))
    image = next((folder / "images" / "front").iterdir())
    return str(image), str(next((folder / "sweeps").iterdir())), str(folder / "calibration.yaml")


def test_image_and_points(tmp_path, tiny_model, bare):
    written = predict_files(tiny_model, *bare, tmp_path / "out", camera_name="front")
    assert {p.name for p in written} == {"classes.json", "labels.label", "birds_eye.png", "pixels.png", "overlay.png"}
    labels = np.frombuffer((tmp_path / "out/labels.label").read_bytes(), "<u4")
    assert len(labels) == len(np.fromfile(bare[1], "<f4")) // 4
    image = read_image(tmp_path / "log" / "images" / "front" / bare[0].rsplit("/", 1)[1])
    assert read_label_image(tmp_path / "out/pixels.png").shape == image.shape[:2]


def test_points_alone(tmp_path, tiny_model, bare):
    written = predict_files(tiny_model, "none", bare[1], "-", tmp_path / "out")
    assert {p.name for p in written} == {"classes.json", "labels.label", "birds_eye.png"}


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("none", "none", "none"), {}, "nothing to label"),
        (("IMAGE", "POINTS", "none"), {}, "camera_T_lidar"),
        (("IMAGE", "POINTS", "CALIB"), {}, "has 2 cameras; choose one with --camera: front, left"),
        (("IMAGE", "POINTS", "CALIB"), {"camera_name": "rear"}, "no camera 'rear'"),
        (("none", "POINTS", "none"), {"sensors": "camera"}, "nothing from that sensor"),
        (("IMAGE", "none", "none"), {"sensors": "lidar"}, "nothing from that sensor"),
        (("POINTS", "none", "none"), {}, "neither JPEG nor PNG"),
        (("IMAGE", "IMAGE", "CALIB"), {"camera_name": "front"}, "points in .png"),
    ],
)
def test_bad_calls_say_what_to_do(tmp_path, tiny_model, bare, arguments, options, message):
    files = dict(zip(("IMAGE", "POINTS", "CALIB"), bare, strict=True))
    with pytest.raises(ValueError, match=message):
        predict_files(tiny_model, *(files.get(a, a) for a in arguments), tmp_path / "out", **options)


def test_an_image_of_another_size_than_its_calibration_is_named(tmp_path, tiny_model, bare):
    image = tmp_path / "small.png"
    write_label_image(image, np.zeros((10, 20), np.uint8))
    with pytest.raises(ValueError, match=r"small.png: image is 20x10, .*calibration.yaml says \d+x\d+; give"):
        predict_files(tiny_model, str(image), bare[1], bare[2], tmp_path / "out", camera_name="front")


def test_an_empty_sweep_is_nothing_for_lidar_alone(tmp_path, tiny_model, bare):
    np.save(tmp_path / "empty.npy", np.zeros((0, 4), np.float32))
    arguments = (bare[0], str(tmp_path / "empty.npy"), bare[2], tmp_path / "out")
    with pytest.raises(ValueError, match="nothing from that sensor"):
        predict_files(tiny_model, *arguments, camera_name="front", sensors="lidar")
