"""ROS 1 bags, format 2.0: records in a row, messages in compressed chunks. The index at the end is not needed.

Records are parsed by the rosbags library, whose own reader refuses a bag without its index: a recorder that is killed
leaves one behind.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag1.reader import (
    Header,
    ReaderError,
    RecordType,
    decompressors,
    deserialize_uint32,
    read_bytes,
    read_uint32,
)

from fusionseg.data.bag.container import CHUNKS_KEPT, TOO_LARGE, Channel, Container, Place, Record, one_type_name
from fusionseg.data.log import FrameError
from fusionseg.data.recent import Recent

MAGIC = b"#ROSBAG V2.0\n"
# what damaged bytes raise: broken records, names that are no text, numbers cut off, compressed data that is not
BROKEN = (ReaderError, ValueError, KeyError, struct.error, OSError, RuntimeError, EOFError, *TOO_LARGE)


class Rosbag1(Container):
    """A ``.bag`` file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connections: dict[int, Channel] = {}
        self._chunk = Recent(self._read_chunk, CHUNKS_KEPT)

    def scan(self) -> Iterator[Record]:
        """See ``Container``."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"{self.path}: does not start with '#ROSBAG V2.0'; expected a ROS 1 bag")
            index_at = at = len(MAGIC)
            while at < size:
                try:
                    header = Header.read(file)
                    kind = header.get_uint8("op")
                    if kind == RecordType.CONNECTION:
                        self._add_connection(header, file)
                        data = b""
                    else:
                        length = read_uint32(file)
                        if file.tell() + length > size:
                            break
                        data = file.read(length) if kind == RecordType.CHUNK else b""
                        file.seek(length - len(data), io.SEEK_CUR)
                    if kind == RecordType.BAGHEADER:
                        index_at = header.get_uint64("index_pos")
                except BROKEN:
                    break
                if kind == RecordType.CHUNK:
                    yield from self._messages(at, header, data)
                at = file.tell()
        if at < size or not 0 < index_at <= size:
            self.cut_off(at, size, index_at - size)

    def _add_connection(self, header: Header, file: BinaryIO) -> None:
        number, topic = header.get_uint32("conn"), header.get_string("topic")
        schema = one_type_name(Header.read(file).get_string("type"))
        self._connections[number] = Channel(topic, schema, "ros1")

    def _messages(self, at: int, header: Header, packed: bytes) -> Iterator[Record]:
        """The messages of the chunk that starts at ``at``."""
        found = 0
        try:
            content = decompressors[header.get_string("compression")](packed)
            chunk, end = io.BytesIO(content), len(content)
            while chunk.tell() < end:
                offset = chunk.tell()
                inner = Header.read(chunk)
                if inner.get_uint8("op") == RecordType.CONNECTION:
                    self._add_connection(inner, chunk)
                    continue
                data = read_bytes(chunk, read_uint32(chunk))
                channel = self._connections[inner.get_uint32("conn")]
                found += 1
                yield Record(channel, inner.get_time("time"), (at, offset), data)
        except BROKEN as error:
            self.faults.append(
                f"{self.path.name}: a chunk at byte {at} is damaged ({error}); {found} of its messages were read"
            )

    def _read_chunk(self, at: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(at)
            header = Header.read(file)
            unpacked = decompressors[header.get_string("compression")](read_bytes(file, read_uint32(file)))
        return bytes(unpacked)

    def read(self, place: Place) -> bytes:
        """See ``Container``."""
        at, offset = place
        try:
            chunk = self._chunk(at)
            # a record is the length of its header, the header, the length of its data, the data
            (length,) = deserialize_uint32(chunk, offset)
            start = offset + 4 + length
            (length,) = deserialize_uint32(chunk, start)
        except BROKEN as error:
            raise FrameError(f"{self.path}: no message at byte {at} any more ({error}); was it changed?") from error
        return chunk[start + 4 : start + 4 + length]
