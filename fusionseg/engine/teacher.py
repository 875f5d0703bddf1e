"""Teachers: what answers for a view, from model files or any function, and their answers kept on disk.

A teacher of one's own is an object with ``names`` (its classes), ``size`` (the input it wants, or None), ``identity``
(changes when its answers would) and a call that takes a prepared ``View`` and gives an ``Answer``; ``FunctionTeacher``
makes one from a function that returns logits. A config names it as ``module:function``, which is called without
arguments and returns it.
"""

import hashlib
import importlib
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionseg.data.collate import collate
from fusionseg.data.prepare import Teaching, View
from fusionseg.data.transforms import flip
from fusionseg.deploy.costs import count_parameters
from fusionseg.files import atomic_write
from fusionseg.losses.distillation import match_classes
from fusionseg.models.checkpoint import load_checkpoint
from fusionseg.models.segmenter import Output
from fusionseg.models.shipped import find_model


@dataclass(frozen=True, eq=False)
class Answer:
    """What a teacher says of one view.

    Attributes:
        pixels: (K, h, w) logits on any grid that covers the image.
        points: (M, K) logits of the view's points, or None (they are then those of their place in the image).
        feature: (C, h', w') a feature to imitate, or None.
    """

    pixels: Tensor
    points: Tensor | None = None
    feature: Tensor | None = None


class Teacher(Protocol):
    """Anything that knows better; see the module's text."""

    names: tuple[str, ...]
    size: tuple[int, int] | None
    identity: str

    def __call__(self, view: View) -> Answer: ...  # noqa: D102


