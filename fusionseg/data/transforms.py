"""Joint augmentation of a prepared view: image, points, pixels and labels move together and the calibration stays true.

Every geometric step is affine in pixels, for distorted cameras too: radial distortion is symmetric about the optical
axis, and the tangential coefficients turn (or mirror) with the image. Only the calibration jitter breaks the agreement
between points and image, on purpose.
"""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.config import AugmentConfig
from fusionseg.data.prepare import View
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.projection import MIN_DEPTH_M, in_view
from fusionseg.labels import IGNORE

# what lies outside the image gets the mean colour of ImageNet, which the network sees as 0
BORDER_RGB = (124, 116, 104)
BRIGHTNESS = 0.3
CONTRAST = 0.3
SATURATION = 0.4
HUE_DEG = 10.0
# of the bands in which a LiDAR is thinned: two cells of the logits
THINNEST_PX = 8.0

_POINT_ARRAYS = (
    "index",
    "points_camera",
    "uv",
    "height_m",
    "intensity",
    "visible",
    "supervised",
    "measured",
    "labels",
    "teacher_points",
)


def augment(view: View, config: AugmentConfig, rng: np.random.Generator) -> View:
    """A random variant of ``view`` as the configuration says; the size is ``config.crop``, or stays."""
    if rng.random() < config.flip:
        view = flip(view)
    if config.rotation_deg:
        view = rotate(view, float(np.radians(rng.uniform(-config.rotation_deg, config.rotation_deg))))
    if config.crop is not None or config.scale != (1.0, 1.0):
        view = scale_crop(view, float(rng.uniform(*config.scale)), config.crop, rng)
    if config.calibration_jitter_deg and rng.random() < config.calibration_jitter_share:
        angles = np.radians(rng.uniform(-config.calibration_jitter_deg, config.calibration_jitter_deg, 3))
        view = jitter_calibration(view, angles)
    if config.lidar_jitter_m:
        view = jitter_range(view, config.lidar_jitter_m, rng)
    if config.point_dropout:
        view = drop_points(view, float(rng.uniform(0, config.point_dropout)), rng)
    if config.thin_lidar and rng.random() < config.thin_lidar:
        view = thin_lidar(view, rng)
    if view.image is not None and rng.random() < config.photometric:
        view = replace(view, image=photometric(view.image, rng))
    return drop_sensor(view, config.drop_image, config.drop_lidar, rng)


def flip(view: View) -> View:
    """The mirrored view: x of the camera frame changes sign."""
    affine = np.array([[-1.0, 0, view.camera.width - 1], [0, 1, 0]])
    points = view.points_camera * np.array([-1, 1, 1], dtype=np.float32)
    mirrored: dict[str, Any] = {
        name: None if values is None else cv2.flip(values, 1)
        for name, values in (("image", view.image), ("pixel_labels", view.pixel_labels))
    }
    mirrored["teaching"] = None if view.teaching is None else view.teaching.moved(affine)
    return replace(view, camera=view.camera.flip(), points_camera=points, uv=_moved(view.uv, affine), **mirrored)


def rotate(view: View, angle_rad: float) -> View:
    """The view of the camera turned about its optical axis; positive turns the content clockwise.

    Points turn by R, pixels by K R K^-1, which is affine for a turn about z, and tangential distortion turns along.
    """
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    camera = view.camera
    if camera.model == "pinhole" and len(camera.distortion) >= 4:
        distortion = camera.distortion.copy()
        # p1 and p2 are the y and x of one vector t: the tangential part is r^2 t + 2 (t . x) x
        distortion[[3, 2]] = turn[:2, :2] @ distortion[[3, 2]]
        camera = replace(camera, distortion=distortion)
    affine = (camera.K @ turn @ np.linalg.inv(camera.K))[:2]
    return _warp(view, affine, camera, view.points_camera @ turn.T.astype(np.float32))


def scale_crop(view: View, zoom: float, size: tuple[int, int] | None, rng: np.random.Generator) -> View:
    """A random window of ``size`` (height, width), or the view's own, of the view resized by ``zoom``.

    Where the resized image is smaller than the window it lies at a random place in it, and the rest is filled with the
    mean colour and ignored labels.
    """
    height, width = size or (view.camera.height, view.camera.width)
    resized = view.camera.resize(max(1, round(view.camera.width * zoom)), max(1, round(view.camera.height * zoom)))
    left, top = (
        int(rng.integers(min(0, room), max(0, room) + 1)) for room in (resized.width - width, resized.height - height)
    )
    camera = resized.crop(left, top, width, height)
    sx, sy = resized.width / view.camera.width, resized.height / view.camera.height
    affine = np.array([[sx, 0, 0.5 * sx - 0.5 - left], [0, sy, 0.5 * sy - 0.5 - top]])
    return _warp(view, affine, camera, view.points_camera)


