"""Coloured clouds: a PLY or PCD file per sweep, which any viewer of point clouds opens."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusionseg.data.open3d_import import import_open3d
from fusionseg.deploy.result import FrameResult
from fusionseg.files import unwritable
from fusionseg.labels import ClassTable
from fusionseg.replay.sinks import FileSink
from fusionseg.sample import Sample


class Clouds(FileSink):
    """``FRAME.ply``: x, y, z in metres in the LiDAR frame, red, green, blue of the class, ``label`` and ``intensity``.

    Points at no place (NaN) are left out, since viewers choke on them; a sweep without any point has no file.

    Args:
        folder: made where it is not there.
        table: the class table of the labels.
        formats: ``ply``, ``pcd`` or both; a file each.

    Raises:
        ValueError: open3d cannot be loaded, or the folder cannot be written.
    """

    def __init__(self, folder: Path, table: ClassTable, formats: Sequence[str] = ("ply",)) -> None:
        self._folder, self._table, self._formats, self._open3d = folder, table, formats, import_open3d()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error

    def draw(self, samples: Sequence[Sample], result: FrameResult) -> Any:
        """The cloud, as open3d holds it."""
        points = samples[0].points_lidar
        finite = np.isfinite(points[:, :3]).all(axis=1)
        tensor, labels = self._open3d.core.Tensor, result.points[finite]
        cloud = self._open3d.t.geometry.PointCloud(tensor(np.ascontiguousarray(points[finite, :3])))
        cloud.point.colors = tensor(self._table.palette[labels])
        cloud.point.label = tensor(labels[:, None])
        cloud.point.intensity = tensor(np.ascontiguousarray(points[finite, 3:]))
        return cloud

    def write(self, frame: int, drawn: Any) -> None:
        """Write the files of a frame."""
        if not drawn.is_empty():
            for suffix in self._formats:
                self._write(self._folder / f"{frame:06d}.{suffix}", drawn)

    def _write(self, path: Path, cloud: Any) -> None:
        # open3d tells the format by the suffix
        temporary = path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            if not self._open3d.t.io.write_point_cloud(str(temporary), cloud):
                raise OSError(None, "open3d could not write the file; the disk may be full")
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise unwritable(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
