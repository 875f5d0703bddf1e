"""The command line: ``fusionseg <command>``. Each command imports what it needs when it runs."""

import argparse
import errno
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import fusionseg

if TYPE_CHECKING:
    from fusionseg.data.log import Log
    from fusionseg.deploy.benchmark import Frames
    from fusionseg.deploy.contender import Score
    from fusionseg.deploy.runtime import Model

USER_ERRORS = (ValueError, OSError, KeyError, MemoryError)
INTERRUPTED = 130
BROKEN_PIPE = 141
MIN_SIDE = 32
MAX_PIXELS = 64_000_000
SHIPPED_MODEL = "student"
GENERATED_FRAMES = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 the log has unreadable frames, 2 an error, 130 interrupted."""
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
    text = str(error.args[0]) if error.args else type(error).__name__
    return " ".join(text.split())


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the words of a command in one line, and in its help which logs it reads."""

    reads_logs = False

    def format_help(self) -> str:
        return super().format_help() + (_layouts() if self.reads_logs else "")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def _layouts() -> str:
    """What a log of each format holds."""
    from fusionseg.data.open import LOADERS, loader_class

    rows = (f"  {name:14} {loader_class(name).needs}\n" for name in LOADERS)
    return f"\nlog formats and the files that each needs:\n{''.join(rows)}"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fusionseg", description="Camera + LiDAR semantic segmentation for driving logs.")
    parser.add_argument("--version", action="version", version=f"fusionseg {fusionseg.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_demo(commands)
    _add_inspect(commands)
    _add_predict(commands)
    _add_replay(commands)
    _add_evaluate(commands)
    _add_benchmark(commands)
    _add_export(commands)
    _add_train(commands)
    _add_distill(commands)
    _add_synth(commands)
    _add_models(commands)
    return parser


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> _Parser:
    command: _Parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=run)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def _add_log_options(command: _Parser) -> None:
    command.reads_logs = True
    command.add_argument("--format", help="log format, or module:Class; recognised from the layout if left out")
    command.add_argument("--split", help="part of a data set that has parts: train, val, test")
    command.add_argument("--frames", metavar="A:B", help="half-open range in the log's own frame numbers")
    command.add_argument("--cameras", metavar="NAMES", help="camera names separated by commas; all if left out")
    command.add_argument("--strict", action="store_true", help="stop at the first frame that cannot be read")


def _add_model_options(command: argparse.ArgumentParser, sensors: Sequence[str]) -> None:
    command.add_argument("--sensors", choices=sensors, default=sensors[0], help=f"default {sensors[0]}")
    command.add_argument("--threads", type=int, metavar="N", help="CPU threads of the network; default: torch's choice")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")


def _add_classes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--classes", metavar="C", help="class table of the labels: driving12, native or FILE.yaml; default the model's"
    )


def _add_model_name(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        metavar="M",
        default=SHIPPED_MODEL,
        help=f"shipped model (see fusionseg models) or checkpoint file; default {SHIPPED_MODEL}",
    )


def _add_demo(commands: Any) -> None:
    command = _add(commands, "demo", _demo, "make a small synthetic log, score and replay it with the shipped model")
    _add_model_name(command)
    command.add_argument("--out", metavar="DIR", help="empty folder for the results; default runs/demo/<n>")


def _add_inspect(commands: Any) -> None:
    command = _add(commands, "inspect", _inspect, "say what is in a log and what is wrong with it, with pictures")
    command.add_argument("log", metavar="LOG", help="folder (or video) of a log")
    _add_log_options(command)
    command.add_argument("--out", metavar="DIR", help="folder for the pictures; default runs/inspect/<n>")
    command.add_argument("--json", metavar="FILE", help="write the facts as JSON")


def _add_predict(commands: Any) -> None:
    command = _add(commands, "predict", _predict, "label one frame from bare files")
    command.add_argument("image", metavar="IMAGE", help="JPEG or PNG, or none")
    command.add_argument("points", metavar="POINTS", help=".bin, .npy, .pcd or .ply, or none")
    command.add_argument("calibration", metavar="CALIB", help="YAML with K, size, camera_T_lidar, or none")
    _add_model_name(command)
    _add_model_options(command, ("both", "camera", "lidar"))
    command.add_argument("--camera", metavar="NAME", help="which camera of the calibration, if it has several")
    command.add_argument("--size", type=_size, metavar="HxW", help="size of the network input; default the model's")
    command.add_argument("--out", metavar="DIR", help="folder for the results; default runs/predict/<n>")


