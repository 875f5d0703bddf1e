"""``fusionseg view``: a replayed sweep in a window."""

import argparse
from pathlib import Path
from typing import Any

from fusionseg.commands.options import add_command, ends

PICTURES = (".png", ".jpg")


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "view", run, "a replayed sweep in the colours of its labels, in a window")
    command.add_argument("frame", metavar="FRAME", help="label file of a replay: OUT/labels/FRAME.label")
    command.add_argument("--out", metavar="FILE", help="write a picture (.png, .jpg) in place of opening a window")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.replay.sink import write_picture
    from fusionseg.replay.view import read_sweep, show_sweep, sweep_view

    out = Path(args.out) if args.out else None
    if out and out.suffix not in PICTURES:
        raise ValueError(f"{out}: is no picture; end it with {' or '.join(PICTURES)}")
    sweep = read_sweep(Path(args.frame))
    if out is None:
        show_sweep(sweep)
        return 0
    write_picture(out, sweep_view(sweep))
    ends(out, "inspect", sweep.log)
    return 0
