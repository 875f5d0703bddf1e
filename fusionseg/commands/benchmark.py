"""``fusionseg benchmark``: how fast models are."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionseg.commands.options import (
    SHIPPED_MODEL,
    add_classes,
    add_command,
    add_log_options,
    counts,
    ends,
    open_for,
    open_named_log,
    same_data,
    size,
)

if TYPE_CHECKING:
    from fusionseg.deploy.benchmark import Frames
    from fusionseg.deploy.contender import Score
    from fusionseg.deploy.runtime import Model

GENERATED_FRAMES = 4
REPETITIONS = 100


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "benchmark", run, "measure how fast models are, by turns and stage by stage")
    command.add_argument(
        "models",
        metavar="M",
        nargs="*",
        default=[SHIPPED_MODEL],
        help="model, or M@RUNTIME[:PRECISION]; default the shipped one",
    )
    command.add_argument("--data", metavar="LOG", help="folder of a log; default a generated street")
    add_log_options(command)
    add_classes(command)
    command.add_argument("--size", type=size, metavar="HxW", help="size of the network input; default the model's")
    command.add_argument("--threads", type=int, metavar="N", help="CPU threads, each on a core of its own; default all")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    command.add_argument("--compile", action="store_true", help="let torch.compile make one program of a checkpoint")
    command.add_argument("--peers", action="store_true", help="run image-only networks of others on the same images")
    command.add_argument("--whole-sweep", action="store_true", help="label the points outside the image too")
    text = f"frames per model; default {REPETITIONS}"
    command.add_argument("--repetitions", type=int, default=REPETITIONS, metavar="N", help=text)
    command.add_argument("--warmup", type=int, default=10, metavar="N", help="frames before them; default 10")
    command.add_argument("--cold-starts", type=int, default=3, metavar="N", help="fresh processes per model; default 3")
    command.add_argument("--deadline", type=int, default=0, metavar="N", help="pace N frames at 10 Hz, count misses")
    command.add_argument("--batch", type=counts, default=(), metavar="1,2,4", help="throughput of these batch sizes")
    command.add_argument("--profile", action="store_true", help="which layers the time goes to")
    command.add_argument("--compare", metavar="BASE.json", help="ratios to an earlier run's --json")
    command.add_argument("--json", metavar="FILE", help="write the figures as JSON")
    command.add_argument("--histogram", metavar="FILE.png", help="draw how often a frame took how long")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.deploy.machine import fixed_threads

    # before anything loads a library that reads its number of threads only once
    with fixed_threads(args.threads) as threads:
        return _measure(args, threads)


def _measure(args: argparse.Namespace, threads: int) -> int:
    from fusionseg.deploy.benchmark import Plan, benchmark
    from fusionseg.deploy.benchmark_report import check_outputs, compare, format_benchmark, read_report, write_histogram
    from fusionseg.deploy.contender import Recipe, parse_model
    from fusionseg.engine.progress import Progress
    from fusionseg.files import write_json

    plan = Plan(
        repetitions=args.repetitions,
        warmup=args.warmup,
        cold_starts=args.cold_starts,
        deadline=args.deadline,
        batches=args.batch,
        profile=args.profile,
        peers=args.peers,
    )
    check_outputs(args.json, args.histogram)
    base = read_report(Path(args.compare)) if args.compare else None
    recipes = [
        Recipe(
            *parse_model(word),
            device=args.device,
            threads=threads,
            size=args.size,
            whole_sweep=args.whole_sweep,
            compiled=args.compile,
        )
        for word in args.models
    ]
    frames, score = _benchmark_data(args)
    with Progress("benchmark", plan.warmup + plan.repetitions) as progress:
        report, totals_ms = benchmark(recipes, frames, plan, score=score, progress=progress.advance)
    print(format_benchmark(report))
    if args.json:
        write_json(Path(args.json), report)
    if args.histogram:
        write_histogram(Path(args.histogram), totals_ms)
    if base is not None:
        print(f"\n{compare(report, base)}")
    where = " and ".join(filter(None, (args.json, args.histogram))) or "the table above; --json FILE keeps it"
    following = ("--compare", args.json) if args.json else ("--json", "benchmark.json")
    ends(where, "benchmark", *args.models, *_same_measurement(args), *following)
    return 0


def _same_measurement(args: argparse.Namespace) -> list[str]:
    """The words that chose the data and how it is measured, for a run that can be compared."""
    words = [*(("--data", args.log) if args.data else ()), *same_data(args)]
    words += ["--size", "{}x{}".format(*args.size)] if args.size else []
    for name, usual in (("threads", None), ("device", "cpu"), ("repetitions", REPETITIONS)):
        if getattr(args, name) != usual:
            words += [f"--{name}", str(getattr(args, name))]
    return [*words, *(f"--{name}" for name in ("compile", "whole-sweep") if getattr(args, name.replace("-", "_")))]


def _benchmark_data(args: argparse.Namespace) -> "tuple[Frames, Score]":
    """Frames of one camera of the log, a generated street if none is named, and what scores a model on them."""
    from fusionseg.deploy.benchmark import Frames
    from fusionseg.engine.accuracy import accuracy_of
    from fusionseg.engine.evaluate import select_frames
    from fusionseg.engine.progress import Progress
    from fusionseg.replay.source import select_cameras

    args.log = args.data or _generated_street()
    log = open_named_log(args)
    # of a long log only those whose turn comes
    numbers = select_frames(log, args.frames)[: args.warmup + args.repetitions]
    cameras = select_cameras(log, args.cameras)
    if args.cameras and len(cameras) > 1:
        raise ValueError(f"--cameras is {args.cameras}; a benchmark labels one view at a time, name one camera")

    def score(model: "Model") -> dict[str, Any] | None:
        with Progress(f"accuracy of {model.name}", len(numbers)) as progress:
            return accuracy_of(
                model, open_for(model, args), numbers, cameras[0], lambda done, total: progress.advance()
            )

    return Frames(lambda: open_named_log(args), numbers, cameras[0]), score


def _generated_street() -> str:
    """Where a few drawn frames are."""
    from dataclasses import replace

    # draws and shows much that an edge device has no packages for
    from fusionseg.replay.demo import WORLD, synthetic_log

    return str(synthetic_log(replace(WORLD, frames=GENERATED_FRAMES)).path)
