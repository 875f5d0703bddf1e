"""Recordings of ROS 1, ROS 2 and Foxglove: ``.bag``, SQLite (``.db3``) and MCAP files, or folders of their parts.

Found by type and name: images (``Image``, ``CompressedImage``) with their ``CameraInfo``, points (``PointCloud2``) and
transforms (``tf``, ``tf_static``), or what Foxglove's schemas have in their place.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.bag.container import one_topic_name
from fusionseg.data.bag.layout import files_of, is_recording
from fusionseg.data.images import nominal_camera
from fusionseg.data.log import FrameError, Log, frame_errors
from fusionseg.data.plain import TOLERANCE_NS, VIRTUAL_SIZE, Calibration, read_calibration
from fusionseg.data.recent import Recent
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.transform import compose, invert
from fusionseg.geometry.views import virtual_views
from fusionseg.label_maps import class_table
from fusionseg.sample import Sample

if TYPE_CHECKING:
    from fusionseg.data.bag.frames import Moment
    from fusionseg.data.bag.rig import Rig

logger = logging.getLogger(__name__)

Cloud = tuple[NDArray[np.float32], NDArray[np.float32] | None]


class BagLog(Log):
    """A recording. Frames are the sweeps of one LiDAR (without one: the images of the busiest camera), counted from 0.

    Each has the nearest image of each camera within the tolerance of pairing, or none. Where transforms lead from the
    LiDAR to ``odom`` or ``map``, the ego motion between sweep and image is in ``camera_T_lidar``. A LiDAR that is
    mounted at an angle is turned to the axes of ``base_link``. The sweep itself is not compensated.

    Args:
        path: the file, or the folder of its parts.
        classes: ``driving12`` or a YAML file; it only names the classes, as there are no labels.
        split: there are none; must be None.
        topics: the topics to read, as a list or separated by commas, in place of those found.
        calibration: YAML as of format ``plain``: replaces what the recording says of the cameras it has, and gives the
            full scale of the intensity and the tolerance of pairing.

    Raises:
        FileNotFoundError: no such recording or calibration.
        ValueError: nothing readable in it, a topic that it has not, or no camera whose calibration is known.
    """

    format: ClassVar[str] = "bag"
    needs: ClassVar[str] = (
        "recording of ROS 1 (.bag), ROS 2 (.db3, .mcap) or Foxglove (.mcap), or the folder of its files"
    )

    def __init__(
        self,
        path: str | Path,
        *,
        classes: str = "driving12",
        split: str | None = None,
        topics: str | Sequence[str] | None = None,
        calibration: str | Path | None = None,
    ) -> None:
        if split is not None:
            raise ValueError(f"split is {split!r}; a recording has no splits, choose frames instead")
        self.path = Path(path)
        self.name = self.path.resolve().name if self.path.is_dir() else self.path.stem
        self.table = class_table(classes)
        self._calibration_path = None if calibration is None else Path(calibration)
        given = None if self._calibration_path is None else read_calibration(self._calibration_path)
        self._tolerance_ns = TOLERANCE_NS if given is None else given.tolerance_ns
        named = topics.split(",") if isinstance(topics, str) else list(topics or ())
        self._read(given, [one_topic_name(topic) for topic in named if topic.strip()])
        self._recent = Recent(self._read_cloud)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether it is a ``.bag``, ``.db3`` or ``.mcap`` file, or a folder with one in it."""
        return is_recording(path)

    def _read(self, given: Calibration | None, named: Sequence[str]) -> None:
        """Index the files, choose topics, find out how the cameras are mounted, pair images with sweeps."""
        try:
            from fusionseg.data.bag.clock import Clock
            from fusionseg.data.bag.pairing import pair
            from fusionseg.data.bag.recording import Recording
            from fusionseg.data.bag.rig import read_rig
            from fusionseg.data.bag.sweeps import Sweeps
        except ModuleNotFoundError as error:
            raise ValueError(f"recordings need {error.name}; install it: pip install 'fusionseg[logs]'") from error
        recording = self._recording = Recording(self.path)
        choice = self._choice = recording.choose(named)
        chosen = [topic for topic in (choice.lidar, *choice.cameras.values()) if topic is not None]
        if not chosen:
            problems = "; ".join(recording.faults) or "it holds neither images nor points"
            raise ValueError(f"{self.path}: {problems}; expected Image, CompressedImage or PointCloud2 messages")
        streams = recording.streams
        self._first = choice.lidar or max(chosen, key=lambda topic: len(streams[topic].stamps_ns))
        clock = Clock(streams[self._first].stamps_ns, streams[self._first].recorded_ns)
        recording.tree.freeze(clock.taken)
        self._off_clock = [
            topic for topic in chosen if not clock.agrees(streams[topic].stamps_ns, streams[topic].recorded_ns)
        ]
        self._times = {topic: recording.times(topic, clock) for topic in chosen}
        rig = self._rig = read_rig(recording, choice, given, self._calibration_path)
        self.has_lidar, self.has_images = choice.lidar is not None, bool(choice.cameras)
        self._views = self._usable(rig)
        self.cameras = list(self._views)
        frames = self._times[self._first]
        self.frames = range(len(frames.taken_ns))
        self._pairings = {
            name: pair(frames, self._times[choice.cameras[name]], self._tolerance_ns)
            for name in self.cameras
            if self.has_images
        }
        if choice.lidar is not None:
            intensity_max = None if given is None else given.intensity_max
            self._sweeps = Sweeps(recording, choice.lidar, rig.lidar_T_message, intensity_max)
            self._lidar_frame = streams[choice.lidar].frame
            self._fixed = recording.tree.fixed_frame(self._lidar_frame)

    def _usable(self, rig: "Rig") -> dict[str, tuple[Camera, NDArray[np.float64]]]:
        """The views of a frame: cameras whose calibration is known, or virtual ones where there are no cameras."""
        if not self.has_images:
            return {name: (camera, pose) for name, camera, pose in virtual_views(*VIRTUAL_SIZE)}
        views = {name: (mounted.camera, mounted.camera_T_lidar) for name, mounted in rig.cameras.items()}
        if not self.has_lidar:
            for name in rig.missing:
                height, width = self._image(name, 0).shape[:2]
                views[name] = nominal_camera(width, height), np.eye(4)
        if not views:
            name, reason = next(iter(rig.missing.items()))
            raise ValueError(
                f"{self.path}: camera {name} cannot be used, {reason}; give --calibration FILE with its K, size and "
                f"camera_T_lidar (datasets/plain.md shows one), or --topics {self._choice.lidar} for the points alone"
            )
        for name in rig.missing.keys() - views.keys():
            logger.warning("camera %s is left out: %s", name, rig.missing[name])
        return views

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One view of one sweep; ``image`` is None where no image is near enough in time."""
        if frame not in self.frames:
            raise KeyError(f"{self.name} has no frame {frame}; it has {len(self.frames)} from 0")
        if camera_name not in self._views:
            raise KeyError(f"{self.name} has no camera {camera_name!r}; it has {', '.join(self.cameras)}")
        camera, camera_T_lidar = self._views[camera_name]
        sweep_ns = int(self._times[self._first].taken_ns[frame])
        index = int(self._pairings[camera_name].index[frame]) if self.has_images else -1
        image, image_ns = None, None
        if index >= 0:
            image = self._image(camera_name, index)
            image_ns = int(self._times[self._choice.cameras[camera_name]].taken_ns[index])
        points, after_s = self._recent(frame) if self.has_lidar else (np.zeros((0, 4), dtype=np.float32), None)
        if self.has_lidar and image_ns is not None:
            camera_T_lidar = compose(camera_T_lidar, self._motion(frame, image_ns))
        offset_s = None
        if after_s is not None and image_ns is not None:
            offset_s = after_s + np.float32((sweep_ns - image_ns) / 1e9)
        with frame_errors():
            return Sample(
                log=self.name,
                frame=frame,
                camera_name=camera_name,
                camera=camera,
                image=image,
                points_lidar=points,
                camera_T_lidar=camera_T_lidar,
                time_offset_s=offset_s,
                image_time_ns=image_ns,
                sweep_time_ns=sweep_ns if self.has_lidar else None,
            )

    def _image(self, name: str, index: int) -> NDArray[np.uint8]:
        from fusionseg.data.bag.messages import image_array, place_of

        topic = self._choice.cameras[name]
        where = place_of(self.path, topic, int(self._recording.streams[topic].stamps_ns[index]))
        image = image_array(self._recording.image(topic, index), where)
        mounted = self._rig.cameras.get(name)
        if mounted is not None and image.shape[:2] != (mounted.camera.height, mounted.camera.width):
            camera = mounted.camera
            raise FrameError(
                f"{where}: image is {image.shape[1]}x{image.shape[0]}, its calibration is for "
                f"{camera.width}x{camera.height}; give --calibration FILE with the size and K of these images"
            )
        return image

    def _read_cloud(self, frame: int) -> Cloud:
        return self._sweeps(frame)

    def _moment(self, frame: int, time_ns: int | None = None) -> "Moment":
        """The time of a frame's sweep, or another time near it."""
        from fusionseg.data.bag.frames import Moment

        times = self._times[self._first]
        taken = int(times.taken_ns[frame])
        return Moment(taken if time_ns is None else time_ns, int(times.recorded_ns[frame]))

    def _pose(self, moment: "Moment") -> NDArray[np.float64] | None:
        """(4, 4) from our LiDAR frame to the frame at rest."""
        if self._fixed is None:
            return None
        pose = self._recording.tree.lookup(self._fixed, self._lidar_frame, moment)
        turn = self._rig.lidar_T_message
        return pose if pose is None or turn is None else compose(pose, invert(turn))

    def _motion(self, frame: int, image_ns: int) -> NDArray[np.float64]:
        """``lidar(at the image)_T_lidar(at the sweep)``; the identity where poses are missing."""
        then, now = self._pose(self._moment(frame)), self._pose(self._moment(frame, image_ns))
        return np.eye(4) if then is None or now is None else compose(invert(now), then)

    def world_T_lidar(self, frame: int) -> NDArray[np.float64]:
        """(4, 4) pose of the LiDAR at a frame's sweep in ``odom`` or ``map``.

        Raises:
            KeyError: no pose at that time.
        """
        pose = self._pose(self._moment(frame)) if self.has_lidar else None
        if pose is None:
            raise KeyError(f"{self.name} has no pose of frame {frame}; it needs tf from odom or map to the LiDAR")
        return pose

    def files(self, frame: int) -> list[Path]:
        """The recording's files, and the calibration."""
        return [*files_of(self.path), *([] if self._calibration_path is None else [self._calibration_path])]

    def findings(self) -> dict[str, Any]:
        """What was read and left out, how images were paired with sweeps, and what could not be read."""
        choice, rig = self._choice, self._rig
        jumps = {topic: times.jumps() for topic, times in self._times.items()}
        paired = {name: pairing.findings() for name, pairing in self._pairings.items()}
        remarks = {name: mounted.remark for name, mounted in rig.cameras.items() if mounted.remark}
        return {
            "topics": {"lidar": choice.lidar} | choice.cameras if self.has_lidar else choice.cameras,
            "left_out": choice.left_out,
            "cameras_without_calibration": rig.missing,
            "remarks": remarks,
            "pairing_tolerance_ms": self._tolerance_ns / 1e6,
            "pairing": paired,
            "ego_motion": self._motion_found() if self.has_lidar else None,
            "intensity": self._intensity_found() if self.has_lidar else None,
            "times_of_recording_instead_of_stamps": self._off_clock,
            "clock_jumps": {topic: count for topic, count in jumps.items() if count},
            "messages_with_the_stamp_before": {t: n for t, n in self._recording.same_stamp.items() if n},
            "not_readable": self._recording.faults,
        }

    def _motion_found(self) -> str:
        if self._fixed is None:
            return "not compensated: no transforms lead from the LiDAR to odom or map"
        known = sum(self._pose(self._moment(frame)) is not None for frame in self.frames)
        return f"compensated by {self._fixed}, which has a pose for {known} of {len(self.frames)} frames"

    def _intensity_found(self) -> str:
        scale = self._sweeps.intensity_max
        return "the points have none" if scale is None else f"full scale {scale:g}"
