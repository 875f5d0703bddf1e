"""Shipped models: what is packed, what is checked at load, what the list and the card say."""

import hashlib
import json

import pytest
import torch
import yaml
from tiny_model import save_tiny_model

import fusionseg
from fusionseg.config import from_dict, to_dict
from fusionseg.models import ship as ship_module
from fusionseg.models import shipped
from fusionseg.models.checkpoint import load_checkpoint, save_checkpoint
from fusionseg.models.ship import main, ship
from fusionseg.models.shipped import About, find_model, format_models, read_card, shipped_names

ABOUT = {
    "summary": "Random weights.",
    "licence": "Apache-2.0",
    "config": "configs/tiny.yaml",
    "training_data": [{"name": "PandaSet", "part": "002, frames 00-43", "licence": "CC BY 4.0"}],
    "metrics": [
        {
            "data": "PandaSet 002, frames 48-55",
            "figure": "mIoU of points",
            "values": {"both": 0.625, "camera": 0.5},
            "command": "fusionseg evaluate tiny LOG --frames 48:56",
        }
    ],
    "limits": ["Sees nothing."],
    "notes": "## Comparison\n\nNone.\n",
}


def about(**changes):
    return from_dict(About, ABOUT | changes)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model with auxiliary heads, as training leaves it, with paths of the machine that trained in its config."""
    plain = load_checkpoint(save_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.safetensors"))
    values = to_dict(plain.config)
    values["model"]["auxiliary"] = True
    values["data"]["train"] = [{"path": "/home/someone/secret/pandaset/002", "frames": "0:44"}]
    values["data"]["cache"] = "/home/someone/cache"
    values["init"] = "/home/someone/first.safetensors"
    config = from_dict(type(plain.config), values)
    torch.manual_seed(1)
    model = ship_module.build_model(config.model, classes=12, **ship_module.model_inputs(plain.model))
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    save_checkpoint(path, model, config, plain.table, {"step": "7"})
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in place of the package's weights."""
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def test_the_mean_of_two_runs_ships(checkpoint, folder, tmp_path):
    first = load_checkpoint(checkpoint)
    second = load_checkpoint(checkpoint)
    with torch.no_grad():
        for tensor in second.model.parameters():
            tensor += 1.0
    save_checkpoint(tmp_path / "second.safetensors", second.model, second.config, second.table)
    ship(tmp_path / "second.safetensors", "tiny", about(), folder, average=checkpoint)
    shipped_weights = load_checkpoint(folder / "tiny.safetensors").model.state_dict()
    for name, tensor in first.model.named_parameters():
        if name in shipped_weights:
            torch.testing.assert_close(shipped_weights[name], tensor + 0.5, atol=2e-3, rtol=2e-3)
    other = save_tiny_model(tmp_path / "other.safetensors", image_encoder="mobilenetv3_small_100")
    with pytest.raises(ValueError, match="different networks"):
        ship(checkpoint, "tiny", about(), folder, average=other)


