"""Recordings that are cut off, damaged, without calibration, with clocks that are off: what is readable is read."""

import builtins
import contextlib
import shutil
import sqlite3

import numpy as np
import pytest
import yaml
from make_bags import (
    IMAGE_DELAY_NS,
    PERIOD_NS,
    START_NS,
    Cloud,
    Image,
    Info,
    Message,
    Pose,
    cloud_of,
    in_order,
    record,
    scene_messages,
    write_foxglove,
    write_ros1,
    write_ros2,
)
from scene import View, picture, sweep

from fusionseg.cli import main
from fusionseg.data.log import FrameError, Skipped
from fusionseg.data.open import open_log
from fusionseg.geometry.camera import Camera

FRAMES = 12
SECOND_NS = 1_000_000_000


def ros1(folder, messages):
    return write_ros1(folder / "a.bag", messages)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One recording of each kind, of several chunks: name -> its one file."""
    folder, scene = tmp_path_factory.mktemp("whole"), scene_messages(FRAMES, (192, 288), ("front",))
    return {
        "ros1": write_ros1(folder / "plain.bag", scene),
        "ros1 lz4": write_ros1(folder / "packed.bag", scene, "lz4"),
        "sqlite3": write_ros2(folder / "a", scene) / "a.db3",
        "mcap": write_ros2(folder / "b", scene, "mcap", "storage") / "b.mcap",
        "foxglove": write_foxglove(folder / "c.mcap", scene),
        "foxglove without chunks": write_foxglove(folder / "d.mcap", scene, chunked=False),
    }


@pytest.mark.parametrize("kind", ["ros1", "ros1 lz4", "sqlite3", "mcap", "foxglove", "foxglove without chunks"])
def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path, whole, kind):
    """Cut anywhere in its second half, whatever the cut goes through: what is read equals the whole file's."""
    content, uncut = whole[kind].read_bytes(), open_log(whole[kind])
    counts = []
    for share in (0.55, 0.75, 0.93):
        file = tmp_path / f"cut{whole[kind].suffix}"
        file.write_bytes(content[: int(share * len(content))])
        log = open_log(file)
        counts.append(len(log.frames))
        (fault,) = log.findings()["not_readable"]
        assert "cut off" in fault and "bytes" in fault
        for frame in log.frames:
            ours, theirs = log.sample(frame, "front"), uncut.sample(frame, "front")
            np.testing.assert_array_equal(ours.points_lidar, theirs.points_lidar)
            if ours.image is not None:
                np.testing.assert_array_equal(ours.image, theirs.image)
    assert 2 <= counts[0] <= counts[1] <= counts[2] < FRAMES and counts[0] < counts[2]


def test_a_file_without_its_end_is_told_from_one_that_is_whole(tmp_path, whole, caplog):
    """A recorder that is killed between two chunks leaves no broken record."""
    content = whole["ros1 lz4"].read_bytes()
    header_end = content.index(b"index_pos=") + len(b"index_pos=")
    index_at = int.from_bytes(content[header_end : header_end + 8], "little")
    killed = tmp_path / "killed.bag"
    killed.write_bytes(content[:header_end] + bytes(8) + content[header_end + 8 : index_at])
    log = open_log(killed)
    assert len(log.frames) == FRAMES
    assert log.findings()["not_readable"] == ["killed.bag is cut off: it was never closed"]
    assert "killed.bag is cut off: it was never closed" in caplog.messages
    assert open_log(whole["ros1 lz4"]).findings()["not_readable"] == []


