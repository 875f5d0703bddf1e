"""What a model answers: labels of pixels and points, which view labelled a point, and how long each stage took."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.files import atomic_write
from fusionseg.labels import IGNORE, ClassTable

HEAD_STRIDE = 4
STAGES = ("project", "preprocess", "forward", "postprocess")


class Answer(NamedTuple):
    """A runtime's raw answer for B views: pixels (B, h, w) uint8, points (B, N) uint8, confidence (B, N) float32."""

    pixels: NDArray[np.uint8]
    points: NDArray[np.uint8]
    confidence: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ViewResult:
    """The labels of one prepared view.

    Attributes:
        pixels: (h, w) uint8 classes at stride 4 of the input.
        points: (M,) uint8 classes of the view's points.
        confidence: (M,) float32 probability of that class.
        size: (H, W) of the input, pixels.
    """

    pixels: NDArray[np.uint8]
    points: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    size: tuple[int, int]

    def pixels_at(self, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width) uint8: the cell under each pixel's centre (nearest neighbour)."""
        rows = _cell_of(height, self.size[0], self.pixels.shape[0])
        columns = _cell_of(width, self.size[1], self.pixels.shape[1])
        return self.pixels.take(columns, axis=1).take(rows, axis=0)


def _cell_of(count: int, input_count: int, cells: int) -> NDArray[np.intp]:
    centre = (np.arange(count) + 0.5) * (input_count / count / HEAD_STRIDE)
    return np.minimum(centre.astype(np.intp), cells - 1)


@dataclass(frozen=True, eq=False)
class PointLabels:
    """Labels of a whole sweep gathered from views.

    Attributes:
        points: (N,) uint8 classes, 255 where no view saw the point.
        confidence: (N,) float32, 0 where no view saw the point.
        view: (N,) int16 which view labelled the point, -1 for none.
    """

    points: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    view: NDArray[np.int16]

    @classmethod
    def empty(cls, count: int) -> "PointLabels":
        """A sweep of ``count`` points nobody has labelled."""
        return cls(
            np.full(count, IGNORE, dtype=np.uint8),
            np.zeros(count, dtype=np.float32),
            np.full(count, -1, dtype=np.int16),
        )

    def add(
        self, number: int, index: NDArray[np.int32], labels: NDArray[np.uint8], confidence: NDArray[np.float32]
    ) -> None:
        """Take over from view ``number`` the rows ``index`` of which it is more sure than any view before it."""
        better = confidence > self.confidence[index]
        rows = index[better]
        self.points[rows] = labels[better]
        self.confidence[rows] = confidence[better]
        self.view[rows] = number


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameResult:
    """The labels of one sweep and the images around it.

    Attributes:
        table: the class table of all labels.
        pixels: camera name -> (H, W) uint8 classes at the image's own size.
        points: (N,) uint8 classes of every point of the sweep; 255 where no view, virtual ones included, sees it.
        confidence: (N,) float32 probability of that class, 0 where 255.
        view: (N,) int16 index into ``view_names`` of the view that labelled the point, -1 for none.
        view_names: the cameras in the order given, then the virtual views.
        timing: milliseconds of ``project`` (ground fit, projection), ``preprocess`` (image resize, rasters and point
            features to tensors), ``forward``, ``postprocess`` (upsampling, merging) and ``total``. Where the device
            projects (checkpoints on a GPU), that is in ``forward`` together with rasters and point features.
    """

    table: ClassTable
    pixels: dict[str, NDArray[np.uint8]]
    points: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    view: NDArray[np.int16]
    view_names: tuple[str, ...]
    timing: dict[str, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """The labels of one image and its sweep; fields as in ``FrameResult``.

    Attributes:
        pixels: (H, W) uint8 classes at the image's (or its camera's) size, None where there is no camera.
        image: (H, W, 3) uint8 RGB that was labelled, or None.
    """

    table: ClassTable
    pixels: NDArray[np.uint8] | None
    points: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    view: NDArray[np.int16]
    view_names: tuple[str, ...]
    timing: dict[str, float]
    image: NDArray[np.uint8] | None = field(default=None, repr=False)

    def plot(self, alpha: float = 0.5) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: class colours over the image, or alone where there is no image.

        Raises:
            ValueError: there are no pixels to draw, as no camera was given.
        """
        if self.pixels is None:
            raise ValueError("this result has no pixels to draw, as no camera was given; use result.points")
        if self.image is None:
            return self.table.palette[self.pixels]
        from fusionseg.visualize import overlay

        return overlay(self.image, self.pixels, self.table.palette, alpha)

    def save(self, path: str | Path) -> Path:
        """Write all labels as ``.npz`` (pixels, points, confidence, view, view_names, classes) or the plot as ``.png``.

        Raises:
            ValueError: another suffix, or a folder that cannot be written.
        """
        path = Path(path)
        if path.suffix not in (".npz", ".png"):
            raise ValueError(f"{path}: suffix is {path.suffix!r}; name a .npz file (labels) or a .png file (picture)")
        with atomic_write(path) as file:
            if path.suffix == ".png":
                file.write(cv2.imencode(".png", self.plot()[..., ::-1])[1].tobytes())
            else:
                arrays: dict[str, Any] = {name: getattr(self, name) for name in ("points", "confidence", "view")}
                if self.pixels is not None:
                    arrays["pixels"] = self.pixels
                arrays |= {"view_names": np.array(self.view_names, dtype=str), "classes": np.array(self.table.names)}
                np.savez_compressed(file, **arrays)
        return path


def merge_views(count: int, indices: Sequence[NDArray[np.int32]], results: Sequence[ViewResult]) -> PointLabels:
    """Labels of a sweep of ``count`` points from views that each see some rows; the most confident view decides."""
    labels = PointLabels.empty(count)
    for number, (index, result) in enumerate(zip(indices, results, strict=True)):
        labels.add(number, index, result.points, result.confidence)
    return labels
