"""``fusionseg models``: what comes with the package."""

import argparse
from typing import Any

from fusionseg.commands.options import add_command, ends


def add(commands: Any) -> None:
    """Declare the command and its options."""
    add_command(commands, "models", run, "list the models that come with the package")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.models.shipped import format_models

    print(format_models())
    ends("the table above", "demo")
    return 0
