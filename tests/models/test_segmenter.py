"""The whole network: shapes at odd sizes, padding, presence, gradients, budgets."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from fusionseg.config import ModelConfig
from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS
from fusionseg.models.build import build_model
from fusionseg.models.segmenter import Output, Segmenter

K = 12
SMALL = ModelConfig(lidar_channels=(8, 8, 12, 12), fusion_channels=(8, 8, 12, 12), head_channels=16, point_channels=16)
FAST = replace(SMALL, activation="relu", mix="sum", fusion_strides=(16,), lidar_depth=0, lidar_stem=3)
SIZES = [(64, 96), (45, 61), (33, 130), (90, 160)]


@cache
def build(config: ModelConfig = SMALL) -> Segmenter:
    torch.manual_seed(0)
    model = build_model(
        config, classes=K, raster_channels=len(RASTER_CHANNELS), point_features=len(POINT_FEATURES)
    ).eval()
    for parameter in model.parameters():
        if not parameter.any():  # absent embeddings and zero-initialised gains must show, if they are used
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def inputs(
    height: int = 64, width: int = 96, points: int = 30, views: int = 2, stride: int = 4, seed: int = 0
) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    rows, columns = -(-height // stride), -(-width // stride)
    image = torch.randint(0, 256, (views, 3, height, width), generator=g).float()
    lidar = torch.randn(views, len(RASTER_CHANNELS), rows, columns, generator=g)
    lidar[:, 0] = (torch.rand(views, rows, columns, generator=g) < 0.4).float()
    lidar *= lidar[:, :1].clone()
    cells = -(-height // 4) * -(-width // 4)
    return [
        image,
        lidar,
        torch.ones(views, 2),
        torch.randn(views, points, len(POINT_FEATURES), generator=g),
        torch.randint(0, cells, (views, points), generator=g),
    ]


@torch.no_grad()
def run(arguments: list[Tensor], config: ModelConfig = SMALL) -> Output:
    return build(config).eval()(*arguments)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("attention", ["linear", "full"])
def test_odd_sizes(size: tuple[int, int], attention: str) -> None:
    output = run(inputs(*size), replace(SMALL, attention=attention))
    assert output.pixels.shape == (2, K, -(-size[0] // 4), -(-size[1] // 4))
    assert output.points.shape == (2, 30, K)
    assert torch.isfinite(output.pixels).all() and torch.isfinite(output.points).all()
    assert output.image_pixels is None and output.lidar_pixels is None


def test_the_fast_form_is_a_smaller_network_of_rectifiers() -> None:
    output = run(inputs(45, 61), FAST)
    assert output.pixels.shape == (2, K, 12, 16)
    assert torch.isfinite(output.pixels).all() and torch.isfinite(output.points).all()
    model = build(FAST)
    own = [layer for name, layer in model.named_modules() if not name.startswith("image_encoder.")]
    assert not any(isinstance(layer, torch.nn.Hardswish) for layer in own)
    assert model.lidar_encoder.stem.conv.kernel_size == (3, 3)
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in build().parameters())


@pytest.mark.parametrize("config", [SMALL, FAST])
@pytest.mark.parametrize("sensor", [0, 1])
def test_what_an_absent_sensor_holds_changes_nothing(config: ModelConfig, sensor: int) -> None:
    arguments = inputs()
    arguments[2][:, sensor] = 0
    arguments[4][:] = -1  # points are LiDAR, too
    before = run(arguments, config).pixels
    arguments[sensor] = arguments[sensor] + 50 * torch.rand_like(arguments[sensor])
    torch.testing.assert_close(run(arguments, config).pixels, before)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"activation": "gelu"}, "'gelu'; choose one of hardswish, relu"),
        ({"mix": "max"}, "'max'; choose one of gate, sum"),
        ({"lidar_stem": 4}, "lidar_stem is 4; .* choose 3, 5 or 7"),
    ],
)
def test_settings_that_no_network_has(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(replace(SMALL, **change))  # type: ignore[arg-type]


def test_a_raster_of_stride_2_gives_pixels_of_stride_4() -> None:
    output = run(inputs(45, 61, stride=2), replace(SMALL, raster_stride=2))
    assert output.pixels.shape == (2, K, 12, 16)


def test_in_training_both_auxiliary_heads_answer_on_the_same_grid() -> None:
    model = build().train()
    output = model(*inputs(45, 61))
    model.eval()
    assert output.image_pixels.shape == output.lidar_pixels.shape == output.pixels.shape
    assert output.fused.shape[2:] == (8, 8)
    without = build(replace(SMALL, auxiliary=False)).train()(*inputs())
    assert without.image_pixels is None and without.lidar_pixels is None


def test_points_do_not_depend_on_padding_order_or_company() -> None:
    arguments = inputs()
    expected = run(arguments)
    points, cell = arguments[3], arguments[4]
    padded = (
        torch.cat([points, torch.full((2, 9, points.shape[2]), 3.0)], dim=1),
        torch.cat([cell, torch.full((2, 9), -1)], dim=1),
    )
    torch.testing.assert_close(run([*arguments[:3], *padded]).points[:, :30], expected.points)
    order = torch.randperm(30)
    shuffled = run([*arguments[:3], points[:, order], cell[:, order]])
    torch.testing.assert_close(shuffled.points, expected.points[:, order])
    alone = run([a[1:] for a in arguments])
    torch.testing.assert_close(alone.points[0], expected.points[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone.pixels[0], expected.pixels[1], rtol=1e-4, atol=1e-4)


def test_no_points_at_all() -> None:
    output = run(inputs(points=0))
    assert output.points.shape == (2, 0, K)
    torch.testing.assert_close(output.pixels, run(inputs(points=5)).pixels)


def test_camera_only_does_not_see_the_lidar() -> None:
    arguments = inputs()
    arguments[2][:, 1] = 0
    before = run(arguments)
    arguments[1] = torch.randn_like(arguments[1])
    arguments[3][..., :-2] += 2.0  # what the LiDAR measured; the place in the cell is the question itself
    after = run(arguments)
    torch.testing.assert_close(after.pixels, before.pixels)
    torch.testing.assert_close(after.points, before.points)


def test_lidar_only_does_not_see_the_image() -> None:
    arguments = inputs()
    arguments[2][:, 0] = 0
    before = run(arguments)
    arguments[0] = 255 - arguments[0]
    after = run(arguments)
    torch.testing.assert_close(after.pixels, before.pixels)
    torch.testing.assert_close(after.points, before.points)


def test_both_sensors_are_used_and_absence_is_told_from_zeros() -> None:
    arguments = inputs()
    both = run(arguments).pixels
    for i in (0, 1):
        changed = list(arguments)
        changed[i] = torch.zeros_like(arguments[i])
        zeros = run(changed).pixels
        assert not torch.allclose(zeros, both, atol=1e-3)
        changed[2] = torch.ones(2, 2)
        changed[2][:, i] = 0
        assert not torch.allclose(run(changed).pixels, zeros, atol=1e-3)


def test_the_point_head_tells_points_of_one_cell_apart() -> None:
    arguments = inputs()
    arguments[4][:] = 7
    output = run(arguments)
    assert output.points.std(dim=1).min() > 1e-4
    without = run(arguments, replace(SMALL, point_head=False))
    torch.testing.assert_close(without.points, without.pixels.flatten(2)[:, :, 7][:, None].expand(-1, 30, -1))


@pytest.mark.parametrize("present", [[[1, 1], [1, 0]], [[0, 1], [1, 0]], [[0, 1], [0, 1]], [[1, 0], [1, 0]]])
def test_a_training_step_reaches_what_it_should(present: list[list[int]]) -> None:
    model = build().train()
    model.zero_grad()
    arguments = inputs(64, 64)
    arguments[2] = torch.tensor(present, dtype=torch.float32)
    output = model(*arguments)
    sum(o.square().mean() for o in (output.pixels, output.points, output.image_pixels, output.lidar_pixels)).backward()
    model.eval()
    for sensor, name in enumerate(("image_absent", "lidar_absent")):
        absent = not arguments[2][:, sensor].all()
        for block in model.fusion:
            gradient = getattr(block, name).grad
            assert bool(gradient is not None and gradient.abs().sum() > 0) == absent, (name, absent)
    finite = [p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters()]
    assert all(finite)


def test_absent_views_stay_out_of_the_batch_statistics() -> None:
    model = build(replace(SMALL, lidar_channels=(8, 8, 12, 16))).train()
    norm = model.lidar_encoder.stem.after[0]
    arguments = inputs(64, 64)
    arguments[2] = torch.tensor([[1.0, 0], [1.0, 1]])
    norm.reset_running_stats()
    model(*arguments)
    first = norm.running_mean.clone()
    arguments[1][0] = 1000.0
    norm.reset_running_stats()
    model(*arguments)
    torch.testing.assert_close(norm.running_mean, first)


def test_the_student_fits_its_budget() -> None:
    model = build(ModelConfig())
    inference = sum(p.numel() for n, p in model.named_parameters() if not n.startswith(("image_head", "lidar_head")))
    assert inference <= sum(p.numel() for p in model.parameters()) <= 2_500_000


@pytest.mark.parametrize("encoder", ["resnet34", "convnext_tiny"])
def test_teacher_sized_networks_run(encoder: str) -> None:
    config = replace(SMALL, image_encoder=encoder, attention="full", fusion_strides=(16, 32), head_channels=32)
    output = run(inputs(64, 64, views=1), config)
    assert output.pixels.shape == (1, K, 16, 16) and torch.isfinite(output.pixels).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_encoder": "mobilenetv9_small"}, "mobilenetv9_small.*close names: .*mobilenet"),
        ({"image_encoder": "vit_tiny_patch16_224"}, "strides"),
        ({"attention": "flash"}, "'flash'; choose one of linear, full"),
        ({"fusion_strides": (8, 12)}, "12"),
        ({"raster_stride": 3}, "raster stride is 3"),
        (
            {"fusion_channels": (8, 10, 12, 12)},
            r"^model\.fusion_channels is \(8, 10, 12, 12\); 10 at stride 8 .* the 4 attention heads, choose 12$",
        ),
    ],
)
def test_settings_that_no_network_can_have(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(replace(SMALL, **change))


def test_channels_of_a_gate_need_not_divide_into_heads() -> None:
    output = run(inputs(64, 64, views=1), replace(SMALL, fusion_channels=(10, 8, 12, 14)))
    assert output.pixels.shape == (1, K, 16, 16)


@pytest.mark.parametrize("present", [[[1, 1], [1, 0], [0, 1]], [[1, 0]] * 3, [[0, 1]] * 3])
@pytest.mark.parametrize("stride", [2, 4])
def test_skipping_an_absent_sensor_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, present: list[list[int]], stride: int
) -> None:
    """The exported graph runs both encoders whatever is there; the answers are those of the run that skips."""
    config = replace(SMALL, raster_stride=stride)
    arguments = inputs(45, 61, views=3, stride=stride)
    arguments[2] = torch.tensor(present, dtype=torch.float32)
    skipping = run(arguments, config)
    monkeypatch.setattr("fusionseg.models.segmenter._runs_whole", lambda present: True)
    whole = run(arguments, config)
    torch.testing.assert_close(skipping.pixels, whole.pixels)
    torch.testing.assert_close(skipping.points, whole.points)
