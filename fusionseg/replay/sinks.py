"""Where the frames of a replay go: what every sink does, and the label files that every replay leaves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from fusionseg.deploy.result import FrameResult
from fusionseg.labels import ClassTable
from fusionseg.replay.sink import write_classes, write_label_image, write_point_labels
from fusionseg.sample import Sample


class Sink(Protocol):
    """Takes labelled frames in order; ``draw`` runs in another thread than the rest."""

    def draw(self, samples: Sequence[Sample], result: FrameResult) -> Any:
        """What ``write`` needs of a frame: computed, nothing written yet."""

    def write(self, frame: int, drawn: Any) -> None:
        """Put it on the disk.

        Raises:
            ValueError: the disk is full or cannot be written.
        """

    def checkpoint(self, position: int) -> None:
        """All that was written must survive a kill from here on; the next frame is at this position of the run.

        Raises:
            ValueError: as ``write``.
        """

    def close(self) -> None:
        """No more frames.

        Raises:
            ValueError: as ``write``.
        """

    def abandon(self) -> None:
        """In place of ``close`` after a frame was written by halves: let go of what is open and finish nothing."""


class FileSink:
    """What a sink with files of its own for every frame need not do."""

    def checkpoint(self, position: int) -> None:
        """Every file is complete already."""

    def close(self) -> None:
        """Nothing is open."""

    def abandon(self) -> None:
        """Nothing is open."""


class LabelFiles(FileSink):
    """``FRAME.label`` for every point of the sweep, or ``CAMERA/FRAME.png`` where there is no LiDAR.

    Raises:
        ValueError: the folder cannot be written.
    """

    def __init__(self, folder: Path, table: ClassTable, has_lidar: bool) -> None:
        self._folder, self._has_lidar = folder, has_lidar
        write_classes(folder / "classes.json", table)

    def draw(self, samples: Sequence[Sample], result: FrameResult) -> FrameResult:
        """The labels as they are."""
        return result

    def write(self, frame: int, drawn: FrameResult) -> None:
        """Write the files of a frame."""
        if self._has_lidar:
            write_point_labels(self._folder / f"{frame:06d}.label", drawn.points)
            return
        for name, pixels in drawn.pixels.items():
            write_label_image(self._folder / name / f"{frame:06d}.png", pixels)
