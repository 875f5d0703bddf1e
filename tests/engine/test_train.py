"""Training as a whole: it learns, mixes data sets, starts from other models, and stops when it diverges."""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from make_logs import make_camvid_log, make_plain_log
from tiny import MODEL, differing, tiny_config, weights

from fusionseg.config import (
    AugmentConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SourceConfig,
    TrainConfig,
    load_config,
)
from fusionseg.data.collate import Batch
from fusionseg.engine.dataset import TrainingViews, expand, prefetch
from fusionseg.engine.optimizer import MovingAverage, learning_rate, make_optimizer
from fusionseg.engine.train import train
from fusionseg.engine.validate import score
from fusionseg.engine.writer import RunWriter
from fusionseg.labels import DRIVING12
from fusionseg.models.checkpoint import load_checkpoint

CONFIGS = Path(__file__).parents[2] / "configs"


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_training_with_rounding_goes_on_from_a_model_and_leaves_a_plain_one(
    plain_log: Path, view_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(plain_log, view_cache, epochs=1)
    first = train(config, tmp_path / "float")
    with caplog.at_level(logging.INFO):
        rounded = train(replace(config, init=str(first), quantize=True), tmp_path / "rounded")
    plain = train(replace(config, init=str(first)), tmp_path / "plain")
    assert "convolutions round to eight bits" in caplog.text
    assert differing(rounded, plain) and weights(rounded).keys() == weights(plain).keys()
    assert load_checkpoint(rounded).config.quantize


def test_it_learns_and_validates(any_log: Path, view_cache: Path, tmp_path: Path) -> None:
    config = tiny_config(
        any_log,
        view_cache,
        epochs=8,
        augment=AugmentConfig(drop_image=0.2, drop_lidar=0.2),
        loss=LossConfig(),
        optimizer=OptimizerConfig(lr=5e-3, warmup_steps=2, ema_decay=0.9),
        checkpoint_every_steps=0,
        validate_every=4,
    )
    config = replace(config, data=replace(config.data, val=config.data.train))
    best = train(config, tmp_path)
    curve = losses(tmp_path)
    assert len(curve) == 8 and curve[-1] < 0.6 * curve[0]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if "val" in row] == [4, 8]
    names = {"config.yaml", "last.safetensors", "state.pt", "log.jsonl"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    # the generated log has twice as many classes, and dense labels
    dense = (any_log / "sequences").is_dir()
    (settings,) = rows[-1]["val"].values()
    assert set(settings) == {"both", "camera", "lidar"}
    kinds = {"points", "points_visible", "pixels"} if dense else {"points", "points_visible"}
    assert all(set(figures) == kinds for figures in settings.values())
    assert settings["both"]["points"] > (0.2 if dense else 0.3)
    assert best == tmp_path / "best.safetensors"
    highest = max(score(row["val"]) for row in rows if "val" in row)
    assert float(load_checkpoint(best).metadata["miou"]) == pytest.approx(highest, abs=1e-6)
    assert load_config(tmp_path / "config.yaml") == config
    assert load_checkpoint(tmp_path / "last.safetensors").config == config


def test_points_and_dense_pixels_mix(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    camvid = make_camvid_log(tmp_path / "camvid")
    config = tiny_config(plain_log, view_cache, epochs=1)
    dense = SourceConfig(str(camvid), "camvid", split="train", weight=2.0)
    # their images have different shapes, and a batch has one
    augment = replace(config.augment, crop=(48, 64))
    config = replace(config, data=replace(config.data, train=(*config.data.train, dense)), augment=augment)
    views = TrainingViews(config, view_cache)
    counts = views.count_labels()
    # no LiDAR return is sky: only the dense labels know it
    assert counts[DRIVING12.names.index("sky")] > 0 and counts[DRIVING12.names.index("road")] > 0
    order = views.order(0)
    assert sorted(place.source for place in order) == [0] * 12 + [1] * 6
    batch = views.batch(order, 0, 0, len(order))
    labelled = (batch.pixel_labels != 255).flatten(1).any(dim=1)
    assert labelled.tolist() == [place.source == 1 for place in order]
    assert (batch.point_labels != 255).any(dim=1).tolist() == [place.source == 0 for place in order]
    train(config, tmp_path / "run")
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("image", "lidar", "points", "cell"))


def test_batches_follow_from_seed_epoch_and_place(any_log: Path, view_cache: Path) -> None:
    config = tiny_config(any_log, view_cache)
    views, again = TrainingViews(config, view_cache), TrainingViews(config, None)
    order = views.order(3)
    assert order == again.order(3) and order != views.order(4) and sorted(order) == sorted(views.order(4))
    batch = views.batch(order, 3, 4, 6)
    assert same(batch, again.batch(order, 3, 4, 6))
    assert not same(batch, views.batch(order, 4, 4, 6))
    other = TrainingViews(replace(config, seed=1), view_cache)
    assert other.order(3) != order


@pytest.mark.parametrize(("weight", "counts"), [(2.5, (2, 3)), (0.5, (0, 1)), (1.0, (1, 1))])
def test_weights_repeat_or_leave_out(weight: float, counts: tuple[int, int], plain_log: Path, view_cache: Path) -> None:
    config = tiny_config(plain_log, view_cache)
    source = replace(config.data.train[0], weight=weight)
    views = TrainingViews(replace(config, data=replace(config.data, train=(source,))), view_cache)
    order = views.order(0)
    assert len(order) == weight * 12
    assert {order.count(place) for place in views.places[0]} == set(counts)


def test_a_pattern_is_one_entry_of_many_logs(view_cache: Path, tmp_path: Path) -> None:
    for name in ("b", "a"):
        make_plain_log(tmp_path / "drives" / name, frames=2)
    source = SourceConfig(str(tmp_path / "drives" / "*"), "plain", weight=0.75)
    config = tiny_config(tmp_path / "drives" / "a", view_cache)
    views = TrainingViews(replace(config, data=replace(config.data, train=(source,))), view_cache)
    assert [entry.path for entry in expand([source])] == [str(tmp_path / "drives" / name) for name in ("a", "b")]
    # the weight is of both together: three of four views
    assert len(views.order(0)) == 3 and {place.source for place in views.order(0) + views.order(1)} == {0, 1}
    with pytest.raises(FileNotFoundError, match="matches no file or folder"):
        expand([SourceConfig(str(tmp_path / "nothing-*"))])


def test_a_broken_frame_is_left_out_or_refused(view_cache: Path, tmp_path: Path) -> None:
    log = make_plain_log(tmp_path / "log", frames=4)
    sweep = sorted((log / "sweeps").iterdir())[1]
    sweep.write_bytes(sweep.read_bytes()[:-3])
    config = tiny_config(log, view_cache)
    with pytest.raises(ValueError, match=sweep.name):
        train(config, tmp_path / "strict")
    views = TrainingViews(replace(config, data=replace(config.data, strict=False)), view_cache)
    views.count_labels()
    assert len(views.order(0)) == 3 and len({place.frame for place in views.order(0)}) == 3


def test_prefetch_keeps_order_and_passes_errors_on() -> None:
    jobs = [lambda i=i: 10 // (3 - i) for i in range(5)]
    results = prefetch(jobs, threads=2)
    assert [next(results) for _ in range(3)] == [3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_fine_tuning_starts_from_the_other_model(
    plain_log: Path, view_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(plain_log, view_cache, epochs=1, optimizer=OptimizerConfig(lr=1e-9))
    first = train(config, tmp_path / "first")
    with caplog.at_level(logging.INFO):
        second = train(replace(config, init=str(first), seed=9), tmp_path / "second")
    fresh = train(replace(config, seed=9), tmp_path / "fresh")
    name = "head.logits.weight"
    torch.testing.assert_close(weights(second)[name], weights(first)[name], rtol=1e-4, atol=1e-6)
    assert (weights(fresh)[name] - weights(first)[name]).abs().max() > 1e-2
    wider = replace(config, model=replace(MODEL, point_channels=24), init=str(first))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        train(wider, tmp_path / "wider")
    assert "start anew: 9 tensors of point_head" in caplog.text


def test_a_diverging_run_stops_with_a_hint(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    optimizer = OptimizerConfig(name="sgd", lr=1e20, clip_norm=0.0, warmup_steps=0)
    with pytest.raises(ValueError, match=r"at step \d+: training diverged; lower optimizer\.lr") as error:
        train(tiny_config(plain_log, view_cache, optimizer=optimizer, epochs=4), tmp_path)
    assert "\n" not in str(error.value)
    if (tmp_path / "state.pt").exists():
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert all(torch.isfinite(tensor).all() for tensor in state["model"].values() if tensor.is_floating_point())


def test_bfloat16_trains(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    half = train(tiny_config(plain_log, view_cache, amp=True, epochs=1), tmp_path / "half")
    full = train(tiny_config(plain_log, view_cache, epochs=1), tmp_path / "full")
    assert losses(tmp_path / "half")[0] == pytest.approx(losses(tmp_path / "full")[0], rel=0.1)
    assert differing(half, full) and weights(half)["head.logits.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 99}, "12 training views are fewer than the 99 of one step"),
        ({"device": "tractor"}, "device 'tractor' is unknown"),
        ({"optimizer": OptimizerConfig(name="lion")}, "optimizer.name is 'lion'; choose adamw or sgd"),
        ({"optimizer": OptimizerConfig(schedule="step")}, "optimizer.schedule is 'step'; choose cosine or poly"),
        ({"loss": LossConfig(pixel_loss="l2")}, "pixel_loss is 'l2'"),
        ({"model": ModelConfig(image_encoder="mobilenet_v99")}, "mobilenet_v99"),
        ({"init": "nowhere.safetensors"}, "nowhere.safetensors: no such model file"),
    ],
)
def test_settings_that_cannot_be(
    changes: dict[str, object], message: str, plain_log: Path, view_cache: Path, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        train(tiny_config(plain_log, view_cache, **changes), tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"frames": "90:95"}, "90:95"),
        ({"frames": "first"}, "expected A:B"),
        ({"cameras": ("periscope",)}, "no camera 'periscope'; it has front, left"),
        ({"path": "/nowhere/at/all"}, "no such file or folder"),
        ({"options": {"colour": 1}}, "colour"),
    ],
)
def test_data_that_is_not_there(
    source: dict[str, object], message: str, plain_log: Path, view_cache: Path, tmp_path: Path
) -> None:
    config = tiny_config(plain_log, view_cache)
    train_source = replace(config.data.train[0], **source)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(replace(config, data=replace(config.data, train=(train_source,))), tmp_path)


def test_no_data_and_no_labels_are_named(view_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.train is empty"):
        train(TrainConfig(device="cpu"), tmp_path / "none")
    log = make_plain_log(tmp_path / "log", frames=2, labels=False)
    with pytest.raises(ValueError, match="has labels"):
        train(tiny_config(log, view_cache), tmp_path / "run")


def test_a_validation_log_without_labels_is_left_out_with_a_warning(
    plain_log: Path, view_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = make_plain_log(tmp_path / "bare", frames=2, labels=False)
    config = tiny_config(plain_log, view_cache, epochs=1, validate_every=1)
    config = replace(config, data=replace(config.data, val=(SourceConfig(str(bare)),)))
    assert train(config, tmp_path / "run") == tmp_path / "run" / "last.safetensors"
    assert "not validated: bare: no labels in the first 2 frames" in caplog.text


def test_learning_rate_warms_up_and_ends_low() -> None:
    config = OptimizerConfig(lr=1.0, warmup_steps=10)
    rates = [learning_rate(config, step, 110) for step in range(110)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10] == 1.0 and rates[60] == pytest.approx(0.5) and 0 < rates[-1] < 1e-3
    poly = replace(config, schedule="poly", poly_power=2.0)
    assert learning_rate(poly, 60, 110) == pytest.approx(0.25)
    # a short run warms up for a tenth of it at most
    assert learning_rate(config, 2, 20) == 1.0


def test_norms_and_biases_are_not_decayed() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3), torch.nn.BatchNorm2d(2))
    decayed, plain = make_optimizer(model, OptimizerConfig(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert [p.dim() for p in decayed["params"]] == [4] and [p.dim() for p in plain["params"]] == [1, 1, 1]


def test_moving_average_by_hand() -> None:
    model = torch.nn.BatchNorm1d(1)
    average = MovingAverage(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(11.0)
        model.running_mean.fill_(10.0)
        model.num_batches_tracked.fill_(7)
    average.update(model, 0)
    # decay 1/10 at the first update: 0.1 * 1 + 0.9 * 11
    assert average.model.weight.item() == pytest.approx(10.0)
    assert average.model.running_mean.item() == pytest.approx(9.0)
    assert average.model.num_batches_tracked.item() == 7
    average.update(model, 1000)
    assert average.model.weight.item() == pytest.approx(10.5)


def test_score_prefers_points_of_all_sensors() -> None:
    log = {"both": {"points": 0.6, "pixels": 0.1}, "camera": {"points": 0.9}}
    assert score({"a": log}) == 0.6
    assert score({"a": log, "b": {"camera": {"pixels": 0.2}}}) == pytest.approx(0.4)
    assert score({"a": {"both": {}}}) is None


@pytest.mark.parametrize("name", ["student_pandaset.yaml", "teacher.yaml"])
def test_shipped_configs_are_complete_and_build(name: str) -> None:
    from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS
    from fusionseg.models.build import build_model

    config = load_config(CONFIGS / name)
    model = build_model(
        config.model,
        classes=len(DRIVING12),
        raster_channels=len(RASTER_CHANNELS),
        point_features=len(POINT_FEATURES),
    )
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions < 2.5 if "student" in name else 20 < millions < 60
    assert (config.data.train[0].frames, config.data.val[0].frames) == ("0:44", "48:56")


def test_a_resumed_run_takes_back_only_events_after_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", lambda folder, purge_step: given.append(purge_step))
    RunWriter(tmp_path)
    RunWriter(tmp_path, 150)
    assert given == [1, 151]
