"""``fusionseg inspect``: what is in a log, and what is wrong with it."""

import argparse
from pathlib import Path
from typing import Any

from fusionseg.commands.options import add_command, add_log_options, ends, open_named_log, same_data


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "inspect", run, "say what is in a log and what is wrong with it, with pictures")
    command.add_argument("log", metavar="LOG", help="folder (or video) of a log")
    add_log_options(command)
    command.add_argument("--out", metavar="DIR", help="folder for the pictures; default runs/inspect/<n>")
    command.add_argument("--json", metavar="FILE", help="write facts and checks as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status, 1 if a check fails (frames that cannot be read are one)."""
    from fusionseg.engine.evaluate import select_frames
    from fusionseg.engine.progress import Progress
    from fusionseg.files import write_json
    from fusionseg.replay import inspect
    from fusionseg.replay.sink import new_folder
    from fusionseg.replay.source import select_cameras

    log = open_named_log(args)
    frames, cameras = select_frames(log, args.frames), select_cameras(log, args.cameras)
    out = new_folder(args.out, "inspect")
    found = inspect.Survey(log, cameras, frames)
    with Progress("inspect", len(frames)) as progress:
        for _ in found.run(args.strict):
            progress.advance()
    facts = found.facts()
    print(inspect.describe(facts))
    if args.json:
        write_json(Path(args.json), facts)
    pictures = (
        []
        if found.first_readable is None
        else inspect.write_pictures(out, log.frame(found.first_readable, cameras), log.table)
    )
    ends(f"{out} ({len(pictures)} pictures)", "replay", args.log, *same_data(args), "--video")
    return 1 if facts["status"] == "FAIL" else 0
