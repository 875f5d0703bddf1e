"""Make the synthetic worlds that the shipped student learns from and is tested on.

python datasets/make_synth.py OUT [--workers N]

Training worlds lie in OUT/train-SCENE-WEATHER-SEED, one frame each: ten frames of one world show one street ten times,
ten worlds show ten streets. Half have KITTI's image shape, half 16:9; every fifth has 32 beams. Test worlds lie in
OUT/test-SCENE-WEATHER (10 frames; body shapes, facades and layouts no training world has). Worlds that are there
already stay.
"""

import argparse
import sys
from pathlib import Path

from fusionseg.data.synth.spec import SCENES, WEATHERS, Spec
from fusionseg.data.synth.write import generate

SHAPES = ((1242, 375), (960, 540))
SEEDS = {"urban": 30, "intersection": 10, "highway": 10, "rural": 10}
"""How many training worlds of each scene and weather."""


def worlds() -> dict[str, Spec]:
    """Every world by the name of its folder."""
    specs = {}
    seed = 0
    for scene in SCENES:
        for weather in WEATHERS:
            for _ in range(SEEDS[scene]):
                width, height = SHAPES[seed % 2]
                beams = 32 if seed % 5 == 4 else 64
                specs[f"train-{scene}-{weather}-{seed}"] = Spec(
                    scene, weather, frames=1, seed=seed, width=width, height=height, beams=beams
                )
                seed += 1
    for scene in ("urban", "highway"):
        for weather in WEATHERS:
            specs[f"test-{scene}-{weather}"] = Spec(scene, weather, frames=10, seed=1000, split="test")
    return specs


def main() -> int:
    """Generate what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    try:
        for name, spec in worlds().items():
            print(generate(spec, args.out / name, args.workers), flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
