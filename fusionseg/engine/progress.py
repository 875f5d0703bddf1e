"""A progress bar on a terminal, a plain log line every half minute elsewhere."""

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

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
        show = sys.stderr.isatty() and not quiet
        self._bar = tqdm(total=total, initial=done, desc=title, delay=1, dynamic_ncols=True) if show else None

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
