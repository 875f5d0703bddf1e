import copy
import json
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from make_logs import make_camvid_log, make_plain_log
from tiny_model import save_tiny_model

from fusionseg.cli import main
from fusionseg.data.open import open_log
from fusionseg.deploy import benchmark as module
from fusionseg.deploy import contender, peers
from fusionseg.deploy.benchmark import Frames, Plan, benchmark
from fusionseg.deploy.benchmark_report import compare, format_benchmark, read_report, write_histogram
from fusionseg.deploy.contender import Contender, Recipe, parse_model
from fusionseg.deploy.fresh import cold_start, save_sample

STAGES = ["load", "project", "preprocess", "forward", "postprocess", "total", "end_to_end"]


@pytest.fixture(scope="module")
def log_path(tmp_path_factory):
    return make_plain_log(tmp_path_factory.mktemp("log") / "log", frames=3)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def frames(log_path):
    return Frames(lambda: open_log(log_path), [0, 1, 2], "front")


@pytest.fixture(scope="module")
def measured(model_path, frames):
    """A real run of all there is but peers."""
    plan = Plan(repetitions=4, warmup=1, cold_starts=1, deadline=2, batches=(1, 3), profile=True)
    return benchmark([Recipe(str(model_path))], frames, plan, score=lambda model: {"size": list(model.size)})


@pytest.fixture(autouse=True)
def known_peak(monkeypatch):
    """Measured once, for ``measured``: it takes a fresh process that loads torch."""
    monkeypatch.setattr(module, "matrix_product_peak", lambda threads: 1e11)


