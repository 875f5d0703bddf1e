"""Attention against plain references, and what presence means."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fusionseg.models.fusion import ATTENTION, CrossAttention, Fusion, SumFusion, full_attention, linear_attention


def tensors(queries: int = 7, keys: int = 11) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return (
        torch.randn(2, 3, 4, queries),
        torch.randn(2, 3, 4, keys),
        torch.randn(2, 3, 4, keys),
        torch.rand(2, 1, 1, keys),
    )


def test_linear_attention_is_the_einsum_of_the_paper() -> None:
    query, key, value, weight = tensors()
    shares = key.exp() * weight
    shares = shares / shares.sum(dim=-1, keepdim=True)
    context = torch.einsum("bhdn,bhen->bhde", shares, value)
    expected = torch.einsum("bhde,bhdm->bhem", context, query.softmax(dim=2))
    torch.testing.assert_close(linear_attention(query, key, value, weight), expected, rtol=1e-4, atol=1e-5)


def test_full_attention_is_a_weighted_softmax() -> None:
    query, key, value, weight = tensors()
    scores = torch.einsum("bhdm,bhdn->bhmn", query, key) / query.shape[2] ** 0.5
    shares = scores.exp() * weight.transpose(-1, -2).reshape(2, 1, 1, -1)
    shares = shares / shares.sum(dim=-1, keepdim=True)
    expected = torch.einsum("bhmn,bhdn->bhdm", shares, value)
    torch.testing.assert_close(full_attention(query, key, value, weight), expected, rtol=1e-4, atol=1e-5)


def test_full_attention_with_equal_trust_is_sdpa() -> None:
    query, key, value, weight = tensors()
    q, k, v = (t.transpose(-1, -2) for t in (query, key, value))
    expected = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
    torch.testing.assert_close(full_attention(query, key, value, torch.full_like(weight, 0.7)), expected)


@pytest.mark.parametrize("attend", [linear_attention, full_attention])
def test_keys_without_trust_are_not_heard(attend) -> None:
    query, key, value, weight = tensors()
    weight[..., 5:] = 0
    heard = attend(query, key, value, weight)
    torch.testing.assert_close(
        attend(query, key[..., :5], value[..., :5], weight[..., :5]), heard, rtol=1e-3, atol=1e-4
    )
    key[..., 5:], value[..., 5:] = 3.0, -7.0
    torch.testing.assert_close(attend(query, key, value, weight), heard, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ATTENTION)
def test_nobody_to_hear_adds_nothing(kind: str) -> None:
    """With every key at trust 0 the answer does not depend on what the keys say."""
    torch.manual_seed(0)
    block = CrossAttention(8, kind=kind, heads=2).eval()
    target, weight = torch.randn(1, 8, 3, 4), torch.zeros(1, 1, 3, 4)
    answers = [block(target, torch.randn(1, 8, 3, 4) * 5, weight) for _ in range(2)]
    torch.testing.assert_close(*answers)
    torch.testing.assert_close(answers[0], target + block.out(torch.zeros_like(target)))


@pytest.mark.parametrize("kind", ["linear", "full", None])
@pytest.mark.parametrize("sensor", [0, 1])
def test_an_absent_sensor_has_no_say(kind: str | None, sensor: int) -> None:
    torch.manual_seed(0)
    block = Fusion(image_channels=5, lidar_channels=6, channels=8, attention=kind).eval()
    image, lidar, share = torch.randn(2, 5, 3, 4), torch.randn(2, 6, 3, 4), torch.rand(2, 1, 3, 4)
    present = torch.ones(2, 2)
    present[0, sensor] = 0
    before = block(image, lidar, share, present)
    if sensor == 0:
        image = image + torch.randn_like(image)
    else:
        lidar, share = lidar + torch.randn_like(lidar), torch.rand_like(share)
    after = block(image, lidar, share, present)
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1], atol=1e-3)


def test_a_sum_takes_what_is_there() -> None:
    torch.manual_seed(0)
    block = SumFusion(image_channels=5, lidar_channels=6, channels=8, act="relu").eval()
    image, lidar, share = torch.randn(3, 5, 3, 4), torch.randn(3, 6, 3, 4), torch.rand(3, 1, 3, 4)
    present = torch.tensor([[1.0, 1], [1, 0], [0, 1]])
    fused = block(image, lidar, share, present)
    nothing = torch.zeros_like(image[:1]), torch.zeros_like(lidar[:1])
    of_image = block.image_in(torch.cat([image[:2], nothing[0]]))
    of_lidar = block.lidar_in(torch.cat([lidar[:1], nothing[1], lidar[2:]]))
    torch.testing.assert_close(fused, block.local(torch.relu(of_image + of_lidar)))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="'softmax'; choose one of linear, full"):
        CrossAttention(8, kind="softmax", heads=2)
    with pytest.raises(ValueError, match="10 channels"):
        CrossAttention(10, kind="full", heads=4)
