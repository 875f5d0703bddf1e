"""``fusionseg evaluate``: a model scored on labelled data."""

import argparse
from pathlib import Path
from typing import Any

from fusionseg.commands.options import (
    add_classes,
    add_command,
    add_log_options,
    add_model_options,
    count,
    ends,
    load_model,
    open_for,
    same_data,
    size,
)


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "evaluate", run, "score a model on labelled data, with each sensor setting")
    command.add_argument("model", metavar="M", help="shipped model (see fusionseg models) or checkpoint file")
    command.add_argument("log", metavar="DATA", help="folder of a labelled log or data set")
    add_log_options(command)
    add_model_options(command, ("all", "both", "camera", "lidar"))
    add_classes(command)
    command.add_argument("--size", type=size, metavar="HxW", help="size of the network input; default the model's")
    command.add_argument(
        "--min-count", type=count, default=2000, metavar="N", help="points a class needs to be in miou"
    )
    command.add_argument("--oracle", action="store_true", help="add what the true label of each 4-px cell would score")
    command.add_argument(
        "--withheld", action="store_true", help="add pixels between the beams: at points withheld from the network"
    )
    command.add_argument("--json", metavar="FILE", help="write the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.deploy.runtime import SENSORS
    from fusionseg.engine.evaluate import evaluate, select_frames
    from fusionseg.engine.progress import Progress
    from fusionseg.engine.report import format_report
    from fusionseg.files import write_json
    from fusionseg.replay.source import select_cameras

    model = load_model(args)
    model.size = args.size or model.size
    if args.json and Path(args.json).is_dir():
        raise ValueError(f"{args.json}: is a folder; --json needs the name of a file")
    log = open_for(model, args)
    frames = select_frames(log, args.frames)
    with Progress("evaluate", len(frames)) as progress:
        report = evaluate(
            model,
            log,
            frames=frames,
            cameras=select_cameras(log, args.cameras),
            sensors=SENSORS if args.sensors == "all" else (args.sensors,),
            min_count=args.min_count,
            oracle=args.oracle,
            withheld=args.withheld,
            strict=args.strict,
            progress=lambda done, total: progress.advance(),
        )
    print(format_report(report))
    if args.json:
        write_json(Path(args.json), report)
    where = args.json or "the table above; --json FILE keeps them"
    same = [*same_data(args), *(["--size", "{}x{}".format(*args.size)] if args.size else [])]
    ends(where, "replay", args.log, "--model", args.model, *same, "--video")
    return 0
