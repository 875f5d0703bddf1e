"""``fusionseg replay`` of several logs at a time."""

import argparse
import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fusionseg
from fusionseg.commands.options import ends, load_model, open_unscored, same_data
from fusionseg.commands.replay import plan_of

if TYPE_CHECKING:
    from fusionseg.deploy.runtime import Model
    from fusionseg.replay.expect import Expectation
    from fusionseg.replay.fleet import Job, Outcome
    from fusionseg.replay.workers import Worker

FREE_OPTIONS = (
    *("log", "logs", "out", "run", "command", "debug", "resume", "expect"),
    *("engine", "workers", "address", "threads"),
)
"""What may differ when a fleet goes on."""
FLEET_FILE = "fleet.json"


def run_several(args: argparse.Namespace) -> int:
    """Replay the logs into folders of their own; the exit status."""
    from fusionseg.files import write_json
    from fusionseg.models.shipped import find_model
    from fusionseg.replay.expect import parse_expectation
    from fusionseg.replay.fleet import fleet_jobs
    from fusionseg.replay.fleet_report import fleet_results, write_fleet_page
    from fusionseg.replay.journal import model_digest

    if args.submission:
        raise ValueError("--submission is of one log; replay the logs one by one")
    if args.address and args.engine != "ray":
        raise ValueError("--address is of a Ray cluster; add --engine ray")
    expected = [parse_expectation(text) for text in args.expect]
    digest = model_digest(find_model(args.model))
    out = _folder(args, digest)
    jobs = fleet_jobs(args.logs, out)
    try:
        outcomes, throughput = _replay_all(args, digest, jobs)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"what is done stays; --out {out} with the same options goes on") from None
    found = fleet_results(jobs, outcomes, throughput or _earlier_throughput(out), args.min_count)
    write_json(out / FLEET_FILE, found)
    write_fleet_page(out / "fleet.html", found)
    _describe(outcomes, found)
    done = [job for job, outcome in zip(jobs, outcomes, strict=True) if outcome.fault is None]
    _write_frames(out, done)
    met = [_is_met(job, expectation) for job in done for expectation in expected]
    print(f"page: {out / 'fleet.html'}")
    doubtful = next((job for job in jobs if job not in done), jobs[0])
    ends(out, "inspect", doubtful.log, *same_data(args))
    return 0 if all(met) and len(done) == len(jobs) else 1


def _folder(args: argparse.Namespace, digest: str) -> Path:
    """A new folder, or that of the same fleet to go on with."""
    from fusionseg.replay.journal import begin_run, check_same_run
    from fusionseg.replay.sink import folder_to_resume, new_folder

    chosen = {name: value for name, value in vars(args).items() if name not in FREE_OPTIONS}
    about = {"fleet": True, "fusionseg": fusionseg.__version__, "model digest": digest, **chosen}
    found = folder_to_resume(args.out) if args.out else None
    if found:
        check_same_run(found, about)
        return found
    out = new_folder(args.out, "replay")
    begin_run(out, about)
    return out


def _replay_all(
    args: argparse.Namespace, digest: str, jobs: Sequence["Job"]
) -> tuple[list["Outcome"], dict[str, Any] | None]:
    """What became of each log, and the frames a second of all workers; None where every log was done before."""
    from fusionseg.engine.progress import Progress
    from fusionseg.replay.fleet import frames_done, read_outcome, run_fleet

    left = [job for job in jobs if read_outcome(job) is None]
    before = sum(len(frames_done(job)) for job in left)
    began = time.monotonic()
    with Progress("logs", len(jobs)) as progress, _hiring(args, digest, len(left)) as (hire, workers):
        outcomes = run_fleet(jobs, hire, workers, lambda outcome: progress.advance(outcome.name))
        seconds = time.monotonic() - began
    if not left:
        return outcomes, None
    frames = sum(outcome.seen for job, outcome in zip(jobs, outcomes, strict=True) if job in left) - before
    return outcomes, {"frames": frames, "seconds": seconds, "fps": frames / seconds, "workers": workers}


