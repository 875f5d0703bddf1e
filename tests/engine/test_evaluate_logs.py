"""Figures of logs as they lie on disk, against what their files say: points, pixels, sky, and each sensor alone."""

from pathlib import Path

import numpy as np
import pytest
from fakes import FakeSession

from fusionseg.data.log import Log
from fusionseg.data.open import open_log
from fusionseg.deploy.runtime import SENSORS, Model, load
from fusionseg.engine.evaluate import evaluate
from fusionseg.labels import DRIVING12
from fusionseg.sample import Sample

SIZE = (64, 96)
ROAD, SKY = DRIVING12.names.index("road"), DRIVING12.names.index("sky")


def in_image(sample: Sample) -> np.ndarray:
    """(N,) which points lie inside the image and before the camera, by hand."""
    x, y, z = (sample.points_lidar[:, :3] @ sample.camera_T_lidar[:3, :3].T + sample.camera_T_lidar[:3, 3]).T
    K, front = sample.camera.K, z > 0.5
    z = np.where(front, z, 1)
    column, row = np.rint(K[0, 0] * x / z + K[0, 2]), np.rint(K[1, 1] * y / z + K[1, 2])
    return front & (column >= 0) & (column < sample.camera.width) & (row >= 0) & (row < sample.camera.height)


def labels_in_view(log: Log) -> tuple[np.ndarray, np.ndarray]:
    """(256,) how often each label occurs among the points in any image, each once a sweep, and among the pixels."""
    points, pixels = np.zeros(256, int), np.zeros(256, int)
    for frame in log.frames:
        samples = log.frame(frame)
        seen = np.any([in_image(sample) for sample in samples], axis=0)
        points += np.bincount(samples[0].point_labels[seen], minlength=256)
        for sample in samples:
            if sample.pixel_labels is not None:
                pixels += np.bincount(sample.pixel_labels.reshape(-1), minlength=256)
    points[255] = pixels[255] = 0
    return points, pixels


def counted(labels: np.ndarray, classes: list[str]) -> list[int]:
    """How many labels each class (or merged group, ``car|large_vehicle``) of a report has."""
    groups = [{DRIVING12.names.index(name) for name in group.split("|")} for group in classes]
    members = [set(np.flatnonzero(row).tolist()) for row in DRIVING12.membership[: len(labels)]]
    return [
        int(sum(labels[label] for label, of in enumerate(members) if of and of <= group and label != 255))
        for group in groups
    ]


@pytest.mark.parametrize("answer", [ROAD, SKY])
def test_figures_are_those_of_the_files(any_log: Path, answer: int) -> None:
    """A model that calls everything road is right about what is road, in every setting and of both kinds."""
    log = open_log(any_log)
    report = evaluate(Model(FakeSession({}, (answer, 0.5)), table=log.table, size=SIZE), log, min_count=1)
    points, pixels = labels_in_view(log)
    name = DRIVING12.names[answer]
    for setting in SENSORS:
        for kind, labels in (("points", points), ("pixels", pixels)):
            figures = report["sensors"][setting][kind]
            if not labels.any():
                assert kind == "pixels" and figures is None
                continue
            counts = counted(labels, report["classes"])
            assert sum(counts) == labels.sum() > 5000
            # a point on the very border of an image may round to either side
            assert list(figures["counts"].values()) == pytest.approx(counts, abs=3 if kind == "points" else 0)
            right = labels[answer] / labels.sum()
            assert figures["accuracy"] == pytest.approx(right, abs=1e-3)
            assert figures["iou"][name] == (pytest.approx(right, abs=1e-3) if labels[answer] else None)
    assert points[SKY] == 0 and points[ROAD] > 1000


def test_a_generated_log_has_sky_in_its_pixels(generated_log: Path) -> None:
    _, pixels = labels_in_view(open_log(generated_log))
    assert pixels[SKY] > 10_000 and pixels[ROAD] > 10_000


def test_the_shipped_student_is_scored_with_each_sensor(generated_log: Path) -> None:
    log = open_log(generated_log)
    report = evaluate(load("student", threads=1), log, frames=log.frames[:2], min_count=500)
    for kind in ("points", "points_visible", "pixels"):
        figures = [report["sensors"][setting][kind] for setting in SENSORS]
        assert figures[0]["counts"] == figures[1]["counts"] == figures[2]["counts"]
        assert figures[0]["miou"] > 0.35
        # the sensors do not say the same: a setting that was ignored would
        assert len({tuple(one["iou"].values()) for one in figures}) == 3
    assert report["sensors"]["both"]["pixels"]["iou"]["sky"] > 0.7
    both, camera = (report["sensors"][setting]["points"]["miou"] for setting in ("both", "camera"))
    assert report["fusion_gain"]["over_camera"] == pytest.approx(both - camera)
