"""What is in a log and what is wrong with it: frames, sensors, points in view, labels, and pictures to look at."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.log import Log
from fusionseg.geometry.projection import project
from fusionseg.labels import IGNORE, ClassTable
from fusionseg.replay import doctor_check
from fusionseg.replay.doctor import Doctor, labels_check
from fusionseg.replay.sink import write_picture
from fusionseg.replay.source import Loaded, reason_lines, stream
from fusionseg.sample import Sample
from fusionseg.visualize import (
    birds_eye,
    dark_canvas,
    depth_colours,
    draw_points,
    legend,
    overlay,
    stack,
    write_text,
)


class Survey:
    """Facts about some frames of a log and the doctor's checks of them, gathered frame by frame."""

    def __init__(self, log: Log, cameras: Sequence[str], frames: Sequence[int]) -> None:
        self.log = log
        self.cameras = list(cameras)
        self.frames = list(frames)
        self.doctor = Doctor(self.cameras, self.frames)
        self.unreadable: list[dict[str, Any]] = []
        self.read = 0
        self.first_readable: int | None = None
        self.points: list[int] = []
        self.not_finite = 0
        self.in_view: dict[str, list[int]] = {name: [] for name in cameras}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.images: dict[str, int] = dict.fromkeys(cameras, 0)
        self.offsets_s: dict[str, list[float]] = {name: [] for name in cameras}
        self.point_labels = np.zeros(256, dtype=np.int64)
        self.pixel_labels = np.zeros(256, dtype=np.int64)
        self.labelled = {"points": 0, "pixels": 0}

    def run(self, strict: bool = False) -> Iterator[Loaded]:
        """Take frames into account one by one; each is handed on once it is.

        Raises:
            FrameError: a frame cannot be read and ``strict`` is set.
        """
        for loaded in stream(self.log, self.frames, self.cameras, strict):
            self.add(loaded)
            yield loaded

    def add(self, loaded: Loaded) -> None:
        """Take one frame into account."""
        if loaded.reason is not None:
            self.unreadable.append({"frame": loaded.frame, "reason": loaded.reason})
            return
        self.read += 1
        if self.first_readable is None:
            self.first_readable = loaded.frame
        first = loaded.samples[0]
        self.points.append(len(first.points_lidar))
        self.not_finite += int((~np.isfinite(first.points_lidar).all(axis=1)).sum())
        if first.point_labels is not None:
            self.labelled["points"] += 1
            self.point_labels += np.bincount(first.point_labels, minlength=256)
        for sample in loaded.samples:
            self._add_view(sample)
        self.doctor.add(loaded.samples)

    def _add_view(self, sample: Sample) -> None:
        name = sample.camera_name
        self.sizes[name] = (sample.camera.width, sample.camera.height)
        self.images[name] += sample.image is not None
        if len(sample.points_lidar):
            projection = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
            self.in_view[name].append(len(projection.index))
        if sample.time_offset_s is not None and len(sample.time_offset_s):
            self.offsets_s[name] += np.quantile(sample.time_offset_s, [0.05, 0.95]).tolist()
        if sample.pixel_labels is not None:
            self.labelled["pixels"] += 1
            self.pixel_labels += np.bincount(sample.pixel_labels.reshape(-1), minlength=256)

    def facts(self) -> dict[str, Any]:
        """Everything gathered and every check, as plain numbers and names."""
        log, table = self.log, self.log.table
        facts: dict[str, Any] = {
            "path": str(log.path),
            "format": log.format,
            "classes": list(table.names),
            "frames": {
                "count": len(log.frames),
                "first": int(min(log.frames)),
                "last": int(max(log.frames)),
                "gaps": gaps(log.frames),
                "inspected": self.read + len(self.unreadable),
                "unreadable": self.unreadable,
            },
            "lidar": self._lidar() if log.has_lidar else None,
            "cameras": {name: self._camera(name) for name in self.cameras},
            "point_labels": _histogram(self.point_labels, table) if self.labelled["points"] else None,
            "pixel_labels": _histogram(self.pixel_labels, table) if self.labelled["pixels"] else None,
            "findings": log.findings(),
        }
        checks = self.doctor.checks(facts) + self._label_checks()
        return facts | {"status": doctor_check.worst(checks), "checks": [check.to_dict() for check in checks]}

    def _label_checks(self) -> list[doctor_check.Check]:
        expected = {"points": int(np.count_nonzero(self.points)), "pixels": sum(self.images.values())}
        counts = {"points": self.point_labels, "pixels": self.pixel_labels}
        found = (
            labels_check(kind, counts[kind], self.log.table, self.labelled[kind], expected[kind]) for kind in counts
        )
        return [check for check in found if check is not None]

    def _lidar(self) -> dict[str, Any]:
        counts = self.points or [0]
        return {
            "points": {"min": min(counts), "median": int(np.median(counts)), "max": max(counts), "sum": sum(counts)},
            "not_finite": self.not_finite,
            "labelled_sweeps": self.labelled["points"],
        }

    def _camera(self, name: str) -> dict[str, Any]:
        size, seen, offsets = self.sizes.get(name), self.in_view[name], self.offsets_s[name]
        return {
            "size": None if size is None else list(size),
            "virtual": not self.log.has_images,
            "images": self.images[name],
            "points_in_view": None if not seen else int(np.median(seen)),
            "time_offset_ms": None if not offsets else [round(1000 * min(offsets)), round(1000 * max(offsets))],
        }