def test_shipping_strips_halves_and_signs(checkpoint, folder):
    card = ship(checkpoint, "tiny", about(), folder)
    content = (folder / "tiny.safetensors").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.json", "tiny.md", "tiny.safetensors"]
    assert (card.sha256, card.file_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert card.file_bytes < 0.6 * checkpoint.stat().st_size
    assert card.size == (64, 96) and card.classes == "driving12"
    before, after = load_checkpoint(checkpoint), load_checkpoint(folder / "tiny.safetensors")
    assert before.model.image_head is not None and after.model.image_head is None
    assert card.parameters == sum(p.numel() for p in after.model.parameters())
    assert after.metadata["step"] == "7"
    kept = before.model.state_dict()
    for name, tensor in after.model.state_dict().items():
        torch.testing.assert_close(tensor, kept[name].half().float() if tensor.is_floating_point() else kept[name])
    assert read_card("tiny") == card


def test_no_path_of_the_machine_that_trained_is_shipped(checkpoint, folder):
    assert b"/home/someone" in checkpoint.read_bytes()
    ship(checkpoint, "tiny", about(), folder)
    assert not any(b"someone" in path.read_bytes() for path in folder.iterdir())
    config = load_checkpoint(folder / "tiny.safetensors").config
    assert (config.data.train[0].path, config.data.train[0].frames) == ("002", "0:44")


def test_a_shipped_name_loads_from_anywhere(checkpoint, folder, tmp_path, monkeypatch):
    ship(checkpoint, "tiny", about(), folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_text("a file of that name")
    model = fusionseg.load("tiny")
    assert (model.name, model.size) == ("tiny", (64, 96))
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        fusionseg.load("./tiny")


@pytest.mark.parametrize("where", [0.0, 0.3, 0.999])
def test_one_flipped_bit_is_refused(checkpoint, folder, where):
    ship(checkpoint, "tiny", about(), folder)
    path = folder / "tiny.safetensors"
    assert find_model("tiny") == path
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tiny\.safetensors: SHA-256 is .* install fusionseg again") as caught:
        fusionseg.load("tiny")
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_shipped_ones(checkpoint, folder):
    with pytest.raises(FileNotFoundError, match=r"no such model file.*this version ships none"):
        find_model("studnet")
    for name in ("tiny", "other"):
        ship(checkpoint, name, about(), folder)
    with pytest.raises(FileNotFoundError, match=r"studnet: no such model file.*\(other, tiny\)"):
        find_model("studnet")
    assert shipped_names() == ["other", "tiny"]


@pytest.mark.parametrize(
    "damage", [lambda p: p.unlink(), lambda p: p.write_text("{"), lambda p: p.write_text('{"sha256": "0"}')]
)
def test_weights_without_a_good_card_are_refused(checkpoint, folder, damage):
    ship(checkpoint, "tiny", about(), folder)
    damage(folder / "tiny.json")
    with pytest.raises(ValueError, match=r"tiny\.json: no card to trust"):
        find_model("tiny")


def test_the_list_of_models(checkpoint, folder):
    assert "ships no model" in format_models()
    speed = {"fps": 12.34, "machine": "2 cores", "command": "fusionseg benchmark tiny"}
    card = ship(checkpoint, "tiny", about(speed=speed), folder)
    lines = format_models().splitlines()
    assert lines[0].split() == ["model", "file", "parameters", "input", "speed", "accuracy", "licence"]
    row = [cell.strip() for cell in lines[1].split("  ") if cell.strip()]
    size, parameters = f"{card.file_bytes / 1e6:.1f} MB", f"{card.parameters / 1e6:.2f} M"
    assert row == ["tiny", size, parameters, "64x96", "12.3 FPS", "both 0.625, camera 0.500", "Apache-2.0"]
    assert any("PandaSet 002, frames 48-55" in line for line in lines)
    assert any("CC BY 4.0" in line for line in lines)


def test_the_card_says_what_a_person_needs(checkpoint, folder):
    card = ship(checkpoint, "tiny", about(), folder)
    text = (folder / "tiny.md").read_text()
    for part in (
        "# Model card: tiny",
        card.sha256,
        "| PandaSet | 002, frames 00-43 | CC BY 4.0 |",
        "| both | camera |\n| --- | --- |\n| 0.625 | 0.500 |",
        "    fusionseg evaluate tiny LOG --frames 48:56",
        "- Sees nothing.",
    ):
        assert part in text
    assert text.endswith("## Comparison\n\nNone.\n")


@pytest.mark.parametrize("licence", ["CC BY-NC-SA 3.0", "non-commercial use", "noncommercial"])
def test_data_with_non_commercial_terms_is_refused(checkpoint, folder, licence):
    data = [{"name": "CamVid", "part": "all", "licence": licence}]
    with pytest.raises(ValueError, match="CamVid is under"):
        ship(checkpoint, "tiny", about(training_data=data), folder)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["", "Student", "../student", "a b", "-x"])
def test_a_name_that_is_none_is_refused(checkpoint, folder, name):
    with pytest.raises(ValueError, match="name is"):
        ship(checkpoint, name, about(), folder)


def test_all_weights_together_have_a_limit(checkpoint, folder, monkeypatch):
    first = ship(checkpoint, "tiny", about(), folder)
    monkeypatch.setattr(ship_module, "MAX_BYTES", int(1.5 * first.file_bytes))
    ship(checkpoint, "tiny", about(summary="Again, in its own place."), folder)
    with pytest.raises(ValueError, match="all weights together"):
        ship(checkpoint, "other", about(), folder)
    assert shipped_names() == ["tiny"]
    assert read_card("tiny").about.summary == "Again, in its own place."


def test_weights_beyond_16_bits_are_refused(checkpoint, folder, tmp_path):
    found = load_checkpoint(checkpoint)
    with torch.no_grad():
        found.model.lidar_encoder.stem.conv.weight[0, 0, 0, 0] = 1e6
    save_checkpoint(tmp_path / "big.safetensors", found.model, found.config, found.table)
    with pytest.raises(ValueError, match=r"lidar_encoder\.stem\.conv\.weight holds values that 16 bits cannot"):
        ship(tmp_path / "big.safetensors", "tiny", about(), folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": []}, "metrics is empty"),
        ({"limits": []}, "limits is empty"),
        ({"sumary": "x"}, "did you mean 'summary'"),
        ({"metrics": [ABOUT["metrics"][0] | {"values": {"both": 62.5}}]}, "values.both is 62.5"),
    ],
)
def test_the_command_refuses_a_poor_card_in_one_line(checkpoint, folder, tmp_path, capsys, changes, message):
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(ABOUT | changes))
    arguments = [str(checkpoint), "tiny", "--card", str(tmp_path / "card.yaml"), "--folder", str(folder)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not folder.exists()


def test_the_command_ships(checkpoint, folder, tmp_path, capsys):
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(ABOUT))
    arguments = [str(checkpoint), "tiny", "--card", str(tmp_path / "card.yaml"), "--folder", str(folder)]
    assert main(arguments) == 0
    assert "parameters" in capsys.readouterr().out
    assert json.loads((folder / "tiny.json").read_text())["about"]["licence"] == "Apache-2.0"


def test_what_the_package_ships_is_what_its_cards_say():
    for name in shipped_names():
        card = read_card(name)
        assert hashlib.sha256(find_model(name).read_bytes()).hexdigest() == card.sha256
        assert (shipped.WEIGHTS / f"{name}.md").read_text() == ship_module.card_text(name, card)
    sizes = [read_card(name).file_bytes for name in shipped_names()]
    assert sum(sizes) <= ship_module.MAX_BYTES
