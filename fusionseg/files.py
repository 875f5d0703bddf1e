"""Writing files: complete under their name or not at all, and in plain words why not."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under ``path`` only when it is complete: temporary name, fsync, rename.

    Raises:
        ValueError: the folder cannot be made or written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        # a write or a rename names no file or this one; any other file is the caller's own trouble
        if error.filename in (None, temporary):
            raise unwritable(path, error) from error
        raise
    finally:
        Path(temporary).unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> ValueError:
    """What to tell a person about a file that cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = "free some space" if full else "choose a folder you can write to"
    return ValueError(f"{path}: cannot be written ({error.strerror}); {fix}")


def write_json(path: Path, content: Any) -> None:
    """Indented JSON.

    Raises:
        ValueError: not a number (NaN, infinity) among the content, or the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