def gaps(frames: Sequence[int]) -> list[list[int]]:
    """Half-open ranges of numbers that are missing between the first frame and the last."""
    numbers = np.sort(np.asarray(frames, dtype=np.int64))
    after = np.flatnonzero(np.diff(numbers) > 1)
    return [[int(numbers[i]) + 1, int(numbers[i + 1])] for i in after]


def _histogram(counts: NDArray[np.int64], table: ClassTable) -> dict[str, int]:
    values = [int(v) for v in np.flatnonzero(counts) if v != IGNORE]
    histogram = {table.label_name(value): int(counts[value]) for value in values}
    return histogram | {"ignored": int(counts[IGNORE])}


def write_pictures(folder: Path, samples: Sequence[Sample], table: ClassTable) -> list[Path]:
    """Overlay pictures of one frame: per camera the points on the image, by depth and (if labelled) by class.

    A log with points also gets a bird's-eye view.
    """
    paths = []
    for sample in samples:
        stem = f"{sample.frame}_{sample.camera_name}"
        for kind, picture in _pictures(sample, table):
            paths.append(folder / f"{stem}_{kind}.png")
            write_picture(paths[-1], picture)
    if samples and len(samples[0].points_lidar):
        sample = samples[0]
        colours = depth_colours(np.nan_to_num(np.linalg.norm(sample.points_lidar[:, :3], axis=1), posinf=0.0))
        if sample.point_labels is not None:
            colours = table.palette[sample.point_labels]
        paths.append(folder / f"{sample.frame}_birds_eye.png")
        write_picture(paths[-1], birds_eye(sample.points_lidar, colours, size_px=800))
    return paths


def _pictures(sample: Sample, table: ClassTable) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """(kind, picture) of one view: ``depth``, ``class`` and ``labels`` as far as the data is there."""
    canvas = sample.image
    if canvas is None:
        canvas = dark_canvas(sample.camera.height, sample.camera.width)
    title = f"{sample.log} frame {sample.frame} {sample.camera_name}"
    key = legend(table.names, table.colours, canvas.shape[1])
    dot = 2 if canvas.shape[1] <= 1300 else 3
    projection = project(sample.points_lidar, sample.camera, sample.camera_T_lidar)
    if len(sample.points_lidar):
        uv, depth = projection.uv, projection.depth
        yield "depth", write_text(draw_points(canvas, uv, depth_colours(depth), depth, dot), f"{title}: depth")
        if sample.point_labels is not None:
            colours = table.palette[sample.point_labels[projection.index]]
            drawn = draw_points(canvas, uv, colours, depth, dot)
            yield "class", stack([write_text(drawn, f"{title}: point labels"), key])
    elif sample.pixel_labels is None:
        yield "image", write_text(canvas, title)
    if sample.pixel_labels is not None:
        drawn = overlay(canvas, sample.pixel_labels, table.palette)
        yield "labels", stack([write_text(drawn, f"{title}: pixel labels"), key])


