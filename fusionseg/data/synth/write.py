"""A synthetic log on disk, in SemanticKITTI's layout: any number of workers, resumable, whole frames only."""

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.synth.camera import Renderer, mounted_camera
from fusionseg.data.synth.ego import Ego
from fusionseg.data.synth.lidar import Lidar
from fusionseg.data.synth.scenes import build
from fusionseg.data.synth.spec import FRAME_S, Spec
from fusionseg.data.synth.world import World
from fusionseg.files import atomic_write
from fusionseg.geometry.transform import compose, invert

WORLD_FILE = "world.json"
TABLES = ("calib.txt", "poses.txt", "times.txt")
DEPTH_SCALE = 256.0
"""KITTI's depth maps: uint16, metres times 256, 0 for none."""
MAX_WORKERS = 256
_BASELINE_M = 0.54


def generate(spec: Spec, out: Path, workers: int = 1, progress: Callable[[], object] = lambda: None) -> Path:
    """Write the log of a spec below ``out``; frames that are there already stay.

    The bytes depend on the spec alone. A frame's sweep is written last, so that a frame that was broken off is not seen
    by the loader and is made anew.

    Args:
        spec: the world.
        out: folder of the data set; the log is ``out/sequences/NN``.
        workers: processes.
        progress: called after each frame that was made.

    Returns:
        The folder of the sequence.

    Raises:
        ValueError: the folder holds another world or another data set, cannot be written, or ``workers`` is absurd.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise ValueError(f"workers is {workers}; expected 1 to {MAX_WORKERS}")
    sequence = _claim(spec, out)
    if not (sequence / TABLES[-1]).is_file():
        _write_tables(spec, sequence)
    missing = [frame for frame in range(spec.frames) if not _sweep_file(sequence, frame).is_file()]
    with _frame_maker(spec, sequence, min(workers, max(1, len(missing)))) as made:
        for _ in made(missing):
            progress()
    return sequence


def missing_frames(spec: Spec, out: Path) -> int:
    """How many frames ``generate`` would make."""
    folder = out / "sequences" / spec.sequence
    return sum(not _sweep_file(folder, frame).is_file() for frame in range(spec.frames))


def _claim(spec: Spec, out: Path) -> Path:
    """The sequence's folder, after checking that it is empty or of this very world."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file; choose a folder for the log")
    sequence = out / "sequences" / spec.sequence
    others = sorted(p.name for p in (out / "sequences").glob("*") if p.name != spec.sequence)
    if others:
        raise ValueError(f"{out}: already holds sequence {others[0]}; choose an empty folder for this world")
    record = sequence / WORLD_FILE
    wanted = json.dumps(spec.describe(), indent=1) + "\n"
    if record.is_file():
        _same_world(record, wanted)
    elif sequence.is_dir() and any(sequence.iterdir()):
        raise ValueError(f"{sequence}: holds files but no {WORLD_FILE}; choose an empty folder for this world")
    else:
        with atomic_write(record) as file:
            file.write(wanted.encode())
    return sequence


def _same_world(record: Path, wanted: str) -> None:
    try:
        there = json.loads(record.read_text(encoding="utf-8"))
        ours = json.loads(wanted)
        different = sorted(key for key in {*there, *ours} if there.get(key) != ours.get(key))
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{record}: cannot be read ({error}); choose an empty folder for this world") from error
    if different:
        key = different[0]
        raise ValueError(
            f"{record.parent}: holds a different world ({key} is {there.get(key)!r} there, {ours.get(key)!r} here); "
            "choose an empty folder or give the same options"
        )


def _write_tables(spec: Spec, sequence: Path) -> None:
    """calib.txt, poses.txt and times.txt."""
    camera, camera_T_lidar = mounted_camera(spec)
    ego = Ego(spec, build(spec))
    right = np.hstack([camera.K, np.zeros((3, 1))])
    left = right.copy()
    left[0, 3] = -camera.K[0, 0] * _BASELINE_M
    rows = {"P0": right, "P1": left, "P2": right, "P3": left, "Tr": camera_T_lidar[:3]}
    calibration = "".join(f"{key}: {_numbers(matrix)}\n" for key, matrix in rows.items())
    world_T_camera = ego.world_T_lidar(np.arange(spec.frames, dtype=np.float64) * FRAME_S) @ invert(camera_T_lidar)
    poses = compose(invert(world_T_camera[0]), world_T_camera)
    texts = {
        "calib.txt": calibration,
        "poses.txt": "".join(f"{_numbers(pose[:3])}\n" for pose in poses),
        "times.txt": "".join(f"{frame * FRAME_S:.6e}\n" for frame in range(spec.frames)),
    }
    for name, text in texts.items():
        with atomic_write(sequence / name) as file:
            file.write(text.encode())


def _numbers(matrix: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.12e}" for value in matrix.reshape(-1))


def _sweep_file(sequence: Path, frame: int) -> Path:
    return sequence / "velodyne" / f"{frame:06d}.bin"


class FrameMaker:
    """Makes frames of one world; each worker process has one."""

    def __init__(self, spec: Spec, sequence: Path, threads: int = 0) -> None:
        world = World(spec, threads)
        self._sequence = sequence
        self._renderer = Renderer(world, *mounted_camera(spec))
        self._lidar = Lidar(world)

    def make(self, frame: int) -> int:
        """Write all files of a frame, the sweep last; returns the frame."""
        view, sweep = self._renderer.render(frame), self._lidar.sweep(frame)
        depth = np.where(np.isfinite(view.depth), view.depth * DEPTH_SCALE + 0.5, 0)
        images: dict[str, NDArray[Any]] = {
            "image_2": cv2.cvtColor(view.image, cv2.COLOR_RGB2BGR),
            "semantic_2": view.semantic,
            "instance_2": view.instance,
            "depth_2": np.where(depth < 2**16, depth, 0).astype(np.uint16),
        }
        for folder, image in images.items():
            self._write(f"{folder}/{frame:06d}.png", _png(image))
        self._write(f"labels/{frame:06d}.label", sweep.labels.astype("<u4").tobytes())
        self._write(f"velodyne/{frame:06d}.bin", sweep.points.astype("<f4").tobytes())
        return frame

    def _write(self, name: str, content: bytes) -> None:
        with atomic_write(self._sequence / name) as file:
            file.write(content)


def _png(image: NDArray[Any]) -> bytes:
    done, content = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise ValueError(f"an image of {image.shape} cannot be encoded as PNG; choose another --size")
    return bytes(content.tobytes())


_maker: Callable[[], FrameMaker] | None = None
"""What gives the maker of this worker process. It is made by the first frame: an error there is an error of that frame,
while one at the start of a worker would be reported as a broken pool."""


def _start_worker(spec: Spec, sequence: Path) -> None:
    global _maker
    cv2.setNumThreads(1)
    _maker = cache(lambda: FrameMaker(spec, sequence, threads=1))


def _work(frame: int) -> int:
    assert _maker is not None
    return _maker().make(frame)


@contextmanager
def _frame_maker(spec: Spec, sequence: Path, workers: int) -> Iterator[Callable[[list[int]], Iterator[int]]]:
    """A function that makes frames, here or in worker processes (spawned: the ray caster's threads do not fork)."""
    if workers == 1:
        maker: FrameMaker | None = None

        def here(frames: list[int]) -> Iterator[int]:
            nonlocal maker
            for frame in frames:
                maker = maker or FrameMaker(spec, sequence)
                yield maker.make(frame)

        yield here
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(spec, sequence)
    )
    try:
        yield lambda frames: pool.map(_work, frames)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
