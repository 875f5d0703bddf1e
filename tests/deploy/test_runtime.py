import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import FakeSession

from fusionseg.config import DataConfig, ModelConfig, TrainConfig
from fusionseg.data.prepare import prepare, prepare_frame
from fusionseg.deploy.result import PointLabels, ViewResult, merge_views
from fusionseg.deploy.runtime import Model, load
from fusionseg.geometry.camera import Camera
from fusionseg.labels import DRIVING12
from fusionseg.sample import Sample

SIZE = (24, 32)
CAMERA = Camera.from_focal(64, 48, 32, 32, 31.5, 23.5)
FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
# ahead, ahead to the left, behind, straight down, not a number
POINTS = np.array(
    [[10, 0, 0, 0.5], [10, 5, 0, 0.1], [-10, 0, 0, 0.2], [0, 0, -2, 0.3], [np.nan, 0, 0, 0]], dtype=np.float32
)
IMAGE = np.zeros((48, 64, 3), dtype=np.uint8)
BACKWARD = FORWARD @ np.diag([-1.0, -1, 1, 1])


def model(session: FakeSession) -> Model:
    return Model(session, table=DRIVING12, size=SIZE)


def sample(name: str, camera_T_lidar: np.ndarray = FORWARD, **fields: object) -> Sample:
    values = {"image": IMAGE, "points_lidar": POINTS} | fields
    return Sample(log="t", frame=3, camera_name=name, camera=CAMERA, camera_T_lidar=camera_T_lidar, **values)  # type: ignore[arg-type]


def test_points_outside_the_image_are_labelled_through_virtual_views() -> None:
    session = FakeSession({"camera": (10, 0.4)}, default=(6, 0.9))
    result = model(session)(IMAGE, POINTS, CAMERA, FORWARD)
    # the virtual views are surer, but what a camera sees is labelled by the camera
    np.testing.assert_array_equal(result.points, [10, 10, 6, 255, 255])
    np.testing.assert_allclose(result.confidence, [0.4, 0.4, 0.9, 0, 0])
    assert result.view.tolist() == [0, 0, 1, -1, -1]
    assert result.view_names == ("camera", "virtual_3")
    assert [view.image is None for view in session.seen] == [False, True]


def test_without_whole_sweep_what_no_camera_sees_stays_unknown() -> None:
    session = FakeSession({"camera": (10, 0.4)})
    result = model(session)(sample("camera"), whole_sweep=False)
    assert result.points.tolist() == [10, 10, 255, 255, 255]
    assert result.view_names == ("camera",)
    assert session.batches == [1]


@pytest.mark.parametrize(("given", "virtual"), [(None, SIZE), ((48, 64), SIZE), ((12, 16), (12, 16))])
def test_virtual_views_are_no_larger_than_what_the_model_learned_from(
    given: tuple[int, int] | None, virtual: tuple[int, int]
) -> None:
    session = FakeSession({})
    model(session)(sample("camera"), size=given)
    sizes = {view.camera_name: (view.camera.height, view.camera.width) for view in session.seen}
    assert sizes == {"camera": given or SIZE, "virtual_3": virtual}


def test_points_alone_need_no_camera() -> None:
    session = FakeSession({}, default=(3, 0.7))
    result = model(session)(points_lidar=POINTS)
    assert result.points.tolist() == [3, 3, 3, 255, 255]
    assert result.pixels is None
    with pytest.raises(ValueError, match="no pixels to draw"):
        result.plot()
    assert all(view.image is None and (view.camera.height, view.camera.width) == SIZE for view in session.seen)


def test_an_image_alone_needs_no_calibration() -> None:
    session = FakeSession({}, default=(3, 0.7))
    result = model(session)(IMAGE)
    assert result.points.shape == (0,)
    assert result.pixels is not None
    assert result.pixels.shape == (48, 64)
    assert (result.pixels == 3).all()
    assert len(session.seen) == 1


