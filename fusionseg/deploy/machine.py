"""Which machine, which threads: fixed for a measurement, and recorded with it (needs no NumPy to be imported)."""

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = ("fusionseg", "numpy", "opencv-python", "opencv-python-headless", "torch", "onnxruntime", "openvino")
SPEED_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")
"""Instruction sets that decide how fast a network runs, INT8 above all."""


@contextmanager
def fixed_threads(threads: int | None) -> Iterator[int]:
    """So many threads (all cores for None), each with a core of its own, for this process and those it starts.

    Libraries that read their thread count once, when they are imported, obey only if that happens inside. Afterwards
    the process may use its cores again.

    Raises:
        ValueError: fewer than one thread.
    """
    cores = sorted(os.sched_getaffinity(0))
    count = len(cores) if threads is None else threads
    if count < 1:
        raise ValueError(f"threads is {count}; expected at least 1")
    before = {name: os.environ.get(name) for name in THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, str(count)))
    os.sched_setaffinity(0, cores[:count])
    try:
        yield count
    finally:
        os.sched_setaffinity(0, cores)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores this process may use, GPU if ``device`` is one, memory, system, versions; plain JSON."""
    text = _read(Path("/proc/cpuinfo"))
    model = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, flags=re.MULTILINE)
    held = set(flags[1].split()) if flags else set()
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read(Path("/proc/meminfo")), flags=re.MULTILINE)
    return {
        "cpu": model[1].strip() if model else platform.processor() or platform.machine(),
        "instructions": [name for name in SPEED_FLAGS if name in held],
        "cores": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "gpu": None if device == "cpu" else _gpu_name(device),
        "memory_gb": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def peak_memory_mb() -> float | None:
    """The most physical memory this process has held, MiB; None where the system does not tell.

    Not ``getrusage``: on Linux its maximum starts at the size of the process that started this one.
    """
    found = re.search(r"^VmHWM:\s*(\d+) kB", _read(Path("/proc/self/status")), flags=re.MULTILINE)
    return round(int(found[1]) / 1024, 1) if found else None


def git_commit() -> str | None:
    """The commit the package is run from, ``-dirty`` if files differ from it; None outside a checkout."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _gpu_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
