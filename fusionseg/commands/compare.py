"""``fusionseg compare``: two replays of one log."""

import argparse
from pathlib import Path
from typing import Any

from fusionseg.commands.options import add_command, count, ends


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "compare", run, "what differs between two replays of the same log")
    command.add_argument("a", metavar="RUN_A", help="folder of a replay, as with the model in use")
    command.add_argument("b", metavar="RUN_B", help="folder of another, as with the model that may replace it")
    command.add_argument(
        "--min-count", type=count, default=2000, metavar="N", help="points a class needs to be in miou"
    )
    command.add_argument("--out", metavar="DIR", help="empty folder for the results; default runs/compare/<n>")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.files import write_json
    from fusionseg.replay.compare import compare
    from fusionseg.replay.compare_page import write_comparison
    from fusionseg.replay.compare_results import format_results, results
    from fusionseg.replay.sink import new_folder

    comparison = compare(Path(args.a), Path(args.b), args.min_count)
    found = results(comparison)
    out = new_folder(args.out, "compare")
    write_json(out / "comparison.json", found)
    write_comparison(out / "comparison.html", comparison, found)
    print(format_results(found))
    print(f"page:    {out / 'comparison.html'}")
    ends(out, "inspect", found["log"])
    return 0
