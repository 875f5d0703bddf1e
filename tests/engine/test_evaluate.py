import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeSession

from fusionseg.data.log import FrameError, Log
from fusionseg.data.prepare import View, prepare_frame
from fusionseg.deploy.runtime import Model
from fusionseg.engine.evaluate import NoLabelsError, evaluate, select_frames
from fusionseg.engine.report import format_report
from fusionseg.geometry.camera import Camera
from fusionseg.labels import ClassTable, table_from_sets
from fusionseg.sample import Sample

SIZE = (24, 32)
CAMERA = Camera.from_focal(64, 48, 24, 24, 31.5, 23.5)
AHEAD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
LEFT = AHEAD @ np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
TABLE = table_from_sets(
    "abcd", {name: (9 * i, 0, 0) for i, name in enumerate("abcd")}, (("a", "b"), ("c", "d"), ("b", "c"))
)
# ahead (seen by "ahead" alone), between both axes, to the left, behind (in no view), ahead behind the first (occluded)
POINTS = np.array(
    [[10, -3, 0, 0], [10, 10, 0, 0], [-3, 10, 0, 0], [-10, 0, 0, 0], [40, -12, 0, 0], [np.nan, 0, 0, 0]],
    dtype=np.float32,
)
LABELS = np.array([0, 1, 2, 3, 1, 0], dtype=np.uint8)


class TinyLog(Log):
    """Frames 4, 6, 7 of two cameras that overlap; the loader the tests shape by its attributes."""

    format = "tiny"

    def __init__(self, labels: np.ndarray = LABELS, table: ClassTable = TABLE) -> None:
        self.name, self.path, self.table = "tiny", Path("tiny"), table
        self.frames, self.cameras = [4, 6, 7], ["ahead", "left"]
        self.labels: dict[int, np.ndarray] = dict.fromkeys(self.frames, labels)
        self.dense: np.ndarray | None = None
        self.broken: set[int] = set()
        self.reads = 0

    def sample(self, frame: int, camera_name: str) -> Sample:
        self.reads += 1
        if frame in self.broken:
            raise FrameError(f"{frame}.bin: truncated; copy it again")
        return Sample(
            log=self.name,
            frame=frame,
            camera_name=camera_name,
            camera=CAMERA,
            image=np.zeros((48, 64, 3), dtype=np.uint8) if self.has_images else None,
            points_lidar=POINTS if self.has_lidar else POINTS[:0],
            camera_T_lidar=AHEAD if camera_name == "ahead" else LEFT,
            point_labels=self.labels[frame] if self.has_lidar else None,
            pixel_labels=self.dense,
        )


def model(answers: dict[str, tuple[int, float]], table: ClassTable = TABLE) -> Model:
    return Model(FakeSession(answers), table=table, size=SIZE, name="fake")


def points_of(report: dict, kind: str = "points", setting: str = "both") -> dict:
    return report["sensors"][setting][kind]


def test_each_point_counts_once_with_its_most_confident_view() -> None:
    log = TinyLog()
    for left_is, of_middle in ((0.9, 2), (0.3, 0)):
        report = evaluate(model({"ahead": (0, 0.5), "left": (2, left_is)}), log, frames="4:6", min_count=1)
        figures = points_of(report)
        # the point behind the car and the one that is no number are in no image; the occluded one is
        assert figures["counts"] == {"a": 1, "b": 2, "c": 1, "d": 0}
        hits = {"a": 1 / (2 if of_middle == 2 else 3), "b": 0.0, "c": 1 / (2 if of_middle == 2 else 1), "d": None}
        assert figures["iou"] == pytest.approx(hits)
        assert figures["accuracy"] == pytest.approx(2 / 4)


def test_occluded_points_count_among_all_but_not_among_visible() -> None:
    report = evaluate(model({"ahead": (0, 0.5), "left": (2, 0.4)}), TinyLog(), min_count=1)
    assert points_of(report)["counts"]["b"] == 6
    assert points_of(report, "points_visible")["counts"] == {"a": 3, "b": 3, "c": 3, "d": 0}


