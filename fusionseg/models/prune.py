"""Structured pruning: a narrower network keeps the channels of a wide one that matter most.

Channels that are added or multiplied position by position live or die together: such a set is a *stream* here (the
features of one LiDAR stage, the fused features of one stride, the head, and so on).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fusionseg.models.fusion import CrossAttention, SumFusion
from fusionseg.models.segmenter import AUXILIARY, Segmenter


@dataclass(frozen=True)
class _Axis:
    """What the channels along one dimension of a tensor belong to: streams, or a number of channels that stay."""

    tensor: str
    dim: int
    parts: tuple[str | int, ...]


def importance(model: Segmenter, scores: dict[str, Tensor]) -> None:
    """Add to ``scores`` how much the loss, whose gradients ``model`` holds, depends on each channel of each stream.

    Per tensor that makes a channel the squared sum of weight times gradient: the first-order Taylor criterion
    (Molchanov et al. 2019), summed over all tensors of the stream, as its channels can only go together.
    """
    parameters, widths = dict(model.named_parameters()), _widths(model)
    for axis in _axes(model):
        parameter = parameters.get(axis.tensor)
        # attention's absent embeddings lie along dimension 1, inputs of a layer make no channel
        if parameter is None or parameter.grad is None or (axis.dim and parameter.shape[0] > 1):
            continue
        along = (parameter.detach() * parameter.grad).movedim(axis.dim, 0)
        effect = along.reshape(len(along), -1).sum(dim=1).square()
        sizes = [part if isinstance(part, int) else widths[part] for part in axis.parts]
        for part, values in zip(axis.parts, effect.split(sizes), strict=True):
            if isinstance(part, str):
                scores[part] = scores.get(part, torch.zeros_like(values)) + values


def narrow(wide: Segmenter, slim: Segmenter, scores: Mapping[str, Tensor]) -> None:
    """Fill ``slim`` with the most important channels of ``wide``, in their order; auxiliary heads start anew.

    Raises:
        ValueError: ``slim`` is no narrower form of ``wide``: wider somewhere, or other than in its streams' widths.
    """
    widths, asked = _widths(wide), _widths(slim)
    unknown = [stream for stream in asked if stream in widths and stream not in scores]
    if unknown:
        raise ValueError(f"no view of the training data uses {unknown[0]}; prune on logs with camera and LiDAR")
    kept = {stream: _best(wide, stream, scores[stream], size) for stream, size in asked.items() if stream in scores}
    own, tensors = slim.state_dict(), wide.state_dict()
    axes: dict[str, list[_Axis]] = {}
    for axis in _axes(wide):
        axes.setdefault(axis.tensor, []).append(axis)
    filled = {}
    for name in own:
        if name.startswith(AUXILIARY):
            continue
        if name not in tensors:
            raise ValueError(f"{name} is not in the model to prune; change widths only")
        tensor = tensors[name]
        for axis in axes.get(name, []):
            tensor = tensor.index_select(axis.dim, _places(axis, widths, kept))
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(own[name].shape)}"
            raise ValueError(f"{name} of the pruned model is {shapes}; change widths of LiDAR, fusion and heads only")
        filled[name] = tensor
    slim.load_state_dict(filled, strict=False)


def _places(axis: _Axis, widths: Mapping[str, int], kept: Mapping[str, Tensor]) -> Tensor:
    """Which indices along the axis stay."""
    places, start = [], 0
    for part in axis.parts:
        size = part if isinstance(part, int) else widths[part]
        places.append(start + (torch.arange(size) if isinstance(part, int) else kept[part]))
        start += size
    return torch.cat(places)


def _best(wide: Segmenter, stream: str, values: Tensor, size: int) -> Tensor:
    """The ``size`` most important channels of a stream, in their order; of each attention head as many."""
    if size > len(values):
        raise ValueError(f"{stream} has {len(values)} channels; {size} are asked for, choose no more than there are")
    heads = 1
    if ".ask_" in stream:
        attention = wide.get_submodule(stream.rpartition(".")[0])
        assert isinstance(attention, CrossAttention)
        heads = attention.heads
    per_head = values.view(heads, -1)
    best = per_head.topk(size // heads, dim=1).indices.sort(dim=1).values
    return (best + torch.arange(heads)[:, None] * per_head.shape[1]).flatten()


def _widths(model: Segmenter) -> dict[str, int]:
    """How many channels each stream has."""
    tensors = model.state_dict()
    alone = (axis for axis in _axes(model) if len(axis.parts) == 1)
    return {str(axis.parts[0]): tensors[axis.tensor].shape[axis.dim] for axis in alone}


def _axes(model: Segmenter) -> Iterator[_Axis]:
    """Every axis of channels that may be narrowed. The image encoder stays whole."""
    yield from _lidar_axes(model)
    for i in range(len(model.fusion)):
        yield from _fusion_axes(model, i)
    yield from _head_axes(model)


def _lidar_axes(model: Segmenter) -> Iterator[_Axis]:
    prefix = "lidar_encoder"
    yield _Axis(f"{prefix}.stem.conv.weight", 0, ("stem",))
    yield from _norm(f"{prefix}.stem.after.0", "stem")
    yield from _conv_bn(f"{prefix}.mix", "lidar0", "stem", 1)
    before = "lidar0"
    for i, stage in enumerate(model.lidar_encoder.stages):
        assert isinstance(stage, torch.nn.Sequential)
        for j in range(len(stage)):
            yield from _block(f"{prefix}.stages.{i}.{j}", before, f"lidar{i}")
            before = f"lidar{i}"


def _fusion_axes(model: Segmenter, i: int) -> Iterator[_Axis]:
    prefix, fused = f"fusion.{i}", f"fusion{i}"
    if isinstance(model.fusion[i], SumFusion):
        yield from _conv_bn(f"{prefix}.image_in", fused)
        yield from _conv_bn(f"{prefix}.lidar_in", fused, f"lidar{i}")
        yield from _block(f"{prefix}.local", fused, fused)
        return
    for sensor in ("image", "lidar"):
        yield _Axis(f"{prefix}.{sensor}_absent", 1, (fused,))
    yield from _conv_bn(f"{prefix}.image_in", fused)
    yield from _conv_bn(f"{prefix}.lidar_in", fused, f"lidar{i}")
    for ask in ("ask_lidar", "ask_image"):
        name = f"{prefix}.{ask}"
        if getattr(model.fusion[i], ask) is not None:
            keys, values = f"{name}.keys", f"{name}.values"
            yield from _linear(f"{name}.query", (keys,), (fused,))
            yield from _linear(f"{name}.key_value", (keys, values), (fused,))
            yield from _conv_bn(f"{name}.out", fused, values)
    yield from _linear(f"{prefix}.gate.gate", (fused,), (fused, fused))
    yield from _block(f"{prefix}.gate.local", fused, fused)


def _head_axes(model: Segmenter) -> Iterator[_Axis]:
    for i in range(len(model.fusion)):
        yield from _conv_bn(f"head.lateral.{i}", "head", f"fusion{i}")
        yield from _block(f"head.refine.{i}", "head", "head")
    yield from _block("head.context", "head", "head")
    yield _Axis("head.logits.weight", 1, ("head",))
    if model.point_head is not None:
        yield from _linear("point_head.point.0", ("point",), ())
        yield from _linear("point_head.cell", ("hidden",), ("head",))
        yield from _linear("point_head.own", ("hidden",), ("point",))
        yield from _linear("point_head.hidden.1", ("hidden2",), ("hidden",))
        yield _Axis("point_head.logits.weight", 1, ("hidden2",))


def _linear(name: str, out: tuple[str, ...], into: tuple[str, ...]) -> Iterator[_Axis]:
    """A layer with a bias."""
    yield _Axis(f"{name}.weight", 0, out)
    yield _Axis(f"{name}.bias", 0, out)
    if into:
        yield _Axis(f"{name}.weight", 1, into)


def _norm(name: str, stream: str) -> Iterator[_Axis]:
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        yield _Axis(f"{name}.{tensor}", 0, (stream,))


def _conv_bn(name: str, out: str, *into: str | int) -> Iterator[_Axis]:
    yield _Axis(f"{name}.0.weight", 0, (out,))
    if into:
        yield _Axis(f"{name}.0.weight", 1, into)
    yield from _norm(f"{name}.1", out)


def _block(name: str, into: str, out: str) -> Iterator[_Axis]:
    """A separable block; the depthwise convolution has one input per channel."""
    yield from _conv_bn(f"{name}.depthwise", into)
    yield from _conv_bn(f"{name}.pointwise", out, into)
