"""``fusionseg export``: a model for another runtime."""

import argparse
import logging
import sys
from typing import Any

from fusionseg.commands.options import add_classes, add_command, add_log_options, ends, open_unscored, size


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "export", run, "write a model for another runtime, if it agrees with PyTorch there")
    command.add_argument("model", metavar="M", help="shipped model (see fusionseg models) or checkpoint file")
    command.add_argument("--to", choices=("onnx", "openvino"), default="onnx", help="default onnx")
    command.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="default fp32")
    command.add_argument(
        "--calibration",
        dest="log",
        metavar="LOG",
        help="log to compare and, for int8, to calibrate on; fp16 and int8 need its labels; default a generated street",
    )
    add_log_options(command, calibration=False)
    add_classes(command)
    command.add_argument("--size", type=size, metavar="HxW", help="the only size of the network input; default any")
    command.add_argument("--out", metavar="DIR", help="empty folder for the export; default runs/export/<n>")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.deploy.runtime import load

    # says what to install where there is no torch, which the rest needs to be imported
    model = load(args.model, runtime="torch")
    from fusionseg.deploy.export import ParityError, export
    from fusionseg.engine.evaluate import select_frames
    from fusionseg.replay.demo import synthetic_log
    from fusionseg.replay.sink import free_folder
    from fusionseg.replay.source import select_cameras

    out = free_folder(args.out, "export")
    if args.log is None and args.precision == "int8":
        logging.getLogger(__name__).warning(
            "calibrated on a generated street; a log of your own (--calibration) is better"
        )
    log = synthetic_log() if args.log is None else open_unscored(model, args)
    frames, cameras = select_frames(log, args.frames), select_cameras(log, args.cameras)
    try:
        parity = export(
            args.model, out, log, frames=frames, cameras=cameras, to=args.to, precision=args.precision, size=args.size
        )
    except ParityError as error:
        print(error, file=sys.stderr)
        return 1
    print(parity.describe())
    ends(out, "benchmark", args.model, out)
    return 0
