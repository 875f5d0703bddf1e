"""The log doctor: why is it bad on this log? Every check names what it measured, its rule and the fix."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.labels import IGNORE, ClassTable
from fusionseg.replay.doctor_calibration import Calibration
from fusionseg.replay.doctor_check import Check, judge
from fusionseg.replay.doctor_points import Points, finite_check
from fusionseg.replay.doctor_times import Times
from fusionseg.sample import Sample

LOOKED_AT = 8
"""Frames, evenly spread, whose clouds and images are looked at closely."""
BROKEN = ("not_readable", "clock_jumps", "cameras_without_calibration")
"""Findings of a recording's loader that are faults."""
LABELLED = 0.5
MISSING_IMAGES = 0.02


class Doctor:
    """Gathers evidence frame by frame.

    Args:
        cameras: names of the views.
        frames: the numbers of all frames to come.
    """

    def __init__(self, cameras: Sequence[str], frames: Sequence[int]) -> None:
        chosen = np.unique(np.linspace(0, len(frames) - 1, min(LOOKED_AT, len(frames))).round().astype(int))
        self._closely = {frames[i] for i in chosen}
        self._times = Times(cameras)
        self._points = Points()
        self._calibration = Calibration()

    def add(self, samples: Sequence[Sample]) -> None:
        """Take the views of one frame into account."""
        closely = samples[0].frame in self._closely
        self._times.add(samples, closely)
        if closely:
            self._points.add(samples)
            self._calibration.add(samples)

    def checks(self, facts: dict[str, Any]) -> list[Check]:
        """Every check that the log has data for; ``facts`` are those of its survey."""
        cameras = {name: entry for name, entry in facts["cameras"].items() if not entry["virtual"]}
        frames, lidar = facts["frames"], facts["lidar"]
        found = [_frames_check(frames)]
        if facts["findings"]:
            found.append(recording_check(facts["findings"]))
        found += [_images_check(name, entry["images"], frames) for name, entry in cameras.items()]
        found += self._times.checks()
        if lidar is not None:
            found.append(finite_check(lidar["not_finite"], lidar["points"]["sum"]))
        return found + self._points.checks(list(cameras)) + self._calibration.checks()


def _frames_check(frames: dict[str, Any]) -> Check:
    bad, gaps = frames["unreadable"], frames["gaps"]
    missing = sum(high - low for low, high in gaps)
    return Check(
        "frames",
        "log",
        judge(missing > 0, bool(bad)),
        f"{len(bad)} of {frames['inspected']} cannot be read; {missing} numbers are missing within the log",
        "every frame can be read, no number is missing between the first and the last",
        "the unreadable ones are named below with the fix of each; copy missing ones from where the log was recorded",
        {"unreadable": len(bad), "missing": missing},
    )


def recording_check(findings: Mapping[str, Any]) -> Check:
    """What the loader of a recording found broken."""
    broken = {name: findings[name] for name in BROKEN if findings.get(name)}
    return Check(
        "recording",
        "log",
        judge(bool(broken)),
        ", ".join(f"{name.replace('_', ' ')}: {', '.join(map(str, value))}" for name, value in broken.items())
        or "read to its end, on one clock, every camera calibrated",
        "nothing unreadable, no clock that jumps, a calibration for every camera",
        "recover or cut the recording; give --calibration FILE for cameras without CameraInfo",
        broken,
    )


def _images_check(name: str, images: int, frames: dict[str, Any]) -> Check:
    read = frames["inspected"] - len(frames["unreadable"])
    return Check(
        "images",
        name,
        judge(read - images > MISSING_IMAGES * read),
        f"{images} of {read} frames have one",
        f"all but {100 * MISSING_IMAGES:g} %; without an image LiDAR decides alone",
        "look for dropped images, and give a wider pairing tolerance if the stamps of camera and LiDAR differ",
        {"images": images, "frames": read},
    )


def labels_check(kind: str, counts: NDArray[np.int64], table: ClassTable, labelled: int, expected: int) -> Check | None:
    """Coverage and legality of labels with these counts (256,) per value; None where nothing is labelled.

    Args:
        kind: ``points`` or ``pixels``.
        counts: how often each label value occurs.
        table: what the values mean.
        labelled: how many sweeps (images) have labels.
        expected: how many there are.
    """
    if not labelled:
        return None
    meant = table.membership.any(axis=1) | (np.arange(256) == IGNORE)
    illegal = [int(value) for value in np.flatnonzero((counts > 0) & ~meant)]
    total = int(counts.sum())
    share = 1 - int(counts[IGNORE]) / max(1, total)
    broken = f", ids without a class: {', '.join(map(str, illegal))}" if illegal else ""
    return Check(
        "labels",
        kind,
        judge(share < LABELLED or labelled < expected, bool(illegal)),
        f"{labelled} of {expected} labelled, {100 * share:.1f} % of the {kind} have a class{broken}",
        f"all labelled, at least {100 * LABELLED:g} % with a class, only ids of the table",
        "map the ids (labels/classes.yaml, --classes), or leave frames without labels out of training",
        {"labelled": labelled, "share": share, "illegal": illegal},
    )
