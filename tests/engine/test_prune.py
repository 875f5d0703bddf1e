"""A wide model becomes a narrow one, is trained on and compared; a stopped run goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import MODEL, tiny_config, weights

from fusionseg.cli import main
from fusionseg.config import SourceConfig, save_config
from fusionseg.engine.prune import format_pruning, prune
from fusionseg.engine.train import train


def test_from_wide_to_narrow(
    plain_log: Path, view_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(plain_log, view_cache, epochs=1)
    wide = train(config, tmp_path / "wide")
    data = replace(config.data, val=(SourceConfig(str(plain_log), frames="0:2"),))
    slim = replace(config, data=data, model=replace(MODEL, head_channels=8, lidar_channels=(8, 8, 8, 8)))
    save_config(slim, tmp_path / "slim.yaml")
    words = ["prune", str(wide), str(tmp_path / "slim.yaml"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "pruning.json").read_text())
    before, cut, tuned = (report["models"][name]["cost"] for name in ("before", "cut", "tuned"))
    assert before["params"] > cut["params"] == tuned["params"]
    assert before["macs"] > cut["macs"] == tuned["macs"]
    assert format_pruning(report) in said and (tmp_path / "out" / "pruning.md").read_text().count("|") > 20
    assert "part of the difference" not in said
    report["models"]["before"]["input"] = [360, 640]
    assert "Before: input 640x360, then 96x64: part of the difference is the size" in format_pruning(report)
    kept = weights(tmp_path / "out" / "cut.safetensors")
    assert kept["head.logits.weight"].shape[1] == 8
    # what is not narrowed is what it was
    name = next(name for name in kept if name.startswith("image_encoder") and kept[name].dim() == 4)
    assert kept[name].equal(weights(wide)[name])
    at = (tmp_path / "out" / "tuned" / "last.safetensors").stat().st_mtime_ns
    prune(wide, slim, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "tuned" / "last.safetensors").stat().st_mtime_ns == at
    with pytest.raises(ValueError, match="was not cut from"):
        prune("student", slim, tmp_path / "out", resume=True)


def test_nothing_to_compare_on(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.val is empty"):
        prune("student", tiny_config(plain_log, view_cache), tmp_path)
