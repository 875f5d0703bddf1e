"""Every mistake in the input ends in one line that names what is wrong and says the rule; nothing is half-read."""

import gzip
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import make_logs
import numpy as np
import pytest
import yaml

from fusionseg.config import load_config
from fusionseg.data.images import Images
from fusionseg.data.log import FrameError, Skipped
from fusionseg.data.open import LOADERS, open_log
from fusionseg.data.points import read_points
from fusionseg.files import atomic_write
from fusionseg.geometry.camera import Camera, camera_from_dict
from fusionseg.geometry.transform import check_rigid, rotation_from_quaternion
from fusionseg.label_maps import label_map
from fusionseg.labels import DRIVING12, ClassTable
from fusionseg.sample import Sample

Break = Callable[[Path], Any]


@dataclass(frozen=True)
class Bad:
    """A valid log with one thing broken, and what the error must say."""

    id: str
    maker: str
    break_it: Break
    says: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


def one(folder: Path, pattern: str, position: int = 1) -> Path:
    return sorted(folder.glob(pattern))[position]


def remove(pattern: str, position: int = 1) -> Break:
    def break_it(folder: Path) -> None:
        path = one(folder, pattern, position)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return break_it


def content(pattern: str, new: bytes | Callable[[bytes], bytes], position: int = 1) -> Break:
    def break_it(folder: Path) -> None:
        path = one(folder, pattern, position)
        path.write_bytes(new(path.read_bytes()) if callable(new) else new)

    return break_it


def png(pattern: str, image: np.ndarray) -> Break:
    return lambda folder: make_logs.write_png(one(folder, pattern), image)


def calibration(change: Callable[[dict[str, Any]], Any]) -> Break:
    def break_it(folder: Path) -> None:
        file = folder / "calibration.yaml"
        values = yaml.safe_load(file.read_text())
        change(values)
        file.write_text(yaml.safe_dump(values))

    return break_it


def front(**values: Any) -> Break:
    return calibration(lambda content: content["cameras"]["front"].update(values))


def without(key: str) -> Break:
    return calibration(lambda content: content["cameras"]["front"].pop(key))


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def ends_in_mid_point(data: bytes) -> bytes:
    return data[:-7]


def npy(pattern: str, array: np.ndarray) -> Break:
    return lambda folder: np.save(one(folder, pattern), array, allow_pickle=True)


def hostile(data: bytes) -> bytes:
    return gzip.compress(b"cos\nsystem\n(S'touch hostile'\ntR.")


def relabelled(data: bytes) -> bytes:
    table = pickle.loads(gzip.decompress(data))
    table.loc[5, "class"] = 77
    return gzip.compress(pickle.dumps(table, protocol=4))


def shorter(data: bytes) -> bytes:
    return gzip.compress(pickle.dumps(pickle.loads(gzip.decompress(data)).iloc[:-1], protocol=4))


def no_intensity(data: bytes) -> bytes:
    return gzip.compress(pickle.dumps(pickle.loads(gzip.decompress(data)).drop(columns="i"), protocol=4))