def run(capsys, *arguments):
    status = main(["benchmark", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_report_has_the_keys_of_the_contract_and_is_json(measured):
    report = json.loads(json.dumps(measured[0], allow_nan=False))
    assert {"machine", "git", "threads", "input", "points", "models"} <= set(report)
    assert (report["input"], report["threads"], report["frames"], report["repetitions"]) == ([64, 96], 1, 3, 4)
    (model,) = report["models"]
    assert (model["name"], model["runtime"], model["precision"], model["status"]) == ("tiny", "torch", "fp32", "ok")
    assert list(model["stages_ms"]) == STAGES
    assert all(list(value) == ["p50", "p95", "p99"] for value in model["stages_ms"].values())
    assert model["fps"]["total"] == pytest.approx(1e3 / model["stages_ms"]["total"]["p50"], rel=1e-3)
    assert model["fps"]["end_to_end"] == pytest.approx(1e3 / model["stages_ms"]["end_to_end"]["p50"], rel=1e-3)


def test_facts_are_those_of_the_model(measured, model_path, log_path):
    (model,) = measured[0]["models"]
    assert model["bytes"] == model_path.stat().st_size
    # four bytes a number; the rest is the header and the running statistics
    assert 0.8 < 4 * model["params"] / model["bytes"] < 1
    assert model["macs"] == sum(layer["macs"] for layer in model["layers"])
    assert model["share_of_peak"] == model["macs_per_s"] / measured[0]["matrix_product_macs_per_s"]
    assert 1e8 < measured[0]["matrix_product_macs_per_s"] < 1e14
    counts = [len(open_log(log_path).sample(number, "front").points_lidar) for number in (0, 1, 2, 0, 1)]
    assert measured[0]["points"] == np.median(counts)
    # scored at the size that was timed
    assert model["accuracy"] == {"size": [64, 96]}
    cold = model["cold_start"]
    assert cold["cold_start_s"] > cold["import_s"] + cold["load_s"] + cold["first_frame_s"]
    assert 100 < model["peak_memory_mb"] < 3000


def test_what_was_asked_for_is_there(measured):
    (model,) = measured[0]["models"]
    deadline = model["deadline"]
    assert deadline["frames"] == 2 == deadline["in_time"] + deadline["missed"] + deadline["late"]
    assert [item["size"] for item in model["batches"]] == [1, 3]
    assert all(item["fps"] == pytest.approx(1e3 * item["size"] / item["ms"], rel=1e-3) for item in model["batches"])
    spent = [layer["ms"] for layer in model["layers"]]
    assert spent == sorted(spent, reverse=True)
    assert list(measured[1]) == ["tiny (torch, fp32)"]
    assert len(measured[1]["tiny (torch, fp32)"]) == 4


def test_contenders_take_turns_and_warm_up_does_not_count(frames):
    ran = []

    def entrant(name, ms):
        def label(sample):
            ran.append((name, sample.frame))
            timing = dict.fromkeys(("project", "preprocess", "forward", "postprocess"), ms / 4)
            return timing | {"total": ms + len(ran)}

        recipe = Recipe(name)
        return Contender(
            name=name, runtime="torch", precision="fp32", recipe=recipe, run=label, size=(64, 96), model=None
        )

    both = [entrant("a", 100.0), entrant("b", 200.0)]
    points = module._take_turns(both, frames, Plan(repetitions=3, warmup=1), lambda: None)
    # in the order that is drawn for every round, the same every time
    assert ran == [("b", 0), ("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2), ("b", 0), ("a", 0)]
    assert both[0].spent_ms["total"] == [103.0, 106.0, 108.0]
    assert both[1].spent_ms["total"] == [204.0, 205.0, 207.0]
    assert both[0].spent_ms["load"] == both[1].spent_ms["load"]
    ends = both[0].spent_ms["end_to_end"]
    assert ends == [a + b for a, b in zip(both[0].spent_ms["load"], both[0].spent_ms["total"], strict=True)]
    assert points == int(np.median([len(frames.read(number)[0].points_lidar) for number in (0, 1, 2, 0)]))


def test_every_round_reads_its_frame_from_the_files(log_path):
    opened = []

    def reopen():
        opened.append(open_log(log_path))
        return opened[-1]

    frames = Frames(reopen, [0, 2], "front")
    assert [frames.read(position)[0].frame for position in range(3)] == [0, 2, 0]
    assert len(opened) == 3


def test_ratios_to_an_earlier_run(measured):
    base = measured[0]
    faster = copy.deepcopy(base)
    for value in faster["models"][0]["stages_ms"].values():
        value["p50"] /= 2.0
    text = compare(faster, base)
    row = next(line for line in text.splitlines() if "tiny" in line)
    assert [cell.strip() for cell in row.strip("| ").split("|")][1:] == ["2.00"] * 7
    assert "not the same" not in text
    other = {**faster, "threads": 8, "machine": {"cpu": "another"}}
    assert compare(other, base).endswith("not the same as in that run: machine.cpu, threads")
    faster["models"][0]["precision"] = "int8"
    with pytest.raises(ValueError, match="no model of this run"):
        compare(faster, base)


def test_the_table_shows_speed_accuracy_and_what_could_not_run(measured):
    report = copy.deepcopy(measured[0])
    model = report["models"][0]
    scores = {"miou": 0.71234, "miou_interval": None, "miou_all": 0.5, "accuracy": 0.9}
    model |= {"accuracy": {"points": scores, "pixels": None}, "share_of_peak": 0.256}
    slow = copy.deepcopy(model) | {"name": "slow", "status": "speed only", "macs": None, "share_of_peak": None}
    slow["stages_ms"]["total"] = {name: 4 * value for name, value in model["stages_ms"]["total"].items()}
    slow["input"] = [384, 1248]
    report |= {"models": [model, slow], "failed": [{"name": "unet", "reason": "no package", "runtime": None}]}
    text = format_benchmark(report)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    head, rule, first, second = cells[:4]
    values = dict(zip(head, first, strict=True))
    assert values["mIoU points"] == "0.712" and values["mIoU pixels"] == "-" and values["of peak"] == "26 %"
    assert dict(zip(head, second, strict=True))["speed"] == "0.25x"
    assert set("".join(rule)) == {"-"}
    assert "unet: could not run (no package)" in text
    assert text.endswith("slow (torch, fp32): input 1248x384, unlike the first; --size makes them the same")
    assert {len(row) for row in cells[:4]} == {len(head)}


def test_a_histogram_is_a_picture(tmp_path):
    write_histogram(tmp_path / "h.png", {"a": [10.0, 11.0, 30.0], "b": [10.0]})
    assert cv2.imread(str(tmp_path / "h.png")).shape == (480, 960, 3)


def test_peers_on_the_same_frames_in_the_same_runtime(monkeypatch, model_path, frames):
    monkeypatch.setattr(contender, "PEERS", ["lraspp_mobilenet_v3_large", "missing"])
    plan = Plan(repetitions=2, warmup=0, cold_starts=0, peers=True)
    report, _ = benchmark([Recipe(str(model_path))], frames, plan)
    ours, peer = report["models"]
    assert (peer["name"], peer["runtime"], peer["input"]) == ("lraspp_mobilenet_v3_large", "torch", ours["input"])
    assert (peer["status"], peer["accuracy"], peer["sensors"]) == ("speed only (random weights)", None, "camera")
    # torchvision's own count for 21 classes is 3,221,538; the two last layers have 9 classes fewer here
    assert peer["params"] == 3_221_538 - 9 * (40 + 1 + 128 + 1)
    assert peer["stages_ms"]["project"]["p50"] == 0 < peer["stages_ms"]["forward"]["p50"]
    assert report["failed"] == [
        {
            "name": "missing",
            "reason": f"peer 'missing' is not known; choose among {', '.join(peers.PEERS)}",
            "runtime": None,
        }
    ]


class TinyPeer(torch.nn.Conv2d):
    """Answers as torchvision's networks do; unlike theirs with fresh weights, classes differ from pixel to pixel."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(3, peers.CLASSES, 3, padding=1)

    def forward(self, x):
        assert x.shape[-2] % 32 == x.shape[-1] % 32 == 0
        return {"out": super().forward(x)}


@pytest.fixture(scope="module")
def exported_peer(tmp_path_factory):
    pytest.importorskip("onnxscript")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(peers.PEERS, "tiny", TinyPeer)
        network = peers.build_peer("tiny")
    path = tmp_path_factory.mktemp("peer") / "peer.onnx"
    # not a multiple of 32: padded and cropped again
    peers.export_peer(network, path, (40, 72))
    return network, path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_exported_peer_answers_as_in_torch(runtime, exported_peer):
    pytest.importorskip(runtime)
    network, path = exported_peer
    # no second file with weights beside it
    assert [found.name for found in path.parent.iterdir()] == ["peer.onnx"]
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 72, 3), dtype=np.uint8)
    expected = peers.torch_forward(network, "cpu")(image)
    found = peers.open_forward("tiny", runtime, path, 1)(image)
    assert expected.shape == found.shape == (40, 72)
    assert expected.dtype == found.dtype == np.uint8
    assert len(np.unique(expected)) > 3
    assert (expected == found).mean() > 0.99
    colour = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    logits = torch.nn.Conv2d.forward(network.network, torch.from_numpy(colour).float().permute(0, 3, 1, 2))
    assert (expected == logits[0].argmax(0).numpy()).mean() > 0.99


def test_an_exported_model(tmp_path, frames):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    from tiny_graph import PARAMS, macs_of, save_tiny_export

    folder = save_tiny_export(tmp_path / "export", (64, 96))
    plan = Plan(repetitions=2, warmup=0, cold_starts=1, batches=(2,), profile=True)
    (model,) = benchmark([Recipe(str(folder))], frames, plan)[0]["models"]
    assert (model["name"], model["runtime"], model["precision"]) == ("tiny-graph", "onnxruntime", "fp32")
    assert model["bytes"] == (folder / "model.onnx").stat().st_size
    # points are padded to a bucket
    assert (model["params"], model["macs"]) == (PARAMS, macs_of(64, 96, 2048))
    assert {layer["kind"] for layer in model["layers"]} >= {"Conv", "MatMul"}
    assert [item["size"] for item in model["batches"]] == [2]
    # no torch in it
    assert 20 < model["peak_memory_mb"] < 300
    # a whole sweep takes several views, so the work of one says nothing
    recipe = Recipe(str(folder), whole_sweep=True)
    (model,) = benchmark([recipe], frames, Plan(repetitions=1, warmup=0, cold_starts=0))[0]["models"]
    assert model["share_of_peak"] is None


def test_peers_on_a_gpu_run_in_torch_alone(tmp_path):
    with pytest.raises(ValueError, match="in torch alone"):
        peers.open_forward("unet_mobilenet_v2", "onnxruntime", tmp_path / "peer.onnx", 1, "cuda")
    with pytest.raises(ValueError, match="do not run in 'tensorrt'"):
        peers.open_forward("unet_mobilenet_v2", "tensorrt", tmp_path / "peer.onnx", 1)


def test_peers_need_images(model_path, frames):
    def blind(position):
        return replace(frames.read(position)[0], image=None), 1.0

    only_lidar = Frames(frames.reopen, frames.numbers, frames.camera)
    object.__setattr__(only_lidar, "read", blind)
    with pytest.raises(ValueError, match="no images; peers see nothing else"):
        benchmark([Recipe(str(model_path))], only_lidar, Plan(peers=True))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("student", ("student", None, None)),
        ("student@torch", ("student", "torch", None)),
        ("a/b.safetensors@torch:fp32", ("a/b.safetensors", "torch", "fp32")),
    ],
)
def test_words_for_models(word, expected):
    assert parse_model(word) == expected


def test_a_file_with_an_at_sign_is_a_file(tmp_path):
    path = tmp_path / "me@home"
    path.touch()
    assert parse_model(str(path)) == (str(path), None, None)
    with pytest.raises(ValueError, match="runtime is 'nowhere'"):
        parse_model("student@nowhere")


@pytest.mark.parametrize("values", [{"repetitions": 0}, {"warmup": -1}, {"batches": (0,)}, {"deadline": -1}])
def test_plans_that_measure_nothing(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Plan(**values)


def test_a_recipe_survives_json():
    recipe = Recipe("m", "torch", None, size=(64, 96), peer_file="")
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert Recipe.from_dict(Recipe("m").as_dict()) == Recipe("m")


def test_a_fresh_process_that_fails_says_why(tmp_path, frames):
    save_sample(frames.read(0)[0], tmp_path / "sample.npz")
    with pytest.raises(ValueError, match=r"nothing failed .*no such model file"):
        cold_start(Recipe("nothing"), tmp_path / "sample.npz")


def test_the_command_writes_json_and_compares_with_itself(capsys, tmp_path, log_path, model_path):
    base = tmp_path / "base.json"
    cores = os.sched_getaffinity(0)
    few = ["--data", log_path, "--repetitions", "2", "--warmup", "0", "--cold-starts", "0", "--threads", "1"]
    status, out, _ = run(capsys, model_path, *few, "--size", "48x64", "--json", base)
    assert status == 0
    assert f"results: {base}" in out
    same = f"--data {log_path} --size 48x64 --threads 1 --repetitions 2"
    assert f"next:    fusionseg benchmark {model_path} {same} --compare {base}" in out
    report = read_report(base)
    # the size in the shape of the image
    assert report["input"] == [44, 68]
    assert report["machine"]["affinity"] == [min(cores)]
    accuracy = report["models"][0]["accuracy"]
    # of the three frames two had a turn
    assert (accuracy["frames"], accuracy["camera"], accuracy["sensors"], accuracy["pixels"]) == (
        2,
        "front",
        "both",
        None,
    )
    assert 0 < accuracy["points"]["accuracy"] < 1
    assert os.sched_getaffinity(0) == cores
    status, out, _ = run(capsys, model_path, *few, "--frames", "1:2", "--whole-sweep", "--compare", base)
    assert status == 0
    assert "not the same as in that run: input, points, whole_sweep\n" in out
    assert "Times as fast" in out and "; whole sweep, with virtual views; " in out
    assert "--frames 1:2 --threads 1 --repetitions 2 --whole-sweep --json" in out


def test_a_log_of_images_without_points(capsys, tmp_path, model_path):
    few = ["--repetitions", "1", "--warmup", "0", "--cold-starts", "0", "--json", tmp_path / "b.json"]
    status, _, _ = run(capsys, model_path, "--data", make_camvid_log(tmp_path / "camvid"), *few)
    assert status == 0
    report = read_report(tmp_path / "b.json")
    assert report["points"] == 0
    assert report["models"][0]["accuracy"]["sensors"] == "camera"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.safetensors"], "no such model file"),
        (["student@nowhere"], "runtime is 'nowhere'"),
        (["--compare", "missing.json"], "missing.json: no such file"),
        (["--repetitions", "0"], "repetitions is 0"),
        (["--threads", "0"], "threads is 0"),
        (["--json", "figures.txt"], "expected the name of a .json file"),
        (["--histogram", "h.jpg"], "expected the name of a .png file"),
        (["--cameras", "left,front"], "label"),
        (["--frames", "9:"], "selects none"),
    ],
)
def test_bad_words_are_one_line(capsys, log_path, model_path, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = [] if words[0][0] != "-" else [model_path]
    status, out, err = run(capsys, *models, "--data", log_path, *words)
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert message in err or (words[0] == "--cameras" and "camera 'left' is not in" in err)
    assert out == ""


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"models": [{"name": "a"}]}', '{"models": 3}', b"\xff\xfe"])
def test_a_broken_base_is_found_before_anything_runs(capsys, tmp_path, content):
    base = tmp_path / "base.json"
    base.write_bytes(content if isinstance(content, bytes) else content.encode())
    status, _, err = run(capsys, "--compare", base)
    assert status == 2 and err.count("\n") == 1
    assert "base.json: not a benchmark" in err


def test_a_batch_must_be_numbers():
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", "--batch", "1,two"])
    assert stop.value.code == 2
