"""Light and weather: sun, sky, clouds, haze, and what the air does to a LiDAR."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fusionseg.data.synth.mesh import Colour, Floats, dot
from fusionseg.data.synth.spec import Spec
from fusionseg.data.synth.texture import TILE, noise_tile


@dataclass(frozen=True)
class Light:
    """One weather.

    Attributes:
        sun_deg: elevation and azimuth from the world's x; of no meaning where ``sun`` is black.
        sun: irradiance of the sun, linear RGB.
        zenith, horizon: radiance of the sky.
        clouds: how much of the sky they cover.
        ambient: weight of the sky's light on surfaces.
        haze_per_m: extinction of visible light.
        exposure: of the camera.
        lamps: brightness of headlamps, street lamps and windows, 0 by day.
        wet: whether surfaces mirror.
        rain_mm_h: rain rate.
        fog_per_m: extinction of the LiDAR's light in fog.
    """

    sun_deg: tuple[float, float] = (45.0, 0.0)
    sun: Colour = (0.0, 0.0, 0.0)
    zenith: Colour = (0.2, 0.38, 0.75)
    horizon: Colour = (0.6, 0.7, 0.85)
    clouds: float = 0.3
    ambient: float = 1.0
    haze_per_m: float = 0.0009
    exposure: float = 1.0
    lamps: float = 0.0
    wet: bool = False
    rain_mm_h: float = 0.0
    fog_per_m: float = 0.0

    @property
    def sunny(self) -> bool:
        """Whether there are hard shadows."""
        return max(self.sun) > 0

    @property
    def sun_direction(self) -> Floats:
        """(3,) unit vector from the ground to the sun."""
        elevation, azimuth = np.deg2rad(self.sun_deg)
        flat = np.cos(elevation)
        return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], np.float32)


_WEATHER = {
    "clear": Light(sun=(3.1, 2.85, 2.45), ambient=0.95, exposure=0.95),
    "dusk": Light(
        sun=(1.5, 0.75, 0.34),
        zenith=(0.13, 0.18, 0.34),
        horizon=(0.8, 0.5, 0.3),
        ambient=0.8,
        clouds=0.45,
        haze_per_m=0.002,
        exposure=1.7,
        lamps=0.25,
    ),
    "night": Light(
        zenith=(0.003, 0.004, 0.009),
        horizon=(0.02, 0.016, 0.014),
        ambient=0.55,
        clouds=0.2,
        exposure=6.0,
        lamps=1.0,
    ),
    "fog": Light(
        zenith=(0.6, 0.62, 0.64),
        horizon=(0.58, 0.6, 0.62),
        clouds=0.0,
        ambient=1.25,
        haze_per_m=0.032,
        exposure=1.25,
        lamps=0.15,
        fog_per_m=0.035,
    ),
    "rain": Light(
        zenith=(0.34, 0.37, 0.41),
        horizon=(0.46, 0.48, 0.5),
        clouds=0.6,
        ambient=1.2,
        haze_per_m=0.006,
        exposure=1.55,
        lamps=0.12,
        wet=True,
        rain_mm_h=25.0,
    ),
}


def light_of(spec: Spec) -> Light:
    """The light of a spec; the sun's place, the clouds, haze and rain differ between seeds."""
    rng = spec.rng("sky")
    light = _WEATHER[spec.weather]
    elevation = rng.uniform(5, 9) if spec.weather == "dusk" else rng.uniform(28, 58)
    spread = float(rng.uniform(0.75, 1.3))
    return replace(
        light,
        sun_deg=(float(elevation), float(rng.uniform(0, 360))),
        clouds=float(np.clip(light.clouds * rng.uniform(0.2, 1.9), 0, 0.9)),
        exposure=light.exposure * float(rng.uniform(0.9, 1.12)),
        haze_per_m=light.haze_per_m * spread,
        fog_per_m=light.fog_per_m * spread,
        rain_mm_h=light.rain_mm_h * spread,
    )


