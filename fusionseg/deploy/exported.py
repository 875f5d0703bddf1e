"""The folder that an export leaves: one model, what it needs to be used, and a checksum of each file (needs no torch).

``manifest.json`` says how to run the model and lists every other file with its SHA-256; ``classes.json`` is the class
table, ``config.yaml`` the configuration of the training run and ``parity.json`` what the export was measured to do.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionseg.config import TrainConfig, from_dict, save_config, to_dict
from fusionseg.files import write_json
from fusionseg.labels import ClassTable

FORMAT = "fusionseg.export.1"
MANIFEST, CLASSES, CONFIG, PARITY = "manifest.json", "classes.json", "config.yaml", "parity.json"
DESCRIPTIONS = (MANIFEST, CLASSES, CONFIG, PARITY)
"""Files that hold no part of the network."""
PRECISIONS = ("fp32", "fp16", "int8")
BF16 = "bf16"
"""Not stored: what OpenVINO can compute float weights in."""
INPUTS = ("image", "lidar", "present", "points", "cell")
OUTPUTS = ("pixels", "point_labels", "confidence")
PAD_MULTIPLE = 32
"""Sides of the exported network's input are multiples of it; images are padded with zeros at the bottom and right."""
POINT_BUCKET = 2048


@dataclass(frozen=True)
class Manifest:
    """How to run an exported model.

    Attributes:
        format: ``FORMAT``.
        version: of fusionseg that wrote it.
        runtime: ``onnxruntime`` or ``openvino``.
        precision: one of ``PRECISIONS``.
        name: how reports call the model.
        classes: what opens a log with labels of its class table.
        size: (height, width) of the network input, pixels.
        fixed: whether it takes no other size.
        raster_stride: of the LiDAR raster.
        model: file of the model.
        sha256: file -> hexadecimal digest, of every other file in the folder.
    """

    format: str
    version: str
    runtime: str
    precision: str
    name: str
    classes: str
    size: tuple[int, int]
    fixed: bool
    raster_stride: int
    model: str
    sha256: dict[str, Any]

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format is {self.format!r}; this version reads {FORMAT!r}")
        for file in (self.model, *self.sha256):
            if Path(file).name != file or file in ("", ".", ".."):
                raise ValueError(f"file {file!r} leaves the folder; expected bare names")
        if self.model not in self.sha256:
            raise ValueError(f"there is no checksum of {self.model}")

    @property
    def precisions(self) -> tuple[str, ...]:
        """What it can be run in, its own first."""
        in_float = self.runtime == "openvino" and self.precision != "int8"
        return (self.precision, BF16) if in_float else (self.precision,)


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported folder whose files are the ones its manifest lists."""

    folder: Path
    manifest: Manifest
    table: ClassTable

    @property
    def model(self) -> Path:
        """The model's file."""
        return self.folder / self.manifest.model


def is_export(path: Path) -> bool:
    """Whether a path is a folder that an export wrote."""
    return (path / MANIFEST).is_file()


def read_export(folder: Path) -> Exported:
    """The export in a folder, its files compared with their checksums.

    Raises:
        FileNotFoundError: the folder has no manifest.
        ValueError: the manifest cannot be read, or a file is missing, damaged or not the one that was exported.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no {MANIFEST} in it; name a folder that fusionseg export wrote")
    try:
        manifest = from_dict(Manifest, json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: describes no export ({error}); export the model again") from error
    for name, expected in manifest.sha256.items():
        found = _sha256(folder / name)
        if found != expected:
            raise ValueError(
                f"{folder / name}: SHA-256 is {found[:12]}..., the manifest says {str(expected)[:12]}...; the file is "
                "damaged or was replaced, export the model again"
            )
    try:
        table = ClassTable.from_dict(json.loads((folder / CLASSES).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / CLASSES}: no class table ({error}); export the model again") from error
    return Exported(folder, manifest, table)


def write_description(folder: Path, facts: Mapping[str, Any], table: ClassTable, config: TrainConfig) -> None:
    """Write class table, configuration and manifest beside the files that are already in the folder.

    Args:
        folder: of the export.
        facts: fields of ``Manifest`` but ``format`` and ``sha256``.
        table: of the classes.
        config: of the training run.
    """
    write_json(folder / CLASSES, table.to_dict())
    save_config(config, folder / CONFIG)
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    digests = {name: _sha256(folder / name) for name in files}
    write_json(folder / MANIFEST, to_dict(Manifest(format=FORMAT, sha256=digests, **facts)))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
