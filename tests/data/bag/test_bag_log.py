"""Recordings of every kind give the samples that went in; topics, pairing, motion and calibration are as recorded."""

import json
import shutil

import numpy as np
import pytest
import yaml
from make_bags import (
    IMAGE_DELAY_NS,
    PERIOD_NS,
    START_NS,
    XYZI,
    Cloud,
    Image,
    Info,
    Pose,
    cloud_of,
    in_order,
    messages_of,
    record,
    scene_messages,
    write_foxglove,
    write_ros1,
    write_ros1_mcap,
    write_ros2,
)
from make_logs import make_kitti_raw_log
from scene import STEP_M, View, picture, sweep
from tiny_model import save_tiny_model

from fusionseg.cli import main
from fusionseg.data.kitti_calibration import read_calibration
from fusionseg.data.open import open_log
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import invert, make_transform, rotation_about_axis

KINDS = {
    "ros1": lambda path, messages: write_ros1(path / "a.bag", messages),
    "ros1 bz2": lambda path, messages: write_ros1(path / "a.bag", messages, "bz2"),
    "ros1 lz4": lambda path, messages: write_ros1(path / "a.bag", messages, "lz4"),
    "ros2 sqlite3": lambda path, messages: write_ros2(path / "a", messages),
    "ros2 sqlite3, packed messages": lambda path, messages: write_ros2(path / "a", messages, "sqlite3", "message"),
    "ros2 sqlite3, packed file": lambda path, messages: write_ros2(path / "a", messages, "sqlite3", "file"),
    "ros2 mcap": lambda path, messages: write_ros2(path / "a", messages, "mcap", "storage"),
    "ros1 in mcap": lambda path, messages: write_ros1_mcap(path / "a.mcap", messages),
    "foxglove protobuf": lambda path, messages: write_foxglove(path / "a.mcap", messages),
    "foxglove json": lambda path, messages: write_foxglove(path / "a.mcap", messages, "json", chunked=False),
}
TWO_FRAMES = ("--frames", "0:2", "--size", "96x320")
THREE = ("ros1", "ros2 sqlite3", "ros2 mcap")


def without(messages, *topics):
    return [message for message in messages if message.topic not in topics]


@pytest.fixture(scope="module")
def scene():
    return scene_messages()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_what_was_recorded_is_read(tmp_path, kind, packed):
    log = open_log(KINDS[kind](tmp_path, scene_messages(frames=2, packed=packed)))
    assert (log.format, log.name, log.cameras, list(log.frames)) == ("bag", "a", ["back", "front"], [0, 1])
    for frame in log.frames:
        sample = log.sample(frame, "front")
        view = View(96, 64)
        np.testing.assert_array_equal(sample.image, picture(frame + 0.25, view)[0])
        np.testing.assert_array_equal(sample.points_lidar, sweep(frame)[0])
        np.testing.assert_array_equal(sample.camera.K, view.K)
        # the camera stands 0.2 m ahead of the LiDAR and was carried a quarter of a step further
        expected = [0.2 + 0.25 * STEP_M, 0, -0.1]
        np.testing.assert_allclose(invert(sample.camera_T_lidar)[:3, 3], expected, atol=1e-9)
        np.testing.assert_allclose(sample.camera_T_lidar[:3, :3], view.camera_T_lidar[:3, :3], atol=1e-12)
        assert sample.sweep_time_ns == START_NS + frame * PERIOD_NS
        assert sample.image_time_ns - sample.sweep_time_ns == IMAGE_DELAY_NS
        assert sample.time_offset_s is None
    assert log.findings()["not_readable"] == []
    assert log.findings()["ego_motion"] == "compensated by odom, which has a pose for 2 of 2 frames"


def labels_of(out):
    return {file.name: file.read_bytes() for file in (out / "labels").glob("*.label")}


def replayed(log, model, out, *options):
    assert main(["replay", str(log), "--model", str(model), "--out", str(out), "--threads", "1", *options]) == 0
    return labels_of(out)


def test_kitti_frames_give_the_same_labels_from_every_kind(tmp_path, capsys):
    folder = make_kitti_raw_log(tmp_path / "kitti", frames=2)
    kitti, model = open_log(folder), save_tiny_model(tmp_path / "tiny.safetensors")
    expected = replayed(folder, model, tmp_path / "expected")
    assert len(expected) == 2
    for kind in THREE:
        path = KINDS[kind](tmp_path / kind, messages_of(kitti))
        assert replayed(path, model, tmp_path / kind / "out") == expected