# rosbags writes its MCAP without checksums: damage there is only seen where it breaks a message
@pytest.mark.parametrize("kind", ["ros1 lz4", "foxglove"])
def test_a_damaged_chunk_costs_its_own_messages_alone(tmp_path, whole, kind):
    path, content = tmp_path / whole[kind].name, bytearray(whole[kind].read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    log = open_log(path)
    (fault,) = log.findings()["not_readable"]
    assert "a chunk at byte" in fault and "is damaged" in fault
    assert FRAMES // 2 <= len(log.frames) < FRAMES
    np.testing.assert_array_equal(log.sample(log.frames[-1], "front").points_lidar, sweep(FRAMES - 1)[0])


def test_what_a_killed_recorder_had_not_yet_moved_into_its_database_is_read(tmp_path, whole):
    """SQLite's log of changes lies beside the file until the recorder closes it."""
    source, killed = tmp_path / "source.db3", tmp_path / "killed.db3"
    shutil.copy(whole["sqlite3"], source)
    with contextlib.closing(sqlite3.connect(source)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        ((topic,),) = database.execute("SELECT id FROM topics WHERE name = '/lidar/points'")
        ((last,),) = database.execute("SELECT max(id) FROM messages WHERE topic_id = ?", (topic,))
        values = "SELECT topic_id, timestamp + ?, ? FROM messages WHERE id = ?"
        ((data,),) = database.execute("SELECT data FROM messages WHERE id = ?", (last,))
        # a header's nanoseconds stand in bytes 8 to 12
        later = (int.from_bytes(data[8:12], "little") - 50_000_000).to_bytes(4, "little")
        again = f"INSERT INTO messages (topic_id, timestamp, data) {values}"
        database.execute(again, (PERIOD_NS, data[:8] + later + data[12:], last))
        database.commit()
        shutil.copy(source, killed)
        shutil.copy(tmp_path / "source.db3-wal", tmp_path / "killed.db3-wal")
    log = open_log(killed)
    assert len(log.frames) == FRAMES + 1 and log.findings()["not_readable"] == []


def test_a_message_that_is_no_message_is_one_frame_less(tmp_path, whole):
    file = tmp_path / "a.db3"
    shutil.copy(whole["sqlite3"], file)
    with sqlite3.connect(file) as database:
        ((topic,),) = database.execute("SELECT id FROM topics WHERE name = '/lidar/points'")
        numbers = [n for (n,) in database.execute("SELECT id FROM messages WHERE topic_id = ? ORDER BY id", (topic,))]
        # half a message, and one that is too short for a header
        database.execute("UPDATE messages SET data = substr(data, 1, length(data) / 2) WHERE id = ?", (numbers[2],))
        database.execute("UPDATE messages SET data = x'0001' WHERE id = ?", (numbers[4],))
    log = open_log(file)
    assert len(log.frames) == FRAMES - 1
    assert log.findings()["not_readable"] == ["/lidar/points: 1 messages are damaged"]
    with pytest.raises(FrameError, match=r"/lidar/points: a message is no sensor_msgs/msg/PointCloud2 .* damaged"):
        log.sample(2, "front")
    skipped = [views for views in log.iterate(strict=False) if isinstance(views, Skipped)]
    assert [item.frame for item in skipped] == [2]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder, scene = tmp_path_factory.mktemp("small"), scene_messages(2, (32, 48), ("front",))
    return [
        write_ros1(folder / "a.bag", scene),
        write_ros1(folder / "b.bag", scene, "bz2"),
        write_ros2(folder / "c", scene) / "c.db3",
        write_ros2(folder / "d", scene, "mcap", "storage") / "d.mcap",
        write_foxglove(folder / "e.mcap", scene),
        write_foxglove(folder / "f.mcap", scene, "json", chunked=False),
    ]


@pytest.mark.parametrize("number", range(6))
def test_whatever_the_damage_it_ends_in_a_sentence(tmp_path, small, number):
    """Bytes changed at random, anywhere or near the start: frames, refused frames or a refused file, nothing else."""
    rng, opened = np.random.default_rng(number), 0
    for attempt in range(16):
        content = bytearray(small[number].read_bytes())
        for at in rng.integers(0, len(content) if attempt % 2 else 6000, rng.integers(1, 20)):
            content[at] = rng.integers(256)
        file = tmp_path / f"{attempt}{small[number].suffix}"
        file.write_bytes(content)
        try:
            log = open_log(file)
            log.findings()
            opened += len(list(log.iterate(strict=False))) == len(log.frames)
        except ValueError as error:
            assert str(file) in str(error)
            opened += 1
    assert opened == 16


def test_what_is_no_recording_is_refused_in_one_line(tmp_path, capsys):
    for suffix, rule in ((".bag", "expected a ROS 1 bag"), (".db3", "a ROS 2 bag"), (".mcap", "expected an MCAP file")):
        file = tmp_path / f"a{suffix}"
        for content in (b"", b"no recording" * 20):
            file.write_bytes(content)
            with pytest.raises(ValueError, match=rule):
                open_log(file)
        assert main(["inspect", str(file), "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {file}: ")
    (tmp_path / "a.db3.zstd").write_bytes(b"not packed at all")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        open_log(tmp_path / "a.db3.zstd")


def test_a_recording_of_other_things_is_refused(tmp_path):
    poses = [record("/tf", Pose(START_NS, "odom", "base_link", np.eye(4)))]
    with pytest.raises(ValueError, match="it holds neither images nor points; expected Image"):
        open_log(ros1(tmp_path, poses))


def test_without_the_libraries_the_extra_is_named(tmp_path, monkeypatch, whole):
    import sys

    for name in [name for name in sys.modules if name.startswith(("fusionseg.data.bag.", "rosbags"))]:
        if name not in ("fusionseg.data.bag.log", "fusionseg.data.bag.layout"):
            monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.partition(".")[0] == "rosbags":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"recordings need rosbags\S*; install it: pip install 'fusionseg\[logs\]'"):
        open_log(whole["ros1"])


# -- calibration


def given(tmp_path, content):
    file = tmp_path / "given.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


FRONT = {"K": View(96, 64).K.tolist(), "size": [96, 64], "camera_T_lidar": View(96, 64).camera_T_lidar.tolist()}


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        ("/camera/front/camera_info", "there is no CameraInfo for /camera/front/image_raw"),
        ("/tf_static", r"no fixed transform leads from the points \('lidar'\) to /camera/front/image_raw"),
    ],
)
def test_a_camera_without_calibration_needs_one(tmp_path, capsys, lost, reason):
    messages = [m for m in scene_messages(cameras=("front",), poses=False) if m.topic != lost]
    path = ros1(tmp_path, messages)
    with pytest.raises(
        ValueError,
        match=rf"camera front cannot be used, {reason}.*; give --calibration FILE .*, or --topics /lidar/points",
    ):
        open_log(path)
    log = open_log(path, calibration=given(tmp_path, FRONT))
    sample = log.sample(1, "front")
    np.testing.assert_allclose(sample.camera_T_lidar, View(96, 64).camera_T_lidar)
    np.testing.assert_array_equal(sample.camera.K, View(96, 64).K)
    words = ["inspect", str(path), "--calibration", str(tmp_path / "given.yaml"), "--out", str(tmp_path / "out")]
    assert main(words) in (0, 1)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"--calibration {tmp_path / 'given.yaml'} --video")


