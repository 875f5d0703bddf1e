"""``fusionseg demo``: a small synthetic log, scored and replayed."""

import argparse
from typing import Any

from fusionseg.commands.options import add_command, add_model_name, ends


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(
        commands, "demo", run, "make a small synthetic log, score and replay it with the shipped model"
    )
    add_model_name(command)
    command.add_argument("--out", metavar="DIR", help="empty folder for the results; default runs/demo/<n>")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.deploy.runtime import load
    from fusionseg.replay.demo import demonstrate, describe, synthetic_log
    from fusionseg.replay.sink import new_folder

    model = load(args.model)
    out = new_folder(args.out, "demo")
    log = synthetic_log()
    print(describe(demonstrate(model, log, out)))
    ends(out, "inspect", log.path)
    return 0
