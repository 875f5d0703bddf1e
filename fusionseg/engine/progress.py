"""A progress bar on a terminal, a plain log line every half minute elsewhere."""

import logging
import sys
import time
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)
LINE_EVERY_S = 30.0


class Progress:
    """Counts steps of something long; a context manager.

    Args:
        title: what is going on.
        total: how many steps there are.
        done: steps done before (a resumed run).
        quiet: show nothing (all processes but the first).
    """

    def __init__(self, title: str, total: int, *, done: int = 0, quiet: bool = False) -> None:
        self._title, self._total, self._done, self._first = title, total, done, done
        self._quiet = quiet
        self._began = self._said = time.monotonic()
        self._bar = _open_bar(title, total, done) if sys.stderr.isatty() and not quiet else None

    def advance(self, note: str = "") -> None:
        """One step more; ``note`` (the loss, say) stands beside the count."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update()
            return
        now = time.monotonic()
        if not self._quiet and now - self._said >= LINE_EVERY_S:
            self._said = now
            left_s = (now - self._began) / (self._done - self._first) * (self._total - self._done)
            tail = f", {note}" if note else ""
            logger.info("%s: %d of %d, %.0f min left%s", self._title, self._done, self._total, left_s / 60, tail)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _open_bar(title: str, total: int, done: int) -> Any:
    """A bar on the terminal; None on a device with the edge packages alone, where lines must do."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=done, desc=title, delay=1, dynamic_ncols=True)
