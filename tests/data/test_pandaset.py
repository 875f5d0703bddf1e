"""PandaSet: axes, motion, points on objects, gaps, and files that are wrong."""

import gzip
import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from make_logs import make_pandaset_log
from scene import STEP_M

from fusionseg.data.log import FrameError, Skipped
from fusionseg.data.open import open_log
from fusionseg.data.pandaset import CAMERAS, PandaSetLog, scale_intensity
from fusionseg.geometry.projection import project
from fusionseg.labels import DRIVING12

pd = pytest.importorskip("pandas")
ROAD, VEGETATION, CAR = (DRIVING12.names.index(name) for name in ("road", "vegetation", "car"))


@pytest.fixture(scope="module")
def real(shared_data) -> PandaSetLog:
    return open_log(shared_data / "pandaset" / "002")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return make_pandaset_log(tmp_path_factory.mktemp("pandaset") / "002", frames=(0, 2))


@pytest.fixture
def tiny(template, tmp_path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "002"))


def write_table(path: Path, columns: dict) -> None:
    path.write_bytes(gzip.compress(pickle.dumps(pd.DataFrame(columns), protocol=4)))


def test_layout_of_the_real_log(real):
    assert (real.format, real.name) == ("pandaset", "pandaset/002")
    assert tuple(real.cameras) == CAMERAS
    assert real.frames == [0, 4, 8, 12, 16, *range(20, 56)]
    with pytest.raises(KeyError, match="no frame 1;"):
        real.sample(1, "front_camera")
    with pytest.raises(KeyError, match="no camera"):
        real.sample(0, "rear")


def test_optical_axes_point_where_the_cameras_look(real):
    """Columns of lidar_T_camera: image x to the right, y down, z ahead, per camera."""
    ahead = {"front": (1, 0), "left": (0, 1), "right": (0, -1), "back": (-1, 0)}
    ahead |= {"front_left": (0.53, 0.85), "front_right": (0.53, -0.85)}
    for sample in real.frame(0):
        rotation = sample.camera_T_lidar[:3, :3].T
        x, y = ahead[sample.camera_name.removesuffix("_camera")]
        np.testing.assert_allclose(rotation[:, 2], (x, y, 0), atol=0.06)
        np.testing.assert_allclose(rotation[:, 1], (0, 0, -1), atol=0.06)
        position = -rotation @ sample.camera_T_lidar[:3, 3]
        assert np.linalg.norm(position) < 1.3, "cameras sit around the LiDAR, within a car's roof"
        assert -0.5 < position[2] < 0


def test_the_car_drives_forward(real):
    start_T_end = np.linalg.inv(real.world_T_lidar(21)) @ real.world_T_lidar(55)
    np.testing.assert_allclose(start_T_end[:3, 3], (8.89, 0.0, 0.0), atol=0.15)
    # the front image is 50 ms older than the end of the sweep; at 4.6 m/s the LiDAR is 0.23 m past where it stood then
    still, moving = (real.sample(frame, "front_camera").camera_T_lidar[2, 3] for frame in (0, 55))
    assert 0.15 < moving - still < 0.3


def test_lidar_frame_has_its_origin_at_the_sensor(real):
    """Only from its true place have the Pandar64's beams few elevations: 5 cm beside it their entropy is higher."""
    sample = real.sample(0, "front_camera")
    points = sample.points_lidar
    ranges = np.hypot(points[:, 0], points[:, 1])
    ring = points[(sample.lidar_id == 0) & (ranges > 4) & (ranges < 60), :3]

    def entropy(place: tuple[float, float, float]) -> float:
        x, y, z = (ring - np.float32(place)).T
        elevation_deg = np.degrees(np.arctan2(z - 0.0157 * x + 0.0005 * y, np.hypot(x, y)))
        counts = np.histogram(elevation_deg, np.arange(-26, 16, 0.02))[0]
        share = counts[counts > 0] / counts.sum()
        return float(-(share * np.log(share)).sum())

    here = entropy((0, 0, 0))
    assert here < 4.6, "64 equal beams have 4.16"
    for axis in np.eye(3):
        for step in (-0.05, 0.05):
            assert entropy(tuple(step * axis)) > here + 0.05
    road = (sample.point_labels == ROAD) & (sample.lidar_id == 0) & (ranges < 8)
    assert road.sum() > 500 and -2.4 < np.median(points[road, 2]) < -2.0
    forward = sample.lidar_id == 1
    assert (points[forward, 0] > 0).all(), "the PandarGT looks ahead only"
    assert points[~forward, 0].min() < -50 and points[~forward, 0].max() > 50


