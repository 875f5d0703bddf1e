"""Exports run without torch, say what PyTorch says, and are not loaded when they were changed since."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from packaging.requirements import Requirement
from tiny_exports import SIZE, Exports
from torch import nn

from fusionseg.config import ModelConfig, TrainConfig
from fusionseg.data.log import Log
from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS
from fusionseg.deploy import export as exporting
from fusionseg.deploy.exported import read_export, write_description
from fusionseg.deploy.parity import compare, pick_views
from fusionseg.deploy.runtime import SENSORS, Model, load
from fusionseg.deploy.torch_session import TorchSession
from fusionseg.labels import DRIVING12
from fusionseg.models.build import build_model
from fusionseg.models.image_encoder import STRIDES
from fusionseg.sample import Sample

ROOT = Path(__file__).parents[2]
SMALL = (8, 8, 8, 8)


class FewLayers(nn.Module):
    """In place of an encoder: as quick to trace as can be."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], strides: tuple[int, ...], shares: bool) -> None:
        super().__init__()
        self.channels, self.shares = channels, shares
        self.layers = nn.ModuleList(
            nn.Conv2d(in_channels, width, stride, stride) for width, stride in zip(channels, strides, strict=True)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor] | tuple[list[torch.Tensor], list[torch.Tensor]]:
        features = [layer(x / 64) for layer in self.layers]
        return (features, [torch.ones_like(feature[:, :1]) for feature in features]) if self.shares else features