def jitter_calibration(view: View, angles_rad: NDArray[np.float64]) -> View:
    """The points turned by small angles (3,) about the camera's x, y and z axes and projected anew; the image stays.

    The points then lie beside what they were measured on: they keep their labels, but no pixel may learn from them.
    """
    turn = cv2.Rodrigues(np.asarray(angles_rad, dtype=np.float64))[0].astype(np.float32)
    points = view.points_camera @ turn.T
    limit = np.float32(min(view.camera.distortion_limit(), 1e6))
    ahead = (points[:, 2] > MIN_DEPTH_M) & (np.hypot(points[:, 0], points[:, 1]) < limit * points[:, 2])
    view = _keep(replace(view, points_camera=points), ahead)
    unsupervised = None if view.supervised is None else np.zeros_like(view.supervised)
    return _inside(replace(view, uv=view.camera.project(view.points_camera), supervised=unsupervised))


def jitter_range(view: View, sigma_m: float, rng: np.random.Generator) -> View:
    """Gaussian noise on the range of each point, along the camera's ray, so that its pixel stays.

    The height above ground is left as it is: a few centimetres of range change it by millimetres.
    """
    points = view.points_camera
    range_m = np.sqrt(np.einsum("ij,ij->i", points, points))
    noise = rng.standard_normal(len(points), dtype=np.float32) * np.float32(sigma_m)
    factor = np.maximum(1 + noise / range_m, MIN_DEPTH_M / points[:, 2])
    return replace(view, points_camera=points * factor[:, None])


def drop_points(view: View, share: float, rng: np.random.Generator) -> View:
    """The view without a random share of its points."""
    return _keep(view, rng.random(len(view.index), dtype=np.float32) >= share)


def thin_lidar(view: View, rng: np.random.Generator) -> View:
    """The view of a LiDAR with fewer beams: the points in a random half of the bands of image rows are no input.

    They stay as places to label. So pixels between the rings, below the lowest beam and above the highest, where no
    recorded log has a label, learn from what the missing beams saw there.
    """
    height = view.camera.height
    band = np.exp(rng.uniform(np.log(THINNEST_PX), np.log(max(THINNEST_PX, height / 2))))
    row = ((view.uv[:, 1] + rng.uniform(0, band)) / band).astype(np.intp)
    lost = rng.random(int(height / band) + 2) < rng.uniform(0.25, 0.75)
    return replace(view, measured=~lost[row.clip(0, len(lost) - 1)])


def drop_sensor(view: View, drop_image: float, drop_lidar: float, rng: np.random.Generator) -> View:
    """With these probabilities (which exclude each other) one sensor is taken away; never the only one.

    Without LiDAR the points stay as places to label; ``lidar_present`` says that they are no input.
    """
    draw = rng.random()
    if view.image is None or not view.lidar_present or len(view.index) == 0:
        return view
    if draw < drop_image:
        return replace(view, image=None)
    return replace(view, lidar_present=False) if draw < drop_image + drop_lidar else view


def photometric(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Random brightness, contrast, saturation and hue of an RGB image, through look-up tables."""
    hue = rng.uniform(-HUE_DEG, HUE_DEG) / 2  # OpenCV counts hue in steps of two degrees
    saturation = 1 + rng.uniform(-SATURATION, SATURATION)
    contrast = 1 + rng.uniform(-CONTRAST, CONTRAST)
    brightness = 255 * rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    level = np.arange(256, dtype=np.float64)
    tables = np.stack(
        [
            np.round(level + hue) % 180,
            np.clip(level * saturation, 0, 255),
            np.clip((level - 128) * contrast + 128 + brightness, 0, 255),
        ],
        axis=-1,
    )
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv = cv2.LUT(hsv, tables.astype(np.uint8)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.uint8, copy=False)


def _warp(view: View, affine: NDArray[np.float64], camera: Camera, points: NDArray[np.float32]) -> View:
    """Image, labels and pixels moved by ``affine`` (2, 3), old pixel -> new; points outside are left out."""
    changes: dict[str, Any] = {}
    size = (camera.width, camera.height)
    if view.image is not None:
        changes["image"] = cv2.warpAffine(view.image, affine, size, flags=cv2.INTER_LINEAR, borderValue=BORDER_RGB)
    if view.pixel_labels is not None:
        changes["pixel_labels"] = cv2.warpAffine(
            view.pixel_labels, affine, size, flags=cv2.INTER_NEAREST, borderValue=IGNORE
        )
    if view.teaching is not None:
        changes["teaching"] = view.teaching.moved(affine)
    return _inside(replace(view, camera=camera, points_camera=points, uv=_moved(view.uv, affine), **changes))


def _moved(uv: NDArray[np.float32], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    moved: NDArray[np.float32] = uv @ affine[:, :2].T.astype(np.float32)
    moved += affine[:, 2].astype(np.float32)
    return moved


def _inside(view: View) -> View:
    return _keep(view, in_view(view.uv, view.camera.width, view.camera.height))


def _keep(view: View, mask: NDArray[np.bool_]) -> View:
    """The view with the points of the mask (M,) only."""
    if mask.all():
        return view
    rows = np.flatnonzero(mask)
    arrays = {name: getattr(view, name) for name in _POINT_ARRAYS}
    kept: dict[str, Any] = {name: None if a is None else a.take(rows, axis=0) for name, a in arrays.items()}
    return replace(view, **kept)
