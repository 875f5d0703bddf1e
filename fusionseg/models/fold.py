"""Batch norms folded into the convolutions before them: a network for inference with a pass less after every one."""

import copy

import torch
from torch import Tensor, nn

from fusionseg.models.checkpoint import model_inputs
from fusionseg.models.segmenter import PAD_MULTIPLE, Output, Segmenter

_SIDE = 2 * PAD_MULTIPLE


def folded(network: Segmenter) -> Segmenter:
    """A copy in inference mode, on the CPU, without the batch norms that follow a convolution; it says the same.

    What follows what is seen in a run on a small input, so it works with any image encoder. A network that would say
    something else afterwards (its convolutions have other users than the norm) is returned as it is.
    """
    # a GPU rounds products (TF32) by more than the comparison below allows
    slim = copy.deepcopy(network).cpu().eval()
    example = _example(slim)
    with torch.inference_mode():
        expected, pairs = _observed(slim, example)
    names = {module: name for name, module in slim.named_modules()}
    for conv, norm in pairs:
        _absorb(conv, norm)
        # timm's norms hold the activation too
        slim.set_submodule(names[norm], getattr(norm, "act", nn.Identity()))
    with torch.inference_mode():
        answer = slim(*example)
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(answer[:2], expected[:2], strict=True))
    return slim if same else network


def _example(network: Segmenter) -> tuple[Tensor, ...]:
    """Random inputs of one small view."""
    sizes = model_inputs(network)
    draw = torch.Generator().manual_seed(0)
    cells = _SIDE // network.raster_stride
    return (
        255 * torch.rand(1, 3, _SIDE, _SIDE, generator=draw),
        torch.rand(1, sizes["raster_channels"], cells, cells, generator=draw),
        torch.ones(1, 2),
        torch.rand(1, 8, sizes["point_features"], generator=draw),
        torch.zeros(1, 8, dtype=torch.int64),
    )


def _observed(network: Segmenter, example: tuple[Tensor, ...]) -> tuple[Output, list[tuple[nn.Conv2d, nn.BatchNorm2d]]]:
    """What the network says, and its convolutions with the batch norms that take what they give."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_conv(conv: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        made[id(output)] = conv, output  # held, so that no other tensor gets its number

    def before_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], norm))

    hooks = [m.register_forward_hook(after_conv) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(before_norm) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    output: Output = network(*example)
    for hook in hooks:
        hook.remove()
    return output, pairs


def _absorb(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Let ``conv`` say what ``norm`` would make of it."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.detach()
    conv.weight = nn.Parameter(conv.weight.detach() * scale[:, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias.detach(), requires_grad=False)