def _earlier_throughput(out: Path) -> Mapping[str, Any] | None:
    """That of the run that replayed the logs, where this one had nothing to do."""
    try:
        found: Mapping[str, Any] | None = json.loads((out / FLEET_FILE).read_bytes())["throughput"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


@contextmanager
def _hiring(args: argparse.Namespace, digest: str, logs: int) -> Iterator[tuple[Callable[[], "Worker"], int]]:
    """What starts a worker, while there is something to start it on, and how many there may be."""
    from fusionseg.replay.workers import LocalWorker, RayWorker, ray_room, start_ray

    args, cores = copy.copy(args), os.cpu_count() or 1
    # the function of the command cannot be read in another process
    del args.run
    workers = max(1, min(args.workers or cores, logs))
    args.threads = args.threads or (1 if args.address else max(1, cores // workers))
    load, one = partial(load_model, args), partial(replay_one, args, digest)
    if args.engine != "ray" or not logs:
        yield partial(LocalWorker, load, one), workers
        return
    ray = start_ray(args.address, workers * args.threads)
    try:
        gpu = args.device.startswith("cuda")
        room = ray_room(ray, args.threads, gpu)
        yield partial(RayWorker, load, one, cores=args.threads, gpu=gpu), min(args.workers or room, room, logs)
    finally:
        ray.shutdown()


def replay_one(args: argparse.Namespace, digest: str, model: "Model", log: str, out: Path) -> None:
    """Replay one log, from where its folder says; runs in a worker.

    Raises:
        ValueError: see ``replay``; or it was stopped before its last frame.
    """
    from fusionseg.replay.pipeline import replay
    from fusionseg.replay.report import write_report
    from fusionseg.replay.sink import RUN_FILE

    opened = open_unscored(model, argparse.Namespace(**{**vars(args), "log": log}))
    plan = plan_of(args, opened)
    summary = replay(opened, model, out, plan, resume=(out / RUN_FILE).is_file(), digest=digest)
    if summary["interrupted"]:
        raise ValueError(f"stopped after {summary['frames']['seen']} of {len(plan.frames)} frames")
    if args.report and summary["frames"]["written"]:
        write_report(out, opened, model, plan, summary)


def _describe(outcomes: Sequence["Outcome"], found: Mapping[str, Any]) -> None:
    """A row a log, and what they come to together."""
    width = max(len(outcome.name) for outcome in outcomes)
    print(f"{'log':{width}}  written  skipped   mIoU  frames/s  attempts")
    for outcome in outcomes:
        miou = "-" if outcome.miou is None else f"{100 * outcome.miou:.1f}"
        fps = "-" if outcome.fps is None else f"{outcome.fps:.2f}"
        row = f"{outcome.written:7}  {outcome.skipped:7}  {miou:>5}  {fps:>8}  {outcome.attempts:8}"
        print(f"{outcome.name:{width}}  {row}{f'  failed: {outcome.fault}' if outcome.fault else ''}")
    frames = found["frames"]
    print(f"frames: {frames['seen']} seen, {frames['written']} written, {frames['skipped']} skipped")
    for kind, scores in (found["accuracy"] or {}).items():
        if scores:
            miou = "-" if scores["miou"] is None else f"{100 * scores['miou']:.1f}"
            print(f"{kind} of all logs: mIoU {miou}, over every class {100 * scores['miou_all']:.1f}")
    if found["throughput"]:
        spent = found["throughput"]
        print(f"throughput: {spent['fps']:.2f} frames a second by {spent['workers']} workers, their start included")
    if found["failed"]:
        print(f"failed: {found['failed']} of {len(outcomes)} logs; the same options with this --out try them again")


def _is_met(job: "Job", expectation: "Expectation") -> bool:
    """Whether a log reaches what is expected, said in a line."""
    met, line = expectation.verdict(json.loads((job.folder / "summary.json").read_bytes()))
    print(f"{job.folder.name}: {line}")
    return met


def _write_frames(out: Path, jobs: Sequence["Job"]) -> None:
    from fusionseg.replay.fleet_table import FRAMES_FILE, write_frames

    if not jobs:
        return
    try:
        write_frames(out / FRAMES_FILE, jobs)
    except ImportError:
        print(f"no {FRAMES_FILE}: it needs pyarrow; pip install 'fusionseg[distributed]' and run the same line again")
