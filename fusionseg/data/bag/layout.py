"""Which files a recording consists of."""

from pathlib import Path

SUFFIXES = (".bag", ".db3", ".mcap")


def _kind(file: Path) -> str:
    """The suffix, but for that of a compressed file."""
    return Path(file.stem).suffix if file.suffix == ".zstd" else file.suffix


def is_recording(path: Path) -> bool:
    """Whether the path is a recording's file, or a folder that holds some."""
    if path.is_file():
        return _kind(path) in SUFFIXES
    return path.is_dir() and any(_kind(file) in SUFFIXES for file in path.iterdir() if file.is_file())


def files_of(path: Path) -> list[Path]:
    """The files of a recording in the order of their numbers; a folder is one recording in several parts.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the folder holds files of several kinds.
    """
    if path.is_file():
        return [path]
    found = [file for file in path.iterdir() if file.is_file() and _kind(file) in SUFFIXES] if path.is_dir() else []
    kinds = sorted({_kind(file) for file in found})
    if not found:
        raise FileNotFoundError(f"{path}: no {', '.join(SUFFIXES)} file in it; give the file or folder of a recording")
    if len(kinds) > 1:
        raise ValueError(f"{path}: holds {' and '.join(kinds)} files; give one of them")
    return sorted(found, key=lambda file: (len(file.name), file.name))
