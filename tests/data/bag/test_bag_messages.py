"""Image encodings, layouts of points and camera models, each against arrays that are known."""

import struct

import cv2
import numpy as np
import pytest

from fusionseg.data.bag import ros
from fusionseg.data.bag.container import Channel, one_type_name
from fusionseg.data.bag.messages import (
    CameraInfo,
    Cloud,
    Picture,
    after_stamp_s,
    camera_of,
    cloud_arrays,
    image_array,
)
from fusionseg.data.log import FrameError

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
GREY = RGB[..., 0]
HEIGHT, WIDTH = GREY.shape


def picture(encoding, pixels, pad=0, **options):
    rows = np.ascontiguousarray(pixels).reshape(HEIGHT, -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, pad)), constant_values=77)
    return Picture(encoding, rows.reshape(-1), WIDTH, HEIGHT, rows.shape[1], **options)


@pytest.mark.parametrize("pad", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("8UC3", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, GREY])),
        ("bgra8", np.dstack([RGB[..., ::-1], GREY])),
    ],
)
def test_colours(encoding, pixels, pad):
    np.testing.assert_array_equal(image_array(picture(encoding, pixels, pad), "here"), RGB)


def test_grey():
    expected = np.repeat(GREY[..., None], 3, axis=2)
    for encoding in ("mono8", "8UC1"):
        np.testing.assert_array_equal(image_array(picture(encoding, GREY, 3), "here"), expected)
    wide = GREY.astype(np.uint16) * 256 + 99
    np.testing.assert_array_equal(image_array(picture("mono16", wide.astype("<u2"), 2), "here"), expected)
    big = picture("mono16", wide.astype(">u2"), big_endian=True)
    np.testing.assert_array_equal(image_array(big, "here"), expected)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_patterns_give_the_colour_that_was_seen(pattern, bits):
    """An even colour, mosaicked by hand, comes back everywhere."""
    colour = dict(zip("rgb", (200, 90, 30), strict=True))
    tile = np.array([colour[letter] for letter in pattern]).reshape(2, 2)
    mosaic = np.tile(tile, (HEIGHT // 2, WIDTH // 2))
    pixels = mosaic.astype(np.uint8) if bits == 8 else (mosaic * 256).astype("<u2")
    image = image_array(picture(f"bayer_{pattern}{bits}", pixels), "here")
    np.testing.assert_array_equal(image, np.broadcast_to([200, 90, 30], image.shape))


def test_yuv_grey_stays_grey():
    luma = np.full((HEIGHT, WIDTH), 126, dtype=np.uint8)
    neutral = np.full_like(luma, 128)
    uyvy = np.stack([neutral, luma], axis=-1)
    first = image_array(picture("yuv422", uyvy), "here")
    np.testing.assert_array_equal(first, image_array(picture("yuv422_yuy2", uyvy[..., ::-1]), "here"))
    # 126 of 16..235 is half of full scale
    np.testing.assert_allclose(first, 128, atol=1)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_compressed_images(suffix):
    data = cv2.imencode(suffix, np.full((8, 8, 3), (30, 90, 200), np.uint8))[1].reshape(-1)
    image = image_array(Picture("rgb8; jpeg compressed bgr8", data, packed=True), "here")
    np.testing.assert_allclose(image, np.broadcast_to([200, 90, 30], (8, 8, 3)), atol=3)
    with pytest.raises(FrameError, match=r"here: .*truncated"):
        image_array(Picture("jpeg", data[: len(data) // 2], packed=True), "here")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (picture("hyper8", GREY), "image encoding 'hyper8' is not known; expected rgb8"),
        (Picture("rgb8", RGB.reshape(-1)[:-1], WIDTH, HEIGHT, 18), "71 bytes for 6x4 pixels of rgb8 in rows of 18"),
        (Picture("rgb8", RGB.reshape(-1), WIDTH, HEIGHT, 17), "contradicts itself"),
        (Picture("rgb8", RGB.reshape(-1), 0, 0, 0), "0x0 pixels"),
        (Picture("rgb8", RGB.reshape(-1), 2**20, 2**20, 3 * 2**20), "truncated"),
        (Picture("jpeg", np.frombuffer(b"h264 or so", np.uint8), packed=True), "neither JPEG nor PNG"),
    ],
)
def test_images_that_are_none(bad, message):
    with pytest.raises(FrameError, match=message):
        image_array(bad, "here")


def cloud(points, width=None, row_pad=0, **options):
    """A structured array as a message."""
    rows = points.reshape(-1, width or points.size)
    fields = {name: (offset, dtype) for name, (dtype, offset) in points.dtype.fields.items()}
    data = np.pad(np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), -1), ((0, 0), (0, row_pad)))
    step = points.dtype.itemsize
    return Cloud(fields, rows.shape[1], len(rows), step, data.shape[1], data.reshape(-1), **options)


def filled(dtype, count=6):
    points = np.zeros(count, dtype)
    for i, name in enumerate(points.dtype.names):
        points[name] = np.arange(count) + 10 * i
    return points


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "layout",
    [
        [("x", "f4"), ("y", "f4"), ("z", "f4"), ("intensity", "f4")],
        [("intensity", "u1"), ("z", "f8"), ("ring", "u2"), ("x", "f8"), ("y", "f8")],
        [("x", "i2"), ("y", "i2"), ("z", "i2"), ("reflectivity", "u2")],
    ],
)
@pytest.mark.parametrize("gaps", [False, True])
def test_any_layout_and_byte_order(order, layout, gaps):
    dtype = np.dtype([(name, order + kind) for name, kind in layout], align=gaps)
    points = filled(dtype)
    found, times = cloud_arrays(cloud(points, width=3, row_pad=7), "here")
    intensity = "reflectivity" if "reflectivity" in dtype.names else "intensity"
    expected = np.stack([points[name].astype(np.float32) for name in ("x", "y", "z", intensity)], axis=1)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32 and times is None


