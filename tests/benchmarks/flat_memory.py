"""Does a long replay keep its memory? Replays many small frames and prints how much the process grew.

    python tests/benchmarks/flat_memory.py [FRAMES]

The log has two cameras, sweeps and labels; its frames repeat the first ten. Written are labels, videos, MCAP, figures.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from make_logs import FRAME_NS, make_plain_log
from tiny_model import save_tiny_model

from fusionseg.data.open import open_log
from fusionseg.deploy.runtime import load
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan

SETTLED = 500
"""Frames after which nothing may grow any more."""
WINDOW = 100
DISTINCT = 10


def long_log(folder: Path, frames: int) -> Path:
    """A log whose frames are links to its first ten."""
    make_plain_log(folder, frames=min(frames, DISTINCT), size=(48, 64), cameras=("front", "left"))
    for kind in (*(folder / "images").iterdir(), folder / "sweeps", folder / "labels"):
        first = sorted(kind.iterdir())
        for frame in range(DISTINCT, frames):
            stamp = 1_000_000_000_000 + frame * FRAME_NS
            os.link(first[frame % DISTINCT], kind / f"{stamp}{first[0].suffix}")
    (folder / "poses.txt").unlink()
    return folder


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(frames: int) -> None:
    """Replay, and print the memory every so often and the growth at the end."""
    folder = Path(tempfile.mkdtemp(prefix="flat_memory_"))
    try:
        log = open_log(long_log(folder / "log", frames))
        model = load(save_tiny_model(folder / "tiny.safetensors", size=(48, 64)), threads=1)
        plan = Plan(frames=log.frames, cameras=log.cameras, video=True, mcap=True)
        used_mb: list[float] = []
        began = time.perf_counter()

        def note(text: str) -> None:
            used_mb.append(resident_mb())
            if len(used_mb) % SETTLED == 0:
                print(f"frame {len(used_mb)}: {used_mb[-1]:.1f} MB, {time.perf_counter() - began:.0f} s", flush=True)

        replay(log, model, folder / "out", plan, note)
        settled, last = np.mean(used_mb[SETTLED - WINDOW : SETTLED]), np.mean(used_mb[-WINDOW:])
        print(f"frames {SETTLED - WINDOW} to {SETTLED}: {settled:.1f} MB; last {WINDOW} of {frames}: {last:.1f} MB")
        print(
            f"growth {100 * (last / settled - 1):+.2f} %; most after frame {SETTLED}: {max(used_mb[SETTLED:]):.1f} MB"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
