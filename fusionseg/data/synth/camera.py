"""The camera: one ray a pixel, one shadow ray a pixel, shading, haze, rain, blur, noise and a tone curve."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.synth import light as lights
from fusionseg.data.synth.classes import CITYSCAPES_IDS, SKY_ID, Material
from fusionseg.data.synth.light import Light
from fusionseg.data.synth.mesh import Floats, dot
from fusionseg.data.synth.spec import Spec
from fusionseg.data.synth.texture import Look, look
from fusionseg.data.synth.world import Hits, World
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import make_transform

EXPOSURE_S = 0.006
_LIDAR_T_CAMERA_AXES = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_LAMPS_LIDAR_M = (1.6, 0.0, -1.05)


@dataclass(frozen=True, eq=False)
class View:
    """One image with its exact labels.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        semantic: (H, W) uint8 Cityscapes label ids.
        instance: (H, W) uint16 the numbers of the point labels, 0 for none.
        depth: (H, W) float32 z in the camera frame, metres, inf for sky.
    """

    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    depth: Floats


def mounted_camera(spec: Spec) -> tuple[Camera, NDArray[np.float64]]:
    """Camera and ``camera_T_lidar`` of a log: KITTI's, scaled to the image, turned a little from seed to seed."""
    rng = spec.rng("camera")
    scale = spec.width / 1242
    focal = 721.5 * scale * float(rng.uniform(0.94, 1.06))
    camera = Camera.from_focal(
        spec.width,
        spec.height,
        focal,
        focal,
        spec.width * 0.4908,
        spec.height * 0.4607 + float(rng.uniform(-4, 4)) * scale,
    )
    pitch, yaw = np.deg2rad(rng.uniform(-0.8, 0.8, 2))
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    nod = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
    axes = turn @ nod @ _LIDAR_T_CAMERA_AXES
    at = np.array([0.27, 0.0, -0.08]) + rng.uniform(-0.05, 0.05, 3)
    return camera, make_transform(axes.T, -axes.T @ at)


def pixel_rays(camera: Camera) -> Floats:
    """(H, W, 3) unit directions in the camera frame of all pixel centres, through the lens' distortion."""
    u, v = np.meshgrid(np.arange(camera.width, dtype=np.float64), np.arange(camera.height, dtype=np.float64))
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
    if camera.model == "fisheye":
        flat = cv2.fisheye.undistortPoints(pixels[:, None, :2], camera.K, camera.distortion)[:, 0]
    else:
        flat = _undistort(camera, (pixels @ np.linalg.inv(camera.K).T)[:, :2])
    rays = np.concatenate([flat.reshape(camera.height, camera.width, 2), np.ones((*u.shape, 1))], axis=-1)
    return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True), dtype=np.float32)