def test_a_point_is_visible_if_one_view_that_sees_it_says_so() -> None:
    log = TinyLog()
    prepared = {number: prepare_frame(log.frame(number), SIZE) for number in log.frames}

    def views(number: int, cameras: Sequence[str]) -> list[View]:
        ahead, left = prepared[number]
        hidden = dataclasses.replace(ahead, visible=np.zeros_like(ahead.visible))
        return [hidden, left]

    report = evaluate(model({}), log, views=views, min_count=1)
    assert points_of(report, "points_visible")["counts"] == {"a": 0, "b": 3, "c": 3, "d": 0}


def test_the_three_settings_score_the_same_points() -> None:
    ready = model({"ahead": (0, 0.5), "left": (2, 0.4)})
    report = evaluate(ready, TinyLog(), frames="4:5", min_count=1)
    counts = [points_of(report, setting=name)["counts"] for name in ("both", "camera", "lidar")]
    assert counts[0] == counts[1] == counts[2]
    seen = [(v.image is not None, v.lidar_present) for v in ready.session.seen]  # type: ignore[attr-defined]
    assert seen == [(True, True)] * 2 + [(True, False)] * 2 + [(False, True)] * 2
    assert report["fusion_gain"] == {"over_camera": 0.0, "over_lidar": 0.0}


def test_fusion_gain_is_the_difference_of_miou() -> None:
    class Fused(FakeSession):
        def forward(self, inputs: list[View]):  # type: ignore[no-untyped-def]
            both = all(view.image is not None and view.lidar_present for view in inputs)
            self.answers = {"left": (2, 0.9) if both else (3, 0.9)}
            return super().forward(inputs)

    report = evaluate(Model(Fused({}), table=TABLE, size=SIZE), TinyLog(), min_count=1)
    both, camera = points_of(report)["miou"], points_of(report, setting="camera")["miou"]
    assert both > camera
    assert report["fusion_gain"]["over_camera"] == pytest.approx(both - camera)


def test_ignored_labels_are_never_scored() -> None:
    labels = np.array([0, 255, 255, 3, 255, 0], dtype=np.uint8)
    figures = points_of(evaluate(model({}), TinyLog(labels), min_count=1))
    assert sum(figures["counts"].values()) == 3
    assert figures["accuracy"] == 1.0
    nothing = evaluate(model({}), TinyLog(np.full(6, 255, dtype=np.uint8)))
    assert nothing["sensors"]["both"] == {"points": None, "points_visible": None, "pixels": None}
    assert "no labels to score against" in format_report(nothing)


def test_a_log_without_labels_fails_before_the_model_runs() -> None:
    class Bare(TinyLog):
        def sample(self, frame: int, camera_name: str) -> Sample:
            sample = super().sample(frame, camera_name)
            return sample if frame in self.labelled else dataclasses.replace(sample, point_labels=None)

    log, ready = Bare(), model({})
    log.frames, log.labelled = list(range(4, 104)), set()
    log.labels = dict.fromkeys(log.frames, LABELS)
    with pytest.raises(NoLabelsError, match=r"tiny: no labels in the first 10 frames; choose .*--frames"):
        evaluate(ready, log)
    assert log.reads == 20 and not ready.session.seen  # type: ignore[attr-defined]
    with pytest.raises(NoLabelsError, match="no labels in the first 3 frames"):
        evaluate(ready, log, frames="5:8")
    # the tenth frame has some; and one that cannot be read may have
    log.labelled = {13}
    assert points_of(evaluate(ready, log, frames="4:14", min_count=1))["counts"] == {"a": 1, "b": 2, "c": 1, "d": 0}
    log.labelled, log.broken = set(), {4}
    assert points_of(evaluate(ready, log, frames="4:6", strict=False)) is None
    with pytest.raises(FrameError, match=r"4\.bin"):
        evaluate(ready, log)


