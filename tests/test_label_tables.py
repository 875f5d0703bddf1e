"""Maps from data set ids to labels: complete, and the traps of each data set."""

import numpy as np
import pytest

from fusionseg.label_maps import DRIVING12_IDS, label_map, label_map_of
from fusionseg.labels import IGNORE

ALL_IDS = {
    "camvid": range(12),
    "cityscapes": [*range(34), 255],
    "nuscenes": range(32),
    "plain": [*range(12), 255],
    "pandaset": range(1, 43),
}
SIZES = {"camvid": 11, "cityscapes": 19, "nuscenes": 16, "pandaset": 42, "semantickitti": 19}


def names(data_set, ids, classes="driving12"):
    labels = label_map(data_set, classes)
    return [labels.table.label_name(label) for label in labels(np.array(ids), data_set)]


@pytest.mark.parametrize("data_set", ALL_IDS)
def test_exactly_the_ids_of_the_data_set_are_known(data_set):
    assert sorted(DRIVING12_IDS[data_set]) == sorted(ALL_IDS[data_set])


@pytest.mark.parametrize("data_set, size", SIZES.items())
def test_native_tables_have_their_official_size_and_use_every_class(data_set, size):
    labels = label_map(data_set, "native")
    assert len(labels.table) == size
    assert set(labels.labels.values()) - {IGNORE} == set(range(size))
    assert set(labels.labels) == set(DRIVING12_IDS[data_set])


def test_nuscenes_traps():
    assert names("nuscenes", [28, 25, 23, 5]) == [
        "building|barrier|static_object",
        "ignored",
        "car|large_vehicle",
        "person|two_wheeler",
    ]
    assert names("nuscenes", [15, 16, 4, 28, 0, 24], "native") == [
        "bus",
        "bus",
        "pedestrian",
        "manmade",
        "ignored",
        "driveable_surface",
    ]


def test_pandaset_and_semantickitti_traps():
    assert names("pandaset", [42, 1, 32, 12, 14]) == ["barrier|static_object", "ignored", "ignored", "sidewalk", "car"]
    assert names("semantickitti", [44, 60, 71, 49, 252, 254, 253]) == [
        "road",
        "road",
        "vegetation",
        "ignored",
        "car",
        "person",
        "two_wheeler",
    ]


def test_a_log_may_declare_its_own_ids():
    declared = {9: "kerb", 3: ["kerb", "wall"], 4: None}
    with pytest.raises(ValueError, match=r"classes.yaml: class 'kerb' is not in table driving12"):
        label_map_of("plain", "driving12", declared, "classes.yaml")
    with pytest.raises(ValueError, match=r"set \{kerb, wall\} is not declared"):
        label_map_of("plain", "native", declared, "classes.yaml")
    own = label_map_of("plain", "native", {9: "kerb", 3: "wall", 4: None}, "classes.yaml")
    assert own.table.names == ("wall", "kerb")
    assert own(np.array([9, 3, 4]), "file").tolist() == [1, 0, 255]
