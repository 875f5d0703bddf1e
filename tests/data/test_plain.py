import numpy as np
import pytest
import yaml
from make_logs import DRIVING12_IDS, FRAME_NS, make_plain_log
from scene import COLOURS, NAMES, STEP_M, sweep

from fusionseg.data.log import FrameError
from fusionseg.data.open import open_log
from fusionseg.data.plain import PlainLog, read_calibration
from fusionseg.data.points import read_points, scale_intensity
from fusionseg.geometry.projection import project, visible
from fusionseg.geometry.transform import quaternion_from_rotation

XYZ = np.array([[1, 2, 3], [4, 5, 6], [np.nan, 0, 1], [7, 8, 9]], np.float32)


def rewrite(folder, change):
    """Change calibration.yaml in place."""
    file = folder / "calibration.yaml"
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content))


def rename_stamps(folder, names):
    for part in (folder / "sweeps", folder / "labels", *(folder / "images").iterdir()):
        for file, name in zip(sorted(part.iterdir()), names, strict=True):
            file.rename(file.with_name(name + file.suffix))


@pytest.mark.parametrize("camera", ["front", "left", "back"])
def test_points_fall_on_pixels_of_their_class(tmp_path, camera):
    log = open_log(make_plain_log(tmp_path / "log", cameras=("front", "left", "back")))
    assert log.format == "plain" and log.has_lidar and log.has_images and list(log.frames) == [0, 1, 2]
    sample = log.sample(1, camera)
    view = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
    seen = visible(view.uv, view.depth, sample.camera.width, sample.camera.height)
    column, row = np.rint(view.uv[seen]).astype(int).T
    colour = sample.image[row, column].astype(float)
    nearest = np.abs(colour[:, None] - np.array(list(COLOURS.values()))).sum(axis=2).argmin(axis=1)
    labels = np.array([DRIVING12_IDS[name] for name in NAMES])[nearest]
    assert len(labels) > 500
    assert (labels == sample.point_labels[view.index[seen]]).mean() > 0.97


def test_the_views_of_a_frame_share_the_cloud(tmp_path):
    front, left = PlainLog(make_plain_log(tmp_path / "log", cameras=("front", "left"))).frame(0)
    assert front.points_lidar is left.points_lidar
    assert np.array_equal(front.points_lidar, sweep(0)[0])


def test_small_stamps_are_frame_numbers_and_may_have_gaps(tmp_path):
    folder = make_plain_log(tmp_path / "log")
    rename_stamps(folder, ["000007", "000012", "000040"])
    (folder / "sweeps" / "000012.bin").unlink()
    (folder / "poses.txt").unlink()
    log = PlainLog(folder)
    assert list(log.frames) == [7, 12, 40]
    lonely = log.sample(12, "front")
    assert lonely.image is not None and len(lonely.points_lidar) == 0 and lonely.point_labels is None
    assert lonely.image_time_ns is None and log.sample(40, "front").frame == 40


def test_nanoseconds_pair_with_the_nearest_image_within_the_tolerance(tmp_path):
    folder = make_plain_log(tmp_path / "log")
    first = min((folder / "images" / "front").iterdir())
    first.rename(first.with_name(f"{int(first.stem) + 30_000_000}.png"))
    sample = PlainLog(folder).sample(0, "front")
    assert sample.image_time_ns - sample.sweep_time_ns == 30_000_000
    rewrite(folder, lambda content: content.update(tolerance_ns=20_000_000))
    missing = PlainLog(folder).sample(0, "front")
    assert missing.image is None and missing.image_time_ns is None and len(missing.points_lidar) > 0


@pytest.mark.parametrize("frame, ahead_ns", [(0, 40_000_000), (1, -25_000_000), (2, 30_000_000)])
def test_ego_motion_between_sweep_and_image_is_in_the_transform(tmp_path, frame, ahead_ns):
    folder = make_plain_log(tmp_path / "log")
    still = PlainLog(folder).sample(frame, "front").camera_T_lidar
    image = sorted((folder / "images" / "front").iterdir())[frame]
    image.rename(image.with_name(f"{int(image.stem) + ahead_ns}.png"))
    log = PlainLog(folder)
    assert np.allclose(log.world_T_lidar(frame)[:3, 3], [STEP_M * frame, 0, 0])
    moved = log.sample(frame, "front").camera_T_lidar
    # the camera has driven ahead, so that what stands still is nearer along its axis
    assert np.allclose(moved[:3, 3] - still[:3, 3], [0, 0, -STEP_M * ahead_ns / FRAME_NS])
    assert np.allclose(moved[:3, :3], still[:3, :3])


