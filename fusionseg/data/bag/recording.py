"""The index of a recording: one pass over its files notes where each message lies; contents are read when asked for."""

import logging
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.bag import foxglove, ros
from fusionseg.data.bag.clock import Clock, Times
from fusionseg.data.bag.container import Channel, Container, Place
from fusionseg.data.bag.frames import FrameTree
from fusionseg.data.bag.layout import files_of
from fusionseg.data.bag.mcap import Mcap
from fusionseg.data.bag.messages import DEPTH_ENCODINGS, CameraInfo, Cloud, Kind, Message, Picture
from fusionseg.data.bag.rosbag1 import Rosbag1
from fusionseg.data.bag.sqlite import Sqlite, unpack_file
from fusionseg.data.bag.topics import Choice, Offer, choose
from fusionseg.data.log import FrameError

logger = logging.getLogger(__name__)

CONTAINERS: dict[str, type[Container]] = {".bag": Rosbag1, ".db3": Sqlite, ".mcap": Mcap}
STATIC = "tf_static"
LAST_NS = 2**62
"""The year 2116: times and their differences fit into 64 bits."""


@dataclass(eq=False)
class Stream:
    """The messages of one topic: where they lie, when they were taken and recorded, and the first of them.

    Attributes:
        channel: topic and type.
        kind: what it holds.
        frame: coordinate frame of the first message.
        first: that message.
        bytes: of all messages.
        rows: while the files are scanned five numbers a message: stamp, recording time, file, place in it.
        stamps_ns, recorded_ns: (N,) int64, then in the order of recording.
        places: (N, 3) int64 file and place.
    """

    channel: Channel
    kind: Kind
    frame: str
    first: Message
    bytes: int = 0
    rows: "array[int]" = field(default_factory=lambda: array("q"))
    stamps_ns: NDArray[np.int64] = field(init=False)
    recorded_ns: NDArray[np.int64] = field(init=False)
    places: NDArray[np.int64] = field(init=False)

    def sort(self) -> None:
        """Bring the messages into the order of recording, which files need not have."""
        rows = np.array(self.rows, dtype=np.int64).reshape(-1, 5)
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        self.stamps_ns, self.recorded_ns, self.places = rows[:, 0], rows[:, 1], rows[:, 2:]
        del self.rows[:]

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Leave the other messages out."""
        self.stamps_ns, self.recorded_ns, self.places = (
            rows[kept] for rows in (self.stamps_ns, self.recorded_ns, self.places)
        )


class Recording:
    """What is in a recording.

    Attributes:
        path, files: its folder or file, and its files.
        streams: topic -> images or clouds.
        calibrations: topic -> frame and first message that says that a camera is calibrated (or the first at all).
        tree: its coordinate frames; not yet frozen.
        faults: what could not be read, a sentence each.
        same_stamp: topic -> how many messages were left out because the one before has their stamp.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = files_of(path)
        self.streams: dict[str, Stream] = {}
        self.calibrations: dict[str, tuple[str, CameraInfo]] = {}
        self.tree = FrameTree()
        self.faults: list[str] = []
        self.same_stamp: dict[str, int] = {}
        self._damaged: dict[str, int] = {}
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None
        self._containers = [self._open(file) for file in self.files]
        size = sum(file.stat().st_size for file in self.files)
        logger.info("%s: indexing %.1f MB", path, size / 1e6)
        for number, container in enumerate(self._containers):
            for record in container.scan():
                kind = kind_of(record.channel)
                if kind is not None:
                    try:
                        self._add(kind, record.channel, record.data, record.recorded_ns, number, record.place)
                    except FrameError as error:
                        self._note_damaged(record.channel.topic, error)
            self.faults += container.faults
        self.faults += [f"{topic}: {count} messages are damaged" for topic, count in self._damaged.items()]
        for fault in self.faults:
            logger.warning("%s", fault)
        for stream in self.streams.values():
            stream.sort()

    def _open(self, file: Path) -> Container:
        if file.suffix == ".zstd":
            self._unpacked = self._unpacked or tempfile.TemporaryDirectory(prefix="fusionseg-bag-")
            file = unpack_file(file, Path(self._unpacked.name))
        return CONTAINERS[file.suffix](file)

    def _note_damaged(self, topic: str, error: FrameError) -> None:
        if topic not in self._damaged:
            logger.warning("%s", error)
        self._damaged[topic] = self._damaged.get(topic, 0) + 1

    def _add(self, kind: Kind, channel: Channel, data: bytes, recorded_ns: int, file: int, place: Place) -> None:
        if kind == "transforms":
            links = parse(channel, data)
            assert isinstance(links, list)
            for link in links:
                _check_times(channel.topic, link.stamp_ns, recorded_ns)
                self.tree.add(link, recorded_ns, channel.topic.endswith(STATIC))
            return
        topic = channel.topic
        if kind == "calibration":
            if topic in self.calibrations and self.calibrations[topic][1].K.any():
                return
            info = parse(channel, data)
            assert isinstance(info, CameraInfo)
            self.calibrations[topic] = (stamp_and_frame(channel, data)[1], info)
            return
        stamp_ns, frame = stamp_and_frame(channel, data)
        _check_times(topic, stamp_ns, recorded_ns)
        if topic not in self.streams:
            self.streams[topic] = Stream(channel, kind, frame, parse(channel, data))
        stream = self.streams[topic]
        if stream.channel != channel:
            raise FrameError(f"{topic}: holds {channel.schema} beside {stream.channel.schema}; the former is left out")
        stream.bytes += len(data)
        stream.rows.extend((stamp_ns, recorded_ns, file, *place))

    def choose(self, named: Sequence[str]) -> Choice:
        """The topics to read, of which some may be named.

        Raises:
            ValueError: a named topic that is not there.
        """
        images: dict[str, Offer] = {}
        clouds: dict[str, Offer] = {}
        for topic, stream in self.streams.items():
            depth = isinstance(stream.first, Picture) and stream.first.encoding in DEPTH_ENCODINGS
            group = images if stream.kind == "image" else clouds
            group[topic] = Offer(len(stream.stamps_ns), stream.bytes, depth)
        return choose(images, clouds, named)

    def times(self, topic: str, clock: Clock) -> Times:
        """When a topic's messages were taken by a clock; of those in a row with one stamp only the first stays."""
        stream = self.streams[topic]
        times = Times(clock.taken(stream.stamps_ns, stream.recorded_ns), stream.recorded_ns)
        kept = times.first_of_a_stamp()
        self.same_stamp[topic] = int((~kept).sum())
        stream.keep(kept)
        return Times(times.taken_ns[kept], times.recorded_ns[kept])

    def image(self, topic: str, index: int) -> Picture:
        """One message of a camera.

        Raises:
            FrameError: it cannot be read.
        """
        message = self._message(topic, index)
        assert isinstance(message, Picture)
        return message

    def cloud(self, topic: str, index: int) -> Cloud:
        """One message of a LiDAR.

        Raises:
            FrameError: it cannot be read.
        """
        message = self._message(topic, index)
        assert isinstance(message, Cloud)
        return message

    def _message(self, topic: str, index: int) -> Message:
        stream = self.streams[topic]
        file, *place = stream.places[index].tolist()
        return parse(stream.channel, self._containers[file].read((place[0], place[1])))


def _check_times(topic: str, *times_ns: int) -> None:
    """Times of damaged messages may not even be numbers of 64 bits."""
    for time_ns in times_ns:
        if not isinstance(time_ns, int) or not 0 <= time_ns < LAST_NS:
            raise FrameError(f"{topic}: a message is of time {time_ns!r} ns; it is damaged")


def kind_of(channel: Channel) -> Kind | None:
    """What a channel's messages hold, or None where it is of no use to us."""
    kinds = ros.KINDS if channel.encoding in ros.ENCODINGS else foxglove.KINDS
    return kinds.get(channel.schema)


def parse(channel: Channel, data: bytes) -> Message:
    """A message of ROS or Foxglove."""
    return ros.parse(channel, data) if channel.encoding in ros.ENCODINGS else foxglove.parse(channel, data)


def stamp_and_frame(channel: Channel, data: bytes) -> tuple[int, str]:
    """Time stamp in ns and coordinate frame of a message of ROS or Foxglove."""
    read = ros.stamp_and_frame if channel.encoding in ros.ENCODINGS else foxglove.stamp_and_frame
    return read(channel, data)