def test_every_point_stays_also_one_without_a_return():
    points = filled([(name, "<f4") for name in "xyz"])
    points["x"][2] = np.nan
    found, _ = cloud_arrays(cloud(points), "here")
    assert len(found) == 6 and np.isnan(found[2, 0]) and not found[:, 3].any()
    nothing = Cloud({}, 0, 0, 0, 0, np.zeros(0, np.uint8))
    assert cloud_arrays(nothing, "here")[0].shape == (0, 4)


def test_points_of_another_frame_are_moved():
    points = filled([(name, "<f4") for name in "xyz"])
    pose = np.array([[0, -1, 0, 5.0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    found, _ = cloud_arrays(cloud(points, frame_T_points=pose), "here")
    np.testing.assert_allclose(found[1, :3], [5 - 11, 1, 22])


def test_the_length_of_an_only_row_does_not_matter():
    whole = cloud(filled([(name, "<f4") for name in "xyz"]))
    found, _ = cloud_arrays(Cloud(**(whole.__dict__ | {"row_step": 0})), "here")
    np.testing.assert_array_equal(found, cloud_arrays(whole, "here")[0])


def test_clouds_that_are_none():
    with pytest.raises(FrameError, match="points have no field 'z'; they have x, y"):
        cloud_arrays(cloud(filled([("x", "<f4"), ("y", "<f4")])), "here")
    whole = cloud(filled([(name, "<f4") for name in "xyz"]))
    for broken in (
        {"data": whole.data[:-1]},
        {"point_step": 8},
        {"row_step": 12, "width": 3, "height": 2},
        {"width": 7},
    ):
        with pytest.raises(FrameError, match="truncated or contradicts itself"):
            cloud_arrays(Cloud(**(whole.__dict__ | broken)), "here")


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("time", "<f4", [0.0, 0.05]),
        ("t", "<u4", [0, 50_000_000]),
        ("timestamp", "<f8", [1.7e9, 1.7e9 + 0.05]),
        ("timestamp", "<f8", [1.7e18, 1.7e18 + 0.05e9]),
        ("offset_time", "<u8", [1_700_000_000_000_000_000, 1_700_000_000_050_000_000]),
        ("time", "<f4", [-0.05, 0.0]),
    ],
)
def test_times_of_points_as_drivers_write_them(name, kind, values):
    points = filled([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), (name, kind)], 2)
    points[name] = values
    message = cloud(points)
    _, times = cloud_arrays(message, "here")
    after = after_stamp_s(times, message, 1_700_000_000_000_000_000)
    expected = [-0.05, 0.0] if values[0] == -0.05 else [0.0, 0.05]
    np.testing.assert_allclose(after, expected, atol=1e-6)