def sky_gradient(light: Light, up: Floats) -> Floats:
    """(..., 3) radiance of a sky without clouds in directions whose z is ``up`` (...)."""
    share = np.sqrt(np.clip(up, 0, 1))[..., None]
    horizon, zenith = np.array(light.horizon, np.float32), np.array(light.zenith, np.float32)
    return np.asarray(horizon + (zenith - horizon) * share, dtype=np.float32)


def sky(light: Light, directions: Floats, drift: tuple[float, float]) -> Floats:
    """(H, W, 3) radiance with clouds and the glow about the sun; ``drift`` moves the clouds, in texels."""
    up = directions[..., 2]
    colour = sky_gradient(light, up)
    if light.clouds > 0:
        lift = np.float32(26) / (np.maximum(up, 0) + np.float32(0.12))
        total = np.zeros(up.shape, np.float32)
        for scale, weight in ((1.0, 1.0), (4.3, 0.25)):
            x = (directions[..., 0] * lift * scale + drift[0]) % TILE
            y = (directions[..., 1] * lift * scale + drift[1]) % TILE
            total += weight * cv2.remap(noise_tile(), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        cover = np.clip((total - (1.2 - 2.6 * light.clouds)) * 0.8, 0, 1) * np.clip(up * 7, 0, 1)
        bright = np.array(light.horizon, np.float32) * 1.05 + 0.12 * np.array(light.sun, np.float32)
        shaded = bright * (1 - 0.22 * np.clip(total, 0, 1.5))[..., None]
        colour = colour + cover[..., None] * 0.9 * (shaded - colour)
    if light.sunny:
        cosine = np.clip(directions @ light.sun_direction, 0, 1)
        glow = 0.35 * cosine**6 + 1.2 * cosine**60
        if light.sun_deg[0] > 20:
            glow = 0.04 * cosine**8 + 0.6 * cosine**200
        colour = colour + glow[..., None] * np.array(light.sun, np.float32)
    return np.asarray(colour, dtype=np.float32)


def ambient(light: Light, normal: Floats) -> Floats:
    """(N, 3) light of sky and ground on surfaces with these normals."""
    up = 0.5 + 0.5 * normal[:, 2:3]
    above = 0.45 * np.array(light.zenith, np.float32) + 0.55 * np.array(light.horizon, np.float32)
    bounce = 0.25 * above + 0.09 * np.array(light.sun, np.float32)
    return np.asarray(light.ambient * (up * above + (1 - up) * bounce), dtype=np.float32)


def lamp_light(points: Floats, normal: Floats, lamps: Floats, eye: NDArray[np.floating]) -> Floats:
    """(N,) light of the street lamps nearest to the eye."""
    total = np.zeros(len(points), dtype=np.float32)
    near = np.linalg.norm(lamps - eye, axis=1)
    for lamp in lamps[np.argsort(near)[:8]]:
        if np.linalg.norm(lamp - eye) > 90:
            continue
        towards = lamp - points
        square = dot(towards, towards)
        facing = np.maximum(dot(towards, normal), 0)
        down = np.clip(towards[:, 2] / np.sqrt(square), 0, 1)
        total += 9.0 * facing * down / (square + 1) ** 1.5
    return total


def headlight(points_ego: Floats, normal_ego: Floats) -> Floats:
    """(N,) light of the own dipped beams; frame x forward, y left, z up with its origin at the lamps."""
    square = dot(points_ego, points_ego) + 1
    distance = np.sqrt(square)
    facing = np.abs(dot(points_ego, normal_ego)) / distance
    ahead = np.maximum(points_ego[:, 0], 0.01)
    sideways, upwards = points_ego[:, 1] / ahead, points_ego[:, 2] / ahead
    beam = np.exp(-((sideways / 0.45) ** 2)) * np.where(upwards < 0.0, 1.0, np.exp(-np.abs(upwards) * 25) * 0.35 + 0.02)
    beam *= points_ego[:, 0] > 0
    return np.asarray(420.0 * beam * facing / square, dtype=np.float32)
