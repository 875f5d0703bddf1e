"""Camera models: pinhole with Brown-Conrady distortion and the Kannala-Brandt fisheye, in OpenCV's conventions.

Camera frame: x right, y down, z forward. Pixel centres lie at integer coordinates, so a horizontal flip maps
``cx`` to ``width - 1 - cx`` and a resize by ``s`` maps ``u`` to ``(u + 0.5) * s - 0.5``.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Model = Literal["pinhole", "fisheye"]
DISTORTION_LENGTHS: dict[str, tuple[int, ...]] = {"pinhole": (0, 4, 5, 8), "fisheye": (4,)}


def _no_distortion() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics of one image.

    Attributes:
        width, height: image size in pixels.
        K: (3, 3) float64, [[fx, skew, cx], [0, fy, cy], [0, 0, 1]].
        model: ``pinhole`` (distortion k1 k2 p1 p2 [k3 [k4 k5 k6]], Brown 1971 in OpenCV's order, or none) or
            ``fisheye`` (k1..k4, Kannala and Brandt 2006).
        distortion: (0 | 4 | 5 | 8,) float64.

    Raises:
        ValueError: a size, matrix or coefficient list that no such camera can have.
    """

    width: int
    height: int
    K: NDArray[np.float64]
    model: Model = "pinhole"
    distortion: NDArray[np.float64] = field(default_factory=_no_distortion)

    def __post_init__(self) -> None:
        object.__setattr__(self, "K", np.asarray(self.K, dtype=np.float64))
        object.__setattr__(self, "distortion", np.asarray(self.distortion, dtype=np.float64).reshape(-1))
        if self.width < 1 or self.height < 1:
            raise ValueError(f"camera size is {self.width}x{self.height}; expected at least 1x1 pixels")
        # plain numbers: a camera is made anew for every frame and size, and NumPy is slow at a few
        entries = self.K.ravel().tolist()
        if self.K.shape != (3, 3) or not all(map(math.isfinite, entries)):
            raise ValueError(f"K has shape {self.K.shape}; expected a finite 3x3 matrix")
        if self.K[0, 0] <= 0 or self.K[1, 1] <= 0:
            raise ValueError(f"focal lengths are {self.K[0, 0]} and {self.K[1, 1]}; both must be positive pixels")
        if max(abs(entries[3]), abs(entries[6]), abs(entries[7]), abs(entries[8] - 1)) > 1e-6:
            raise ValueError(f"K is {self.K.tolist()}; expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]]")
        if self.model not in DISTORTION_LENGTHS:
            raise ValueError(f"camera model is {self.model!r}; choose one of {', '.join(DISTORTION_LENGTHS)}")
        lengths = DISTORTION_LENGTHS[self.model]
        if len(self.distortion) not in lengths:
            raise ValueError(
                f"{self.model} has {len(self.distortion)} distortion coefficients; expected one of {lengths}"
            )
        if not all(map(math.isfinite, self.distortion.tolist())):
            raise ValueError(f"distortion is {self.distortion.tolist()}; expected finite numbers")

    @classmethod
    def from_focal(cls, width: int, height: int, fx: float, fy: float, cx: float, cy: float, **kwargs: Any) -> "Camera":
        """A camera from focal lengths and principal point in pixels."""
        return cls(width, height, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), **kwargs)

    def project(self, points_camera: NDArray[np.floating]) -> NDArray[np.floating]:
        """Pixels (N, 2) of points (N, 3) in the camera frame; the dtype stays. Points need z > 0 to mean anything."""
        x = points_camera[:, 0] / points_camera[:, 2]
        y = points_camera[:, 1] / points_camera[:, 2]
        if self.model == "fisheye":
            x, y = self._distort_fisheye(x, y)
        elif self.distortion.any():
            x, y = self._distort_brown_conrady(x, y)
        fx, skew, cx, fy, cy = (float(self.K[i]) for i in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2)))
        uv = np.empty((len(points_camera), 2), dtype=points_camera.dtype)
        np.multiply(x, fx, out=uv[:, 0])
        uv[:, 0] += cx
        if skew:
            uv[:, 0] += skew * y
        np.multiply(y, fy, out=uv[:, 1])
        uv[:, 1] += cy
        return uv

    def _distort_fisheye(
        self, x: NDArray[np.floating], y: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        r = np.hypot(x, y)
        theta = np.arctan(r)
        t2 = theta * theta
        k1, k2, k3, k4 = (float(k) for k in self.distortion)
        theta_d = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        scale = np.where(r > 1e-8, theta_d / np.maximum(r, 1e-8), 1.0).astype(x.dtype)
        return x * scale, y * scale

    def _distort_brown_conrady(
        self, x: NDArray[np.floating], y: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        k1, k2, p1, p2, k3, k4, k5, k6 = (float(k) for k in np.pad(self.distortion, (0, 8 - len(self.distortion))))
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        if k4 or k5 or k6:
            radial = radial / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        xy = x * y
        return (
            x * radial + 2 * p1 * xy + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * xy,
        )

    def distortion_limit(self) -> float:
        """Largest tangent of the angle to the optical axis at which the distortion still grows outwards.

        Past it the polynomial folds back, and points far outside the view would land inside the image. Infinite where
        it never folds within 89.5 degrees.
        """
        return self._distortion_limit

    @cached_property
    def _distortion_limit(self) -> float:
        if not self.distortion.any():
            return float("inf")
        tangent = np.tan(np.deg2rad(np.linspace(0.0, 89.5, 3581)))
        zero = np.zeros_like(tangent)
        if self.model == "fisheye":
            radius = self._distort_fisheye(tangent, zero)[0]
        else:
            k = np.pad(self.distortion, (0, 8 - len(self.distortion)))
            k[2:4] = 0.0  # without the tangential part, which is no function of the radius alone
            radius = replace(self, distortion=k)._distort_brown_conrady(tangent, zero)[0]
        falling = np.flatnonzero(np.diff(radius) <= 0)
        return float(tangent[falling[0]]) if len(falling) else float("inf")

    def resize(self, width: int, height: int) -> "Camera":
        """The camera of the same image resized to ``width`` x ``height`` pixels."""
        sx, sy = width / self.width, height / self.height
        scale = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
        return replace(self, width=width, height=height, K=scale @ self.K)

    def crop(self, left: int, top: int, width: int, height: int) -> "Camera":
        """The camera of the window whose first pixel is (left, top); the window may reach outside the image."""
        shift = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
        return replace(self, width=width, height=height, K=shift @ self.K)

    def flip(self) -> "Camera":
        """The camera of the mirrored image: it sees the points with x negated (skew and p2 change sign)."""
        K = self.K.copy()
        K[0, 2] = self.width - 1 - K[0, 2]
        K[0, 1] = -K[0, 1]
        distortion = self.distortion.copy()
        if self.model == "pinhole" and len(distortion) >= 4:
            distortion[3] = -distortion[3]
        return replace(self, K=K, distortion=distortion)


def camera_from_dict(entry: dict[str, Any], where: str) -> Camera:
    """A camera from ``{K: 3x3 | [fx, fy, cx, cy], size: [width, height], model: ..., distortion: [...]}``.

    Raises:
        ValueError: names the key that is missing, unknown or wrong, and ``where`` it was read.
    """
    known = {"K", "size", "model", "distortion"}
    for key in ("K", "size"):
        if key not in entry:
            raise ValueError(f"{where}: key {key!r} is missing; a camera needs K and size (width, height)")
    unknown = set(entry) - known
    if unknown:
        raise ValueError(f"{where}: unknown key {min(map(str, unknown))!r}; a camera has {', '.join(sorted(known))}")
    try:
        width, height = (int(v) for v in entry["size"])
        K: ArrayLike = entry["K"]
        if np.asarray(K).shape == (4,):
            fx, fy, cx, cy = (float(v) for v in entry["K"])
            K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        distortion = np.asarray(entry.get("distortion") or [], dtype=np.float64)
        return Camera(width, height, np.asarray(K, dtype=np.float64), entry.get("model", "pinhole"), distortion)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from error
