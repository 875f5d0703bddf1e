"""``fusionseg replay``: every frame of a log in order, or of several logs."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionseg.commands.options import (
    INTERRUPTED,
    Parser,
    add_classes,
    add_command,
    add_log_options,
    add_model_name,
    add_model_options,
    count,
    ends,
    load_model,
    open_unscored,
    same_data,
    size,
)

if TYPE_CHECKING:
    from fusionseg.data.log import Log
    from fusionseg.replay.plan import Plan


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "replay", run, "label every frame of a log in order")
    command.add_argument("logs", metavar="LOG", nargs="+", help="folder (or video) of a log; several go to workers")
    add_model_name(command)
    add_log_options(command)
    add_model_options(command, ("both", "camera", "lidar"))
    add_classes(command)
    command.add_argument("--size", type=size, metavar="HxW", help="size of the network input; default the model's")
    _add_timing(command)
    _add_sinks(command)
    _add_fleet(command)
    command.add_argument(
        "--report", action="store_true", help="write report.html; labels each frame with each sensor alone too"
    )
    command.add_argument(
        "--min-count", type=count, default=2000, metavar="N", help="points a class needs to be in miou"
    )
    command.add_argument("--out", metavar="DIR", help="empty folder for the results; default runs/replay/<n>")
    command.add_argument("--resume", action="store_true", help="go on with the stopped or killed replay in --out")
    command.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="'FIGURE>=X'",
        help="exit with 1 unless it holds: miou, accuracy, p95_ms, skipped and others, >= or <= a number; repeatable",
    )


def _add_sinks(command: Parser) -> None:
    """Options that say what is written beside labels and figures."""
    command.add_argument("--video", action="store_true", help="write an mp4 per camera with the labels drawn in")
    command.add_argument("--ply", action="store_true", help="write the coloured cloud of each sweep")
    command.add_argument("--pcd", action="store_true", help="the same as PCD")
    command.add_argument("--mcap", action="store_true", help="write replay.mcap with Foxglove's schemas")
    command.add_argument("--rerun", action="store_true", help="write replay.rrd, to be opened with rerun")
    command.add_argument(
        "--submission",
        choices=["semantickitti", "nuscenes"],
        help="write the files that this benchmark takes, and check them; the model must predict its official classes",
    )


def _add_fleet(command: Parser) -> None:
    """Options that say who replays several logs; one log with any of them is a fleet of one."""
    command.add_argument(
        "--engine", choices=["local", "ray"], help="who replays several logs; default local: processes"
    )
    command.add_argument(
        "--workers", type=count, metavar="N", help="of several logs, how many at a time; default 1 a core"
    )
    command.add_argument("--address", metavar="A", help="of the Ray cluster; default: one of this machine is started")


def _add_timing(command: Parser) -> None:
    """Options that choose frames by time, and the speed."""
    command.add_argument("--start", type=float, metavar="S", help="seconds after the first of --frames to begin at")
    command.add_argument("--end", type=float, metavar="S", help="seconds after the first of --frames to stop before")
    command.add_argument("--every", type=count, default=1, metavar="N", help="every Nth of these frames alone")
    command.add_argument(
        "--pace", choices=["sensor"], help="play as fast as the log was recorded and count frames labelled too late"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    if args.pace and args.report:
        raise ValueError("--report labels each frame three times, too slow for the deadlines of --pace; leave one out")
    if len(args.logs) > 1 or any(value is not None for value in (args.engine, args.workers, args.address)):
        from fusionseg.commands.fleet import run_several

        return run_several(args)
    args.log = args.logs[0]
    return _run_one(args)


def _run_one(args: argparse.Namespace) -> int:
    from fusionseg.engine.progress import Progress
    from fusionseg.models.shipped import find_model
    from fusionseg.replay.expect import parse_expectation
    from fusionseg.replay.journal import model_digest
    from fusionseg.replay.pipeline import replay
    from fusionseg.replay.plan import check_plan
    from fusionseg.replay.sink import folder_to_resume, new_folder

    expected = [parse_expectation(text) for text in args.expect]
    if args.resume and not args.out:
        raise ValueError("--resume needs the folder of the replay to go on with; name it with --out")
    model = load_model(args)
    log = open_unscored(model, args)
    plan = plan_of(args, log)
    check_plan(log, model, plan)
    resumed = folder_to_resume(args.out) if args.resume else None
    out = resumed or new_folder(args.out, "replay")
    digest = model_digest(find_model(args.model))
    with Progress("replay", len(plan.frames)) as progress:
        summary = replay(log, model, out, plan, progress.advance, resume=resumed is not None, digest=digest)
    _describe(summary)
    frames = summary["frames"]
    if frames["skipped"] and not frames["written"]:
        raise ValueError(f"{args.log}: none of {frames['seen']} frames could be labelled; {out} says why for each")
    if args.report and frames["written"]:
        from fusionseg.replay.report import write_report

        print(f"report: {write_report(out, log, model, plan, summary)}")
    if summary["interrupted"]:
        print("interrupted: the results above are complete for the frames seen", file=sys.stderr)
    verdicts = [expectation.verdict(summary) for expectation in expected]
    if args.submission:
        verdicts.append(_check_submission(out, log, plan))
    for _, line in verdicts:
        print(line)
    shape = ("--size", f"{args.size[0]}x{args.size[1]}") if args.size else ()
    following = ("evaluate", args.model, args.log, *shape) if summary["accuracy"] else ("inspect", args.log)
    ends(out, *following, *same_data(args))
    if summary["interrupted"]:
        return INTERRUPTED
    return 0 if all(met for met, _ in verdicts) else 1


def plan_of(args: argparse.Namespace, log: "Log") -> "Plan":
    """What the arguments ask of a log.

    Raises:
        ValueError: it lacks the frames or cameras.
    """
    from fusionseg.engine.evaluate import select_frames
    from fusionseg.replay.plan import Plan
    from fusionseg.replay.source import cut, select_cameras

    return Plan(
        frames=cut(log, select_frames(log, args.frames), args.start, args.end, args.every),
        cameras=select_cameras(log, args.cameras),
        sensors=args.sensors,
        size=args.size,
        video=args.video,
        mcap=args.mcap,
        rerun=args.rerun,
        ply=args.ply,
        pcd=args.pcd,
        submission=args.submission,
        alone=args.report,
        strict=args.strict,
        paced=args.pace == "sensor",
        min_count=args.min_count,
    )


def _check_submission(out: Path, log: "Log", plan: "Plan") -> tuple[bool, str]:
    """Whether the benchmark's server would take what the replay wrote, and a line a fault."""
    from fusionseg.replay.submission import check_submission

    assert plan.submission is not None
    folder = out / "submission"
    faults = check_submission(folder, plan.submission, log, plan.frames)
    valid = f"submission: valid, {len(plan.frames)} sweeps; zip what {folder} holds"
    return not faults, "\n".join(f"submission: {fault}" for fault in faults) or valid


def _describe(summary: Mapping[str, Any]) -> None:
    """What came out, for people."""
    from fusionseg.replay.source import reason_lines

    frames, total = summary["frames"], summary["stages_ms"]["total"]
    print(f"frames: {frames['seen']} seen, {frames['written']} written, {len(frames['skipped'])} skipped")
    for line in reason_lines(frames["skipped"], "summary.json"):
        print(line)
    if total:
        print(f"sensor data to labels: {total['p50']:.0f} ms median, {total['p95']:.0f} ms 95 %")
    if summary["pace"]:
        pace = summary["pace"]
        print(f"deadlines: {pace['missed']} of {pace['frames']} missed ({pace['period_ms']:.0f} ms each)")
    for kind, scores in (summary["accuracy"] or {}).items():
        if scores:
            miou = "-" if scores["miou"] is None else f"{100 * scores['miou']:.1f}"
            print(f"{kind}: mIoU {miou}, over every class {100 * scores['miou_all']:.1f}")