def test_a_turn_is_interpolated(tmp_path):
    folder = make_plain_log(tmp_path / "log", frames=2)
    turn = np.hstack([[[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.zeros((3, 1))])
    rows = [np.eye(4)[:3], turn]
    (folder / "poses.txt").write_text("\n".join(" ".join(map(str, row.ravel())) for row in rows))
    log = PlainLog(folder)
    half = log._ego_motion(*(1_000_000_000_000 + np.array([0, FRAME_NS // 2])))
    s = np.sqrt(0.5)
    assert np.allclose(half[:3, :3], [[s, s, 0], [-s, s, 0], [0, 0, 1]])


def test_without_sweeps_it_is_camera_only(tmp_path):
    log = PlainLog(make_plain_log(tmp_path / "log", sweeps=False))
    assert not log.has_lidar and list(log.frames) == [0, 1, 2]
    sample = log.sample(2, "front")
    assert sample.image is not None and len(sample.points_lidar) == 0 and sample.sweep_time_ns is None


def test_without_images_virtual_views_see_every_level_point(tmp_path):
    folder = make_plain_log(tmp_path / "log", cameras=())
    (folder / "calibration.yaml").unlink()
    log = open_log(folder)
    assert log.format == "plain" and not log.has_images and len(log.cameras) >= 3
    views = log.frame(0)
    assert all(view.image is None for view in views)
    seen = np.zeros(len(views[0].points_lidar), bool)
    for view in views:
        seen[project(view.points_lidar, view.camera, view.camera_T_lidar).index] = True
    assert seen.all()


def test_quaternion_and_four_numbers_say_the_same_as_matrices(tmp_path):
    folder = make_plain_log(tmp_path / "log")
    camera, pose = read_calibration(folder / "calibration.yaml").cameras["front"]

    def change(content):
        entry = content["cameras"]["front"]
        entry["K"] = [float(camera.K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))]
        quaternion = quaternion_from_rotation(pose[:3, :3]).tolist()
        entry["camera_T_lidar"] = {"quaternion": quaternion, "translation": pose[:3, 3].tolist()}

    rewrite(folder, change)
    again, same = read_calibration(folder / "calibration.yaml").cameras["front"]
    assert np.allclose(again.K, camera.K) and np.allclose(same, pose)


def test_images_of_another_size_say_what_to_write(tmp_path):
    folder = make_plain_log(tmp_path / "log", frames=1, size=(64, 96))
    rewrite(folder, lambda content: content["cameras"]["front"].update(size=[100, 64]))
    with pytest.raises(FrameError, match=r"image is 96x64; calibration\.yaml says 100x64 .*; write the size and K of"):
        open_log(folder).sample(0, "front")


def test_one_camera_needs_no_list(tmp_path):
    file = tmp_path / "camera.yaml"
    file.write_text(
        "K: [50, 50, 31, 23]\nsize: [64, 48]\ncamera_T_lidar: {quaternion: [1, 0, 0, 0], translation: [1, 2, 3]}\n"
    )
    camera, pose = read_calibration(file).cameras["camera"]
    assert camera.width == 64 and pose[:3, 3].tolist() == [1, 2, 3]


def test_labels_as_uint32_keep_instances_apart_and_classes_yaml_names_ids(tmp_path):
    folder = make_plain_log(tmp_path / "log", labels=False)
    hit = sweep(0)[1]
    car = hit == NAMES.index("car")
    packed = np.where(car, 500 | 3 << 16, 7).astype("<u4")
    (folder / "labels").mkdir()
    packed.tofile(folder / "labels" / "1000000000000.label")
    (folder / "labels" / "classes.yaml").write_text("500: [car, large_vehicle]\n7: null\n")
    sample = PlainLog(folder).sample(0, "front")
    assert sample.point_instances[car].tolist() == [3] * int(car.sum()) and not sample.point_instances[~car].any()
    table = PlainLog(folder).table
    assert set(sample.point_labels[car].tolist()) == {table.label_of(("car", "large_vehicle"))}
    assert set(sample.point_labels[~car].tolist()) == {255}
    assert PlainLog(folder).sample(1, "front").point_labels is None


def test_native_classes_are_those_of_classes_yaml(tmp_path):
    folder = make_plain_log(tmp_path / "log")
    ids = {i: f"my_{i}" for i in range(12)}
    (folder / "labels" / "classes.yaml").write_text(yaml.safe_dump(ids))
    log = PlainLog(folder, classes="native")
    assert log.table.names == tuple(ids.values())
    assert log.sample(0, "front").point_labels.max() == 10


def write_cloud(path, **options):
    open3d = pytest.importorskip("open3d", exc_type=ImportError, reason="open3d or a system library is missing")
    cloud = open3d.t.geometry.PointCloud()
    cloud.point.positions = open3d.core.Tensor(XYZ)
    cloud.point.intensity = open3d.core.Tensor(np.array([[0], [51], [102], [255]], np.float32))
    assert open3d.t.io.write_point_cloud(str(path), cloud, **options)


CLOUDS = [
    ("cloud.pcd", {"write_ascii": True}),
    ("cloud.pcd", {}),
    ("cloud.pcd", {"compressed": True}),
    ("cloud.ply", {"write_ascii": True}),
    ("cloud.ply", {}),
]


@pytest.mark.parametrize("name, options", CLOUDS)
def test_pcd_and_ply_keep_every_row(tmp_path, name, options):
    write_cloud(tmp_path / name, **options)
    points = read_points(tmp_path / name)
    assert np.array_equal(points[:, :3], XYZ, equal_nan=True)
    assert np.allclose(points[:, 3], [0, 0.2, 0.4, 1.0])


@pytest.mark.parametrize("name, options", CLOUDS)
def test_a_truncated_cloud_is_refused_instead_of_filled(tmp_path, name, options):
    write_cloud(tmp_path / name, **options)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FrameError, match="header promises 4 points"):
        read_points(path)


def test_an_empty_cloud_has_no_points(tmp_path):
    header = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 0\nHEIGHT 1\nPOINTS 0\nDATA ascii\n"
    (tmp_path / "a.pcd").write_text(header)
    assert read_points(tmp_path / "a.pcd").shape == (0, 4)


def test_npy_with_three_or_six_columns(tmp_path):
    np.save(tmp_path / "a.npy", XYZ.astype(np.float64))
    assert np.array_equal(read_points(tmp_path / "a.npy")[:, 3], np.zeros(4))
    wide = np.hstack([XYZ, np.full((4, 3), 128.0, np.float32)])
    np.save(tmp_path / "b.npy", wide)
    assert np.allclose(read_points(tmp_path / "b.npy")[:, 3], 128 / 255)
    assert np.allclose(read_points(tmp_path / "b.npy", intensity_max=256.0)[:, 3], 0.5)


@pytest.mark.parametrize(
    "values, expected",
    [([0, 0.5, 1], [0, 0.5, 1]), ([0, 51, 200], [0, 0.2, 200 / 255]), ([655.35, 65535], [0.01, 1.0]), ([], [])],
)
def test_intensity_scales_to_the_smallest_full_scale_that_holds_it(values, expected):
    assert np.allclose(scale_intensity(np.array(values, np.float32)), expected)


def test_odd_intensities_stay_in_range():
    odd = scale_intensity(np.array([np.nan, -3.0, np.inf, 70000.0, 35000.0], np.float32))
    assert odd.tolist() == [0.0, 0.0, 0.0, 1.0, 0.5]


def test_a_missing_system_library_is_named_with_its_package(monkeypatch):
    import importlib

    from fusionseg.data.open3d_import import import_open3d

    def fail(name):
        raise ImportError("libusb-1.0.so.0: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ValueError, match=r"sudo apt-get install libusb-1\.0-0$"):
        import_open3d()
