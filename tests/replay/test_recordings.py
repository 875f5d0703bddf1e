"""Recordings for other programs, read back: MCAP with Foxglove's schemas, rerun, coloured clouds."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from make_logs import make_plain_log, make_semantickitti_log

from fusionseg.cli import main
from fusionseg.data.open import open_log
from fusionseg.data.open3d_import import import_open3d
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import compose, invert, make_transform, rotation_from_quaternion
from fusionseg.replay import pipeline
from fusionseg.replay.mcap_sink import POINT, distortion_model
from fusionseg.replay.parts import Parts
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan

FRAMES = 5


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings") / "log"
    return open_log(make_plain_log(folder, frames=FRAMES, cameras=("front", "left")))


def record(log, model, out, stopped_at=None, **sinks):
    """A replay with these sinks, stopped after so many frames and resumed."""
    plan, done = Plan(frames=log.frames, cameras=log.cameras, sensors="camera", **sinks), []

    def press(note):
        done.append(note)
        if len(done) == stopped_at:
            os.kill(os.getpid(), signal.SIGINT)

    summary = replay(log, model, out, plan, press)
    if stopped_at:
        assert summary["interrupted"] and summary["frames"]["written"] < FRAMES
        summary = replay(log, model, out, plan, press, resume=True)
    assert summary["frames"]["written"] == len(done) == FRAMES
    return out


def labels_of(out, frame):
    return np.frombuffer((out / "labels" / f"{frame:06d}.label").read_bytes(), "<u4")


class Fields:
    """A protobuf message read by the numbers of its fields, without its schema."""

    def __init__(self, data):
        self.values, at = {}, 0
        while at < len(data):
            key, at = self._varint(data, at)
            number, kind = key >> 3, key & 7
            if kind == 0:
                value, at = self._varint(data, at)
            elif kind == 2:
                size, at = self._varint(data, at)
                value, at = data[at : at + size], at + size
            else:
                size = {1: 8, 5: 4}[kind]
                value, at = data[at : at + size], at + size
            self.values.setdefault(number, []).append(value)

    @staticmethod
    def _varint(data, at):
        value = shift = 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value, at

    def __getitem__(self, number):
        return self.values[number][0]

    def doubles(self, number):
        return np.frombuffer(b"".join(self.values[number]), "<f8")


def messages(path):
    """(topic, schema, log time, fields) of every message, in the order of the file."""
    reader = pytest.importorskip("mcap.reader", reason="needs the extra viz")
    with path.open("rb") as file:
        found = reader.make_reader(file).iter_messages(log_time_order=False)
        return [
            (channel.topic, schema.name, message.log_time, Fields(message.data)) for schema, channel, message in found
        ]


@pytest.mark.parametrize("stopped_at", [None, 2])
def test_mcap_holds_cloud_images_calibration_and_places(tmp_path, monkeypatch, tiny_model, log, stopped_at):
    pytest.importorskip("foxglove", reason="needs the extra viz")
    monkeypatch.setattr(pipeline, "CHECKPOINT_FRAMES", 2)
    out = record(log, tiny_model, tmp_path / "out", stopped_at, mcap=True)
    assert sorted(path.name for path in out.iterdir() if "mcap" in path.name) == ["replay.mcap"]
    found = messages(out / "replay.mcap")
    schemas = {topic: schema for topic, schema, _, _ in found}
    assert schemas == {
        "/points": "foxglove.PointCloud",
        "/tf": "foxglove.FrameTransform",
        **{f"/{name}/{kind}": "foxglove.CompressedImage" for name in log.cameras for kind in ("image", "labels")},
        **{f"/{name}/calibration": "foxglove.CameraCalibration" for name in log.cameras},
    }
    clouds = [(time_ns, fields) for topic, _, time_ns, fields in found if topic == "/points"]
    assert len(clouds) == FRAMES and len(found) == FRAMES * (1 + 4 * 2)
    for frame, (time_ns, fields) in zip(log.frames, clouds, strict=True):
        sample = log.frame(frame)[0]
        assert time_ns == sample.sweep_time_ns
        points = np.frombuffer(fields[6], POINT)
        np.testing.assert_array_equal(points["x"], sample.points_lidar[:, 0])
        np.testing.assert_array_equal(points["intensity"], sample.points_lidar[:, 3])
        labels = labels_of(out, frame)
        np.testing.assert_array_equal(points["label"], labels)
        colours = np.stack([points[name] for name in ("red", "green", "blue")], axis=1)
        np.testing.assert_array_equal(colours, tiny_model.table.palette[labels])
        assert int.from_bytes(fields[4], "little") == POINT.itemsize == 21


def test_mcap_says_where_the_cameras_stand_and_what_they_see(tmp_path, tiny_model, log):
    pytest.importorskip("foxglove", reason="needs the extra viz")
    out = record(log, tiny_model, tmp_path / "out", mcap=True)
    latest = {}
    for topic, _, _, fields in messages(out / "replay.mcap"):
        latest[topic if topic != "/tf" else f"/tf/{fields[3].decode()}"] = fields
    for sample in log.frame(log.frames[-1]):
        name = sample.camera_name
        # the image is small enough to be kept as it is
        np.testing.assert_allclose(latest[f"/{name}/calibration"].doubles(6).reshape(3, 3), sample.camera.K)
        pose = latest[f"/tf/{name}"]
        assert pose[2] == b"lidar"
        moved, turned = Fields(pose[4]), Fields(pose[5])
        place = [np.frombuffer(moved.values.get(i, [bytes(8)])[0], "<f8")[0] for i in (1, 2, 3)]
        x, y, z, w = (np.frombuffer(turned.values.get(i, [bytes(8)])[0], "<f8")[0] for i in (1, 2, 3, 4))
        lidar_T_camera = make_transform(rotation_from_quaternion([w, x, y, z]), place)
        np.testing.assert_allclose(lidar_T_camera, invert(sample.camera_T_lidar), atol=1e-9)
        np.testing.assert_allclose(compose(sample.camera_T_lidar, lidar_T_camera), np.eye(4), atol=1e-9)
        shown = cv2.imdecode(np.frombuffer(latest[f"/{name}/image"][2], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(shown.astype(int) - sample.image).mean() < 6
        assert latest[f"/{name}/labels"][2] != latest[f"/{name}/image"][2]


@pytest.mark.parametrize(
    ("camera", "name"),
    [
        (Camera.from_focal(8, 8, 5, 5, 4, 4), "plumb_bob"),
        (Camera.from_focal(8, 8, 5, 5, 4, 4, distortion=np.full(8, 0.1)), "rational_polynomial"),
        (Camera.from_focal(8, 8, 5, 5, 4, 4, model="fisheye", distortion=np.zeros(4)), "kannala_brandt"),
    ],
)
def test_camera_models_have_the_names_that_foxglove_knows(camera, name):
    assert distortion_model(camera) == name


def test_a_sweep_without_images_is_recorded(tmp_path, tiny_model):
    pytest.importorskip("foxglove", reason="needs the extra viz")
    log = open_log(make_semantickitti_log(tmp_path / "log", frames=1, images=False))
    replay(log, tiny_model, tmp_path / "out", Plan(frames=log.frames, cameras=log.cameras, mcap=True, ply=True))
    assert [topic for topic, *_ in messages(tmp_path / "out" / "replay.mcap")] == ["/points"]


@pytest.mark.parametrize("stopped_at", [None, 2])
def test_rerun_holds_every_frame_once(tmp_path, monkeypatch, tiny_model, log, stopped_at):
    reader = pytest.importorskip("rerun.chunk", reason="needs the extra rerun").RrdReader
    monkeypatch.setattr(pipeline, "CHECKPOINT_FRAMES", 2)
    out = record(log, tiny_model, tmp_path / "out", stopped_at, rerun=True)
    path = out / "replay.rrd"
    assert sorted(p.name for p in out.iterdir() if "rrd" in p.name) == ["replay.rrd"]
    verified = subprocess.run([sys.executable, "-m", "rerun", "rrd", "verify", path], capture_output=True, check=False)
    assert verified.returncode == 0, verified.stderr
    chunks = read_rrd(path)
    rows = [row for chunk in chunks["/world/points"] for row in zip(*columns(chunk), strict=True)]
    assert sorted(frame for frame, *_ in rows) == list(log.frames)
    for frame, time, labels, positions in rows:
        sample = log.frame(frame)[0]
        assert time.value == sample.sweep_time_ns
        np.testing.assert_array_equal(labels, labels_of(out, frame))
        np.testing.assert_array_equal(np.array(positions), sample.points_lidar[:, :3])
    names = {
        entity: {name for chunk in found for name in chunk.to_record_batch().schema.names}
        for entity, found in chunks.items()
    }
    assert {"ViewCoordinates:xyz", "AnnotationContext:context"} <= names["/world"]
    for name in log.cameras:
        assert {"Pinhole:image_from_camera", "Transform3D:mat3x3"} <= names[f"/world/cameras/{name}"]
        assert "EncodedImage:blob" in names[f"/world/cameras/{name}/image"]
        assert "SegmentationImage:buffer" in names[f"/world/cameras/{name}/labels"]
    assert len(reader(path).blueprints()) == len(reader(path).recordings()) == 1


def read_rrd(path):
    """Entity -> its chunks."""
    from rerun.chunk import RrdReader

    found = {}
    for chunk in RrdReader(path).stream().to_chunks():
        found.setdefault(chunk.entity_path, []).append(chunk)
    return found


def columns(chunk):
    batch = chunk.to_record_batch()
    names = ("frame", "time", "Points3D:class_ids", "Points3D:positions")
    return [batch.column(batch.schema.names.index(name)).to_pylist() for name in names]


@pytest.mark.parametrize("formats", [("ply",), ("pcd", "ply")])
def test_clouds_have_places_colours_and_labels(tmp_path, tiny_model, log, formats):
    out = record(log, tiny_model, tmp_path / "out", **dict.fromkeys(formats, True))
    open3d = import_open3d()
    names = [f"{frame:06d}.{suffix}" for frame in log.frames for suffix in formats]
    assert sorted(path.name for path in (out / "clouds").iterdir()) == names
    for frame in log.frames[:2]:
        cloud = open3d.t.io.read_point_cloud(str(out / "clouds" / f"{frame:06d}.{formats[0]}")).point
        points = log.frame(frame)[0].points_lidar
        np.testing.assert_array_equal(cloud.positions.numpy(), points[:, :3])
        labels = labels_of(out, frame)
        np.testing.assert_array_equal(cloud.label.numpy()[:, 0], labels)
        np.testing.assert_array_equal(cloud.colors.numpy(), tiny_model.table.palette[labels])
        np.testing.assert_array_equal(cloud.intensity.numpy()[:, 0], points[:, 3])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(("sink", "package"), [("mcap", "foxglove"), ("rerun", "rerun")])
def test_a_full_disk_is_one_error_that_names_the_file(tmp_path, monkeypatch, tiny_model, log, sink, package):
    pytest.importorskip(package, reason="needs the extra viz or rerun")
    (tmp_path / "draft").symlink_to("/dev/full")
    monkeypatch.setattr(Parts, "draft", lambda parts, position: tmp_path / "draft")
    threads = threading.active_count()
    with pytest.raises(ValueError, match=r"replay\.\w+: cannot be written \(No space left on device\)"):
        record(log, tiny_model, tmp_path / "out", **{sink: True})
    assert threading.active_count() <= threads
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["frames"]["written"] <= FRAMES
    assert not list((tmp_path / "out").glob("replay.*"))


@pytest.mark.parametrize(
    ("module", "option", "extra"), [("foxglove.messages", "mcap", "viz"), ("rerun", "rerun", "rerun")]
)
def test_a_missing_package_names_its_extra(tmp_path, monkeypatch, capsys, log, module, option, extra):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["replay", str(log.path), f"--{option}", "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert f"pip install 'fusionseg[{extra}]'" in err and err.count("\n") == 1
    # nothing stands in the way of the same command after that
    assert not (tmp_path / "out").exists()
