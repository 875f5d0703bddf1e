"""What fog and rain do to a LiDAR's pulses: weaker echoes, and echoes of the air itself.

Powers are relative to a pulse that a white surface at 1 m returns, looked at straight on.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from fusionseg.data.synth.light import Light
from fusionseg.data.synth.mesh import Floats

BEAM_DIVERGENCE_RAD = 3e-3
_WATER_REFLECTANCE = 0.02
_NEAREST_M = 1.5
_FOG_SHARE = 0.5
"""Of the response as modelled: a receiver that looks for short echoes filters most of the long, flat one of fog."""
_PULSE_M = 3.0
"""Half-power length of a 20 ns pulse: half of c times 20 ns."""


@dataclass(frozen=True, eq=False)
class Echo:
    """The strongest echo of N pulses: its range, its power without the fall-off, and whether the air returned it."""

    range_m: Floats
    power: Floats
    air: np.ndarray


def extinction_per_m(light: Light) -> float:
    """How fast the LiDAR's light fades, one way.

    Rain: Marshall and Palmer's drop sizes N(D) = 8000 exp(-4.1 R^-0.21 D) per m3 and mm, each drop taking out twice
    its cross-section, as LISA does with Mie theory (Kilic et al., 2021).
    """
    if light.rain_mm_h > 0:
        slope = 4.1 * light.rain_mm_h**-0.21  # per mm
        return float(light.fog_per_m + 8000.0 * 2 * (np.pi / 4) * 2 / slope**3 * 1e-6)
    return light.fog_per_m


def strongest(light: Light, range_m: Floats, power: Floats, rng: np.random.Generator) -> Echo:
    """The echo that a sensor which keeps the strongest reports.

    Args:
        light: the weather.
        range_m: (N,) metres to the surface, inf for none.
        power: (N,) of the surface's echo in clear air (reflectance times cosine over square range), 0 for none.
        rng: speckle and drops.
    """
    faded = power * np.exp(-2 * np.float32(extinction_per_m(light)) * np.where(np.isinf(range_m), 0, range_m))
    faded = faded.astype(np.float32)
    air = np.zeros(len(range_m), dtype=bool)
    if light.fog_per_m > 0:
        return _fog(light, range_m, faded, rng)
    if light.rain_mm_h > 0:
        return _rain(light, range_m, faded, rng)
    return Echo(range_m, faded, air)


@cache
def _fog_response(extinction: float) -> tuple[Floats, Floats, Floats]:
    """Ranges, and the greatest power and its range that fog nearer than each returns.

    The soft target of Hahner et al. (ICCV 2021): the pulse sin^2 folded with beta exp(-2 alpha r) / r^2, beyond the
    range where the beams of sender and receiver begin to overlap; beta = 0.046 / MOR, MOR = ln(20) / alpha.
    """
    step = 0.05
    r = np.arange(step, 60.0, step)
    backscatter = 0.046 * extinction / np.log(20)
    overlap = np.clip((r - 0.9) / 0.1, 0, 1)
    impulse = backscatter * overlap * np.exp(-2 * extinction * r) / r**2
    x = np.arange(0, 2 * _PULSE_M, step)
    pulse = np.sin(np.pi * x / (2 * _PULSE_M)) ** 2 * step
    response = np.convolve(impulse, pulse)[: len(r)]
    best = np.maximum.accumulate(response)
    where = r[np.searchsorted(best, best)]
    return r.astype(np.float32), best.astype(np.float32), where.astype(np.float32)


def _fog(light: Light, range_m: Floats, power: Floats, rng: np.random.Generator) -> Echo:
    r, best, where = _fog_response(light.fog_per_m)
    index = np.minimum(np.searchsorted(r, range_m), len(r) - 1)
    speckle = rng.standard_exponential(len(range_m), dtype=np.float32)
    soft = best[index] * np.float32(_FOG_SHARE) * speckle
    # patches: the echo is where the fog is thickest, not everywhere at the same range
    at = where[index] * (0.75 + 0.9 * rng.standard_exponential(len(range_m), dtype=np.float32))
    air = (soft > power) & (at < range_m) & (at > _NEAREST_M)
    return Echo(np.where(air, at, range_m), np.where(air, soft, power), air)


def _rain(light: Light, range_m: Floats, power: Floats, rng: np.random.Generator) -> Echo:
    """The nearest drop in the beam's cone, after LISA: it returns its share of the beam's area."""
    slope = 4.1 * light.rain_mm_h**-0.21
    per_m3 = 8000.0 / slope * np.exp(-0.5 * slope)  # drops over 0.5 mm
    cone = np.pi / 3 * (BEAM_DIVERGENCE_RAD / 2) ** 2
    at = np.cbrt(rng.standard_exponential(len(range_m), dtype=np.float32) / np.float32(per_m3 * cone))
    diameter_m = 1e-3 * (0.5 + rng.standard_exponential(len(range_m), dtype=np.float32) / np.float32(slope))
    filled = np.minimum(1.0, (diameter_m / (BEAM_DIVERGENCE_RAD * np.maximum(at, 0.1))) ** 2)
    soft = filled * _WATER_REFLECTANCE * np.exp(-2 * extinction_per_m(light) * at) / np.maximum(at, 0.1) ** 2
    air = (soft > power) & (at < range_m) & (at > _NEAREST_M)
    echo_range, echo_power = np.where(air, at, range_m), np.where(air, soft, power)
    return Echo(echo_range.astype(np.float32), echo_power.astype(np.float32), air)
