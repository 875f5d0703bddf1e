"""The wheel holds fusionseg alone and works where the source tree is out of sight; importing stays light."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fusionseg

ROOT = Path(__file__).parents[1]
WEIGHT_SUFFIXES = (".safetensors", ".json", ".md")


def light_modules():
    """What a device that only runs a model imports, and what reads logs: all of it must do without torch."""
    yield from (f"fusionseg.{name}" for name in ("config", "labels", "label_maps", "sample", "deploy.runtime"))
    yield "fusionseg.models.shipped"
    for folder in ("geometry", "data"):
        for path in sorted((ROOT / "fusionseg" / folder).glob("[a-z]*.py")):
            # collating into tensors is torch's own business
            if path.stem != "collate":
                yield f"fusionseg.{folder}.{path.stem}"


def run(*command, cwd, **environment):
    """The finished process of a command; its output is in the failure message."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command} exits {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built without the network from a copy of the tree, so that nothing is left behind in it."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    ignored = shutil.ignore_patterns(".venv", ".git", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, source, ignore=ignored)
    # setuptools finds any package below the root unless it is told not to
    for name in ("datasets", "tools", "tests", "examples"):
        (source / name).mkdir(exist_ok=True)
        (source / name / "__init__.py").touch()
    # a model as models/ship.py leaves it, whatever the tree ships
    (source / "fusionseg" / "weights").mkdir(exist_ok=True)
    for suffix in WEIGHT_SUFFIXES:
        (source / "fusionseg" / "weights" / f"probe{suffix}").write_text("probe")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", work / "out", source, cwd=work)
    (built,) = (work / "out").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel installed, nothing else of the project in it."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel]
    run(*pip, cwd=target.parent)
    return target


def test_the_wheel_holds_fusionseg_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    info = f"fusionseg-{fusionseg.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"fusionseg", info}
    assert "fusionseg/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names
    assert f"{info}/licenses/NOTICE" in names


def test_the_wheel_holds_the_weights_with_their_cards(wheel):
    shipped = {path.name for path in (ROOT / "fusionseg" / "weights").glob("*.*")}
    expected = shipped | {f"probe{suffix}" for suffix in WEIGHT_SUFFIXES}
    archive = zipfile.ZipFile(wheel)
    assert {Path(name).name for name in archive.namelist() if name.startswith("fusionseg/weights/")} == expected
    assert archive.read("fusionseg/weights/probe.safetensors") == b"probe"


def test_the_notice_in_the_wheel_names_data_authors_licence_and_changes(wheel):
    text = zipfile.ZipFile(wheel).read(f"fusionseg-{fusionseg.__version__}.dist-info/licenses/NOTICE").decode()
    for part in ("PandaSet", "Hesai", "Scale AI", "https://creativecommons.org/licenses/by/4.0/", "Changes made"):
        assert part in text


def test_the_wheel_holds_every_module_of_the_tree(wheel):
    modules = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    assert modules == {path.relative_to(ROOT).as_posix() for path in (ROOT / "fusionseg").rglob("*.py")}


def test_the_wheel_holds_the_templates_of_pages(wheel):
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fusionseg/replay/templates").iterdir()}
    assert "fusionseg/replay/templates/report.html" in templates
    assert templates <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_says_what_it_is_and_needs(wheel):
    archive = zipfile.ZipFile(wheel)
    info = f"fusionseg-{fusionseg.__version__}.dist-info"
    metadata = archive.read(f"{info}/METADATA").decode().splitlines()
    for line in (
        "Name: fusionseg",
        f"Version: {fusionseg.__version__}",
        "Requires-Python: >=3.11",
        "Requires-Dist: torch>2.10",
        "Requires-Dist: opencv-python>=4.12",
        "Requires-Dist: pillow>=12.2",
        'Requires-Dist: onnx>=1.21; extra == "deploy"',
    ):
        assert line in metadata
    assert any(line.startswith("License") and line.endswith(": Apache-2.0") for line in metadata)
    extras = {line.removeprefix("Provides-Extra: ") for line in metadata if line.startswith("Provides-Extra")}
    assert extras == {"train", "deploy", "logs", "viz", "rerun", "distributed", "dev"}
    scripts = configparser.ConfigParser()
    scripts.read_string(archive.read(f"{info}/entry_points.txt").decode())
    assert dict(scripts["console_scripts"]) == {"fusionseg": "fusionseg.cli:main"}
    assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()


def test_the_installed_wheel_runs_without_the_source_tree(installed, tmp_path):
    where = run(
        sys.executable, "-c", "import fusionseg; print(fusionseg.__file__)", cwd=tmp_path, PYTHONPATH=str(installed)
    )
    assert Path(where.stdout.strip()) == installed / "fusionseg" / "__init__.py"
    text = run(sys.executable, "-m", "fusionseg", "--help", cwd=tmp_path, PYTHONPATH=str(installed)).stdout
    for command in ("demo", "inspect", "predict", "train", "evaluate", "replay", "models"):
        assert command in text
    # the script that pip makes for a person
    assert run(installed / "bin" / "fusionseg", "--help", cwd=tmp_path, PYTHONPATH=str(installed)).stdout == text


def loaded(code, *modules):
    """Which of ``modules`` a fresh interpreter has loaded after running ``code``."""
    ask = f"{code}\nimport sys\nprint(*sorted(set({modules!r}) & set(sys.modules)))"
    return run(sys.executable, "-c", ask, cwd=ROOT).stdout.split()


def test_importing_the_package_loads_nothing_heavy():
    assert loaded("import fusionseg; fusionseg.load", "numpy", "cv2", "torch", "open3d", "timm", "yaml") == []


@pytest.mark.parametrize("module", list(light_modules()))
def test_modules_of_the_edge_do_not_load_torch(module):
    assert loaded(f"import {module}", "torch", "torchvision", "timm", "open3d") == []


def test_the_check_for_loaded_modules_sees_them():
    assert loaded("import json, numpy", "json", "numpy", "torch") == ["json", "numpy"]


def test_load_hands_everything_to_the_runtime(monkeypatch):
    from fusionseg.deploy import runtime

    calls = []
    monkeypatch.setattr(runtime, "load", lambda model, **options: calls.append((model, options)) or "the model")
    assert fusionseg.load("student", threads=2) == "the model"
    assert calls == [("student", {"threads": 2})]


def test_load_names_a_missing_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        fusionseg.load(tmp_path / "nothing.safetensors")
