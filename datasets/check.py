"""Open a folder as a log, read its frames, count its labels, name what is broken: python datasets/check.py FOLDER."""

import argparse
import sys
from collections import Counter

import numpy as np

from fusionseg.data.log import Log, Skipped
from fusionseg.data.open import open_log
from fusionseg.geometry.projection import project


def frame_numbers(log: Log, text: str | None) -> list[int]:
    """The log's frames in the half-open range ``A:B``; either end may be missing.

    Raises:
        ValueError: no such range, or none of the log's frames is in it.
    """
    if text is None:
        return list(log.frames)
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or part.isdecimal() for part in (first, last)):
        raise ValueError(f"--frames is {text!r}; expected A:B, half-open, as in 0:20")
    chosen = [f for f in log.frames if int(first or 0) <= f < (int(last) if last else f + 1)]
    if not chosen:
        raise ValueError(f"--frames {text}: none of them is in the log, which has {log.frames[0]} to {log.frames[-1]}")
    return chosen


def check(log: Log, frames: list[int]) -> int:
    """Print what is there; the number of frames that cannot be read."""
    kinds = " and ".join(kind for kind, there in (("images", log.has_images), ("LiDAR", log.has_lidar)) if there)
    print(f"{log.path}: {log.format}, {len(log.frames)} frames, {kinds}, cameras {', '.join(log.cameras)}")
    points, pixels, missing = Counter[int](), Counter[int](), Counter[str]()
    counts, in_view, skipped = [], [], []
    for views in log.iterate(frames, strict=False):
        if isinstance(views, Skipped):
            skipped.append(views)
            continue
        counts.append(len(views[0].points_lidar))
        if views[0].point_labels is not None:
            points.update(dict(enumerate(np.bincount(views[0].point_labels, minlength=256).tolist())))
        for view in views:
            in_view.append(len(project(view.points_lidar, view.camera, view.camera_T_lidar).index))
            if view.pixel_labels is not None:
                pixels.update(dict(enumerate(np.bincount(view.pixel_labels.ravel(), minlength=256).tolist())))
            if log.has_images and view.image is None:
                missing[view.camera_name] += 1
    print(f"read {len(counts)} of {len(frames)} frames")
    if log.has_lidar and counts:
        print(f"points a sweep: {min(counts)} to {max(counts)}; in a view: {min(in_view)} to {max(in_view)}")
    for camera, number in missing.items():
        print(f"camera {camera}: {number} frames without image")
    for kind, histogram in (("points", points), ("pixels", pixels)):
        total = sum(histogram.values())
        for label, number in sorted(histogram.items()):
            if number:
                print(f"{kind} {log.table.label_name(label):32} {number:12} {100 * number / total:6.2f} %")
    for skip in skipped:
        print(f"frame {skip.frame} cannot be read: {skip.reason}")
    return len(skipped)


def main() -> int:
    """0: all frames can be read; 1: some cannot; 2: the folder cannot be opened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--format", help="loader name or module:Class; recognised from the layout otherwise")
    parser.add_argument("--classes", default="driving12", help="driving12, native or a YAML file")
    parser.add_argument("--split", help="train, val or test of data sets that have splits")
    parser.add_argument("--frames", help="half-open range A:B of frame numbers")
    arguments = parser.parse_args()
    try:
        log = open_log(arguments.folder, arguments.format, classes=arguments.classes, split=arguments.split)
        return min(1, check(log, frame_numbers(log, arguments.frames)))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