@pytest.fixture(scope="module")
def flexible(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A network of few layers, and the folder of its graph for any size and number of views."""
    torch.manual_seed(0)
    config = TrainConfig(
        model=ModelConfig(
            image_encoder="test_efficientnet",
            lidar_channels=SMALL,
            fusion_strides=(16,),
            fusion_channels=SMALL,
            head_channels=8,
            point_channels=8,
            auxiliary=False,
        )
    )
    network = build_model(
        config.model, classes=len(DRIVING12), raster_channels=len(RASTER_CHANNELS), point_features=len(POINT_FEATURES)
    )
    network.image_encoder = FewLayers(3, network.image_encoder.channels, STRIDES, False)  # type: ignore[assignment]
    network.lidar_encoder = FewLayers(len(RASTER_CHANNELS), SMALL, (1, 2, 4, 8), True)  # type: ignore[assignment]
    folder = tmp_path_factory.mktemp("flexible")
    (folder / "model.onnx").write_bytes(exporting.trace(network).SerializeToString())
    facts = {"version": "0", "runtime": "onnxruntime", "precision": "fp32", "name": "flexible", "classes": "driving12"}
    facts |= {"size": SIZE, "fixed": False, "raster_stride": 4, "model": "model.onnx"}
    write_description(folder, facts, DRIVING12, config)
    return Model(TorchSession(network), table=DRIVING12, size=SIZE), folder


@pytest.fixture(scope="module")
def original(exports: Exports) -> Model:
    return load(exports.checkpoint)


@pytest.fixture
def copy(exports: Exports, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exports.folders["onnx"], tmp_path / "copy"))


def bare(sample: Sample) -> Sample:
    """The sample without a sweep."""
    return Sample(
        log="t",
        frame=0,
        camera_name="camera",
        camera=sample.camera,
        image=sample.image,
        points_lidar=np.zeros((0, 4), np.float32),
        camera_T_lidar=np.eye(4),
    )


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("sensors", SENSORS)
def test_every_runtime_answers_as_torch_does(
    exports: Exports, original: Model, log: Log, to: str, sensors: str
) -> None:
    model = load(exports.folders[to])
    views = pick_views(log, original, 3)
    expected = original.predict_views(views, sensors)  # type: ignore[arg-type]
    for a, b in zip(expected, model.predict_views(views, sensors), strict=True):  # type: ignore[arg-type]
        assert a.pixels.shape == b.pixels.shape == (15, 23)
        assert (a.pixels == b.pixels).mean() > 0.999 and (a.points == b.points).mean() > 0.999
        np.testing.assert_allclose(a.confidence, b.confidence, atol=2e-5)
    # the network has something to say, so that agreement says something too
    assert len(np.unique(np.concatenate([result.points for result in expected]))) > 1


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_image_without_points_and_a_sweep_without_image(
    exports: Exports, original: Model, log: Log, to: str
) -> None:
    sample = log.sample(0, log.cameras[0])
    model = load(exports.folders[to], threads=1)
    a, b = original(bare(sample)), model(bare(sample))
    assert a.pixels is not None and b.pixels is not None
    assert b.points.shape == (0,) and (a.pixels == b.pixels).mean() > 0.999
    a, b = original(points_lidar=sample.points_lidar), model(points_lidar=sample.points_lidar)
    assert (a.points == b.points).mean() > 0.999
    assert (b.points < len(DRIVING12)).mean() > 0.8


def test_any_size_and_any_number_of_views(flexible: tuple[Model, Path], log: Log) -> None:
    original, exported = flexible[0], load(flexible[1])
    sample = log.sample(0, log.cameras[0])
    for size in ((60, 92), (32, 32), (100, 130)):
        a, b = (model(sample, size=size, whole_sweep=False) for model in (original, exported))
        assert (a.points == b.points).mean() > 0.999 and (a.pixels == b.pixels).mean() > 0.999
    # neither what lies beside a view in a batch nor its padding changes its labels
    views = pick_views(log, exported, 2)
    stacked = exported.session.inputs(views)
    assert stacked.cell.shape[1] % 2048 == 0 and stacked.image.shape[1:3] == (64, 96)
    together = exported.session.forward(stacked)
    for place, view in enumerate(views):
        alone = exported.predict_views([view])[0]
        np.testing.assert_array_equal(alone.points, together.points[place, : len(view.index)])
        np.testing.assert_array_equal(alone.pixels, together.pixels[place])


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_labels_do_not_depend_on_how_far_points_are_padded(exports: Exports, log: Log, to: str) -> None:
    model = load(exports.folders[to])
    view = pick_views(log, model, 1)[0]
    stacked = model.session.inputs([view])
    longer = replace(
        stacked,
        points=np.pad(stacked.points, ((0, 0), (0, 2048), (0, 0)), constant_values=7),
        cell=np.pad(stacked.cell, ((0, 0), (0, 2048)), constant_values=5),
    )
    count = len(view.index)
    a, b = (model.session.forward(inputs) for inputs in (stacked, longer))
    np.testing.assert_array_equal(a.points[0, :count], b.points[0, :count])
    np.testing.assert_array_equal(a.pixels, b.pixels)


def test_frames_labelled_together_get_the_same_labels(flexible: tuple[Model, Path], log: Log) -> None:
    model = load(flexible[1])
    model.session.views_at_once = 4
    frames = [log.frame(number) for number in log.frames[:2]]
    together = model.predict_many(frames)
    assert len(together) == 2
    for frame, result in zip(frames, together, strict=True):
        alone = model.predict_frame(frame)
        assert result.view_names == alone.view_names
        np.testing.assert_array_equal(result.points, alone.points)
        np.testing.assert_array_equal(result.view, alone.view)


def test_an_export_of_one_size_takes_no_other(exports: Exports, log: Log) -> None:
    sample = log.sample(0, log.cameras[0])
    with pytest.raises(ValueError, match=r"input of 1 views of 100x132; .* exported for one of 60x92 alone"):
        load(exports.folders["openvino"])(sample, size=(100, 132))


def test_the_folder_holds_one_model_and_what_describes_it(exports: Exports) -> None:
    described = {"classes.json", "config.yaml", "manifest.json", "parity.json"}
    assert {path.name for path in exports.folders["onnx"].iterdir()} == {"model.onnx"} | described
    assert {path.name for path in exports.folders["openvino"].iterdir()} == {"model.xml", "model.bin"} | described
    exported = read_export(exports.folders["onnx"])
    assert exported.table.to_dict() == DRIVING12.to_dict()
    assert exported.manifest.sha256["model.onnx"] == hashlib.sha256(exported.model.read_bytes()).hexdigest()
    parity = json.loads((exports.folders["onnx"] / "parity.json").read_text())
    assert parity["agreement"] >= 0.999 and parity["views"] == 3 and set(parity["sensors"]) == set(SENSORS)
    text = exported.model.read_bytes()
    assert str(Path(exporting.__file__).parents[1]).encode() not in text and b"point_head" in text


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def rewrite(folder: Path, **values: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: damage(folder / "model.onnx"), r"model.onnx: SHA-256 is .* the manifest says"),
        (lambda folder: damage(folder / "classes.json"), r"classes.json: SHA-256"),
        (lambda folder: (folder / "model.onnx").unlink(), r"model.onnx: cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "describes no export"),
        (lambda folder: rewrite(folder, format="fusionseg.export.9"), "format is 'fusionseg.export.9'"),
        (lambda folder: rewrite(folder, model="../model.onnx"), "'../model.onnx' leaves the folder"),
        (lambda folder: rewrite(folder, sha256={}), "no checksum of model.onnx"),
        (lambda folder: rewrite(folder, surprise=1), "unknown key 'surprise'"),
    ],
)
def test_changed_exports_are_not_loaded(copy: Path, change: Callable[[Path], object], message: str) -> None:
    change(copy)
    with pytest.raises(ValueError, match=message):
        load(copy)


@pytest.mark.parametrize("location", ["../stray.bin", "/etc/hostname"])
def test_a_model_that_reads_files_elsewhere_is_refused(copy: Path, location: str) -> None:
    (copy.parent / "stray.bin").write_bytes(bytes(1 << 20))
    graph = onnx.load(copy / "model.onnx")
    tensor = next(item for item in graph.graph.initializer if len(item.dims) == 4)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    digests = json.loads((copy / "manifest.json").read_text())["sha256"]
    rewrite(copy, sha256=digests | {"model.onnx": hashlib.sha256((copy / "model.onnx").read_bytes()).hexdigest()})
    with pytest.raises(ValueError, match=r"model.onnx: cannot be opened"):
        load(copy)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("onnx", {"runtime": "openvino"}, "was exported to onnxruntime, openvino cannot run it"),
        ("openvino", {"runtime": "tensorrt"}, "was exported to openvino, tensorrt cannot run it"),
        ("onnx", {"runtime": "torch"}, "torch runs checkpoints"),
        (
            "onnx",
            {"precision": "int8"},
            "was exported to onnxruntime in fp32, not int8; leave precision out",
        ),
        ("onnx", {"precision": "bf16"}, "not bf16; bf16 runs exports that were made with --to openvino"),
        ("onnx", {"compiled": True}, "torch.compile takes checkpoints"),
        ("onnx", {"runtime": "tensorrt"}, "tensorrt needs a GPU"),
        ("onnx", {"device": "abacus"}, "device 'abacus'"),
        ("openvino", {"device": "cuda"}, "openvino runs on cpu alone"),
        ("torch", {"runtime": "onnxruntime"}, "is a checkpoint, onnxruntime runs exports; .* --to onnx"),
        ("torch", {"precision": "int8"}, "torch runs fp32, bf16, fp16"),
        ("torch", {"precision": "bf16"}, "precision bf16 needs a GPU"),
    ],
)
def test_what_cannot_run_together_is_named(exports: Exports, model: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load((exports.folders | {"torch": exports.checkpoint})[model], **options)  # type: ignore[arg-type]


def test_bf16_changes_few_labels(exports: Exports, original: Model, log: Log) -> None:
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16 units")
    model = load(exports.folders["openvino"], runtime="openvino", precision="bf16")
    assert model.session.precision == "bf16"
    parity = compare(original, model, pick_views(log, original, 3), SENSORS)
    # rounded answers (so bfloat16 was used), yet nearly always of the same class: a trained network is surer of it
    assert (parity.sensors["both"]["confidence_difference"] or 0) > 1e-4
    assert parity.agreement > 0.9


def test_bf16_on_a_processor_without_it_is_refused(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    class Old(openvino.Core):  # type: ignore[misc]
        def get_property(self, *_: object) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino, "Core", Old)
    with pytest.raises(ValueError, match=r"precision bf16 needs a processor with AVX512-BF16 or AMX"):
        load(exports.folders["openvino"], precision="bf16")


def test_a_gpu_that_is_not_there_is_named(exports: Exports) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ValueError, match=r"this onnxruntime has .*onnxruntime-gpu"):
        load(exports.folders["onnx"], device="cuda")


@pytest.mark.parametrize(
    ("runtime", "provider", "packages"),
    [
        ("onnxruntime", "CUDAExecutionProvider", "onnxruntime-gpu in place"),
        ("tensorrt", "TensorrtExecutionProvider", "onnxruntime-gpu tensorrt in place"),
    ],
)
def test_a_gpu_whose_libraries_are_missing_is_no_cpu_in_disguise(
    exports: Exports, monkeypatch: pytest.MonkeyPatch, runtime: str, provider: str, packages: str
) -> None:
    import onnxruntime

    given: list[object] = []

    class FallenBack:
        def __init__(self, *_: object, providers: list[object]) -> None:
            given.extend(providers)

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", FallenBack)
    with pytest.raises(ValueError, match=rf"{provider} cannot start, only CPU.*pip install {packages}"):
        load(exports.folders["onnx"], runtime=runtime, device="cuda:1")
    # of an fp32 export TensorRT keeps the precision
    assert isinstance(given[0], tuple) and given[0][0] == provider and given[0][1]["device_id"] == 1
    assert not given[0][1].get("trt_fp16_enable", False)


def test_more_threads_than_cores_are_warned_of(exports: Exports, caplog: pytest.LogCaptureFixture) -> None:
    cores = len(os.sched_getaffinity(0))
    load(exports.folders["onnx"], threads=cores)
    assert not caplog.records
    load(exports.folders["onnx"], threads=cores + 1)
    assert f"{cores + 1} threads on {cores} cores wait for each other; give at most {cores}" in caplog.text


BLOCK = """
import json, sys
allowed = set(json.loads(sys.argv[4]))
class Block:
    def find_spec(self, name, path=None, target=None):
        if path is None and name not in allowed and name not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Block())
