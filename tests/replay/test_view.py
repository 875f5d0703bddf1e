"""A replayed sweep in a window and as a picture."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from make_logs import make_plain_log
from make_nuscenes import make_nuscenes_log
from tiny_graph import save_tiny_export

from fusionseg.cli import main
from fusionseg.data.open import open_log
from fusionseg.labels import DRIVING12
from fusionseg.replay import view
from fusionseg.replay.fleet import Job, fleet_jobs
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan
from fusionseg.replay.view import read_sweep, show_sweep

FRAME = 1


@pytest.fixture
def run_folder(tmp_path, tiny_model):
    """A replay of two frames; every third point of frame 1 a car, the others unknown."""
    log = open_log(make_plain_log(tmp_path / "log", frames=2))
    replay(log, tiny_model, tmp_path / "run", Plan(frames=log.frames, cameras=log.cameras, sensors="camera"))
    labels = np.full(len(log.frame(FRAME)[0].points_lidar), 255, "<u4")
    labels[::3] = DRIVING12.names.index("car")
    labels.tofile(tmp_path / "run" / "labels" / f"{FRAME:06d}.label")
    return tmp_path / "run"


@pytest.fixture
def model_file(tmp_path):
    return save_tiny_export(tmp_path / "model", (64, 96))


@pytest.fixture
def frame(run_folder):
    return run_folder / "labels" / f"{FRAME:06d}.label"


def test_without_a_display_one_line_names_the_other_way(monkeypatch, capsys, frame):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert main(["view", str(frame)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "DISPLAY '' is no display" in error and "--out FILE.png" in error
    # one that nobody listens at
    monkeypatch.setenv("DISPLAY", ":9731")
    assert main(["view", str(frame)]) == 2
    assert "DISPLAY ':9731' is no display" in capsys.readouterr().err


class Window:
    """Notes what it is given."""

    def __init__(self):
        self.clouds, self.said, self.calls = [], SimpleNamespace(), []

    def create_window(self, title, width, height):
        self.calls.append(("create", title, width, height))

    def add_geometry(self, cloud):
        self.clouds.append(cloud)

    def get_render_option(self):
        return self.said

    def get_view_control(self):
        names = ("set_lookat", "set_front", "set_up", "set_zoom")
        return SimpleNamespace(**{name: lambda value, name=name: self.calls.append((name, value)) for name in names})

    def run(self):
        self.calls.append(("run",))

    def destroy_window(self):
        self.calls.append(("destroy",))


def test_the_window_has_every_point_in_the_colour_of_its_label(monkeypatch, run_folder, frame):
    open3d, window = view.import_open3d(), Window()
    fake = SimpleNamespace(
        geometry=open3d.geometry, utility=open3d.utility, visualization=SimpleNamespace(Visualizer=lambda: window)
    )
    monkeypatch.setattr(view, "import_open3d", lambda: fake)
    monkeypatch.setattr(view, "_has_display", lambda: True)
    show_sweep(read_sweep(frame))
    (cloud,) = window.clouds
    points = open_log(run_folder.parent / "log").frame(FRAME)[0].points_lidar
    np.testing.assert_array_equal(np.asarray(cloud.points), points[:, :3])
    colours = np.full((len(points), 3), 96)
    colours[::3] = DRIVING12.colours[DRIVING12.names.index("car")]
    np.testing.assert_allclose(np.asarray(cloud.colors) * 255, colours, atol=1e-6)
    assert window.calls[0] == ("create", f"{read_sweep(frame).title}", view.WIDTH_PX, view.HEIGHT_PX)
    assert window.calls[-2:] == [("run",), ("destroy",)]


def test_a_scene_of_several_is_found_again(tmp_path, capsys, model_file):
    """The scenes of nuScenes share tables; each is a log by its name behind their path."""
    root = make_nuscenes_log(tmp_path / "nuscenes", frames=1)
    scenes = root / "v1.0-mini" / "scene.json"
    scenes.write_text(json.dumps([*json.loads(scenes.read_text()), {"token": "other", "name": "scene-0002"}]))
    options = ("--model", str(model_file), "--sensors", "camera", "--out", str(tmp_path / "run"))
    assert main(["replay", str(root), *options]) == 2
    assert "2 scenes fit (there are scene-0001, scene-0002); name one behind the path" in capsys.readouterr().err
    assert main(["replay", str(root / "scene-0001"), *options]) == 0
    sweep = read_sweep(tmp_path / "run" / "labels" / "000000.label")
    assert (sweep.title, sweep.log) == ("nuscenes/scene-0001 frame 0", root / "scene-0001")
    (job,) = fleet_jobs([root / "scene-0001"], tmp_path)
    assert job == Job(root / "scene-0001", tmp_path / "scene-0001")


def test_a_picture_needs_no_display(tmp_path, monkeypatch, capsys, frame):
    monkeypatch.delenv("DISPLAY", raising=False)
    out = tmp_path / "pictures" / "sweep.png"
    assert main(["view", str(frame), "--out", str(out)]) == 0
    assert f"results: {out}" in capsys.readouterr().out
    picture = cv2.imread(str(out))[..., ::-1]
    assert picture.shape[1] == view.WIDTH_PX
    drawn = picture[30 : view.HEIGHT_PX].reshape(-1, 3)
    car = DRIVING12.colours[DRIVING12.names.index("car")]
    assert (drawn == car).all(axis=1).any() and (drawn == 96).all(axis=1).any()


def test_what_is_no_frame_is_told_in_a_line(tmp_path, capsys, run_folder, frame):
    def error_of(*words):
        assert main(["view", *map(str, words)]) == 2
        return capsys.readouterr().err

    assert "is no label file of a sweep" in error_of(run_folder / "labels" / "classes.json")
    assert "No such file" in error_of(frame.with_name("000099.label"))
    assert "end it with .png or .jpg" in error_of(frame, "--out", tmp_path / "sweep.gif")
    frame.write_bytes(frame.read_bytes()[:-4])
    assert "replay the log again" in error_of(frame)
    about = json.loads((run_folder / "run.json").read_text())
    (run_folder / "run.json").write_text(json.dumps({**about, "log": str(tmp_path / "gone")}))
    assert "gone: no such file or folder" in error_of(frame)
    (run_folder / "run.json").unlink()
    assert "is in no folder of a replay" in error_of(frame)
