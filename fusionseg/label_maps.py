"""What the ids of each data set mean: in the common classes ``driving12``, in its official table, or in a user's YAML.

An id maps to a class, to a set of classes that the data set cannot tell apart, or to nothing (ignored).
"""

import colorsys
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fusionseg.labels import DRIVING12, ClassTable, LabelMap, table_from_sets

Ids = Mapping[int, tuple[str, ...]]

ROAD = ("road",)
SIDEWALK = ("sidewalk",)
TERRAIN = ("terrain",)
BUILDING = ("building",)
BARRIER = ("barrier",)
STATIC = ("static_object",)
VEGETATION = ("vegetation",)
SKY = ("sky",)
PERSON = ("person",)
TWO_WHEELER = ("two_wheeler",)
CAR = ("car",)
LARGE = ("large_vehicle",)
CAR_OR_LARGE = ("car", "large_vehicle")
IGNORED: tuple[str, ...] = ()

# 42 'Other Static Object' is mostly fence and wall; 1-4 are smoke, exhaust, spray and reflections; 32, 33 animals.
PANDASET: Ids = {
    **{i: IGNORED for i in (1, 2, 3, 4, 32, 33)},
    5: VEGETATION,
    6: TERRAIN,
    **{i: ROAD for i in (7, 8, 9, 10)},
    **{i: SIDEWALK for i in (11, 12)},
    **{i: CAR for i in (13, 14)},
    **{i: LARGE for i in (15, 16, 17, 19, 23, 27, 28, 29)},
    **{i: CAR_OR_LARGE for i in (20, 22)},
    **{i: TWO_WHEELER for i in (18, 21, 24, 25, 26)},
    **{i: PERSON for i in (30, 31)},
    **{i: STATIC for i in (34, 36, 37, 38, 40)},
    **{i: BARRIER for i in (35, 39)},
    41: BUILDING,
    42: ("barrier", "static_object"),
}

# 44 parking and 60 lane marking are road, 71 trunk is vegetation; 1 outlier, 49 other ground, 52 other structure and
# 99 other object are none of the classes; moving classes (252-259) go with their static twins.
SEMANTICKITTI: Ids = {
    **{i: IGNORED for i in (0, 1, 49, 52, 99)},
    **{i: CAR for i in (10, 252)},
    **{i: TWO_WHEELER for i in (11, 15, 31, 32, 253, 255)},
    **{i: LARGE for i in (13, 16, 18, 256, 257, 258)},
    **{i: CAR_OR_LARGE for i in (20, 259)},
    **{i: PERSON for i in (30, 254)},
    **{i: ROAD for i in (40, 44, 60)},
    48: SIDEWALK,
    50: BUILDING,
    51: BARRIER,
    **{i: VEGETATION for i in (70, 71)},
    72: TERRAIN,
    **{i: STATIC for i in (80, 81)},
}

# CamVid-11 in SegNet's layout merges trucks and buses into Car, walls into Building, grass into Tree; 11 is void.
CAMVID: Ids = {
    0: SKY,
    1: ("building", "barrier"),
    **{i: STATIC for i in (2, 6)},
    3: ROAD,
    4: SIDEWALK,
    5: ("vegetation", "terrain"),
    7: BARRIER,
    8: CAR_OR_LARGE,
    9: PERSON,
    10: TWO_WHEELER,
    11: IGNORED,
}

# 6 ground is shared by cars and pedestrians; 15 bridge, 16 tunnel are buildings or other structures; 27 truck holds
# pickups and 29 caravan camper vans. 4 static, 5 dynamic, 10 rail track are none of the classes. Id -1 (licence plate)
# is never drawn in labelIds; as uint8 it would read 255.
CITYSCAPES: Ids = {
    **{i: IGNORED for i in (0, 1, 2, 3, 4, 5, 10, 255)},
    6: ("road", "sidewalk"),
    **{i: ROAD for i in (7, 9)},
    8: SIDEWALK,
    11: BUILDING,
    **{i: BARRIER for i in (12, 13, 14)},
    **{i: ("building", "static_object") for i in (15, 16)},
    **{i: STATIC for i in (17, 18, 19, 20)},
    21: VEGETATION,
    22: TERRAIN,
    23: SKY,
    24: PERSON,
    **{i: TWO_WHEELER for i in (25, 32, 33)},
    26: CAR,
    **{i: CAR_OR_LARGE for i in (27, 29)},
    **{i: LARGE for i in (28, 30, 31)},
}

