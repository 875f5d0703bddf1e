import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from make_logs import make_plain_log
from tiny_model import save_tiny_model

from fusionseg.cli import main
from fusionseg.data.open import LOADERS
from fusionseg.label_maps import CAMVID11

ROOT = Path(__file__).parents[1]
COMMANDS = ("demo", "inspect", "predict", "replay", "evaluate", "benchmark", "train", "models")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return make_plain_log(tmp_path_factory.mktemp("log"), frames=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def run(capsys, *arguments):
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def start(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"fusionseg {command}" in capsys.readouterr().out


def test_settings_may_follow_the_options(capsys, tmp_path):
    config = ROOT / "configs" / "student_pandaset.yaml"
    status, _, err = run(capsys, "train", config, "--out", tmp_path / "run", "epochs=0", "seed=3")
    assert (status, err.count("\n")) == (2, 1) and "epochs" in err
    with pytest.raises(SystemExit) as stop:
        main(["train", str(config), "--out", "run", "--epochs=3"])
    assert stop.value.code == 2


def test_no_command_prints_the_list_and_fails(capsys):
    status, out, _ = run(capsys)
    assert status == 2
    assert all(command in out for command in COMMANDS)


def test_help_loads_neither_torch_nor_opencv():
    code = (
        "import sys, fusionseg.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    process = start("-c", code)
    assert process.communicate()[0].splitlines()[-1] == "[]"


def test_inspect_names_format_frames_and_sensors_first(capsys, tmp_path, log):
    status, out, _ = run(capsys, "inspect", log, "--out", tmp_path / "out", "--json", tmp_path / "facts.json")
    lines = out.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines[:3]] == ["format", "frames", "sensors"]
    assert lines[-2].startswith("results: ") and lines[-1].startswith("next:    fusionseg replay")
    assert json.loads((tmp_path / "facts.json").read_text())["frames"]["count"] == 3
    assert len(list((tmp_path / "out").glob("*.png"))) == 3


def test_inspect_exits_1_when_a_frame_cannot_be_read(capsys, tmp_path):
    folder = make_plain_log(tmp_path / "log", frames=2)
    sorted((folder / "sweeps").iterdir())[0].write_bytes(b"")
    status, out, _ = run(capsys, "inspect", folder, "--out", tmp_path / "out")
    assert status == 1 and "unreadable frames: 1" in out
    status, _, err = run(capsys, "inspect", folder, "--out", tmp_path / "two", "--strict")
    assert status == 2 and err.startswith("error: ") and len(err.splitlines()) == 1


def test_replay_then_evaluate(capsys, tmp_path, log, model):
    arguments = ("--model", model, "--out", tmp_path / "out", "--frames", "0:2", "--sensors", "lidar")
    status, out, _ = run(capsys, "replay", log, *arguments)
    assert status == 0 and "2 seen, 2 written, 0 skipped" in out and "next:    fusionseg evaluate" in out
    status, out, _ = run(capsys, "evaluate", model, log, "--min-count", 1, "--json", tmp_path / "e.json")
    report = json.loads((tmp_path / "e.json").read_text())
    assert status == 0 and report["sensors"]["both"]["points"]["miou"] is not None
    assert out.splitlines()[-2] == f"results: {tmp_path / 'e.json'}"


def test_evaluate_at_another_input_size(capsys, tmp_path, log, model):
    ceilings = []
    for side in ("96x128", "32x48"):
        options = ("--sensors", "lidar", "--min-count", 1, "--oracle", "--size", side, "--json", tmp_path / "e.json")
        status, out, _ = run(capsys, "evaluate", model, log, *options)
        assert status == 0 and out.splitlines()[-1].endswith(f"--size {side} --video")
        ceilings.append(json.loads((tmp_path / "e.json").read_text())["oracle"]["points"]["miou_all"])
    # points of more than one class share a larger cell
    assert ceilings[1] < ceilings[0]


def test_predict_writes_labels_and_overlay(capsys, tmp_path, log, model):
    image, sweep = (str(next((log / part).iterdir())) for part in ("images/front", "sweeps"))
    out = tmp_path / "out"
    status, text, _ = run(capsys, "predict", image, sweep, log / "calibration.yaml", "--model", model, "--out", out)
    assert status == 0 and "overlay.png" in text
    assert (out / "labels.label").stat().st_size == Path(sweep).stat().st_size // 4


def test_a_prediction_that_fails_leaves_no_folder(capsys, tmp_path, monkeypatch, log, model):
    monkeypatch.chdir(tmp_path)
    for out in ((), ("--out", tmp_path / "out")):
        status, _, err = run(capsys, "predict", "none", "gone.bin", "none", "--model", model, *out)
        assert status == 2 and "gone.bin" in err
    assert not list(tmp_path.iterdir())
    sweep = next((log / "sweeps").iterdir())
    assert run(capsys, "predict", "none", sweep, "none", "--model", model)[0] == 0
    assert (tmp_path / "runs/predict/1/labels.label").is_file()
    status, _, err = run(capsys, "predict", "none", sweep, "none", "--model", model, "--out", "runs/predict/1")
    assert status == 2 and "holds files of an earlier run" in err


def test_the_next_command_is_on_the_same_data(capsys, tmp_path, log, model):
    chosen = ("--format", "plain", "--frames", "0:2", "--cameras", "front")
    words = f"{log} {' '.join(chosen)}"
    _, out, _ = run(capsys, "inspect", log, *chosen, "--out", tmp_path / "inspect")
    assert out.splitlines()[-1] == f"next:    fusionseg replay {words} --video"
    _, out, _ = run(capsys, "replay", log, "--model", model, *chosen, "--size", "32x64", "--out", tmp_path / "replay")
    assert out.splitlines()[-1] == f"next:    fusionseg evaluate {model} {log} --size 32x64 {' '.join(chosen)}"
    _, out, _ = run(capsys, "evaluate", model, log, *chosen)
    assert out.splitlines()[-1] == f"next:    fusionseg replay {log} --model {model} {' '.join(chosen)} --video"
    _, out, _ = run(capsys, "evaluate", model, log)
    assert out.splitlines()[-1] == f"next:    fusionseg replay {log} --model {model} --video"


@pytest.mark.parametrize("command", ["inspect", "replay", "evaluate"])
def test_help_lists_what_logs_hold(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    help_ = capsys.readouterr().out
    assert all(f"\n  {name} " in help_ for name in LOADERS) and "sequences/NN/velodyne/NNNNNN.bin" in help_


@pytest.fixture
def student(model, tmp_path, monkeypatch):
    """The tiny model shipped as ``student``."""
    from fusionseg.config import from_dict
    from fusionseg.models import ship, shipped

    about = {
        "summary": "Random weights.",
        "licence": "Apache-2.0",
        "config": "configs/tiny.yaml",
        "training_data": [{"name": "none", "part": "none", "licence": "CC0"}],
        "metrics": [{"data": "d", "figure": "f", "values": {"both": 0.5}, "command": "c"}],
        "limits": ["random"],
    }
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "weights")
    ship.ship(model, "student", from_dict(shipped.About, about), tmp_path / "weights")


def test_the_shipped_student_is_what_runs_without_a_model(capsys, tmp_path, log, student):
    status, _, _ = run(capsys, "replay", log, "--frames", "0:1", "--out", tmp_path / "replay")
    assert status == 0 and json.loads((tmp_path / "replay" / "summary.json").read_text())["model"] == "student"
    image, sweep = (next((log / part).iterdir()) for part in ("images/front", "sweeps"))
    out = tmp_path / "predict"
    status, text, _ = run(capsys, "predict", image, sweep, log / "calibration.yaml", "--out", out)
    assert status == 0 and text.splitlines()[-1] == "next:    fusionseg replay LOG --model student --video"


def test_the_lines_of_python_in_the_readme_run(tmp_path, monkeypatch, log, student):
    readme = (ROOT / "README.md").read_text()
    start_of, end_of = readme.index("    import fusionseg\n"), readme.index('    result.save("overlay.png")\n')
    code = textwrap.dedent(readme[start_of:end_of] + '    result.save("overlay.png")\n')
    assert code.count("\n") == 5
    monkeypatch.chdir(tmp_path)
    exec(code.replace("LOG", str(log)), {})
    assert (tmp_path / "overlay.png").stat().st_size > 0


def test_demo_ends_by_naming_what_it_made_and_measured(capsys, tmp_path, monkeypatch, student):
    from fusionseg.data.synth.spec import Spec
    from fusionseg.replay import demo

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "WORLD", Spec(frames=2, width=96, height=64, beams=32, split="test"))
    status, out, _ = run(capsys, "demo", "--out", tmp_path / "out")
    assert status == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert Path(lines["video:"]).stat().st_size > 0 and Path(lines["picture:"]).stat().st_size > 0
    assert all(name in lines["mIoU:"] for name in ("both", "camera", "lidar")) and "FPS:" in lines
    assert "synthetic data: no evidence about real roads" in out
    assert lines["results:"] == str(tmp_path / "out")


def test_models_lists_what_is_shipped(capsys, student):
    status, out, _ = run(capsys, "models")
    assert status == 0 and "student" in out and "both 0.500" in out
    assert out.splitlines()[-1] == "next:    fusionseg demo"


def test_folder_in_use_is_refused(capsys, tmp_path, log, model):
    (tmp_path / "old").write_text("")
    status, _, err = run(capsys, "replay", log, "--model", model, "--out", tmp_path)
    assert status == 2 and "holds files of an earlier run" in err
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "nowhere"), "nowhere: no such file or folder"),
        (("inspect", "LOG", "--format", "plane"), "did you mean plain?"),
        (("inspect", "LOG", "--frames", "1-2"), "expected A:B"),
        (("inspect", "LOG", "--frames", "50:60"), "holds 3 frames"),
        (("inspect", "LOG", "--cameras", "rear"), "it has front"),
        (("replay", "LOG", "--model", "nothing.safetensors"), "no such model file"),
        (("replay", "LOG", "--model", "CALIB"), "not a complete safetensors file"),
        (("replay", "nowhere", "--model", "MODEL"), "no such file or folder"),
        (("replay", "LOG", "--model", "MODEL", "--threads", "0"), "threads is 0"),
        (("evaluate", "MODEL", "nowhere"), "no such file or folder"),
        (("predict", "none", "none", "none", "--model", "MODEL"), "nothing to label"),
        (("train", "nothing.yaml"), "no such config file"),
        (("train", "CALIB"), "unknown key 'cameras'"),
        (("train", "EMPTY", "epocs=3"), "did you mean 'epochs'?"),
        (("train", "EMPTY", "--resume"), "no --out"),
    ],
)
def test_user_errors_are_one_line_and_exit_2(capsys, tmp_path, monkeypatch, log, model, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.yaml").write_text("")
    names = {"LOG": log, "MODEL": model, "CALIB": log / "calibration.yaml", "EMPTY": "empty.yaml"}
    status, _, err = run(capsys, *(names.get(a, a) for a in arguments))
    assert status == 2
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert message in err


def test_debug_shows_the_error_itself(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["inspect", str(tmp_path / "nowhere"), "--debug"])


@pytest.mark.parametrize("size", ["360", "360x", "axb"])
def test_bad_sizes_are_usage_errors(capsys, size):
    with pytest.raises(SystemExit) as stop:
        main(["replay", "x", "--model", "m", "--size", size])
    assert stop.value.code == 2 and "HEIGHTxWIDTH" in capsys.readouterr().err


def test_interrupt_from_outside_leaves_a_valid_partial_replay(tmp_path, model):
    folder = make_plain_log(tmp_path / "log", frames=60)
    out = tmp_path / "out"
    process = start("-m", "fusionseg", "replay", folder, "--model", model, "--out", out)
    for _ in range(600):
        if (out / "labels").is_dir() and len(list((out / "labels").glob("*.label"))) >= 2:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    summary = json.loads((out / "summary.json").read_text())
    frames = summary["frames"]
    assert summary["interrupted"] and 2 <= frames["seen"] == frames["written"] < 60
    assert len(list((out / "labels").glob("*.label"))) == frames["written"]


@pytest.mark.parametrize("name", ["train", "evaluate", "replay"])
def test_tools_are_the_same_commands(name):
    process = start(ROOT / "tools" / f"{name}.py", "--help")
    assert f"fusionseg {name}" in process.communicate()[0]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "99999x99999"], "64 MP"),
        (["--size", "0x640"], "sides from 32"),
        (["--min-count", "-3"], "no count"),
        (["--sensors", "radar"], "invalid choice"),
        (["--colour"], "unrecognized arguments"),
    ],
)
def test_wrong_words_are_one_line(capsys, log, model, words, said):
    with pytest.raises(SystemExit) as stop:
        main(["replay", str(log), "--model", str(model), *words])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and said in err and err.count("\n") == 1 and err.startswith("error: ")


def test_a_replay_of_nothing_but_broken_frames_fails_and_says_why(capsys, model, tmp_path):
    broken = make_plain_log(tmp_path / "log", frames=12)
    for sweep in (broken / "sweeps").iterdir():
        sweep.write_bytes(b"12345")
    status, out, err = run(capsys, "replay", broken, "--model", model, "--out", tmp_path / "out")
    assert status == 2 and "none of 12 frames" in err
    # thousands of lines would hide all else
    assert out.count("  frame ") == 10 and "  and 2 more, see summary.json" in out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"]["seen"] == len(summary["frames"]["skipped"]) == 12


def test_a_replay_needs_no_labels_in_the_models_table(capsys, tmp_path):
    """The log's labels are in another table than the model's, so they are not scored."""
    other = save_tiny_model(tmp_path / "camvid.safetensors", classes="native", table=CAMVID11)
    log = make_plain_log(tmp_path / "log", frames=1)
    status, _, err = run(capsys, "replay", log, "--model", other, "--out", tmp_path / "out")
    assert status == 0, err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["accuracy"] is None