def test_the_most_confident_of_several_cameras_labels_a_point() -> None:
    session = FakeSession({"a": (1, 0.6), "b": (2, 0.8), "c": (3, 0.8), "back": (4, 0.3)})
    samples = [sample("a"), sample("b"), sample("c"), sample("back", BACKWARD)]
    result = model(session).predict_frame(samples, whole_sweep=False)
    assert result.points.tolist() == [2, 2, 4, 255, 255]
    assert result.view.tolist() == [1, 1, 3, -1, -1]
    assert {name: int(labels[0, 0]) for name, labels in result.pixels.items()} == {"a": 1, "b": 2, "c": 3, "back": 4}


@pytest.mark.parametrize(("sensors", "image", "lidar"), [("both", 1, 1), ("camera", 1, 0), ("lidar", 0, 1)])
def test_sensors_hide_one_input_but_never_the_points_to_label(sensors: str, image: int, lidar: int) -> None:
    session = FakeSession({"camera": (10, 0.4)})
    result = model(session).predict_frame([sample("camera")], sensors=sensors)  # type: ignore[arg-type]
    assert (session.seen[0].image is not None, session.seen[0].lidar_present) == (bool(image), bool(lidar))
    assert result.points[:2].tolist() == [10, 10]
    # virtual views have nothing but LiDAR to go by
    assert (len(session.seen) == 1) == (sensors == "camera")


@pytest.mark.parametrize(("at_once", "batches"), [(6, [6, 6, 1]), (1, [1] * 13)])
def test_views_are_labelled_as_many_at_once_as_the_session_likes_in_order(at_once: int, batches: list[int]) -> None:
    session = FakeSession({f"v{i}": (i % 12, 0.5) for i in range(13)})
    session.views_at_once = at_once
    views = [prepare(sample(f"v{i}"), SIZE) for i in range(13)]
    results = model(session).predict_views(views)
    assert session.batches == batches
    assert [int(r.points[0]) for r in results] == [i % 12 for i in range(13)]
    assert all(len(r.points) == len(v.index) == 2 for r, v in zip(results, views, strict=True))


def test_views_of_several_shapes_are_labelled_apart_in_order() -> None:
    session = FakeSession({name: (i, 0.5) for i, name in enumerate("abcd")})
    wide = CAMERA.resize(2 * CAMERA.width, CAMERA.height)
    names = (("a", CAMERA), ("b", wide), ("c", wide), ("d", CAMERA))
    samples = [dataclasses.replace(sample(name, image=None), camera=camera) for name, camera in names]
    views = prepare_frame(samples, SIZE)
    shapes = [(view.camera.height, view.camera.width) for view in views]
    assert shapes == [SIZE, (16, 44), (16, 44), SIZE]
    results = model(session).predict_views(views)
    assert session.batches == [1, 2, 1]
    assert [(result.size, int(result.points[0])) for result in results] == list(zip(shapes, range(4), strict=True))


def test_stride_4_labels_at_any_size() -> None:
    cells = np.arange(4, dtype=np.uint8).reshape(2, 2)
    none = np.zeros(0, dtype=np.uint8)
    result = ViewResult(cells, none, none.astype(np.float32), (8, 8))
    np.testing.assert_array_equal(result.pixels_at(8, 8), np.kron(cells, np.ones((4, 4))))
    np.testing.assert_array_equal(result.pixels_at(2, 2), cells)
    np.testing.assert_array_equal(result.pixels_at(4, 6), np.kron(cells, np.ones((2, 3))))
    # an input of 6 pixels has two cells, the second of which is half outside
    odd = dataclasses.replace(result, size=(6, 8))
    assert odd.pixels_at(3, 2)[:, 0].tolist() == [0, 0, 2]


def test_a_tie_stays_with_the_first_view_and_unseen_rows_stay_unknown() -> None:
    def view(label: int) -> ViewResult:
        return ViewResult(np.zeros((1, 1), np.uint8), np.full(2, label, np.uint8), np.full(2, 0.5, np.float32), (4, 4))

    merged = merge_views(4, [np.array([0, 1], np.int32), np.array([1, 2], np.int32)], [view(7), view(8)])
    assert merged.points.tolist() == [7, 7, 8, 255]
    assert merged.view.tolist() == [0, 0, 1, -1]
    assert PointLabels.empty(0).points.shape == (0,)