CV = "0001TP_000030.png"
CITY = "*/train/aachen/aachen_000000_000001"
FRAMES = [
    Bad("plain: PNG truncated", "plain", content("images/front/*", half), ("truncated", ".png")),
    Bad("plain: PNG that is text", "plain", content("images/front/*", b"hello"), ("neither JPEG nor PNG", ".png")),
    Bad("plain: JPEG of rubbish", "plain", content("images/front/*", b"\xff\xd8\xff" + b"x" * 99), ("header", ".png")),
    Bad("plain: image empty", "plain", content("images/front/*", b""), ("file is empty", ".png")),
    Bad("plain: image of another size", "plain", png("images/front/*", np.zeros((32, 40, 3), np.uint8)), ("40x32",)),
    Bad("plain: sweep empty", "plain", content("sweeps/*", b""), ("file is empty", ".bin")),
    Bad("plain: sweep ends in mid-point", "plain", content("sweeps/*", ends_in_mid_point), ("no multiple of 16",)),
    Bad("plain: label count", "plain", npy("labels/*", np.zeros(7, np.uint8)), ("(7,)", "one class id for each")),
    Bad("plain: labels are floats", "plain", npy("labels/*", np.zeros(9)), ("float64", "integers")),
    Bad("plain: labels are objects", "plain", npy("labels/*", np.array([{}])), ("cannot be read as .npy",)),
    Bad("plain: labels are no npy", "plain", content("labels/*", b"\x93NUMPY"), ("cannot be read as .npy",)),
    Bad(
        "plain: class id unknown",
        "plain",
        lambda folder: np.save(f := one(folder, "labels/*"), np.load(f) + np.uint8(50)),
        ("class id 50", ".npy", "known are 0, 1"),
    ),
    Bad("camvid: annotation missing", "camvid", remove(f"trainannot/{CV}", 0), (CV, "cannot be read")),
    Bad(
        "camvid: annotation in colour",
        "camvid",
        lambda folder: make_logs.write_png(folder / "trainannot" / CV, np.zeros((48, 64, 3), np.uint8)),
        ("3 channels", "one channel"),
    ),
    Bad(
        "camvid: 16-bit annotation in colour",
        "camvid",
        lambda folder: make_logs.write_png(folder / "trainannot" / CV, np.zeros((48, 64, 3), np.uint16)),
        ("3 channels", "one channel"),
    ),
    Bad(
        "camvid: annotation of another size",
        "camvid",
        lambda folder: make_logs.write_png(folder / "trainannot" / CV, np.zeros((24, 32), np.uint8)),
        ("(24, 32)", "sizes must agree"),
    ),
    Bad(
        "camvid: class id unknown",
        "camvid",
        lambda folder: make_logs.write_png(folder / "trainannot" / CV, np.full((48, 64), 12, np.uint8)),
        ("class id 12", CV),
    ),
    Bad("cityscapes: labels missing", "cityscapes", remove(f"{CITY}_gtFine_labelIds.png", 0), ("labelIds.png",)),
    Bad("cityscapes: camera JSON broken", "cityscapes", content(f"{CITY}_camera.json", b"{", 0), ("not valid JSON",)),
    Bad("cityscapes: camera JSON empty", "cityscapes", content(f"{CITY}_camera.json", b"{}", 0), ("fx, fy, u0, v0",)),
    Bad(
        "cityscapes: instance ids instead of classes",
        "cityscapes",
        lambda folder: make_logs.write_png(
            one(folder, f"{CITY}_gtFine_labelIds.png", 0), np.full((48, 96), 26001, np.uint16)
        ),
        ("class id 26001",),
    ),
    Bad("semantickitti: sweep empty", "semantickitti", content("**/velodyne/*.bin", b""), ("file is empty", ".bin")),
    Bad(
        "semantickitti: sweep ends in mid-point",
        "semantickitti",
        content("**/velodyne/*.bin", ends_in_mid_point),
        ("no multiple of 16", "000001.bin"),
    ),
    Bad("semantickitti: label count", "semantickitti", content("**/labels/*.label", half), ("000001.label",)),
    Bad(
        "semantickitti: class id unknown",
        "semantickitti",
        content("**/labels/*.label", lambda data: b"\x07\x00\x00\x00" + data[4:]),
        ("class id 7", "000001.label"),
    ),
    Bad("semantickitti: PNG truncated", "semantickitti", content("**/image_2/*.png", half), ("000001.png",)),
    Bad(
        "kitti_raw: sweep ends in mid-point",
        "kitti_raw",
        content("**/*.bin", ends_in_mid_point),
        ("no multiple of 16",),
    ),
    Bad("kitti_raw: image is text", "kitti_raw", content("**/*.png", b"no image"), ("neither JPEG nor PNG",)),
    Bad("kitti_object: calibration missing", "kitti_object", remove("training/calib/*.txt"), ("000001.txt",)),
    Bad(
        "kitti_object: calibration without Tr",
        "kitti_object",
        content("training/calib/*.txt", lambda data: data.replace(b"Tr_velo_to_cam", b"Tr_velo")),
        ("Tr_velo_to_cam", "000001.txt"),
    ),
    Bad(
        "kitti_object: calibration in words",
        "kitti_object",
        content("training/calib/*.txt", lambda data: data.replace(b"P2: ", b"P2: one ")),
        ("P2", "000001.txt"),
    ),
    Bad("pandaset: image truncated", "pandaset", content("camera/front_camera/*.jpg", half), ("01.jpg", "truncated")),
    Bad(
        "pandaset: image of another size",
        "pandaset",
        png("camera/front_camera/*.jpg", np.zeros((540, 960, 3), np.uint8)),
        ("01.jpg", "960x540"),
    ),
    Bad("pandaset: pickle is no gzip", "pandaset", content("lidar/*.pkl.gz", b"\x80\x04."), ("01.pkl.gz",)),
    Bad("pandaset: pickle truncated", "pandaset", content("lidar/*.pkl.gz", half), ("01.pkl.gz",)),
    Bad("pandaset: hostile pickle", "pandaset", content("lidar/*.pkl.gz", hostile), ("01.pkl.gz", "system")),
    Bad("pandaset: column missing", "pandaset", content("lidar/*.pkl.gz", no_intensity), ("column 'i'", "01.pkl.gz")),
    Bad("pandaset: class id unknown", "pandaset", content("**/semseg/*.pkl.gz", relabelled), ("class id 77",)),
    Bad("pandaset: label count", "pandaset", content("**/semseg/*.pkl.gz", shorter), ("labels for a sweep of",)),
]

