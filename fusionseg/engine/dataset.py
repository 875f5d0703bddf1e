"""The views a run learns from: several logs mixed, a seeded order, batches prepared ahead by threads.

Everything random about batch ``i`` follows from (seed, epoch, place in the order) alone, so a run that is stopped and
resumed, or split over processes, sees the same batches.
"""

import glob
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fusionseg.config import DataConfig, SourceConfig, TrainConfig
from fusionseg.data.cache import ViewCache
from fusionseg.data.collate import Batch, collate
from fusionseg.data.log import FrameError, Log
from fusionseg.data.open import open_log
from fusionseg.data.prepare import CELL_STRIDE, View, stride_labels
from fusionseg.data.sky import sky_labels
from fusionseg.data.transforms import augment
from fusionseg.engine.distill import needs_feature
from fusionseg.engine.evaluate import select_frames
from fusionseg.engine.progress import Progress
from fusionseg.engine.teacher import Answers, Teacher
from fusionseg.labels import IGNORE, ClassTable

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Place(NamedTuple):
    """Where a training view comes from."""

    source: int
    frame: int
    camera_name: str


class Source(NamedTuple):
    """An opened log with the frames and cameras of it that take part."""

    log: Log
    frames: list[int]
    cameras: list[str]


def expand(sources: Iterable[SourceConfig]) -> list[SourceConfig]:
    """The data sets of a configuration, one for each folder that a pattern (``data/drives/*``) matches, in name order.

    Raises:
        FileNotFoundError: a pattern matches nothing.
    """
    expanded: list[SourceConfig] = []
    for source in sources:
        path = os.path.expanduser(os.path.expandvars(source.path))
        paths = sorted(glob.glob(path)) if glob.has_magic(path) and not os.path.exists(path) else [path]
        if not paths:
            raise FileNotFoundError(f"{path}: matches no file or folder; check the pattern")
        expanded += [replace(source, path=found) for found in paths]
    return expanded


def open_source(source: SourceConfig, data: DataConfig) -> Source:
    """Open a data set of the configuration; its path is one that ``expand`` gave.

    Raises:
        FileNotFoundError: no such log.
        ValueError: the layout is unknown, or no frame or camera is left of it.
    """
    path = Path(source.path)
    log = open_log(path, source.format, classes=data.classes, split=source.split, strict=data.strict, **source.options)
    unknown = [name for name in source.cameras if name not in log.cameras]
    if unknown:
        raise ValueError(f"{path}: no camera {unknown[0]!r}; it has {', '.join(log.cameras)}")
    frames = select_frames(log, source.frames)
    return Source(log, frames, list(source.cameras or log.cameras))


