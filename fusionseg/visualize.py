"""Pictures of labels: overlays, points by class or depth, legends, panels, bird's-eye views (NumPy and OpenCV).

Pictures are (H, W, 3) uint8 RGB. Functions return new pictures and leave their arguments alone.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.geometry.camera import Camera
from fusionseg.geometry.projection import project
from fusionseg.labels import IGNORE

Picture = NDArray[np.uint8]

BACKGROUND = (24, 24, 28)
TEXT = (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINE_PX = 22


def dark_canvas(height: int, width: int) -> Picture:
    """(height, width, 3) in the colour that stands for "no image here"."""
    return np.full((height, width, 3), BACKGROUND, dtype=np.uint8)


def overlay(image: Picture, labels: NDArray[np.uint8], palette: NDArray[np.uint8], alpha: float = 0.5) -> Picture:
    """The image (H, W, 3) with pixel labels (h, w) in the colours of a palette (256, 3).

    Labels of another size are brought to the image's by nearest neighbour. Label 255 leaves the image as it is.

    Raises:
        ValueError: ``alpha`` is outside [0, 1].
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; expected 0 (the image alone) to 1 (the colours alone)")
    height, width = image.shape[:2]
    if labels.shape != (height, width):
        labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    blended = cv2.addWeighted(image, 1.0 - alpha, palette[labels], alpha, 0.0).astype(np.uint8)
    unknown = labels == IGNORE
    blended[unknown] = image[unknown]
    return blended