OPENING = [
    Bad("plain: calibration missing", "plain", remove("calibration.yaml", 0), ("calibration.yaml", "no such file")),
    Bad(
        "plain: YAML with a tab",
        "plain",
        content("calibration.yaml", b"cameras:\n\tfront: 1\n", 0),
        ("line 2", "spaces"),
    ),
    Bad("plain: calibration is a list", "plain", content("calibration.yaml", b"- 1\n", 0), ("expected a mapping",)),
    Bad(
        "plain: calibration in Latin-1", "plain", content("calibration.yaml", b"cameras: \xe9", 0), ("not valid YAML",)
    ),
    Bad("plain: K missing", "plain", without("K"), ("camera 'front'", "'K' is missing")),
    Bad("plain: size missing", "plain", without("size"), ("camera 'front'", "'size' is missing")),
    Bad("plain: transform missing", "plain", without("camera_T_lidar"), ("'front'", "'camera_T_lidar' is missing")),
    Bad("plain: key unknown", "plain", front(distorsion=[0.0]), ("unknown key 'distorsion'", "model")),
    Bad(
        "plain: top-level key unknown",
        "plain",
        calibration(lambda content: content.update(tolerance=3)),
        ("unknown key 'tolerance'", "did you mean 'tolerance_ns'?"),
    ),
    Bad(
        "plain: cameras under another name",
        "plain",
        calibration(lambda content: content.update(cams=content.pop("cameras"))),
        ("calibration.yaml", "unknown key 'cams'", "did you mean 'cameras'?"),
    ),
    Bad(
        "plain: top-level key like no other",
        "plain",
        calibration(lambda content: content.update({7: 3})),
        ("unknown key '7'", "a calibration has cameras, intensity_max, tolerance_ns"),
    ),
    Bad("plain: focal length negative", "plain", front(K=[-50, 50, 48, 32]), ("-50", "must be positive")),
    Bad("plain: K with three numbers", "plain", front(K=[50, 50, 48]), ("K has shape (3,)", "3x3")),
    Bad("plain: size of zero", "plain", front(size=[0, 64]), ("0x64", "at least 1x1")),
    Bad("plain: camera model unknown", "plain", front(model="omni"), ("'omni'", "pinhole, fisheye")),
    Bad("plain: fisheye with 5 numbers", "plain", front(model="fisheye", distortion=[0.1] * 5), ("5", "(4,)")),
    Bad("plain: pinhole with 3 numbers", "plain", front(distortion=[0.1] * 3), ("3 distortion", "(0, 4, 5, 8)")),
    Bad("plain: distortion is NaN", "plain", front(distortion=[float("nan")] * 4), ("nan", "finite")),
    Bad("plain: transform scales", "plain", front(camera_T_lidar=(2 * np.eye(4)).tolist()), ("is no rotation",)),
    Bad("plain: transform mirrors", "plain", front(camera_T_lidar=np.diag([1.0, 1, -1, 1]).tolist()), ("no rotation",)),
    Bad("plain: transform is 3x3", "plain", front(camera_T_lidar=np.eye(3).tolist()), ("(3, 3)", "expected (4, 4)")),
    Bad(
        "plain: quaternion of zeros",
        "plain",
        front(camera_T_lidar={"quaternion": [0, 0, 0, 0], "translation": [0, 0, 0]}),
        ("cannot be normalised", "camera 'front'"),
    ),
    Bad(
        "plain: quaternion without translation",
        "plain",
        front(camera_T_lidar={"quaternion": [1, 0, 0, 0]}),
        ("expected quaternion (w, x, y, z) and translation",),
    ),
    Bad(
        "plain: tolerance in words",
        "plain",
        calibration(lambda c: c.update(tolerance_ns="50 ms")),
        ("'50 ms'", "number"),
    ),
    Bad(
        "plain: infinite tolerance",
        "plain",
        calibration(lambda c: c.update(tolerance_ns=float("inf"))),
        ("tolerance_ns is inf", "expected a positive number"),
    ),
    Bad(
        "plain: keys of two types that a camera does not have",
        "plain",
        calibration(lambda c: c["cameras"]["front"].update({1: 2, "zoom": 3})),
        ("unknown key '1'", "a camera has K"),
    ),
    Bad(
        "pandaset: poses are no list",
        "pandaset",
        content("lidar/poses.json", b"null", 0),
        ("expected a list of poses",),
    ),
    Bad(
        "plain: image folder without calibration",
        "plain",
        lambda folder: (folder / "images" / "front").rename(folder / "images" / "rear"),
        ("no camera 'rear'", "it has front"),
    ),
    Bad(
        "plain: stamp is a name",
        "plain",
        lambda f: one(f, "sweeps/*").rename(f / "sweeps" / "a.bin"),
        ("a.bin", "stamp"),
    ),
    Bad(
        "plain: two sweeps of one stamp",
        "plain",
        lambda folder: shutil.copy(one(folder, "sweeps/*"), one(folder, "sweeps/*").with_suffix(".npy")),
        ("same stamp",),
    ),
    Bad("plain: poses too few", "plain", content("poses.txt", half, 0), ("poses.txt", "one line per sweep")),
    Bad(
        "plain: pose of 11 numbers",
        "plain",
        content("poses.txt", lambda data: b"\n".join(line.rsplit(b" ", 1)[0] for line in data.splitlines()), 0),
        ("poses.txt line 1", "12 numbers"),
    ),
    Bad(
        "plain: classes.yaml names no class",
        "plain",
        lambda f: (f / "labels/classes.yaml").write_text("1: roud"),
        ("roud",),
    ),
    Bad("plain: classes.yaml by words", "plain", lambda f: (f / "labels/classes.yaml").write_text("a: road"), ("'a'",)),
    Bad(
        "plain: a set that is not declared",
        "plain",
        lambda f: (f / "labels/classes.yaml").write_text("1: [road, sky]"),
        ("classes.yaml", "{road, sky}", "not declared"),
    ),
    Bad("plain: nothing in it", "plain", lambda f: [shutil.rmtree(f / d) for d in ("sweeps", "images")], ("neither",)),
    Bad("plain: split", "plain", lambda folder: None, ("split is 'val'", "no splits"), {"split": "val"}),
    Bad("camvid: split unknown", "camvid", lambda folder: None, ("'dev'", "train, val, test"), {"split": "dev"}),
    Bad("camvid: split without annotations", "camvid", remove("valannot", 0), ("valannot/",), {"split": "val"}),
    Bad(
        "camvid: split without images",
        "camvid",
        lambda f: [p.unlink() for p in f.glob("val/*")],
        ("no image",),
        {"split": "val"},
    ),
    Bad(
        "camvid: field of view of 180 degrees",
        "camvid",
        lambda folder: None,
        ("180", "between 1 and 170"),
        {"hfov_deg": 180.0},
    ),
    Bad(
        "cityscapes: split not there",
        "cityscapes",
        lambda folder: None,
        ("leftImg8bit", "test/CITY"),
        {"split": "test"},
    ),
    Bad("cityscapes: option unknown", "cityscapes", lambda folder: None, ("cityscapes", "'lidar'"), {"lidar": 0}),
    Bad("semantickitti: calib.txt missing", "semantickitti", remove("**/calib.txt", 0), ("calib.txt",)),
    Bad(
        "semantickitti: calib.txt without Tr",
        "semantickitti",
        content("**/calib.txt", lambda data: data.replace(b"Tr: ", b"T: "), 0),
        ("calib.txt", "Tr"),
    ),
    Bad(
        "kitti_raw: velo_to_cam missing", "kitti_raw", remove("**/calib_velo_to_cam.txt", 0), ("calib_velo_to_cam.txt",)
    ),
    Bad("kitti_raw: cam_to_cam missing", "kitti_raw", remove("**/calib_cam_to_cam.txt", 0), ("calib_cam_to_cam.txt",)),
    Bad("pandaset: camera poses missing", "pandaset", remove("camera/front_camera/poses.json", 0), ("poses.json",)),
    Bad(
        "pandaset: intrinsics missing",
        "pandaset",
        remove("camera/front_camera/intrinsics.json", 0),
        ("intrinsics.json",),
    ),
    Bad(
        "pandaset: focal length negative",
        "pandaset",
        content("camera/front_camera/intrinsics.json", json.dumps({"fx": -1, "fy": 1, "cx": 0, "cy": 0}).encode(), 0),
        ("intrinsics.json", "positive"),
    ),
    Bad("pandaset: poses are text", "pandaset", content("lidar/poses.json", b"poses", 0), ("poses.json", "JSON")),
    Bad("pandaset: lidar unknown", "pandaset", lambda folder: None, ("lidar is 7", "merged"), {"lidar": 7}),
    Bad(
        "pandaset: class table unknown",
        "pandaset",
        lambda folder: None,
        ("'nativ'", "driving12, native"),
        {"classes": "nativ"},
    ),
    Bad("images: folder without pictures", "plain", lambda folder: None, ("no .jpg",), {"format": "images"}),
    Bad("format unknown", "plain", lambda folder: None, ("'plane'", "did you mean plain?"), {"format": "plane"}),
    Bad(
        "loader that is no module",
        "plain",
        lambda folder: None,
        ("no_such:Log", "module:Class"),
        {"format": "no_such:Log"},
    ),
    Bad("loader that is no log", "plain", lambda folder: None, ("no subclass",), {"format": "pathlib:Path"}),
]


