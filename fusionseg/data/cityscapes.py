"""Cityscapes: ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` with ``gtFine`` label ids and ``camera`` calibration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from fusionseg.data.files import read_image, read_json, read_label_image
from fusionseg.data.images import NOMINAL_HFOV_DEG, nominal_camera
from fusionseg.data.log import FrameError, Log, frame_errors
from fusionseg.geometry.camera import Camera
from fusionseg.label_maps import label_map
from fusionseg.sample import Sample

SPLITS = ("train", "val", "test")
IMAGE_END = "_leftImg8bit.png"
CALIBRATED_SIZE = (2048, 1024)


class Cityscapes(Log):
    """Dense labels of street scenes, camera only; frame = position in the sorted ``CITY/NAME`` of the chosen splits.

    ``gtFine`` may be missing (no labels then); the labels of ``test`` are all void by design of the set.
    The calibration in ``camera/`` is of the original 2048x1024 images and follows them when they were resized;
    without it the camera is the nominal one (``images.nominal_camera``).

    Args:
        path: folder with ``leftImg8bit``.
        classes: as in ``label_map``.
        split: ``train``, ``val`` or ``test``; None takes all that are there, in this order.
        hfov_deg: horizontal field of view of the nominal camera.

    Raises:
        FileNotFoundError: no such folder or split, or no image in it.
        ValueError: an unknown split, or a field of view that no pinhole camera has.
    """

    format: ClassVar[str] = "cityscapes"
    needs: ClassVar[str] = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png"
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
        images = self.path / "leftImg8bit"
        wanted = SPLITS if split is None else (split,)
        self._files = [file for name in wanted for file in sorted((images / name).glob(f"*/*{IMAGE_END}"))]
        if not self._files:
            raise FileNotFoundError(f"{images}: no {split or 'SPLIT'}/CITY/*{IMAGE_END}; expected Cityscapes' layout")
        self._map = label_map("cityscapes", classes)
        self.table = self._map.table
        self.name = self.path.resolve().name + (f"-{split}" if split else "")
        self.frames: Sequence[int] = range(len(self._files))
        self.cameras: Sequence[str] = ("camera",)
        self._hfov_deg = hfov_deg
        nominal_camera(1, 1, hfov_deg)  # a wrong field of view should show now, not at the first frame
        self._has_labels = (self.path / "gtFine").is_dir()

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder of images is there."""
        return (path / "leftImg8bit").is_dir()

    def image_path(self, frame: int) -> Path:
        """The file of a frame number."""
        return self._files[frame]

    def _beside(self, file: Path, folder: str, end: str) -> Path:
        """The file of the same picture under another top folder."""
        stem = file.name.removesuffix(IMAGE_END)
        return self.path / folder / file.parent.parent.name / file.parent.name / f"{stem}{end}"

    def _camera(self, file: Path, width: int, height: int) -> Camera:
        calibration = self._beside(file, "camera", "_camera.json")
        if not calibration.is_file():
            return nominal_camera(width, height, self._hfov_deg)
        content: Any = read_json(calibration)
        try:
            fx, fy, cx, cy = (float(content["intrinsic"][key]) for key in ("fx", "fy", "u0", "v0"))
            return Camera.from_focal(*CALIBRATED_SIZE, fx, fy, cx, cy).resize(width, height)
        except (KeyError, TypeError, ValueError) as error:
            raise FrameError(f"{calibration}: expected intrinsic with numbers fx, fy, u0, v0 ({error})") from error

    def files(self, frame: int) -> list[Path]:
        """Picture, annotation and calibration."""
        file = self._files[frame]
        annotation = self._beside(file, "gtFine", "_gtFine_labelIds.png")
        return [file, annotation, self._beside(file, "camera", "_camera.json")]

    def sample(self, frame: int, camera_name: str) -> Sample:
        """One picture with its dense labels."""
        if frame not in self.frames or camera_name not in self.cameras:
            raise KeyError(f"{self.name} has no frame {frame} of camera {camera_name!r}")
        file = self._files[frame]
        image = read_image(file)
        labels = None
        if self._has_labels:
            annotation = self._beside(file, "gtFine", "_gtFine_labelIds.png")
            ids = read_label_image(annotation)
            if ids.shape != image.shape[:2]:
                raise FrameError(
                    f"{annotation}: labels are {ids.shape}, the image is {image.shape[:2]}; sizes must agree"
                )
            with frame_errors():
                labels = self._map(ids, str(annotation))
        with frame_errors():
            return Sample(
                log=self.name,
                frame=frame,
                camera_name=camera_name,
                camera=self._camera(file, image.shape[1], image.shape[0]),
                image=image,
                pixel_labels=labels,
            )
