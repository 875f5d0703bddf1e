"""Which image belongs to which sweep: the nearest in time, within a tolerance."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.bag.clock import Times

RECORDED_APART_NS = 10_000_000_000
"""Messages recorded further apart than this do not belong together, though their stamps (of a clock that jumped) do."""


@dataclass(frozen=True, eq=False)
class Pairing:
    """The images of one camera that belong to the sweeps.

    Attributes:
        index: (N,) int64, for each sweep the image that belongs to it, -1 for none.
        offset_ns: (N,) int64, image less sweep; 0 where there is none.
        images: how many images there are.
    """

    index: NDArray[np.int64]
    offset_ns: NDArray[np.int64]
    images: int

    def findings(self) -> dict[str, Any]:
        """Counts of what found no partner, offsets in ms: their spread and, frame by frame, each (None: no image)."""
        paired = self.index >= 0
        spread = None
        if paired.any():
            low, middle, high = np.quantile(self.offset_ms[paired], [0.0, 0.5, 1.0])
            spread = {"min": float(low), "median": float(middle), "max": float(high)}
        return {
            "frames_with_image": int(paired.sum()),
            "frames_without_image": int((~paired).sum()),
            "images_unpaired": self.images - len(np.unique(self.index[paired])),
            "offset_ms": spread,
            "offsets_ms": [float(ms) if i >= 0 else None for i, ms in zip(self.index, self.offset_ms, strict=True)],
        }

    @property
    def offset_ms(self) -> NDArray[np.float64]:
        """``offset_ns`` to the microsecond."""
        return np.round(self.offset_ns / 1e6, 3)


def pair(sweeps: Times, images: Times, tolerance_ns: int) -> Pairing:
    """For every sweep the image taken nearest to it; one image may serve two sweeps, the earlier wins a tie."""
    order = np.argsort(images.taken_ns, kind="stable")
    taken = images.taken_ns[order]
    low = np.searchsorted(taken, sweeps.taken_ns - tolerance_ns, side="left")
    high = np.searchsorted(taken, sweeps.taken_ns + tolerance_ns, side="right")
    index = np.full(len(sweeps.taken_ns), -1, dtype=np.int64)
    offset = np.zeros(len(index), dtype=np.int64)
    for i in np.flatnonzero(high > low):
        near = order[low[i] : high[i]]
        together = np.abs(images.recorded_ns[near] - sweeps.recorded_ns[i]) <= RECORDED_APART_NS
        near = near[together]
        if len(near):
            apart = images.taken_ns[near] - sweeps.taken_ns[i]
            best = int(np.argmin(np.abs(apart)))
            index[i], offset[i] = near[best], apart[best]
    return Pairing(index, offset, len(images.taken_ns))