def test_points_land_on_objects(real):
    """Vegetation is green, roads are grey and low in the image; with a wrong frame neither holds."""
    sample = real.sample(30, "front_camera")
    view = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
    labels = sample.point_labels[view.index]
    u, v = view.uv[:, 0].round().astype(int), view.uv[:, 1].round().astype(int)
    colours = sample.image[v, u].astype(int)
    assert len(view.index) > 60_000
    assert np.mean(v[labels == ROAD] > sample.camera.height / 2) > 0.99
    greener = colours[:, 1] - colours[:, [0, 2]].mean(axis=1)
    assert np.median(greener[labels == VEGETATION]) > 10
    assert abs(np.median(greener[labels == ROAD])) < 5
    assert (labels == CAR).sum() > 5_000


def test_times_ids_and_intensity(real):
    sample = real.sample(30, "front_camera")
    assert sample.image_time_ns == 1557539959450620000 and sample.sweep_time_ns == 1557539959500444000
    assert np.median(np.abs(sample.time_offset_s[sample.lidar_id == 0])) < 0.03
    assert sample.points_lidar[:, 3].min() >= 0 and sample.points_lidar[:, 3].max() <= 1
    medians = [np.median(sample.points_lidar[sample.lidar_id == i, 3]) for i in (0, 1)]
    assert abs(medians[0] - medians[1]) < 0.08
    np.testing.assert_allclose(
        scale_intensity(np.array([0.0, 255, 63.75, 60, 255]), np.array([0, 0, 0, 1, 1], np.uint8)), [0, 1, 0.5, 0.5, 1]
    )


def test_one_cloud_is_shared_and_split_by_lidar(real, shared_data):
    merged = real.frame(20)
    assert all(sample.points_lidar is merged[0].points_lidar for sample in merged)
    spinning, forward = (
        open_log(shared_data / "pandaset" / "002", lidar=i).sample(20, "front_camera") for i in (0, "1")
    )
    assert len(spinning.points_lidar) + len(forward.points_lidar) == len(merged[0].points_lidar)
    np.testing.assert_array_equal(forward.points_lidar, merged[0].points_lidar[merged[0].lidar_id == 1])
    np.testing.assert_array_equal(spinning.point_labels, merged[0].point_labels[merged[0].lidar_id == 0])


def test_native_classes_agree_with_the_common_ones(real, shared_data):
    native = open_log(shared_data / "pandaset" / "002", classes="native")
    labels = native.sample(20, "front_camera").point_labels
    common = real.sample(20, "front_camera").point_labels
    assert len(native.table) == 42 and native.table.names[41] == "other_static_object"
    np.testing.assert_array_equal(labels == native.table.names.index("building"), common == 3)
    other = common[labels == 41]
    assert len(other) > 1000 and {DRIVING12.label_name(v) for v in np.unique(other)} == {"barrier|static_object"}