"""
EDGE = """
import numpy as np
import fusionseg
from fusionseg.geometry.camera import Camera
with np.load(sys.argv[2]) as arrays:
    camera = Camera(*map(int, arrays["size"]), arrays["K"])
    given = arrays["image"], arrays["points"], camera, arrays["camera_T_lidar"]
    result = fusionseg.load(sys.argv[1])(*given)
np.savez(sys.argv[3], points=result.points, pixels=result.pixels)
assert not {"torch", "timm", "open3d", "onnx"} & set(sys.modules)
try:
    fusionseg.load("student")
except ValueError as error:
    print(error)
"""
COMMANDS = """
from fusionseg.cli import main
from fusionseg.deploy import benchmark
benchmark.matrix_product_peak = lambda threads: 1e11  # of a fresh process, which has all packages
few = "--repetitions 1 --warmup 0 --cold-starts 0 --threads 1 --json".split()
assert main(["benchmark", sys.argv[1], "--data", sys.argv[2], *few, sys.argv[3]]) == 0
assert main(["export", "student"]) == 2
assert main(["demo"]) == 2
"""


def edge_modules(runtime: str) -> list[str]:
    """What can be imported where only the edge requirements are installed, the runtime one of the two, and ours."""
    lines = (ROOT / "requirements-edge.txt").read_text().splitlines()
    names = {Requirement(line).name for line in lines if line and not line.startswith("#")}
    assert "onnxruntime" in names
    # this machine has the build of OpenCV that shows windows
    waiting = (names - {"onnxruntime", "opencv-python-headless"}) | {runtime, "opencv-python"}
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        found.add(name.lower().replace("_", "-"))
        needs = map(Requirement, metadata.requires(name) or ())
        waiting |= {n.name for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})} - found
    modules = metadata.packages_distributions().items()
    return ["fusionseg", *(top for top, owners in modules if {o.lower().replace("_", "-") for o in owners} & found)]


def on_the_edge(code: str, runtime: str, *files: Path) -> "subprocess.CompletedProcess[str]":
    """A process that can import no more than that; the files are its first arguments."""
    words = [sys.executable, "-c", BLOCK + code, *map(str, files), json.dumps(edge_modules(runtime))]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(("to", "runtime"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_an_edge_install_labels_a_frame(
    exports: Exports, original: Model, log: Log, tmp_path: Path, to: str, runtime: str
) -> None:
    sample = log.sample(0, log.cameras[0])
    camera = sample.camera
    arrays: dict[str, NDArray[np.generic]] = {"K": camera.K, "size": np.array([camera.width, camera.height])}
    assert sample.image is not None
    arrays |= {"image": sample.image, "points": sample.points_lidar, "camera_T_lidar": sample.camera_T_lidar}
    np.savez(tmp_path / "in.npz", **arrays)  # type: ignore[arg-type]
    files = [exports.folders[to], tmp_path / "in.npz", tmp_path / "out.npz"]
    done = on_the_edge(EDGE, runtime, *files)
    assert done.returncode == 0, done.stderr
    assert "torch is not installed; pip install torch" in done.stdout
    expected = original(sample)
    with np.load(tmp_path / "out.npz") as answered:
        assert (answered["points"] == expected.points).mean() > 0.999
        assert (answered["pixels"] == expected.pixels).mean() > 0.999


@pytest.mark.parametrize(("to", "runtime"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_an_edge_install_measures_itself_and_names_what_other_commands_need(
    exports: Exports, log: Log, tmp_path: Path, to: str, runtime: str
) -> None:
    done = on_the_edge(COMMANDS, runtime, exports.folders[to], log.path, tmp_path / "now.json")
    assert done.returncode == 0, done.stderr
    (model,) = json.loads((tmp_path / "now.json").read_text())["models"]
    assert model["runtime"] == runtime and model["macs"] > 1e6
    # the runtime alone cannot read what is stored in an ONNX file
    assert (model["params"] is None) == (to == "onnx")
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 2 and "torch is not installed; pip install torch, or all of it: pip" in said[0]
    assert " is not installed; pip install " in said[1]


def test_nothing_that_is_known_is_worked_out_at_every_load(exports: Exports) -> None:
    import openvino
    from openvino.passes import ConstantFolding, Manager

    model = openvino.Core().read_model(exports.folders["openvino"] / "model.xml")
    before = len(model.get_ops())
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    assert len(model.get_ops()) == before > 100
