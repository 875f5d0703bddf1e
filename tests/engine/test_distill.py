"""Distillation: the teacher's answers follow the views they belong to, are kept, and teach."""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from make_logs import make_plain_log
from tiny import differing, tiny_config
from tiny_model import save_tiny_model

from fusionseg.config import AugmentConfig, DistillConfig, SourceConfig, TrainConfig
from fusionseg.data.collate import collate
from fusionseg.data.open import open_log
from fusionseg.data.prepare import View, prepare
from fusionseg.data.transforms import augment, jitter_calibration
from fusionseg.engine.dataset import TrainingViews
from fusionseg.engine.distill import Distiller
from fusionseg.engine.recipe import distil, format_distillation, gains
from fusionseg.engine.teacher import Answer, Answers, FunctionTeacher, ModelTeacher, load_teacher
from fusionseg.engine.train import train
from fusionseg.labels import DRIVING12
from fusionseg.models.checkpoint import load_checkpoint
from fusionseg.models.segmenter import Output

K = len(DRIVING12)
CHANGED = DRIVING12.names[::-1]


def make_teacher() -> FunctionTeacher:
    return FunctionTeacher(by_colour, CHANGED, "by colour")


def by_colour(view: View) -> torch.Tensor:
    """What an image model would give: logits of its own classes on a grid of its own, here made from the image."""
    image = torch.zeros(3, 16, 24) if view.image is None else torch.from_numpy(view.image.copy()).permute(2, 0, 1)
    small = torch.nn.functional.interpolate(image[None].float() / 64, size=(16, 24), mode="area")[0]
    return torch.cat([small, small[:1].expand(K - 3, -1, -1) * torch.linspace(0, 1, K - 3)[:, None, None]])


class Positions:
    """Says where things are: logit 0 is x, logit 1 is y of the prepared view in pixels, and of points their row."""

    names = DRIVING12.names
    size = None
    identity = "positions"
    asked = 0

    def __call__(self, view: View) -> Answer:
        self.asked += 1
        rows, columns = view.camera.height // 2, view.camera.width // 2
        y, x = torch.meshgrid(torch.arange(rows) * 2 + 0.5, torch.arange(columns) * 2 + 0.5, indexing="ij")
        pixels = torch.cat([x[None], y[None], torch.zeros(K - 2, rows, columns)])
        points = torch.zeros(len(view.index), K)
        points[:, 0] = torch.from_numpy(view.index.astype(np.float32) % 1000)
        return Answer(pixels, points, pixels[:2])


