"""The model file: what goes in comes out, and what is broken is named in one line."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import MODEL

from fusionseg.config import TrainConfig
from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS
from fusionseg.labels import DRIVING12, ClassTable
from fusionseg.models.build import build_model
from fusionseg.models.checkpoint import FORMAT, load_checkpoint, load_fitting, save_checkpoint
from fusionseg.models.segmenter import Segmenter

CONFIG = TrainConfig(model=MODEL, seed=3)


def make_model(classes: int = len(DRIVING12)) -> Segmenter:
    torch.manual_seed(classes)
    return build_model(
        MODEL, classes=classes, raster_channels=len(RASTER_CHANNELS), point_features=len(POINT_FEATURES)
    ).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segmenter, Path]:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model = make_model()
    save_checkpoint(path, model, CONFIG, DRIVING12, {"miou": "0.5"})
    return model, path


def test_all_comes_back(saved: tuple[Segmenter, Path]) -> None:
    model, path = saved
    checkpoint = load_checkpoint(path)
    assert checkpoint.config == CONFIG
    assert (checkpoint.table.names, checkpoint.table.colours) == (DRIVING12.names, DRIVING12.colours)
    assert checkpoint.table.sets == DRIVING12.sets
    assert checkpoint.metadata["miou"] == "0.5" and checkpoint.metadata["version"]
    assert not checkpoint.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, checkpoint.model.state_dict()[name]), name
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_the_same_answers(saved: tuple[Segmenter, Path]) -> None:
    model, path = saved
    generator = torch.Generator().manual_seed(0)
    inputs = (
        torch.rand(1, 3, 64, 96, generator=generator) * 255,
        torch.rand(1, len(RASTER_CHANNELS), 16, 24, generator=generator),
        torch.ones(1, 2),
        torch.rand(1, 10, len(POINT_FEATURES), generator=generator),
        torch.arange(10)[None],
    )
    with torch.inference_mode():
        assert torch.equal(model(*inputs).points, load_checkpoint(path).model(*inputs).points)


def test_half_precision_is_smaller_and_close(saved: tuple[Segmenter, Path], tmp_path: Path) -> None:
    model, path = saved
    save_checkpoint(tmp_path / "half.safetensors", model, CONFIG, DRIVING12, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * path.stat().st_size
    weight = load_checkpoint(tmp_path / "half.safetensors").model.head.state_dict()
    for name, tensor in model.head.state_dict().items():
        assert weight[name].dtype == tensor.dtype
        torch.testing.assert_close(weight[name], tensor, rtol=1e-3, atol=1e-4)


def test_metadata_cannot_shadow_the_format(saved: tuple[Segmenter, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'config' belongs to the format"):
        save_checkpoint(tmp_path / "x.safetensors", saved[0], CONFIG, DRIVING12, {"config": "{}"})


def test_a_failed_write_leaves_the_old_file(saved: tuple[Segmenter, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = saved
    before = path.read_bytes()

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ValueError, match="No space left"):
        save_checkpoint(path, model, CONFIG, DRIVING12)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def rewrite(source: Path, path: Path, drop: str | None = None, **metadata: str) -> Path:
    """The file again with other metadata, or without a tensor."""
    raw = source.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])["__metadata__"] | metadata
    save_file({name: t for name, t in load_file(source).items() if name != drop}, path, header)
    return path


def test_broken_files_are_named(saved: tuple[Segmenter, Path], tmp_path: Path) -> None:
    content = saved[1].read_bytes()
    path = tmp_path / "broken.safetensors"
    for damaged in (content[: len(content) // 2], content[:4], b"", b"PK\x03\x04 a zip file of torch.save"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="not a complete safetensors file") as error:
            load_checkpoint(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no such model file"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="no such model file"):
        load_checkpoint(tmp_path)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=f"not a model of fusionseg.*{FORMAT}"):
        load_checkpoint(tmp_path / "other.safetensors")


@pytest.mark.parametrize("key", ["config", "classes", "inputs"])
@pytest.mark.parametrize("value", ["{", '{"nonsense": 1}', "3"])
def test_a_broken_header_is_refused(key: str, value: str, saved: tuple[Segmenter, Path], tmp_path: Path) -> None:
    path = rewrite(saved[1], tmp_path / "header.safetensors", **{key: value})
    with pytest.raises(ValueError, match="does not describe a model") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_missing_weight_is_named(saved: tuple[Segmenter, Path], tmp_path: Path) -> None:
    name = "lidar_encoder.stem.conv.weight"
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load_checkpoint(rewrite(saved[1], tmp_path / "missing.safetensors", drop=name))


def test_another_class_table_does_not_fit(saved: tuple[Segmenter, Path], tmp_path: Path) -> None:
    classes = json.dumps({"name": "two", "names": ["a", "b"], "colours": [[0, 0, 0], [1, 1, 1]], "sets": []})
    with pytest.raises(ValueError, match=r"do not fit.*head.logits.weight has shape \(12, .*expected \(2, "):
        load_checkpoint(rewrite(saved[1], tmp_path / "table.safetensors", classes=classes))


def test_fine_tuning_takes_all_but_the_last_layers(saved: tuple[Segmenter, Path]) -> None:
    model, path = saved
    other = make_model(classes=3)
    fresh = load_fitting(other, path)
    assert fresh and all("logits" in name for name in fresh)
    taken = [name for name in other.state_dict() if name not in fresh]
    assert all(torch.equal(other.state_dict()[name], model.state_dict()[name]) for name in taken)


def test_a_model_without_a_fitting_weight_is_refused(saved: tuple[Segmenter, Path]) -> None:
    with pytest.raises(ValueError, match="no weight fits"):
        load_fitting(torch.nn.Conv2d(2, 2, 3), saved[1])


def test_a_table_of_its_own(tmp_path: Path) -> None:
    table = ClassTable("mine", ("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), ((0, 2),))
    save_checkpoint(tmp_path / "mine.safetensors", make_model(3), CONFIG, table)
    loaded = load_checkpoint(tmp_path / "mine.safetensors").table
    assert (loaded.name, loaded.names, loaded.colours, loaded.sets) == ("mine", table.names, table.colours, ((0, 2),))