def test_timing_names_the_stages_and_their_total() -> None:
    timing = model(FakeSession({}))(sample("camera")).timing
    assert list(timing) == ["project", "preprocess", "forward", "postprocess", "total"]
    assert timing["total"] == pytest.approx(sum(list(timing.values())[:-1]))
    assert all(value > 0 for value in timing.values())


def test_results_are_saved_as_arrays_and_as_a_picture(tmp_path: Path) -> None:
    result = model(FakeSession({"camera": (10, 0.4)}))(sample("camera"))
    with np.load(result.save(tmp_path / "r.npz")) as saved:
        np.testing.assert_array_equal(saved["points"], result.points)
        np.testing.assert_array_equal(saved["pixels"], result.pixels)
        assert tuple(saved["classes"]) == DRIVING12.names
    picture = cv2.imread(str(result.save(tmp_path / "r.png")))[..., ::-1]
    np.testing.assert_array_equal(picture, result.plot())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.npz", "r.png"]
    with pytest.raises(ValueError, match=r"suffix is '.jpg'"):
        result.save(tmp_path / "r.jpg")


def test_a_plot_without_image_is_the_class_colours() -> None:
    result = model(FakeSession({}, default=(7, 0.5)))(sample("camera", image=None))
    assert (result.plot() == DRIVING12.colours[7]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "neither image nor points"),
        ((None, POINTS[:0]), "neither image nor points"),
        ((IMAGE, POINTS), "image and points without camera"),
        ((IMAGE, POINTS, CAMERA), "image and points without camera"),
        ((IMAGE[:5], POINTS, CAMERA, FORWARD), "^arrays frame 0 camera: image has shape"),
        ((None, POINTS[:, :3]), "points have shape"),
        ((None, POINTS[:, :3], CAMERA, FORWARD), "points have shape"),
        ((IMAGE, POINTS, CAMERA, FORWARD * 2), "camera_T_lidar"),
        ((IMAGE[..., 0],), "image has shape"),
    ],
)
def test_wrong_inputs_are_named(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(FakeSession({}))(*arguments)  # type: ignore[arg-type]


def test_wrong_frames_are_named() -> None:
    ready = model(FakeSession({}))
    with pytest.raises(ValueError, match="no sample to label"):
        ready.predict_frame([])
    with pytest.raises(ValueError, match="share one sweep"):
        ready.predict_frame([sample("a"), sample("b", points_lidar=POINTS[:2])])
    with pytest.raises(ValueError, match="t frame 3 has neither image nor points"):
        ready.predict_frame([sample("a", image=None, points_lidar=POINTS[:0])])
    with pytest.raises(ValueError, match="sensors is 'radar'"):
        ready.predict_frame([sample("a")], sensors="radar")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from fusionseg.data.prepare import POINT_FEATURES, RASTER_CHANNELS
    from fusionseg.models.build import build_model
    from fusionseg.models.checkpoint import save_checkpoint

    config = TrainConfig(
        data=DataConfig(size=SIZE),
        model=ModelConfig(
            image_encoder="mobilenetv3_small_050",
            lidar_channels=(8, 8, 8, 8),
            fusion_channels=(8, 8, 8, 8),
            head_channels=8,
            point_channels=8,
        ),
    )
    torch.manual_seed(0)
    network = build_model(
        config.model, classes=12, raster_channels=len(RASTER_CHANNELS), point_features=len(POINT_FEATURES)
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, network, config, DRIVING12)
    return path


def test_a_checkpoint_labels_whatever_is_there(checkpoint: Path) -> None:
    ready = load(checkpoint)
    assert (ready.name, ready.size, ready.table.names) == ("tiny", SIZE, DRIVING12.names)
    for given in (sample("camera"), sample("camera", image=None), sample("camera", points_lidar=POINTS[:0])):
        result = ready(given)
        assert result.pixels is not None
        assert result.pixels.shape == (48, 64)
        labelled = result.points[:3]
        assert (labelled < 12).all()
        assert ((result.confidence[:3] > 1 / 12) & (result.confidence[:3] <= 1)).all()


def test_labels_depend_on_neither_the_batch_nor_its_padding(checkpoint: Path) -> None:
    rng = np.random.default_rng(0)
    many = np.column_stack([rng.uniform(3, 30, (300, 1)), rng.uniform(-5, 5, (300, 2)), rng.random((300, 1))])
    views = [prepare(sample("a"), SIZE), prepare(sample("b", points_lidar=many.astype(np.float32)), SIZE)]
    ready = load(checkpoint)
    alone, together = ready.predict_views(views[:1])[0], ready.predict_views(views)[0]
    np.testing.assert_array_equal(alone.points, together.points)
    np.testing.assert_allclose(alone.confidence, together.confidence, atol=1e-5)
    np.testing.assert_array_equal(alone.pixels, together.pixels)


def test_another_input_size_and_the_training_mode_stay_per_call(checkpoint: Path) -> None:
    ready = load(checkpoint)
    network = ready.session.network  # type: ignore[attr-defined]
    network.train()
    result = ready(sample("camera"), size=(30, 50))
    assert network.training
    assert result.pixels is not None
    assert result.pixels.shape == (48, 64)
    assert ready.size == SIZE


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "missing.safetensors"}, FileNotFoundError, "no such model file"),
        ({"model": __file__}, ValueError, "not a complete safetensors file"),
        ({"runtime": "tensorflow"}, ValueError, "runtime is 'tensorflow'; choose one of torch"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"device": "abacus"}, ValueError, "device 'abacus'"),
    ],
)
def test_what_cannot_be_loaded_is_named(
    checkpoint: Path, options: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments = {"model": checkpoint} | options
    with pytest.raises(error, match=message):
        load(**arguments)  # type: ignore[arg-type]


def test_a_view_without_any_sensor_is_unknown() -> None:
    """A camera whose picture is lost must not label points from nothing."""
    session = FakeSession({}, default=(3, 0.9))
    samples = [sample("lost", image=None), sample("back", BACKWARD)]
    seen = model(session).predict_frame(samples, sensors="camera")
    assert seen.points.tolist() == [255, 255, 3, 255, 255]
    assert seen.confidence.tolist() == pytest.approx([0, 0, 0.9, 0, 0])
    assert (seen.pixels["lost"] == 255).all() and (seen.pixels["back"] == 3).all()
    # LiDAR alone can label the same view, but not one in which there is no point
    up = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    blind = sample("blind", up)
    scanned = model(session).predict_frame([samples[0], blind], sensors="lidar", whole_sweep=False)
    assert (scanned.pixels["lost"] == 3).all() and scanned.points.tolist()[:2] == [3, 3]
    assert (scanned.pixels["blind"] == 255).all()


def test_a_compiled_network_sees_few_numbers_of_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from tiny_model import save_tiny_model

    asked: list[str] = []

    def as_it_is(function: object, mode: str) -> object:
        asked.append(mode)
        return function

    monkeypatch.setattr(torch, "compile", as_it_is)
    path = save_tiny_model(tmp_path / "tiny.safetensors", SIZE)
    plain, compiled = load(path), load(path, compiled=True)
    assert asked == ["default"]
    view = prepare(sample("camera"), SIZE)
    shapes = [loaded.session.inputs([view]).points.shape[1] for loaded in (plain, compiled)]
    assert shapes == [len(view.index), 2048]
    # and says the same of the points that are there
    a, b = plain.predict_views([view])[0], compiled.predict_views([view])[0]
    np.testing.assert_array_equal(a.points, b.points)
    np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-6)
    np.testing.assert_array_equal(a.pixels, b.pixels)
