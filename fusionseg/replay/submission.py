"""Label files in the layouts that the official benchmarks take, and a check that nothing in them is wrong."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.log import Log
from fusionseg.data.nuscenes import NuScenesLog
from fusionseg.data.open3d_import import import_open3d
from fusionseg.data.semantickitti import SemanticKittiLog
from fusionseg.deploy.result import FrameResult
from fusionseg.files import atomic_write, write_json
from fusionseg.label_maps import NATIVE, SEMANTICKITTI_OFFICIAL
from fusionseg.labels import IGNORE, ClassTable
from fusionseg.replay.sinks import FileSink
from fusionseg.sample import Sample

LAYOUTS = ("semantickitti", "nuscenes")
META = ("use_camera", "use_lidar", "use_radar", "use_map", "use_external")
DTYPES: dict[str, np.dtype[Any]] = {"semantickitti": np.dtype("<u4"), "nuscenes": np.dtype("u1")}
NUSCENES_SETS = {"v1.0-test": "test", "v1.0-mini": "mini_val"}
"""Folder of tables -> the evaluation set a submission is for; ``val`` for the others."""


class Submission(FileSink):
    """Predictions of every point in a benchmark's ids, file by file where its server looks for them.

    ``semantickitti``: ``sequences/NN/predictions/FRAME.label``, a uint32 a point. ``nuscenes``: a byte a point in
    ``lidarseg/SET/TOKEN_lidarseg.bin`` and ``SET/submission.json``. Zip the content of the folder to submit it.
    A point without a label takes that of the nearest point with one, since both benchmarks count such points as wrong.

    Args:
        folder: where it goes.
        layout: one of ``LAYOUTS``.
        table: what the model predicts.
        log: what is replayed; of that data set.
        sensors: what the model was given.

    Raises:
        ValueError: an unknown layout, a model of other classes, a log of another data set, or a folder that cannot be
            written.
    """

    def __init__(self, folder: Path, layout: str, table: ClassTable, log: Log, sensors: str) -> None:
        check_target(layout, table, log)
        self._place, self._layout, self._ids = _places(folder, layout, log), layout, official_ids(layout)
        if isinstance(log, NuScenesLog):
            used = {"use_camera": sensors != "lidar", "use_lidar": sensors != "camera"}
            meta = {name: used.get(name, False) for name in META}
            # the weights of any image encoder were trained on other images first
            meta["use_external"] = True
            write_json(folder / _nuscenes_set(log) / "submission.json", {"meta": meta})

    def draw(self, samples: Sequence[Sample], result: FrameResult) -> NDArray[np.unsignedinteger]:
        """The benchmark's id of every point."""
        return self._ids[filled(samples[0].points_lidar, result.points)].astype(DTYPES[self._layout])

    def write(self, frame: int, drawn: NDArray[np.unsignedinteger]) -> None:
        """Write the file of a frame."""
        with atomic_write(self._place(frame)) as file:
            file.write(drawn.tobytes())


def check_target(layout: str, table: ClassTable, log: Log) -> None:
    """Refuse a model that does not predict the benchmark's own classes, or a log of another data set.

    Raises:
        ValueError: it is one of these, or the layout is unknown.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"submission layout {layout!r} is not known; choose one of {', '.join(LAYOUTS)}")
    official = NATIVE[layout][0]
    if table.names != official.names:
        raise ValueError(
            f"a {layout} submission needs a model of its {len(official)} official classes, and this one predicts "
            f"{table.name}; train one with classes: native in its config"
        )
    _places(Path(), layout, log)


def official_ids(layout: str) -> NDArray[np.uint32]:
    """(K,) the id of each official class in a benchmark's files."""
    if layout == "nuscenes":
        return np.arange(1, len(NATIVE["nuscenes"][0]) + 1, dtype=np.uint32)
    # of several ids the benchmark's own tools write the one that is not moving, and 20 for other vehicles
    return np.array([20 if 20 in ids else ids[0] for ids in SEMANTICKITTI_OFFICIAL.values()], dtype=np.uint32)


def filled(points_lidar: NDArray[np.float32], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N,) labels where each unknown point has that of the nearest known one; those at no place that of most points.

    Raises:
        ValueError: there are points, and no point has a label.
    """
    finite = np.isfinite(points_lidar[:, :3]).all(axis=1)
    known = finite & (labels != IGNORE)
    if len(labels) and not known.any():
        raise ValueError("no point has a label, so there is nothing to submit")
    whole = labels.copy()
    missing = finite & (labels == IGNORE)
    if missing.any():
        core = import_open3d().core
        search = core.nns.NearestNeighborSearch(core.Tensor(np.ascontiguousarray(points_lidar[known, :3])))
        search.knn_index()
        nearest = search.knn_search(core.Tensor(np.ascontiguousarray(points_lidar[missing, :3])), 1)[0].numpy()
        whole[missing] = labels[known][nearest.ravel()]
    nowhere = ~finite & (labels == IGNORE)
    if nowhere.any():
        whole[nowhere] = np.bincount(labels[known]).argmax()
    return whole


def check_submission(folder: Path, layout: str, log: Log, frames: Sequence[int]) -> list[str]:
    """What the benchmark's server would refuse, a line each; empty if the submission of these frames is valid.

    Every frame needs its file, with one legal id for every point of its sweep.

    Raises:
        ValueError: an unknown layout or a log of another data set.
        FrameError: a sweep cannot be read.
    """
    place, legal = _places(folder, layout, log), official_ids(layout)
    faults = list(_meta_faults(folder / _nuscenes_set(log))) if isinstance(log, NuScenesLog) else []
    for frame in frames:
        path = place(frame)
        if not path.is_file():
            faults.append(f"{path}: is missing")
            continue
        content = path.read_bytes()
        count = len(log.sample(frame, log.cameras[0]).points_lidar)
        if len(content) != count * DTYPES[layout].itemsize:
            faults.append(f"{path}: {len(content)} bytes for {count} points of {DTYPES[layout].itemsize} bytes each")
            continue
        ids = np.frombuffer(content, DTYPES[layout])
        if len(wrong := ids[~np.isin(ids, legal)]):
            faults.append(f"{path}: id {wrong[0]} is none of the benchmark's classes")
    return faults


def _meta_faults(folder: Path) -> Iterator[str]:
    path = folder / "submission.json"
    try:
        meta = json.loads(path.read_bytes())["meta"]
        found = sorted(meta) == sorted(META) and all(isinstance(value, bool) for value in meta.values())
    except (OSError, ValueError, KeyError, TypeError):
        found = False
    if not found:
        yield f"{path}: expected meta with true or false for {', '.join(META)}, and no other keys"


def _places(folder: Path, layout: str, log: Log) -> Callable[[int], Path]:
    """From a frame to its file."""
    if layout == "nuscenes" and isinstance(log, NuScenesLog):
        labels = folder / "lidarseg" / _nuscenes_set(log)
        return lambda frame: labels / f"{log.sweep_token(frame)}_lidarseg.bin"
    if layout == "semantickitti" and isinstance(log, SemanticKittiLog):
        predictions = folder / "sequences" / log.path.resolve().name / "predictions"
        return lambda frame: predictions / f"{frame:06d}.label"
    raise ValueError(f"a {layout} submission needs a {layout} log; {log.path} is opened as {log.format}")


def _nuscenes_set(log: NuScenesLog) -> str:
    return NUSCENES_SETS.get(log.version, "val")