def with_exact_rotations(folder, to):
    """KITTI rounds its rotations to seven digits, a quaternion is exactly a rotation: the frames with the nearest."""
    shutil.copytree(folder, to)
    for file, key in (("calib_velo_to_cam.txt", "R"), ("calib_cam_to_cam.txt", "R_rect_00")):
        path = to / "2011_09_26" / file
        rows = read_calibration(path)
        u, _, vt = np.linalg.svd(rows[key].reshape(3, 3))
        rows[key] = (u @ vt).reshape(-1)
        path.write_text("".join(f"{name}: {' '.join(map(repr, row.tolist()))}\n" for name, row in rows.items()))
    return to


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    """KITTI's frames, a model, and what it says of the first two."""
    folder = tmp_path_factory.mktemp("kitti")
    drive = with_exact_rotations(shared_data / "kitti_raw", folder / "drive")
    model = save_tiny_model(folder / "tiny.safetensors")
    return drive, model, replayed(drive, model, folder / "expected", *TWO_FRAMES)


@pytest.mark.parametrize("kind", THREE)
def test_real_kitti_frames_give_the_same_samples_and_labels(shared_data, real, tmp_path, kind, capsys):
    drive, model, expected = real
    kitti, rounded = open_log(drive), open_log(shared_data / "kitti_raw")
    log = open_log(KINDS[kind](tmp_path, messages_of(kitti)))
    assert len(log.frames) == len(kitti.frames) == 6
    for frame in kitti.frames:
        ours, theirs = log.sample(frame, "image_02"), kitti.sample(frame, "image_02")
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.points_lidar, theirs.points_lidar)
        np.testing.assert_array_equal(ours.camera.K, theirs.camera.K)
        np.testing.assert_allclose(ours.camera_T_lidar, theirs.camera_T_lidar, atol=1e-14)
    np.testing.assert_allclose(ours.camera_T_lidar, rounded.sample(0, "image_02").camera_T_lidar, atol=1e-7)
    assert len(expected) == 2 and replayed(log.path, model, tmp_path / "out", *TWO_FRAMES) == expected


def test_parts_in_a_folder_are_one_recording(tmp_path, scene):
    half = len(scene) // 2
    write_ros1(tmp_path / "parts" / "drive_0.bag", scene[:half])
    write_ros1(tmp_path / "parts" / "drive_1.bag", scene[half:])
    log, whole = open_log(tmp_path / "parts"), open_log(write_ros1(tmp_path / "whole.bag", scene))
    assert list(log.frames) == [0, 1, 2]
    for frame in log.frames:
        for ours, theirs in zip(log.frame(frame), whole.frame(frame), strict=True):
            np.testing.assert_array_equal(ours.image, theirs.image)
            np.testing.assert_allclose(ours.camera_T_lidar, theirs.camera_T_lidar)
    assert [file.name for file in log.files(0)] == ["drive_0.bag", "drive_1.bag"]
    shutil.copy(tmp_path / "whole.bag", tmp_path / "parts" / "other.db3")
    with pytest.raises(ValueError, match=r"holds \.bag and \.db3 files; give one of them"):
        open_log(tmp_path / "parts")


def test_topics_are_found_and_can_be_named(tmp_path, scene):
    time = START_NS + PERIOD_NS
    few = cloud_of(sweep(0)[0][:50])
    depth = np.full((64, 96), 1000, dtype=np.uint16)
    others = [
        *(record("/lidar/filtered", Cloud(START_NS + i * PERIOD_NS, "lidar", few)) for i in range(3)),
        record("/map", Cloud(time, "lidar", np.tile(cloud_of(sweep(0)[0]), 5))),
        record("/camera/front/image_rect", Image(time, "front_optical", picture(1, View(96, 64))[0])),
        record("/camera/front/image_raw/compressed", Image(time, "front_optical", picture(1, View(96, 64))[0], "png")),
        record("/camera/depth/image_raw", Image(time, "front_optical", depth, "16UC1")),
    ]
    path = write_ros2(tmp_path / "a", in_order([*scene, *others]))
    log = open_log(path)
    assert log.findings()["topics"] == {
        "lidar": "/lidar/points",
        "back": "/camera/back/image_raw",
        "front": "/camera/front/image_raw",
    }
    assert log.findings()["left_out"] == {
        "/camera/depth/image_raw": "holds no colours",
        "/camera/front/image_raw/compressed": "same camera as /camera/front/image_raw",
        "/camera/front/image_rect": "same camera as /camera/front/image_raw",
        "/lidar/filtered": "sweeps are read from /lidar/points",
        "/map": "sweeps are read from /lidar/points",
    }
    named = open_log(path, topics="lidar/filtered, //camera/front/image_raw/compressed")
    assert named.cameras == ["front"] and len(named.sample(1, "front").points_lidar) == 50
    assert named.sample(1, "front").image is not None and named.sample(0, "front").image is None
    with pytest.raises(
        ValueError, match="topic '/lidar/point' has no images and no points; did you mean /lidar/points"
    ):
        open_log(path, topics="/lidar/point")
    alone = open_log(path, topics=["/lidar/points"])
    assert not alone.has_images and alone.findings()["left_out"]["/camera/front/image_raw"] == "others were named"
    assert not open_log(path, topics=["/camera/front/image_raw"]).has_lidar
    with pytest.raises(ValueError, match="are all point clouds; name one"):
        open_log(path, topics=["/map", "/lidar/points"])


