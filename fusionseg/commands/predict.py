"""``fusionseg predict``: one frame from bare files."""

import argparse
from typing import Any

from fusionseg.commands.options import add_command, add_model_name, add_model_options, ends, load_model, size


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "predict", run, "label one frame from bare files")
    command.add_argument("image", metavar="IMAGE", help="JPEG or PNG, or none")
    command.add_argument("points", metavar="POINTS", help=".bin, .npy, .pcd or .ply, or none")
    command.add_argument("calibration", metavar="CALIB", help="YAML with K, size, camera_T_lidar, or none")
    add_model_name(command)
    add_model_options(command, ("both", "camera", "lidar"))
    command.add_argument("--camera", metavar="NAME", help="which camera of the calibration, if it has several")
    command.add_argument("--size", type=size, metavar="HxW", help="size of the network input; default the model's")
    command.add_argument("--out", metavar="DIR", help="folder for the results; default runs/predict/<n>")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.replay.predict import predict_files
    from fusionseg.replay.sink import free_folder

    model = load_model(args)
    # made when there is something to write
    out = free_folder(args.out, "predict")
    written = predict_files(
        model,
        args.image,
        args.points,
        args.calibration,
        out,
        sensors=args.sensors,
        camera_name=args.camera,
        size=args.size,
    )
    names = ", ".join(path.name for path in written)
    ends(f"{out} ({names})", "replay", "LOG", "--model", args.model, "--video")
    return 0
