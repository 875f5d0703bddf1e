"""How much of a replay's work overlaps? Each stage alone, then all of them as a replay, on the same frames.

    python tests/benchmarks/overlap.py LOG [--model M] [--frames A:B] [--threads N]

A replay can take no less per frame than its slowest stage alone, nor than the processor time of a frame over the cores;
printed is how far it is from the larger of the two. The machine must have nothing else to do.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from fusionseg.data.log import Log
from fusionseg.data.open import open_log
from fusionseg.deploy.runtime import Model, load
from fusionseg.engine.evaluate import select_frames
from fusionseg.replay.pipeline import replay
from fusionseg.replay.plan import Plan
from fusionseg.replay.recorder import measure
from fusionseg.replay.render import Videos
from fusionseg.replay.sinks import LabelFiles, Sink


def stages_alone(log: Log, model: Model, frames: list[int], out: Path) -> dict[str, float]:
    """Milliseconds a frame of each stage, one after another in one thread."""
    sinks: list[Sink] = [LabelFiles(out / "labels", model.table, log.has_lidar)]
    sinks.append(Videos(out / "video", model.table, log, log.cameras))
    spent = dict.fromkeys(("read", "prepare", "label", "draw", "write"), 0.0)
    for frame in frames:
        began = time.perf_counter()
        samples = log.frame(frame)
        read = time.perf_counter()
        prepared = model.prepare([samples])
        ready = time.perf_counter()
        result = model.label(prepared)[0]
        labelled = time.perf_counter()
        measure(samples, result, sensors="both", alone={}, scored=log.table.names == model.table.names)
        drawn = [sink.draw(samples, result) for sink in sinks]
        shown = time.perf_counter()
        for sink, item in zip(sinks, drawn, strict=True):
            sink.write(frame, item)
        written = time.perf_counter()
        times = (began, read, ready, labelled, shown, written)
        for name, start, end in zip(spent, times, times[1:], strict=False):
            spent[name] += 1e3 * (end - start) / len(frames)
    for sink in sinks:
        sink.close()
    return spent


def main() -> None:
    """Print the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log")
    parser.add_argument("--model", default="student")
    parser.add_argument("--frames")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    log, model = open_log(args.log), load(args.model, threads=args.threads)
    frames = select_frames(log, args.frames)
    model.predict_frame(log.frame(frames[0]))
    out = Path(tempfile.mkdtemp(prefix="overlap_"))
    try:
        alone = stages_alone(log, model, frames, out / "alone")
        plan = Plan(frames=frames, cameras=list(log.cameras), video=True)
        spent = replay(log, model, out / "run", plan)["throughput"]
    finally:
        shutil.rmtree(out)
    cores = len(os.sched_getaffinity(0))
    bound = max(max(alone.values()), spent["cpu_ms"] / cores)
    print(", ".join(f"{name} {ms:.0f} ms" for name, ms in alone.items()), f"- in turns {sum(alone.values()):.0f} ms")
    print(f"replay: {spent['wall_ms']:.0f} ms a frame, {spent['cpu_ms']:.0f} ms of processor on {cores} cores")
    print(f"the least possible: {bound:.0f} ms; ratio {spent['wall_ms'] / bound:.2f}")


if __name__ == "__main__":
    main()
