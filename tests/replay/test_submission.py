import json

import numpy as np
import pytest
from make_logs import make_plain_log, make_semantickitti_log
from make_nuscenes import make_nuscenes_log
from tiny_model import save_tiny_model

from fusionseg.cli import main
from fusionseg.data.open import open_log
from fusionseg.deploy.runtime import load
from fusionseg.label_maps import NATIVE, NUSCENES16, SEMANTICKITTI19
from fusionseg.labels import DRIVING12
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan
from fusionseg.replay.submission import Submission, check_submission, check_target, filled, official_ids

MAKE = {"semantickitti": make_semantickitti_log, "nuscenes": make_nuscenes_log}
FILES = {
    "semantickitti": ["sequences/00/predictions/000000.label", "sequences/00/predictions/000001.label"],
    "nuscenes": [
        "lidarseg/mini_val/LIDAR_TOP0_lidarseg.bin",
        "lidarseg/mini_val/LIDAR_TOP1_lidarseg.bin",
        "mini_val/submission.json",
    ],
}


@pytest.fixture(params=["semantickitti", "nuscenes"])
def submitted(request, tmp_path):
    """Layout, log and folder of a submission by a model of the official classes."""
    layout = request.param
    log = open_log(MAKE[layout](tmp_path / "log", frames=2), classes="native")
    file = save_tiny_model(tmp_path / "tiny.safetensors", classes="native", table=NATIVE[layout][0])
    plan = Plan(frames=log.frames, cameras=log.cameras, submission=layout, sensors="lidar")
    replay(log, load(file), tmp_path / "out", plan)
    return layout, log, tmp_path / "out"


def test_official_ids():
    """As the benchmarks' own tools write them (learning_map_inv; 1 to 16)."""
    ids = dict(zip(SEMANTICKITTI19.names, official_ids("semantickitti").tolist(), strict=True))
    assert list(ids.values()) == [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]
    assert ids["other_vehicle"] == 20 and ids["road"] == 40
    assert official_ids("nuscenes").tolist() == list(range(1, 17)) and NUSCENES16.names[3] == "car"


def test_every_point_is_where_the_benchmark_looks_for_it(submitted):
    layout, log, out = submitted
    folder = out / "submission"
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == FILES[layout]
    dtype = np.dtype("<u4" if layout == "semantickitti" else "u1")
    for frame, name in zip(log.frames, FILES[layout], strict=False):
        ids = np.frombuffer((folder / name).read_bytes(), dtype)
        labels = np.frombuffer((out / "labels" / f"{frame:06d}.label").read_bytes(), "<u4")
        known = labels != 255
        np.testing.assert_array_equal(ids[known], official_ids(layout)[labels[known]])
        assert len(ids) == len(labels) == len(log.frame(frame)[0].points_lidar) and ids.min() > 0
    assert check_submission(folder, layout, log, log.frames) == []


def test_the_meta_of_a_nuscenes_submission_is_true(tmp_path):
    log = open_log(make_nuscenes_log(tmp_path / "log", frames=1), classes="native")
    for sensors, used in (("both", (True, True)), ("lidar", (False, True)), ("camera", (True, False))):
        Submission(tmp_path / sensors, "nuscenes", NUSCENES16, log, sensors)
        meta = json.loads((tmp_path / sensors / "mini_val" / "submission.json").read_text())["meta"]
        assert (meta["use_camera"], meta["use_lidar"]) == used
        assert meta.keys() == {"use_camera", "use_lidar", "use_radar", "use_map", "use_external"}
        assert (meta["use_radar"], meta["use_map"], meta["use_external"]) == (False, False, True)


def test_faults_are_found(submitted):
    layout, log, out = submitted
    folder = out / "submission"
    first, second = (folder / name for name in FILES[layout][:2])
    second.unlink()
    (fault,) = check_submission(folder, layout, log, log.frames)
    assert "is missing" in fault and second.name in fault
    whole = first.read_bytes()
    first.write_bytes(whole[:-1])
    assert "bytes for" in check_submission(folder, layout, log, log.frames[:1])[0]
    first.write_bytes(b"\x00" * 4 + whole[4:])
    assert "id 0 is none" in check_submission(folder, layout, log, log.frames[:1])[0]
    first.write_bytes(whole)
    if layout == "nuscenes":
        (folder / "mini_val" / "submission.json").write_text('{"meta": {"use_camera": 1}}')
        assert "true or false" in check_submission(folder, layout, log, log.frames[:1])[0]


def test_unknown_points_take_the_label_of_the_nearest():
    points = np.array([[0, 0, 0, 0], [10, 0, 0, 0], [9, 0, 0, 0], [1, 1, 0, 0], [np.nan, 0, 0, 0], [0, 1, 0, 0]], "f4")
    labels = np.array([3, 5, 255, 255, 255, 3], np.uint8)
    assert filled(points, labels).tolist() == [3, 5, 5, 3, 3, 3]
    assert labels.tolist() == [3, 5, 255, 255, 255, 3]
    assert filled(np.zeros((0, 4), "f4"), np.zeros(0, np.uint8)).tolist() == []
    with pytest.raises(ValueError, match="no point has a label"):
        filled(points, np.full(6, 255, np.uint8))


def test_other_models_logs_and_layouts_are_refused(tmp_path, capsys):
    log = open_log(make_plain_log(tmp_path / "log", frames=1))
    with pytest.raises(ValueError, match="needs a model of its 19 official classes, and this one predicts driving12"):
        check_target("semantickitti", DRIVING12, log)
    with pytest.raises(ValueError, match="choose one of semantickitti, nuscenes"):
        check_target("kitti", DRIVING12, log)
    with pytest.raises(ValueError, match=r"needs a nuscenes log; .* is opened as plain"):
        Submission(tmp_path / "out", "nuscenes", NUSCENES16, log, "both")
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    words = ["replay", str(log.path), "--model", str(model), "--submission", "nuscenes"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "official classes" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_the_command_says_what_a_server_would_refuse(tmp_path, capsys):
    folder = make_semantickitti_log(tmp_path / "log", frames=2)
    sweep = folder / "sequences" / "00" / "velodyne" / "000001.bin"
    model = save_tiny_model(tmp_path / "tiny.safetensors", classes="native", table=SEMANTICKITTI19)
    words = ["replay", str(folder), "--model", str(model), "--submission", "semantickitti", "--sensors", "lidar"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert "submission: valid, 2 sweeps" in capsys.readouterr().out
    sweep.write_bytes(b"12345")
    assert main([*words, "--out", str(tmp_path / "half")]) == 1
    assert "000001.label: is missing" in capsys.readouterr().out
