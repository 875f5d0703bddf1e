"""The distillation methods against figures worked out with NumPy, and what each is meant to forgive."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fusionseg.losses.distillation import (
    attention_transfer,
    channel_wise,
    cross_image_relations,
    dist,
    kl_divergence,
    match_classes,
)

M, K = 40, 5


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def rows(seed: int) -> torch.Tensor:
    return torch.randn(M, K, generator=torch.Generator().manual_seed(seed)) * 2


def maps(seed: int, channels: int = 6, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_by_hand(temperature: float) -> None:
    student, teacher, weight = rows(0), rows(1), torch.rand(M, generator=torch.Generator().manual_seed(2))
    p, q = (softmax(x.numpy().astype(np.float64) / temperature, 1) for x in (student, teacher))
    expected = ((q * np.log(q / p)).sum(1) * weight.numpy()).sum() / weight.numpy().sum() * temperature**2
    assert kl_divergence(student, teacher, weight, temperature).item() == pytest.approx(expected, rel=1e-4)


def test_dist_by_hand() -> None:
    student, teacher = rows(0), rows(1)
    p, q = (softmax(x.numpy().astype(np.float64), 1) for x in (student, teacher))
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    assert dist(student, teacher).item() == pytest.approx(inter + intra, rel=1e-4)


def test_dist_forgives_a_less_sure_student_where_kl_does_not() -> None:
    q = softmax(rows(1).numpy().astype(np.float64), 1)
    # the same relations, half as sure
    student = torch.from_numpy(np.log(0.5 * q + 0.5 / K)).float()
    teacher = torch.from_numpy(np.log(q)).float()
    assert dist(student, teacher).item() == pytest.approx(0, abs=1e-4)
    assert kl_divergence(student, teacher).item() > 0.1


def test_channel_wise_by_hand() -> None:
    student, teacher = maps(0), maps(1)
    p, q = (softmax(x.numpy().astype(np.float64).reshape(12, -1) / 4, 1) for x in (student, teacher))
    assert channel_wise(student, teacher).item() == pytest.approx((q * np.log(q / p)).sum(1).mean() * 16, rel=1e-3)
    # a channel brighter everywhere looks at the same places
    assert channel_wise(teacher + 3, teacher).item() == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="6 and 4 channels; put a 1x1 adapter"):
        channel_wise(student, maps(0, 4))


def test_cross_image_relations_by_hand() -> None:
    student, teacher = maps(0, 6, 4, 4), maps(1, 3, 4, 4)

    def relations(x: torch.Tensor) -> np.ndarray:
        places = x.numpy().astype(np.float64).transpose(0, 2, 3, 1).reshape(32, -1)
        places /= np.linalg.norm(places, axis=1, keepdims=True)
        return softmax((places @ places.T).reshape(32, 2, 16) / 0.1, 2)

    p, q = relations(student), relations(teacher)
    expected = (q * np.log(q / p)).sum(2).mean()
    assert cross_image_relations(student, teacher, side=4).item() == pytest.approx(expected, rel=1e-3)
    # turned in the space of features nothing about relations changes
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)))[0]
    turned = torch.einsum("ij,bjhw->bihw", turn, teacher)
    assert cross_image_relations(turned, teacher, side=4).item() == pytest.approx(0, abs=1e-4)


def test_attention_by_hand() -> None:
    student, teacher = maps(0), maps(1, 3)

    def energy(x: torch.Tensor) -> np.ndarray:
        e = (x.numpy().astype(np.float64) ** 2).mean(1).reshape(2, -1)
        return e / np.linalg.norm(e, axis=1, keepdims=True)

    expected = ((energy(student) - energy(teacher)) ** 2).sum(1).mean()
    assert attention_transfer(student, teacher).item() == pytest.approx(expected, rel=1e-4)
    assert attention_transfer(-2 * teacher, teacher).item() == pytest.approx(0, abs=1e-6)


METHODS: list[tuple[Callable[..., torch.Tensor], Callable[[int], torch.Tensor]]] = [
    (kl_divergence, rows),
    (dist, rows),
    (channel_wise, maps),
    (cross_image_relations, maps),
    (attention_transfer, maps),
]


@pytest.mark.parametrize(("method", "make"), METHODS)
def test_the_student_alone_learns(method: Callable[..., torch.Tensor], make: Callable[[int], torch.Tensor]) -> None:
    student, teacher = make(0).requires_grad_(), make(1).requires_grad_()
    loss = method(student, teacher)
    loss.backward()
    assert loss.item() > 0 and student.grad is not None and student.grad.abs().sum() > 0 and teacher.grad is None
    assert method(make(1), make(1)).item() == pytest.approx(0, abs=1e-5)
    for dtype in (torch.float16, torch.bfloat16):
        half = method(make(0).to(dtype), make(1).to(dtype))
        assert half.dtype == torch.float32 and half.item() == pytest.approx(loss.item(), rel=3e-2)
    for _ in range(200):
        student = (student - 0.5 * torch.autograd.grad(method(student, teacher), student)[0]).detach().requires_grad_()
    assert method(student, teacher).item() < 0.9 * loss.item()


@pytest.mark.parametrize("method", [kl_divergence, dist])
def test_weights_leave_rows_out_and_nothing_is_nothing(method: Callable[..., torch.Tensor]) -> None:
    weight = (torch.arange(M) < 25).float()
    part = method(rows(0)[:25], rows(1)[:25])
    assert method(rows(0), rows(1), weight).item() == pytest.approx(part.item(), rel=1e-5)
    empty = torch.zeros(0, K, requires_grad=True)
    loss = method(empty, torch.zeros(0, K))
    loss.backward()
    assert loss.item() == 0
    # a student that says the same everywhere still gets a finite gradient
    flat = torch.zeros(M, K, requires_grad=True)
    method(flat, rows(1)).backward()
    assert flat.grad is not None and flat.grad.isfinite().all()


@pytest.mark.parametrize("method", [kl_divergence, dist])
def test_rows_without_weight_may_hold_anything(method: Callable[..., torch.Tensor]) -> None:
    student, teacher, weight = rows(0).requires_grad_(), rows(1), (torch.arange(M) < 25).float()
    teacher[25:] = torch.nan
    loss = method(student, teacher, weight)
    loss.backward()
    assert loss.item() == pytest.approx(method(rows(0)[:25], rows(1)[:25]).item(), rel=1e-5)
    assert student.grad is not None and student.grad.isfinite().all() and not student.grad[25:].any()
    none = method(student, teacher, torch.zeros(M))
    none.backward()
    assert none.item() == 0


@pytest.mark.parametrize("method", [channel_wise, cross_image_relations, attention_transfer])
def test_no_view_is_nothing(method: Callable[..., torch.Tensor]) -> None:
    student = torch.zeros(0, 6, 8, 8, requires_grad=True)
    loss = method(student, torch.zeros(0, 6, 16, 16))
    loss.backward()
    assert loss.item() == 0 and student.grad is not None


def test_a_class_that_the_teacher_rules_out() -> None:
    student, teacher = rows(0), rows(1)
    teacher[:, 2] = -torch.inf
    p, q = (softmax(x.numpy().astype(np.float64), 1) for x in (student, teacher))
    said = q[:, [0, 1, 3, 4]]
    expected = (said * np.log(said / p[:, [0, 1, 3, 4]])).sum(1).mean()
    assert kl_divergence(student, teacher).item() == pytest.approx(expected, rel=1e-4)
    p, q = p.T, said.T
    intra = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p[[0, 1, 3, 4]], q, strict=True)]
    full = np.insert(q, 2, 0, axis=0).T
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, full, strict=True)])
    assert dist(student, teacher).item() == pytest.approx(inter + np.sum(intra) / K, rel=1e-4)


@pytest.mark.parametrize("same", [rows(0)[:1], torch.zeros(M, K), torch.zeros(1, K)])
def test_dist_of_a_teacher_that_says_nothing(same: torch.Tensor) -> None:
    assert dist(same, same).item() == pytest.approx(0, abs=1e-6)


def test_dist_is_softened_like_kl() -> None:
    student, teacher = rows(0), rows(1)
    assert dist(student, teacher, None, 4.0).item() == pytest.approx(
        16 * dist(student / 4, teacher / 4).item(), rel=1e-5
    )


@pytest.mark.parametrize("method", [channel_wise, attention_transfer])
def test_grids_are_matched(method: Callable[..., torch.Tensor]) -> None:
    smooth = torch.linspace(0, 4, 6)[None, :, None, None] * torch.linspace(0, 1, 16)[None, None, :, None]
    teacher = smooth.expand(2, 6, 16, 16)
    student = torch.nn.functional.interpolate(teacher, size=(8, 8), mode="bilinear", align_corners=False)
    assert method(student, teacher).item() == pytest.approx(0, abs=1e-5)


def test_classes_are_matched_by_name() -> None:
    assert match_classes(["sky", "road", "car"], ["car", "sky"]) == [2, 0]
    with pytest.raises(ValueError, match=r"lacks the classes tree of the student \(it has sky, road besides\)"):
        match_classes(["sky", "road", "car"], ["car", "tree"])