def _add_replay(commands: Any) -> None:
    command = _add(commands, "replay", _replay, "label every frame of a log in order")
    command.add_argument("log", metavar="LOG", help="folder (or video) of a log")
    _add_model_name(command)
    _add_log_options(command)
    _add_model_options(command, ("both", "camera", "lidar"))
    _add_classes(command)
    command.add_argument("--size", type=_size, metavar="HxW", help="size of the network input; default the model's")
    command.add_argument("--video", action="store_true", help="write an mp4 per camera with the labels drawn in")
    command.add_argument(
        "--min-count", type=_count, default=2000, metavar="N", help="points a class needs to be in miou"
    )
    command.add_argument("--out", metavar="DIR", help="empty folder for the results; default runs/replay/<n>")


def _add_evaluate(commands: Any) -> None:
    command = _add(commands, "evaluate", _evaluate, "score a model on labelled data, with each sensor setting")
    command.add_argument("model", metavar="M", help="shipped model (see fusionseg models) or checkpoint file")
    command.add_argument("log", metavar="DATA", help="folder of a labelled log or data set")
    _add_log_options(command)
    _add_model_options(command, ("all", "both", "camera", "lidar"))
    _add_classes(command)
    command.add_argument(
        "--min-count", type=_count, default=2000, metavar="N", help="points a class needs to be in miou"
    )
    command.add_argument("--oracle", action="store_true", help="add what the true label of each 4-px cell would score")
    command.add_argument("--json", metavar="FILE", help="write the figures as JSON")


def _add_benchmark(commands: Any) -> None:
    command = _add(commands, "benchmark", _benchmark, "measure how fast models are, by turns and stage by stage")
    command.add_argument(
        "models",
        metavar="M",
        nargs="*",
        default=[SHIPPED_MODEL],
        help="model, or M@RUNTIME[:PRECISION]; default the shipped one",
    )
    command.add_argument("--data", metavar="LOG", help="folder of a log; default a generated street")
    _add_log_options(command)
    _add_classes(command)
    command.add_argument("--size", type=_size, metavar="HxW", help="size of the network input; default the model's")
    command.add_argument("--threads", type=int, metavar="N", help="CPU threads, each on a core of its own; default all")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    command.add_argument("--compile", action="store_true", help="let torch.compile make one program of a checkpoint")
    command.add_argument("--peers", action="store_true", help="run image-only networks of others on the same images")
    command.add_argument("--whole-sweep", action="store_true", help="label the points outside the image too")
    command.add_argument("--repetitions", type=int, default=100, metavar="N", help="frames per model; default 100")
    command.add_argument("--warmup", type=int, default=10, metavar="N", help="frames before them; default 10")
    command.add_argument("--cold-starts", type=int, default=3, metavar="N", help="fresh processes per model; default 3")
    command.add_argument("--deadline", type=int, default=0, metavar="N", help="pace N frames at 10 Hz, count misses")
    command.add_argument("--batch", type=_counts, default=(), metavar="1,2,4", help="throughput of these batch sizes")
    command.add_argument("--profile", action="store_true", help="which layers the time goes to")
    command.add_argument("--compare", metavar="BASE.json", help="ratios to an earlier run's --json")
    command.add_argument("--json", metavar="FILE", help="write the figures as JSON")
    command.add_argument("--histogram", metavar="FILE.png", help="draw how often a frame took how long")


def _add_export(commands: Any) -> None:
    command = _add(commands, "export", _export, "write a model for another runtime, if it agrees with PyTorch there")
    command.add_argument("model", metavar="M", help="shipped model (see fusionseg models) or checkpoint file")
    command.add_argument("--to", choices=("onnx", "openvino"), default="onnx", help="default onnx")
    command.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="default fp32")
    command.add_argument(
        "--calibration",
        dest="log",
        metavar="LOG",
        help="log to compare and, for int8, to calibrate on; fp16 and int8 need its labels; default a generated street",
    )
    _add_log_options(command)
    _add_classes(command)
    command.add_argument("--size", type=_size, metavar="HxW", help="the only size of the network input; default any")
    command.add_argument("--out", metavar="DIR", help="empty folder for the export; default runs/export/<n>")


def _add_train(commands: Any) -> None:
    command = _add(commands, "train", _train, "train a model as a config file says")
    command.add_argument("config", metavar="CONFIG", help="YAML file, as in configs/")
    command.add_argument("overrides", metavar="key=value", nargs="*", help="settings in place of the file's")
    command.add_argument("--out", metavar="DIR", help="folder of the run; default runs/train/<n>")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out")


