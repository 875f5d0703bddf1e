"""The doctor's checks, each with a healthy case and the sick one that it is for."""

import dataclasses

import numpy as np
import pytest
from scene import SENSOR_HEIGHT_M, View, picture, sweep

from fusionseg.geometry.camera import Camera
from fusionseg.label_maps import class_table
from fusionseg.replay.doctor import Doctor, labels_check
from fusionseg.replay.doctor_check import Check, table, worst
from fusionseg.replay.doctor_points import finite_check
from fusionseg.replay.doctor_times import stream_check
from fusionseg.sample import Sample

MS = 1_000_000
FACTS = {
    "frames": {"unreadable": [], "gaps": [], "inspected": 1},
    "lidar": {"not_finite": 0, "points": {"sum": 1}},
    "cameras": {"front": {"virtual": False, "images": 1}},
    "findings": {},
}


@pytest.fixture(scope="module")
def sample():
    view = View(96, 64)
    return Sample(
        log="log",
        frame=0,
        camera_name="front",
        camera=Camera(view.width, view.height, view.K),
        image=picture(0, view)[0],
        points_lidar=sweep(0, rows=60, columns=720)[0],
        camera_T_lidar=view.camera_T_lidar,
    )


def check_of(name, sample, **facts):
    doctor = Doctor(["front"], [0])
    doctor.add([sample])
    (found,) = [check for check in doctor.checks(FACTS | facts) if check.name == name]
    return found


def stamps(*ms, frames=None):
    return stream_check("lidar", np.array(range(len(ms)) if frames is None else frames), np.array(ms) * MS)


def test_stamps_in_step_are_fine():
    found = stamps(0, 100, 201, 300, 400)
    assert (found.status, found.values["missing"]) == ("OK", 0)
    assert found.values["period_ms"] == pytest.approx(100, abs=1)


def test_dropped_messages_are_counted():
    found = stamps(0, 100, 200, 500, 600, 800)
    assert found.status == "WARN"
    assert (found.values["missing"], found.values["gaps"]) == (3, 2)
    assert "3 messages missing in 2 gaps" in found.measured


def test_a_gap_that_the_numbering_has_too_is_the_logs():
    assert stamps(0, 100, 200, 500, 600, frames=[0, 1, 2, 5, 6]).status == "OK"


def test_jitter_is_measured():
    found = stamps(0, 100, 200, 330, 400, 500)
    assert found.status == "WARN" and found.values["jitter_ms"] > 20


@pytest.mark.parametrize("last", [200, 150])
def test_a_clock_that_stands_or_runs_back_fails(last):
    found = stamps(0, 100, 200, last)
    assert found.status == "FAIL" and found.values["backwards"] == 1


@pytest.mark.parametrize(("late_ms", "status"), [(10, "OK"), (-90, "WARN")])
def test_sensors_out_of_step(sample, late_ms, status):
    late = dataclasses.replace(sample, image_time_ns=1000 * MS, sweep_time_ns=(1000 + late_ms) * MS)
    found = check_of("time offset", late)
    assert found.status == status and found.values["median_ms"] == late_ms


def test_time_offset_is_that_of_the_main_lidar_in_view(sample):
    count = len(sample.points_lidar)
    second = np.arange(count) % 3 == 0
    times = np.where(second, 0.2, np.where(sample.points_lidar[:, 0] > 0, 0.01, 0.09)).astype(np.float32)
    found = check_of("time offset", dataclasses.replace(sample, time_offset_s=times, lidar_id=second.astype(np.uint8)))
    assert found.values["median_ms"] == pytest.approx(10, abs=0.01)


def test_axes_and_ground_of_a_healthy_log(sample):
    assert check_of("axes", sample).status == "OK"
    ground = check_of("ground", sample)
    assert ground.status == "OK"
    assert ground.values["height_m"] == pytest.approx(SENSOR_HEIGHT_M, abs=0.05)
    assert ground.values["tilt_deg"] < 0.5
    assert check_of("forward", sample).values["front"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("turn", "up"),
    [
        ([[0, -1, 0], [0, 0, -1], [1, 0, 0]], "-y"),  # the camera's axes
        ([[1, 0, 0], [0, 0, -1], [0, 1, 0]], "-y"),
        ([[1, 0, 0], [0, 0, 1], [0, -1, 0]], "y"),
        ([[1, 0, 0], [0, -1, 0], [0, 0, -1]], "-z"),
    ],
)
def test_turned_axes_fail_and_the_true_up_is_named(sample, turn, up):
    points = sample.points_lidar.copy()
    points[:, :3] = points[:, :3] @ np.array(turn, dtype=np.float32).T
    found = check_of("axes", dataclasses.replace(sample, points_lidar=points))
    assert found.status == "FAIL" and f"along {up}," in found.measured


