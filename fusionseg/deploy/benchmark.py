"""How fast models are, told so that others can repeat it: real frames, every stage, all contenders by turns.

``total`` goes from a decoded image and sweep to the labels of pixels and points: nothing that a user has to wait for is
left out. Reading a frame (``load``) is timed once a round and counts for all, image-only peers included.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fusionseg.data.log import Log
from fusionseg.deploy.contender import Contender, Failed, Recipe, Score, enter_model, enter_peers
from fusionseg.deploy.fresh import cold_start, matrix_product_peak, save_sample
from fusionseg.deploy.machine import describe_machine, git_commit
from fusionseg.deploy.model_costs import model_costs, throughput
from fusionseg.deploy.timing import interleaved, pace, percentiles
from fusionseg.sample import Sample

logger = logging.getLogger(__name__)
DEADLINE_FRAMES = 20
"""Frames kept in memory to be paced: reading them is no part of the deadline."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        repetitions: rounds, in each of which every contender labels one frame.
        warmup: rounds before them that do not count.
        cold_starts: fresh processes per contender, of which the median counts; 0 for none.
        deadline: frames to pace at sensor rate, 0 for none.
        batches: batch sizes whose throughput is measured.
        profile: report every layer's time and work.
        peers: run the image-only peers too.
    """

    repetitions: int = 100
    warmup: int = 10
    cold_starts: int = 3
    deadline: int = 0
    batches: Sequence[int] = ()
    profile: bool = False
    peers: bool = False

    def __post_init__(self) -> None:
        for name, low in (("repetitions", 1), ("warmup", 0), ("cold_starts", 0), ("deadline", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {low}")
        for size in self.batches:
            if size < 1:
                raise ValueError(f"batches holds {size}; expected sizes from 1, as in 1,2,4")


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames to label.

    Attributes:
        reopen: opens the log; it is opened anew for each round, so that ``load`` is not the memory of an earlier one.
        numbers: frames of it.
        camera: whose images.
    """

    reopen: Callable[[], Log]
    numbers: Sequence[int]
    camera: str

    def read(self, position: int) -> tuple[Sample, float]:
        """The frame at a position of an endless row of them, and the milliseconds that reading it took."""
        log = self.reopen()
        began = time.perf_counter()
        sample = log.sample(self.numbers[position % len(self.numbers)], self.camera)
        return sample, 1e3 * (time.perf_counter() - began)