def depth_colours(depth_m: NDArray[np.floating], nearest_m: float = 2.0, farthest_m: float = 60.0) -> Picture:
    """(M, 3) colours of depths in metres: red is near, blue is far, in equal steps of the logarithm."""
    if len(depth_m) == 0:
        return np.zeros((0, 3), dtype=np.uint8)
    share = np.log(np.clip(depth_m, nearest_m, farthest_m) / nearest_m) / np.log(farthest_m / nearest_m)
    value = np.round(255 * (1.0 - share)).astype(np.uint8)
    colours = cv2.applyColorMap(value[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return np.ascontiguousarray(colours).astype(np.uint8, copy=False)


def draw_points(
    image: Picture,
    uv: NDArray[np.floating],
    colours: NDArray[np.uint8],
    depth_m: NDArray[np.floating] | None = None,
    size_px: int = 3,
) -> Picture:
    """The image with a square of ``size_px`` pixels at each pixel position (M, 2); the nearer point stays on top.

    Args:
        image: (H, W, 3).
        uv: (M, 2) pixels; what falls outside is not drawn.
        colours: (M, 3).
        depth_m: (M,) orders the points; without it later points cover earlier ones.
        size_px: side of each square.
    """
    drawn = image.copy()
    height, width = image.shape[:2]
    uv = np.asarray(uv, dtype=np.float64).reshape(-1, 2)
    finite = np.asarray(np.isfinite(uv).all(axis=1))
    order = np.flatnonzero(finite) if depth_m is None else np.argsort(-depth_m, kind="stable")
    order = order[finite[order]]
    u, v = np.clip(np.rint(uv[order]), -size_px - 1, max(height, width) + size_px).astype(np.int64).T
    first = -((size_px - 1) // 2)
    steps = np.arange(first, first + size_px)
    # point by point in drawing order, all pixels of its square: numpy keeps the last write
    columns = (u[:, None, None] + steps[None, None, :]).repeat(size_px, axis=1).reshape(-1)
    rows = (v[:, None, None] + steps[None, :, None]).repeat(size_px, axis=2).reshape(-1)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    drawn[rows[inside], columns[inside]] = colours[order].repeat(size_px * size_px, axis=0)[inside]
    return drawn


def write_text(image: Picture, text: str) -> Picture:
    """The image with a line of text in the top left corner, on a dark bar so that it reads on any ground."""
    written = np.ascontiguousarray(image.copy())
    scale = 0.5
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    if width + 12 > image.shape[1]:
        scale *= max(0.5, image.shape[1] / (width + 12))
        (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    cv2.rectangle(written, (0, 0), (width + 12, height + below + 8), BACKGROUND, cv2.FILLED)
    cv2.putText(written, text, (6, height + 4), _FONT, scale, TEXT, 1, cv2.LINE_AA)
    return written


def legend(names: Sequence[str], colours: Sequence[Sequence[int]], width: int) -> Picture:
    """A strip (h, width, 3) of colour patches with names, in as many rows as they need."""
    step = 30 + max((cv2.getTextSize(name, _FONT, 0.45, 1)[0][0] for name in names), default=0) + 10
    per_row = max(1, (width - 8) // step)
    rows = -(-len(names) // per_row)
    strip = dark_canvas(rows * _LINE_PX + 8, width)
    for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
        left, top = 8 + (i % per_row) * step, 4 + (i // per_row) * _LINE_PX
        cv2.rectangle(strip, (left, top + 4), (left + 18, top + 17), [int(c) for c in colour], cv2.FILLED)
        cv2.putText(strip, name, (left + 24, top + 15), _FONT, 0.45, TEXT, 1, cv2.LINE_AA)
    return strip


def side_by_side(pictures: Sequence[Picture], gap_px: int = 4) -> Picture:
    """Pictures in a row, brought to the height of the first."""
    height = pictures[0].shape[0]
    parts: list[Picture] = []
    for picture in pictures:
        scale = height / picture.shape[0]
        if picture.shape[0] != height:
            size = (max(1, round(picture.shape[1] * scale)), height)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        parts += [picture] if not parts else [dark_canvas(height, gap_px), picture]
    return np.hstack(parts)


def stack(pictures: Sequence[Picture]) -> Picture:
    """Pictures below one another; narrower ones are filled up with the background on the right."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        row = dark_canvas(picture.shape[0], width)
        row[:, : picture.shape[1]] = picture
        rows.append(row)
    return np.vstack(rows)


def birds_eye(
    points_lidar: NDArray[np.float32],
    colours: NDArray[np.uint8],
    size_px: int = 600,
    reach_m: float = 40.0,
    point_px: int = 2,
) -> Picture:
    """The cloud (N, 3 or more) from above, forward up and left on the left, with the sensor in the middle.

    Higher points cover lower ones. ``reach_m`` is the distance from the middle to each border; rings are 10 m apart.
    """
    canvas = dark_canvas(size_px, size_px)
    scale = size_px / (2 * reach_m)
    middle = (size_px - 1) / 2
    for ring_m in np.arange(10.0, reach_m * 1.5, 10.0):
        centre = (round(middle), round(middle))
        cv2.circle(canvas, centre, round(ring_m * scale), (52, 52, 58), 1, cv2.LINE_AA)
    finite = np.asarray(np.isfinite(points_lidar[:, :3]).all(axis=1))
    x, y, z = points_lidar[finite, :3].astype(np.float64).T
    uv = np.column_stack([middle - y * scale, middle - x * scale])
    # drawn from low to high: "depth" falls with height
    drawn = draw_points(canvas, uv, colours[finite], depth_m=-z, size_px=point_px)
    cv2.drawMarker(drawn, (round(middle), round(middle)), TEXT, cv2.MARKER_TRIANGLE_UP, 12, 2)
    return drawn


def perspective(
    points_lidar: NDArray[np.float32],
    colours: NDArray[np.uint8],
    width: int,
    height: int,
    back_m: float = 3.0,
    up_m: float = 9.0,
    down_rad: float = 0.45,
) -> Picture:
    """The cloud (N, 3 or more) seen from ``back_m`` behind the sensor and ``up_m`` above it, looking ahead and down."""
    forward = np.array([np.cos(down_rad), 0.0, -np.sin(down_rad)])
    right = np.array([0.0, -1.0, 0.0])
    view_T_lidar = np.eye(4)
    view_T_lidar[:3, :3] = [right, np.cross(forward, right), forward]
    view_T_lidar[:3, 3] = -view_T_lidar[:3, :3] @ (-back_m, 0.0, up_m)
    focal_px = 0.75 * width
    view = Camera.from_focal(width, height, focal_px, focal_px, (width - 1) / 2, (height - 1) / 2)
    seen = project(points_lidar, view, view_T_lidar)
    return draw_points(dark_canvas(height, width), seen.uv, colours[seen.index], seen.depth, size_px=2)
