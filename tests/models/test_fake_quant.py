"""Rounding in training is that of eight bits, and a network learns to live with it."""

import torch
from test_segmenter import SMALL, build, inputs
from torch import nn
from torch.nn import functional

from fusionseg.models.fake_quant import RoundedConv2d, fake_quantize
from fusionseg.models.fusion import Gate


def test_input_and_weights_take_the_steps_of_eight_bits() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, 1, bias=False)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[[[1.27]]], [[[-127.0]]]])  # each channel has steps of its own: 0.01 and 1
    assert fake_quantize(nn.Sequential(layer)) == 1
    x = torch.tensor([[[[-55.0, 200.0, 0.0, 0.4, 0.6, 10.2]]]])  # 255 wide, so that a step is 1
    answer = layer(x)
    rounded = torch.tensor([-55.0, 200.0, 0.0, 0.0, 1.0, 10.0])
    torch.testing.assert_close(answer[0, 0, 0], 1.27 * rounded)
    torch.testing.assert_close(answer[0, 1, 0], -127 * rounded)
    with torch.no_grad():
        layer.weight[0] = 1.274
        layer.weight[1] = 1e-3
    torch.testing.assert_close(layer(x)[0, 0, 0], 1.274 * rounded)  # the largest weight of a channel is a step
    assert torch.isfinite(layer(torch.zeros(1, 1, 2, 2))).all()


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    torch.manual_seed(0)
    plain, rounded = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    rounded.load_state_dict(plain.state_dict())
    fake_quantize(nn.Sequential(rounded))
    x = torch.randn(2, 3, 5, 5)
    for layer in (plain, rounded):
        layer(x).sum().backward()
    assert plain.weight.grad is not None and rounded.weight.grad is not None
    torch.testing.assert_close(rounded.weight.grad, plain.weight.grad, rtol=0, atol=0.5)
    torch.testing.assert_close(rounded.bias.grad, plain.bias.grad)


def test_a_network_learns_what_rounding_took() -> None:
    """A channel 300 times as large as the others leaves these a few steps; the layer after it can allow for it."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 16, 1), nn.Conv2d(16, 1, 1)
    with torch.no_grad():
        first.weight[0] *= 300
        first.bias[0] *= 300
        second.weight[:, 0] /= 300
    network = nn.Sequential(first, nn.ReLU(), second)
    x = torch.randn(4, 2, 16, 16)
    with torch.no_grad():
        truth = network(x)
    fake_quantize(network)

    def loss() -> torch.Tensor:
        return functional.mse_loss(network(x), truth)

    before = loss().item()
    optimizer = torch.optim.Adam(second.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=400)
    for _ in range(400):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()
    assert before > 5e-3
    assert loss().item() < before / 4


def test_the_parts_that_an_export_keeps_in_float_are_not_rounded() -> None:
    model = build.__wrapped__(SMALL)
    names = list(model.state_dict())
    count = fake_quantize(model)
    rounded = {name for name, layer in model.named_modules() if isinstance(layer, RoundedConv2d)}
    assert len(rounded) == count > 40
    floats = ("lidar_encoder.stem", "lidar_encoder.mix", "point_head", "image_head", "lidar_head", "fusion.1.ask_lidar")
    assert not [name for name in rounded if name.startswith(floats)]
    assert {"image_encoder.body.conv_stem", "lidar_encoder.stages.0.0.depthwise.0", "head.logits"} <= rounded
    assert list(model.state_dict()) == names
    exact = build()(*inputs()).pixels
    assert 1e-4 < (model(*inputs()).pixels - exact).abs().mean() < 0.3 * exact.abs().mean()


def test_gates_round_too_though_they_use_their_convolution_by_halves() -> None:
    torch.manual_seed(0)
    gate = Gate(4, act="relu").eval()
    image, lidar = torch.randn(1, 4, 3, 5), torch.randn(1, 4, 3, 5)
    exact = gate(image, lidar)
    gate.gate.__class__ = RoundedConv2d
    assert 1e-5 < (gate(image, lidar) - exact).abs().mean() < 0.1
