"""Clouds of one LiDAR topic as a sample has them: axes of the vehicle, intensity in [0, 1], times of points."""

import logging

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.bag.messages import (
    Cloud,
    after_stamp_s,
    cloud_arrays,
    intensity_field,
    place_of,
)
from fusionseg.data.bag.recording import Recording
from fusionseg.data.log import FrameError
from fusionseg.data.points import INTENSITY_FULL_SCALES, scale_intensity
from fusionseg.geometry.transform import rotate

logger = logging.getLogger(__name__)

PROBED = 5
"""Sweeps that are looked at to find the full scale of their intensity."""
LONGEST_S = 1.0
"""Times of points further from the message's stamp are of another clock."""
WHOLE_NUMBERS = {"u1": 255.0, "u2": 65535.0}


class Sweeps:
    """The clouds of a topic.

    Args:
        recording: where they are.
        topic: which.
        lidar_T_message: (4, 4) rotation to x forward, y left, z up, or None.
        intensity_max: full scale of the intensity; None finds it.
    """

    def __init__(
        self,
        recording: Recording,
        topic: str,
        lidar_T_message: NDArray[np.float64] | None,
        intensity_max: float | None = None,
    ) -> None:
        self._recording = recording
        self._topic = topic
        self._turn = None if lidar_T_message is None else lidar_T_message[:3, :3].astype(np.float32)
        self.intensity_max = self._full_scale() if intensity_max is None else intensity_max

    def _full_scale(self) -> float | None:
        """The smallest usual full scale that holds the intensity of a few sweeps; None where there is no intensity."""
        count = len(self._recording.streams[self._topic].places)
        top: float | None = None
        for index in np.unique(np.linspace(0, count - 1, PROBED).astype(int)).tolist():
            try:
                cloud = self._recording.cloud(self._topic, index)
                points = cloud_arrays(cloud, self._topic)[0]
            except FrameError as error:
                logger.info("%s", error)
                continue
            name = intensity_field(cloud)
            if name is None:
                continue
            kind = cloud.fields[name][1].str[1:]
            if kind in WHOLE_NUMBERS:
                return WHOLE_NUMBERS[kind]
            top = max(top or 0.0, float(np.nan_to_num(points[:, 3], posinf=0.0).max(initial=0.0)))
        return None if top is None else next((scale for scale in INTENSITY_FULL_SCALES if top <= scale), top)

    def __call__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """(N, 4) points, and (N,) seconds after the message's stamp where it says when each was measured.

        Raises:
            FrameError: the message cannot be read.
        """
        stamp_ns = int(self._recording.streams[self._topic].stamps_ns[index])
        where = place_of(self._recording.path, self._topic, stamp_ns)
        cloud = self._recording.cloud(self._topic, index)
        points, times = cloud_arrays(cloud, where)
        if self._turn is not None:
            points[:, :3] = rotate(self._turn, points[:, :3])
        points[:, 3] = scale_intensity(points[:, 3], self.intensity_max or 1.0)
        return points, None if times is None else self._after_stamp(times, cloud, stamp_ns)

    def _after_stamp(self, times: NDArray[np.float64], cloud: Cloud, stamp_ns: int) -> NDArray[np.float32] | None:
        after_s = after_stamp_s(times, cloud, stamp_ns)
        return after_s if np.abs(np.nan_to_num(after_s)).max(initial=0.0) <= LONGEST_S else None
