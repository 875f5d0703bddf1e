import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from make_logs import make_plain_log

from fusionseg.data.plain import read_calibration

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, str(ROOT / "datasets" / "check.py"), *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_it_counts_what_is_there_and_names_what_is_broken(tmp_path):
    folder = make_plain_log(tmp_path / "log")
    broken = sorted((folder / "sweeps").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:-3])
    result = run(folder)
    assert result.returncode == 1
    assert "plain, 3 frames, images and LiDAR, cameras front" in result.stdout
    assert "read 2 of 3 frames" in result.stdout and "points road" in result.stdout
    assert f"frame 1 cannot be read: {broken}: " in result.stdout
    assert run(folder, "--frames", "2:").returncode == 0


@pytest.mark.parametrize("frames, says", [("3", "expected A:B"), ("b:a", "expected A:B"), ("7:9", "none of them")])
def test_a_wrong_range_is_one_line(tmp_path, frames, says):
    result = run(make_plain_log(tmp_path / "log"), "--frames", frames)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and says in result.stderr


def test_the_calibration_of_the_card_is_valid(tmp_path):
    card = (ROOT / "datasets" / "plain.md").read_text()
    block = card.split("`calibration.yaml`:\n\n")[1].split("\n- Frames")[0]
    file = tmp_path / "calibration.yaml"
    file.write_text("\n".join(line[4:] for line in block.splitlines()))
    assert "front" in yaml.safe_load(file.read_text())["cameras"]
    camera, camera_T_lidar = read_calibration(file).cameras["front"]
    assert camera.width == 1920
    # what is 10 m ahead of the LiDAR is 9.8 m ahead of the camera and 0.3 m above it
    assert (camera_T_lidar @ [10, 0, 0, 1]).round(9).tolist() == [0, -0.3, 9.8, 1]