def describe(facts: dict[str, Any]) -> str:
    """The survey as text; its first lines name format, frames and sensors."""
    frames, lidar = facts["frames"], facts["lidar"]
    missing = ", ".join(f"{low}:{high}" for low, high in frames["gaps"])
    real = {name: entry for name, entry in facts["cameras"].items() if not entry["virtual"]}
    lines = [
        f"format   {facts['format']}",
        f"frames   {frames['count']} ({frames['first']} to {frames['last']}"
        + (f"; missing within: {missing})" if missing else ")"),
        f"sensors  {_count(len(real), 'camera')}, {'LiDAR' if lidar else 'no LiDAR'}",
    ]
    for name, entry in facts["cameras"].items():
        lines.append(_camera_line(name, entry))
    if lidar:
        points = lidar["points"]
        lines.append(
            f"lidar    {points['min']} to {points['max']} points a sweep (median {points['median']}), "
            f"{lidar['not_finite']} not finite, {_count(lidar['labelled_sweeps'], 'labelled sweep')}"
        )
    for kind in ("point_labels", "pixel_labels"):
        lines += _histogram_lines(kind.replace("_", " "), facts[kind])
    lines += _finding_lines(facts["findings"])
    if frames["inspected"] < frames["count"]:
        lines.append(f"inspected {frames['inspected']} of {frames['count']} frames")
    lines.append(f"unreadable frames: {len(frames['unreadable'])}")
    lines += reason_lines(frames["unreadable"], "the file of --json")
    lines.append(doctor_check.table([doctor_check.Check(**entry) for entry in facts["checks"]]))
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _camera_line(name: str, entry: dict[str, Any]) -> str:
    kind = "view   " if entry["virtual"] else "camera "
    size = "size unknown" if entry["size"] is None else "{}x{}".format(*entry["size"])
    parts = [f"{kind}  {name} {size}"]
    if not entry["virtual"]:
        parts.append(_count(entry["images"], "image"))
    if entry["points_in_view"] is not None:
        parts.append(f"{entry['points_in_view']} points in view")
    if entry["time_offset_ms"] is not None:
        parts.append("points {:+d} to {:+d} ms from the image".format(*entry["time_offset_ms"]))
    return ", ".join(parts)


def _finding_lines(findings: dict[str, Any]) -> list[str]:
    """What a format says of its log; empty findings are left out, and so are numbers frame by frame."""
    lines = []
    for title, value in findings.items():
        if isinstance(value, dict) and value:
            lines += [f"{title.replace('_', ' ')}:", *(f"  {name}: {_short(inner)}" for name, inner in value.items())]
        elif isinstance(value, list) and value:
            lines += [f"{title.replace('_', ' ')}:", *(f"  {item}" for item in value)]
        elif value:
            lines.append(f"{title.replace('_', ' ')}: {value}")
    return lines


def _short(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    parts = {name.replace("_", " "): inner for name, inner in value.items() if not isinstance(inner, list)}
    return ", ".join(f"{name} {_short(inner)}" for name, inner in parts.items())


def _histogram_lines(title: str, histogram: dict[str, int] | None) -> list[str]:
    if histogram is None:
        return [f"{title}: none"]
    total = max(1, sum(histogram.values()))
    rows = sorted(histogram.items(), key=lambda item: -item[1])
    return [f"{title}:"] + [f"  {name:<32} {count:>11} {100 * count / total:6.2f} %" for name, count in rows]