@pytest.fixture
def view(plain_log: Path) -> View:
    return prepare(open_log(plain_log).frame(0)[0], (64, 96))


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(flip=0.0, photometric=0),
        AugmentConfig(flip=1.0, photometric=0),
        AugmentConfig(flip=1.0, scale=(1.3, 1.3), crop=(48, 64), photometric=0),
        AugmentConfig(flip=0.0, scale=(0.6, 0.6), photometric=0, rotation_deg=3.0),
    ],
)
def test_answers_move_with_the_view(view: View, config: AugmentConfig) -> None:
    taught = Answers(Positions(), DRIVING12.names, None, feature=True).teach(view, view)
    moved = augment(taught, config, np.random.default_rng(3))
    batch = collate([moved], 4)
    teacher = batch.teacher
    assert teacher is not None and teacher.feature is not None
    # points keep their own answer
    assert teacher.points[0, :, 0].tolist() == [row % 1000 for row in moved.index]
    # where a point lay in the prepared view is what the teacher says of its new cell, to half a cell
    old = {row: uv for row, uv in zip(view.index, view.uv, strict=True)}
    columns = batch.pixel_labels.shape[2]
    checked = 0
    for row, uv in zip(moved.index, moved.uv, strict=True):
        cell = (int((uv[1] + 0.5) // 4), min(int((uv[0] + 0.5) // 4), columns - 1))
        if teacher.pixel_weight[0, cell[0], cell[1]] == 0:
            continue
        said = teacher.pixels[0, :2, cell[0], cell[1]].numpy()
        assert np.abs(said - old[row]).max() < 4 / config.scale[0] + 0.5
        checked += 1
    assert checked > 100
    # no cell outside the prepared view counts
    inside = teacher.pixel_weight[0].mean()
    assert inside == 1 if config.scale[0] >= 1 else 0.2 < inside < 0.5


def test_answers_are_kept_and_stale_ones_are_not_found(view: View, tmp_path: Path) -> None:
    teacher = Positions()
    answers = Answers(teacher, DRIVING12.names, tmp_path, feature=True)
    first = answers.teach(view, view)
    again = Answers(teacher, DRIVING12.names, tmp_path, feature=True).teach(view, view)
    assert teacher.asked == 1
    assert isinstance(again.teaching.pixels, np.memmap) and again.teaching.pixels.dtype == np.float16
    np.testing.assert_array_equal(first.teacher_points, again.teacher_points)
    changed = replace(view, image=255 - view.image)
    answers.teach(changed, changed)
    assert teacher.asked == 2
    other = Positions()
    other.identity = "other weights"
    Answers(other, DRIVING12.names, tmp_path, feature=True).teach(view, view)
    assert other.asked == 1
    # a file that was cut off is asked for again
    for path in tmp_path.rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:40])
    answers.teach(view, view)
    assert teacher.asked == 3


def test_a_teacher_of_another_size_class_order_and_grid(view: View, plain_log: Path) -> None:
    seen = prepare(open_log(plain_log).frame(0)[0], (128, 192))
    taught = Answers(load_teacher(["test_distill:make_teacher"]), DRIVING12.names, None, False).teach(view, seen)
    expected = by_colour(seen)
    np.testing.assert_allclose(taught.teaching.pixels[0], expected[CHANGED.index(DRIVING12.names[0])], atol=2e-3)
    # its points take the logits of their place, those that it saw
    known = ~np.isnan(taught.teacher_points).any(axis=1)
    assert known.mean() > 0.95
    row = int(np.flatnonzero(known)[7])
    u, v = view.uv[row]
    place = expected[:, int((v + 0.5) / 64 * 16), int((u + 0.5) / 96 * 24)].numpy()[::-1]
    assert np.abs(taught.teacher_points[row] - place).max() < 1.0


def test_unmatched_classes_and_bad_teachers_are_named() -> None:
    with pytest.raises(ValueError, match=r"lacks the classes sky.*it has heaven besides"):
        names = ["heaven" if name == "sky" else name for name in DRIVING12.names]
        Answers(FunctionTeacher(by_colour, names, "x"), DRIVING12.names, None, False)
    with pytest.raises(ValueError, match="expected module:function"):
        load_teacher(["test_distill:nothing"])
    with pytest.raises(ValueError, match="has no names or size"):
        load_teacher(["collections:OrderedDict"])
    with pytest.raises(FileNotFoundError):
        load_teacher(["nothing.safetensors"])


def test_the_mirror_image_is_asked_too(view: View, tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path / "teacher.safetensors")
    one, two = (ModelTeacher([path], mirror=mirror)(view) for mirror in (False, True))
    assert one.pixels.shape == two.pixels.shape == (K, 16, 24) and not torch.equal(one.pixels, two.pixels)
    torch.testing.assert_close(two.pixels.exp().sum(dim=0), torch.ones(16, 24), atol=1e-4, rtol=0)
    both = ModelTeacher([path, path], mirror=False)(view)
    torch.testing.assert_close(both.points.exp(), one.points.exp(), atol=1e-5, rtol=1e-4)


