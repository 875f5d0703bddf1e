"""The pictures of a replay: a video per camera, or one of the whole sweep for a log without images."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.log import Log
from fusionseg.deploy.result import FrameResult
from fusionseg.geometry.projection import project
from fusionseg.labels import ClassTable
from fusionseg.replay.sink import Video
from fusionseg.sample import Sample
from fusionseg.visualize import (
    birds_eye,
    dark_canvas,
    draw_points,
    legend,
    overlay,
    side_by_side,
    stack,
    write_text,
)

WIDEST_PX = 1280
TILE_PX = 420
_PER_ROW = 3


class Renderer:
    """Turns labelled frames into videos in ``folder``."""

    def __init__(self, folder: Path, table: ClassTable, log: Log) -> None:
        self._folder = folder
        self._table = table
        self._has_images = log.has_images
        self._videos: dict[str, Video] = {}

    def add(self, samples: Sequence[Sample], result: FrameResult) -> None:
        """Draw one frame."""
        if self._has_images:
            for sample in samples:
                self._video(sample.camera_name).add(camera_picture(sample, result, self._table))
        else:
            self._video("sweep").add(sweep_picture(samples, result, self._table))

    def close(self) -> None:
        """Finish all videos, each even where another cannot be.

        Raises:
            ValueError: one of them cannot be written.
        """
        with ExitStack() as closing:
            for video in self._videos.values():
                closing.callback(video.close)

    def _video(self, name: str) -> Video:
        if name not in self._videos:
            self._videos[name] = Video(self._folder / f"{name}.mp4")
        return self._videos[name]


def camera_picture(sample: Sample, result: FrameResult, table: ClassTable) -> NDArray[np.uint8]:
    """One camera: pixel labels over the image, points in the colours of their labels, legend below.

    A view without image is dark and shows its points alone.
    """
    width = min(WIDEST_PX, sample.camera.width)
    drawn = view_picture(sample, result.pixels[sample.camera_name], result.points, table, width)
    drawn = write_text(drawn, f"{sample.log}  frame {sample.frame}  {sample.camera_name}")
    return stack([drawn, legend(table.names, table.colours, width)])


def sweep_picture(samples: Sequence[Sample], result: FrameResult, table: ClassTable) -> NDArray[np.uint8]:
    """A sweep without images: bird's-eye view beside the virtual views, legend below."""
    drawn = [view_picture(sample, None, result.points, table, TILE_PX) for sample in samples]
    tiles = [write_text(view, sample.camera_name) for view, sample in zip(drawn, samples, strict=True)]
    rows = [np.hstack(tiles[i : i + _PER_ROW]) for i in range(0, len(tiles), _PER_ROW)]
    views = stack(rows)
    cloud = samples[0].points_lidar
    above = birds_eye(cloud, table.palette[result.points], size_px=max(360, views.shape[0]))
    above = write_text(above, f"{samples[0].log}  frame {samples[0].frame}")
    picture = side_by_side([above, views])
    return stack([picture, legend(table.names, table.colours, picture.shape[1])])


def view_picture(
    sample: Sample,
    pixels: NDArray[np.uint8] | None,
    points: NDArray[np.uint8] | None,
    table: ClassTable,
    width: int,
) -> NDArray[np.uint8]:
    """One view at ``width`` pixels: labels of pixels (H, W) over the image, labels of points (N,) over both.

    A view without image is dark and shows its points alone; labels that are None are left out.
    """
    drawn = base_picture(sample, width)
    if sample.image is not None and pixels is not None:
        drawn = overlay(drawn, pixels, table.palette, alpha=0.45)
    if points is None:
        return drawn
    seen = project(sample.points_lidar, sample.camera.resize(width, drawn.shape[0]), sample.camera_T_lidar)
    return draw_points(drawn, seen.uv, table.palette[points[seen.index]], seen.depth, size_px=2)


def base_picture(sample: Sample, width: int) -> NDArray[np.uint8]:
    """The image at ``width`` pixels, dark where there is none."""
    height = max(1, round(sample.camera.height * width / sample.camera.width))
    if sample.image is None:
        return dark_canvas(height, width)
    return cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
