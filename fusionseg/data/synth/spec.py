"""What a synthetic world is made from: scene, weather, seed and sensors. The same spec gives the same bytes."""

import difflib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SCENES = ("urban", "intersection", "highway", "rural")
WEATHERS = ("clear", "dusk", "night", "fog", "rain")
BEAMS = (64, 32)
SPLITS = {"train": "00", "test": "11"}
"""The sequence number of each split: 11 is the first of SemanticKITTI's test split."""
VERSION = 2
"""Grows with every change of the generator that changes its bytes."""
FRAME_S = 0.1
MAX_FRAMES = 2000
_STREAMS = ("layout", "actors", "sky", "camera", "lidar", "weather")


@dataclass(frozen=True)
class Spec:
    """One log.

    Attributes:
        scene: one of ``SCENES``.
        weather: one of ``WEATHERS``.
        frames: how many, at 10 Hz.
        seed: of everything random.
        width, height: of the image in pixels.
        beams: of the LiDAR, 64 or 32.
        split: ``test`` worlds use body shapes, facades and layouts that ``train`` worlds never do.
        compensate: undo the ego motion during a sweep, as KITTI's sweeps are; False leaves the points as measured.

    Raises:
        ValueError: a value that no world can have.
    """

    scene: str = "urban"
    weather: str = "clear"
    frames: int = 40
    seed: int = 0
    width: int = 1242
    height: int = 375
    beams: int = 64
    split: str = "train"
    compensate: bool = True

    def __post_init__(self) -> None:
        for name, choices in (("scene", SCENES), ("weather", WEATHERS), ("split", tuple(SPLITS))):
            value = getattr(self, name)
            if value not in choices:
                near = difflib.get_close_matches(str(value), choices, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(choices)}"
                raise ValueError(f"{name} is {value!r}; {hint}")
        if self.beams not in BEAMS:
            raise ValueError(f"beams is {self.beams}; choose one of {', '.join(map(str, BEAMS))}")
        for name, low, high in (
            ("frames", 1, MAX_FRAMES),
            ("seed", 0, 2**31 - 1),
            ("width", 64, 4096),
            ("height", 48, 4096),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; expected {low} to {high}")

    @property
    def sequence(self) -> str:
        """Folder name of the log's only sequence."""
        return SPLITS[self.split]

    def rng(self, stream: str, frame: int = 0) -> np.random.Generator:
        """A generator of its own for each purpose and frame, so that no draw depends on the order of frames."""
        key = (VERSION, self.seed, SCENES.index(self.scene), int(self.split == "test"), _STREAMS.index(stream), frame)
        return np.random.default_rng(key)

    def describe(self) -> dict[str, Any]:
        """What ``world.json`` holds."""
        return {"generator": "fusionseg synth", "version": VERSION, **asdict(self)}


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from ``1242x375``.

    Raises:
        ValueError: not two numbers with an x between.
    """
    width, x, height = text.lower().partition("x")
    if not (x and width.isdecimal() and height.isdecimal()):
        raise ValueError(f"size is {text!r}; write WIDTHxHEIGHT in pixels, as 1242x375")
    return int(width), int(height)