# nuScenes-lidarseg: 28 manmade is building, wall or pole; 25 other flat (rails, water) is none of the classes; 23 truck
# holds pickups, 19 and 20 are ambulances and police vehicles of any size; 5 is a person on a small vehicle. Animals,
# strollers, wheelchairs, debris, bicycle racks, other static and the ego vehicle (1, 7, 8, 10, 13, 29, 31) are ignored.
NUSCENES: Ids = {
    **{i: IGNORED for i in (0, 1, 7, 8, 10, 13, 25, 29, 31)},
    **{i: PERSON for i in (2, 3, 4, 6)},
    5: ("person", "two_wheeler"),
    9: BARRIER,
    **{i: STATIC for i in (11, 12)},
    **{i: TWO_WHEELER for i in (14, 21)},
    **{i: LARGE for i in (15, 16, 18, 22)},
    17: CAR,
    **{i: CAR_OR_LARGE for i in (19, 20, 23)},
    24: ROAD,
    26: SIDEWALK,
    27: TERRAIN,
    28: ("building", "barrier", "static_object"),
    30: VEGETATION,
}

# A person's own labels are driving12 already, unless their classes.yaml says otherwise.
PLAIN: Ids = {**{i: (name,) for i, name in enumerate(DRIVING12.names)}, 255: IGNORED}

# Ids 1 to 42 in order.
# fmt: off
PANDASET_NAMES = [
    "smoke", "exhaust", "spray_or_rain", "reflection",
    "vegetation", "ground", "road", "lane_line_marking",
    "stop_line_marking", "other_road_marking", "sidewalk", "driveway",
    "car", "pickup_truck", "medium_sized_truck", "semi_truck",
    "towed_object", "motorcycle", "construction_vehicle", "uncommon_vehicle",
    "pedicab", "emergency_vehicle", "bus", "personal_mobility_device",
    "motorized_scooter", "bicycle", "train", "trolley",
    "tram_subway", "pedestrian", "pedestrian_with_object", "bird",
    "other_animal", "pylons", "road_barriers", "signs",
    "cones", "construction_signs", "temporary_construction_barriers", "rolling_containers",
    "building", "other_static_object",
]
# fmt: on


def _spread_colours(names: list[str]) -> dict[str, tuple[int, int, int]]:
    """A colour per name, hues a golden angle apart, so that neighbours in the list differ."""
    colours: dict[str, tuple[int, int, int]] = {}
    for i, name in enumerate(names):
        red, green, blue = colorsys.hsv_to_rgb(i * 0.618034 % 1.0, 0.55 + 0.15 * (i % 4), 0.95 - 0.1 * (i % 3))
        colours[name] = (round(255 * red), round(255 * green), round(255 * blue))
    return colours


PANDASET42 = table_from_sets("pandaset42", _spread_colours(PANDASET_NAMES))

# The official 19 classes of the single-scan benchmark with the colours of semantic-kitti.yaml (there in BGR).
SEMANTICKITTI19 = table_from_sets(
    "semantickitti19",
    {
        "car": (100, 150, 245),
        "bicycle": (100, 230, 245),
        "motorcycle": (30, 60, 150),
        "truck": (80, 30, 180),
        "other_vehicle": (0, 0, 255),
        "person": (255, 30, 30),
        "bicyclist": (255, 40, 200),
        "motorcyclist": (150, 30, 90),
        "road": (255, 0, 255),
        "parking": (255, 150, 255),
        "sidewalk": (75, 0, 75),
        "other_ground": (175, 0, 75),
        "building": (255, 200, 0),
        "fence": (255, 120, 50),
        "vegetation": (0, 175, 0),
        "trunk": (135, 60, 0),
        "terrain": (150, 240, 80),
        "pole": (255, 240, 150),
        "traffic_sign": (255, 0, 0),
    },
)
SEMANTICKITTI_OFFICIAL: dict[str, tuple[int, ...]] = {
    "car": (10, 252),
    "bicycle": (11,),
    "motorcycle": (15,),
    "truck": (18, 258),
    "other_vehicle": (13, 16, 20, 256, 257, 259),
    "person": (30, 254),
    "bicyclist": (31, 253),
    "motorcyclist": (32, 255),
    "road": (40, 60),
    "parking": (44,),
    "sidewalk": (48,),
    "other_ground": (49,),
    "building": (50,),
    "fence": (51,),
    "vegetation": (70,),
    "trunk": (71,),
    "terrain": (72,),
    "pole": (80,),
    "traffic_sign": (81,),
}


