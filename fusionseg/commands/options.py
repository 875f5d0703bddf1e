"""What the commands share: their parser, common options, opening logs and models, the last two lines."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from fusionseg.data.log import Log
    from fusionseg.deploy.runtime import Model

INTERRUPTED = 130
MIN_SIDE = 32
MAX_PIXELS = 64_000_000
SHIPPED_MODEL = "student"
DEFAULT_CLASSES = "driving12"
FILE_OPTIONS = ("topics", "calibration")
"""Options for the loaders of formats that know them."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the words of a command in one line, and in its help which logs it reads."""

    reads_logs = False

    def format_help(self) -> str:
        """The help, with the log formats where the command reads logs."""
        return super().format_help() + (_layouts() if self.reads_logs else "")

    def error(self, message: str) -> NoReturn:
        """One line and exit code 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def _layouts() -> str:
    """What a log of each format holds."""
    from fusionseg.data.open import LOADERS, loader_class

    rows = (f"  {name:14} {loader_class(name).needs}\n" for name in LOADERS)
    return f"\nlog formats and the files that each needs:\n{''.join(rows)}"


def add_command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Parser:
    """A command with its name, what runs it and one line of help."""
    command: Parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=run)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def add_log_options(command: Parser, calibration: bool = True) -> None:
    """Options that choose frames and cameras of a log; without ``calibration`` that word means something else there."""
    command.reads_logs = True
    command.add_argument("--format", help="log format, or module:Class; recognised from the layout if left out")
    command.add_argument("--split", help="part of a data set that has parts: train, val, test")
    command.add_argument("--frames", metavar="A:B", help="half-open range in the log's own frame numbers")
    command.add_argument("--cameras", metavar="NAMES", help="camera names separated by commas; all if left out")
    command.add_argument("--topics", metavar="NAMES", help="topics of a recording to read, separated by commas")
    if calibration:
        command.add_argument("--calibration", metavar="FILE", help="YAML of cameras whose log does not calibrate them")
    command.add_argument("--strict", action="store_true", help="stop at the first frame that cannot be read")


def add_model_options(command: argparse.ArgumentParser, sensors: Sequence[str]) -> None:
    """Options that say how a model runs."""
    command.add_argument("--sensors", choices=sensors, default=sensors[0], help=f"default {sensors[0]}")
    command.add_argument("--threads", type=int, metavar="N", help="CPU threads of the network; default: torch's choice")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")


def add_classes(command: argparse.ArgumentParser) -> None:
    """The option that names the class table of the labels."""
    command.add_argument(
        "--classes", metavar="C", help="class table of the labels: driving12, native or FILE.yaml; default the model's"
    )


def add_model_name(command: argparse.ArgumentParser) -> None:
    """The option that names a model."""
    command.add_argument(
        "--model",
        metavar="M",
        default=SHIPPED_MODEL,
        help=f"shipped model (see fusionseg models) or checkpoint file; default {SHIPPED_MODEL}",
    )


def size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH in pixels -> (height, width)."""
    height, x, width = text.lower().partition("x")
    if not (x and height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HEIGHTxWIDTH in pixels, as 360x640")
    sides = int(height), int(width)
    if min(sides) < MIN_SIDE or sides[0] * sides[1] > MAX_PIXELS:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; expected sides from {MIN_SIDE} and at most 64 MP")
    return sides


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count; write a whole number, 0 or more")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    return tuple(count(word) for word in text.split(","))


def open_named_log(args: argparse.Namespace, classes: str = DEFAULT_CLASSES) -> "Log":
    """The log that the arguments name, with labels in a class table."""
    from fusionseg.data.open import open_log

    given = {name: getattr(args, name, None) for name in FILE_OPTIONS}
    named = {name: value for name, value in given.items() if value is not None}
    return open_log(args.log, args.format, classes=classes, split=args.split, strict=args.strict, **named)


def load_model(args: argparse.Namespace) -> "Model":
    """The model that the arguments name."""
    from fusionseg.deploy.runtime import load

    return load(args.model, device=args.device, threads=args.threads)


def open_for(model: "Model", args: argparse.Namespace) -> "Log":
    """The log with labels in the model's table."""
    return open_named_log(args, args.classes or model.classes)


def open_unscored(model: "Model", args: argparse.Namespace) -> "Log":
    """The log with labels in the model's table, or else in any: a replay needs none."""
    try:
        return open_for(model, args)
    except (ValueError, FileNotFoundError):
        if args.classes or model.classes == DEFAULT_CLASSES:
            raise
        return open_named_log(args)


def same_data(args: argparse.Namespace) -> list[str]:
    """The words that chose the data, for the next command on them."""
    given = ((name, getattr(args, name, None)) for name in ("format", "split", "frames", "cameras", *FILE_OPTIONS))
    return [word for name, value in given if value is not None for word in (f"--{name}", value)]


def ends(where: str | Path, *command: str | Path) -> None:
    """The last two lines of every command."""
    print(f"results: {where}")
    print(f"next:    {shlex.join(['fusionseg', *map(str, command)])}")