K = np.array([[500.0, 0, 48], [0, 500, 32], [0, 0, 1]])


def info(model, D):
    return CameraInfo(96, 64, model, np.array(D, dtype=np.float64), K, np.eye(3), np.zeros((3, 4)))


@pytest.mark.parametrize(
    ("model", "D", "expected"),
    [
        ("plumb_bob", [0.1, -0.2, 0.001, 0.002, 0.3], ("pinhole", [0.1, -0.2, 0.001, 0.002, 0.3])),
        ("plumb_bob", [0, 0, 0, 0, 0], ("pinhole", [])),
        ("", [], ("pinhole", [])),
        ("plumb_bob", [0.1], ("pinhole", [0.1, 0, 0, 0])),
        ("rational_polynomial", [1, 2, 3, 4, 5, 6, 7, 8], ("pinhole", [1, 2, 3, 4, 5, 6, 7, 8])),
        ("rational_polynomial", [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0], ("pinhole", [1, 2, 3, 4, 5, 6, 7, 8])),
        ("equidistant", [0.01, 0.02, 0.03, 0.04], ("fisheye", [0.01, 0.02, 0.03, 0.04])),
        ("kannala_brandt", [0.01, 0, 0, 0], ("fisheye", [0.01, 0, 0, 0])),
    ],
)
def test_distortion_models(model, D, expected):
    camera, camera_T_frame = camera_of(info(model, D), rectified=False)
    assert (camera.model, camera.distortion.tolist()) == (expected[0], expected[1])
    np.testing.assert_array_equal(camera.K, K)
    np.testing.assert_array_equal(camera_T_frame, np.eye(4))


@pytest.mark.parametrize(
    ("model", "D", "message"),
    [
        ("thin_prism_fisheye", [0.1], "distortion model 'thin_prism_fisheye' is not known; expected plumb_bob"),
        ("rational_polynomial", [1] * 12, "has 12 coefficients; our pinhole model has fewer"),
        ("equidistant", [0.1] * 5, "has 5 coefficients; our fisheye model has fewer"),
    ],
)
def test_distortion_we_do_not_have(model, D, message):
    with pytest.raises(ValueError, match=message):
        camera_of(info(model, D), rectified=False)


def test_headers_in_either_byte_order():
    frame = b"lidar\0"
    for first, order in ((1, "<"), (0, ">")):
        data = bytes([0, first, 0, 0]) + struct.pack(f"{order}iII", 12, 345, len(frame)) + frame
        channel = Channel("/points", "sensor_msgs/msg/PointCloud2", "cdr")
        assert ros.stamp_and_frame(channel, data) == (12_000_000_345, "lidar")
    data = struct.pack("<IIII", 7, 12, 345, 6) + b"/lidar"
    assert ros.stamp_and_frame(Channel("/points", "sensor_msgs/msg/PointCloud2", "ros1"), data) == (
        12_000_000_345,
        "lidar",
    )


def test_type_names_have_one_form():
    assert one_type_name("sensor_msgs/Image") == one_type_name("sensor_msgs/msg/Image") == "sensor_msgs/msg/Image"
    assert one_type_name("foxglove.RawImage") == "foxglove.RawImage"
