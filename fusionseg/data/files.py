"""Reading the files that loaders share: images, binary sweeps, numbers in text, with errors that say what to do."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.log import FrameError

MAX_PIXELS = 64_000_000
REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""What of its width and height an image can be decoded at -> how OpenCV is told."""
IMAGE_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}


def read_bytes(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        FrameError: it is missing, unreadable or empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FrameError(f"{path}: cannot be read ({error.strerror}); expected a file here") from error
    if not content:
        raise FrameError(f"{path}: file is empty; copy it again from the log")
    return content


def decode_image(content: bytes, path: Path | str, flags: int = cv2.IMREAD_COLOR) -> NDArray[Any]:
    """The image as OpenCV decodes it (colours in the order blue, green, red); ``path`` says where it is from.

    Raises:
        FrameError: neither JPEG nor PNG, truncated, or larger than 64 megapixels.
    """
    if not any(content.startswith(magic) for magic in IMAGE_MAGIC):
        raise FrameError(f"{path}: neither JPEG nor PNG by its first bytes; convert the image to one of them")
    width, height = image_size(path, content)
    if width * height > MAX_PIXELS:
        raise FrameError(f"{path}: {width}x{height} is over the limit of {MAX_PIXELS // 1_000_000} megapixels")
    if content.startswith(b"\x89PNG") and b"IEND" not in content[-16:]:
        raise FrameError(f"{path}: PNG is truncated (no end chunk); copy it again from the log")
    if content.startswith(b"\xff\xd8") and b"\xff\xd9" not in content[-4096:]:
        raise FrameError(f"{path}: JPEG is truncated (no end marker); copy it again from the log")
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        raise FrameError(f"{path}: image cannot be decoded; copy it again from the log")
    return image


def image_size(path: Path | str, content: bytes | None = None) -> tuple[int, int]:
    """(width, height) from the header of a PNG or JPEG, without decoding it.

    Raises:
        FrameError: no such header.
    """
    content = read_bytes(Path(path)) if content is None else content
    if content.startswith(b"\x89PNG") and len(content) >= 24:
        return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    at = 2
    while content.startswith(b"\xff\xd8") and at + 9 < len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(content[at + i : at + i + 2], "big") for i in (5, 7))
            return width, height
        at += 2 + (0 if 0xD0 <= marker <= 0xD8 or marker == 0xFF else int.from_bytes(content[at + 2 : at + 4], "big"))
    raise FrameError(f"{path}: image header cannot be read; copy it again from the log")


def read_image(path: Path, reduced: int = 1) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; with ``reduced`` of 2, 4 or 8 at that part of its size, which is faster for a JPEG."""
    image = decode_image(read_bytes(path), path, REDUCED[reduced])
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def read_label_image(path: Path) -> NDArray[np.integer[Any]]:
    """(H, W) ids of a single-channel PNG, 8 or 16 bit."""
    image = decode_image(read_bytes(path), path, cv2.IMREAD_UNCHANGED)
    if image.ndim != 2:
        raise FrameError(f"{path}: label image has {image.shape[2]} channels; expected one channel of class ids")
    return image


def read_floats(path: Path, columns: int, dtype: str = "<f4") -> NDArray[np.float32]:
    """(N, columns) float32 from a headerless binary file."""
    content = read_bytes(path)
    width = columns * np.dtype(dtype).itemsize
    if len(content) % width:
        raise FrameError(
            f"{path}: {len(content)} bytes is no multiple of {width} ({columns} numbers a point); "
            "the file is truncated or of another format"
        )
    return np.frombuffer(content, dtype).astype(np.float32, copy=False).reshape(-1, columns)


def read_json(path: Path) -> Any:
    """Parsed JSON.

    Raises:
        FrameError: missing, or not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        if isinstance(error, FrameError):
            raise
        raise FrameError(f"{path}: not valid JSON ({error}); copy it again from the log") from error
