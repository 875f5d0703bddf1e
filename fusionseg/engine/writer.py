"""What a run says about itself: ``log.jsonl`` (one row per epoch) and, where TensorBoard is installed, its events."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fusionseg.files import atomic_write

logger = logging.getLogger(__name__)


class RunWriter:
    """A context manager that writes the logs of a run.

    Args:
        out: the run's folder, or None to write nothing (all processes but the first).
        steps: done before (a resumed run); what a killed run noted after them is taken back.
    """

    def __init__(self, out: Path | None, steps: int = 0) -> None:
        self._out = out
        self._events: Any = None
        if out is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("tensorboard is not installed (pip install fusionseg[train]); log.jsonl has the numbers")
            return
        self._events = SummaryWriter(str(out / "tensorboard"), purge_step=steps + 1)

    def step(self, step: int, loss: float, terms: Mapping[str, float], rate: float) -> None:
        """The loss, its terms and the learning rate of one step."""
        if self._events is not None:
            self._events.add_scalar("loss", loss, step)
            self._events.add_scalar("lr", rate, step)
            for name, value in terms.items():
                self._events.add_scalar(f"loss/{name}", value, step)

    def epoch(self, history: Sequence[Mapping[str, Any]]) -> None:
        """All rows up to this epoch; the file is replaced as a whole."""
        if self._out is None:
            return
        with atomic_write(self._out / "log.jsonl") as file:
            file.write("".join(json.dumps(row) + "\n" for row in history).encode())
        if self._events is not None:
            for place, result in history[-1].get("val", {}).items():
                for sensors, kinds in result.items():
                    for kind, miou in kinds.items():
                        self._events.add_scalar(f"val/{place}/{sensors}/{kind}", miou, history[-1]["step"])

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()
