"""Prepared views on disk: what is kept, when it is stale, what happens to broken files."""

import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from make_logs import (
    make_camvid_log,
    make_cityscapes_log,
    make_kitti_object_log,
    make_kitti_raw_log,
    make_pandaset_log,
    make_plain_log,
    make_semantickitti_log,
)

from fusionseg.data.cache import ViewCache
from fusionseg.data.log import FrameError, Log
from fusionseg.data.open import open_log
from fusionseg.data.prepare import View, prepare_frame
from fusionseg.geometry.camera import Camera
from fusionseg.labels import DRIVING12
from fusionseg.sample import Sample

SIZE = (32, 48)


class CountingLog(Log):
    """Two cameras (one with a name that no file can have), files under ``path``; counts what it reads."""

    format: ClassVar[str] = "counting"

    def __init__(self, path: Path, images: bool = True) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.name, self.table = path, "counting", DRIVING12
        self.frames, self.cameras = [3, 7], ["front", "rear/left"]
        self.images = images
        self.reads: list[tuple[int, tuple[str, ...]]] = []
        for frame in self.frames:
            (path / f"{frame}.txt").write_text("1")

    def files(self, frame: int) -> list[Path]:
        return [self.path / f"{frame}.txt", self.path / "calibration.txt"]

    def frame(self, frame: int, cameras: Sequence[str] | None = None) -> list[Sample]:
        self.reads.append((frame, tuple(cameras or self.cameras)))
        return super().frame(frame, cameras)

    def sample(self, frame: int, camera_name: str) -> Sample:
        if not (self.path / f"{frame}.txt").is_file():
            raise FrameError(f"{self.path / f'{frame}.txt'}: missing; copy it again")
        content = int((self.path / f"{frame}.txt").read_text())
        rng = np.random.default_rng(frame)
        points = np.column_stack([rng.uniform(2, 20, (500, 1)), rng.uniform(-5, 5, (500, 2)), rng.uniform(0, 1, 500)])
        transform = np.eye(4)
        transform[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
        return Sample(
            log=self.name,
            frame=frame,
            camera_name=camera_name,
            camera=Camera(96, 64, np.array([[60.0, 0, 48], [0, 60, 32], [0, 0, 1]]), "fisheye", np.full(4, 0.01)),
            image=np.full((64, 96, 3), content, np.uint8) if self.images else None,
            points_lidar=points.astype(np.float32),
            camera_T_lidar=transform,
            point_labels=rng.integers(0, 12, 500).astype(np.uint8),
        )


def assert_same(a: View, b: View) -> None:
    for field in dataclasses.fields(View):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, Camera):
            assert (x.width, x.height, x.model) == (y.width, y.height, y.model)
            np.testing.assert_array_equal(x.K, y.K)
            np.testing.assert_array_equal(x.distortion, y.distortion)
        elif isinstance(x, np.ndarray):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)
        else:
            assert x == y


@pytest.mark.parametrize("images", [True, False])
def test_kept_views_are_what_was_prepared(tmp_path: Path, images: bool) -> None:
    log = CountingLog(tmp_path / "log", images)
    expected = prepare_frame(log.frame(3), SIZE)
    cache = ViewCache(tmp_path / "cache", log, SIZE)
    first, again = cache.views(3), cache.views(3)
    assert log.reads[1:] == [(3, ("front", "rear/left"))]
    assert [view.camera_name for view in again] == ["front", "rear/left"]
    for a, b, c in zip(expected, first, again, strict=True):
        assert_same(a, b)
        assert_same(a, c)
    assert (again[0].image is not None) == images and len(again[0].index) > 50


def test_only_what_is_missing_is_prepared_and_the_order_is_the_callers(tmp_path: Path) -> None:
    log = CountingLog(tmp_path / "log")
    cache = ViewCache(tmp_path / "cache", log, SIZE)
    cache.views(3, ["rear/left"])
    views = cache.views(3, ["rear/left", "front"])
    assert [view.camera_name for view in views] == ["rear/left", "front"]
    assert log.reads == [(3, ("rear/left",)), (3, ("front",))]


