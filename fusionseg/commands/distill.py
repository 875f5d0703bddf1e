"""``fusionseg distill``: a student, its control and a teacher."""

import argparse
from pathlib import Path
from typing import Any

from fusionseg.commands.options import add_command, count, ends


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(
        commands, "distill", run, "train a student with a teacher beside its control, and compare them"
    )
    command.add_argument("config", metavar="CONFIG", help="YAML file with a section distill, as in configs/")
    command.add_argument("overrides", metavar="key=value", nargs="*", help="settings in place of the file's")
    command.add_argument("--seeds", type=count, default=3, metavar="N", help="how many of each; default 3")
    command.add_argument(
        "--unlabelled", action="append", default=[], metavar="LOG", help="a log that the teacher alone comments on"
    )
    command.add_argument("--out", metavar="DIR", help="folder of the runs and the report; default runs/distill/<n>")
    command.add_argument("--resume", action="store_true", help="go on with the runs in --out")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from dataclasses import replace

    from fusionseg.config import SourceConfig, TrainConfig, load_config
    from fusionseg.engine.recipe import distil, format_distillation
    from fusionseg.files import atomic_write, write_json
    from fusionseg.replay.sink import new_folder

    config: TrainConfig = load_config(args.config, args.overrides)
    if args.out is None and args.resume:
        raise ValueError("no --out; --resume needs the folder of the runs")
    if args.unlabelled and config.distill is not None:
        more = (*config.distill.unlabelled, *(SourceConfig(path) for path in args.unlabelled))
        config = replace(config, distill=replace(config.distill, unlabelled=more))
    out = new_folder(None, "distill") if args.out is None else Path(args.out)
    report = distil(config, out, [config.seed + i for i in range(args.seeds)], args.resume)
    text = format_distillation(report)
    print(text)
    write_json(out / "distillation.json", report)
    with atomic_write(out / "distillation.md") as file:
        file.write(f"{text}\n".encode())
    student = out / f"distilled-{config.seed}" / "last.safetensors"
    ends(f"{out} (distillation.json, distillation.md)", "evaluate", student, config.data.val[0].path)
    return 0
