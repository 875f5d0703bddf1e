"""``fusionseg train``: a model as a config file says."""

import argparse
import os
from pathlib import Path
from typing import Any

from fusionseg.commands.options import add_command, ends


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "train", run, "train a model as a config file says")
    command.add_argument("config", metavar="CONFIG", help="YAML file, as in configs/")
    command.add_argument("overrides", metavar="key=value", nargs="*", help="settings in place of the file's")
    command.add_argument("--out", metavar="DIR", help="folder of the run; default runs/train/<n>")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.config import TrainConfig, load_config
    from fusionseg.engine.train import train
    from fusionseg.replay.sink import new_folder

    config: TrainConfig = load_config(args.config, args.overrides)
    if args.out is None and (args.resume or "RANK" in os.environ):
        raise ValueError("no --out; --resume and torchrun need the folder of the run")
    out = new_folder(None, "train") if args.out is None else Path(args.out)
    best = train(config, out, args.resume)
    data = config.data.val[0].path if config.data.val else "DATA"
    ends(out, "evaluate", best, data)
    return 0