def test_tiny_log_is_where_the_scene_is(tiny):
    log = open_log(tiny)
    assert log.frames == [0, 2] and list(log.cameras) == ["front_camera", "back_camera"]
    forward = (np.linalg.inv(log.world_T_lidar(0)) @ log.world_T_lidar(2))[:3, 3]
    np.testing.assert_allclose(forward, (2 * STEP_M, 0, 0), atol=1e-9)
    front, back = (sample.camera_T_lidar[2, :3] for sample in log.frame(0))
    np.testing.assert_allclose(front, (1, 0, 0), atol=1e-9)
    np.testing.assert_allclose(back, (-1, 0, 0), atol=1e-9)


def test_missing_labels_and_images_are_none(tiny):
    (tiny / "annotations" / "semseg" / "02.pkl.gz").unlink()
    (tiny / "camera" / "back_camera" / "00.jpg").unlink()
    log = open_log(tiny)
    assert log.sample(0, "front_camera").point_labels is not None
    assert log.sample(2, "front_camera").point_labels is None
    assert log.sample(0, "back_camera").image is None
    assert log.sample(0, "front_camera").image is not None


def labels_of(tiny: Path, ids: list[int] | None = None, count: int | None = None) -> None:
    path = tiny / "annotations" / "semseg" / "00.pkl.gz"
    n = len(open_log(tiny).sample(0, "front_camera").points_lidar) if count is None else count
    write_table(path, {"class": np.resize(np.array(ids or [7]), n)})


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def shorten(file: Path) -> None:
    file.write_text(json.dumps(json.loads(file.read_text())[:1]))


FRONT = "camera/front_camera"
FRAME_FAULTS = {
    "truncated sweep": (lambda p: cut(p / "lidar/02.pkl.gz"), "truncated"),
    "empty sweep": (lambda p: (p / "lidar/02.pkl.gz").write_bytes(b""), "empty"),
    "no points": (
        lambda p: write_table(p / "lidar/02.pkl.gz", {c: np.zeros(0) for c in "xyzitd"}),
        "no points",
    ),
    "missing column": (lambda p: write_table(p / "lidar/02.pkl.gz", {"x": np.zeros(3), "y": np.zeros(3)}), "'z'"),
    "wrong label count": (
        lambda p: write_table(p / "annotations/semseg/02.pkl.gz", {"class": np.array([7, 7])}),
        "2 labels for a sweep",
    ),
    "label column": (
        lambda p: write_table(p / "annotations/semseg/02.pkl.gz", {"klass": np.array([7, 7])}),
        "'class' is missing",
    ),
    "undecodable image": (lambda p: (p / FRONT / "02.jpg").write_bytes(b"GIF89a" + bytes(99)), "02.jpg"),
    "resized image": (
        lambda p: cv2.imwrite(str(p / FRONT / "02.jpg"), np.zeros((270, 480, 3), np.uint8)),
        "another size",
    ),
    "short lidar poses": (lambda p: shorten(p / "lidar/poses.json"), "1 entries, none for frame 2"),
    "short camera poses": (lambda p: shorten(p / FRONT / "poses.json"), "1 entries, none for frame 2"),
    "short times": (lambda p: shorten(p / FRONT / "timestamps.json"), "1 entries, none for frame 2"),
}


@pytest.mark.parametrize("fault", FRAME_FAULTS)
def test_a_bad_frame_is_one_line_and_can_be_skipped(tiny, fault):
    breaks, message = FRAME_FAULTS[fault]
    breaks(tiny)
    log = open_log(tiny)
    with pytest.raises(FrameError) as caught:
        log.frame(2)
    assert message in str(caught.value) and str(tiny) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(FrameError):
        list(log.iterate())
    good, skipped = open_log(tiny, strict=False).iterate()
    assert good[0].frame == 0
    assert skipped == Skipped(2, None, str(caught.value))


def test_unknown_class_id_names_file_and_id(tiny):
    labels_of(tiny, [7, 77])
    with pytest.raises(FrameError, match=r"00\.pkl\.gz: class id 77 is not one of pandaset's"):
        open_log(tiny).frame(0)


