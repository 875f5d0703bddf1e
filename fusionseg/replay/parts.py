"""One long file (a video, a recording) written in parts, so that a kill costs no more than the last of them."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from fusionseg.files import unwritable


class Parts:
    """The parts of ``path``, each named by the position in the run at which it begins.

    A part is complete when it has its name: whoever writes one makes it under another name first.

    Args:
        path: the whole file.
        position: where the run goes on, 0 for a new one; what an earlier run wrote from there on is thrown away.

    Raises:
        ValueError: the folder cannot be written.
    """

    def __init__(self, path: Path, position: int) -> None:
        self.path = path
        self._folder = path.with_name(f".{path.name}.parts")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if position and path.exists():
                # it holds all parts: a run that was killed right after it had joined them did not clear them away
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir()
                os.replace(path, self.at(0))
            self._folder.mkdir(exist_ok=True)
            for old in self._folder.iterdir():
                # unfinished files begin with a dot
                if old.name.startswith(".") or int(old.name.partition(".")[0]) >= position:
                    old.unlink()
        except OSError as error:
            raise unwritable(path, error) from error

    def at(self, position: int) -> Path:
        """The part that begins at a position."""
        return self._folder / f"{position:09d}{self.path.suffix}"

    def draft(self, position: int) -> Path:
        """Where to write the part that begins at a position until ``keep`` gives it its name."""
        return self._folder / f".{position:09d}{self.path.suffix}"

    def keep(self, position: int) -> None:
        """The draft is complete.

        Raises:
            ValueError: the disk is full.
        """
        draft = self.draft(position)
        try:
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(draft, self.at(position))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def names(self) -> list[Path]:
        """Those there are, in order."""
        return sorted(self._folder.glob(f"[0-9]*{self.path.suffix}"))

    def join(self, combine: Callable[[Sequence[Path], Path], None], *, single: bool = False) -> None:
        """Make the whole file and clear the parts away.

        ``combine(parts, whole)`` writes it where there are several parts, or also where there is a ``single`` one.

        Raises:
            ValueError: it cannot be written; the parts are left.
        """
        parts = self.names()
        whole = self.path.with_name(f".{self.path.name}.part")
        try:
            if len(parts) == 1 and not single:
                os.replace(parts[0], self.path)
            elif parts:
                combine(parts, whole)
                with whole.open("rb") as file:
                    os.fsync(file.fileno())
                os.replace(whole, self.path)
            shutil.rmtree(self._folder)
        except OSError as error:
            raise unwritable(self.path, error) from error
        finally:
            whole.unlink(missing_ok=True)
