"""What lets a replay go on where it was stopped, by kill -9 too: what was run, and a line for each frame done."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fusionseg.files import unwritable, write_json
from fusionseg.replay.sink import RUN_FILE

JOURNAL = "journal.jsonl"


def begin_run(out: Path, about: Mapping[str, Any]) -> None:
    """Note in the folder of a run what is run: a flat mapping of plain values.

    Raises:
        ValueError: the folder cannot be written.
    """
    write_json(out / RUN_FILE, dict(about))


def check_same_run(out: Path, about: Mapping[str, Any]) -> None:
    """Refuse to go on with another run.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its run was of something else; names the first difference.
    """
    path = out / RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{out}: holds no replay to resume, as it has no {RUN_FILE}; leave --resume out")
    try:
        noted = json.loads(path.read_bytes())
        known = {key: noted.get(key) for key in about}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: is damaged ({error}); replay the log again into another folder") from error
    for key, value in json.loads(json.dumps(dict(about))).items():
        if known[key] != value:
            raise ValueError(
                f"{out}: holds a replay with {key} {_short(known[key])}, not {_short(value)}; "
                "resume it with the same options or choose another --out"
            )


def clear_torn_files(out: Path) -> None:
    """Remove what a kill left of files that were being written, which nobody would ask for again.

    Raises:
        ValueError: one cannot be removed.
    """
    for path in out.rglob(".*.part*"):
        try:
            if path.is_file():
                path.unlink()
        except OSError as error:
            raise unwritable(path, error) from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


class Journal:
    """A JSON object a line, each on the disk before the next is written.

    Args:
        out: folder of the run.
        kept: how many lines of an earlier run stay; the others are cut off.

    Raises:
        ValueError: the file cannot be written.
    """

    def __init__(self, out: Path, kept: int = 0) -> None:
        self._path = out / JOURNAL
        try:
            self._file = self._path.open("r+b" if kept else "wb")
            for _ in range(kept):
                self._file.readline()
            self._file.truncate(self._file.tell())
        except OSError as error:
            raise unwritable(self._path, error) from error

    def add(self, entry: Mapping[str, Any]) -> None:
        """One more line.

        Raises:
            ValueError: the disk is full.
        """
        try:
            self._file.write((json.dumps(entry, separators=(",", ":"), allow_nan=False) + "\n").encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self._path, error) from error

    def close(self) -> None:
        """No more lines; what is left to write is that of a line that could not be written."""
        with suppress(OSError):
            self._file.close()


def read_journal(out: Path) -> list[dict[str, Any]]:
    """The whole lines of a run, in order; what a kill left of a line, and all behind it, does not count."""
    entries: list[dict[str, Any]] = []
    path = out / JOURNAL
    if not path.is_file():
        return entries
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or not isinstance(entry, dict):
                break
            entries.append(entry)
    return entries


def model_digest(path: Path) -> str:
    """SHA-256 of a model's file, or of all files in an export's folder, hexadecimal."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()
