"""Class tables, the maps from data set ids to them, and colours.

A label is a uint8. Values below ``len(table.names)`` are classes; the values that follow stand for *sets* of classes
that a data set cannot tell apart (``table.sets``); 255 is ignored everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORE = 255


@dataclass(frozen=True, eq=False)
class ClassTable:
    """The classes a model predicts.

    Attributes:
        name: ``driving12``, the name of a native table, or the stem of a YAML file.
        names: class names; the index is the class id.
        colours: (r, g, b) per class, 0..255.
        sets: ambiguous labels, each a tuple of class ids; set ``j`` is written as label ``len(names) + j``.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    sets: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) + len(self.sets) < IGNORE:
            raise ValueError(f"class table {self.name} has {len(self.names)} classes; expected 2 to {IGNORE - 1}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"class table {self.name} names a class twice: {', '.join(self.names)}")
        if len(self.colours) != len(self.names):
            raise ValueError(f"class table {self.name} has {len(self.colours)} colours for {len(self.names)} classes")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def membership(self) -> NDArray[np.bool_]:
        """(256, K) bool: which classes each label value stands for; all False for values that mean nothing."""
        table = np.zeros((256, len(self.names)), dtype=bool)
        table[np.arange(len(self.names)), np.arange(len(self.names))] = True
        for j, members in enumerate(self.sets):
            table[len(self.names) + j, list(members)] = True
        return table

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """(256, 3) RGB per label value; ignored and ambiguous labels are grey."""
        palette = np.full((256, 3), 96, dtype=np.uint8)
        palette[: len(self.names)] = self.colours
        return palette

    def label_of(self, names: tuple[str, ...]) -> int:
        """The label value that stands for one class or a set of classes; no name at all is 255.

        Raises:
            ValueError: a name is not in the table, or the set is not one of the table's.
        """
        if not names:
            return IGNORE
        for name in names:
            if name not in self.names:
                raise ValueError(f"class {name!r} is not in table {self.name}; it has {', '.join(self.names)}")
        ids = tuple(sorted(self.names.index(name) for name in names))
        if len(ids) == 1:
            return ids[0]
        if ids not in self.sets:
            raise ValueError(f"the set {{{', '.join(names)}}} is not declared in class table {self.name}")
        return len(self.names) + self.sets.index(ids)

    def label_name(self, label: int) -> str:
        """``road``, or ``barrier|static_object`` for an ambiguous label."""
        if label == IGNORE:
            return "ignored"
        return "|".join(self.names[i] for i in np.flatnonzero(self.membership[label])) or f"label {label}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.name, "names": self.names, "colours": self.colours, "sets": self.sets}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ClassTable":
        """The table of ``to_dict``'s values.

        Raises:
            KeyError, TypeError, ValueError: they describe no class table.
        """
        return cls(
            str(values["name"]),
            tuple(map(str, values["names"])),
            tuple((int(r), int(g), int(b)) for r, g, b in values["colours"]),
            tuple(tuple(map(int, members)) for members in values["sets"]),
        )


def table_from_sets(
    name: str,
    classes: Mapping[str, tuple[int, int, int]],
    sets: tuple[tuple[str, ...], ...] = (),
) -> ClassTable:
    """A class table from ``{class name: colour}`` and the ambiguous sets by name."""
    names = tuple(classes)
    ids = tuple(tuple(sorted(names.index(member) for member in members)) for members in sets)
    return ClassTable(name, names, tuple(tuple(int(v) for v in c) for c in classes.values()), ids)  # type: ignore[misc]


@dataclass(frozen=True, eq=False)
class LabelMap:
    """From the ids in a data set's files to the labels of a class table.

    Attributes:
        data_set: whose ids these are.
        table: the class table of the labels.
        labels: data set id -> label (class, set of classes, or 255).
    """

    data_set: str
    table: ClassTable
    labels: Mapping[int, int]

    @cached_property
    def _lookup(self) -> NDArray[np.int16]:
        lookup = np.full(max(self.labels) + 1, -1, dtype=np.int16)
        lookup[list(self.labels)] = list(self.labels.values())
        return lookup

    def __call__(self, ids: NDArray[np.integer], where: str) -> NDArray[np.uint8]:
        """Labels of the same shape as ``ids``; ``where`` is named in the error.

        Raises:
            ValueError: an id that the data set does not define.
        """
        lookup = self._lookup
        if ids.size == 0:
            return np.zeros(ids.shape, dtype=np.uint8)
        low, high = int(ids.min()), int(ids.max())
        if low >= 0 and high < len(lookup):
            labels = lookup[ids]
            if labels.min() >= 0:
                known: NDArray[np.uint8] = labels.astype(np.uint8)
                return known
        unknown = sorted(set(np.unique(ids).tolist()) - set(self.labels))
        raise ValueError(
            f"{where}: class id {unknown[0]} is not one of {self.data_set}'s; "
            f"known are {', '.join(map(str, sorted(self.labels)))}"
        )


DRIVING12 = table_from_sets(
    "driving12",
    {
        "road": (128, 64, 128),
        "sidewalk": (244, 35, 232),
        "terrain": (152, 251, 152),
        "building": (70, 70, 70),
        "barrier": (190, 153, 153),
        "static_object": (220, 220, 0),
        "vegetation": (107, 142, 35),
        "sky": (70, 130, 180),
        "person": (220, 20, 60),
        "two_wheeler": (255, 128, 0),
        "car": (0, 0, 230),
        "large_vehicle": (0, 128, 160),
    },
    (
        ("barrier", "static_object"),
        ("car", "large_vehicle"),
        ("building", "barrier"),
        ("vegetation", "terrain"),
        ("building", "barrier", "static_object"),
        ("person", "two_wheeler"),
        ("road", "sidewalk"),
        ("sidewalk", "terrain"),
        ("building", "static_object"),
    ),
)