def test_a_cut_teacher_is_refused(tmp_path: Path) -> None:
    path = save_tiny_model(tmp_path / "teacher.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        ModelTeacher([path])


def distilled(log: Path, cache: Path, teacher: Path, **changes: object) -> TrainConfig:
    config = tiny_config(log, cache)
    return replace(config, distill=DistillConfig(teachers=(str(teacher),), **changes))


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


ALL = {"kl": 1.0, "cwd": 1.0, "cirkd": 1.0, "attention": 1.0}


def test_every_method_trains_and_resumes_with_the_same_bits(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    teacher = save_tiny_model(tmp_path / "teacher.safetensors")
    config = distilled(plain_log, view_cache, teacher, **ALL)
    train(config, tmp_path / "whole")
    curve = losses(tmp_path / "whole")
    assert len(curve) == 2 and all(math.isfinite(loss) for loss in curve) and curve[1] < curve[0]
    train(replace(config, epochs=1), tmp_path / "part")
    # the schedule depends on the number of epochs: only the same run goes on, so stop the whole one instead
    with pytest.raises(ValueError, match="another configuration"):
        train(config, tmp_path / "part", resume=True)
    train(config, tmp_path / "whole", resume=True)
    control = replace(config, distill=None)
    train(control, tmp_path / "control")
    assert differing(tmp_path / "whole" / "last.safetensors", tmp_path / "control" / "last.safetensors")


def test_a_student_learns_from_the_teacher_alone(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    """Without a word of truth the student comes to agree with a trained teacher."""
    base = tiny_config(plain_log, view_cache, epochs=20, augment=AugmentConfig(drop_image=0, drop_lidar=0))
    base = replace(base, optimizer=replace(base.optimizer, lr=5e-3, ema_decay=0.9), checkpoint_every_steps=0)
    teacher = train(base, tmp_path / "teacher")
    quiet = replace(base.loss, pixel=0.0, point=0.0, auxiliary=0.0, perception=0.0)
    heed = DistillConfig(teachers=(str(teacher),), kl=1.0, flip=False)
    student = train(replace(base, loss=quiet, distill=heed, seed=5), tmp_path / "student")
    one, two = (load_checkpoint(path).model for path in (teacher, student))
    views = TrainingViews(base, view_cache)
    batch = collate([views.view(place) for place in views.places[0]], 4)
    with torch.inference_mode():
        answers = [m(batch.image, batch.lidar, batch.present, batch.points, batch.cell).points for m in (one, two)]
    real = batch.cell >= 0
    agreement = (answers[0].argmax(-1) == answers[1].argmax(-1))[real].float().mean()
    assert agreement > 0.85


def test_unlabelled_views_are_taught_above_the_threshold(
    plain_log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    view_cache = tmp_path / "cache"  # its own: other tests ask the same teacher about these views
    extra = make_plain_log(tmp_path / "extra", frames=2)
    teacher = save_tiny_model(tmp_path / "teacher.safetensors")
    sources = (SourceConfig(str(extra)),)
    config = distilled(plain_log, view_cache, teacher, unlabelled=sources, confidence=0.0)
    assert config.distill is not None
    views = TrainingViews(config, view_cache, ModelTeacher([teacher]))
    views.count_labels()
    count = sum(len(group) for group in views.places)
    for asked in (count, 0):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            views = TrainingViews(config, view_cache, ModelTeacher([teacher]))
            views.count_labels()
            views.ask_teacher()
        assert f"asked about {asked} of {count} views" in caplog.text
        assert ("s an epoch" in caplog.text) == bool(asked)
    assert {place.source for place in views.order(0)} == {0, 1}
    batch = collate([views.view(place) for place in views.places[1]], 4)
    assert (batch.point_labels == 255).all() and batch.teacher is not None
    train(config, tmp_path / "run")
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run"))


def test_without_gaps_the_teacher_speaks_where_labels_are(view: View) -> None:
    """A wrong answer between the points costs something, or nothing."""
    answered = Answers(Positions(), DRIVING12.names, None, False).teach(view, view)
    batch = collate([answered], 4)
    assert batch.teacher is not None
    labelled = batch.pixel_labels[0].flatten() != 255
    labelled[batch.cell[0][batch.point_labels[0] != 255]] = True
    labelled = labelled.reshape(batch.teacher.pixels.shape[-2:])
    assert 0.02 < labelled.float().mean() < 0.98
    output = Output(batch.teacher.pixels.clone(), batch.teacher.points)
    output.pixels[:, :, ~labelled] = output.pixels[:, :, ~labelled].flip(1)
    costs = [
        float(Distiller(DistillConfig(dist=0.0, kl=1.0, gaps=gaps), 4, None)(output, batch).total)
        for gaps in (True, False)
    ]
    assert costs[0] > 1.0 and costs[1] == pytest.approx(0.0, abs=1e-5)
    unlabelled = replace(batch, point_labels=torch.full_like(batch.point_labels, 255))
    unlabelled = replace(unlabelled, pixel_labels=torch.full_like(batch.pixel_labels, 255))
    config = DistillConfig(dist=0.0, kl=1.0, gaps=False, confidence=0.0)
    assert float(Distiller(config, 4, None)(output, unlabelled).total) > 1.0


def test_turned_points_teach_no_pixel(view: View) -> None:
    turned = jitter_calibration(view, np.radians([0.0, 2.0, 0.0]))
    assert view.supervised is not None and view.supervised.any()
    assert turned.supervised is not None and not turned.supervised.any()
    assert turned.labels is not None and len(turned.labels) > 0.5 * len(view.labels)


def test_no_teacher_is_said(plain_log: Path, view_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"distill\.teachers is empty"):
        train(replace(tiny_config(plain_log, view_cache), distill=DistillConfig()), tmp_path)


def test_control_and_student_side_by_side(
    plain_log: Path, view_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusionseg.engine.recipe.ERRORS_DEG", (3.0,))
    teacher = save_tiny_model(tmp_path / "teacher.safetensors")
    config = distilled(plain_log, view_cache, teacher)
    config = replace(config, data=replace(config.data, val=config.data.train), epochs=1)
    report = distil(config, tmp_path / "out", [0, 1])
    text = format_distillation(report)
    (log,) = report["control"]["logs"]
    assert report["seeds"] == [0, 1] and report["teacher"]["cost"]["params"] > 0
    for figure in ("both", "camera", "lidar", "3 deg"):
        assert len(report["distilled"]["logs"][log][figure]["values"]) == 2
    assert "| teacher |" in text and "| control |" in text and "| gain |" in text
    # the control is the very run that training without the section gives
    train(replace(config, distill=None, data=replace(config.data, val=())), tmp_path / "alone")
    assert not differing(tmp_path / "alone" / "last.safetensors", tmp_path / "out" / "control-0" / "last.safetensors")
    stamp = (tmp_path / "out" / "control-0" / "last.safetensors").stat().st_mtime_ns
    assert distil(config, tmp_path / "out", [0, 1], resume=True)["gain"] == report["gain"]
    assert (tmp_path / "out" / "control-0" / "last.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="seeds are"):
        distil(config, tmp_path / "other", [1, 1])


def test_gain_and_its_interval() -> None:
    control = [{"log": {"both": v}} for v in (0.60, 0.62, 0.61)]
    student = [{"log": {"both": v}} for v in (0.63, 0.64, 0.65)]
    (gain,) = (item["both"] for item in gains(control, student, {"log": {"both": {"mean": 0.66}}}).values())
    assert gain["mean"] == pytest.approx(0.03)
    # differences 3, 2, 4 points: standard error 1 / sqrt(3), t of two degrees of freedom 4.303
    assert gain["interval"] == pytest.approx([0.03 - 4.303 * 0.01 / 3**0.5, 0.03 + 4.303 * 0.01 / 3**0.5])
    assert gain["recovered"] == pytest.approx(0.6)