def make_broken(bad: Bad, folder: Path) -> Path:
    getattr(make_logs, f"make_{bad.maker}_log")(folder)
    bad.break_it(folder)
    return folder


def check(error: BaseException, says: tuple[str, ...]) -> None:
    """One line that names all that it must."""
    message = str(error)
    assert "\n" not in message and len(message) > 20
    for part in says:
        assert part in message


@pytest.mark.parametrize("bad", FRAMES, ids=lambda bad: bad.id)
def test_a_bad_frame_is_named_and_skipped_alone(tmp_path, bad, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = make_broken(bad, tmp_path / "log")
    options = {"split": "train"} if bad.maker in ("camvid", "cityscapes") else {}
    log = open_log(folder, bad.maker, **options)
    with pytest.raises(FrameError) as caught:
        list(log.iterate(strict=True))
    check(caught.value, bad.says)
    results = list(log.iterate(strict=False))
    skipped = [result for result in results if isinstance(result, Skipped)]
    assert len(results) == len(log.frames) >= 2 and len(skipped) == 1
    assert skipped[0].frame == log.frames[1]
    assert skipped[0].reason == str(caught.value)
    assert not (tmp_path / "hostile").exists()


@pytest.mark.parametrize("bad", OPENING, ids=lambda bad: bad.id)
def test_a_bad_log_does_not_open(tmp_path, bad):
    folder = make_broken(bad, tmp_path / "log")
    options = {"format": bad.maker, **bad.options}
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        open_log(folder, **options)
    check(caught.value, bad.says)


CAMERA = Camera.from_focal(8, 6, 5.0, 5.0, 3.5, 2.5)
POINTS = np.zeros((3, 4), np.float32)


def sample(**values: Any) -> Sample:
    return Sample(**{"log": "log", "frame": 4, "camera_name": "front", "camera": CAMERA, **values})


CALLS = {
    "sample: points of 3 columns": (lambda: sample(points_lidar=POINTS[:, :3]), ("frame 4 front", "expected (N, 4)")),
    "sample: points in float64": (lambda: sample(points_lidar=POINTS.astype(float)), ("float64", "expected float32")),
    "sample: image of another size": (lambda: sample(image=np.zeros((8, 6, 3), np.uint8)), ("(8, 6, 3)", "(6, 8, 3)")),
    "sample: image in float": (lambda: sample(image=np.zeros((6, 8, 3))), ("image is float64", "uint8")),
    "sample: labels too few": (
        lambda: sample(points_lidar=POINTS, point_labels=np.zeros(2, np.uint8)),
        ("point_labels", "(2,)", "(3,)"),
    ),
    "sample: not rigid": (lambda: sample(camera_T_lidar=np.ones((4, 4))), ("camera_T_lidar", "no rotation")),
    "camera: K is NaN": (lambda: Camera(8, 6, np.full((3, 3), np.nan)), ("finite 3x3",)),
    "camera: last row": (lambda: Camera(8, 6, np.diag([5.0, 5.0, 2.0])), ("expected [[fx, s, cx]",)),
    "camera: size in words": (
        lambda: camera_from_dict({"K": [5, 5, 3, 2], "size": ["wide", 6]}, "cam.yaml"),
        ("cam.yaml",),
    ),
    "transform: last row": (lambda: check_rigid(np.eye(4) + np.eye(4, k=-3), "T"), ("T", "last row")),
    "transform: infinite": (lambda: check_rigid(np.diag([np.inf, 1, 1, 1]), "T"), ("not finite",)),
    "quaternion: of three": (lambda: rotation_from_quaternion([1, 0, 0]), ("(3,)", "w, x, y, z")),
    "labels: class unknown": (lambda: DRIVING12.label_of(("rode",)), ("'rode'", "road, sidewalk")),
    "labels: name twice": (lambda: ClassTable("t", ("a", "a"), ((0, 0, 0),) * 2), ("twice",)),
    "labels: data set unknown": (lambda: label_map("camvit", "driving12"), ("'camvit'", "did you mean camvid?")),
    "labels: negative id": (lambda: label_map("camvid", "native")(np.array([-1]), "f.png"), ("f.png", "class id -1")),
}


@pytest.mark.parametrize("call, says", CALLS.values(), ids=CALLS)
def test_a_value_that_breaks_a_contract_is_refused(call, says):
    with pytest.raises(ValueError) as caught:
        call()
    check(caught.value, says)


CONFIGS = {
    "config: key unknown": ("epoch: 3\n", (), ("'epoch'", "did you mean 'epochs'?")),
    "config: nested key unknown": ("model:\n  atention: full\n", (), ("'model.atention'", "'attention'")),
    "config: wrong type": ("epochs: many\n", (), ("epochs is 'many'", "int")),
    "config: boolean as number": ("epochs: true\n", (), ("epochs is True", "int")),
    "config: size of three": ("data:\n  size: [1, 2, 3]\n", (), ("data.size has 3", "expected 2")),
    "config: a number as section": ("model: 3\n", (), ("model is 3", "mapping")),
    "config: list as file": ("- 1\n", (), ("mapping",)),
    "config: YAML with a tab": ("model:\n\tpretrained: true\n", (), ("not valid YAML",)),
    "config: override without =": ("epochs: 3\n", ("epochs",), ("'epochs'", "key=value")),
    "config: override of no key": ("epochs: 3\n", ("optimizer.rl=1",), ("'optimizer.rl'",)),
}


@pytest.mark.parametrize("text, overrides, says", CONFIGS.values(), ids=CONFIGS)
def test_a_bad_config_names_the_file_and_the_key(tmp_path, text, overrides, says):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        load_config(file, overrides)
    check(caught.value, says)


POINT_FILES = {
    "points: suffix unknown": ("a.las", b"x", (".las", ".bin, .npy, .pcd, .ply")),
    "points: npy of one column": ("a.npy", np.zeros(4, np.float32), ("(4,)", "N, 3 or more")),
    "points: npy of words": ("a.npy", np.array([["a", "b", "c"]]), ("<U1", "N, 3 or more")),
    "points: npy truncated": ("a.npy", b"\x93NUMPY\x01\x00", ("cannot be read as .npy",)),
    "points: pcd without header": ("a.pcd", b"1 2 3\n", ("no PCD header", "POINTS")),
    "points: pcd with odd sizes": (
        "a.pcd",
        b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1\nPOINTS 1\nDATA ascii\n1 2 3\n",
        ("header cannot be understood",),
    ),
    "points: ply without header": ("a.ply", b"ply\nnothing\n", ("no PLY header", "end_header")),
    "points: ply of unknown type": (
        "a.ply",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty real x\nend_header\n1\n",
        ("header cannot be understood", "real"),
    ),
}


@pytest.mark.parametrize("name, data, says", POINT_FILES.values(), ids=POINT_FILES)
def test_a_bad_point_file_is_named(tmp_path, name, data, says):
    path = tmp_path / name
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        np.save(path, data)
    with pytest.raises(FrameError) as caught:
        read_points(path)
    check(caught.value, (name, *says))


def test_points_that_are_not_there(tmp_path):
    with pytest.raises(FrameError) as caught:
        read_points(tmp_path / "gone.bin")
    check(caught.value, ("gone.bin", "cannot be read"))


def test_intensity_of_no_scale(tmp_path):
    with pytest.raises(ValueError, match="intensity_max is 0; expected a positive number"):
        read_points(tmp_path / "a.bin", intensity_max=0)


def test_a_path_that_is_not_there(tmp_path):
    for call in (lambda: open_log(tmp_path / "gone"), lambda: open_log(tmp_path / "gone", "plain")):
        with pytest.raises(FileNotFoundError) as caught:
            call()
        check(caught.value, ("gone", "no such file or folder"))
    with pytest.raises(FileNotFoundError) as caught:
        Images(tmp_path / "gone")
    check(caught.value, ("gone", "no such folder or video file"))


def test_a_layout_that_nobody_knows(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(ValueError) as caught:
        open_log(tmp_path)
    formats = ", ".join(LOADERS)
    check(caught.value, (f"{tmp_path}: no known log layout; ", "holds readme.txt; ", formats, "--help", "--format"))
    for i in range(9):
        (tmp_path / f"part{i}").mkdir()
    with pytest.raises(ValueError) as caught:
        open_log(tmp_path)
    check(caught.value, ("holds part0/, part1/, part2/, part3/ and 6 more; ",))
    assert len(str(caught.value)) - len(str(tmp_path)) - len(formats) < 160
    with pytest.raises(ValueError) as caught:
        open_log(tmp_path / "readme.txt")
    check(caught.value, ("readme.txt: no known log layout; it is a file; ",))


def test_a_video_that_is_none(tmp_path):
    (tmp_path / "drive.mp4").write_bytes(b"no video at all")
    with pytest.raises(ValueError) as caught:
        open_log(tmp_path / "drive.mp4")
    check(caught.value, ("drive.mp4", "cannot be opened as a video"))


def test_an_image_beyond_the_limit_is_not_decoded(tmp_path):
    good, data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
    assert good
    header = bytearray(data.tobytes())
    header[16:24] = (40_000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(bytes(header))
    with pytest.raises(FrameError) as caught:
        Images(tmp_path).sample(0, "camera")
    check(caught.value, ("a.png", "40000x40000", "64 megapixels"))


def test_a_frame_or_camera_that_the_log_does_not_have(tmp_path):
    log = open_log(make_logs.make_plain_log(tmp_path / "log"))
    with pytest.raises(KeyError, match="no camera 'rear'; it has front"):
        log.sample(0, "rear")
    with pytest.raises(KeyError, match="no frame 99"):
        log.sample(99, "front")


def test_an_output_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError) as caught, atomic_write(tmp_path / "file" / "out.json") as file:
        file.write(b"never")
    check(caught.value, ("out.json", "choose a folder you can write to"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError) as caught, atomic_write(tmp_path / "out.json") as file:
        file.write(b"never")
    check(caught.value, ("out.json", "choose a folder you can write to"))
