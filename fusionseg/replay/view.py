"""A replayed sweep in the colours of its labels: in a window, or as a picture."""

import ctypes
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.open import open_log
from fusionseg.data.open3d_import import import_open3d
from fusionseg.labels import ClassTable
from fusionseg.replay.sink import RUN_FILE
from fusionseg.visualize import Picture, legend, perspective, stack, write_text

WIDTH_PX, HEIGHT_PX = 1280, 720


@dataclass(frozen=True, eq=False)
class LabelledSweep:
    """What a replay made of a sweep.

    Attributes:
        title: its log and frame.
        log: path of the log.
        points_lidar: (N, 4) x, y, z in metres, intensity; finite.
        labels: (N,) uint8 class ids, 255 unknown.
        table: their classes.
    """

    title: str
    log: Path
    points_lidar: NDArray[np.float32]
    labels: NDArray[np.uint8]
    table: ClassTable


def read_sweep(path: Path) -> LabelledSweep:
    """The sweep of ``RUN/labels/FRAME.label``; its points are read from the log that the run names.

    Raises:
        FileNotFoundError: the file, its run or the log is not there.
        ValueError: it is no label file of a sweep, or the log has changed.
    """
    if path.suffix != ".label" or not path.stem.isdecimal():
        raise ValueError(f"{path}: is no label file of a sweep; name OUT/labels/FRAME.label of a replay with LiDAR")
    labels = np.fromfile(path, "<u4").astype(np.uint8)
    run = path.resolve().parents[1] / RUN_FILE
    if not run.is_file():
        raise FileNotFoundError(
            f"{path}: is in no folder of a replay, as there is no {run}; name OUT/labels/FRAME.label"
        )
    try:
        about = json.loads(run.read_bytes())
        classes = json.loads((path.parent / "classes.json").read_bytes())
        names, colours = (list(classes[key].values()) for key in ("names", "colours"))
        table = ClassTable.from_dict({"name": classes["table"], "names": names, "colours": colours, "sets": ()})
        log = open_log(about["log"], about["format"], **about["log options"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{run.parent}: is damaged or of another version ({error}); replay the log again") from error
    points_lidar = log.frame(int(path.stem))[0].points_lidar
    if len(points_lidar) != len(labels):
        raise ValueError(
            f"{path}: labels {len(labels)} points, and the sweep in {log.path} has {len(points_lidar)}; "
            "replay the log again"
        )
    there = np.isfinite(points_lidar[:, :3]).all(axis=1)
    return LabelledSweep(f"{log.name} frame {int(path.stem)}", log.path, points_lidar[there], labels[there], table)


def sweep_view(sweep: LabelledSweep) -> Picture:
    """The sweep seen from behind and above the sensor, with a legend."""
    drawn = perspective(sweep.points_lidar, sweep.table.palette[sweep.labels], WIDTH_PX, HEIGHT_PX)
    return stack([write_text(drawn, sweep.title), legend(sweep.table.names, sweep.table.colours, WIDTH_PX)])


def show_sweep(sweep: LabelledSweep) -> None:
    """Open a window with the sweep and wait until it is closed.

    Raises:
        ValueError: there is no display, or open3d cannot be loaded.
    """
    if not _has_display():
        raise ValueError(
            f"no window can be opened, as DISPLAY {os.environ.get('DISPLAY', '')!r} is no display; "
            "a picture needs none: --out FILE.png (or replay with --rerun and open the .rrd elsewhere)"
        )
    open3d = import_open3d()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(sweep.points_lidar[:, :3].astype(np.float64)))
    cloud.colors = open3d.utility.Vector3dVector(sweep.table.palette[sweep.labels] / 255.0)
    window = open3d.visualization.Visualizer()
    window.create_window(sweep.title, WIDTH_PX, HEIGHT_PX)
    try:
        window.add_geometry(cloud)
        options, view = window.get_render_option(), window.get_view_control()
        options.background_color, options.point_size = np.full(3, 0.1), 2.0
        # from behind and above the sensor, as the picture
        view.set_lookat((8.0, 0.0, 0.0))
        view.set_front((-0.9, 0.0, 0.44))
        view.set_up((0.0, 0.0, 1.0))
        view.set_zoom(0.06)
        window.run()
    finally:
        window.destroy_window()


def _has_display() -> bool:
    """Whether there is one; without, open3d would draw what nobody sees and wait for ever."""
    if not sys.platform.startswith("linux") or os.environ.get("WAYLAND_DISPLAY"):
        return True
    if not os.environ.get("DISPLAY"):
        return False
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        # open3d needs it too and says how to install it
        return True
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = x11.XOpenDisplay(None)
    if display:
        x11.XCloseDisplay(ctypes.c_void_p(display))
    return bool(display)
