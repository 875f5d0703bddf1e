"""Logs on disk: the same bytes every time, resumed, refused, read by the ordinary loader."""

import json
from pathlib import Path

import numpy as np
import pytest

from fusionseg.cli import main
from fusionseg.data.open import open_log
from fusionseg.data.synth import write
from fusionseg.data.synth.spec import Spec, parse_size
from fusionseg.data.synth.write import generate, missing_frames
from fusionseg.labels import DRIVING12

SMALL = {"frames": 3, "seed": 5, "width": 160, "height": 64, "beams": 32}


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    generate(Spec(**SMALL), out)
    return out


def test_two_workers_write_the_bytes_of_one(made, tmp_path):
    generate(Spec(**SMALL), tmp_path, workers=2)
    assert content(tmp_path) == content(made)


def test_workers_that_cannot_load_the_ray_caster_say_why(tmp_path, monkeypatch):
    (tmp_path / "open3d.py").write_text("raise ImportError('libX11.so.6: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"libX11\.so\.6.*apt-get install libx11-6"):
        generate(Spec(**SMALL), tmp_path / "out", workers=2)


def test_another_seed_is_another_world(made, tmp_path):
    generate(Spec(**{**SMALL, "seed": 6, "frames": 1}), tmp_path)
    there, here = content(tmp_path), content(made)
    for name in ("image_2/000000.png", "velodyne/000000.bin", "calib.txt"):
        assert there[f"sequences/00/{name}"] != here[f"sequences/00/{name}"]


def test_what_was_broken_off_is_made_again(made, tmp_path):
    generate(Spec(**SMALL), tmp_path)
    sequence = tmp_path / "sequences/00"
    (sequence / "velodyne/000001.bin").unlink()
    (sequence / "image_2/000001.png").write_bytes(b"half")
    kept = (sequence / "velodyne/000002.bin").stat().st_mtime_ns
    assert missing_frames(Spec(**SMALL), tmp_path) == 1
    steps = []
    generate(Spec(**SMALL), tmp_path, progress=lambda: steps.append(1))
    assert len(steps) == 1 and (sequence / "velodyne/000002.bin").stat().st_mtime_ns == kept
    assert content(tmp_path) == content(made)


def test_a_full_disk_leaves_no_half_frame(made, tmp_path, monkeypatch):
    real = write.atomic_write

    def full(path):
        if path.name == "000001.label":
            raise ValueError(f"{path}: cannot be written (No space left on device); choose a folder you can write to")
        return real(path)

    monkeypatch.setattr(write, "atomic_write", full)
    with pytest.raises(ValueError, match="No space left"):
        generate(Spec(**SMALL), tmp_path)
    assert open_log(tmp_path).frames == [0]
    monkeypatch.undo()
    generate(Spec(**SMALL), tmp_path)
    assert content(tmp_path) == content(made)


@pytest.mark.parametrize(("name", "value"), [("seed", 6), ("scene", "rural"), ("weather", "fog"), ("frames", 4)])
def test_a_folder_with_another_world_is_refused(made, name, value):
    before = content(made)
    with pytest.raises(ValueError, match=f"different world \\({name}"):
        generate(Spec(**{**SMALL, name: value}), made)
    assert content(made) == before


def test_a_folder_with_something_else_is_refused(tmp_path, made):
    (tmp_path / "sequences/00").mkdir(parents=True)
    (tmp_path / "sequences/00/calib.txt").write_text("P2: 1")
    with pytest.raises(ValueError, match=r"no world\.json; choose an empty folder"):
        generate(Spec(**SMALL), tmp_path)
    with pytest.raises(ValueError, match="already holds sequence 00"):
        generate(Spec(**SMALL, split="test"), made)
    broken = tmp_path / "broken/sequences/00"
    broken.mkdir(parents=True)
    (broken / "world.json").write_text("[1, 2")
    with pytest.raises(ValueError, match="cannot be read"):
        generate(Spec(**SMALL), tmp_path / "broken")
    with pytest.raises(ValueError, match="is a file"):
        generate(Spec(**SMALL), broken / "world.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scene": "urbn"}, "scene is 'urbn'; did you mean 'urban'"),
        ({"weather": "snow"}, "weather is 'snow'; "),
        ({"split": "val"}, "split is 'val'; "),
        ({"beams": 16}, "beams is 16; choose one of 64, 32"),
        ({"frames": 0}, "frames is 0; expected 1 to"),
        ({"seed": -1}, "seed is -1; expected 0 to"),
        ({"width": 0}, "width is 0; expected 64 to"),
        ({"height": 10**6}, "height is 1000000; expected"),
    ],
)
def test_impossible_worlds(change, message):
    with pytest.raises(ValueError) as caught:
        Spec(**change)
    assert str(caught.value).startswith(message)


