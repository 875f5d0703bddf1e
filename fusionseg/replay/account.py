"""What became of each frame of a replay, and what ``summary.json`` says of it."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusionseg.deploy.timing import percentiles
from fusionseg.labels import ClassTable
from fusionseg.metrics import score
from fusionseg.replay.figures import KINDS, REPORTED, Figures
from fusionseg.replay.journal import Journal
from fusionseg.replay.recorder import Recorder, Row


class Account:
    """Every frame once: labelled or skipped with its reason; in memory, and in a journal that survives a kill.

    Args:
        out: folder of the run.
        table: the class table of the labels.
        sensors: the setting that is replayed.
        capacity: how many frames the run has.
        entries: what the journal of an earlier run says; these frames are done.

    Raises:
        ValueError: the journal cannot be written, or holds something else.
    """

    def __init__(
        self, out: Path, table: ClassTable, sensors: str, capacity: int, entries: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.recorder = Recorder(table, sensors, capacity)
        self.skipped: list[dict[str, Any]] = []
        self.inputs: dict[str, list[int]] = {}
        self.done = 0
        try:
            for entry in entries:
                self._take(entry, table)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{out}: its journal is damaged ({error}); replay the log into another folder") from error
        self._journal = Journal(out, len(entries))

    def _take(self, entry: Mapping[str, Any], table: ClassTable) -> None:
        if "skipped" in entry:
            self.skipped.append({"frame": int(entry["frame"]), "reason": str(entry["skipped"])})
        elif "frame" in entry:
            self.recorder.add(Row.from_dict(entry, table))
            self.inputs |= {str(name): [int(side) for side in size] for name, size in entry["inputs"].items()}
        self.done += "frame" in entry

    def skip(self, frame: int, reason: str) -> None:
        """A frame was left out."""
        self._journal.add({"frame": frame, "skipped": reason})
        self.skipped.append({"frame": frame, "reason": reason})
        self.done += 1

    def write(self, row: Row, inputs: Mapping[str, list[int]]) -> None:
        """A frame was labelled and is on the disk; ``inputs`` is the network's (height, width) per camera."""
        self._journal.add({**row.to_dict(), "inputs": dict(inputs)})
        self.recorder.add(row)
        self.inputs |= inputs
        self.done += 1

    def checkpoint(self) -> None:
        """All that was written is safe from a kill."""
        self._journal.add({"checkpoint": self.done})

    def close(self) -> None:
        """No more frames."""
        self._journal.close()

    def summary(self, figures: Figures, min_count: int) -> dict[str, Any]:
        """The frames, latencies and accuracy of ``summary.json``."""
        groups = figures.groups()
        scores = {kind: score(figures.confusions(kind), groups, min_count) for kind in KINDS}
        written = len(figures)
        stages_ms = {stage: percentiles(figures.spent_ms[:, i].tolist()) for i, stage in enumerate(REPORTED)}
        return {
            "frames": {"seen": written + len(self.skipped), "written": written, "skipped": self.skipped},
            "stages_ms": stages_ms,
            "accuracy": scores if any(scores.values()) else None,
        }


def safe_entries(entries: Sequence[Mapping[str, Any]], streams: bool) -> list[Mapping[str, Any]]:
    """The entries of a killed run whose frames need not be replayed again.

    Those are all where every frame has files of its own, else (``streams``) those before the last checkpoint.
    """
    if not streams:
        return list(entries)
    last = max((i + 1 for i, entry in enumerate(entries) if "checkpoint" in entry), default=0)
    return list(entries[:last])


def machine(runtime: str) -> dict[str, Any]:
    """What the latencies were measured on; torch and its threads only where they run the network."""
    facts = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    if runtime == "torch":
        import torch

        facts |= {"threads": torch.get_num_threads(), "torch": torch.__version__}
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
