"""``fusionseg synth``: a synthetic driving log."""

import argparse
from pathlib import Path
from typing import Any

from fusionseg.commands.options import add_command, ends


def add(commands: Any) -> None:
    """Declare the command and its options."""
    command = add_command(commands, "synth", run, "make a synthetic driving log with exact labels")
    command.add_argument("out", metavar="OUT", help="folder of the log; the same options go on where a run stopped")
    command.add_argument("--scene", default="urban", help="urban (default), intersection, highway or rural")
    command.add_argument("--weather", default="clear", help="clear (default), dusk, night, fog or rain")
    command.add_argument("--frames", type=int, default=40, metavar="N", help="how many, at 10 Hz; default 40")
    command.add_argument("--seed", type=int, default=0, help="of everything random; default 0")
    command.add_argument("--workers", type=int, default=1, metavar="N", help="processes; the bytes do not depend on it")
    command.add_argument("--size", default="1242x375", metavar="WxH", help="of the image; default 1242x375")
    command.add_argument("--beams", type=int, default=64, help="of the LiDAR: 64 (default) or 32")
    command.add_argument("--split", default="train", help="train (default) or test: shapes and layouts train never has")
    command.add_argument("--raw", action="store_true", help="leave the ego motion during a sweep in its points")


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit status."""
    from fusionseg.data.synth.spec import Spec, parse_size
    from fusionseg.data.synth.write import generate, missing_frames
    from fusionseg.engine.progress import Progress

    width, height = parse_size(args.size)
    spec = Spec(
        scene=args.scene,
        weather=args.weather,
        frames=args.frames,
        seed=args.seed,
        width=width,
        height=height,
        beams=args.beams,
        split=args.split,
        compensate=not args.raw,
    )
    out = Path(args.out)
    done = spec.frames - missing_frames(spec, out)
    with Progress("synth", spec.frames, done=done) as progress:
        sequence = generate(spec, out, args.workers, progress.advance)
    ends(sequence, "inspect", out)
    return 0
