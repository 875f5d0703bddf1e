"""What the files of recorded messages have in common: messages in the order of the file, each found again by its place.

A file that ends in the middle (a recorder that was killed, a disk that was full) is read as far as it goes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

CHUNKS_KEPT = 4
"""Unpacked chunks that a file keeps, as the messages of one frame mostly lie in the same few."""

TOO_LARGE = (MemoryError, OverflowError)
"""What a length raises that damage has made gigantic."""

Place = tuple[int, int]
"""Where a message lies in its file, in terms of that kind of file."""


@dataclass(frozen=True)
class Channel:
    """One stream of messages.

    Attributes:
        topic: its name, with one slash before it whatever the file says.
        schema: the type of its messages, such as ``sensor_msgs/msg/Image`` or ``foxglove.RawImage``.
        encoding: ``ros1``, ``cdr`` (ROS 2), ``json`` or ``protobuf``.
        definition: what the file says of the type, where the encoding needs it (protobuf).
    """

    topic: str
    schema: str
    encoding: str
    definition: bytes = b""

    def __post_init__(self) -> None:
        object.__setattr__(self, "topic", one_topic_name(self.topic))


class Record(NamedTuple):
    """One message as it lies in the file."""

    channel: Channel
    recorded_ns: int
    place: Place
    data: bytes


class Container(ABC):
    """One file of recorded messages.

    Attributes:
        path: the file.
        faults: after a scan, what of the file could not be read, a sentence each.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[str] = []

    @abstractmethod
    def scan(self) -> Iterator[Record]:
        """Every readable message in the order of the file; ``faults`` then says what was not readable.

        Raises:
            ValueError: not a file of this kind.
        """

    @abstractmethod
    def read(self, place: Place) -> bytes:
        """The message at a place that ``scan`` gave.

        Raises:
            FrameError: it cannot be read any more.
        """

    def cut_off(self, at: int, size: int, missing: int = 0) -> None:
        """Note that the file ends too early: readable up to ``at`` of its ``size`` bytes, ``missing`` more were due."""
        parts = [f"its last {size - at} bytes cannot be read"] if size > at else []
        parts += [f"at least {missing} bytes are missing after its end"] if missing > 0 else []
        self.faults.append(f"{self.path.name} is cut off: {' and '.join(parts) or 'it was never closed'}")


def one_topic_name(topic: str) -> str:
    """A topic's name in one form: Foxglove's need no slash, old ROS ones may have several."""
    return "/" + "/".join(part for part in topic.strip().split("/") if part)


def one_type_name(name: str) -> str:
    """A message type's name in the form of ROS 2: ``sensor_msgs/Image`` -> ``sensor_msgs/msg/Image``."""
    package, _, kind = name.partition("/")
    return f"{package}/msg/{kind}" if kind and "/" not in kind else name
