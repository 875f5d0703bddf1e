"""KITTI raw and KITTI object: axes, folded projections, optional files, and files that are wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from make_logs import make_kitti_object_log, make_kitti_raw_log

from fusionseg.data.kitti_calibration import matrix, read_calibration, split_projection
from fusionseg.data.log import FrameError
from fusionseg.data.open import open_log, recognise
from fusionseg.geometry.projection import project

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"


@pytest.fixture
def raw(tmp_path) -> Path:
    return make_kitti_raw_log(tmp_path / "kitti", frames=3)


@pytest.fixture
def objects(tmp_path) -> Path:
    return make_kitti_object_log(tmp_path / "kitti", frames=2)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("folder", ["kitti_raw", "kitti_raw/2011_09_26", "kitti_raw/2011_09_26/2011_09_26_drive_sync"])
def test_real_drive_from_any_of_its_folders(shared_data, folder):
    log = open_log(shared_data / folder)
    assert (log.format, log.name) == ("kitti_raw", "kitti_raw/2011_09_26_drive_sync")
    assert log.frames == [0, 1, 2, 3, 4, 5] and log.cameras == ["image_02"]
    sample = log.sample(0, "image_02")
    assert sample.image.shape == (375, 1242, 3) and len(sample.points_lidar) == 114278
    assert sample.point_labels is None and sample.image_time_ns is None


@pytest.mark.parametrize(("folder", "frame", "camera"), [("kitti_raw", 3, "image_02"), ("kitti_object", 1, "image_2")])
def test_real_axes_and_points_on_objects(shared_data, folder, frame, camera):
    sample = open_log(shared_data / folder).sample(frame, camera)
    right, down, ahead = sample.camera_T_lidar[:3, :3]
    np.testing.assert_allclose(ahead, (1, 0, 0), atol=0.02)
    np.testing.assert_allclose(right, (0, -1, 0), atol=0.02)
    np.testing.assert_allclose(down, (0, 0, -1), atol=0.02)
    np.testing.assert_allclose(sample.camera_T_lidar[:3, 3], (0, -0.07, -0.27), atol=0.07)
    view = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
    height = sample.points_lidar[view.index, 2]
    ground = (height < -1.5) & (view.depth < 25)
    assert ground.sum() > 3000 and np.mean(view.uv[ground, 1] > 180) > 0.98, "what lies low is seen below the horizon"
    assert 0.1 < sample.points_lidar[:, 3].mean() < 0.5 and sample.points_lidar[:, 3].max() <= 1


def test_folded_projection_is_the_projection():
    """K (X + t) equals P (X, 1) for KITTI's own P2, whose third row is not 0 0 1 0."""
    P = np.array([[721.5377, 0, 609.5593, 44.85728], [0, 721.5377, 172.854, 0.2163791], [0, 0, 1, 0.002745884]])
    K, camera_T_rectified = split_projection(P, Path("calib.txt"))
    point = np.array([1.5, -0.4, 9.0, 1.0])
    expected = P @ point
    found = K @ (camera_T_rectified @ point)[:3]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(camera_T_rectified[0, 3], 0.0598, atol=1e-3)


def test_rectifying_rotation_is_applied(raw):
    """A rectified frame turned by 90 degrees about the optical axis turns the extrinsics with it."""
    plain = open_log(raw).sample(0, "image_02").camera_T_lidar
    file = raw / "2011_09_26" / "calib_cam_to_cam.txt"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("R_rect_00")]
    file.write_text("\n".join([*lines, "R_rect_00: 0 -1 0 1 0 0 0 0 1"]) + "\n")
    turned = open_log(raw).sample(0, "image_02").camera_T_lidar
    np.testing.assert_allclose(turned[0], -plain[1], atol=1e-9)
    np.testing.assert_allclose(turned[1], plain[0], atol=1e-9)


def test_missing_sensors_are_absent(raw):
    (raw / DRIVE / "velodyne_points/data/0000000001.bin").unlink()
    (raw / DRIVE / "image_02/data/0000000002.png").unlink()
    log = open_log(raw)
    assert log.frames == [0, 1, 2]
    assert len(log.sample(1, "image_02").points_lidar) == 0 and log.sample(1, "image_02").image is not None
    assert log.sample(2, "image_02").image is None and len(log.sample(2, "image_02").points_lidar) > 0
    with pytest.raises(KeyError, match="no frame 3"):
        log.sample(3, "image_02")
    with pytest.raises(KeyError, match="no camera"):
        log.sample(0, "image_03")


