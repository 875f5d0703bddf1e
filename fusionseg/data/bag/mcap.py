"""MCAP files, of ROS 1, ROS 2 or Foxglove's schemas: read from front to end, so that the summary may be missing."""

import struct
from collections.abc import Iterator
from pathlib import Path

import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel as McapChannel
from mcap.records import Chunk, DataEnd, Footer, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from fusionseg.data.bag.container import CHUNKS_KEPT, TOO_LARGE, Channel, Container, Place, Record, one_type_name
from fusionseg.data.log import FrameError
from fusionseg.data.recent import Recent

MAGIC = b"\x89MCAP0\r\n"
# what damaged bytes raise: RuntimeError is lz4's
BROKEN = (McapError, ValueError, KeyError, struct.error, RuntimeError, EOFError, *TOO_LARGE, zstandard.ZstdError)


class Mcap(Container):
    """An ``.mcap`` file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._at = Recent(self._read_at, CHUNKS_KEPT)

    def scan(self) -> Iterator[Record]:
        """See ``Container``."""
        size, ended = self.path.stat().st_size, False
        with self.path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"{self.path}: does not start with the signature of MCAP; expected an MCAP file")
            at, records = file.tell(), StreamReader(file, skip_magic=True, emit_chunks=True).records
            while not ended:
                try:
                    record = next(records)
                except (*BROKEN, StopIteration):
                    break
                if isinstance(record, Chunk):
                    yield from self._chunk(at, record)
                else:
                    yield from self._take(at, 0, record)
                # after the end of the data comes a summary, which is not needed
                ended = isinstance(record, DataEnd | Footer)
                at = file.tell()
        if not ended:
            self.cut_off(at, size)

    def _chunk(self, at: int, chunk: Chunk) -> Iterator[Record]:
        try:
            inner = breakup_chunk(chunk, validate_crc=True)
        except BROKEN as error:
            span_s = (chunk.message_end_time - chunk.message_start_time) / 1e9
            self.faults.append(
                f"{self.path.name}: a chunk at byte {at} is damaged ({error}); its {span_s:.1f} s of messages are lost"
            )
            return
        for i, record in enumerate(inner):
            yield from self._take(at, i, record)

    def _take(self, at: int, index: int, record: McapRecord) -> Iterator[Record]:
        """Remember what a record says of schemas and channels; a message is handed on."""
        if isinstance(record, Schema):
            self._schemas[record.id] = record
        elif isinstance(record, McapChannel):
            self._channels[record.id] = self._describe(record)
        elif isinstance(record, Message) and record.channel_id in self._channels:
            yield Record(self._channels[record.channel_id], record.log_time, (at, index), record.data)

    def _describe(self, channel: McapChannel) -> Channel:
        schema = self._schemas.get(channel.schema_id)
        if schema is None:
            return Channel(channel.topic, "", channel.message_encoding)
        definition = schema.data if channel.message_encoding == "protobuf" else b""
        return Channel(channel.topic, one_type_name(schema.name), channel.message_encoding, definition)

    def _read_at(self, at: int) -> list[McapRecord]:
        with self.path.open("rb") as file:
            file.seek(at)
            record = next(StreamReader(file, skip_magic=True, emit_chunks=True).records)
        return breakup_chunk(record) if isinstance(record, Chunk) else [record]

    def read(self, place: Place) -> bytes:
        """See ``Container``."""
        at, index = place
        try:
            message = self._at(at)[index]
        except (*BROKEN, IndexError, StopIteration) as error:
            raise FrameError(f"{self.path}: no message at byte {at} any more ({error}); was it changed?") from error
        assert isinstance(message, Message)
        return message.data
