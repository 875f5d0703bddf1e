"""Files appear whole or not at all, and what hinders them is named with its fix."""

import errno
import os
from pathlib import Path

import pytest

from fusionseg.files import atomic_write, write_json


def test_atomic_write_replaces_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.bin"
    for content in (b"old", b"new"):
        with atomic_write(path) as file:
            file.write(content)
            if path.exists():
                assert path.read_bytes() == b"old", "the old file stays until the new one is whole"
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file.bin"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_atomic_write_that_fails_keeps_the_old_file_alone(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_atomic_write_names_a_full_disk(tmp_path):
    path = tmp_path / "file.bin"
    full = r"file\.bin: cannot be written \(No space left on device\)"
    with pytest.raises(ValueError, match=full), atomic_write(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_atomic_write_does_not_blame_itself_for_a_missing_input(tmp_path):
    with pytest.raises(FileNotFoundError, match="input"), atomic_write(tmp_path / "file.bin") as file:
        file.write((tmp_path / "input").read_bytes())
    assert os.listdir(tmp_path) == []


def test_atomic_write_refuses_a_file_as_folder_and_a_folder_as_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"kept")
    with pytest.raises(ValueError, match=r"cannot be written.*choose a folder"), atomic_write(tmp_path / "plain" / "x"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"cannot be written.*choose a folder"), atomic_write(tmp_path / "folder"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["folder", "plain"]
    assert (tmp_path / "plain").read_bytes() == b"kept"


def test_atomic_write_into_a_folder_that_cannot_be_written(tmp_path):
    # /proc refuses new files to root as well, whom permission bits do not stop
    folder = Path("/proc") if os.geteuid() == 0 else tmp_path
    if folder == tmp_path:
        folder.chmod(0o555)
    with pytest.raises(ValueError, match="cannot be written"), atomic_write(folder / "fusionseg-test"):
        pass


@pytest.mark.parametrize(
    ("number", "fix"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "choose a folder you can write to")]
)
def test_a_file_that_cannot_be_written_names_the_fix_that_helps(monkeypatch, tmp_path, number, fix):
    def fails(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(ValueError, match=rf"a\.json: cannot be written \({os.strerror(number)}\); {fix}$"):
        write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == []


def test_json_never_holds_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())