def test_time_stamps_when_there(raw):
    file = raw / DRIVE / "image_02" / "timestamps.txt"
    file.write_text("2011-09-26 13:02:25.964389445\n2011-09-26 13:02:26.074343659\nnoon\n")
    log = open_log(raw)
    assert log.sample(0, "image_02").image_time_ns == 1317042145964389445
    assert log.sample(1, "image_02").image_time_ns - log.sample(0, "image_02").image_time_ns == 109954214
    assert log.sample(0, "image_02").sweep_time_ns is None
    with pytest.raises(FrameError, match=r"timestamps\.txt: line 3 is 'noon'"):
        log.sample(2, "image_02")


def test_several_drives_need_a_choice(raw):
    shutil.copytree(raw / DRIVE, raw / "2011_09_26/2011_09_26_drive_0002_sync")
    with pytest.raises(ValueError, match="2 drives here"):
        open_log(raw)
    log = open_log(raw, drive="2011_09_26_drive_0002_sync")
    assert log.name == "kitti_raw/2011_09_26_drive_0002_sync"
    with pytest.raises(ValueError, match="no drive 'x' here"):
        open_log(raw, drive="x")


def test_image_03_folds_its_own_baseline(raw):
    shutil.copytree(raw / DRIVE / "image_02", raw / DRIVE / "image_03")
    file = raw / "2011_09_26" / "calib_cam_to_cam.txt"
    P = matrix(read_calibration(file), "P_rect_02", (3, 4), file)
    P[:, 3] = P[:, :3] @ [-0.47, 0, 0]
    file.write_text(file.read_text() + "P_rect_03: " + " ".join(map(str, P.reshape(-1))) + "\n")
    left, right = open_log(raw).frame(0)
    np.testing.assert_allclose(right.camera_T_lidar[:3, 3] - left.camera_T_lidar[:3, 3], (-0.47, 0, 0), atol=1e-9)
    assert left.points_lidar is right.points_lidar


CALIBRATION = "2011_09_26/calib_cam_to_cam.txt"
RAW_FAULTS = {
    "no camera file": (lambda p: (p / CALIBRATION).unlink(), FileNotFoundError, "cam_to_cam.txt: calibration file"),
    "no velodyne file": (lambda p: (p / "2011_09_26/calib_velo_to_cam.txt").unlink(), FileNotFoundError, "velo_to_cam"),
    "no P": (lambda p: edit(p / CALIBRATION, "P_rect_02", "P_rect_07"), ValueError, "key 'P_rect_02' is missing"),
    "no R_rect": (lambda p: edit(p / CALIBRATION, "R_rect_00", "S_rect_00"), ValueError, "key 'R_rect_00' is missing"),
    "short T": (lambda p: edit(p / "2011_09_26/calib_velo_to_cam.txt", "T: ", "T: 1 "), ValueError, "T has 4 values"),
    "R no rotation": (
        lambda p: (p / "2011_09_26/calib_velo_to_cam.txt").write_text("R: 1 0 0 0 1 0 0 0 2\nT: 0 0 0\n"),
        ValueError,
        "no rotation",
    ),
    "binary calibration": (lambda p: (p / CALIBRATION).write_bytes(b"\xff\xfe\x00"), ValueError, "not a text file"),
    "neither sensor": (
        lambda p: [file.unlink() for file in (p / DRIVE).rglob("0*.*")],
        FileNotFoundError,
        "no images and no sweeps",
    ),
}


@pytest.mark.parametrize("fault", RAW_FAULTS)
def test_a_bad_drive_is_refused_when_opened(raw, fault):
    breaks, kind, message = RAW_FAULTS[fault]
    breaks(raw)
    with pytest.raises(kind, match=message) as caught:
        open_log(raw)
    assert str(raw) in str(caught.value) and "\n" not in str(caught.value)


FRAME_FAULTS = {
    "truncated sweep": (lambda sweep, image: sweep.write_bytes(sweep.read_bytes()[:-7]), "truncated"),
    "empty sweep": (lambda sweep, image: sweep.write_bytes(b""), "empty"),
    "intensity": (lambda sweep, image: np.full(8, 99, "<f4").tofile(sweep), "intensity reaches 99"),
    "truncated image": (lambda sweep, image: image.write_bytes(image.read_bytes()[:-30]), "truncated"),
    "no image": (lambda sweep, image: image.write_bytes(b"<html>"), "neither JPEG nor PNG"),
}