def test_pairing_is_reported(tmp_path, scene, capsys):
    lost = {START_NS + PERIOD_NS + IMAGE_DELAY_NS}
    late = Image(START_NS + 2 * PERIOD_NS + 80_000_000, "front_optical", picture(2, View(96, 64))[0])
    kept = [m for m in scene if not (m.topic == "/camera/front/image_raw" and m.content.stamp_ns in lost)]
    log = open_log(write_ros1(tmp_path / "a.bag", in_order([*kept, record("/camera/front/image_raw", late)])))
    front = log.findings()["pairing"]["front"]
    assert front == {
        "frames_with_image": 2,
        "frames_without_image": 1,
        "images_unpaired": 1,
        "offset_ms": {"min": 25.0, "median": 25.0, "max": 25.0},
        "offsets_ms": [25.0, None, 25.0],
    }
    sample = log.sample(1, "front")
    assert sample.image is None and sample.image_time_ns is None and len(sample.points_lidar) > 1000
    facts = tmp_path / "facts.json"
    assert main(["inspect", str(log.path), "--out", str(tmp_path / "out"), "--json", str(facts)]) in (0, 1)
    text = capsys.readouterr().out
    assert "  front: frames with image 2, frames without image 1, images unpaired 1, offset ms min 25.0" in text
    assert "pairing tolerance ms: 50.0" in text and "offsets" not in text
    assert json.loads(facts.read_text())["findings"] == log.findings()
    narrow = tmp_path / "narrow.yaml"
    view = {"K": View(96, 64).K.tolist(), "size": [96, 64], "camera_T_lidar": View(96, 64).camera_T_lidar.tolist()}
    narrow.write_text(yaml.safe_dump({"cameras": {"front": view}, "tolerance_ns": 10_000_000}))
    assert open_log(log.path, calibration=narrow).findings()["pairing"]["front"]["frames_with_image"] == 0


def test_a_lidar_mounted_at_an_angle_is_turned_to_the_vehicle(tmp_path, scene):
    """The same scene, its LiDAR turned by 90 degrees about z and rolled by 5: samples are the same."""
    base_T_lidar = make_transform(
        rotation_about_axis([0, 0, 1], np.pi / 2) @ rotation_about_axis([1, 0, 0], 0.09), [0] * 3
    )
    turned = []
    for message in scene:
        content = message.content
        if isinstance(content, Cloud):
            points = np.stack([content.points[name] for name in XYZI.names], axis=1)
            points[:, :3] = points[:, :3] @ base_T_lidar[:3, :3]
            content = Cloud(content.stamp_ns, "lidar", cloud_of(points))
        elif isinstance(content, Pose) and content.child == "lidar":
            content = Pose(content.stamp_ns, "base_link", "lidar", content.matrix @ base_T_lidar)
        elif isinstance(content, Pose) and content.parent == "lidar":
            content = Pose(content.stamp_ns, "lidar", content.child, invert(base_T_lidar) @ content.matrix)
        turned.append(record(message.topic, content))
    ours = open_log(write_ros1(tmp_path / "a.bag", turned))
    theirs = open_log(write_ros1(tmp_path / "b.bag", scene))
    for a, b in zip(ours.frame(1), theirs.frame(1), strict=True):
        np.testing.assert_allclose(a.points_lidar, b.points_lidar, atol=1e-4)
        np.testing.assert_allclose(a.camera_T_lidar, b.camera_T_lidar, atol=1e-9)
    np.testing.assert_allclose(ours.world_T_lidar(1), theirs.world_T_lidar(1), atol=1e-9)
    # what a person measures is from the points as they are recorded
    rig = {"K": View(96, 64).K.tolist(), "size": [96, 64]}
    rig["camera_T_lidar"] = (View(96, 64).camera_T_lidar @ base_T_lidar).tolist()
    (tmp_path / "given.yaml").write_text(yaml.safe_dump({"cameras": {"front": rig}}))
    given = open_log(tmp_path / "a.bag", calibration=tmp_path / "given.yaml")
    np.testing.assert_allclose(
        given.sample(1, "front").camera_T_lidar, theirs.sample(1, "front").camera_T_lidar, atol=1e-9
    )


