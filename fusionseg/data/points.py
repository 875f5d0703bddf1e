"""One sweep from a bare file: ``.bin`` (x y z i float32), ``.npy`` (N, 3 or more), ``.pcd`` and ``.ply``."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.files import read_bytes, read_floats
from fusionseg.data.log import FrameError
from fusionseg.data.open3d_import import import_open3d

POINT_SUFFIXES = (".bin", ".npy", ".pcd", ".ply")
INTENSITY_FULL_SCALES = (1.0, 255.0, 65535.0)
HEADER_BYTES = 65536
PLY_BYTES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "int64", "uint64", "float64"), 8),
}


def read_points(path: str | Path, intensity_max: float | None = None) -> NDArray[np.float32]:
    """(N, 4) float32: x, y, z in metres as in the file, intensity in [0, 1].

    Rows stay in order and none is dropped, those with NaN or infinite coordinates neither: labels count on it, and
    projection leaves them out. A file without intensity gives 0. An intensity that is NaN or negative becomes 0.

    Args:
        path: the file.
        intensity_max: what full scale is in the file. None takes the smallest of 1, 255 and 65535 that is not below
            the file's largest value; a log should give it, so that dark sweeps are not scaled differently.

    Raises:
        FrameError: missing, empty, truncated, of another type, or numbers that make no points.
        ValueError: open3d or one of its system libraries is missing, or ``intensity_max`` is not positive.
    """
    path = Path(path)
    if intensity_max is not None and not intensity_max > 0:
        raise ValueError(f"intensity_max is {intensity_max}; expected a positive number such as 255")
    suffix = path.suffix.lower()
    if suffix == ".bin":
        points = read_floats(path, 4).copy()
    elif suffix == ".npy":
        points = _read_npy(path)
    elif suffix in (".pcd", ".ply"):
        points = _read_open3d(path)
    else:
        raise FrameError(f"{path}: points in {suffix or 'a file without suffix'}; use {', '.join(POINT_SUFFIXES)}")
    points[:, 3] = scale_intensity(points[:, 3], intensity_max)
    return points


def scale_intensity(intensity: NDArray[np.float32], intensity_max: float | None = None) -> NDArray[np.float32]:
    """(N,) in [0, 1]; see ``read_points``."""
    finite = np.nan_to_num(intensity, nan=0.0, posinf=0.0, neginf=0.0)
    if intensity_max is None:
        top = float(finite.max(initial=0.0))
        intensity_max = next((scale for scale in INTENSITY_FULL_SCALES if top <= scale), top)
    scaled: NDArray[np.float32] = np.clip(finite / np.float32(intensity_max), 0.0, 1.0).astype(np.float32)
    return scaled


def _read_npy(path: Path) -> NDArray[np.float32]:
    try:
        array = np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)
    except FrameError:
        raise
    except (ValueError, EOFError, OSError) as error:
        problem = str(error).splitlines()[0]
        raise FrameError(f"{path}: cannot be read as .npy ({problem}); expected numbers (N, 3 or more)") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind not in "fiu":
        shape = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise FrameError(f"{path}: holds {shape}; expected numbers (N, 3 or more): x, y, z, intensity")
    points = np.zeros((len(array), 4), dtype=np.float32)
    columns = min(4, array.shape[1])
    points[:, :columns] = array[:, :columns]
    return points


@dataclass(frozen=True)
class _Header:
    """What a PCD or PLY promises: points, numbers and bytes a point, how they are stored, where they start."""

    points: int
    columns: int
    point_bytes: int
    storage: str
    body: int


def _pcd_header(path: Path, content: bytes) -> _Header:
    end = re.search(rb"^DATA\s+(ascii|binary_compressed|binary)\s*?\n", content[:HEADER_BYTES], re.MULTILINE)
    fields = dict(re.findall(r"^(FIELDS|SIZE|COUNT|POINTS)[ \t]+(.+?)\s*$", _text(content, end), re.MULTILINE))
    if end is None or not {"FIELDS", "SIZE", "POINTS"} <= set(fields):
        raise FrameError(f"{path}: no PCD header; expected lines FIELDS, SIZE, POINTS and DATA")
    sizes = [int(v) for v in fields["SIZE"].split()]
    counts = [int(v) for v in fields.get("COUNT", "1 " * len(sizes)).split()]
    width = sum(size * count for size, count in zip(sizes, counts, strict=True))
    return _Header(int(fields["POINTS"]), sum(counts), width, end.group(1).decode(), end.end())


def _ply_header(path: Path, content: bytes) -> _Header:
    end = re.search(rb"^end_header\r?\n", content[:HEADER_BYTES], re.MULTILINE)
    text = _text(content, end)
    storage = re.search(r"^format\s+(\w+)", text, re.MULTILINE)
    elements = re.split(r"^element\s+", text, flags=re.MULTILINE)[1:]
    vertex = re.match(r"vertex\s+(\d+)", elements[0]) if elements else None
    if not content.startswith(b"ply") or end is None or storage is None or vertex is None:
        raise FrameError(f"{path}: no PLY header; expected 'ply', 'format', 'element vertex n' first, and 'end_header'")
    kinds = re.findall(r"^property\s+(\w+)\s+\w+\s*$", elements[0], re.MULTILINE)
    return _Header(int(vertex.group(1)), len(kinds), sum(PLY_BYTES[k] for k in kinds), storage.group(1), end.end())


def _text(content: bytes, end: re.Match[bytes] | None) -> str:
    return content[: end.end()].decode("latin-1") if end else ""


def _check_complete(path: Path, content: bytes) -> int:
    """The number of points, after checking that they are all there: open3d fills what is missing with old memory."""
    try:
        header = (_pcd_header if path.suffix.lower() == ".pcd" else _ply_header)(path, content)
    except (KeyError, ValueError) as error:
        if isinstance(error, FrameError):
            raise
        raise FrameError(f"{path}: header cannot be understood ({error}); write the file again") from error
    body = content[header.body :]
    if header.storage == "ascii":
        lines = [line for line in body.split(b"\n", header.points + 1) if line.strip()][: header.points]
        there = len(lines) - (bool(lines) and len(lines[-1].split()) < header.columns)
    elif header.storage == "binary_compressed":
        packed = int.from_bytes(body[:4], "little")
        there = header.points if len(body) >= 8 + packed else 0
    else:
        there = len(body) // max(1, header.point_bytes)
    if there < header.points:
        raise FrameError(f"{path}: header promises {header.points} points, {there} are there; the file is truncated")
    return header.points


def _read_open3d(path: Path) -> NDArray[np.float32]:
    content = read_bytes(path)
    promised = _check_complete(path, content)
    if promised == 0:
        return np.zeros((0, 4), dtype=np.float32)
    open3d = import_open3d()
    quiet = open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error)
    try:
        with quiet:
            cloud = open3d.t.io.read_point_cloud(str(path), remove_nan_points=False, remove_infinite_points=False)
            found = {name: cloud.point[name].numpy() for name in cloud.point}
    except RuntimeError as error:
        raise FrameError(f"{path}: open3d cannot read it ({str(error).splitlines()[0]}); write it again") from error
    xyz = found.get("positions")
    if xyz is None or len(xyz) != promised:
        count = 0 if xyz is None else len(xyz)
        raise FrameError(f"{path}: header promises {promised} points, {count} could be read; write the file again")
    points = np.zeros((promised, 4), dtype=np.float32)
    points[:, :3] = xyz
    intensity = found.get("intensity", found.get("intensities", found.get("i")))
    if intensity is not None:
        points[:, 3] = intensity.reshape(promised, -1)[:, 0]
    return points
