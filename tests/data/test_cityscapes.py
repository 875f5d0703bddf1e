import shutil

import numpy as np
import pytest
from make_logs import make_cityscapes_log
from scene import View

from fusionseg.data.cityscapes import Cityscapes
from fusionseg.data.files import read_label_image
from fusionseg.data.open import open_log
from fusionseg.label_maps import label_map

TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14}
TRAIN_IDS |= {28: 15, 31: 16, 32: 17, 33: 18}


def test_native_labels_are_the_official_train_ids(shared_data):
    log = open_log(shared_data / "cityscapes", classes="native")
    assert log.format == "cityscapes" and len(log.frames) == 1 and len(log.table) == 19
    labels = log.sample(0, "camera").pixel_labels
    folder = shared_data / "cityscapes" / "gtFine" / "val" / "frankfurt"
    official = read_label_image(folder / "frankfurt_000000_000294_gtFine_labelTrainIds.png")
    # the two pictures of this copy were made smaller apart, so that they differ at a few edges
    assert (labels == official).mean() > 0.997
    for label in np.unique(labels):
        assert np.bincount(official[labels == label]).argmax() == label


def test_all_34_ids_are_known():
    native = label_map("cityscapes", "native")(np.arange(34), "ids")
    assert native.tolist() == [TRAIN_IDS.get(i, 255) for i in range(34)]
    common = label_map("cityscapes", "driving12")
    names = [common.table.label_name(label) for label in common(np.array([7, 14, 25, 27, 30, 4, 255]), "ids")]
    assert names == ["road", "barrier", "two_wheeler", "car|large_vehicle", "large_vehicle", "ignored", "ignored"]


def test_calibration_follows_the_image_size(tmp_path):
    log = Cityscapes(make_cityscapes_log(tmp_path / "set", size=(48, 96)))
    assert np.allclose(log.sample(0, "camera").camera.K, View(96, 48).K)


def test_without_calibration_the_camera_is_nominal_and_without_gt_fine_there_are_no_labels(tmp_path):
    folder = make_cityscapes_log(tmp_path / "set", size=(48, 96))
    shutil.rmtree(folder / "camera")
    shutil.rmtree(folder / "gtFine")
    sample = Cityscapes(folder, hfov_deg=90.0).sample(0, "camera")
    assert sample.pixel_labels is None
    assert np.isclose(sample.camera.K[0, 0], 48.0)


def test_splits(tmp_path):
    folder = make_cityscapes_log(tmp_path / "set")
    assert len(Cityscapes(folder).frames) == 4
    val = Cityscapes(folder, split="val")
    assert len(val.frames) == 2 and val.image_path(0).parent.name == "frankfurt"
    with pytest.raises(FileNotFoundError, match="test/CITY"):
        Cityscapes(folder, split="test")