def _undistort(camera: Camera, distorted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tangents (N, 2) whose distorted images are given; a fixed-point iteration on the camera's own model."""
    if not camera.distortion.any():
        return distorted
    plain = Camera(camera.width, camera.height, np.eye(3), camera.model, camera.distortion)
    flat = distorted.copy()
    for _ in range(25):
        flat -= plain.project(np.column_stack([flat, np.ones(len(flat))])) - distorted
    return flat


class Renderer:
    """Renders frames of a world for one camera.

    Args:
        world: what to look at.
        camera: any camera of ``fusionseg.geometry``, with or without distortion.
        camera_T_lidar: (4, 4).
    """

    def __init__(self, world: World, camera: Camera, camera_T_lidar: NDArray[np.float64]) -> None:
        self.world, self.camera = world, camera
        self.light = lights.light_of(world.spec)
        self._lidar_T_camera = np.linalg.inv(camera_T_lidar)
        self._rays = pixel_rays(camera)
        self._drift = tuple(world.spec.rng("sky", 1).uniform(0, 1000, 2).tolist())

    def render(self, frame: int) -> View:
        """Image and labels of a frame."""
        time_s = self.world.frame_time_s(frame)
        world_T_lidar = self.world.world_T_lidar(np.array([time_s]))[0]
        world_T_camera = world_T_lidar @ self._lidar_T_camera
        rotation = world_T_camera[:3, :3].astype(np.float32)
        eye = world_T_camera[:3, 3].astype(np.float32)
        directions = self._rays.reshape(-1, 3) @ rotation.T
        hits = self.world.cast(eye, directions, time_s)
        seen = np.flatnonzero(hits.triangle >= 0)
        radiance = self._sky(directions, hits)
        radiance[seen] = self._shade(seen, hits, directions, eye, world_T_lidar, frame)
        depth = hits.distance * self._rays[..., 2].reshape(-1)
        shape = (self.camera.height, self.camera.width)
        picture = radiance.reshape(*shape, 3)
        picture = self._motion_blur(picture, np.where(hits.moving, np.float32(np.inf), depth).reshape(shape))
        semantic, instance = self._labels(hits)
        return View(
            self._develop(picture, frame), semantic.reshape(shape), instance.reshape(shape), depth.reshape(shape)
        )

    def _labels(self, hits: Hits) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        mesh = self.world.triangles
        semantic = np.where(hits.triangle >= 0, CITYSCAPES_IDS[mesh.kind[hits.triangle]], SKY_ID)
        instance = np.where(hits.triangle >= 0, mesh.instance[hits.triangle], 0)
        return semantic.astype(np.uint8), instance.astype(np.uint16)

    def _sky(self, directions: Floats, hits: Hits) -> Floats:
        """(N, 3) radiance of the sky in the rows of the image that have any, zero below."""
        shape = (self.camera.height, self.camera.width)
        missed = hits.triangle.reshape(shape) < 0
        rows = np.flatnonzero(missed.any(axis=1))
        picture = np.zeros((*shape, 3), np.float32)
        if len(rows):
            last = int(rows[-1]) + 1
            picture[:last] = lights.sky(self.light, directions.reshape(*shape, 3)[:last], self._drift)
        return picture.reshape(-1, 3)

    def _shade(
        self,
        seen: NDArray[np.intp],
        hits: Hits,
        directions: Floats,
        eye: Floats,
        world_T_lidar: NDArray[np.float64],
        frame: int,
    ) -> Floats:
        """(M, 3) radiance of the surfaces that are seen."""
        world, light = self.world, self.light
        rays, distance, triangle = directions[seen], hits.distance[seen], hits.triangle[seen]
        normal = hits.normal[seen]
        normal *= -np.sign(dot(normal, rays))[:, None]
        points = eye + rays * distance[:, None]
        mesh = world.triangles
        what = look(mesh, triangle, hits.bary[seen], distance, world.layout.roads, world.layout.facades)
        shadow = self._shadow(seen, points, normal, frame)
        glow = lights.ambient(light, normal)
        leaf = mesh.material[triangle] == Material.LEAF
        if light.sunny:
            facing = normal @ light.sun_direction
            # leaves scatter: the side turned away is lit through, and the shadow of leaves on leaves is soft
            facing = np.where(leaf, 0.35 + 0.4 * np.abs(facing), np.maximum(facing, 0))
            lit = facing * (1 - shadow * np.where(leaf, np.float32(0.75), np.float32(1)))
            glow += lit[:, None] * np.array(light.sun, np.float32)
        else:
            glow *= (1 - 0.55 * shadow)[:, None]
        albedo = what.albedo
        if light.wet:
            _wetten(mesh.material[triangle], normal, what)
        radiance = albedo * glow
        self._mirror(radiance, what, normal, rays)
        if light.lamps > 0:
            self._lamps(radiance, what, points, normal, triangle, hits.moving[seen], world_T_lidar)
        radiance += _signals(mesh.material[triangle], albedo)
        clear = np.exp(-light.haze_per_m * distance)[:, None]
        air = lights.sky_gradient(light, np.full((), 0.03, np.float32))
        return np.asarray(radiance * clear + air * (1 - clear), dtype=np.float32)

    def _shadow(self, seen: NDArray[np.intp], points: Floats, normal: Floats, frame: int) -> Floats:
        """(M,) share of the light that is blocked: of the sun, or of an overcast sky by one jittered ray, blurred."""
        time_s = self.world.frame_time_s(frame)
        if self.light.sunny:
            blocked = np.zeros(len(points), np.float32)
            towards = np.flatnonzero(normal @ self.light.sun_direction > -0.5)
            blocked[towards] = self.world.occluded(points[towards], normal[towards], self.light.sun_direction, time_s)
            return blocked
        rng = self.world.spec.rng("camera", 2 * frame + 1)
        spread = rng.uniform(-1.0, 1.0, (len(points), 2)).astype(np.float32)
        upward = np.column_stack([spread, np.full(len(points), 0.75, np.float32)])
        upward += 0.6 * normal
        upward /= np.linalg.norm(upward, axis=1, keepdims=True)
        picture = np.zeros(self.camera.height * self.camera.width, np.float32)
        picture[seen] = self.world.occluded(points, normal, upward, time_s)
        soft = cv2.blur(picture.reshape(self.camera.height, self.camera.width), (9, 7))
        return np.asarray(soft.reshape(-1)[seen], dtype=np.float32)

    def _mirror(self, radiance: Floats, what: Look, normal: Floats, rays: Floats) -> None:
        """Glass, paint and wet ground show the sky they mirror (Schlick's Fresnel term)."""
        rows = np.flatnonzero(what.gloss > 0)
        if not len(rows):
            return
        cosine = np.abs(dot(normal[rows], rays[rows]))
        share = what.gloss[rows] + (1 - what.gloss[rows]) * 0.8 * (1 - cosine) ** 5
        up = rays[rows, 2] + 2 * cosine * normal[rows, 2]
        mirrored = lights.sky_gradient(self.light, up)
        # what is mirrored from below the horizon is the street
        mirrored *= np.clip(0.28 + (up + 0.06) * 6, 0.28, 1.0)[:, None]
        radiance[rows] += share[:, None] * (mirrored - radiance[rows])

    def _lamps(
        self,
        radiance: Floats,
        what: Look,
        points: Floats,
        normal: Floats,
        triangle: NDArray[np.int64],
        moving: NDArray[np.bool_],
        world_T_lidar: NDArray[np.float64],
    ) -> None:
        """Own headlamps, street lamps, lit windows and the lamps of others."""
        power, material = self.light.lamps, self.world.triangles.material[triangle]
        rotation = world_T_lidar[:3, :3].astype(np.float32)
        at = (world_T_lidar[:3, 3] + world_T_lidar[:3, :3] @ _LAMPS_LIDAR_M).astype(np.float32)
        from_lamps = np.asarray((points - at) @ rotation, dtype=np.float32)
        own = lights.headlight(from_lamps, normal @ rotation)
        own = own * np.where(material == Material.SIGN, np.float32(3.0), np.float32(1.0))  # retroreflective
        radiance += power * own[:, None] * what.albedo * np.array([1.0, 0.95, 0.85], np.float32)
        street = lights.lamp_light(points, normal, self.world.layout.lamps, world_T_lidar[:3, 3])
        radiance += power * street[:, None] * what.albedo * np.array([1.0, 0.72, 0.4], np.float32)
        radiance += (0.12 * power * what.lit)[:, None] * np.array([1.0, 0.72, 0.38], np.float32)
        for kind, colour in ((Material.HEADLAMP, (2.6, 2.5, 2.2)), (Material.TAILLAMP, (0.9, 0.05, 0.03))):
            radiance[(material == kind) & moving] += power * np.array(colour, np.float32)
        radiance[material == Material.LAMP] += power * np.array([2.5, 1.9, 1.1], np.float32)

    def _motion_blur(self, picture: Floats, depth: Floats) -> Floats:
        """Averages three looks along each pixel's way while the shutter is open, where the world stands still."""
        speed = self.world.layout.ego_speed_mps
        fx, cx, cy = self.camera.K[0, 0], self.camera.K[0, 2], self.camera.K[1, 2]
        reach = np.float32(speed * EXPOSURE_S * (2.5 if self.light.lamps == 1 else 1.0))
        rate = reach / np.maximum(depth, 1.0)
        if float(rate.max()) * self.camera.width < 0.3 * fx / 700:
            return picture
        u, v = np.meshgrid(
            np.arange(self.camera.width, dtype=np.float32), np.arange(self.camera.height, dtype=np.float32)
        )
        du, dv = (u - np.float32(cx)) * rate / 2, (v - np.float32(cy)) * rate / 2
        first, last = (
            cv2.remap(picture, u + sign * du, v + sign * dv, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for sign in (1, -1)
        )
        return np.asarray((picture + first + last) / 3, dtype=np.float32)

    def _develop(self, picture: Floats, frame: int) -> NDArray[np.uint8]:
        """Lens blur and bloom, rain, exposure, tone curve, noise, 8 bits."""
        rng = self.world.spec.rng("camera", 2 * frame + 2)
        picture = np.asarray(cv2.GaussianBlur(picture, (3, 3), 0.55), dtype=np.float32)
        if self.light.lamps >= 0.2:
            small = cv2.resize(np.maximum(picture - 0.5, 0), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            bloom = cv2.GaussianBlur(small, (0, 0), self.camera.width / 140)
            glare = cv2.resize(bloom, (self.camera.width, self.camera.height))
            picture = np.asarray(picture + 0.35 * glare, dtype=np.float32)
        if self.light.rain_mm_h > 0:
            picture = _streaks(picture, self.light, rng)
        exposed = 1 - np.exp(-self.light.exposure * np.float32(1.25) * picture)
        grain = rng.standard_normal(exposed.shape, dtype=np.float32)
        gain = 0.004 if self.light.lamps < 0.2 else 0.009
        exposed += grain * (gain * np.sqrt(np.maximum(exposed, 0)) + np.float32(0.25 * gain))
        display = np.clip(exposed, 0, 1) ** np.float32(1 / 2.2)
        display = display + np.float32(0.12) * display * (1 - display) * (2 * display - 1)
        return np.asarray(display * 255 + 0.5, dtype=np.uint8)


def _wetten(material: NDArray[np.uint8], normal: Floats, what: Look) -> None:
    """Wet ground is darker and mirrors (after the look of Lagarde's 'water drop' notes: albedo down, gloss up)."""
    ground = np.isin(material, (Material.ASPHALT, Material.PAVING, Material.CURB)) & (normal[:, 2] > 0.7)
    what.albedo[ground] *= 0.5
    what.gloss[ground] = 0.06


def _signals(material: NDArray[np.uint8], albedo: Floats) -> Floats:
    return np.where((material == Material.SIGNAL)[:, None], 2.2 * albedo, np.float32(0))


def _streaks(picture: Floats, light: Light, rng: np.random.Generator) -> Floats:
    """Falling drops as faint short lines."""
    height, width = picture.shape[:2]
    veil = np.zeros((height, width), np.float32)
    count = int(light.rain_mm_h * 14 * width / 1242)
    x, y = rng.uniform(0, width, count), rng.uniform(-20, height, count)
    length, tilt = rng.uniform(0.02, 0.09, count) * height, rng.normal(0.05, 0.05, count)
    for i in range(count):
        start, end = (int(x[i]), int(y[i])), (int(x[i] + tilt[i] * length[i]), int(y[i] + length[i]))
        cv2.line(veil, start, end, float(0.35 + 0.65 * (i % 7) / 6), 1, cv2.LINE_AA)
    veil = cv2.GaussianBlur(veil, (3, 3), 0.7)[..., None] * 0.16
    return np.asarray(picture * (1 - veil) + veil * np.array(light.horizon, np.float32) * 1.3, dtype=np.float32)
