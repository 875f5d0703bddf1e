"""ROS 2 bags stored as SQLite databases (``.db3``)."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import zstandard

from fusionseg.data.bag.container import TOO_LARGE, Channel, Container, Place, Record
from fusionseg.data.log import FrameError

MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 32
# bags compressed message by message say so in metadata.yaml alone; a message in CDR cannot start with these bytes
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

DATA = "CAST(coalesce(data, '') AS BLOB)"
"""Bytes, whatever damage has made of the column."""
BROKEN = (sqlite3.DatabaseError, zstandard.ZstdError, *TOO_LARGE)


class Sqlite(Container):
    """A ``.db3`` file."""

    def _connect(self) -> sqlite3.Connection:
        # Immutable: SQLite would otherwise want to write beside the file, but then it does not look at the log of
        # changes that a recorder which was killed leaves there.
        wal = self.path.with_name(self.path.name + "-wal")
        mode = "mode=ro" if wal.is_file() and wal.stat().st_size else "immutable=1"
        database = sqlite3.connect(f"{self.path.resolve().as_uri()}?{mode}", uri=True)
        # SQLite refuses a file that is shorter than it should be, unless it believes that somebody repairs it
        database.execute("PRAGMA writable_schema = ON")
        return database

    def scan(self) -> Iterator[Record]:
        """See ``Container``."""
        with self.path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        if not header.startswith(MAGIC):
            raise ValueError(f"{self.path}: does not start with 'SQLite format 3'; expected a ROS 2 bag")
        with contextlib.closing(self._connect()) as database:
            found = 0
            try:
                channels = _channels(database)
                rows = database.execute(f"SELECT rowid, topic_id, timestamp, {DATA} FROM messages ORDER BY rowid")
                for number, topic, recorded_ns, data in rows:
                    found += 1
                    yield Record(channels[topic], recorded_ns, (number, 0), _unpacked(data))
            except (*BROKEN, KeyError) as error:
                self.faults.append(
                    f"{self.path.name} cannot be read past message {found} ({error}){self._missing(header)}"
                )

    def _missing(self, header: bytes) -> str:
        """How much shorter the file is than its header says."""
        page = int.from_bytes(header[16:18], "big")
        due = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
        missing = due - self.path.stat().st_size
        return f"; it is cut off, {missing} of {due} bytes are missing" if missing > 0 else ""

    def read(self, place: Place) -> bytes:
        """See ``Container``."""
        try:
            with contextlib.closing(self._connect()) as database:
                (data,) = database.execute(f"SELECT {DATA} FROM messages WHERE rowid = ?", place[:1]).fetchone()
            return _unpacked(data)
        except (*BROKEN, TypeError) as error:
            raise FrameError(f"{self.path}: message {place[0]} cannot be read ({error}); was it changed?") from error


def _channels(database: sqlite3.Connection) -> dict[int, Channel]:
    rows = database.execute("SELECT id, name, type, serialization_format FROM topics")
    return {number: Channel(topic, schema, encoding) for number, topic, schema, encoding in rows}


def _unpacked(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data) if data.startswith(ZSTD_MAGIC) else data


def unpack_file(packed: Path, folder: Path) -> Path:
    """A bag that was compressed as a whole (``.db3.zstd``, ``.mcap.zstd``), unpacked into ``folder`` under its name.

    Raises:
        ValueError: not compressed by zstd, or cut off.
    """
    target = folder / packed.stem
    try:
        with packed.open("rb") as source, target.open("wb") as sink:
            zstandard.ZstdDecompressor().copy_stream(source, sink)
    except zstandard.ZstdError as error:
        raise ValueError(f"{packed}: cannot be unpacked ({error}); copy it again from the recorder") from error
    return target
