import numpy as np
import pytest
from make_logs import make_camvid_log, make_pandaset_log, make_plain_log, make_semantickitti_log

from fusionseg.data.files import read_image
from fusionseg.data.open import open_log
from fusionseg.geometry.projection import project
from fusionseg.replay.inspect import Survey, describe, gaps, write_pictures


def survey(log):
    found = Survey(log, log.cameras, log.frames)
    for _ in found.run():
        pass
    return found.facts()


@pytest.mark.parametrize(
    ("frames", "expected"),
    [([5], []), ([1, 2, 3], []), ([0, 4, 5, 9], [[1, 4], [6, 9]]), (range(3, 6), []), ([3, 1], [[2, 3]])],
)
def test_gaps_are_half_open_ranges(frames, expected):
    assert gaps(frames) == expected


def test_facts_of_a_log_with_all_sensors(tmp_path):
    log = open_log(make_pandaset_log(tmp_path, frames=(0, 2, 3)))
    facts = survey(log)
    assert facts["format"] == "pandaset"
    assert facts["frames"] | {"inspected": 3, "unreadable": []} == facts["frames"]
    assert (facts["frames"]["count"], facts["frames"]["gaps"]) == (3, [[1, 2]])
    sample = log.sample(0, "front_camera")
    counts = [len(log.sample(f, "front_camera").points_lidar) for f in log.frames]
    assert facts["lidar"]["points"] == {
        "min": min(counts),
        "median": sorted(counts)[1],
        "max": max(counts),
        "sum": sum(counts),
    }
    seen = [
        len(project(s.points_lidar, s.camera, s.camera_T_lidar).index)
        for s in (log.sample(f, "front_camera") for f in log.frames)
    ]
    assert facts["cameras"]["front_camera"]["points_in_view"] == sorted(seen)[1] > 0
    assert facts["cameras"]["front_camera"]["size"] == [sample.camera.width, sample.camera.height]
    assert sum(facts["point_labels"].values()) == sum(counts)
    lines = describe(facts).splitlines()
    assert lines[0].split() == ["format", "pandaset"]
    assert lines[1].startswith("frames   3 (0 to 3; missing within: 1:2)")
    assert lines[2] == "sensors  2 cameras, LiDAR"


def test_facts_of_sweeps_alone_and_of_images_alone(tmp_path):
    sweeps = survey(open_log(make_semantickitti_log(tmp_path / "s", frames=1, images=False)))
    assert describe(sweeps).splitlines()[2] == "sensors  no cameras, LiDAR"
    images = survey(open_log(make_camvid_log(tmp_path / "c", frames=1), split="val"))
    assert describe(images).splitlines()[2] == "sensors  1 camera, no LiDAR"
    assert images["lidar"] is None and images["point_labels"] is None
    assert sum(images["pixel_labels"].values()) == 48 * 64


def test_points_that_are_not_finite_are_counted(tmp_path):
    folder = make_plain_log(tmp_path, frames=2)
    file = sorted((folder / "sweeps").iterdir())[0]
    points = np.fromfile(file, "<f4").reshape(-1, 4)
    points[[3, 5], [0, 2]] = [np.nan, np.inf]
    points.tofile(file)
    assert survey(open_log(folder))["lidar"]["not_finite"] == 2


def test_unreadable_frames_are_counted_and_named(tmp_path):
    folder = make_plain_log(tmp_path, frames=3)
    sorted((folder / "sweeps").iterdir())[1].write_bytes(b"")
    facts = survey(open_log(folder))
    (bad,) = facts["frames"]["unreadable"]
    assert bad["frame"] == 1 and "empty" in bad["reason"]
    text = describe(facts)
    assert "unreadable frames: 1" in text and bad["reason"] in text
    facts["frames"]["unreadable"] = [{"frame": i, "reason": "torn"} for i in range(1234)]
    text = describe(facts)
    assert text.count("torn") == 10 and "\n  and 1,224 more, see the file of --json\n" in text


def test_pictures_show_points_where_they_project(tmp_path):
    log = open_log(make_plain_log(tmp_path / "log", frames=1))
    (sample,) = log.frame(0)
    paths = write_pictures(tmp_path / "out", [sample], log.table)
    assert [p.name for p in paths] == ["0_front_depth.png", "0_front_class.png", "0_birds_eye.png"]
    drawn = read_image(paths[1])[: sample.camera.height]
    seen = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
    low = seen.uv[:, 1] > 30  # below the title
    u, v = np.rint(seen.uv[low]).astype(int).T
    labels = sample.point_labels[seen.index][low]
    assert (drawn[v, u] == log.table.palette[labels]).all(axis=1).mean() > 0.8