class TrainingViews:
    """All training views of a configuration, by their place.

    Args:
        config: the experiment.
        cache: folder of prepared views (and a teacher's answers), or None to prepare them again each time.
        teacher: comments on every view, where the configuration distils.

    Raises:
        FileNotFoundError, ValueError: as ``expand`` and ``open_source``; no data set at all; class tables that differ.
    """

    def __init__(self, config: TrainConfig, cache: Path | None, teacher: Teacher | None = None) -> None:
        if not config.data.train:
            raise ValueError("data.train is empty; name at least one log to train on")
        self.config = config
        unlabelled = () if config.distill is None else config.distill.unlabelled
        self._entries = (*config.data.train, *unlabelled)
        entries = [expand([entry]) for entry in self._entries]
        self._entry_of_source = [i for i, found in enumerate(entries) for _ in found]
        self.sources = [open_source(source, config.data) for found in entries for source in found]
        self.table = self.sources[0].log.table
        for source in self.sources[1:]:
            check_same_table(self.table, source.log.table, source.log.name)
        self._caches = [ViewCache(cache, source.log, config.data.size) for source in self.sources]
        self._answers: Answers | None = None
        if teacher is not None and config.distill is not None:
            self._answers = Answers(teacher, self.table.names, cache, needs_feature(config.distill))
            size = teacher.size or config.data.size
            self._seen = [ViewCache(cache, source.log, size) for source in self.sources]
        self.places = [
            [Place(i, frame, name) for frame in source.frames for name in source.cameras]
            for i, source in enumerate(self.sources)
        ]

    def view(self, place: Place) -> View:
        """One prepared view, not augmented."""
        (view,) = self._caches[place.source].views(place.frame, [place.camera_name])
        if self._entry_of_source[place.source] >= len(self.config.data.train):
            view = replace(view, labels=None, pixel_labels=None)
        else:
            view = self._with_sky(view)
        if self._answers is None:
            return view
        (seen,) = self._seen[place.source].views(place.frame, [place.camera_name])
        return self._answers.teach(view, seen)

    def ask_teacher(self) -> int | None:
        """Have every view answered before training; the channels of the teacher's feature, where one is kept."""
        places = [place for group in self.places for place in group]
        channels = None
        with Progress("asking the teacher", len(places)) as progress:
            for place in places:
                teaching = self.view(place).teaching
                if teaching is not None and teaching.feature is not None:
                    channels = len(teaching.feature)
                progress.advance()
        if self._answers is not None:
            logger.info("%s", self._answers.describe(len(places)))
        return channels

    def _with_sky(self, view: View) -> View:
        """The view with weak sky labels, where it has labels for points alone."""
        names = self.table.names
        if not self.config.data.sky_from_lidar or "sky" not in names or view.image is None:
            return view
        if view.labels is None or view.pixel_labels is not None:
            return view
        return replace(view, pixel_labels=sky_labels(view, names.index("sky")))

    def count_labels(self) -> NDArray[np.int64]:
        """(256,) how often each label occurs among points and cells; fills the cache on the way.

        A frame that cannot be read is left out of training with a warning where ``data.strict`` is off.

        Raises:
            FrameError: such a frame, where it is on.
            ValueError: no view is left, or no label in any.
        """
        totals = np.zeros(256, dtype=np.int64)
        with Progress("preparing views", sum(len(source.frames) for source in self.sources)) as progress:
            for i, source in enumerate(self.sources):
                for frame in source.frames:
                    try:
                        # all cameras together: they share one cloud
                        views = self._caches[i].views(frame, source.cameras)
                    except FrameError as error:
                        if self.config.data.strict:
                            raise
                        logger.warning("frame %d of %s is left out: %s", frame, source.log.name, error)
                        self.places[i] = [place for place in self.places[i] if place.frame != frame]
                        views = []
                    if self._entry_of_source[i] < len(self.config.data.train):
                        for view in map(self._with_sky, views):
                            totals += _label_counts(view)
                    progress.advance()
        if not any(self.places):
            raise ValueError(f"no view of {self._names()} can be read; the warnings above say why")
        if not totals[:IGNORE].any():
            raise ValueError(f"no view of {self._names()} has labels; training needs logs with labels")
        return totals

    def _names(self) -> str:
        return ", ".join(source.log.name for source in self.sources)

    def order(self, epoch: int) -> list[Place]:
        """The views of an epoch, shuffled: each entry ``weight`` times (whole repeats, then a random part)."""
        rng = np.random.default_rng([self.config.seed, epoch, 0])
        chosen: list[Place] = []
        for i, entry in enumerate(self._entries):
            places = [place for group in self.places for place in group if self._entry_of_source[place.source] == i]
            count = max(1, round(entry.weight * len(places))) if places else 0
            repeats, rest = divmod(count, max(len(places), 1))
            chosen += places * repeats + [places[i] for i in rng.permutation(len(places))[:rest]]
        return [chosen[i] for i in rng.permutation(len(chosen))]

    def batch(self, order: Sequence[Place], epoch: int, first: int, last: int) -> Batch:
        """The augmented views ``first`` to ``last`` (excluded) of an epoch's order."""
        config = self.config
        views = []
        for position in range(first, last):
            rng = np.random.default_rng([config.seed, epoch, 1, position])
            views.append(augment(self.view(order[position]), config.augment, rng))
        rng = np.random.default_rng([config.seed, epoch, 2, first])
        return collate(views, config.model.raster_stride, config.data.max_points, rng)


def _label_counts(view: View) -> NDArray[np.int64]:
    counts = np.zeros(256, dtype=np.int64)
    if view.labels is not None:
        counts += np.bincount(view.labels, minlength=256)
    if view.pixel_labels is not None:
        height, width = view.pixel_labels.shape
        counts += np.bincount(stride_labels(view.pixel_labels, height, width, CELL_STRIDE).ravel(), minlength=256)
    return counts


def check_same_table(table: ClassTable, other: ClassTable, name: str) -> None:
    """Labels of two logs (or a model and a log) mean the same.

    Raises:
        ValueError: they do not.
    """
    if table.names != other.names or table.sets != other.sets:
        raise ValueError(
            f"{name} has the classes of {other.name} ({', '.join(other.names)}), the others those of {table.name}; "
            "set data.classes to one table that all logs map to"
        )


def prefetch(jobs: Iterable[Callable[[], T]], threads: int) -> Iterator[T]:
    """Results of the jobs in order, prepared ahead by ``threads`` threads while the caller works.

    NumPy, OpenCV and torch release the interpreter lock for most of their work, so threads are enough.
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