def test_ground_at_an_odd_height(sample):
    points = sample.points_lidar + np.float32([0, 0, -1.5, 0])
    found = check_of("ground", dataclasses.replace(sample, points_lidar=points))
    assert found.status == "WARN" and found.values["height_m"] == pytest.approx(SENSOR_HEIGHT_M + 1.5, abs=0.05)


@pytest.mark.parametrize(("scale", "status"), [(0.3, "OK"), (0.0, "WARN"), (2.5, "WARN")])
def test_intensity_beside_the_training_data(sample, scale, status):
    points = sample.points_lidar.copy()
    points[:, 3] = np.minimum(scale * np.linspace(0, 1, len(points)), 1)
    found = check_of("intensity", dataclasses.replace(sample, points_lidar=points))
    assert found.status == status
    assert found.values["median"] == pytest.approx(min(1, scale / 2), abs=0.01)


def test_a_camera_that_sees_no_point_fails(sample):
    behind = sample.points_lidar[sample.points_lidar[:, 0] < -1]
    found = check_of("overlap", dataclasses.replace(sample, points_lidar=behind))
    assert found.status == "FAIL" and found.measured == "no point in view"
    assert check_of("overlap", sample).values["columns"] > 0.9


def test_a_camera_pose_that_is_upside_down_or_inverse(sample):
    assert check_of("upright", sample).status == "OK"
    over = np.diag([-1.0, -1.0, 1.0, 1.0]) @ sample.camera_T_lidar
    assert check_of("upright", dataclasses.replace(sample, camera_T_lidar=over)).status == "FAIL"
    inverse = np.linalg.inv(sample.camera_T_lidar)
    assert check_of("upright", dataclasses.replace(sample, camera_T_lidar=inverse)).status != "OK"


def test_no_camera_ahead_is_worth_a_word(sample):
    left = View(96, 64, np.pi / 2)
    found = check_of("forward", dataclasses.replace(sample, camera_T_lidar=left.camera_T_lidar))
    assert found.status == "WARN" and found.values["front"] == pytest.approx(90, abs=1)


def test_images_too_coarse_for_edges_are_not_judged(sample):
    found = check_of("calibration", sample)
    assert found.status == "SKIP" and "a pixel is 1.2 degrees" in found.measured


@pytest.mark.parametrize(("broken", "status"), [(0, "OK"), (5, "OK"), (30, "WARN"), (600, "FAIL")])
def test_points_that_are_not_finite(broken, status):
    assert finite_check(broken, 1000).status == status


def test_frames_and_images_that_are_missing(sample):
    frames = {"unreadable": [], "gaps": [[3, 5]], "inspected": 10}
    assert check_of("frames", sample, frames=frames).values == {"unreadable": 0, "missing": 2}
    assert check_of("frames", sample, frames=frames).status == "WARN"
    assert check_of("images", sample, frames=frames).status == "WARN"
    bad = {"unreadable": [{"frame": 1, "reason": "empty"}], "gaps": [], "inspected": 2}
    assert check_of("frames", sample, frames=bad).status == "FAIL"
    assert check_of("images", sample, frames=bad).status == "OK"


def test_what_a_recording_lacks(sample):
    fine = {"not_readable": [], "clock_jumps": {}, "left_out": ["/radar"]}
    assert check_of("recording", sample, findings=fine).status == "OK"
    found = check_of("recording", sample, findings=fine | {"clock_jumps": {"/lidar": 2}})
    assert found.status == "WARN" and "clock jumps: /lidar" in found.measured


def counts(**at):
    found = np.zeros(256, dtype=np.int64)
    for value, count in at.items():
        found[int(value[1:])] = count
    return found


def test_labels_are_checked_for_coverage_and_ids():
    names = class_table("driving12")
    assert labels_check("points", counts(), names, 0, 3) is None
    assert labels_check("points", counts(_0=80, _255=20), names, 3, 3).status == "OK"
    thin = labels_check("points", counts(_0=20, _255=80), names, 3, 3)
    assert thin.status == "WARN" and thin.values["share"] == pytest.approx(0.2)
    assert labels_check("points", counts(_0=80), names, 2, 3).status == "WARN"
    illegal = labels_check("points", counts(_0=80, _200=1), names, 3, 3)
    assert illegal.status == "FAIL" and illegal.values["illegal"] == [200]


def test_the_table_names_rule_and_fix_of_what_is_broken_only():
    checks = [
        Check("stamps", "lidar", "OK", "10 Hz", "no gaps", "look", {}),
        Check("axes", "lidar", "FAIL", "up is y", "up is z", "turn", {}),
        Check("calibration", "front", "SKIP", "no edges", "edges", "more frames", {}),
    ]
    assert worst(checks) == "FAIL" and worst(checks[::2]) == "OK" and worst([]) == "SKIP"
    lines = table(checks).splitlines()
    assert lines[0] == "checks: 1 FAIL, 1 OK, 1 SKIP"
    assert [line.split()[0] for line in lines[1:]] == ["OK", "FAIL", "expected:", "SKIP"]
    assert lines[3].strip() == "expected: up is z; fix: turn"
