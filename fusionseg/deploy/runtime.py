"""A model ready to label frames: one interface, whatever runs the network (NumPy and OpenCV only at import)."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, islice
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fusionseg.data.prepare import View, fit_size, project_sample, with_image
from fusionseg.deploy.exported import read_export
from fusionseg.deploy.exported_session import Hardware, missing_package, open_export
from fusionseg.deploy.raw_view import RawView, raw_view
from fusionseg.deploy.result import STAGES, Answer, FrameResult, PointLabels, Result, ViewResult, merge_views
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.ground import Ground, fit_ground
from fusionseg.geometry.views import virtual_views
from fusionseg.labels import IGNORE, ClassTable
from fusionseg.models.shipped import find_model
from fusionseg.sample import Sample

logger = logging.getLogger(__name__)
Sensors = Literal["both", "camera", "lidar"]
SENSORS: tuple[Sensors, ...] = ("both", "camera", "lidar")
RUNTIMES = ("torch", "onnxruntime", "openvino", "tensorrt")
Project = Callable[[Sample, tuple[int, int], Ground], View]
"""A sample, (height, width) and the ground to a view without an image."""


class Session(Protocol):
    """What runs the network: views to its input tensors, then to classes.

    Attributes:
        name: of the runtime, as reports call it.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        views_at_once: how many views it labels together fastest.
        projects: it takes raw views too, and projects them where the network runs (on a GPU).
    """

    name: str
    precision: str
    views_at_once: int
    projects: bool

    def inputs(self, views: Sequence[View]) -> Any:
        """The input tensors of views of one size."""

    def forward(self, inputs: Any) -> Answer:
        """The classes of those views."""


class Stopwatch:
    """Milliseconds spent per stage, summed over calls."""

    def __init__(self) -> None:
        self.spent_ms = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time inside to stage ``name``."""
        start = perf_counter()
        yield
        self.spent_ms[name] += 1e3 * (perf_counter() - start)

    def timing(self, frames: int = 1) -> dict[str, float]:
        """The stages and their ``total``, per frame."""
        spent_ms = {stage: spent / frames for stage, spent in self.spent_ms.items()}
        return {**spent_ms, "total": sum(spent_ms.values())}