def _add_distill(commands: Any) -> None:
    command = _add(commands, "distill", _distill, "train a student with a teacher beside its control, and compare them")
    command.add_argument("config", metavar="CONFIG", help="YAML file with a section distill, as in configs/")
    command.add_argument("overrides", metavar="key=value", nargs="*", help="settings in place of the file's")
    command.add_argument("--seeds", type=_count, default=3, metavar="N", help="how many of each; default 3")
    command.add_argument(
        "--unlabelled", action="append", default=[], metavar="LOG", help="a log that the teacher alone comments on"
    )
    command.add_argument("--out", metavar="DIR", help="folder of the runs and the report; default runs/distill/<n>")
    command.add_argument("--resume", action="store_true", help="go on with the runs in --out")


def _add_models(commands: Any) -> None:
    _add(commands, "models", _models, "list the models that come with the package")


def _add_synth(commands: Any) -> None:
    command = _add(commands, "synth", _synth, "make a synthetic driving log with exact labels")
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


def _size(text: str) -> tuple[int, int]:
    height, x, width = text.lower().partition("x")
    if not (x and height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HEIGHTxWIDTH in pixels, as 360x640")
    size = int(height), int(width)
    if min(size) < MIN_SIDE or size[0] * size[1] > MAX_PIXELS:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; expected sides from {MIN_SIDE} and at most 64 MP")
    return size


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count; write a whole number, 0 or more")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(word) for word in text.split(","))


def _open(args: argparse.Namespace, classes: str = "driving12") -> "Log":
    from fusionseg.data.open import open_log

    return open_log(args.log, args.format, classes=classes, split=args.split, strict=args.strict)


def _load(args: argparse.Namespace) -> "Model":
    from fusionseg.deploy.runtime import load

    return load(args.model, device=args.device, threads=args.threads)


def _open_for(model: "Model", args: argparse.Namespace) -> "Log":
    """The log with labels in the model's table."""
    return _open(args, args.classes or model.classes)


def _open_unscored(model: "Model", args: argparse.Namespace) -> "Log":
    """The log with labels in the model's table, or else in any: a replay needs none."""
    try:
        return _open_for(model, args)
    except (ValueError, FileNotFoundError):
        if args.classes:
            raise
        return _open(args)


def _same_data(args: argparse.Namespace) -> list[str]:
    """The words that chose the data, for the next command on them."""
    given = ((name, getattr(args, name)) for name in ("format", "split", "frames", "cameras"))
    return [word for name, value in given if value is not None for word in (f"--{name}", value)]


def _ends(where: str | Path, *command: str | Path) -> None:
    """The last two lines of every command."""
    print(f"results: {where}")
    print(f"next:    {shlex.join(['fusionseg', *map(str, command)])}")


def _demo(args: argparse.Namespace) -> int:
    from fusionseg.deploy.runtime import load
    from fusionseg.replay.demo import demonstrate, describe, synthetic_log
    from fusionseg.replay.sink import new_folder

    model = load(args.model)
    out = new_folder(args.out, "demo")
    log = synthetic_log()
    print(describe(demonstrate(model, log, out)))
    _ends(out, "inspect", log.path)
    return 0


def _inspect(args: argparse.Namespace) -> int:
    from fusionseg.engine.evaluate import select_frames
    from fusionseg.engine.progress import Progress
    from fusionseg.replay import inspect
    from fusionseg.replay.sink import new_folder, write_json
    from fusionseg.replay.source import select_cameras

    log = _open(args)
    frames, cameras = select_frames(log, args.frames), select_cameras(log, args.cameras)
    out = new_folder(args.out, "inspect")
    found = inspect.Survey(log, cameras)
    with Progress("inspect", len(frames)) as progress:
        for _ in found.run(frames, args.strict):
            progress.advance()
    facts = found.facts()
    print(inspect.describe(facts))
    if args.json:
        write_json(Path(args.json), facts)
    pictures = (
        []
        if found.first_readable is None
        else inspect.write_pictures(out, log.frame(found.first_readable, cameras), log.table)
    )
    _ends(f"{out} ({len(pictures)} pictures)", "replay", args.log, *_same_data(args), "--video")
    return 1 if found.unreadable else 0


def _predict(args: argparse.Namespace) -> int:
    from fusionseg.replay.predict import predict_files
    from fusionseg.replay.sink import free_folder

    model = _load(args)
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
    _ends(f"{out} ({names})", "replay", "LOG", "--model", args.model, "--video")
    return 0


def _replay(args: argparse.Namespace) -> int:
    from fusionseg.engine.evaluate import select_frames
    from fusionseg.engine.progress import Progress
    from fusionseg.replay.pipeline import Plan, replay
    from fusionseg.replay.sink import new_folder
    from fusionseg.replay.source import select_cameras

    model = _load(args)
    log = _open_unscored(model, args)
    plan = Plan(
        frames=select_frames(log, args.frames),
        cameras=select_cameras(log, args.cameras),
        sensors=args.sensors,
        size=args.size,
        video=args.video,
        strict=args.strict,
        min_count=args.min_count,
    )
    out = new_folder(args.out, "replay")
    with Progress("replay", len(plan.frames)) as progress:
        summary = replay(log, model, out, plan, progress.advance)
    frames, total = summary["frames"], summary["stages_ms"]["total"]
    print(f"frames: {frames['seen']} seen, {frames['written']} written, {len(frames['skipped'])} skipped")
    for item in frames["skipped"]:
        print(f"  frame {item['frame']}: {item['reason']}")
    if total:
        print(f"sensor data to labels: {total['p50']:.0f} ms median, {total['p95']:.0f} ms 95 %")
    for kind, scores in (summary["accuracy"] or {}).items():
        if scores:
            miou = "-" if scores["miou"] is None else f"{100 * scores['miou']:.1f}"
            print(f"{kind}: mIoU {miou}, over every class {100 * scores['miou_all']:.1f}")
    if frames["skipped"] and not frames["written"]:
        raise ValueError(f"{args.log}: none of {frames['seen']} frames could be labelled; {out} says why for each")
    if summary["interrupted"]:
        print("interrupted: the results above are complete for the frames seen", file=sys.stderr)
    following = ("evaluate", args.model, args.log) if summary["accuracy"] else ("inspect", args.log)
    _ends(out, *following, *_same_data(args))
    return INTERRUPTED if summary["interrupted"] else 0


def _evaluate(args: argparse.Namespace) -> int:
    from fusionseg.deploy.runtime import SENSORS
    from fusionseg.engine.evaluate import evaluate, select_frames
    from fusionseg.engine.progress import Progress
    from fusionseg.engine.report import format_report
    from fusionseg.replay.sink import write_json
    from fusionseg.replay.source import select_cameras

    model = _load(args)
    if args.json and Path(args.json).is_dir():
        raise ValueError(f"{args.json}: is a folder; --json needs the name of a file")
    log = _open_for(model, args)
    frames = select_frames(log, args.frames)
    with Progress("evaluate", len(frames)) as progress:
        report = evaluate(
            model,
            log,
            frames=frames,
            cameras=select_cameras(log, args.cameras),
            sensors=SENSORS if args.sensors == "all" else (args.sensors,),
            min_count=args.min_count,
            oracle=args.oracle,
            strict=args.strict,
            progress=lambda done, total: progress.advance(),
        )
    print(format_report(report))
    if args.json:
        write_json(Path(args.json), report)
    where = args.json or "the table above; --json FILE keeps them"
    _ends(where, "replay", args.log, "--model", args.model, *_same_data(args), "--video")
    return 0


def _benchmark(args: argparse.Namespace) -> int:
    from fusionseg.deploy.machine import fixed_threads

    # before anything loads a library that reads its number of threads only once
    with fixed_threads(args.threads) as threads:
        return _measure(args, threads)


def _measure(args: argparse.Namespace, threads: int) -> int:
    from fusionseg.deploy.benchmark import Plan, benchmark
    from fusionseg.deploy.benchmark_report import check_outputs, compare, format_benchmark, read_report, write_histogram
    from fusionseg.deploy.contender import Recipe, parse_model
    from fusionseg.engine.progress import Progress
    from fusionseg.replay.sink import write_json

    plan = Plan(
        repetitions=args.repetitions,
        warmup=args.warmup,
        cold_starts=args.cold_starts,
        deadline=args.deadline,
        batches=args.batch,
        profile=args.profile,
        peers=args.peers,
    )
    check_outputs(args.json, args.histogram)
    base = read_report(Path(args.compare)) if args.compare else None
    recipes = [
        Recipe(
            *parse_model(word),
            device=args.device,
            threads=threads,
            size=args.size,
            whole_sweep=args.whole_sweep,
            compiled=args.compile,
        )
        for word in args.models
    ]
    frames, score = _benchmark_data(args)
    with Progress("benchmark", plan.warmup + plan.repetitions) as progress:
        report, totals_ms = benchmark(recipes, frames, plan, score=score, progress=progress.advance)
    print(format_benchmark(report))
    if args.json:
        write_json(Path(args.json), report)
    if args.histogram:
        write_histogram(Path(args.histogram), totals_ms)
    if base is not None:
        print(f"\n{compare(report, base)}")
    where = " and ".join(filter(None, (args.json, args.histogram))) or "the table above; --json FILE keeps it"
    following = ("--compare", args.json) if args.json else ("--json", "benchmark.json")
    same = [*(("--data", args.log) if args.data else ()), *_same_data(args)]
    same += ["--size", "{}x{}".format(*args.size)] if args.size else []
    _ends(where, "benchmark", *args.models, *same, *following)
    return 0


def _benchmark_data(args: argparse.Namespace) -> "tuple[Frames, Score]":
    """Frames of one camera of the log, a generated street if none is named, and what scores a model on them."""
    from dataclasses import replace

    from fusionseg.deploy.benchmark import Frames
    from fusionseg.engine.accuracy import accuracy_of
    from fusionseg.engine.evaluate import select_frames
    from fusionseg.engine.progress import Progress
    from fusionseg.replay.demo import WORLD, synthetic_log
    from fusionseg.replay.source import select_cameras

    args.log = args.data or str(synthetic_log(replace(WORLD, frames=GENERATED_FRAMES)).path)
    log = _open(args)
    # of a long log only those whose turn comes
    numbers = select_frames(log, args.frames)[: args.warmup + args.repetitions]
    cameras = select_cameras(log, args.cameras)
    if args.cameras and len(cameras) > 1:
        raise ValueError(f"--cameras is {args.cameras}; a benchmark labels one view at a time, name one camera")

    def score(model: "Model") -> dict[str, Any] | None:
        with Progress(f"accuracy of {model.name}", len(numbers)) as progress:
            return accuracy_of(
                model, _open_for(model, args), numbers, cameras[0], lambda done, total: progress.advance()
            )

    return Frames(lambda: _open(args), numbers, cameras[0]), score


def _export(args: argparse.Namespace) -> int:
    from fusionseg.deploy.export import ParityError, export
    from fusionseg.deploy.runtime import load
    from fusionseg.engine.evaluate import select_frames
    from fusionseg.replay.demo import synthetic_log
    from fusionseg.replay.sink import free_folder
    from fusionseg.replay.source import select_cameras

    model = load(args.model, runtime="torch")
    out = free_folder(args.out, "export")
    if args.log is None and args.precision == "int8":
        logging.getLogger(__name__).warning(
            "calibrated on a generated street; a log of your own (--calibration) is better"
        )
    log = synthetic_log() if args.log is None else _open_unscored(model, args)
    frames, cameras = select_frames(log, args.frames), select_cameras(log, args.cameras)
    try:
        parity = export(
            args.model, out, log, frames=frames, cameras=cameras, to=args.to, precision=args.precision, size=args.size
        )
    except ParityError as error:
        print(error, file=sys.stderr)
        return 1
    print(parity.describe())
    _ends(out, "benchmark", args.model, out)
    return 0


def _synth(args: argparse.Namespace) -> int:
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
    _ends(sequence, "inspect", out)
    return 0


def _train(args: argparse.Namespace) -> int:
    from fusionseg.config import TrainConfig, load_config
    from fusionseg.engine.train import train
    from fusionseg.replay.sink import new_folder

    config: TrainConfig = load_config(args.config, args.overrides)
    if args.out is None and (args.resume or "RANK" in os.environ):
        raise ValueError("no --out; --resume and torchrun need the folder of the run")
    out = new_folder(None, "train") if args.out is None else Path(args.out)
    best = train(config, out, args.resume)
    data = config.data.val[0].path if config.data.val else "DATA"
    _ends(out, "evaluate", best, data)
    return 0


def _distill(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from fusionseg.config import SourceConfig, TrainConfig, atomic_write, load_config
    from fusionseg.engine.recipe import distil, format_distillation
    from fusionseg.replay.sink import new_folder, write_json

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
    _ends(f"{out} (distillation.json, distillation.md)", "evaluate", student, config.data.val[0].path)
    return 0


def _models(args: argparse.Namespace) -> int:
    from fusionseg.models.shipped import format_models

    print(format_models())
    _ends("the table above", "demo")
    return 0
