"""Losses against hand-made answers and plain references, and that two halves have the gradient of the whole."""

import math
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fusionseg.config import LossConfig
from fusionseg.labels import DRIVING12, IGNORE
from fusionseg.losses import (
    COUNTED,
    PIXEL_LOSSES,
    boundary_loss,
    class_weights,
    counts,
    hardest,
    lovasz_softmax,
    perception_kl,
    pixel_loss,
    set_cross_entropy,
    total_loss,
)

K = 12
MEMBERSHIP = torch.from_numpy(DRIVING12.membership)
CAR_OR_LARGE = DRIVING12.label_of(("car", "large_vehicle"))
ALL_TERMS = LossConfig(perception=0.5, boundary=0.5, label_smoothing=0.1)


@dataclass
class Output:
    pixels: Tensor
    points: Tensor
    image_pixels: Tensor | None
    lidar_pixels: Tensor | None


@dataclass
class Batch:
    present: Tensor
    cell: Tensor
    point_labels: Tensor
    supervised: Tensor
    pixel_labels: Tensor


def logits_of(*probabilities: float) -> Tensor:
    """One row of logits with these first probabilities, the rest shared evenly."""
    rest = (1 - sum(probabilities)) / (K - len(probabilities))
    return torch.tensor([[*probabilities, *[rest] * (K - len(probabilities))]]).log() + 3.0