def test_classes_the_labels_cannot_tell_apart_are_merged_and_named() -> None:
    labels = np.array([0, 4, 2, 3, 1, 0], dtype=np.uint8)  # 4 is the set a, b
    report = evaluate(model({"ahead": (0, 0.5), "left": (2, 0.4)}), TinyLog(labels), min_count=1)
    assert report["classes"] == ["a|b", "c", "d"]
    assert report["merged"] == [["a", "b"]]
    assert points_of(report)["iou"] == {"a|b": 1.0, "c": 1.0, "d": None}
    assert "do not tell them apart: a and b" in format_report(report)


def test_rare_classes_are_named_and_left_out_of_miou() -> None:
    log = TinyLog()
    report = evaluate(model({"ahead": (1, 0.5), "left": (2, 0.4)}), log, min_count=6)
    figures = points_of(report)
    assert figures["left_out"] == ["a", "c"]
    assert figures["miou"] == figures["iou"]["b"] == pytest.approx(6 / 9)
    assert figures["miou_all"] == pytest.approx((0 + 6 / 9 + 1) / 3)
    assert "* fewer than 6, not in mIoU: a, c" in format_report(report)


def test_pixels_are_scored_at_their_own_size() -> None:
    log = TinyLog()
    log.dense = np.zeros((48, 64), dtype=np.uint8)
    log.dense[:, 16:] = 1
    log.dense[:8] = 255
    report = evaluate(model({"ahead": (1, 0.5), "left": (0, 0.5)}), log, cameras=["ahead"], frames=[6], min_count=1)
    figures = points_of(report, "pixels")
    assert figures["counts"] == {"a": 40 * 16, "b": 40 * 48, "c": 0, "d": 0}
    assert figures["accuracy"] == pytest.approx(0.75)


def test_pixels_are_scored_at_their_own_size_from_a_cache_too() -> None:
    log = TinyLog()
    log.dense = (np.indices((48, 64)).sum(axis=0) % 2).astype(np.uint8)  # a checkerboard that no resize keeps
    plain = evaluate(model({}), log)
    prepared = {number: prepare_frame(log.frame(number), SIZE) for number in log.frames}
    cached = evaluate(model({}), log, views=lambda number, cameras: prepared[number])
    assert points_of(cached, "pixels") == points_of(plain, "pixels")
    assert points_of(cached, "pixels")["counts"]["a"] == 3 * 2 * 48 * 64 / 2


def test_a_log_of_one_sensor_has_that_setting_alone() -> None:
    log = TinyLog()
    log.has_lidar, log.dense = False, np.zeros((48, 64), dtype=np.uint8)
    report = evaluate(model({}), log, min_count=1)
    assert report["sensors"]["both"] is None
    assert report["sensors"]["lidar"] is None
    assert report["sensors"]["camera"]["points"] is None
    assert report["sensors"]["camera"]["pixels"]["miou"] == 1.0
    assert report["fusion_gain"] == {"over_camera": None, "over_lidar": None}
    log = TinyLog()
    log.has_images = False
    report = evaluate(model({}), log)
    assert [name for name, figures in report["sensors"].items() if figures] == ["lidar"]
    with pytest.raises(ValueError, match="tiny holds sweeps alone, sensors are camera"):
        evaluate(model({}), log, sensors=["camera"])


def test_unreadable_frames_are_counted_and_named() -> None:
    log = TinyLog()
    log.broken = {6}
    with pytest.raises(FrameError, match=r"6\.bin"):
        evaluate(model({}), log)
    steps: list[tuple[int, int]] = []
    report = evaluate(model({}), log, strict=False, progress=lambda done, total: steps.append((done, total)))
    assert report["frames"] == {"evaluated": 2, "skipped": [{"frame": 6, "reason": "6.bin: truncated; copy it again"}]}
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert "skipped frame 6: 6.bin: truncated" in format_report(report)


def test_the_oracle_gives_each_point_the_label_of_its_cell() -> None:
    # the occluded point shares a cell with the first in "ahead" alone, and takes its label
    report = evaluate(model({}), TinyLog(), oracle=True, min_count=1)
    figures = report["oracle"]["points"]
    assert figures["iou"] == pytest.approx({"a": 1 / 2, "b": 1 / 2, "c": 1.0, "d": None})
    # with an ignored point in front, the nearest labelled one is taken
    labels = LABELS.copy()
    labels[0] = 255
    figures = evaluate(model({}), TinyLog(labels), oracle=True, min_count=1)["oracle"]["points"]
    assert figures["accuracy"] == 1.0