def test_one_camera_of_two_without_calibration_is_left_out_and_named(tmp_path, caplog):
    uncalibrated = Info(START_NS, "back_optical", Camera(96, 64, np.eye(3)))
    messages = [m for m in scene_messages() if m.topic != "/camera/back/camera_info"]
    log = open_log(ros1(tmp_path, messages))
    assert log.cameras == ["front"]
    assert "camera back is left out: there is no CameraInfo for /camera/back/image_raw" in caplog.messages
    expected = "there is no CameraInfo for /camera/back/image_raw"
    assert log.findings()["cameras_without_calibration"] == {"back": expected}
    object.__setattr__(uncalibrated.camera, "K", np.zeros((3, 3)))
    log = open_log(
        write_ros2(tmp_path / "zero", in_order([*messages, record("/camera/back/camera_info", uncalibrated)]))
    )
    expected = "/camera/back/camera_info says that the camera is not calibrated (K is 0)"
    assert log.findings()["cameras_without_calibration"] == {"back": expected}
    with pytest.raises(ValueError, match=r"camera 'side' is not in the recording; its cameras are back \(/camera"):
        open_log(tmp_path / "zero", calibration=given(tmp_path, {"cameras": {"side": FRONT}}))


def test_a_calibration_topic_elsewhere_is_found_by_its_frame(tmp_path):
    messages = [
        Message("/calibration/one", m.recorded_ns, m.content) if m.topic == "/camera/front/camera_info" else m
        for m in scene_messages()
    ]
    assert open_log(ros1(tmp_path, messages)).cameras == ["back", "front"]