def test_sizes_and_workers(tmp_path):
    assert parse_size("1242x375") == (1242, 375)
    for text in ("1242", "axb", "1242x-3", ""):
        with pytest.raises(ValueError, match="write WIDTHxHEIGHT"):
            parse_size(text)
    for workers in (0, -2, 10**6):
        with pytest.raises(ValueError, match="workers is"):
            generate(Spec(**SMALL), tmp_path / "none", workers)
    assert not (tmp_path / "none").exists()


def test_loader_reads_it_as_any_other_log(made):
    log = open_log(made)
    assert log.format == "semantickitti" and log.frames == [0, 1, 2] and log.cameras == ["image_2"]
    sample = log.sample(1, "image_2")
    assert sample.image.shape == (64, 160, 3) and sample.pixel_labels.shape == (64, 160)
    assert len(sample.point_labels) == len(sample.points_lidar) > 20_000
    assert sample.sweep_time_ns == 100_000_000
    step = log.world_T_lidar(1)[:3, 3]
    assert 0.5 < step[0] < 1.3 and abs(step[1]) < 0.2
    np.testing.assert_allclose(log.world_T_lidar(0), np.eye(4), atol=1e-9)


def test_test_worlds_lie_in_the_test_split(tmp_path):
    generate(Spec(**{**SMALL, "frames": 1}, split="test"), tmp_path)
    assert open_log(tmp_path, split="test").path.name == "11"
    record = json.loads((tmp_path / "sequences/11/world.json").read_text())
    assert record["split"] == "test" and record["seed"] == 5


def test_every_common_class_occurs_on_urban_streets(tmp_path):
    points, pixels = np.zeros(256, int), np.zeros(256, int)
    for seed in range(3):
        generate(Spec(seed=seed, frames=1, width=640, height=200), tmp_path / str(seed))
        sample = open_log(tmp_path / str(seed)).sample(0, "image_2")
        points += np.bincount(sample.point_labels, minlength=256)
        pixels += np.bincount(sample.pixel_labels.reshape(-1), minlength=256)
    names = np.array(DRIVING12.names)
    assert set(names[pixels[:12] > 100]) == set(DRIVING12.names)
    assert set(names[points[:12] > 100]) == set(DRIVING12.names) - {"sky"}


def test_command_line(tmp_path, capsys):
    options = ["--scene", "rural", "--weather", "fog", "--frames", "1", "--size", "128x64", "--beams", "32"]
    assert main(["synth", str(tmp_path / "log"), *options]) == 0
    assert "fusionseg inspect" in capsys.readouterr().out
    assert open_log(tmp_path / "log").frames == [0]
    assert main(["synth", str(tmp_path / "log"), *options, "--seed", "9"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "different world (seed is 0 there, 9 here)" in error
    assert main(["synth", str(tmp_path / "other"), "--scene", "moon"]) == 2
    assert capsys.readouterr().err.startswith("error: scene is 'moon'; choose one of urban")
    assert not (tmp_path / "other").exists()
