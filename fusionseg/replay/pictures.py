"""The pictures of a report: images and labels of chosen frames as data URIs, as many as the page has room for."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.log import FrameError, Log
from fusionseg.deploy.result import FrameResult
from fusionseg.deploy.runtime import Model, Sensors
from fusionseg.geometry.projection import project
from fusionseg.labels import IGNORE, ClassTable
from fusionseg.replay.render import base_picture
from fusionseg.sample import Sample
from fusionseg.visualize import draw_points

WIDEST_PX = 640
MOST_FRAMES = 24
ROOM_BYTES = 20_000_000
"""Of all pictures together; the rest of the page takes far less than the 10 MB that are left of 30."""
PIXEL_ALPHA, POINT_ALPHA = 115, 200
"""The image shows through both, more where only pixels are labelled."""
POINT_PX = 3
_JPEG_QUALITY = 80
_LARGEST_CLASSES = 4


def choose_frames(rankings: Iterable[Sequence[int]], frames: Sequence[int], most: int = MOST_FRAMES) -> list[int]:
    """Most important first: the first frame of each ranking, the second of each, ..., then others spread evenly."""
    ranked = [list(ranking) for ranking in rankings]
    depth = max(map(len, ranked), default=0)
    first = [ranking[place] for place in range(depth) for ranking in ranked if place < len(ranking)]
    evenly = [frames[i] for i in np.linspace(0, len(frames) - 1, min(most, len(frames))).round().astype(int)]
    return list(dict.fromkeys([*first, *evenly]))[:most]


def picture_frames(
    log: Log,
    model: Model,
    frames: Sequence[int],
    cameras: Sequence[str],
    settings: Sequence[Sensors],
    size: tuple[int, int] | None,
    room_bytes: int = ROOM_BYTES,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(frame, camera name -> pictures) of the frames, most important first, until the room is taken.

    The frames are read and labelled anew, so that a replay need not keep pictures of frames that turn out dull.
    A frame that cannot be read any more is left out.

    Args:
        log: opened log.
        model: what labels it.
        frames: numbers in the log.
        cameras: camera names.
        settings: the sensors to be labelled from, each a layer of its own.
        size: (height, width) of the network input, or None for the model's own.
        room_bytes: what all pictures together may take, but for the first frame, which is always there.
    """
    scored = log.table.names == model.table.names
    taken = 0
    for frame in frames:
        try:
            samples = log.frame(frame, cameras)
        except FrameError:
            continue
        answers = {
            sensors: model.predict_frame(samples, sensors=sensors, whole_sweep=False, size=size) for sensors in settings
        }
        views = {sample.camera_name: view_layers(sample, answers, model.table, scored) for sample in samples}
        taken += sum(map(_bytes, views.values()))
        if taken > room_bytes and frame != frames[0]:
            return
        yield frame, views


def view_layers(
    sample: Sample, answers: Mapping[Sensors, FrameResult], table: ClassTable, scored: bool
) -> dict[str, Any]:
    """One view: its ``image`` (None where there is none), a layer per sensor setting, and that of the ``truth``.

    A layer is transparent but for its ``labels``; ``about`` names its largest classes for those who cannot see them.
    """
    base = base_picture(sample, min(WIDEST_PX, sample.camera.width))
    size = base.shape[0], base.shape[1]
    layers = {
        sensors: _layer(sample, answer.pixels[sample.camera_name], answer.points, table, size)
        for sensors, answer in answers.items()
    }
    truth = None
    if scored and (sample.pixel_labels is not None or sample.point_labels is not None):
        truth = _layer(sample, sample.pixel_labels, sample.point_labels, table, size)
    return {
        "size": [size[1], size[0]],
        "image": None if sample.image is None else _uri("jpeg", base, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]),
        "predictions": layers,
        "truth": truth,
    }


def _layer(
    sample: Sample,
    pixels: NDArray[np.uint8] | None,
    points: NDArray[np.uint8] | None,
    table: ClassTable,
    size: tuple[int, int],
) -> dict[str, str]:
    """Labels of pixels (H, W) half transparent, labels of points (N,) in view on top of them; 255 is left out."""
    height, width = size
    canvas = np.zeros((height, width, 4), dtype=np.uint8)
    seen = project(sample.points_lidar, sample.camera.resize(width, height), sample.camera_T_lidar)
    shown = np.zeros(0, dtype=np.uint8)
    # without an image there is nothing to look at but points
    if pixels is not None and (sample.image is not None or points is None or not len(seen.index)):
        shown = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
        canvas = _colours(table, PIXEL_ALPHA)[shown]
    if points is not None:
        labels = points[seen.index]
        known = labels != IGNORE
        colours = _colours(table, POINT_ALPHA)[labels[known]]
        canvas = draw_points(canvas, seen.uv[known], colours, seen.depth[known], size_px=POINT_PX)
        shown = shown if shown.size else labels[known]
    return {"labels": _uri("webp", canvas, [cv2.IMWRITE_WEBP_QUALITY, 101]), "about": _about(shown, table)}


def _colours(table: ClassTable, alpha: int) -> NDArray[np.uint8]:
    """(256, 4) per label value, 255 transparent."""
    colours = np.column_stack([table.palette, np.full(256, alpha, dtype=np.uint8)])
    colours[IGNORE] = 0
    return colours


def _about(labels: NDArray[np.uint8], table: ClassTable) -> str:
    counts = np.bincount(labels.ravel(), minlength=256)[:IGNORE]
    if not counts.any():
        return "no label"
    largest = [label for label in np.argsort(-counts, kind="stable")[:_LARGEST_CLASSES] if counts[label]]
    return ", ".join(f"{table.label_name(int(i))} {100 * counts[i] / counts.sum():.0f} %" for i in largest)


def _uri(form: str, picture: NDArray[np.uint8], options: Sequence[int]) -> str:
    """(H, W, 3) RGB or (H, W, 4) RGBA as a data URI; WebP of quality 101 is lossless."""
    order = [2, 1, 0, 3][: picture.shape[2]]
    good, encoded = cv2.imencode(f".{form}", picture[..., order], list(options))
    assert good
    return f"data:image/{form};base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _bytes(view: Mapping[str, Any]) -> int:
    layers = [*view["predictions"].values(), *([view["truth"]] if view["truth"] else [])]
    return len(view["image"] or "") + sum(len(layer["labels"]) for layer in layers)