class FunctionTeacher:
    """A teacher from a function of a view that returns logits (K, h, w): an image model of any library, say.

    Args:
        function: takes a prepared view: ``image`` (H, W, 3) uint8 RGB or None, points, camera.
        names: its classes, in the order of the logits.
        identity: a name that changes whenever its answers would, as a hash of its weights.
        size: (height, width) of the image it wants, or None for the student's.
    """

    def __init__(
        self,
        function: Callable[[View], Tensor],
        names: Sequence[str],
        identity: str,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.function, self.names, self.identity, self.size = function, tuple(names), identity, size

    def __call__(self, view: View) -> Answer:
        """The function's logits.

        Raises:
            ValueError: they are not of shape (K, h, w).
        """
        with torch.inference_mode():
            logits = torch.as_tensor(self.function(view))
        if logits.ndim != 3 or len(logits) != len(self.names):
            shape, expected = tuple(logits.shape), f"({len(self.names)}, h, w)"
            raise ValueError(f"teacher {self.identity} gave logits of shape {shape}; expected {expected}")
        return Answer(logits)


class ModelTeacher:
    """Models of this project, their probabilities averaged; with ``mirror`` over the mirror image too.

    Raises:
        FileNotFoundError, ValueError: a file that is no model, or models of different classes or sizes.
    """

    def __init__(self, paths: Sequence[Path], device: torch.device | str = "cpu", mirror: bool = True) -> None:
        loaded = [load_checkpoint(path, device) for path in paths]
        self.names = loaded[0].table.names
        self.size: tuple[int, int] | None = loaded[0].config.data.size
        for path, other in zip(paths, loaded, strict=True):
            if other.table.names != self.names or other.config.data.size != self.size:
                raise ValueError(f"{path}: classes or input size differ from those of {paths[0]}; average equals only")
        self.models, self.device, self.mirror = [item.model for item in loaded], device, mirror
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        self.identity = hashlib.sha256("".join([*digests, str(mirror)]).encode()).hexdigest()[:16]

    @property
    def parameters(self) -> int:
        """Of one of the models."""
        return count_parameters(self.models[0])

    def __call__(self, view: View) -> Answer:
        """The mean of what the models say; the feature is the first model's."""
        pixels, points, features = [], [], []
        for model in self.models:
            for mirrored in (False, True) if self.mirror else (False,):
                output = self._run(model, flip(view) if mirrored else view)
                assert output.fused is not None
                plane, fused = (t.flip(-1) if mirrored else t for t in (output.pixels, output.fused))
                pixels.append(plane.float().softmax(dim=1)[0])
                points.append(output.points.float().softmax(dim=-1)[0])
                if model is self.models[0]:
                    features.append(fused[0])
        mean = [torch.stack(items).mean(dim=0).clamp(min=1e-7).log() for items in (pixels, points)]
        return Answer(mean[0], mean[1], torch.stack(features).mean(dim=0))

    def _run(self, model: Any, view: View) -> Output:
        batch = collate([view], model.raster_stride).to(self.device)
        with torch.inference_mode():
            output: Output = model(batch.image, batch.lidar, batch.present, batch.points, batch.cell)
        return output


def load_teacher(names: Sequence[str], device: torch.device | str = "cpu", mirror: bool = True) -> Teacher:
    """The teacher that a configuration names.

    Raises:
        FileNotFoundError, ValueError: a file that is no model, or a function that cannot be loaded or gives no teacher.
    """
    if len(names) == 1 and ":" in names[0] and not Path(names[0]).exists():
        module, _, function = names[0].partition(":")
        try:
            made: Teacher = getattr(importlib.import_module(module), function)()
        except (ImportError, AttributeError, TypeError) as error:
            raise ValueError(
                f"teacher {names[0]!r} cannot be loaded ({error}); expected module:function, called without arguments"
            ) from error
        lacks = [name for name in ("names", "size", "identity") if not hasattr(made, name)]
        if lacks or not callable(made):
            raise ValueError(
                f"teacher {names[0]!r} has no {' or '.join(lacks) or 'call'}; see fusionseg.engine.teacher"
            )
        return made
    return ModelTeacher([find_model(name) for name in names], device, mirror)


class Answers:
    """A teacher's answers to views, kept as memory-mapped float16 so that it is asked once per view.

    A file's name holds a checksum of the view it answers and its folder one of the teacher, so that the answer of
    another teacher, or to other data, is never found.

    Args:
        teacher: who is asked.
        names: the student's classes.
        folder: where answers are kept, or None to ask anew each time.
        feature: keep the teacher's feature too.

    Raises:
        ValueError: the teacher lacks one of the classes.
    """

    def __init__(self, teacher: Teacher, names: Sequence[str], folder: Path | None, feature: bool) -> None:
        self.teacher, self.feature = teacher, feature
        self._columns = match_classes(teacher.names, names)
        key = hashlib.sha256("|".join([teacher.identity, *teacher.names, *names]).encode()).hexdigest()[:16]
        self.folder = None if folder is None else folder / "teacher" / key
        self.asked, self.spent_s = 0, 0.0

    def describe(self, views: int) -> str:
        """How many of ``views`` views the teacher itself answered, in what time, and what keeping them saves."""
        each_s = self.spent_s / max(self.asked, 1)
        text = f"teacher: asked about {self.asked} of {views} views"
        if self.asked:
            text += f", {each_s:.2f} s each"
        if self.folder is None:
            return text
        saves = f"; kept answers save {each_s * views:.0f} s an epoch" if self.asked else ""
        return f"{text}, the others answered before{saves}"

    def teach(self, view: View, seen: View) -> View:
        """The view with the teacher's answer to ``seen``, the same view at the size the teacher wants."""
        path = None if self.folder is None else self.folder / _file_name(view, seen)
        kept = None if path is None else self._load(path, view)
        if kept is None:
            kept = self._ask(view, seen)
            if path is not None:
                for kind, array in kept.items():
                    with atomic_write(path.with_name(f"{path.name}.{kind}.npy")) as file:
                        np.save(file, array)
        placed = np.array([[view.camera.width, 0, -0.5], [0, view.camera.height, -0.5]])
        teaching = Teaching(kept["pixels"], kept.get("feature"), placed)
        return replace(view, teaching=teaching, teacher_points=kept["points"])

    def _ask(self, view: View, seen: View) -> dict[str, NDArray[np.float16]]:
        start = time.perf_counter()
        answer = self.teacher(seen)
        self.asked, self.spent_s = self.asked + 1, self.spent_s + time.perf_counter() - start
        pixels = answer.pixels.detach().cpu().float()
        points = answer.points
        if points is None:
            rows, columns = pixels.shape[1:]
            u = (seen.uv[:, 0] + 0.5) * (columns / seen.camera.width)
            v = (seen.uv[:, 1] + 0.5) * (rows / seen.camera.height)
            points = pixels[:, v.astype(np.intp).clip(0, rows - 1), u.astype(np.intp).clip(0, columns - 1)].t()
        said = np.full((len(view.index), len(self._columns)), np.nan, dtype=np.float16)
        place = np.searchsorted(seen.index, view.index).clip(max=max(len(seen.index) - 1, 0))
        if len(seen.index):
            found = seen.index[place] == view.index
            said[found] = _half(points.detach().cpu().float()[:, self._columns])[place[found]]
        kept = {"pixels": _half(pixels[self._columns]), "points": said}
        if self.feature:
            if answer.feature is None:
                raise ValueError("the teacher gives no feature; set distill.cwd, cirkd and attention to 0")
            kept["feature"] = _half(answer.feature.detach().cpu().float())
        return kept

    def _load(self, path: Path, view: View) -> dict[str, Any] | None:
        kinds = ("pixels", "points", "feature") if self.feature else ("pixels", "points")
        try:
            kept = {kind: np.load(path.with_name(f"{path.name}.{kind}.npy"), mmap_mode="r") for kind in kinds}
        except (OSError, ValueError, EOFError):
            return None
        return kept if kept["points"].shape == (len(view.index), len(self._columns)) else None


def _half(values: Tensor) -> NDArray[np.float16]:
    limit = float(np.finfo(np.float16).max)
    half: NDArray[np.float16] = values.clamp(-limit, limit).numpy().astype(np.float16)
    return half


def _file_name(view: View, seen: View) -> str:
    check = 0
    for item in (view, seen):
        for array in (item.image, item.index, item.uv, item.points_camera):
            if array is not None:
                check = zlib.crc32(np.ascontiguousarray(array).data, check)
    return f"{quote(view.log, safe='')}_{view.frame:06d}_{quote(view.camera_name, safe='')}_{check:08x}"
