"""A recording: one long file of all frames, written in parts that survive a kill."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from fusionseg.files import unwritable
from fusionseg.replay.parts import Parts


class Recording(ABC):
    """What sinks of one file share; a format says how a part begins, grows and ends, and how parts are joined.

    Args:
        path: of the file.
        position: where the run goes on; what the file holds of the frames before it is kept.

    Raises:
        ValueError: the folder cannot be written.
    """

    single = False
    """Whether a part alone must be joined too to be a whole file."""

    def __init__(self, path: Path, position: int) -> None:
        self._parts, self._position = Parts(path, position), position
        self._file: IO[bytes] | None = None

    def write(self, frame: int, drawn: Any) -> None:
        """Append a frame."""
        try:
            if self._file is None:
                self._file = self._parts.draft(self._position).open("wb")
                self._begin(self._file, first=not self._parts.names())
            self._append(self._file, frame, drawn)
        except OSError as error:
            raise unwritable(self._parts.path, error) from error

    def checkpoint(self, position: int) -> None:
        """Finish the part."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                with file:
                    self._end(file)
            except OSError as error:
                raise unwritable(self._parts.path, error) from error
            self._parts.keep(self._position)
        self._position = position

    def close(self) -> None:
        """Finish the file."""
        self.checkpoint(self._position)
        self._parts.join(self._join, single=self.single)

    def abandon(self) -> None:
        """Leave the finished parts alone."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        self._parts.draft(self._position).unlink(missing_ok=True)

    @abstractmethod
    def _begin(self, file: IO[bytes], *, first: bool) -> None:
        """Begin a part, the first or a later one."""

    @abstractmethod
    def _append(self, file: IO[bytes], frame: int, drawn: Any) -> None:
        """Add a frame to it."""

    @abstractmethod
    def _end(self, file: IO[bytes]) -> None:
        """End it."""

    @abstractmethod
    def _join(self, parts: Sequence[Path], whole: Path) -> None:
        """One file of several parts.

        Raises:
            OSError: the disk is full.
        """
