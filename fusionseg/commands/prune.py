"""``fusionseg prune``: a narrower model from a trained one."""

import argparse
from pathlib import Path
from typing import Any

from fusionseg.commands.options import add_command, ends


def add(commands: Any) -> None:
    """Declare the command and its options."""
    text = "cut a model to the narrower one of a config, train it on, and compare the two"
    command = add_command(commands, "prune", run, text)
    command.add_argument("model", metavar="M", help="shipped model (see fusionseg models) or checkpoint file")
    command.add_argument("config", metavar="CONFIG", help="YAML file with the narrower widths, as configs/student.yaml")
    command.add_argument("overrides", metavar="key=value", nargs="*", help="settings in place of the file's")
    command.add_argument("--out", metavar="DIR", help="folder of the run and the report; default runs/prune/<n>")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.config import TrainConfig, load_config
    from fusionseg.engine.prune import format_pruning, prune
    from fusionseg.files import atomic_write, write_json
    from fusionseg.replay.sink import new_folder

    config: TrainConfig = load_config(args.config, args.overrides)
    if args.out is None and args.resume:
        raise ValueError("no --out; --resume needs the folder of the run")
    out = new_folder(None, "prune") if args.out is None else Path(args.out)
    report = prune(args.model, config, out, args.resume)
    text = format_pruning(report)
    print(text)
    write_json(out / "pruning.json", report)
    with atomic_write(out / "pruning.md") as file:
        file.write(f"{text}\n".encode())
    ends(f"{out} (pruning.json, pruning.md)", "export", out / "tuned" / "last.safetensors")
    return 0
