"""Which channels give way, and that the others stay as they were."""

from dataclasses import replace

import pytest
import torch
from test_segmenter import SMALL, K, inputs

from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS
from fusionseg.models.build import build_model
from fusionseg.models.prune import importance, narrow
from fusionseg.models.segmenter import Segmenter

WIDE = replace(SMALL, auxiliary=False)


def fresh(**widths: object) -> Segmenter:
    torch.manual_seed(3)
    config = replace(WIDE, **widths)  # type: ignore[arg-type]
    sizes = {"raster_channels": len(RASTER_CHANNELS), "point_features": len(POINT_FEATURES)}
    return build_model(config, classes=K, **sizes).eval()


def scores_of(model: Segmenter) -> dict[str, torch.Tensor]:
    model.zero_grad()
    output = model(*inputs())
    (output.pixels.square().mean() + output.points.square().mean()).backward()
    scores: dict[str, torch.Tensor] = {}
    importance(model, scores)
    return scores


def test_every_stream_is_weighed() -> None:
    scores = scores_of(fresh())
    assert {"stem", "lidar3", "fusion0", "fusion.1.ask_lidar.keys", "head", "point", "hidden", "hidden2"} <= set(scores)
    assert all(bool((values >= 0).all()) and bool(values.any()) for values in scores.values())


@pytest.mark.parametrize("mix", ["gate", "sum"])
def test_the_same_widths_give_the_same_network(mix: str) -> None:
    wide, slim = fresh(mix=mix), fresh(mix=mix)
    with torch.no_grad():
        for tensor in wide.parameters():
            tensor += 0.1 * torch.rand_like(tensor)
    narrow(wide, slim, scores_of(wide))
    with torch.no_grad():
        for one, two in zip(wide(*inputs())[:2], slim(*inputs())[:2], strict=True):
            torch.testing.assert_close(one, two)


def test_channels_without_effect_go_first() -> None:
    wide = fresh()
    dead = [1, 2, 5, 7, 8, 11, 12, 14]
    with torch.no_grad():
        # these channels of the head leave no trace in what comes after
        for layer in (wide.head.logits, wide.point_head.cell):
            layer.weight[:, dead] = 0
        for block in (*wide.head.refine, wide.head.context):
            block.pointwise[0].weight[:, dead] = 0
            for tensor in (block.pointwise[0].weight, block.pointwise[1].weight, block.pointwise[1].bias):
                tensor[dead] = 0
    slim = fresh(head_channels=8)
    narrow(wide, slim, scores_of(wide))
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in wide.parameters())
    with torch.no_grad():
        for one, two in zip(wide(*inputs())[:2], slim(*inputs())[:2], strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_each_attention_head_keeps_as_many() -> None:
    wide, slim = fresh(fusion_channels=(8, 16, 16, 8)), fresh(fusion_channels=(8, 8, 8, 8))
    scores = scores_of(wide)
    scores["fusion.1.ask_lidar.keys"] = torch.arange(16.0)
    narrow(wide, slim, scores)
    bias = wide.fusion[1].ask_lidar.query.bias
    assert torch.equal(slim.fusion[1].ask_lidar.query.bias, bias[[2, 3, 6, 7, 10, 11, 14, 15]])


def test_a_sum_of_sensors_is_narrowed_like_a_gate() -> None:
    wide = fresh(mix="sum")
    slim = fresh(mix="sum", fusion_channels=(4, 8, 12, 12), lidar_channels=(8, 8, 8, 12))
    scores = scores_of(wide)
    scores["fusion0"] = torch.tensor([1.0, 9, 2, 9, 3, 9, 4, 9])
    narrow(wide, slim, scores)
    assert torch.equal(slim.fusion[0].local.depthwise[0].weight, wide.fusion[0].local.depthwise[0].weight[1::2])
    assert torch.isfinite(slim(*inputs()).pixels).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"head_channels": 24}, "head has 16 channels; 24 are asked for"),
        ({"image_encoder": "mobilenetv3_small_050"}, "image_encoder.*change widths"),
        ({"fusion_strides": (8, 16, 32)}, r"fusion\.3\.ask_lidar.* is not in the model to prune"),
    ],
)
def test_what_is_no_narrower_form(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        narrow(fresh(), fresh(**change), scores_of(fresh()))


def test_a_part_that_no_view_uses() -> None:
    scores = scores_of(fresh())
    del scores["stem"]
    with pytest.raises(ValueError, match="no view of the training data uses stem"):
        narrow(fresh(), fresh(), scores)


def test_attention_may_go() -> None:
    wide, slim = fresh(), fresh(fusion_strides=())
    narrow(wide, slim, scores_of(wide))
    assert slim.fusion[1].ask_lidar is None
    assert torch.equal(slim.fusion[1].gate.gate.weight, wide.fusion[1].gate.gate.weight)