LOG_FAULTS = {
    "no lidar poses": (lambda p: (p / "lidar/poses.json").unlink(), FileNotFoundError, "poses.json: missing"),
    "no camera poses": (lambda p: (p / FRONT / "poses.json").unlink(), FileNotFoundError, "poses.json: missing"),
    "no intrinsics": (lambda p: (p / FRONT / "intrinsics.json").unlink(), FileNotFoundError, "intrinsics"),
    "no fx": (lambda p: (p / FRONT / "intrinsics.json").write_text('{"fy": 1}'), ValueError, "'fx'"),
    "no focal": (
        lambda p: (p / FRONT / "intrinsics.json").write_text('{"fx": 0, "fy": 1, "cx": 1, "cy": 1}'),
        ValueError,
        "positive",
    ),
    "broken json": (lambda p: (p / FRONT / "poses.json").write_text("[{"), ValueError, "not valid JSON"),
    "pose without heading": (
        lambda p: (p / "lidar/poses.json").write_text('[{"position": {"x": 0, "y": 0, "z": 0}}]'),
        ValueError,
        "pose 0 is broken",
    ),
    "times": (lambda p: (p / "lidar/timestamps.json").write_text('["noon"]'), ValueError, "list of seconds"),
    "no sweeps": (lambda p: [f.unlink() for f in (p / "lidar").glob("*.gz")], FileNotFoundError, "no sweeps"),
    "no cameras": (
        lambda p: [shutil.rmtree(f) for f in (p / "camera").iterdir()],
        FileNotFoundError,
        "no camera folder",
    ),
}


@pytest.mark.parametrize("fault", LOG_FAULTS)
def test_a_bad_log_is_refused_when_opened(tiny, fault):
    breaks, kind, message = LOG_FAULTS[fault]
    breaks(tiny)
    with pytest.raises(kind, match=message) as caught:
        open_log(tiny)
    assert str(tiny) in str(caught.value) and "\n" not in str(caught.value)


def test_options_that_do_not_exist(tiny):
    with pytest.raises(ValueError, match="reduced is 3; choose one of 1, 2, 4, 8"):
        open_log(tiny, reduced=3)
    with pytest.raises(ValueError, match="lidar is 2; choose"):
        open_log(tiny, lidar=2)
    with pytest.raises(ValueError, match="no splits"):
        open_log(tiny, split="train")
    with pytest.raises(ValueError, match=r"pandaset.*unexpected keyword"):
        open_log(tiny, sequence="00")


def test_a_pose_that_is_no_number_costs_its_frame_alone(tmp_path):
    folder = make_pandaset_log(tmp_path / "002", frames=(0, 2))
    path = folder / "camera" / "front_camera" / "poses.json"
    poses = json.loads(path.read_text())
    poses[2]["position"]["x"] = float("nan")
    path.write_text(json.dumps(poses))
    log = open_log(folder)
    first, second = log.iterate(strict=False)
    assert not isinstance(first, Skipped)
    assert isinstance(second, Skipped) and second.frame == 2 and "not finite" in second.reason


@pytest.mark.parametrize("which", ["tiny", "real"])
def test_images_decoded_at_half_their_size_show_the_same(which, request):
    """PNG in the made log, JPEG in the real one."""
    log = request.getfixturevalue(which)
    path = log if isinstance(log, Path) else log.path
    full, half = (open_log(path, reduced=by).sample(0, "front_camera") for by in (1, 2))
    assert half.image.shape == (540, 960, 3)
    np.testing.assert_allclose(half.camera.K, full.camera.resize(960, 540).K)
    averaged = cv2.resize(full.image, (960, 540), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(averaged - half.image).mean() < 1.5
    at_full, at_half = (project(s.points_lidar, s.camera, s.camera_T_lidar) for s in (full, half))
    np.testing.assert_array_equal(at_half.index, at_full.index)
    np.testing.assert_allclose(at_half.uv, (at_full.uv + 0.5) / 2 - 0.5, atol=1e-3)
