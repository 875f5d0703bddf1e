"""The command line: ``fusionseg <command>``. Each command imports what it needs when it runs."""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence

import fusionseg
from fusionseg.commands import (
    benchmark,
    compare,
    demo,
    distill,
    evaluate,
    export,
    inspect,
    models,
    predict,
    prune,
    replay,
    synth,
    train,
    view,
)
from fusionseg.commands.options import INTERRUPTED, Parser

# in the order of the help
COMMANDS = (
    demo,
    inspect,
    predict,
    replay,
    view,
    compare,
    evaluate,
    benchmark,
    export,
    train,
    distill,
    prune,
    synth,
    models,
)
USER_ERRORS = (ValueError, OSError, KeyError, MemoryError, ModuleNotFoundError)
BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 what was checked is not so, 2 an error, 130 interrupted."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    # argparse takes key=value words only next to CONFIG; people write them after --out too
    if rest and not ("overrides" in args and all("=" in word and not word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.overrides += rest
    if args.command is None:
        parser.print_help()
        return 2
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except KeyboardInterrupt as stop:
        print(f"interrupted{f': {stop}' if str(stop) else ''}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of a pipe (head, say) has left; python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except USER_ERRORS as error:
        if args.debug:
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        fix = "free some space" if error.errno == errno.ENOSPC else "check the path and its permissions"
        return f"{where}{error.strerror}; {fix}"
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); choose a smaller --size"
    if isinstance(error, ModuleNotFoundError):
        from fusionseg.deploy.exported_session import missing_package

        return str(missing_package(error.name or "a package"))
    text = str(error.args[0]) if error.args else type(error).__name__
    return " ".join(text.split())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="fusionseg", description="Camera + LiDAR semantic segmentation for driving logs.")
    parser.add_argument("--version", action="version", version=f"fusionseg {fusionseg.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