def make(views: int = 4, points: int = 60, rows: int = 6, columns: int = 8, seed: int = 0) -> tuple[Output, Batch]:
    """Random logits and labels of every kind: classes, sets, ignored, padding; sparse and dense; absent sensors."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, K + len(DRIVING12.sets), (views, points), generator=g).to(torch.uint8)
    label[torch.rand(label.shape, generator=g) < 0.2] = IGNORE
    cell = torch.randint(0, rows * columns, (views, points), generator=g)
    cell[:, -5:], label[:, -5:] = -1, IGNORE
    supervised = (torch.rand(label.shape, generator=g) < 0.7) & (cell >= 0)
    dense = torch.full((views, rows, columns), IGNORE, dtype=torch.uint8)
    dense[-1] = torch.randint(0, 4, (rows, columns), generator=g).to(torch.uint8)
    present = torch.tensor([[1.0, 1], [0, 1], [1, 0], [1, 1]])[:views]

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g).requires_grad_()

    grid = (views, K, rows, columns)
    return Output(leaf(*grid), leaf(views, points, K), leaf(*grid), leaf(*grid)), Batch(
        present, cell, label, supervised, dense
    )


def part(item: Output | Batch, rows: slice) -> Output | Batch:
    return type(item)(*(getattr(item, f.name)[rows] for f in fields(item)))


def gradients(output: Output) -> list[Tensor]:
    found = [getattr(output, f.name).grad for f in fields(output)]
    assert all(g is not None for g in found)
    return [g.clone() for g in found]


def test_set_cross_entropy_by_hand() -> None:
    logits = torch.cat([logits_of(0.5, 0.3), logits_of(0.5, 0.3), logits_of(0.5, 0.3)])
    logits = torch.cat([logits, logits.flip(1)[:1]])  # car and large_vehicle, the last two, have 0.3 and 0.5
    labels = torch.tensor([0, 1, IGNORE, CAR_OR_LARGE], dtype=torch.uint8)
    value, count = set_cross_entropy(logits, labels, MEMBERSHIP)
    assert count == 3
    assert float(value) == pytest.approx(-math.log(0.5) - math.log(0.3) - math.log(0.8), abs=1e-5)
    weights = torch.ones(256)
    weights[1], weights[CAR_OR_LARGE] = 2.0, 0.5
    value, count = set_cross_entropy(logits, labels, MEMBERSHIP, weights)
    assert float(count) == 3.5
    assert float(value) == pytest.approx(-math.log(0.5) - 2 * math.log(0.3) - 0.5 * math.log(0.8), abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_without_sets_it_is_torchs_cross_entropy(smoothing: float) -> None:
    logits, labels = torch.randn(200, K), torch.randint(0, K, (200,))
    expected = functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    value, count = set_cross_entropy(logits, labels.to(torch.uint8), MEMBERSHIP, None, smoothing)
    torch.testing.assert_close(value, expected)
    assert count == 200


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, *[0.0] * 10], [-1e4] * 10 + [1e4, 1e4]], requires_grad=True)
    value, _ = set_cross_entropy(logits, torch.tensor([1, CAR_OR_LARGE], dtype=torch.uint8), MEMBERSHIP)
    value.backward()
    assert float(value.detach()) == pytest.approx(2e4) and torch.isfinite(logits.grad).all()


def test_hardest_keeps_what_is_hard() -> None:
    item = torch.tensor([0.1, 0.2, 2.0, 4.0])
    ones = torch.ones(4)
    # both below probability 0.7 are kept; their mean stands for all four
    assert float(hardest(item, ones, keep=0.25, threshold=0.7)) == pytest.approx(3.0 * 4)
    # all are easy: still the hardest half
    easy = torch.tensor([0.01, 0.02, 0.03, 0.04])
    assert float(hardest(easy, ones, keep=0.5)) == pytest.approx(0.035 * 4)
    weights = torch.tensor([1.0, 1, 3, 1])
    assert float(hardest(item, weights)) == pytest.approx((3 * 2 + 4) / 4 * 6)
    assert float(hardest(torch.zeros(0), torch.zeros(0))) == 0.0


def plain_lovasz(probability: Tensor, labels: Tensor) -> Tensor:
    """Berman et al. 2018, algorithm 1, one label at a time: the sum of jaccard increments over sorted errors.

    A set of classes is a region of its own; points of which nobody can say whether they lie in a region are left out.
    """
    sets = [set(row.nonzero()[:, 0].tolist()) for row in MEMBERSHIP]
    found = []
    for region in (sets[label] for label in labels.unique().tolist()):
        inside = [sets[label] <= region for label in labels.tolist()]
        clear = torch.tensor([a or not sets[b] & region for a, b in zip(inside, labels.tolist(), strict=True)])
        truth = torch.tensor(inside)[clear]
        p = probability[clear][:, sorted(region)].sum(dim=1)
        error = torch.where(truth, 1 - p, p)
        order = error.argsort(descending=True)
        previous, value = 0.0, torch.zeros(())
        for n in range(1, len(order) + 1):
            mistaken = torch.zeros_like(truth)
            mistaken[order[:n]] = True
            # the set function: Jaccard loss when exactly these are wrong
            jaccard = float(mistaken.sum()) / float((truth | mistaken).sum())
            value = value + error[order[n - 1]] * (jaccard - previous)
            previous = jaccard
        found.append(value)
    return torch.stack(found).mean()


@pytest.mark.parametrize("ambiguous", [0, 12])
def test_lovasz_against_the_algorithm_as_written(ambiguous: int) -> None:
    torch.manual_seed(1)
    logits, labels = torch.randn(45, K), torch.randint(0, K, (45,)).to(torch.uint8)
    labels[:ambiguous] = torch.randint(K, K + len(DRIVING12.sets), (ambiguous,)).to(torch.uint8)
    mixed = torch.cat([labels, torch.tensor([IGNORE], dtype=torch.uint8)])
    value = lovasz_softmax(torch.cat([logits, torch.randn(1, K)]), mixed, MEMBERSHIP)
    torch.testing.assert_close(value, plain_lovasz(logits.softmax(dim=1), labels))


def test_lovasz_extremes_and_cap() -> None:
    labels = torch.arange(300).remainder(3).to(torch.uint8)
    right = functional.one_hot(labels.long(), K) * 50.0
    assert float(lovasz_softmax(right, labels, MEMBERSHIP)) < 1e-6
    assert float(lovasz_softmax(right.roll(1, 1), labels, MEMBERSHIP)) == pytest.approx(1.0)
    some = torch.randn(300, K)
    capped = lovasz_softmax(some, labels, MEMBERSHIP, rows=150)
    assert abs(float(capped - lovasz_softmax(some, labels, MEMBERSHIP))) < 0.1


def test_boundary_by_hand() -> None:
    # three pixels in a row, classes 0 0 1; the pairs' probabilities to be the same are s and t
    p = torch.tensor([[0.9, 0.8, 0.3], [0.1, 0.2, 0.7]])
    logits = torch.cat([p, torch.full((K - 2, 3), 1e-12)]).log()[None, :, None, :]
    s, t = 0.9 * 0.8 + 0.1 * 0.2, 0.8 * 0.3 + 0.2 * 0.7
    labels = torch.tensor([[[0, 0, 1]]], dtype=torch.uint8)
    value = boundary_loss(logits, labels, MEMBERSHIP)
    assert float(value) == pytest.approx((-math.log(s) - math.log(1 - t)) / 2, rel=1e-4)
    # a set that may hold its neighbour's class decides nothing, one that cannot is an edge
    car, road = DRIVING12.label_of(("car",)), DRIVING12.label_of(("road",))
    unsure = torch.tensor([[[car, CAR_OR_LARGE, road]]], dtype=torch.uint8)
    assert float(boundary_loss(logits, unsure, MEMBERSHIP)) == pytest.approx(-math.log(1 - t), rel=1e-4)


def test_perception_guides_from_the_confident_side_only() -> None:
    sure, unsure = logits_of(0.9).requires_grad_(), logits_of(0.2).requires_grad_()
    value = perception_kl(sure, unsure)
    p, q = sure.softmax(1)[0], unsure.softmax(1)[0]
    confidence = 1 + (p * p.log()).sum() / math.log(K)
    torch.testing.assert_close(value, confidence * (p * (p / q).log()).sum())
    value.backward()
    assert not sure.grad.any() and unsure.grad.abs().sum() > 0.1
    torch.testing.assert_close(perception_kl(unsure, sure), value)
    assert float(perception_kl(sure, sure).detach()) == 0.0


def test_dice_jaccard_and_focal_by_hand() -> None:
    labels = torch.tensor([0, 0, 1, IGNORE, CAR_OR_LARGE], dtype=torch.uint8)
    logits = torch.cat([logits_of(0.8), logits_of(0.6), logits_of(0.1, 0.7), torch.randn(2, K)])
    known = labels != IGNORE
    p = logits[:3].softmax(dim=1)
    hit, area = p[:2, 0].sum(), p[:, 0].sum()
    other, area1 = p[2, 1], p[:, 1].sum()
    # absent classes count 0, the mean is over all K
    dice = (1 - 2 * hit / (area + 2)) + (1 - 2 * other / (area1 + 1))
    jaccard = (1 - hit / (area + 2 - hit)) + (1 - other / (area1 + 1 - other))
    for kind, expected in (("dice", dice), ("jaccard", jaccard)):
        value, summed = pixel_loss(kind, logits[known], labels[known], MEMBERSHIP, None)
        assert not summed
        torch.testing.assert_close(value, expected / K, rtol=1e-4, atol=1e-4)
    value, summed = pixel_loss("focal", logits[known], labels[known], MEMBERSHIP, None)
    truth = functional.one_hot(labels[:3].long(), K).float()
    item = functional.binary_cross_entropy_with_logits(logits[:3], truth, reduction="none")
    torch.testing.assert_close(value, (item * (1 - (-item).exp()) ** 2).sum(), rtol=1e-4, atol=1e-4)
    assert summed


def test_library_losses_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "segmentation_models_pytorch", None)
    with pytest.raises(ValueError, match=r"pip install fusionseg\[train\]"):
        pixel_loss("dice", torch.zeros(1, K), torch.zeros(1, dtype=torch.uint8), MEMBERSHIP, None)


def test_unknown_pixel_loss_lists_the_choices() -> None:
    output, batch = make()
    with pytest.raises(ValueError, match="'hinge'; choose one of ce, ohem, focal, dice, jaccard"):
        total_loss(output, batch, MEMBERSHIP, LossConfig(pixel_loss="hinge"))


def test_class_weights_by_hand() -> None:
    frequency = torch.zeros(256)
    frequency[0], frequency[1], frequency[IGNORE] = 400, 100, 1e6
    weights = class_weights(frequency, 0.5)
    # 1/20 and 1/10, mean 3/40
    torch.testing.assert_close(weights[:3], torch.tensor([2 / 3, 4 / 3, 1.0]))
    assert (class_weights(frequency, 0.0) == 1).all()
    frequency[10], frequency[11], frequency[CAR_OR_LARGE] = 300, 100, 1
    weights = class_weights(frequency, 1.0, MEMBERSHIP)
    # the set's one point is shared: half a car, half a large vehicle
    torch.testing.assert_close(weights[11] / weights[10], torch.tensor(300.5 / 100.5))
    mean = (301.5 * weights[10] + 101.5 * weights[11]) / 403
    torch.testing.assert_close(weights[CAR_OR_LARGE], mean)
    assert torch.isfinite(class_weights(torch.zeros(256), 0.5, MEMBERSHIP)).all()


def test_terms_by_hand() -> None:
    """One supervised point, one that only points learn from, and one dense pixel."""
    output, _ = make(views=1, points=3, rows=1, columns=4)
    batch = Batch(
        torch.tensor([[1.0, 0.0]]),
        torch.tensor([[2, 3, -1]]),
        torch.tensor([[0, 1, IGNORE]], dtype=torch.uint8),
        torch.tensor([[True, False, False]]),
        torch.tensor([[[5, IGNORE, IGNORE, IGNORE]]], dtype=torch.uint8),
    )

    def ce(logits: Tensor, label: int) -> Tensor:
        return -logits.log_softmax(-1)[label]

    result = total_loss(output, batch, MEMBERSHIP, LossConfig(lovasz=0, point=2.0, pixel=3.0, auxiliary=0.5))
    pixel = (ce(output.pixels[0, :, 0, 2], 0) + ce(output.pixels[0, :, 0, 0], 5)) / 2
    point = (ce(output.points[0, 0], 0) + ce(output.points[0, 1], 1)) / 2
    image = (ce(output.image_pixels[0, :, 0, 2], 0) + ce(output.image_pixels[0, :, 0, 0], 5)) / 2
    torch.testing.assert_close(result.values["pixel"], pixel.detach())
    torch.testing.assert_close(result.values["point"], point.detach())
    torch.testing.assert_close(result.values["image"], image.detach())
    assert result.values["lidar"] == 0
    torch.testing.assert_close(result.total, 3 * pixel + 2 * point + 0.5 * image)
    assert counts(batch, MEMBERSHIP).tolist() == [2, 2, 2, 0, 0]


def test_an_absent_sensor_teaches_its_head_nothing() -> None:
    output, batch = make()
    total_loss(output, batch, MEMBERSHIP, ALL_TERMS).total.backward()
    per_view = {
        name: getattr(output, name).grad.abs().sum(dim=(1, 2, 3)) > 0 for name in ("image_pixels", "lidar_pixels")
    }
    assert per_view["image_pixels"].tolist() == [True, False, True, True]
    assert per_view["lidar_pixels"].tolist() == [True, True, False, True]
    assert (output.pixels.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("kind", ["ce", "focal"])
@pytest.mark.parametrize("split", [1, 2])
def test_parts_add_up_to_the_whole_where_terms_are_sums(kind: str, split: int) -> None:
    output, batch = make()
    weights = class_weights(torch.arange(256.0) + 1, 0.5, MEMBERSHIP)
    config = LossConfig(lovasz=0, perception=0.5, pixel_loss=kind)
    whole = total_loss(output, batch, MEMBERSHIP, config, weights)
    whole.total.backward()
    expected = gradients(output)
    for f in fields(output):
        getattr(output, f.name).grad = None
    rows = [slice(0, split), slice(split, 4)]
    normalizers = sum(counts(part(batch, r), MEMBERSHIP, weights) for r in rows)
    torch.testing.assert_close(normalizers, counts(batch, MEMBERSHIP, weights))
    shares = [total_loss(part(output, r), part(batch, r), MEMBERSHIP, config, weights, normalizers, 2) for r in rows]
    sum(share.total for share in shares).backward()
    for a, b in zip(gradients(output), expected, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(sum(share.values["pixel"] for share in shares), whole.values["pixel"])


def test_two_ohem_parts_are_each_scaled_by_the_global_count() -> None:
    output, batch = make()
    config = LossConfig(lovasz=0, pixel_loss="ohem", point=0, auxiliary=0)
    normalizers = counts(batch, MEMBERSHIP)
    for rows in (slice(0, 1), slice(1, 4)):
        some, labels = part(output, rows), part(batch, rows)
        alone = total_loss(some, labels, MEMBERSHIP, config)
        share = total_loss(some, labels, MEMBERSHIP, config, None, normalizers, 2)
        ratio = counts(labels, MEMBERSHIP)[0] / normalizers[0]
        torch.testing.assert_close(share.total, alone.total * ratio.float())


@pytest.mark.parametrize("term", ["lovasz", "boundary"])
def test_terms_that_are_no_sums_are_averaged_over_parts(term: str) -> None:
    output, batch = make()
    config = replace(
        LossConfig(lovasz=0, point=0, auxiliary=0, pixel=0), **{term: 1.0, "point": float(term == "lovasz")}
    )
    name = "lovasz_point" if term == "lovasz" else "boundary"
    alone = total_loss(output, batch, MEMBERSHIP, config).values[name]
    share = total_loss(output, batch, MEMBERSHIP, config, None, 5 * counts(batch, MEMBERSHIP), 4).values[name]
    torch.testing.assert_close(share, alone / 4)


@pytest.mark.parametrize("kind", PIXEL_LOSSES)
def test_nothing_labelled_is_exactly_zero_with_gradients(kind: str) -> None:
    output, batch = make()
    batch = replace(
        batch,
        point_labels=torch.full_like(batch.point_labels, IGNORE),
        supervised=torch.zeros_like(batch.supervised),
        pixel_labels=torch.full_like(batch.pixel_labels, IGNORE),
    )
    result = total_loss(output, batch, MEMBERSHIP, replace(ALL_TERMS, pixel_loss=kind), torch.ones(256))
    assert float(result.total) == 0.0 and all(float(v) == 0.0 for v in result.values.values())
    assert counts(batch, MEMBERSHIP).tolist() == [0.0] * len(COUNTED)
    result.total.backward()
    assert all(not g.any() for g in gradients(output))


@pytest.mark.parametrize("kind", PIXEL_LOSSES)
def test_every_output_gets_a_finite_gradient(kind: str) -> None:
    output, batch = make()
    result = total_loss(output, batch, MEMBERSHIP, replace(ALL_TERMS, pixel_loss=kind))
    result.total.backward()
    assert all(torch.isfinite(g).all() and g.any() for g in gradients(output))
    expected = {"point", "lovasz_point", "pixel", "lovasz_pixel", "boundary", "image", "lidar", "perception"}
    assert set(result.values) == expected and not any(v.requires_grad for v in result.values.values())


def test_without_auxiliary_heads_their_terms_are_left_out() -> None:
    output, batch = make()
    result = total_loss(replace(output, image_pixels=None, lidar_pixels=None), batch, MEMBERSHIP, ALL_TERMS)
    assert not {"image", "lidar", "perception"} & set(result.values)


def test_descending_learns_the_labels() -> None:
    output, batch = make()
    leaves = [getattr(output, f.name) for f in fields(output)]
    optimizer = torch.optim.Adam(leaves, lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        total_loss(output, batch, MEMBERSHIP, LossConfig()).total.backward()
        optimizer.step()
    known = batch.point_labels != IGNORE
    chosen = output.points.argmax(dim=-1)[known]
    assert MEMBERSHIP[batch.point_labels[known].long(), chosen].all()


def test_grids_must_match() -> None:
    output, batch = make()
    with pytest.raises(ValueError, match="stride"):
        total_loss(replace(output, pixels=torch.zeros(4, K, 3, 3)), batch, MEMBERSHIP, LossConfig())