def benchmark(
    recipes: Sequence[Recipe],
    frames: Frames,
    plan: Plan,
    *,
    score: Score = lambda model: None,
    progress: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Measure models of ours, and peers at the input size of the first, on the same frames in the same session.

    Args:
        recipes: of the models, all with the same number of threads.
        frames: what they label.
        plan: what to measure.
        score: how right a model is on those frames; plain JSON, or None without labels.
        progress: called after each round, warm-up included.

    Returns:
        The report, plain JSON (keys as in DESIGN.md, "Metrics and contracts"), and every single ``total`` by model.

    Raises:
        FileNotFoundError: no such model.
        FrameError: a frame cannot be read.
        ValueError: no model, or one that cannot be run as its recipe says.
    """
    if not recipes:
        raise ValueError("no model to measure; name at least one")
    sample, _ = frames.read(0)
    # scored before all else, so that labels that do not fit are found early
    contenders = [enter_model(recipe, sample, score) for recipe in recipes]
    failed: list[Failed] = []
    with TemporaryDirectory(prefix="fusionseg-benchmark-") as folder:
        if plan.peers:
            if sample.image is None:
                raise ValueError(f"{sample.log} has no images; peers see nothing else, leave --peers out")
            entered = enter_peers(contenders, Path(folder))
            contenders += [item for item in entered if isinstance(item, Contender)]
            failed = [item for item in entered if isinstance(item, Failed)]
        _start_cold(contenders, sample, Path(folder), plan.cold_starts)
        points = _take_turns(contenders, frames, plan, progress)
    for contender in contenders:
        _measure_alone(contender, frames, plan)
    peak = matrix_product_peak(recipes[0].threads)
    report = {
        "machine": describe_machine(recipes[0].device),
        "git": git_commit(),
        "threads": recipes[0].threads,
        "input": list(contenders[0].size),
        "points": points,
        "data": sample.log,
        "frames": len(frames.numbers),
        "repetitions": plan.repetitions,
        "warmup": plan.warmup,
        "whole_sweep": recipes[0].whole_sweep,
        "compiled": recipes[0].compiled,
        "matrix_product_macs_per_s": peak,
        "models": [_describe(contender, peak) for contender in contenders],
        "failed": [asdict(item) for item in failed],
    }
    return report, {item.label: item.spent_ms["total"] for item in contenders}


def _start_cold(contenders: Sequence[Contender], sample: Sample, folder: Path, count: int) -> None:
    """Cold starts by turns; their medians become facts."""
    found: list[list[dict[str, float]]] = [[] for _ in contenders]
    save_sample(sample, folder / "sample.npz")
    for order in interleaved(len(contenders), count):
        for number in order:
            logger.info("cold start of %s in %s", contenders[number].name, contenders[number].runtime)
            found[number].append(cold_start(contenders[number].recipe, folder / "sample.npz"))
    for contender, starts in zip(contenders, found, strict=True):
        middle = {key: float(np.median([start[key] for start in starts])) for key in starts[0]} if starts else {}
        contender.facts["peak_memory_mb"] = middle.pop("peak_memory_mb", None)
        contender.facts["cold_start"] = middle or None


def _take_turns(contenders: Sequence[Contender], frames: Frames, plan: Plan, progress: Callable[[], object]) -> int:
    """All rounds; the median number of points in a sweep."""
    points = []
    for number, order in enumerate(interleaved(len(contenders), plan.warmup + plan.repetitions)):
        sample, load_ms = frames.read(number)
        points.append(len(sample.points_lidar))
        for position in order:
            timing = contenders[position].run(sample)
            if number >= plan.warmup:
                contenders[position].keep(load_ms, timing)
        progress()
    return int(np.median(points))


def _measure_alone(contender: Contender, frames: Frames, plan: Plan) -> None:
    """What cannot be measured by turns: deadlines, batches, layers."""
    facts, model = contender.facts, contender.model
    if plan.deadline:
        samples = [frames.read(position)[0] for position in range(min(len(frames.numbers), DEADLINE_FRAMES))]
        facts["deadline"] = pace(
            lambda frame: contender.run(samples[frame % len(samples)]),
            plan.deadline,
            clock=time.perf_counter,
            sleep=time.sleep,
        ).as_dict()
    if model is None:
        return
    sample, _ = frames.read(0)
    recipe = contender.recipe
    facts |= model_costs(model, recipe.model, sample, contender.size, recipe.threads, plan.profile)
    if plan.batches:
        facts["batches"] = [throughput(model, sample, contender.size, count) for count in plan.batches]


def _describe(contender: Contender, peak: float) -> dict[str, Any]:
    """One entry of ``models`` in the report."""
    stages = {stage: percentiles(values) for stage, values in contender.spent_ms.items()}
    forward_s = 1e-3 * float(np.median(contender.spent_ms["forward"]))
    macs = contender.facts.get("macs")
    # they are those of one view
    reached = macs / forward_s if macs and not contender.recipe.whole_sweep else None
    return {
        "name": contender.name,
        "runtime": contender.runtime,
        "precision": contender.precision,
        "sensors": "camera" if contender.model is None else "camera+lidar",
        "status": contender.status,
        "input": list(contender.size),
        **dict.fromkeys(("params", "macs", "bytes", "accuracy")),
        **contender.facts,
        "macs_per_s": reached,
        "share_of_peak": reached and reached / peak,
        "stages_ms": stages,
        "fps": {name: 1000.0 / float(np.median(contender.spent_ms[name])) for name in ("total", "end_to_end")},
    }
