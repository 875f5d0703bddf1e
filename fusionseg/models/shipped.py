"""The models that come with the package: whatever lies in ``fusionseg/weights``, each with its card (needs no torch).

``NAME.safetensors`` holds the weights, ``NAME.json`` the card and ``NAME.md`` the same for people; ``models/ship.py``
writes all three.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusionseg.config import from_dict

WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class TrainingData:
    """What a model learned from: a data set, which part of it, and under which terms."""

    name: str
    part: str
    licence: str


@dataclass(frozen=True)
class Measured:
    """Figures and the command that measured them.

    Attributes:
        data: on what.
        figure: what was measured, ``mIoU of points``, say.
        values: setting or class -> figure in [0, 1], ``{"both": 0.8, "camera": 0.7}``.
        command: that prints them again.
    """

    data: str
    figure: str
    values: dict[str, Any]
    command: str

    def __post_init__(self) -> None:
        for name, value in self.values.items():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"values.{name} is {value!r}; expected a share between 0 and 1")


@dataclass(frozen=True)
class Speed:
    """Frames per second from sensor data to labels, on which machine, and the command that measured it."""

    fps: float
    machine: str
    command: str


@dataclass(frozen=True)
class About:
    """What a person writes about a model.

    Attributes:
        summary: one sentence.
        licence: terms of the weights.
        config: file in ``configs/`` that trains it.
        training_data: all of it.
        metrics: the first one stands in the list of models.
        limits: what it cannot do.
        speed: if it was measured.
        notes: Markdown to end the card with (comparisons, say).
    """

    summary: str
    licence: str
    config: str
    training_data: tuple[TrainingData, ...]
    metrics: tuple[Measured, ...]
    limits: tuple[str, ...]
    speed: Speed | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        for name in ("training_data", "metrics", "limits"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; a model without it is not shipped")


@dataclass(frozen=True)
class Card:
    """What is known about a shipped model: facts about its file, and what a person says about it.

    Attributes:
        sha256: of the weights file, hexadecimal.
        file_bytes: its size.
        parameters: how many numbers were learned.
        size: (height, width) of the network input, pixels.
        classes: name of the class table.
        about: the rest.
    """

    sha256: str
    file_bytes: int
    parameters: int
    size: tuple[int, int]
    classes: str
    about: About = field(repr=False)


def shipped_names(folder: Path | None = None) -> list[str]:
    """Names of the shipped models, in alphabetical order."""
    return sorted(path.stem for path in (folder or WEIGHTS).glob("*.safetensors"))


def read_card(name: str, folder: Path | None = None) -> Card:
    """The card of a shipped model.

    Raises:
        ValueError: it is missing or incomplete.
    """
    path = (folder or WEIGHTS) / f"{name}.json"
    try:
        return from_dict(Card, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no card to trust ({error}); install fusionseg again") from error


def find_model(model: str | Path) -> Path:
    """The file of a shipped name, or the file (or the folder of an export) that was named.

    A shipped name goes before a file of that name in the working folder; write ``./NAME`` for the file.

    Raises:
        FileNotFoundError: no such file, and no shipped model of that name; lists those.
        ValueError: a shipped file that is not the one its card describes.
    """
    names = shipped_names()
    if isinstance(model, str) and model in names:
        path = WEIGHTS / f"{model}.safetensors"
        _check(path, read_card(model).sha256)
        return path
    path = Path(model)
    if not path.is_file() and not path.is_dir():
        raise FileNotFoundError(
            f"{path}: no such model file; name a checkpoint (.safetensors) that training wrote, a folder that export "
            f"wrote, or a shipped model ({', '.join(names) or 'this version ships none'})"
        )
    return path


def _check(path: Path, expected: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path}: SHA-256 is {found[:12]}..., its card says {expected[:12]}...; the file is damaged or was "
            "replaced, install fusionseg again"
        )


def format_models(folder: Path | None = None) -> str:
    """The shipped models as a table for people, each with its first figure.

    Raises:
        ValueError: a card is missing or incomplete.
    """
    rows = [("model", "file", "parameters", "input", "speed", "accuracy", "licence")]
    notes = []
    for name in shipped_names(folder):
        card = read_card(name, folder)
        about = card.about
        first = about.metrics[0]
        values = ", ".join(f"{key} {value:.3f}" for key, value in first.values.items())
        rows.append(
            (
                name,
                f"{card.file_bytes / 1e6:.1f} MB",
                f"{card.parameters / 1e6:.2f} M",
                "{}x{}".format(*card.size),
                "-" if about.speed is None else f"{about.speed.fps:.1f} FPS",
                values,
                about.licence,
            )
        )
        notes += ["", f"{name}: {about.summary}", f"  accuracy: {first.figure}, {first.data}"]
        notes += [f"  speed: {about.speed.machine}"] if about.speed else []
        notes += [f"  trained on {item.name}, {item.part} ({item.licence})" for item in about.training_data]
        notes += [f"  card: {(folder or WEIGHTS) / f'{name}.md'}"]
    if len(rows) == 1:
        return "this version ships no model; train one: fusionseg train configs/student_pandaset.yaml"
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines + notes)