CAMVID11 = table_from_sets(
    "camvid11",
    {
        "sky": (128, 128, 128),
        "building": (128, 0, 0),
        "pole": (192, 192, 128),
        "road": (128, 64, 128),
        "pavement": (60, 40, 222),
        "tree": (128, 128, 0),
        "sign_symbol": (192, 128, 128),
        "fence": (64, 64, 128),
        "car": (64, 0, 128),
        "pedestrian": (64, 64, 0),
        "bicyclist": (0, 128, 192),
    },
)

# The official 19 training classes in the order of their train ids, with the labelIds they come from.
CITYSCAPES_OFFICIAL: dict[str, tuple[int, tuple[int, int, int]]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic_light": (19, (250, 170, 30)),
    "traffic_sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
CITYSCAPES19 = table_from_sets("cityscapes19", {name: colour for name, (_, colour) in CITYSCAPES_OFFICIAL.items()})

# The 16 classes of the lidarseg challenge with the fine ids (0-31) they merge.
NUSCENES_OFFICIAL: dict[str, tuple[int, ...]] = {
    "barrier": (9,),
    "bicycle": (14,),
    "bus": (15, 16),
    "car": (17,),
    "construction_vehicle": (18,),
    "motorcycle": (21,),
    "pedestrian": (2, 3, 4, 6),
    "traffic_cone": (12,),
    "trailer": (22,),
    "truck": (23,),
    "driveable_surface": (24,),
    "other_flat": (25,),
    "sidewalk": (26,),
    "terrain": (27,),
    "manmade": (28,),
    "vegetation": (30,),
}
NUSCENES16 = table_from_sets("nuscenes16", _spread_colours(list(NUSCENES_OFFICIAL)))


def _by_class(classes: Mapping[str, tuple[int, ...]], ignored: tuple[int, ...]) -> dict[int, tuple[str, ...]]:
    return {i: IGNORED for i in ignored} | {i: (name,) for name, ids in classes.items() for i in ids}


DRIVING12_IDS: dict[str, Ids] = {
    "pandaset": PANDASET,
    "semantickitti": SEMANTICKITTI,
    "camvid": CAMVID,
    "cityscapes": CITYSCAPES,
    "nuscenes": NUSCENES,
    "plain": PLAIN,
}
NATIVE: dict[str, tuple[ClassTable, Ids]] = {
    "pandaset": (PANDASET42, {i + 1: (name,) for i, name in enumerate(PANDASET_NAMES)}),
    "semantickitti": (SEMANTICKITTI19, _by_class(SEMANTICKITTI_OFFICIAL, (0, 1, 52, 99))),
    "camvid": (CAMVID11, {i: (name,) for i, name in enumerate(CAMVID11.names)} | {11: IGNORED}),
    "cityscapes": (
        CITYSCAPES19,
        dict.fromkeys(CITYSCAPES, IGNORED) | {i: (name,) for name, (i, _) in CITYSCAPES_OFFICIAL.items()},
    ),
    "nuscenes": (NUSCENES16, _by_class(NUSCENES_OFFICIAL, (0, 1, 5, 7, 8, 10, 11, 13, 19, 20, 29, 31))),
}


def label_map(data_set: str, classes: str) -> LabelMap:
    """The map from a data set's ids to labels.

    Args:
        data_set: whose ids, for example ``pandaset``.
        classes: ``driving12``, ``native`` (the data set's official table), or the path of a YAML file with
            ``names: {class: [r, g, b]}``, optional ``sets: [[class, class], ...]`` and
            ``data_sets: {data set: {id: class | [class, ...] | null}}``.

    Raises:
        ValueError: no such data set or table, or a YAML file that breaks these rules.
        FileNotFoundError: the YAML file is not there.
    """
    if classes.endswith((".yaml", ".yml")):
        return _from_yaml(data_set, Path(classes))
    if classes not in ("driving12", "native"):
        raise ValueError(f"classes is {classes!r}; choose driving12, native or the path of a YAML file (*.yaml)")
    if data_set not in DRIVING12_IDS:
        near = difflib.get_close_matches(data_set, DRIVING12_IDS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"no label map for data set {data_set!r}; there are {', '.join(sorted(DRIVING12_IDS))}{hint}")
    if classes == "driving12":
        return _build(data_set, DRIVING12, DRIVING12_IDS[data_set])
    if data_set not in NATIVE:
        raise ValueError(f"{data_set} has no class table of its own here; choose classes driving12 or a YAML file")
    return _build(data_set, *NATIVE[data_set])


def _build(data_set: str, table: ClassTable, ids: Ids) -> LabelMap:
    return LabelMap(data_set, table, {i: table.label_of(names) for i, names in ids.items()})


def label_map_of(data_set: str, classes: str, ids: Mapping[Any, Any], where: str) -> LabelMap:
    """The map that a log declares for itself: ``{id: class | [class, ...] | null}``.

    Args:
        data_set: whose ids, for error messages.
        classes: ``driving12``, or ``native`` for a table of the declared classes themselves, in the order of their ids.
        ids: what each id means.
        where: named in errors.

    Raises:
        ValueError: an id that is no integer from 0 to 65535, or a class that the table does not have.
    """
    bad = next((i for i in ids if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < 65536), None)
    if bad is not None:
        raise ValueError(f"{where}: class id {bad!r}; expected integers from 0 to 65535")
    if classes not in ("driving12", "native"):
        raise ValueError(f"classes is {classes!r}; choose driving12, native or the path of a YAML file (*.yaml)")
    try:
        named = {i: _names(ids[i]) for i in sorted(ids)}
        table = DRIVING12
        if classes == "native":
            names = list(dict.fromkeys(name for members in named.values() for name in members))
            table = table_from_sets(data_set, _spread_colours(names))
        return _build(data_set, table, named)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def class_table(classes: str) -> ClassTable:
    """The table of ``driving12`` or of a YAML file, for a log that has no labels of its own.

    Raises:
        ValueError: another name (``native`` means nothing without labels), or a broken YAML file.
        FileNotFoundError: the YAML file is not there.
    """
    if classes.endswith((".yaml", ".yml")):
        return _read_yaml(Path(classes))[0]
    if classes != "driving12":
        raise ValueError(f"classes is {classes!r}; a log without labels takes driving12 or a YAML file (*.yaml)")
    return DRIVING12


def _from_yaml(data_set: str, path: Path) -> LabelMap:
    table, data_sets = _read_yaml(path)
    if data_set not in data_sets:
        raise ValueError(f"{path}: data_sets has no {data_set}; it has {', '.join(map(str, data_sets))}")
    try:
        return _build(data_set, table, {int(i): _names(v) for i, v in data_sets[data_set].items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: data_sets.{data_set}: {error}") from error


def _read_yaml(path: Path) -> tuple[ClassTable, Mapping[str, Any]]:
    """The class table of a YAML file and what it says of each data set."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such class table; expected a YAML file with names and data_sets")
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not {"names", "data_sets"} <= set(content) <= {"names", "sets", "data_sets"}:
        raise ValueError(f"{path}: expected the keys names and data_sets, and optionally sets, and no others")
    if not isinstance(content["data_sets"], dict):
        raise ValueError(f"{path}: data_sets is no mapping; expected data_sets: {{data set: {{id: class}}}}")
    try:
        colours = {str(name): tuple(int(v) for v in rgb) for name, rgb in content["names"].items()}
        if any(len(rgb) != 3 or not all(0 <= v <= 255 for v in rgb) for rgb in colours.values()):
            raise ValueError("each class needs a colour [r, g, b] with 0 to 255")
        sets = tuple(tuple(str(name) for name in members) for members in content.get("sets") or [])
        return table_from_sets(path.stem, colours, sets), content["data_sets"]  # type: ignore[arg-type]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return IGNORED
    return (value,) if isinstance(value, str) else tuple(str(name) for name in value)
