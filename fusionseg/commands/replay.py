"""``fusionseg replay``: every frame of a log in order."""

import argparse
import sys
from typing import Any

from fusionseg.commands.options import (
    INTERRUPTED,
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


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "replay", run, "label every frame of a log in order")
    command.add_argument("log", metavar="LOG", help="folder (or video) of a log")
    add_model_name(command)
    add_log_options(command)
    add_model_options(command, ("both", "camera", "lidar"))
    add_classes(command)
    command.add_argument("--size", type=size, metavar="HxW", help="size of the network input; default the model's")
    command.add_argument("--video", action="store_true", help="write an mp4 per camera with the labels drawn in")
    command.add_argument(
        "--min-count", type=count, default=2000, metavar="N", help="points a class needs to be in miou"
    )
    command.add_argument("--out", metavar="DIR", help="empty folder for the results; default runs/replay/<n>")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.engine.evaluate import select_frames
    from fusionseg.engine.progress import Progress
    from fusionseg.replay.pipeline import Plan, replay
    from fusionseg.replay.sink import new_folder
    from fusionseg.replay.source import select_cameras

    model = load_model(args)
    log = open_unscored(model, args)
    plan = Plan(
        frames=select_frames(log, args.frames),
        cameras=select_cameras(log, args.cameras),
        sensors=args.sensors,
        size=args.size,
        video=args.video,
        strict=args.strict,
        min_count=args.min_count,
    )
    out = new_folder(args.out, "replay")
    with Progress("replay", len(plan.frames)) as progress:
        summary = replay(log, model, out, plan, progress.advance)
    frames, total = summary["frames"], summary["stages_ms"]["total"]
    print(f"frames: {frames['seen']} seen, {frames['written']} written, {len(frames['skipped'])} skipped")
    for item in frames["skipped"]:
        print(f"  frame {item['frame']}: {item['reason']}")
    if total:
        print(f"sensor data to labels: {total['p50']:.0f} ms median, {total['p95']:.0f} ms 95 %")
    for kind, scores in (summary["accuracy"] or {}).items():
        if scores:
            miou = "-" if scores["miou"] is None else f"{100 * scores['miou']:.1f}"
            print(f"{kind}: mIoU {miou}, over every class {100 * scores['miou_all']:.1f}")
    if frames["skipped"] and not frames["written"]:
        raise ValueError(f"{args.log}: none of {frames['seen']} frames could be labelled; {out} says why for each")
    if summary["interrupted"]:
        print("interrupted: the results above are complete for the frames seen", file=sys.stderr)
    following = ("evaluate", args.model, args.log) if summary["accuracy"] else ("inspect", args.log)
    ends(out, *following, *same_data(args))
    return INTERRUPTED if summary["interrupted"] else 0
