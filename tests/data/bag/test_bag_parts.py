"""Coordinate frames over time, pairing by time, clocks and the choice of topics, each with known answers."""

import numpy as np
import pytest

from fusionseg.data.bag.clock import Clock, Times
from fusionseg.data.bag.frames import FrameTree, Moment
from fusionseg.data.bag.layout import files_of, is_recording
from fusionseg.data.bag.messages import Link
from fusionseg.data.bag.pairing import pair
from fusionseg.data.bag.topics import Offer, base_of, calibration_topic, choose, is_rectified
from fusionseg.geometry.transform import make_transform, rotation_about_axis

MS = 1_000_000
SECOND = 1000 * MS


def link(parent, child, time_ns=0, x=0.0, yaw_rad=0.0):
    return Link(parent, child, time_ns, (np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)), (x, 0.0, 0.0))


def tree_of(*links, static=()):
    tree = FrameTree()
    for item in static:
        tree.add(item, 0, static=True)
    for item in links:
        tree.add(item, item.stamp_ns, static=False)
    tree.freeze(lambda stamps_ns, recorded_ns: stamps_ns)
    return tree


def at(ns):
    return Moment(ns, ns)


def test_fixed_frames_are_chained_both_ways():
    tree = tree_of(
        static=[link("base", "lidar", x=2.0), link("base", "mast", x=1.0), link("mast", "camera", yaw_rad=np.pi / 2)]
    )
    camera_T_lidar = tree.lookup("camera", "lidar")
    # the lidar is 1 m ahead of the mast, which is to the right of a camera that looks left
    np.testing.assert_allclose(camera_T_lidar[:3, 3], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(camera_T_lidar[:3, :3], rotation_about_axis([0, 0, 1], -np.pi / 2), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("lidar", "camera") @ camera_T_lidar, np.eye(4), atol=1e-12)
    assert tree.lookup("camera", "radar") is None and tree.lookup("moon", "lidar") is None


def test_poses_are_interpolated_and_not_far_beyond_their_ends():
    tree = tree_of(
        link("odom", "base", 0, 0.0), link("odom", "base", 100 * MS, 1.0, 0.2), link("odom", "base", 200 * MS, 3.0, 0.2)
    )
    halfway = tree.lookup("odom", "base", at(50 * MS))
    np.testing.assert_allclose(halfway, make_transform(rotation_about_axis([0, 0, 1], 0.1), [0.5, 0, 0]), atol=1e-12)
    np.testing.assert_allclose(tree.lookup("odom", "base", at(150 * MS))[0, 3], 2.0)
    np.testing.assert_allclose(tree.lookup("odom", "base", at(250 * MS))[0, 3], 4.0)
    np.testing.assert_allclose(tree.lookup("odom", "base", at(-50 * MS))[0, 3], -0.5)
    assert tree.lookup("odom", "base", at(301 * MS)) is None and tree.lookup("odom", "base", at(-101 * MS)) is None
    assert tree.lookup("odom", "base") is None, "without a time a moving frame has no place"


def test_a_gap_between_poses_is_not_bridged():
    tree = tree_of(*(link("odom", "base", t * SECOND, float(t)) for t in (0, 1, 3, 4)))
    assert tree.lookup("odom", "base", at(2 * SECOND)) is None
    np.testing.assert_allclose(tree.lookup("odom", "base", at(SECOND // 2))[0, 3], 0.5)


def test_a_transform_published_again_and_again_is_fixed():
    tree = tree_of(*(link("base", "lidar", t * SECOND, 2.0) for t in range(4)))
    np.testing.assert_allclose(tree.lookup("base", "lidar")[0, 3], 2.0)
    assert tree.fixed_frame("lidar") is None


def test_odom_is_preferred_as_the_frame_at_rest():
    moving = [link("odom", "base", t * 100 * MS, 1.0 * t) for t in range(3)]
    mounted = link("base", "lidar", x=1.0)
    assert tree_of(*moving, static=[mounted]).fixed_frame("lidar") == "odom"
    corrections = [link("map", "odom", t * 100 * MS, 0.3 * t) for t in range(3)]
    assert tree_of(*moving, *corrections, static=[mounted]).fixed_frame("lidar") == "odom"
    in_map = [link("map", "base", t * 100 * MS, 1.0 * t) for t in range(3)]
    assert tree_of(*in_map, static=[mounted]).fixed_frame("lidar") == "map"


def test_a_circle_of_frames_and_numbers_that_are_none_do_no_harm():
    broken = Link("base", "lidar", 0, (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    away = Link("base", "lidar", 0, (1.0, 0.0, 0.0, 0.0), (np.nan, 0.0, 0.0))
    tree = tree_of(broken, away, static=[link("a", "b", x=1.0), link("b", "c", x=1.0), link("c", "a", x=5.0)])
    np.testing.assert_allclose(tree.lookup("a", "b")[0, 3], 1.0)
    assert tree.lookup("base", "lidar") is None


def test_after_a_jump_back_poses_of_the_other_pass_are_not_used():
    tree = FrameTree()
    for again, start in ((0, 0.0), (60 * SECOND, 500.0)):
        for t in range(3):
            tree.add(link("odom", "base", t * 100 * MS, start + t), again + t * 100 * MS, static=False)
    tree.freeze(lambda stamps_ns, recorded_ns: stamps_ns)
    np.testing.assert_allclose(tree.lookup("odom", "base", Moment(150 * MS, 150 * MS))[0, 3], 1.5)
    np.testing.assert_allclose(tree.lookup("odom", "base", Moment(150 * MS, 60 * SECOND))[0, 3], 501.5)


def times(*taken_ms, delay_ms=0):
    taken = np.array(taken_ms, dtype=np.int64) * MS
    return Times(taken, taken + delay_ms * MS)


def test_the_nearest_image_within_the_tolerance():
    found = pair(times(0, 100, 200, 300), times(-50, 30, 160, 351), 50 * MS)
    assert found.index.tolist() == [1, -1, 2, -1]
    assert found.offset_ns.tolist() == [30 * MS, 0, -40 * MS, 0]
    assert found.findings() == {
        "frames_with_image": 2,
        "frames_without_image": 2,
        "images_unpaired": 2,
        "offset_ms": {"min": -40.0, "median": -5.0, "max": 30.0},
        "offsets_ms": [30.0, None, -40.0, None],
    }


def test_pairing_at_its_edges():
    assert pair(times(100), times(50, 150), 50 * MS).index.tolist() == [0], "the earlier of two as near"
    assert pair(times(100), times(), 50 * MS).index.tolist() == [-1]
    assert pair(times(), times(100), 50 * MS).findings()["offset_ms"] is None
    assert pair(times(100, 120), times(110), 50 * MS).index.tolist() == [0, 0], "one image may serve two sweeps"
    assert pair(times(100), times(110, delay_ms=60_000), 50 * MS).index.tolist() == [-1], "recorded a minute apart"
    assert pair(times(0, 100), times(100, 0), 0).index.tolist() == [1, 0], "images need not come in order"


def test_clocks_agree_or_give_way_to_times_of_recording():
    recorded = np.arange(10, dtype=np.int64) * 100 * MS + 10**6 * SECOND
    clock = Clock(recorded - 5 * SECOND, recorded)
    near = recorded - 5 * SECOND + 20 * MS
    assert clock.agrees(near, recorded)
    np.testing.assert_array_equal(clock.taken(near, recorded), near)
    off = recorded - 42 * SECOND
    assert not clock.agrees(off, recorded)
    np.testing.assert_array_equal(clock.taken(off, recorded), recorded - 5 * SECOND)
    unset = Clock(np.zeros(10, dtype=np.int64), recorded)
    np.testing.assert_array_equal(unset.taken(np.zeros(10, dtype=np.int64), recorded), recorded)
    one = Clock(recorded[:1] - 5 * SECOND, recorded[:1])
    np.testing.assert_array_equal(one.taken(off, recorded), recorded - 5 * SECOND)


def test_a_clock_that_jumps_half_way_still_agrees_with_one_that_jumps_with_it():
    recorded = np.arange(10, dtype=np.int64) * 100 * MS + 10**6 * SECOND
    jumped = recorded + np.repeat([0, 37], 5) * SECOND
    clock = Clock(jumped, recorded)
    assert clock.agrees(jumped[4:] + 5 * MS, recorded[4:] + 5 * MS)
    assert Times(jumped, recorded).jumps() == 1 and Times(recorded, recorded).jumps() == 0


def test_messages_in_a_row_with_one_stamp():
    assert times(0, 0, 1, 1, 1, 0).first_of_a_stamp().tolist() == [True, False, True, False, False, True]


@pytest.mark.parametrize(
    ("topic", "base"),
    [
        ("/camera/front/image_raw/compressed", "/camera/front"),
        ("/image_02/image_raw", "/image_02"),
        ("/left/image_rect_color", "/left"),
        ("/CAM_FRONT/image_rect_compressed", "/CAM_FRONT"),
        ("/image_raw", "/"),
        ("/camera/front", "/camera/front"),
    ],
)
def test_the_base_of_an_image_topic(topic, base):
    assert base_of(topic) == base


def test_what_is_rectified():
    assert all(map(is_rectified, ("/left/image_rect", "/left/image_rect_color", "/rectified/image")))
    assert not any(map(is_rectified, ("/left/image_raw", "/direct/image", "/rectangle/image_raw")))


def test_camera_names_are_short_unless_that_is_ambiguous():
    def names(*topics):
        return choose(dict.fromkeys(topics, Offer(1, 1)), {}).cameras

    assert names("/a/front/image_raw", "/a/back/image_raw") == {
        "front": "/a/front/image_raw",
        "back": "/a/back/image_raw",
    }
    assert sorted(names("/left/color/image_raw", "/right/color/image_raw")) == ["left_color", "right_color"]
    assert names("/image_raw/compressed") == {"camera": "/image_raw/compressed"}


def test_the_busiest_and_fullest_cloud_is_the_lidar():
    clouds = {"/raw": Offer(100, 100_000), "/filtered": Offer(100, 20_000), "/map": Offer(2, 90_000)}
    assert choose({}, clouds).lidar == "/raw"
    assert choose({}, {"/map": Offer(2, 90_000)}).lidar == "/map"
    assert choose({}, {}).lidar is None


def test_what_is_named_is_read_and_nothing_else():
    images = {"/a/image_raw": Offer(9, 9), "/b/image_raw": Offer(9, 9), "/depth/image": Offer(9, 9, depth=True)}
    found = choose(images, {"/points": Offer(9, 9)})
    assert (sorted(found.cameras), found.lidar) == (["a", "b"], "/points")
    assert found.left_out == {"/depth/image": "holds no colours"}
    named = choose(images, {"/points": Offer(9, 9)}, ["/b/image_raw"])
    assert (named.cameras, named.lidar) == ({"b": "/b/image_raw"}, None)
    assert set(named.left_out) == {"/a/image_raw", "/depth/image", "/points"}


def test_the_calibration_beside_an_image_wins():
    known = {"/camera/front/camera_info": "optical", "/other": "optical", "/image_info": "", "/camera_info": "x"}
    assert calibration_topic("/camera/front/image_raw", "optical", known) == "/camera/front/camera_info"
    assert calibration_topic("/image_raw", "y", {"/camera_info": "x"}) == "/camera_info"
    assert calibration_topic("/elsewhere/image", "optical", {"/other": "optical"}) == "/other"
    assert calibration_topic("/elsewhere/image", "optical", known) is None, "two speak of that frame"
    assert calibration_topic("/elsewhere/image", "", {"/other/place": ""}) is None


def test_files_of_a_recording(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \.bag, \.db3, \.mcap file in it"):
        files_of(tmp_path)
    for number in (0, 2, 10):
        (tmp_path / f"drive_{number}.db3.zstd").touch()
    (tmp_path / "metadata.yaml").touch()
    assert [file.name for file in files_of(tmp_path)] == [f"drive_{n}.db3.zstd" for n in (0, 2, 10)]
    assert is_recording(tmp_path) and is_recording(tmp_path / "drive_0.db3.zstd")
    assert not is_recording(tmp_path / "metadata.yaml") and not is_recording(tmp_path / "none.bag")