class Model:
    """Labels images and point clouds; either may be missing.

    Args:
        session: what runs the network.
        table: the classes it predicts.
        size: (height, width) of the network input in pixels; images of another shape keep it, at as many pixels.
        name: how reports call it.
        classes: what opens a log with labels of this table: ``driving12``, ``native`` or a YAML file.
    """

    def __init__(
        self,
        session: Session,
        *,
        table: ClassTable,
        size: tuple[int, int],
        name: str = "model",
        classes: str = "driving12",
    ) -> None:
        self.session = session
        self.table = table
        self.size = size
        self.name = name
        self.classes = classes

    def __call__(
        self,
        image: Sample | NDArray[np.uint8] | None = None,
        points_lidar: NDArray[np.float32] | None = None,
        camera: Camera | None = None,
        camera_T_lidar: NDArray[np.float64] | None = None,
        *,
        sensors: Sensors = "both",
        whole_sweep: bool = True,
        size: tuple[int, int] | None = None,
    ) -> Result:
        """Label one image and its sweep, or one ``Sample`` given in place of ``image``.

        Args:
            image: (H, W, 3) uint8 RGB, a ``Sample``, or None.
            points_lidar: (N, 4) x, y, z in metres and intensity in [0, 1], LiDAR frame; or None.
            camera: of the image; may be left out where one of the two sensors is missing.
            camera_T_lidar: (4, 4) LiDAR frame to camera frame; as ``camera``.
            sensors: which of the sensors the network may use.
            whole_sweep: label the points outside the image too, through virtual views (six more passes).
            size: (height, width) of the network input; by default the model's, in the shape of the image. Virtual views
                have no more pixels than the model's.

        Raises:
            ValueError: neither image nor points, both but no calibration, or arrays that break ``Sample``'s contract.
        """
        if isinstance(image, Sample):
            sample: Sample | None = image
        else:
            sample = _sample(image, points_lidar, camera, camera_T_lidar)
        if sample is None:
            points = _points(points_lidar)
            frame = self.label(self._prepare([[]], [points], sensors, whole_sweep, size))[0]
            return _single(frame, None)
        frame = self.predict_frame([sample], sensors=sensors, whole_sweep=whole_sweep, size=size)
        return _single(frame, sample)

    def predict_frame(
        self,
        samples: Sequence[Sample],
        *,
        sensors: Sensors = "both",
        whole_sweep: bool = True,
        size: tuple[int, int] | None = None,
    ) -> FrameResult:
        """Label one sweep and the images around it; ``samples`` share one cloud.

        A point in several images takes the label of the view that is most confident; points in none are labelled from
        LiDAR alone through virtual views, unless ``whole_sweep`` is off or ``sensors`` is ``camera``.

        Raises:
            ValueError: no sample, samples without image and points, or of different sweeps.
        """
        return self.predict_many([samples], sensors=sensors, whole_sweep=whole_sweep, size=size)[0]

    def predict_many(
        self,
        frames: Sequence[Sequence[Sample]],
        *,
        sensors: Sensors = "both",
        whole_sweep: bool = True,
        size: tuple[int, int] | None = None,
    ) -> list[FrameResult]:
        """Label several frames, views of different frames together where the runtime is faster that way (on a GPU).

        The labels are those of ``predict_frame``; each frame's timing is an equal share of the whole.

        Raises:
            ValueError: as ``predict_frame``, of any of the frames.
        """
        return self.label(self.prepare(frames, sensors=sensors, whole_sweep=whole_sweep, size=size))

    def prepare(
        self,
        frames: Sequence[Sequence[Sample]],
        *,
        sensors: Sensors = "both",
        whole_sweep: bool = True,
        size: tuple[int, int] | None = None,
    ) -> "Prepared":
        """What ``predict_many`` does before the network; ``label`` does the rest, in another thread if you like.

        Raises:
            ValueError: as ``predict_many``.
        """
        for samples in frames:
            _check_frame(samples)
        return self._prepare(frames, [samples[0].points_lidar for samples in frames], sensors, whole_sweep, size)

    def predict_views(
        self, views: Sequence[View], sensors: Sensors = "both", watch: Stopwatch | None = None
    ) -> list[ViewResult]:
        """Label prepared views, a few of one size at a time.

        With ``camera`` the network sees no LiDAR, yet every point gets a label: it is a place to look at. With
        ``lidar`` it sees no image. A view that neither sensor looks into stays unknown (255).

        Raises:
            ValueError: unknown sensors.
        """
        watch = Stopwatch() if watch is None else watch
        return self._answers(self._batches(views, sensors, watch), watch)

    def _batches(self, views: Sequence[View], sensors: Sensors, watch: Stopwatch) -> Iterator["Batch"]:
        if sensors not in SENSORS:
            raise ValueError(f"sensors is {sensors!r}; choose one of {', '.join(SENSORS)}")
        masked = [mask_sensors(view, sensors) for view in views]
        for chunk in _chunks(masked, self.session.views_at_once):
            with watch.stage("preprocess"):
                inputs = self.session.inputs(chunk)
            yield Batch(chunk, inputs)

    def _answers(self, batches: Iterable["Batch"], watch: Stopwatch) -> list[ViewResult]:
        results = []
        for batch in batches:
            with watch.stage("forward"):
                answer = self.session.forward(batch.inputs)
            for b, view in enumerate(batch.views):
                count = len(view.index)
                size = (view.camera.height, view.camera.width)
                result = ViewResult(answer.pixels[b], answer.points[b, :count], answer.confidence[b, :count], size)
                results.append(result if _has_input(view) else _unknown(result))
        return results

    def _prepare(
        self,
        frames: Sequence[Sequence[Sample]],
        sweeps: Sequence[NDArray[np.float32]],
        sensors: Sensors,
        whole_sweep: bool,
        given: tuple[int, int] | None,
    ) -> "Prepared":
        watch = Stopwatch()
        project: Project = raw_view if self.session.projects else project_sample
        with watch.stage("project"):
            grounds = [fit_ground(points) for points in sweeps]
            views = [
                [project(sample, given or fit_size(self.size, sample.camera), ground) for sample in samples]
                for samples, ground in zip(frames, grounds, strict=True)
            ]
        if sensors != "lidar":
            with watch.stage("preprocess"):
                views = [list(map(with_image, *frame)) for frame in zip(views, frames, strict=True)]
        batches = list(self._batches([view for frame in views for view in frame], sensors, watch))
        virtual: list[list[View]] = [[] for _ in frames]
        if whole_sweep and sensors != "camera":
            # views larger than those it learned from are labelled later and worse
            smaller = min(given or self.size, self.size, key=prod)
            with watch.stage("project"):
                virtual = [_virtual(*frame, smaller, project) for frame in zip(sweeps, grounds, views, strict=True)]
            batches += self._batches([view for frame in virtual for view in frame], "lidar", watch)
        cameras = [{sample.camera_name: (sample.camera.height, sample.camera.width) for sample in f} for f in frames]
        return Prepared([len(points) for points in sweeps], cameras, views, virtual, batches, watch)

    def label(self, prepared: "Prepared") -> list[FrameResult]:
        """The labels of what ``prepare`` made of frames."""
        watch = prepared.watch
        results = iter(self._answers(prepared.batches, watch))
        seen, filled = (
            [list(islice(results, len(frame))) for frame in views] for views in (prepared.views, prepared.virtual)
        )
        with watch.stage("postprocess"):
            labels = [
                _merge(*frame)
                for frame in zip(prepared.counts, prepared.views, seen, prepared.virtual, filled, strict=True)
            ]
            pixels = [
                {name: result.pixels_at(*size) for (name, size), result in zip(cameras.items(), frame, strict=True)}
                for cameras, frame in zip(prepared.cameras, seen, strict=True)
            ]
        timing = watch.timing(len(labels))
        return [
            FrameResult(
                table=self.table,
                pixels=planes,
                points=merged.points,
                confidence=merged.confidence,
                view=merged.view,
                view_names=(*cameras, *(view.camera_name for view in virtual)),
                timing=dict(timing),
            )
            for planes, merged, cameras, virtual in zip(pixels, labels, prepared.cameras, prepared.virtual, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Batch:
    """Views of one size and the runtime's tensors of them."""

    views: list[View]
    inputs: Any


@dataclass(frozen=True, eq=False)
class Prepared:
    """Frames on their way to the network.

    Attributes:
        counts: points of each frame's sweep.
        cameras: of each frame, camera name -> (height, width) of its image.
        views, virtual: the cameras' views of each frame, and those of points that no camera sees.
        batches: the views of all frames, then the virtual ones of all.
        watch: time spent so far.
    """

    counts: list[int]
    cameras: list[dict[str, tuple[int, int]]]
    views: list[list[View]]
    virtual: list[list[View]]
    batches: list[Batch]
    watch: Stopwatch


def _merge(
    count: int,
    views: Sequence[View],
    seen: Sequence[ViewResult],
    virtual: Sequence[View],
    filled: Sequence[ViewResult],
) -> PointLabels:
    """Labels of a sweep from its cameras' views; virtual views label only what is unknown after those."""
    merged = merge_views(count, [view.index for view in views], seen)
    unseen = merged.points == IGNORE
    for number, (view, result) in enumerate(zip(virtual, filled, strict=True), len(views)):
        kept = unseen[view.index]
        merged.add(number, view.index[kept], result.points[kept], result.confidence[kept])
    return merged


def _virtual(
    points: NDArray[np.float32], ground: Ground, seen: Sequence[View], size: tuple[int, int], project: Project
) -> list[View]:
    """The virtual views of a sweep that see any of its points that the views ``seen`` do not; raw, all of them."""
    unseen = np.ones(len(points), dtype=bool)
    for view in seen:
        if not isinstance(view, RawView):
            unseen[view.index] = False
    if not unseen.any():
        return []
    views = [
        project(
            Sample(
                log="",
                frame=0,
                camera_name=name,
                camera=camera,
                points_lidar=points,
                camera_T_lidar=camera_T_lidar,
            ),
            size,
            ground,
        )
        for name, camera, camera_T_lidar in virtual_views(size[1], size[0])
    ]
    return [view for view in views if unseen[view.index].any()]


def load(
    model: str | Path,
    *,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
    compiled: bool = False,
) -> Model:
    """A model from whatever holds one.

    Args:
        model: a shipped name, as ``student``, a ``.safetensors`` checkpoint of this project, or a folder that
            ``fusionseg export`` wrote.
        runtime: ``torch`` for checkpoints; for exports ``onnxruntime``, ``openvino`` or ``tensorrt``. None for what
            runs the file.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads of the network in this process, or None to leave them as they are.
        precision: of torch on a GPU ``fp32``, ``bf16`` or ``fp16``; of an export the one it was made with, or None, or
            of one to OpenVINO in fp32 or fp16 ``bf16``, where the processor has units for it (AVX512-BF16, AMX).
        compiled: let torch.compile make one program of a checkpoint's network.

    Raises:
        FileNotFoundError: no such file, nor a shipped model of that name.
        ValueError: no model of this project, damaged files, a runtime, precision or device that it cannot be run with,
            or a package that is not installed.
    """
    if runtime is not None and runtime not in RUNTIMES:
        raise ValueError(f"runtime is {runtime!r}; choose one of {', '.join(RUNTIMES)}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}; expected at least 1")
    if threads is not None and threads > (cores := len(os.sched_getaffinity(0))):
        logger.warning("%d threads on %d cores wait for each other; give at most %d", threads, cores, cores)
    path, hardware = find_model(model), Hardware(device, threads)
    if path.is_dir():
        return _load_export(path, runtime, hardware, precision, compiled)
    if runtime not in (None, "torch"):
        target = "openvino" if runtime == "openvino" else "onnx"
        raise ValueError(
            f"{path}: is a checkpoint, {runtime} runs exports; write one: fusionseg export {model} --to {target}"
        )
    try:
        from fusionseg.deploy.torch_session import open_torch
    except ImportError as error:
        raise missing_package(error.name or "torch") from error
    session, checkpoint = open_torch(path, hardware, precision, compiled=compiled)
    data = checkpoint.config.data
    return Model(session, table=checkpoint.table, size=data.size, name=path.stem, classes=data.classes)


def _load_export(path: Path, runtime: str | None, hardware: Hardware, precision: str | None, compiled: bool) -> Model:
    exported = read_export(path)
    manifest = exported.manifest
    if compiled:
        raise ValueError(f"{path}: is an export, torch.compile takes checkpoints; leave compiled out")
    session = open_export(exported, runtime, hardware, precision)
    return Model(session, table=exported.table, size=manifest.size, name=manifest.name, classes=manifest.classes)


def _chunks(views: Sequence[View], most: int) -> Iterator[list[View]]:
    """Neighbouring views of one size, at most ``most`` together."""
    for _, group in groupby(views, key=lambda view: (view.camera.height, view.camera.width)):
        same = list(group)
        yield from (same[start : start + most] for start in range(0, len(same), most))


def _check_frame(samples: Sequence[Sample]) -> None:
    if not samples:
        raise ValueError("no sample to label; give at least one view of the sweep")
    counts = {len(sample.points_lidar) for sample in samples}
    if len(counts) > 1:
        raise ValueError(f"views hold {sorted(counts)} points; the views of one frame share one sweep")
    if counts == {0} and all(sample.image is None for sample in samples):
        raise ValueError(f"{samples[0].log} frame {samples[0].frame} has neither image nor points; nothing to label")


def mask_sensors(view: View, sensors: Sensors) -> View:
    """The view with the image or the LiDAR hidden from the network."""
    if sensors == "camera":
        return replace(view, lidar_present=False)
    return replace(view, image=None) if sensors == "lidar" else view


def _has_input(view: View) -> bool:
    return view.image is not None or (view.lidar_present and len(view.index) > 0)


def _unknown(result: ViewResult) -> ViewResult:
    """The same without an answer: what the network says of a view without any input is made up."""
    pixels, points = (np.full_like(labels, IGNORE) for labels in (result.pixels, result.points))
    return ViewResult(pixels, points, np.zeros_like(result.confidence), result.size)


def _points(points_lidar: NDArray[np.float32] | None) -> NDArray[np.float32]:
    points = np.zeros((0, 4)) if points_lidar is None else np.asarray(points_lidar)
    if points.ndim != 2 or points.shape[1] != 4:
        raise ValueError(f"points have shape {points.shape}; expected (N, 4): x, y, z, intensity")
    return points.astype(np.float32, copy=False)


def _sample(
    image: NDArray[np.uint8] | None,
    points_lidar: NDArray[np.float32] | None,
    camera: Camera | None,
    camera_T_lidar: NDArray[np.float64] | None,
) -> Sample | None:
    """The sample of bare arrays; None for points without a camera.

    Raises:
        ValueError: neither sensor, or both without the calibration that ties them.
    """
    points = _points(points_lidar)
    if image is None and not len(points):
        raise ValueError("neither image nor points; nothing to label")
    if image is not None and len(points) and (camera is None or camera_T_lidar is None):
        raise ValueError("image and points without camera and camera_T_lidar; give both, or one sensor alone")
    if camera is None or (camera_T_lidar is None and len(points)):
        if image is None:
            return None
        # without points nothing is projected, so the focal length plays no part
        if image.ndim != 3:
            raise ValueError(f"image has shape {image.shape}; expected (height, width, 3), RGB")
        height, width = image.shape[:2]
        camera = Camera.from_focal(width, height, width, width, (width - 1) / 2, (height - 1) / 2)
    return Sample(
        log="arrays",
        frame=0,
        camera_name="camera",
        camera=camera,
        image=image,
        points_lidar=points,
        camera_T_lidar=np.eye(4) if camera_T_lidar is None else camera_T_lidar,
    )


def _single(frame: FrameResult, sample: Sample | None) -> Result:
    return Result(
        table=frame.table,
        pixels=None if sample is None else frame.pixels[sample.camera_name],
        points=frame.points,
        confidence=frame.confidence,
        view=frame.view,
        view_names=frame.view_names,
        timing=frame.timing,
        image=None if sample is None else sample.image,
    )