@pytest.mark.parametrize("fault", FRAME_FAULTS)
@pytest.mark.parametrize("format", ["kitti_raw", "kitti_object"])
def test_a_bad_frame_is_one_line_and_can_be_skipped(tmp_path, format, fault):
    if format == "kitti_raw":
        root = make_kitti_raw_log(tmp_path, frames=2)
        sweep = root / DRIVE / "velodyne_points/data/0000000001.bin"
        image = root / DRIVE / "image_02/data/0000000001.png"
    else:
        root = make_kitti_object_log(tmp_path, frames=2)
        sweep, image = root / "training/velodyne/000001.bin", root / "training/image_2/000001.png"
    breaks, message = FRAME_FAULTS[fault]
    breaks(sweep, image)
    log = open_log(root)
    with pytest.raises(FrameError, match=message) as caught:
        log.frame(1)
    assert "000001." in str(caught.value) and "\n" not in str(caught.value)
    good, skipped = log.iterate(strict=False)
    assert good[0].frame == 0 and (skipped.frame, skipped.reason) == (1, str(caught.value))


def test_object_layout(objects, shared_data):
    log = open_log(shared_data / "kitti_object")
    assert (log.format, log.name, log.frames) == ("kitti_object", "kitti_object/training", [1])
    tiny = open_log(objects / "training")
    assert tiny.frames == [0, 1] and tiny.name == "kitti_object/training"
    np.testing.assert_allclose(tiny.sample(0, "image_2").camera_T_lidar[2, :3], (1, 0, 0), atol=1e-9)
    with pytest.raises(ValueError, match="no split testing here; found training"):
        open_log(objects, split="testing")
    with pytest.raises(ValueError, match="choose one of training, testing"):
        open_log(objects, split="val")
    (objects / "training/image_2/000001.png").unlink()
    assert open_log(objects).sample(1, "image_2").image is None


def test_object_calibration_is_of_the_frame(objects):
    (objects / "training/calib/000001.txt").unlink()
    log = open_log(objects)
    assert log.sample(0, "image_2").frame == 0
    with pytest.raises(FrameError, match=r"000001\.txt: calibration file is missing"):
        log.sample(1, "image_2")
    edit(objects / "training/calib/000000.txt", "R0_rect", "R1_rect")
    with pytest.raises(FrameError, match="'R0_rect' is missing"):
        open_log(objects).sample(0, "image_2")


def test_recognising_and_naming_formats(raw, tmp_path):
    assert recognise(raw) == recognise(raw / "2011_09_26") == "kitti_raw"
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        open_log(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no known log layout; it holds nothing;") as caught:
        open_log(tmp_path / "empty")
    for format in ("pandaset", "kitti_raw", "kitti_object", "semantickitti"):
        assert format in str(caught.value)
    with pytest.raises(ValueError, match=r"'kiti_raw' is not known; .* did you mean kitti_raw\?"):
        open_log(raw, "kiti_raw")
    with pytest.raises(FileNotFoundError, match="no KITTI object frames"):
        open_log(raw, "kitti_object")


def test_a_loader_of_ones_own(raw, tmp_path, monkeypatch):
    (tmp_path / "my_loader.py").write_text(
        "from fusionseg.data.kitti_raw import KittiRawLog\nclass Mine(KittiRawLog):\n    format = 'mine'\nNUMBER = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert open_log(raw, "my_loader:Mine").format == "mine"
    with pytest.raises(ValueError, match="'my_loader:Yours' cannot be loaded"):
        open_log(raw, "my_loader:Yours")
    with pytest.raises(ValueError, match="'no_such_module:Mine' cannot be loaded"):
        open_log(raw, "no_such_module:Mine")
    with pytest.raises(ValueError, match="no subclass"):
        open_log(raw, "my_loader:NUMBER")


def test_own_classes_for_a_log_without_labels(raw, tmp_path):
    table = tmp_path / "two.yaml"
    table.write_text("names: {road: [1, 2, 3], rest: [4, 5, 6]}\ndata_sets: {}\n")
    assert open_log(raw, classes=str(table)).table.names == ("road", "rest")
    with pytest.raises(ValueError, match="log without labels"):
        open_log(raw, classes="native")


def test_a_drive_without_images_is_seen_through_virtual_views(tmp_path):
    drive = make_kitti_raw_log(tmp_path, frames=2)
    for folder in drive.rglob("image_0?"):
        shutil.rmtree(folder)
    log = open_log(tmp_path)
    assert log.has_lidar and not log.has_images
    views = log.frame(log.frames[0])
    assert len(views) > 1 and all(view.image is None and len(view.points_lidar) for view in views)
