"""A calibration that is one degree off is flagged, the true one is not: on a drawn log and on real ones."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from fusionseg.cli import main
from fusionseg.data.open import open_log
from fusionseg.data.synth.spec import Spec
from fusionseg.data.synth.write import generate
from fusionseg.geometry.alignment import Alignment, align, rotation_from_degrees
from fusionseg.geometry.transform import make_transform
from fusionseg.replay.doctor_calibration import Calibration, calibration_check

TURNS = {
    f"{axis}{sign:+d}": tuple(float(sign) * (axis == other) for other in "xyz") for axis in "xyz" for sign in (1, -1)
}
FRAMES = {
    "drawn": [0, 1],
    "kitti_raw": [0, 2, 4],
    "pandaset/002": [0, 22, 34, 46],
    "kitti_object": [1],
    "semantickitti": [0],
}

CAMERAS = {
    "drawn": ["image_2"],
    "kitti_raw": ["image_02"],
    "pandaset/002": ["front_camera", "left_camera", "back_camera"],
    "kitti_object": ["image_2"],
    "semantickitti": ["image_3"],
}
EVERY_CAMERA = [(name, camera) for name, cameras in CAMERAS.items() for camera in cameras]


def rotation(turn_deg):
    return rotation_from_degrees(np.array(turn_deg))


@pytest.fixture(scope="module")
def drawn_log(tmp_path_factory):
    """A synthetic street with pixels and beams fine enough for edges."""
    folder = tmp_path_factory.mktemp("drawn") / "log"
    generate(Spec(frames=2, seed=3, width=640, height=360), folder)
    return folder


def turn_calibration(folder, turn_deg):
    """Turn the camera of the calibration file."""
    file = folder / "sequences" / "00" / "calib.txt"
    rows = dict(line.split(": ", 1) for line in file.read_text().splitlines())
    Tr = np.vstack([np.array(rows["Tr"].split(), dtype=float).reshape(3, 4), [0, 0, 0, 1]])
    Tr = make_transform(rotation(turn_deg), np.zeros(3)) @ Tr
    rows["Tr"] = " ".join(f"{value:.12e}" for value in Tr[:3].reshape(-1))
    file.write_text("".join(f"{key}: {value}\n" for key, value in rows.items()))


def test_the_command_flags_a_drawn_log_by_how_far_its_calibration_is_off(drawn_log, tmp_path, capsys):
    expected = {(0, 0, 0): ("OK", 0), (0, 1, 0): ("WARN", 0), (0, 3, 0): ("FAIL", 1)}
    for turn_deg, (status, code) in expected.items():
        folder = shutil.copytree(drawn_log, tmp_path / f"off{turn_deg[1]}")
        turn_calibration(folder, turn_deg)
        report = tmp_path / f"{turn_deg[1]}.json"
        assert main(["inspect", str(folder), "--out", str(tmp_path / "out" / status), "--json", str(report)]) == code
        (check,) = [check for check in json.loads(report.read_text())["checks"] if check["name"] == "calibration"]
        assert check["status"] == status, check["measured"]
        assert f"{status:<4}  calibration" in capsys.readouterr().out
        assert check["values"]["turn_deg"][1] == pytest.approx(-turn_deg[1], abs=0.2)
        curve = check["values"]["curves"]["y"]
        assert check["values"]["curve_deg"][int(np.argmax(curve))] == pytest.approx(-turn_deg[1], abs=0.3)


@pytest.fixture(scope="module")
def evidence(request):
    """Edges of a few frames of a log, read once."""
    kept = {}

    def read(name):
        if name not in kept:
            folder = request.getfixturevalue("drawn_log" if name == "drawn" else "shared_data")
            log = open_log(folder if name == "drawn" else folder / name)
            kept[name] = Calibration()
            for frame in FRAMES[name]:
                kept[name].add(log.frame(frame, CAMERAS[name]))
        return kept[name]

    return read


def judged(calibration, camera, turn_deg):
    turn = rotation(turn_deg).astype(np.float32)
    views = [
        dataclasses.replace(view, points_camera=tuple(points @ turn.T for points in view.points_camera))
        for view in calibration.views[camera]
    ]
    return calibration_check(camera, align(views), 0.1)


@pytest.mark.parametrize(("name", "camera"), EVERY_CAMERA)
def test_the_true_calibration_is_fine(evidence, name, camera):
    found = judged(evidence(name), camera, (0, 0, 0))
    assert found.status == "OK", found.measured


@pytest.mark.parametrize(
    ("name", "camera", "turn"),
    # one frame does not always tell a roll about the optical axis
    [(*where, turn) for where in EVERY_CAMERA for turn in TURNS if len(FRAMES[where[0]]) > 1 or turn[0] != "z"],
)
def test_a_degree_off_is_flagged(evidence, name, camera, turn):
    found = judged(evidence(name), camera, TURNS[turn])
    assert found.status in ("WARN", "FAIL"), found.measured


def found(turn_deg=(0, 0, 0), sure=3.0, lost=0.1, peak=0.3, edges=3000):
    return Alignment(
        turn_deg=np.array(turn_deg, dtype=float),
        sure=sure,
        sure_of_axes=np.full(3, sure),
        given=1 - lost * peak,
        best=1.0,
        away=1 - peak,
        edges=(edges - 100, 100),
        curves={},
    )


@pytest.mark.parametrize(
    ("alignment", "status"),
    [
        (found(), "OK"),
        (found((0.2, -0.2, 0.2), lost=0.5), "OK"),  # too little to be felt
        (found((0.0, 1.0, 0.0), sure=1.0), "OK"),  # not sure
        (found((0.0, 1.0, 0.0)), "WARN"),
        (found((0.0, 0.5, 0.0), lost=0.5), "WARN"),
        (found((0.0, 0.5, 0.0), lost=0.5, edges=500), "OK"),
        (found((0.0, 0.9, 0.0), sure=1.0, lost=0.9), "WARN"),  # all but lost
        (found((0.0, 1.2, -1.2)), "FAIL"),
        (found((2.0, 2.0, 2.0), peak=0.05), "WARN"),  # many edges that fit nowhere
        (found((2.0, 2.0, 2.0), peak=0.05, edges=500), "SKIP"),
    ],
)
def test_what_an_alignment_means(alignment, status):
    assert calibration_check("front", alignment, 0.1).status == status
