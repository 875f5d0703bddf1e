"""Measurements that need a process of their own: cold start, peak memory, the machine's matrix-product peak.

``python -m fusionseg.deploy.fresh JSON`` is the inside of such a process: it prints its findings as one line of JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusionseg.deploy.contender import Recipe
    from fusionseg.sample import Sample

FRAMES = 3
"""Labelled in a fresh process: the first ends the cold start, the others let its memory reach its peak."""


def cold_start(recipe: "Recipe", sample_file: Path) -> dict[str, float]:
    """Seconds from nothing to the first labelled frame, and the most memory the process needs.

    Args:
        recipe: what to open.
        sample_file: from ``save_sample``.

    Returns:
        ``import_s``, ``load_s``, ``first_frame_s``, ``cold_start_s`` (these and the interpreter's own start) and
        ``peak_memory_mb``.

    Raises:
        ValueError: the process failed; with its last words.
    """
    return _in_fresh_process({"recipe": recipe.as_dict(), "sample": str(sample_file)})


def matrix_product_peak(threads: int) -> float:
    """The most float32 multiply-accumulates a second of this machine, with so many threads (see ``peak``).

    Raises:
        ValueError: the process failed.
    """
    return _in_fresh_process({"threads": threads})["macs_per_s"]


def save_sample(sample: "Sample", path: Path) -> None:
    """What a network needs of a sample, for another process of this program."""
    import numpy as np

    camera = sample.camera
    arrays: dict[str, Any] = {"points": sample.points_lidar, "camera_T_lidar": sample.camera_T_lidar, "K": camera.K}
    arrays |= {"distortion": camera.distortion, "model": camera.model, "size": (camera.width, camera.height)}
    if sample.image is not None:
        arrays["image"] = sample.image
    np.savez(path, **arrays)


def _load_sample(path: str) -> "Sample":
    import numpy as np

    from fusionseg.geometry.camera import Camera, Model
    from fusionseg.sample import Sample

    with np.load(path, allow_pickle=False) as arrays:
        width, height = map(int, arrays["size"])
        kind: Model = "fisheye" if str(arrays["model"]) == "fisheye" else "pinhole"
        image = arrays["image"] if "image" in arrays.files else None
        return Sample(
            log="benchmark",
            frame=0,
            camera_name="camera",
            camera=Camera(width, height, arrays["K"], kind, arrays["distortion"]),
            image=image,
            points_lidar=arrays["points"],
            camera_T_lidar=arrays["camera_T_lidar"],
        )


def _in_fresh_process(task: dict[str, Any]) -> dict[str, float]:
    # the monotonic clock is the machine's, so that the new process can read when it was asked for
    words = json.dumps({**task, "began": time.monotonic()})
    done = subprocess.run([sys.executable, "-m", "fusionseg.deploy.fresh", words], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ValueError(f"a fresh process for {task.get('recipe', {}).get('model', 'the machine')} failed ({last})")
    found: dict[str, float] = json.loads(lines[-1])
    return found


def _start_cold(task: dict[str, Any]) -> dict[str, float | None]:
    began = time.monotonic()
    from fusionseg.deploy.contender import Recipe, open_run
    from fusionseg.deploy.machine import peak_memory_mb

    imported = time.monotonic()
    run = open_run(Recipe.from_dict(task["recipe"]))
    loaded = time.monotonic()
    sample = _load_sample(task["sample"])
    ready = time.monotonic()
    run(sample)
    labelled = time.monotonic()
    for _ in range(FRAMES - 1):
        run(sample)
    return {
        "import_s": round(imported - began, 3),
        "load_s": round(loaded - imported, 3),
        "first_frame_s": round(labelled - ready, 3),
        "cold_start_s": round(labelled - ready + loaded - task["began"], 3),
        "peak_memory_mb": peak_memory_mb(),
    }


def _find_peak(task: dict[str, Any]) -> dict[str, float]:
    from fusionseg.deploy.peak import measure_peak

    return {"macs_per_s": measure_peak(task["threads"])}


def _main() -> None:
    task = json.loads(sys.argv[1])
    print(json.dumps(_start_cold(task) if "recipe" in task else _find_peak(task)))


if __name__ == "__main__":
    _main()
