"""Open a log of any known format: recognised from its layout, by name, or with a loader of one's own."""

import difflib
import importlib
from pathlib import Path
from typing import Any

from fusionseg.data.log import Log

LOADERS: dict[str, str] = {
    "pandaset": "fusionseg.data.pandaset:PandaSetLog",
    "semantickitti": "fusionseg.data.semantickitti:SemanticKittiLog",
    "kitti_raw": "fusionseg.data.kitti_raw:KittiRawLog",
    "kitti_object": "fusionseg.data.kitti_object:KittiObjectLog",
    "nuscenes": "fusionseg.data.nuscenes:NuScenesLog",
    "camvid": "fusionseg.data.camvid:CamVid",
    "cityscapes": "fusionseg.data.cityscapes:Cityscapes",
    "bag": "fusionseg.data.bag.log:BagLog",
    "plain": "fusionseg.data.plain:PlainLog",
    "images": "fusionseg.data.images:Images",
}
"""Format name -> ``module:Class``, most particular layout first: recognition asks in this order."""

SHOWN = 4
"""How many names of an unknown folder's content are shown."""


def _load_class(name: str, where: str) -> type[Log]:
    module_name, _, class_name = name.partition(":")
    try:
        loader = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{where} {name!r} cannot be loaded ({error}); expected module:Class on the path") from error
    if not (isinstance(loader, type) and issubclass(loader, Log)):
        raise ValueError(f"{where} {name!r} is no subclass of fusionseg.data.log.Log; derive the class from it")
    return loader


def loader_class(format: str) -> type[Log]:
    """The loader of a format name or of ``module:Class``.

    Raises:
        ValueError: no such format (the nearest is suggested) or class.
    """
    if ":" in format:
        return _load_class(format, "loader")
    if format not in LOADERS:
        near = difflib.get_close_matches(format, LOADERS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"format {format!r} is not known; choose one of {', '.join(LOADERS)} "
            f"or a loader of your own as module:Class{hint}"
        )
    return _load_class(LOADERS[format], "format")


def recognise(path: Path) -> str:
    """The format name whose layout the path has.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: no layout matches; says what is there.
    """
    there = False
    for name in LOADERS:
        loader = loader_class(name)
        if loader.is_there(path):
            there = True
            if loader.recognises(path):
                return name
    if not there:
        raise FileNotFoundError(f"{path}: no such file or folder; give the path of a log")
    raise ValueError(
        f"{path}: no known log layout; it {_held(path)}; check the path or give --format "
        f"({', '.join(LOADERS)}: fusionseg inspect --help lists their files)"
    )


def _held(path: Path) -> str:
    """What is there, in a few words: folders first."""
    if not path.is_dir():
        return "is a file"
    found = sorted(path.iterdir(), key=lambda item: (not item.is_dir(), item.name))
    names = ", ".join(item.name + "/" * item.is_dir() for item in found[:SHOWN]) or "nothing"
    return f"holds {names}" + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def open_log(
    path: str | Path,
    format: str | None = None,
    *,
    classes: str = "driving12",
    split: str | None = None,
    strict: bool = True,
    **options: Any,
) -> Log:
    """A log, opened lazily.

    Args:
        path: its folder (or file).
        format: a name in ``LOADERS``, ``module:Class``, or None to recognise it from the layout.
        classes: ``driving12``, ``native`` or a YAML class table.
        split: which part of a data set that has parts.
        strict: what ``Log.iterate`` does with an unreadable frame unless told there: raise, or skip it and say why.
        options: further arguments of the loader, for example ``lidar=0`` for PandaSet.

    Raises:
        FileNotFoundError: the path, or a file that the log cannot do without, is missing.
        ValueError: unknown layout, format or option, or broken calibration.
    """
    path = Path(path).expanduser()
    name = recognise(path) if format is None else format
    loader = loader_class(name)
    if not loader.is_there(path):
        raise FileNotFoundError(f"{path}: no such file or folder; give the path of a log")
    try:
        log = loader(path, classes=classes, split=split, **options)  # type: ignore[call-arg]
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise ValueError(f"{name}: {error}; see the loader's options in its docstring") from error
    log.strict = strict
    log.options = {"classes": classes, "split": split, **options}
    return log