def test_withheld_points_judge_the_pixels_that_did_without_them() -> None:
    ready = model({"ahead": (0, 0.5), "left": (2, 0.4)})
    report = evaluate(ready, TinyLog(), sensors=("both",), withheld=True, min_count=1)
    seen = [view for view in ready.session.seen if view.measured is not None]  # type: ignore[attr-defined]
    assert len(seen) == 6 and any(view.measured.any() for view in seen)
    asked = [
        (0 if view.camera_name == "ahead" else 2, label)
        for view in seen
        for label in view.labels[~view.measured & view.supervised]
    ]
    figures = report["withheld"]["pixels"]
    assert sum(figures["counts"].values()) == len(asked) > 0
    # labels 0 to 3 stand for one class each in the table of the tiny log
    assert figures["accuracy"] == pytest.approx(np.mean([answer == label for answer, label in asked]))
    assert "pixels at withheld points" in format_report(report)
    log = TinyLog()
    log.has_images = False
    with pytest.raises(ValueError, match="one sensor"):
        evaluate(ready, log, withheld=True)


def test_the_answer_is_plain_json_with_the_keys_of_the_contract() -> None:
    report = evaluate(model({}), TinyLog(), min_count=1)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {"model", "data", "classes", "sensors", "fusion_gain"} <= set(report)
    assert set(report["sensors"]["camera"]) == {"points", "points_visible", "pixels"}
    assert {"miou", "miou_interval", "miou_all", "accuracy", "iou", "counts"} <= set(points_of(report))
    assert list(points_of(report)["iou"]) == report["classes"]
    low, high = points_of(report)["miou_interval"]
    assert low == pytest.approx(high) == pytest.approx(points_of(report)["miou"])  # all frames are the same


def test_the_table_shows_the_settings_side_by_side() -> None:
    lines = format_report(evaluate(model({}), TinyLog(), min_count=1, oracle=True)).splitlines()
    assert lines[0] == "fake on tiny: 3 frames, 2 cameras"
    header = next(line for line in lines if line.startswith("points in view"))
    assert header.split()[3:] == ["count", "camera+lidar", "camera", "lidar", "cell", "oracle"]
    row = next(line for line in lines if line.startswith("a "))
    assert row.split() == ["a", "3", "25.0", "25.0", "25.0", "50.0"]
    assert not any(line.startswith("d ") for line in lines)


@pytest.mark.parametrize(
    ("frames", "chosen"), [(None, [4, 6, 7]), ("4:7", [4, 6]), ("5:", [6, 7]), (":6", [4]), ([7, 4], [7, 4])]
)
def test_frame_ranges_are_half_open_in_the_logs_numbers(frames: str | list[int] | None, chosen: list[int]) -> None:
    assert select_frames(TinyLog(), frames) == chosen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": "4"}, "frames is '4'; expected A:B"),
        ({"frames": "4-7"}, "expected A:B"),
        ({"frames": "-4:7"}, "expected A:B"),
        ({"frames": "4:7:1"}, "expected A:B"),
        ({"frames": "a:b"}, "expected A:B"),
        ({"frames": "7:4"}, "'7:4' selects none; tiny holds 3 frames, 4 to 7"),
        ({"frames": "8:90"}, "selects none"),
        ({"frames": []}, "selects none"),
        ({"frames": [4, 5]}, "frame 5 is not there"),
        ({"cameras": ["ahead", "rear"]}, "camera 'rear' is not in tiny; it has ahead, left"),
        ({"sensors": ["radar"]}, "sensors is 'radar'"),
        ({"sensors": []}, "choose another setting"),
    ],
)
def test_wrong_choices_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(model({}), TinyLog(), **options)


def test_other_classes_than_the_models_are_refused() -> None:
    other = table_from_sets("xy", {"x": (0, 0, 0), "y": (1, 1, 1)})
    with pytest.raises(ValueError, match="open the log with classes=xy"):
        evaluate(model({}, other), TinyLog())
