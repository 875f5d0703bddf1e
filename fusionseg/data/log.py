"""What every loader offers: random access to the views of a log by frame number."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from fusionseg.labels import ClassTable
from fusionseg.sample import Sample


class FrameError(ValueError):
    """A frame that cannot be read: the message names the file, what was expected and the fix."""


@contextmanager
def frame_errors() -> Iterator[None]:
    """What breaks a rule inside (an unknown class id, a size that differs) is this frame's fault: ``FrameError``."""
    try:
        yield
    except FrameError:
        raise
    except (ValueError, FileNotFoundError) as error:
        raise FrameError(str(error)) from error


@dataclass(frozen=True)
class Skipped:
    """A frame (of one camera, or of all when ``camera_name`` is None) that was left out, and why."""

    frame: int
    camera_name: str | None
    reason: str


class Log(ABC):
    """A log opened lazily: the constructor reads the layout and calibration, a frame's files are read when asked for.

    Attributes:
        format: the loader's name, as in ``--format``.
        name: a short name of the log, unique in a run.
        path: its folder.
        table: the class table of the labels.
        frames: frame numbers in order; there may be gaps.
        cameras: camera names; a log without cameras names its virtual views.
        has_lidar, has_images: which sensors the log holds.
        needs: the files that a log of this format has, for error messages.
        strict: what ``iterate`` does with an unreadable frame when it is not told.
        options: the arguments it was opened with besides the path; prepared views are told apart by them.
    """

    format: ClassVar[str]
    needs: ClassVar[str] = "a loader of one's own says"
    strict: bool = True
    options: Mapping[str, Any] = MappingProxyType({})
    name: str
    path: Path
    table: ClassTable
    frames: Sequence[int]
    cameras: Sequence[str]
    has_lidar: bool = True
    has_images: bool = True

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the path has this format's layout; a loader that does not say is only opened by name."""
        return False

    @classmethod
    def is_there(cls, path: Path) -> bool:
        """Whether there is anything to open; a log that is a part of a data set's tables has no folder of its own."""
        return path.exists()

    @abstractmethod
    def sample(self, frame: int, camera_name: str) -> Sample:
        """One view.

        Raises:
            FrameError: a file of the frame is missing, truncated, undecodable or contradicts another.
            KeyError: the log has no such frame or camera.
        """

    def files(self, frame: int) -> list[Path]:
        """Files that the views of a frame are read from, calibration included, whether they exist or not.

        Prepared views on disk are made anew when one of them changes; a loader that names none is not watched.
        """
        return []

    def findings(self) -> dict[str, Any]:
        """What only this format knows of the log as a whole, in plain numbers and names for ``inspect``."""
        return {}

    def frame(self, frame: int, cameras: Sequence[str] | None = None) -> list[Sample]:
        """The views of one sweep; they share one cloud."""
        return [self.sample(frame, name) for name in cameras or self.cameras]

    def iterate(
        self,
        frames: Sequence[int] | None = None,
        cameras: Sequence[str] | None = None,
        strict: bool | None = None,
    ) -> Iterator[list[Sample] | Skipped]:
        """The views frame by frame; not strict, an unreadable frame comes as ``Skipped``, never silently."""
        for number in self.frames if frames is None else frames:
            try:
                yield self.frame(number, cameras)
            except FrameError as error:
                if self.strict if strict is None else strict:
                    raise
                yield Skipped(number, None, str(error))
