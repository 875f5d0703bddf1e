"""Real-time camera + LiDAR semantic segmentation for driving logs.

``fusionseg.load`` gives a model that labels an image, a point cloud or both; everything else is in the submodules.
Importing the package itself loads none of them, nor torch or OpenCV.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusionseg.deploy.runtime import Model

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def load(model: str | Path, **options: Any) -> Model:
    """A model ready to label frames: ``fusionseg.deploy.runtime.load``, imported only now.

    Args:
        model: a shipped name (``fusionseg models`` lists them), as ``student``, or a checkpoint file.
        **options: as there (``device``, ``threads``, ``runtime``).

    Raises:
        FileNotFoundError: no such file, nor a shipped model of that name.
        ValueError: not a checkpoint of this project, damaged shipped weights, or an unknown runtime or device.
    """
    from fusionseg.deploy.runtime import load as load_model

    return load_model(model, **options)
