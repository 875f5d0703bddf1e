"""What a replay leaves behind: label files, videos, the summary. Each appears under its name only when complete."""

import os
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.files import atomic_write, write_json
from fusionseg.labels import IGNORE, ClassTable

RUN_FILE = "run.json"
"""What says in the folder of a replay what was replayed."""


def free_folder(out: str | Path | None, command: str) -> Path:
    """The output folder, not made yet: ``out`` itself, or the first free ``runs/<command>/<n>``.

    Raises:
        ValueError: ``out`` is a file or holds something already.
    """
    if out is None:
        parent = Path("runs") / command
        taken = [int(p.name) for p in parent.iterdir() if p.name.isdigit()] if parent.is_dir() else []
        out = parent / str(max(taken, default=0) + 1)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; --out needs a folder")
    if folder.is_dir() and any(folder.iterdir()):
        hint = ", or go on with that replay with --resume" if (folder / RUN_FILE).is_file() else ""
        raise ValueError(f"{folder}: holds files of an earlier run; choose an empty or new folder with --out{hint}")
    return folder


def folder_to_resume(out: str | Path) -> Path | None:
    """The folder of a run to go on with; None where it is empty or not there yet, so that the run is a new one.

    Raises:
        ValueError: it holds something else.
    """
    folder = Path(out)
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    if not (folder / RUN_FILE).is_file():
        raise ValueError(f"{folder}: holds no replay to resume, as it has no {RUN_FILE}; choose another --out")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{folder}: cannot be written; it is resumed where it lies")
    return folder


def new_folder(out: str | Path | None, command: str) -> Path:
    """The output folder, made: ``out`` itself, or the first free ``runs/<command>/<n>``.

    Raises:
        ValueError: ``out`` is a file, holds something already, or cannot be made or written.
    """
    folder = free_folder(out, command)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be made ({error.strerror}); choose a folder you can write to") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{folder}: cannot be written; choose a folder you can write to with --out")
    return folder


def write_classes(path: Path, table: ClassTable) -> None:
    """The key to label files: ``{"table": name, "names": {id: name}, "colours": {id: [r, g, b]}, "unknown": 255}``."""
    names = {str(i): name for i, name in enumerate(table.names)}
    colours = {str(i): list(colour) for i, colour in enumerate(table.colours)}
    write_json(path, {"table": table.name, "names": names, "colours": colours, "unknown": IGNORE})


def write_point_labels(path: Path, labels: NDArray[np.uint8]) -> None:
    """One little-endian uint32 a point, as in SemanticKITTI, so that its tools read the file."""
    with atomic_write(path) as file:
        file.write(labels.astype("<u4").tobytes())


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """(H, W, 3) RGB as PNG or JPEG, as the suffix says."""
    _write_image(path, picture[..., ::-1])


def write_label_image(path: Path, labels: NDArray[np.uint8]) -> None:
    """(H, W) class ids as a PNG of one channel."""
    _write_image(path, labels)


def _write_image(path: Path, pixels: NDArray[np.uint8]) -> None:
    good, encoded = cv2.imencode(path.suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, 88] if path.suffix == ".jpg" else [])
    assert good
    with atomic_write(path) as file:
        file.write(encoded.tobytes())


class Video:
    """An mp4 (H.264, yuv420p) that takes pictures of one size; it gets its name when it is closed.

    A picture with an odd side gets a last row or column more, since 4:2:0 needs even sizes.

    Args:
        path: where the finished video will be.
        rate_hz: pictures a second.
        size: (height, width) in pixels, of which both are even; that of the first picture if left out.

    Raises:
        ValueError: the folder cannot be written.
    """

    def __init__(self, path: Path, rate_hz: float = 10.0, size: tuple[int, int] | None = None) -> None:
        self.path = path
        self.count = 0
        self._temporary = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._temporary), "w", format="mp4")
        except OSError as error:
            raise ValueError(f"{path}: cannot be written ({error}); choose a folder you can write to") from error
        rate = Fraction(rate_hz).limit_denominator(1000)
        self._stream = self._container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        self._stream.pix_fmt = "yuv420p"
        # packets in the order of the pictures, so that videos can be joined at any picture
        self._stream.codec_context.max_b_frames = 0
        self._size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append (H, W, 3) RGB; a picture of another size than the first is scaled into its frame.

        Raises:
            ValueError: the disk is full.
        """
        if self.count == 0:
            height, width = self._size or (side + side % 2 for side in picture.shape[:2])
            self._stream.height, self._stream.width = height, width
        fitted = _fit(picture, self._stream.height, self._stream.width)
        frame = av.VideoFrame.from_ndarray(fitted, format="rgb24")
        frame.pts = self.count
        try:
            self._container.mux(self._stream.encode(frame))
        except (OSError, av.FFmpegError) as error:
            raise self._unwritable(error) from error
        self.count += 1

    def close(self) -> None:
        """Finish the file and give it its name; a video without pictures leaves no file.

        Raises:
            ValueError: the file cannot be finished; nothing of it is left.
        """
        try:
            with self._container:
                if self.count:
                    self._container.mux(self._stream.encode())
            if self.count:
                with self._temporary.open("rb") as file:
                    os.fsync(file.fileno())
                os.replace(self._temporary, self.path)
        except (OSError, av.FFmpegError) as error:
            raise self._unwritable(error) from error
        finally:
            self._temporary.unlink(missing_ok=True)

    def _unwritable(self, error: OSError | av.FFmpegError) -> ValueError:
        return ValueError(f"{self.path}: cannot be written ({error.strerror}); free space or choose another --out")

    def abandon(self) -> None:
        """Leave no file."""
        with suppress(OSError, av.FFmpegError):
            self._container.close()
        self._temporary.unlink(missing_ok=True)


def video_size(path: Path) -> tuple[int, int]:
    """(height, width) of the pictures of an mp4.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return stream.height, stream.width
    except (OSError, IndexError) as error:
        raise ValueError(f"{path}: cannot be read as a video ({error}); replay into another folder") from error


def join_videos(parts: Sequence[Path], whole: Path) -> None:
    """One mp4 of several that ``Video`` wrote in one size: their packets one after another, coded no second time.

    Raises:
        OSError: the disk is full, or a part cannot be read.
    """
    with av.open(str(whole), "w", format="mp4") as container:
        joined: Any = None
        begins = Fraction(0)
        for part in parts:
            with av.open(str(part)) as source:
                stream = source.streams.video[0]
                assert stream.time_base is not None
                joined = joined or container.add_stream_from_template(stream)
                ends = begins
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None or packet.duration is None:
                        continue  # the last, empty one
                    ends = max(ends, begins + (packet.pts + packet.duration) * stream.time_base)
                    packet.pts += round(begins / stream.time_base)
                    packet.dts += round(begins / stream.time_base)
                    packet.stream = joined
                    container.mux(packet)
                begins = ends


def _fit(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The picture in a frame of this size: as it is when it fits but for one row or column, else scaled down to fit."""
    short, narrow = height - picture.shape[0], width - picture.shape[1]
    if not (0 <= short <= 1 and 0 <= narrow <= 1):
        scale = min(height / picture.shape[0], width / picture.shape[1])
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        canvas = np.zeros((height, width, 3), dtype=np.uint8)
        canvas[: picture.shape[0], : picture.shape[1]] = picture[:height, :width]
        return canvas
    return np.pad(picture, ((0, short), (0, narrow), (0, 0)), mode="edge")
