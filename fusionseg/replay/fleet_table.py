"""The frames of every log of a fleet in one Parquet table."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusionseg.files import atomic_write
from fusionseg.replay.fleet import Job, frames_done

FRAMES_FILE = "frames.parquet"


def write_frames(path: Path, jobs: Sequence[Job]) -> None:
    """``metrics.csv`` of each log, with its ``log`` (the name of its folder); a group of rows a log.

    A skipped frame has a row too, with nothing but its number and the reason in ``skipped``.

    Args:
        path: of the table.
        jobs: logs that are done, of one model.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    known = [("log", pa.string()), ("frame", pa.int64()), ("skipped", pa.string())]
    with atomic_write(path) as file:
        writer = None
        for job in jobs:
            names, rows = _read(job)
            schema = pa.schema([*known, *((name, pa.float64()) for name in names)])
            writer = writer or parquet.ParquetWriter(file, schema)
            writer.write_table(pa.Table.from_pylist(sorted(rows, key=lambda row: int(row["frame"])), schema))
        if writer is not None:
            writer.close()


def _read(job: Job) -> tuple[list[str], list[dict[str, Any]]]:
    """The names of a log's figures, and a row a frame."""
    name = job.folder.name
    with (job.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        names = [key for key in lines.fieldnames or () if key != "frame"]
        rows = [{"log": name, "frame": int(line["frame"]), **dict(_figures(line))} for line in lines]
    skipped = (entry for entry in frames_done(job) if "skipped" in entry)
    rows += [{"log": name, "frame": entry["frame"], "skipped": entry["skipped"]} for entry in skipped]
    return names, rows


def _figures(line: Mapping[str, str]) -> Iterator[tuple[str, float | None]]:
    for name, value in line.items():
        if name != "frame":
            yield name, float(value) if value else None