def test_a_camera_in_a_body_frame_is_taken_for_one(tmp_path, scene):
    """Some simulators name the frame that is x forward, z up: no camera of a car looks at the sky."""
    optical_T_body = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    turned = [
        record(m.topic, Pose(m.content.stamp_ns, "lidar", m.content.child, m.content.matrix @ optical_T_body))
        if isinstance(m.content, Pose) and m.content.parent == "lidar"
        else m
        for m in scene
    ]
    ours = open_log(write_ros1(tmp_path / "a.bag", turned))
    theirs = open_log(write_ros1(tmp_path / "b.bag", scene))
    np.testing.assert_allclose(
        ours.sample(0, "front").camera_T_lidar, theirs.sample(0, "front").camera_T_lidar, atol=1e-9
    )
    assert "would look at the sky" in ours.findings()["remarks"]["front"]


def test_rectified_images_use_the_projection(tmp_path):
    """A stereo camera's right image: P carries the baseline, R turns the frame."""
    K, turn = View(96, 64).K, rotation_about_axis([0, 1, 0], 0.1)
    P = np.hstack([K, K @ [[-0.5], [0.0], [0.0]]])
    bent = Camera(96, 64, K, "pinhole", np.array([0.1, 0, 0, 0, 0]))
    place = invert(View(96, 64).camera_T_lidar)
    image = picture(0, View(96, 64))[0]

    def take(name):
        return [
            record("/tf_static", Pose(START_NS, "lidar", "right", place)),
            record("/right/camera_info", Info(START_NS, "right", bent, R=turn, P=P)),
            record("/lidar/points", Cloud(START_NS, "lidar", cloud_of(sweep(0)[0]))),
            record(f"/right/{name}", Image(START_NS, "right", image)),
        ]

    raw = open_log(write_ros1(tmp_path / "raw.bag", take("image_raw"))).sample(0, "right")
    rectified = open_log(write_ros1(tmp_path / "rect.bag", take("image_rect_color"))).sample(0, "right")
    np.testing.assert_allclose(raw.camera_T_lidar, View(96, 64).camera_T_lidar, atol=1e-9)
    assert raw.camera.distortion[0] == 0.1 and not rectified.camera.distortion.any()
    expected = make_transform(turn, [-0.5, 0, 0]) @ raw.camera_T_lidar
    np.testing.assert_allclose(rectified.camera_T_lidar, expected, atol=1e-9)


def test_points_with_times_are_told_from_the_image(tmp_path, scene):
    fields = np.dtype([*XYZI.descr, ("ring", "<u2"), ("t", "<u4")])
    timed = []
    for message in scene:
        if isinstance(message.content, Cloud):
            points = np.zeros(len(message.content.points), fields)
            for name in XYZI.names:
                points[name] = message.content.points[name]
            points["t"] = np.linspace(0, 90_000_000, len(points))
            message = record(message.topic, Cloud(message.content.stamp_ns, "lidar", points))
        timed.append(message)
    sample = open_log(write_ros2(tmp_path / "a", timed)).sample(1, "front")
    np.testing.assert_array_equal(sample.points_lidar, sweep(1)[0])
    assert sample.time_offset_s[[0, -1]] == pytest.approx([-0.025, 0.065], abs=1e-6)


def test_a_recording_without_cameras_has_virtual_views(tmp_path, scene):
    log = open_log(write_ros1(tmp_path / "a.bag", [m for m in scene if m.topic in ("/lidar/points", "/tf")]))
    assert not log.has_images and len(log.cameras) == 6
    views = log.frame(2)
    assert all(view.image is None and len(view.points_lidar) > 1000 for view in views)
    with pytest.raises(KeyError, match="no pose of frame 0"):
        log.world_T_lidar(0)


def test_a_recording_without_lidar_has_images_alone(tmp_path, scene):
    images = without(scene, "/lidar/points", "/tf", "/tf_static", "/camera/back/camera_info")
    log = open_log(write_ros1(tmp_path / "a.bag", images))
    assert not log.has_lidar and sorted(log.cameras) == ["back", "front"] and list(log.frames) == [0, 1, 2]
    front, back = log.sample(1, "front"), log.sample(1, "back")
    assert len(front.points_lidar) == 0 and front.sweep_time_ns is None
    np.testing.assert_array_equal(front.camera.K, View(96, 64).K)
    # nominal: 60 degrees across
    assert back.camera.K[0, 0] == pytest.approx(48 / np.tan(np.deg2rad(30)))


def test_it_is_no_data_set(tmp_path, scene):
    path = write_ros1(tmp_path / "a.bag", scene)
    with pytest.raises(ValueError, match="split is 'val'; a recording has no splits"):
        open_log(path, split="val")
    log = open_log(path)
    with pytest.raises(KeyError, match="no frame 3"):
        log.sample(3, "front")
    with pytest.raises(KeyError, match="no camera 'side'"):
        log.sample(0, "side")