def test_images_of_another_size_than_their_calibration(tmp_path):
    small = Info(START_NS, "front_optical", Camera(48, 32, View(48, 32).K))
    messages = [m for m in scene_messages() if m.topic != "/camera/front/camera_info"]
    log = open_log(ros1(tmp_path, in_order([*messages, record("/camera/front/camera_info", small)])))
    with pytest.raises(FrameError, match="image is 96x64, its calibration is for 48x32; give --calibration"):
        log.sample(0, "front")
    assert log.sample(0, "back").image is not None


# -- contents


def test_unknown_encodings_and_points_without_intensity(tmp_path):
    messages = []
    for m in scene_messages():
        content = m.content
        if isinstance(content, Cloud):
            points = content.points
            bare = np.zeros(len(points), np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4")]))
            for name in "xyz":
                bare[name] = points[name]
            content = Cloud(content.stamp_ns, content.frame, bare)
        if isinstance(content, Image) and m.topic.startswith("/camera/front"):
            content = Image(content.stamp_ns, content.frame, content.pixels, "hyper64")
        messages.append(record(m.topic, content))
    log = open_log(ros1(tmp_path, messages))
    with pytest.raises(FrameError, match=r"/camera/front/image_raw at 1700000000\.025 s: image encoding 'hyper64'"):
        log.sample(0, "front")
    points = log.sample(0, "back").points_lidar
    np.testing.assert_array_equal(points[:, :3], sweep(0)[0][:, :3])
    assert not points[:, 3].any() and log.findings()["intensity"] == "the points have none"


@pytest.mark.parametrize(("top", "full"), [(0.9, 1), (200, 255), (30_000, 65535)])
def test_intensity_has_one_scale_for_all_sweeps(tmp_path, top, full):
    """The first sweep is dark: alone it would be scaled by 1."""
    clouds = []
    for i, brightest in enumerate((0.5, top, top)):
        points = sweep(i)[0]
        points[:, 3] = np.linspace(0, brightest, len(points))
        clouds.append(record("/points", Cloud(START_NS + i * PERIOD_NS, "lidar", cloud_of(points))))
    log = open_log(ros1(tmp_path, clouds))
    assert log.findings()["intensity"] == f"full scale {full}"
    assert log.sample(0, "virtual_0").points_lidar[:, 3].max() == pytest.approx(0.5 / full)
    assert log.sample(1, "virtual_0").points_lidar[:, 3].max() == pytest.approx(top / full)
    ours = given(tmp_path, {"cameras": {"front": FRONT}, "intensity_max": 100_000})
    scene = write_ros2(tmp_path / "scene", scene_messages())
    assert open_log(scene, calibration=ours).findings()["intensity"] == "full scale 100000"


# -- clocks


def retimed(messages, change):
    """The same messages, each with the stamp that ``change(topic, stamp)`` says; recorded as before."""
    found = []
    for m in messages:
        content = object.__new__(type(m.content))
        content.__dict__.update(m.content.__dict__)
        if m.topic != "/tf_static":
            content.__dict__["stamp_ns"] = change(m.topic, m.content.stamp_ns)
        found.append(Message(m.topic, m.recorded_ns, content))
    return found


def test_stamps_that_were_never_set_give_way_to_times_of_recording(tmp_path):
    log = open_log(ros1(tmp_path, retimed(scene_messages(), lambda topic, ns: 0)))
    assert len(log.frames) == 3
    assert log.findings()["pairing"]["front"]["offsets_ms"] == [25.0, 25.0, 25.0]
    sample = log.sample(2, "front")
    np.testing.assert_allclose(np.linalg.inv(sample.camera_T_lidar)[:3, 3], [0.325, 0, -0.1], atol=1e-6)


def test_a_camera_whose_clock_is_off_is_paired_by_when_it_was_recorded(tmp_path):
    """GPS time is 37 s ahead of UTC; the LiDAR and the poses have the clock of the computer."""
    ahead = 37 * SECOND_NS
    messages = retimed(scene_messages(), lambda topic, ns: ns + ahead * (topic == "/camera/front/image_raw"))
    log = open_log(ros1(tmp_path, messages))
    found = log.findings()
    assert found["times_of_recording_instead_of_stamps"] == ["/camera/front/image_raw"]
    assert found["pairing"]["front"]["offsets_ms"] == found["pairing"]["back"]["offsets_ms"] == [25.0, 25.0, 25.0]
    sample = log.sample(1, "front")
    assert sample.image_time_ns - sample.sweep_time_ns == IMAGE_DELAY_NS
    np.testing.assert_array_equal(sample.image, picture(1.25, View(96, 64))[0])


def test_a_recording_played_again_keeps_its_old_stamps(tmp_path):
    again = [Message(m.topic, m.recorded_ns + 10**6 * SECOND_NS, m.content) for m in scene_messages()]
    log = open_log(ros1(tmp_path, again))
    assert log.findings()["times_of_recording_instead_of_stamps"] == []
    assert log.sample(1, "front").sweep_time_ns == START_NS + PERIOD_NS


def test_a_clock_that_jumps_back_is_counted_and_pairs_what_belongs_together(tmp_path):
    """The simulation starts again after 3 frames: each stamp comes twice, 60 s apart in the recording."""
    first = scene_messages(3)
    later = 60 * SECOND_NS
    second = [Message(m.topic, m.recorded_ns + later, m.content) for m in first]
    second = [
        Message(m.topic, m.recorded_ns, Image(m.content.stamp_ns, m.content.frame, 255 - m.content.pixels))
        if isinstance(m.content, Image)
        else m
        for m in second
    ]
    log = open_log(ros1(tmp_path, first + second))
    assert len(log.frames) == 6
    found = log.findings()
    assert found["clock_jumps"] == dict.fromkeys(found["topics"].values(), 1)
    assert found["pairing"]["front"]["frames_with_image"] == 6 and found["pairing"]["front"]["images_unpaired"] == 0
    for frame in range(3):
        old, new = log.sample(frame, "front"), log.sample(frame + 3, "front")
        np.testing.assert_array_equal(new.image, 255 - old.image)
        assert new.sweep_time_ns == old.sweep_time_ns
        np.testing.assert_allclose(new.camera_T_lidar, old.camera_T_lidar, atol=1e-9)


def test_of_two_messages_with_one_stamp_the_first_counts(tmp_path):
    dark = np.zeros((64, 96, 3), dtype=np.uint8)
    few = cloud_of(sweep(0)[0][:10])
    extra = [
        Message(
            "/camera/front/image_raw", START_NS + 40_000_000, Image(START_NS + IMAGE_DELAY_NS, "front_optical", dark)
        ),
        Message("/lidar/points", START_NS + 41_000_000, Cloud(START_NS, "lidar", few)),
    ]
    log = open_log(ros1(tmp_path, in_order([*scene_messages(), *extra])))
    assert len(log.frames) == 3
    sample = log.sample(0, "front")
    assert len(sample.points_lidar) == len(sweep(0)[0]) and sample.image.any()
    assert log.findings()["messages_with_the_stamp_before"] == {"/lidar/points": 1, "/camera/front/image_raw": 1}


def test_without_poses_nothing_is_compensated_and_that_is_said(tmp_path):
    log = open_log(ros1(tmp_path, scene_messages(poses=False)))
    view = View(96, 64)
    np.testing.assert_allclose(log.sample(1, "front").camera_T_lidar, view.camera_T_lidar, atol=1e-12)
    assert log.findings()["ego_motion"].startswith("not compensated: no transforms lead from the LiDAR to odom or map")


def test_frames_past_the_poses_are_not_compensated(tmp_path):
    """Poses stop after the first of three frames."""
    end = START_NS + PERIOD_NS // 2
    messages = [m for m in scene_messages(8) if not (m.topic == "/tf" and m.content.stamp_ns > end)]
    log = open_log(ros1(tmp_path, messages))
    np.testing.assert_allclose(np.linalg.inv(log.sample(0, "front").camera_T_lidar)[0, 3], 0.325, atol=1e-6)
    np.testing.assert_allclose(np.linalg.inv(log.sample(7, "front").camera_T_lidar)[0, 3], 0.2, atol=1e-6)
    assert log.findings()["ego_motion"] == "compensated by odom, which has a pose for 2 of 8 frames"
