"""CamVid in SegNet's layout: ``SPLIT/NAME.png|jpg`` and ``SPLITannot/NAME.png`` with ids 0-10 and 11 for void."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from fusionseg.data.files import read_image, read_label_image
from fusionseg.data.images import NOMINAL_HFOV_DEG, images_in, nominal_camera
from fusionseg.data.log import FrameError, Log, frame_errors
from fusionseg.label_maps import label_map
from fusionseg.sample import Sample

SPLITS = ("train", "val", "test")


def splits_in(path: Path) -> list[str]:
    """The splits of which both images and annotations are there."""
    return [split for split in SPLITS if (path / split).is_dir() and (path / f"{split}annot").is_dir()]


class CamVid(Log):
    """Dense labels of street scenes, camera only; frame = position in the sorted names of the split.

    The set has no calibration in this layout: the camera is the nominal one (``images.nominal_camera``).

    Args:
        path: folder with ``train``, ``trainannot`` and so on.
        classes: as in ``label_map``.
        split: ``train``, ``val`` or ``test``; None takes all that are there, in this order.
        hfov_deg: horizontal field of view of the nominal camera.

    Raises:
        FileNotFoundError: no such folder or split.
        ValueError: an unknown split, or a field of view that no pinhole camera has.
    """

    format: ClassVar[str] = "camvid"
    needs: ClassVar[str] = "train/NAME.png and trainannot/NAME.png (or val, test)"
    has_lidar = False

    def __init__(
        self,
        path: str | Path,
        *,
        classes: str = "driving12",
        split: str | None = None,
        hfov_deg: float = NOMINAL_HFOV_DEG,
    ) -> None:
        self.path = Path(path)
        if split is not None and split not in SPLITS:
            raise ValueError(f"{path}: split is {split!r}; choose one of {', '.join(SPLITS)}")
        there = splits_in(self.path)
        wanted = there if split is None else [split]
        if not wanted or not set(wanted) <= set(there):
            missing = split or "train"
            raise FileNotFoundError(f"{path}: no split {missing!r}; expected folders {missing}/ and {missing}annot/")
        self._files = [file for name in wanted for file in images_in(self.path / name)]
        if not self._files:
            raise FileNotFoundError(f"{path}: no image in {', '.join(wanted)}; expected JPEG or PNG files")
        self._map = label_map("camvid", classes)
        self.table = self._map.table
        self.name = self.path.resolve().name + (f"-{split}" if split else "")
        self.frames: Sequence[int] = range(len(self._files))
        self.cameras: Sequence[str] = ("camera",)
        self._hfov_deg = hfov_deg
        nominal_camera(1, 1, hfov_deg)  # a wrong field of view should show now, not at the first frame

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a split and its annotations are there."""
        return bool(splits_in(path))

    def image_path(self, frame: int) -> Path:
        """The file of a frame number."""
        return self._files[frame]

    def _annotation(self, frame: int) -> Path:
        file = self._files[frame]
        return file.parent.with_name(f"{file.parent.name}annot") / f"{file.stem}.png"

    def files(self, frame: int) -> list[Path]:
        """Picture and annotation."""
        return [self._files[frame], self._annotation(frame)]

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One picture with its dense labels."""
        if frame not in self.frames or camera_name not in self.cameras:
            raise KeyError(f"{self.name} has no frame {frame} of camera {camera_name!r}")
        annotation = self._annotation(frame)
        image = read_image(self._files[frame])
        ids = read_label_image(annotation)
        if ids.shape != image.shape[:2]:
            raise FrameError(f"{annotation}: labels are {ids.shape}, the image is {image.shape[:2]}; sizes must agree")
        with frame_errors():
            return Sample(
                log=self.name,
                frame=frame,
                camera_name=camera_name,
                camera=nominal_camera(image.shape[1], image.shape[0], self._hfov_deg),
                image=image,
                pixel_labels=self._map(ids, str(annotation)),
            )
