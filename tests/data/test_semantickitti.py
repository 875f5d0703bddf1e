"""SemanticKITTI: axes, labels and instances, sequences without images, and files that are wrong."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from make_logs import make_semantickitti_log
from scene import STEP_M

from fusionseg.data.log import FrameError
from fusionseg.data.open import open_log
from fusionseg.geometry.projection import project
from fusionseg.label_maps import label_map
from fusionseg.labels import DRIVING12, IGNORE

ROAD, BUILDING, CAR = (DRIVING12.names.index(name) for name in ("road", "building", "car"))


@pytest.fixture
def tiny(tmp_path) -> Path:
    return make_semantickitti_log(tmp_path / "kitti", frames=3)


def sequence(root: Path) -> Path:
    return root / "sequences" / "00"


@pytest.mark.parametrize("folder", ["", "sequences", "sequences/00"])
def test_real_sequence_from_any_of_its_folders(shared_data, folder):
    log = open_log(shared_data / "semantickitti" / folder)
    assert (log.format, log.name, log.frames) == ("semantickitti", "semantickitti/00", [0])
    assert log.cameras == ["image_3"] and log.has_images


def test_real_sample(shared_data):
    """P3 puts the right camera 0.54 m beside image_2; official ids against labels counted by hand."""
    folder = shared_data / "semantickitti"
    log = open_log(folder)
    sample = log.sample(0, "image_3")
    right, down, ahead = sample.camera_T_lidar[:3, :3]
    np.testing.assert_allclose((right, down, ahead), ((0, -1, 0), (0, 0, -1), (1, 0, 0)), atol=0.02)
    np.testing.assert_allclose(sample.camera_T_lidar[0, 3], -0.485, atol=0.01)
    raw = np.fromfile(folder / "sequences/00/labels/000000.label", "<u4")
    assert len(raw) == len(sample.points_lidar) == 124668
    np.testing.assert_array_equal(sample.point_instances, raw >> 16)
    ids = raw & 0xFFFF
    for members, name in (((40, 44, 60), "road"), ((70, 71), "vegetation"), ((10, 252), "car"), ((50,), "building")):
        np.testing.assert_array_equal(
            sample.point_labels == DRIVING12.names.index(name), np.isin(ids, members), err_msg=name
        )
    native = open_log(folder, classes="native").sample(0, "image_3").point_labels
    assert np.bincount(native, minlength=256)[[0, 8, 9, 10, 18, 255]].tolist() == [4234, 35281, 3268, 26360, 102, 4886]


def test_real_points_land_on_objects(shared_data):
    sample = open_log(shared_data / "semantickitti").sample(0, "image_3")
    view = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
    labels = sample.point_labels[view.index]
    u, v = view.uv.round().astype(int).T
    colours = sample.image[v, u].astype(int)
    assert np.mean(v[labels == ROAD] > 188) > 0.99
    assert np.median(v[labels == BUILDING]) < 188
    spread = colours[labels == ROAD].max(axis=1) - colours[labels == ROAD].min(axis=1)
    assert np.median(spread) < 30, "the road is grey"


def test_pose_and_time(tiny, shared_data):
    log = open_log(tiny)
    np.testing.assert_allclose(log.world_T_lidar(2)[:3, 3], (2 * STEP_M, 0, 0), atol=1e-9)
    assert log.sample(2, "image_2").sweep_time_ns == 200_000_000
    real = open_log(shared_data / "semantickitti")
    np.testing.assert_allclose(real.world_T_lidar(1)[:3, 3], (0.86, 0.04, 0.03), atol=0.02)
    for name in ("poses.txt", "times.txt"):
        (sequence(tiny) / name).unlink()
    log = open_log(tiny)
    assert log.world_T_lidar(2) is None and log.sample(2, "image_2").sweep_time_ns is None


def test_some_frames_have_labels_or_images(tiny):
    (sequence(tiny) / "labels/000001.label").unlink()
    (sequence(tiny) / "image_2/000002.png").unlink()
    views = [open_log(tiny).sample(frame, "image_2") for frame in range(3)]
    assert [view.point_labels is None for view in views] == [False, True, False]
    assert [view.point_instances is None for view in views] == [False, True, False]
    assert [view.image is None for view in views] == [False, False, True]
    assert views[2].camera.width == views[0].camera.width


def test_without_images_virtual_views_see_every_point_between_their_elevations(tmp_path):
    root = make_semantickitti_log(tmp_path, frames=1, images=False)
    (sequence(root) / "calib.txt").unlink()
    log = open_log(root)
    assert not log.has_images and len(log.cameras) == 6
    seen = np.zeros(len(log.sample(0, log.cameras[0]).points_lidar), dtype=int)
    for sample in log.frame(0):
        assert sample.image is None and sample.point_labels is not None
        seen[project(sample.points_lidar, sample.camera, sample.camera_T_lidar).index] += 1
    x, y, z = sample.points_lidar[:, :3].T
    within = np.abs(np.degrees(np.arctan2(z, np.hypot(x, y))) + 5) < 19
    far = np.hypot(x, y) > 2
    assert (within & far).sum() > 1000 and (seen[within & far] > 0).all()


def test_dense_labels_in_cityscapes_ids(tiny):
    folder = sequence(tiny) / "semantic_2"
    folder.mkdir()
    image = cv2.imread(str(sequence(tiny) / "image_2/000000.png"))
    ids = np.full(image.shape[:2], 7, np.uint8)
    ids[:10] = 23
    cv2.imwrite(str(folder / "000000.png"), ids)
    log = open_log(tiny)
    labels = log.sample(0, "image_2").pixel_labels
    assert (labels[:10] == DRIVING12.names.index("sky")).all() and (labels[10:] == ROAD).all()
    assert log.sample(1, "image_2").pixel_labels is None
    assert open_log(tiny, classes="native").sample(0, "image_2").pixel_labels is None
    cv2.imwrite(str(folder / "000000.png"), ids[1:])
    with pytest.raises(FrameError, match="pixel_labels has shape"):
        open_log(tiny).sample(0, "image_2")
    cv2.imwrite(str(folder / "000000.png"), np.full_like(ids, 99))
    with pytest.raises(FrameError, match=r"semantic_2/000000\.png: class id 99"):
        open_log(tiny).sample(0, "image_2")


def test_several_sequences_need_a_choice(tiny):
    for name in ("08", "11"):
        shutil.copytree(sequence(tiny), tiny / "sequences" / name)
    with pytest.raises(ValueError, match="3 sequences fit"):
        open_log(tiny)
    assert open_log(tiny, sequence=8).name == open_log(tiny, split="val").name == "semantickitti/08"
    assert open_log(tiny, split="train").name == open_log(tiny, sequence="00").name == "semantickitti/00"
    assert open_log(tiny / "sequences", split="test").name == "semantickitti/11"
    with pytest.raises(ValueError, match="0 sequences fit"):
        open_log(tiny, sequence="21")
    with pytest.raises(ValueError, match="choose one of train, val, test"):
        open_log(tiny, split="dev")


def relabel(file: Path, value: int) -> None:
    labels = np.fromfile(file, "<u4")
    labels[3] = value
    labels.tofile(file)


LABEL = "labels/000001.label"
FRAME_FAULTS = {
    "label count": (lambda s: (s / LABEL).write_bytes((s / LABEL).read_bytes()[:-4]), "labels for a sweep of"),
    "labels cut": (lambda s: (s / LABEL).write_bytes((s / LABEL).read_bytes()[:-1]), "labels for a sweep of"),
    "empty labels": (lambda s: (s / LABEL).write_bytes(b""), "empty"),
    "unknown id": (lambda s: relabel(s / LABEL, 7 << 16 | 123), "000001.label: class id 123 is not one of"),
    "truncated sweep": (lambda s: (s / "velodyne/000001.bin").write_bytes(bytes(33)), "33 bytes is no multiple of 16"),
    "empty sweep": (lambda s: (s / "velodyne/000001.bin").write_bytes(b""), "empty"),
    "image": (lambda s: (s / "image_2/000001.png").write_bytes(b"\x89PNG\r\n\x1a\n"), "000001.png"),
    "short times": (lambda s: (s / "times.txt").write_text("0.0\n"), "1 rows, none for frame 1"),
}


@pytest.mark.parametrize("fault", FRAME_FAULTS)
def test_a_bad_frame_is_one_line_and_can_be_skipped(tiny, fault):
    breaks, message = FRAME_FAULTS[fault]
    breaks(sequence(tiny))
    log = open_log(tiny, strict=False)
    with pytest.raises(FrameError) as caught:
        log.frame(1)
    assert message in str(caught.value) and str(tiny) in str(caught.value) and "\n" not in str(caught.value)
    assert list(log.iterate())[1].reason == str(caught.value)


LOG_FAULTS = {
    "no calibration": (lambda s: (s / "calib.txt").unlink(), FileNotFoundError, "calib.txt: calibration file"),
    "no P2": (lambda s: (s / "calib.txt").write_text("Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n"), ValueError, "'P2' is missing"),
    "no Tr": (lambda s: (s / "calib.txt").write_text("P2: 1 0 0 0 0 1 0 0 0 0 1 0\n"), ValueError, "'Tr' is missing"),
    "no focal": (
        lambda s: (s / "calib.txt").write_text("Tr: 1 0 0 0 0 1 0 0 0 0 1 0\nP2: 0 0 0 0 0 1 0 0 0 0 1 0\n"),
        ValueError,
        "pinhole K",
    ),
    "poses": (lambda s: (s / "poses.txt").write_text("1 2 3\n"), ValueError, "expected 12 numbers a line"),
    "times": (lambda s: (s / "times.txt").write_text("noon\n"), ValueError, "expected 1 numbers a line"),
    "no sweeps": (lambda s: [f.unlink() for f in (s / "velodyne").iterdir()], FileNotFoundError, "no sweeps"),
}


@pytest.mark.parametrize("fault", LOG_FAULTS)
def test_a_bad_sequence_is_refused_when_opened(tiny, fault):
    breaks, kind, message = LOG_FAULTS[fault]
    breaks(sequence(tiny))
    with pytest.raises(kind, match=message) as caught:
        open_log(tiny)
    assert str(tiny) in str(caught.value) and "\n" not in str(caught.value)


def meaning(data_set: str, id: int, classes: str = "driving12") -> str:
    mapped = label_map(data_set, classes)
    return mapped.table.label_name(mapped.labels[id])


@pytest.mark.parametrize(
    ("data_set", "ids", "expected"),
    [
        ("pandaset", (42,), "barrier|static_object"),
        ("pandaset", (1, 2, 3, 4, 32, 33), "ignored"),
        ("pandaset", (7, 8, 9, 10), "road"),
        ("pandaset", (11, 12), "sidewalk"),
        ("pandaset", (13, 14), "car"),
        ("pandaset", (15, 16, 17, 19, 23, 27), "large_vehicle"),
        ("pandaset", (18, 24, 25, 26), "two_wheeler"),
        ("pandaset", (35, 39), "barrier"),
        ("semantickitti", (40, 44, 60), "road"),
        ("semantickitti", (70, 71), "vegetation"),
        ("semantickitti", (0, 1, 49, 52, 99), "ignored"),
        ("semantickitti", (10, 252), "car"),
        ("semantickitti", (30, 254), "person"),
        ("semantickitti", (11, 15, 31, 32, 253, 255), "two_wheeler"),
        ("semantickitti", (18, 258, 13, 257, 16, 256), "large_vehicle"),
        ("semantickitti", (20, 259), "car|large_vehicle"),
    ],
)
def test_known_traps_of_the_label_maps(data_set, ids, expected):
    assert {meaning(data_set, id) for id in ids} == {expected}


def test_native_semantickitti_is_the_official_learning_map():
    """learning_map of semantic-kitti.yaml (there 0 is 'unlabeled', here 255, so every class is one less)."""
    official = {0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10}
    official |= {48: 11, 49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0}
    official |= {252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5}
    native = label_map("semantickitti", "native")
    assert dict(native.labels) == {id: label - 1 if label else IGNORE for id, label in official.items()}
    assert set(label_map("semantickitti", "driving12").labels) == set(official)


def test_classes_from_a_yaml_file(tmp_path):
    file = tmp_path / "mine.yaml"
    good = "names: {drivable: [1, 2, 3], wall: [4, 5, 6], box: [7, 8, 9]}\nsets: [[wall, box]]\n"
    good += "data_sets: {pandaset: {7: drivable, 42: [box, wall], 1: null}}\n"
    file.write_text(good)
    mapped = label_map("pandaset", str(file))
    assert mapped.table.name == "mine" and mapped.labels == {7: 0, 42: 3, 1: IGNORE}
    faults = {
        "data_sets has no pandaset": good.replace("pandaset", "kitti"),
        "class 'house' is not in table": good.replace("7: drivable", "7: house"),
        "is not declared": good.replace("[box, wall]", "[box, drivable]"),
        "expected the keys": good.replace("sets: [[", "groups: [["),
        "not valid YAML": good.replace("}", "", 1),
        "colour": good.replace("[1, 2, 3]", "[1, 2, 300]"),
        "no mapping": good.split("data_sets")[0] + "data_sets: 3\n",
    }
    for message, text in faults.items():
        file.write_text(text)
        with pytest.raises(ValueError, match=message) as caught:
            label_map("pandaset", str(file))
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="no such class table"):
        label_map("pandaset", str(file))
    with pytest.raises(ValueError, match=r"did you mean pandaset\?"):
        label_map("pandset", "driving12")
    with pytest.raises(ValueError, match="choose driving12, native or"):
        label_map("pandaset", "driving13")
