"""The pictures of a replay: a video per camera, or one of the whole sweep for a log without images."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.log import Log
from fusionseg.deploy.result import FrameResult
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.projection import project
from fusionseg.labels import ClassTable
from fusionseg.replay.parts import Parts
from fusionseg.replay.sink import Video, join_videos, video_size
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

WIDEST_PX, TALLEST_PX = 1280, 540
TILE_PX = 420
_PER_ROW = 3


class Videos:
    """Labelled frames as videos in ``folder``: ``CAMERA.mp4``, or ``sweep.mp4`` for a log without images.

    Args:
        folder: made where it is not there.
        table: the class table of the labels.
        log: what is replayed.
        cameras: those that are drawn.
        position: where the run goes on; videos of the frames before it are kept.

    Raises:
        ValueError: the folder cannot be written.
    """

    def __init__(self, folder: Path, table: ClassTable, log: Log, cameras: Sequence[str], position: int = 0) -> None:
        self._table = table
        self._has_images, self._has_lidar = log.has_images, log.has_lidar
        names = cameras if log.has_images else ["sweep"]
        self._parts = {name: Parts(folder / f"{name}.mp4", position) for name in names}
        self._open: dict[str, Video] = {}
        self._position = position

    def draw(self, samples: Sequence[Sample], result: FrameResult) -> dict[str, NDArray[np.uint8]]:
        """The pictures of a frame by video."""
        if self._has_images:
            return {s.camera_name: camera_picture(s, result, self._table, above=self._has_lidar) for s in samples}
        return {"sweep": sweep_picture(samples, result, self._table)}

    def write(self, frame: int, drawn: dict[str, NDArray[np.uint8]]) -> None:
        """Append them."""
        for name, picture in drawn.items():
            if name not in self._open:
                parts = self._parts[name]
                size = next((video_size(part) for part in parts.names()), None)
                self._open[name] = Video(parts.at(self._position), size=size)
            self._open[name].add(picture)

    def checkpoint(self, position: int) -> None:
        """Finish the parts; each even where another cannot be."""
        with ExitStack() as closing:
            for video in self._open.values():
                closing.callback(video.close)
            self._open = {}
        self._position = position

    def close(self) -> None:
        """Finish all videos."""
        self.checkpoint(self._position)
        for parts in self._parts.values():
            parts.join(join_videos)

    def abandon(self) -> None:
        """Leave the finished parts alone."""
        for video in self._open.values():
            video.abandon()


def camera_picture(sample: Sample, result: FrameResult, table: ClassTable, *, above: bool = False) -> NDArray[np.uint8]:
    """One camera: pixel labels over the image, points in the colours of their labels, legend below.

    A view without image is dark and shows its points alone. With ``above`` the coloured sweep stands beside it, seen
    from above.
    """
    width = picture_width(sample.camera)
    drawn = view_picture(sample, result.pixels[sample.camera_name], result.points, table, width)
    fps = 1000.0 / max(result.timing["total"], 1e-3)
    drawn = write_text(drawn, f"{sample.log}  frame {sample.frame}  {sample.camera_name}  {fps:.3g} FPS")
    if above:
        cloud = birds_eye(sample.points_lidar, table.palette[result.points], size_px=drawn.shape[0])
        drawn = side_by_side([drawn, cloud])
    return stack([drawn, legend(table.names, table.colours, drawn.shape[1])])


def picture_width(camera: Camera) -> int:
    """Pixels of a picture that a screen has room for."""
    return min(WIDEST_PX, camera.width, max(1, round(TALLEST_PX * camera.width / camera.height)))


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