def test_a_changed_or_new_source_makes_it_stale(tmp_path: Path) -> None:
    log = CountingLog(tmp_path / "log")
    cache = ViewCache(tmp_path / "cache", log, SIZE)
    cache.views(3), cache.views(7)
    (log.path / "3.txt").write_text("22")
    (view, _) = cache.views(3)
    assert view.image is not None and (view.image == 22).all()
    cache.views(3), cache.views(7)
    assert len(log.reads) == 3
    (log.path / "calibration.txt").write_text("new")
    cache.views(3), cache.views(7)
    assert len(log.reads) == 5


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "other"])
def test_broken_files_are_made_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    log = CountingLog(tmp_path / "log")
    cache = ViewCache(tmp_path / "cache", log, SIZE)
    before = cache.views(3, ["front"])[0]
    (path,) = (tmp_path / "cache").rglob("*.npz")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0xFF
    broken = {"truncate": content[:middle], "flip": content, "empty": b"", "other": b"PK no archive at all"}[damage]
    path.write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        assert_same(before, cache.views(3, ["front"])[0])
    assert "prepared anew" in caplog.text and len(log.reads) == 2
    assert_same(before, cache.views(3, ["front"])[0])
    assert len(log.reads) == 2


def test_other_sizes_options_and_logs_have_their_own(tmp_path: Path) -> None:
    log, other = CountingLog(tmp_path / "a"), CountingLog(tmp_path / "b")
    folders = {ViewCache(tmp_path / "c", x, size).folder for x in (log, other) for size in (SIZE, (48, 32))}
    log.options = {"lidar": 0}
    folders.add(ViewCache(tmp_path / "c", log, SIZE).folder)
    log.table = dataclasses.replace(DRIVING12, sets=())
    folders.add(ViewCache(tmp_path / "c", log, SIZE).folder)
    assert len(folders) == 6


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    log = CountingLog(tmp_path / "log")
    cache = ViewCache(None, log, SIZE)
    cache.views(3), cache.views(3)
    assert len(log.reads) == 2 and not list(tmp_path.rglob("*.npz"))


def test_an_unreadable_frame_says_so(tmp_path: Path) -> None:
    log = CountingLog(tmp_path / "log")
    (log.path / "7.txt").unlink()
    with pytest.raises(FrameError, match="missing"):
        ViewCache(tmp_path / "cache", log, SIZE).views(7)


def test_open_log_tells_the_cache_its_options(tmp_path: Path) -> None:
    folder = make_plain_log(tmp_path / "log")
    a, b = (open_log(folder, "plain", classes=classes) for classes in ("driving12", "driving12"))
    assert ViewCache(tmp_path, a, SIZE).folder == ViewCache(tmp_path, b, SIZE).folder
    assert a.options["classes"] == "driving12"


_OPENED: list[str] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _OPENED is not None and event == "open" and isinstance(arguments[0], str | Path):
        _OPENED.append(str(arguments[0]))


sys.addaudithook(_note)

MAKERS = {
    "plain": make_plain_log,
    "semantickitti": make_semantickitti_log,
    "kitti_raw": make_kitti_raw_log,
    "kitti_object": make_kitti_object_log,
    "camvid": make_camvid_log,
    "cityscapes": make_cityscapes_log,
    "pandaset": make_pandaset_log,
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_file_that_a_loader_opens_is_watched(name: str, tmp_path: Path) -> None:
    global _OPENED
    folder = MAKERS[name](tmp_path / "log")
    _OPENED = []
    try:
        log = open_log(folder, name)
        frame = log.frames[-1]
        samples = log.frame(frame)
        opened = {Path(p).resolve() for p in _OPENED}
    finally:
        _OPENED = None
    read = {p for p in opened if p.is_relative_to(tmp_path.resolve()) and p.is_file()}
    assert len(samples) >= 1 and len(read) >= 2
    watched = {p.resolve() for p in log.files(frame)}
    assert read <= watched
    # of another frame it shares the calibration, not the pictures
    other = {p.resolve() for p in log.files(log.frames[0])}
    assert {p for p in watched - other if p.is_file()}


def test_another_meaning_of_an_id_makes_it_stale(tmp_path: Path) -> None:
    """The classes of the table stay; only what the data set's ids stand for changes."""
    folder, table = make_camvid_log(tmp_path / "camvid"), tmp_path / "mine.yaml"
    kept = []
    for meaning in ("flat", "other"):
        ids = "\n".join(f"    {i}: {meaning if i == 3 else 'other'}" for i in range(12))
        table.write_text(f"names: {{flat: [0, 0, 9], other: [9, 0, 0]}}\ndata_sets:\n  camvid:\n{ids}\n")
        (view,) = ViewCache(tmp_path / "cache", open_log(folder, classes=str(table)), SIZE).views(0)
        assert view.pixel_labels is not None
        kept.append(set(np.unique(view.pixel_labels).tolist()))
    assert kept == [{0, 1}, {1}]
