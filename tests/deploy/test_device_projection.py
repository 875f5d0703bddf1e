"""The projection for GPUs says what the NumPy one says, and no number of it is ever on the host."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_exports import fit_to
from tiny_model import save_tiny_model
from torch._subclasses.fake_tensor import FakeTensorMode

from fusionseg.data.open import open_log
from fusionseg.data.prepare import View, encode, project_sample
from fusionseg.data.stack import stack
from fusionseg.deploy.device_projection import Encoded, project_and_encode
from fusionseg.deploy.raw_view import SWEEP_BUCKET, RawStack, RawView, raw_view, stack_raw
from fusionseg.deploy.runtime import Model, load
from fusionseg.deploy.torch_session import TorchSession, answer_raw
from fusionseg.geometry.camera import Camera
from fusionseg.geometry.ground import fit_ground
from fusionseg.models.checkpoint import load_checkpoint
from fusionseg.models.segmenter import Output
from fusionseg.sample import Sample

SIZE = (50, 90)
"""No multiple of any stride."""
FORWARD = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, -0.3], [1, 0, 0, -0.2], [0, 0, 0, 1]])
BACKWARD = FORWARD @ np.diag([-1.0, -1, 1, 1])
K = np.array([[120.0, 1.5, 91.0], [0, 118.0, 52.0], [0, 0, 1]])
CAMERAS = {
    "pinhole": Camera(180, 100, K),
    "brown": Camera(180, 100, K, distortion=[-0.3, 0.1, 0.002, -0.001]),
    # the angle at which it folds back lies inside the image's corners
    "rational": Camera(180, 100, K * [[0.4], [0.4], [1]], distortion=[-0.4, 0.05, 0.001, 0, 0.01, 0.1, 0.02, 0.001]),
    "fisheye": Camera(180, 100, K * [[0.5], [0.5], [1]], model="fisheye", distortion=[0.05, -0.02, 0.003, -0.001]),
}


def cloud(seed: int = 0, count: int = 6000) -> np.ndarray:
    """Ground, things around, and what files hold by accident."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-30, -30, -1.9, 0], [30, 30, 4, 1], (count, 4)).astype(np.float32)
    points[::2, 2] = -1.8
    points[7] = points[3] = [10, 1, 0.5, 0.25]
    points[3, 3] = 0.75  # of two equally near points the first counts
    points[20:25] = [[np.nan] * 4, [np.inf, 0, 0, 0], [1e30, 1e29, 0, 1], [5000, 10, 3, 1], [-5, 0, 0, np.inf]]
    points[30:33] = [[8, 0, 0, np.nan], [8, 1, 0, 7], [8, 2, 0, -3]]
    return points


def sample(
    points: np.ndarray, camera: str = "pinhole", camera_T_lidar: np.ndarray = FORWARD, **fields: object
) -> Sample:
    values = {"image": np.zeros((100, 180, 3), np.uint8), "camera_name": camera} | fields
    return Sample(
        log="t", frame=0, camera=CAMERAS[camera], points_lidar=points, camera_T_lidar=camera_T_lidar, **values
    )  # type: ignore[arg-type]


def raw(item: Sample) -> RawView:
    return raw_view(item, SIZE, fit_ground(item.points_lidar))


def on_device(stacked: RawStack, stride: int = 4) -> Encoded:
    sweeps, which, calibration = map(torch.from_numpy, (stacked.sweeps, stacked.sweep, stacked.calibration))
    return project_and_encode(sweeps[which], calibration, SIZE, stride)


def assert_same(found: Encoded, row: int, view: View, stride: int = 4) -> None:
    """The row of a batch is what NumPy makes of the view."""
    expected = encode(view, stride)
    cell = np.full(found.cell.shape[1], -1)
    cell[view.index] = expected.cell
    np.testing.assert_array_equal(found.cell[row], cell)
    np.testing.assert_allclose(found.lidar[row], expected.raster, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.points[row].numpy()[view.index], expected.points, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [4, 2, 8])
def test_rasters_features_and_cells_are_those_of_numpy_for_every_camera(stride: int) -> None:
    clouds = [cloud(0), cloud(1, 4000)]
    samples = [sample(clouds[i % 2], name) for i, name in enumerate(CAMERAS)]
    samples.append(sample(clouds[0], "pinhole", BACKWARD))
    stacked = stack_raw([raw(item) for item in samples])
    assert stacked.sweeps.shape == (2, SWEEP_BUCKET, 4)
    assert stacked.sweep.tolist() == [0, 1, 0, 1, 0]
    found = on_device(stacked, stride)
    for row, item in enumerate(samples):
        view = project_sample(item, SIZE)
        assert 200 < len(view.index) < len(item.points_lidar) / 2
        assert_same(found, row, view, stride)


def test_a_distortion_that_folds_back_shows_nothing_beyond_it() -> None:
    camera = CAMERAS["rational"].resize(SIZE[1], SIZE[0])
    limit = camera.distortion_limit()
    assert 0.5 < limit < 2
    # at the same height left of the axis, just within and just beyond the limit
    points = np.array([[10, 9.9 * limit, 0, 0], [10, 10.1 * limit, 0, 0]], dtype=np.float32)
    turned = FORWARD.copy()
    turned[:3, 3] = 0
    cell = on_device(stack_raw([raw(sample(points, "rational", turned))])).cell[0, :2]
    assert (cell >= 0).tolist() == [True, False]


def test_a_known_point() -> None:
    camera = Camera.from_focal(SIZE[1], SIZE[0], 40, 40, 44, 24)
    points = np.array([[10, 0, 0, 0.5], [20, 0, 0, 1]], dtype=np.float32)
    turned = FORWARD.copy()
    turned[:3, 3] = 0
    item = Sample(log="t", frame=0, camera_name="c", camera=camera, points_lidar=points, camera_T_lidar=turned)
    found = on_device(stack_raw([raw(item)]))
    # pixel (44, 24) is in row 6 and column 11 of 23; no ground, so the plane is 1.8 m below the origin
    assert found.cell[0, :3].tolist() == [6 * 23 + 11, 6 * 23 + 11, -1]
    expected = [1, np.log(10) / 4, 0, 0, 1.8 / 4, 0.5, np.log(3) / 2, np.log(2)]
    np.testing.assert_allclose(found.lidar[0, :, 6, 11], expected, atol=1e-6)
    assert found.lidar[0, 0].sum() == 1
    np.testing.assert_allclose(found.points[0, 1], [np.log(20) / 4, 0.45, 1, np.log(2), -0.375, -0.375], atol=1e-6)


def test_padding_changes_nothing_and_no_points_are_no_points() -> None:
    stacked = stack_raw([raw(sample(cloud()))])
    calibration = torch.from_numpy(stacked.calibration)
    alone, more = (
        project_and_encode(torch.from_numpy(sweeps), calibration, SIZE, 4)
        for sweeps in (stacked.sweeps[:, :6000], stacked.sweeps)
    )
    torch.testing.assert_close(more.lidar, alone.lidar, rtol=0, atol=0)
    torch.testing.assert_close(more.points[:, :6000], alone.points, rtol=0, atol=0)
    torch.testing.assert_close(more.cell[:, :6000], alone.cell)
    assert (more.cell[:, 6000:] == -1).all()
    none = on_device(stack_raw([raw(sample(np.zeros((0, 4), np.float32)))]))
    assert (none.cell == -1).all() and not none.lidar.any() and none.points.isfinite().all()


def test_all_of_it_is_on_the_gpu_with_shapes_known_before() -> None:
    # tensors of a GPU that hold no numbers: reading one fails, and so does one left on the host
    with FakeTensorMode():
        sweeps, calibration = torch.empty(2, 100, 4, device="cuda"), torch.empty(2, 31, device="cuda")
        found = project_and_encode(sweeps, calibration, SIZE, 4)
    assert {tensor.device.type for tensor in found} == {"cuda"}
    assert [tuple(tensor.shape) for tensor in found] == [(2, 8, 13, 23), (2, 100, 6), (2, 100)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, generated_log: Path) -> Model:
    """A network that names many classes."""
    path = save_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.safetensors", (64, 96))
    checkpoint, log = load_checkpoint(path), open_log(generated_log)
    size = checkpoint.config.data.size
    stacked = stack([project_sample(item, size) for item in log.frame(log.frames[0])], checkpoint.model.raster_stride)
    arrays = (stacked.image, stacked.lidar, stacked.present, stacked.points, stacked.cell)
    fit_to(checkpoint.model, list(map(torch.from_numpy, arrays)))
    return Model(TorchSession(checkpoint.model), table=checkpoint.table, size=size)


def projecting(model: Model, views_at_once: int = 6) -> Model:
    """The same network, told to project."""
    assert isinstance(model.session, TorchSession)
    session = TorchSession(model.session.network, projects=True)
    session.views_at_once = views_at_once
    return Model(session, table=model.table, size=model.size)


def test_projection_and_network_are_one_graph(tiny: Model) -> None:
    network = tiny.session.network.eval()  # type: ignore[attr-defined]
    stacked = stack_raw([raw(sample(cloud())), raw(sample(cloud(), "fisheye", image=None))])
    arrays = (stacked.image, stacked.sweeps, stacked.present, stacked.sweep, stacked.calibration)
    tensors = [torch.from_numpy(array) for array in arrays]
    with torch.inference_mode():
        # fails where a number must be known to go on
        graph = torch.compile(answer_raw, fullgraph=True, backend="eager")
        for found, expected in zip(graph(network, *tensors), answer_raw(network, *tensors), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_network_gets_no_lidar_where_it_must_do_without() -> None:
    taken: list[torch.Tensor] = []

    class Network(torch.nn.Module):
        raster_stride = 4

        def forward(self, image: torch.Tensor, *rest: torch.Tensor) -> Output:
            taken.extend(rest)
            return Output(image.new_zeros((len(image), 3, 13, 23), dtype=torch.float32), torch.zeros(*rest[3].shape, 3))

    points = cloud()
    views = [raw(sample(item)) for item in (points, points, points[points[:, 0] < 0])]
    views[1] = replace(views[1], lidar_present=False)
    stacked = stack_raw(views)
    arrays = (stacked.image, stacked.sweeps, stacked.present, stacked.sweep, stacked.calibration)
    answer_raw(Network(), *map(torch.from_numpy, arrays))  # type: ignore[arg-type]
    lidar, present, _, cell = taken
    assert present.tolist() == [[0, 1], [0, 0], [0, 0]]
    assert lidar.flatten(1).any(dim=1).tolist() == [True, False, False]
    # a place to look at it is all the same
    assert (cell >= 0).any(dim=1).tolist() == [True, True, False]


@pytest.mark.parametrize("sensors", ["both", "camera", "lidar"])
def test_labels_of_many_frames_are_those_of_the_projection_on_the_host(
    tiny: Model, generated_log: Path, sensors: str
) -> None:
    log = open_log(generated_log)
    frames = [log.frame(number) for number in log.frames[:2]]
    expected = tiny.predict_many(frames, sensors=sensors)  # type: ignore[arg-type]
    found = projecting(tiny, 4).predict_many(frames, sensors=sensors)  # type: ignore[arg-type]
    assert len(np.unique(expected[0].points)) > 4
    for a, b in zip(expected, found, strict=True):
        assert np.mean(a.points == b.points) >= 0.999
        np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-3)
        assert all(np.mean(labels == b.pixels[name]) >= 0.999 for name, labels in a.pixels.items())
        assert [b.view_names[i] for i in b.view[b.view >= 0]] == [a.view_names[i] for i in a.view[a.view >= 0]]


def test_a_view_without_any_input_stays_unknown(tiny: Model) -> None:
    points, nothing = cloud(), np.zeros((0, 4), np.float32)
    behind = points[points[:, 0] < 0]
    for item in (sample(behind, image=None), sample(behind), sample(nothing), sample(points, image=None)):
        for sensors in ("both", "camera", "lidar"):
            expected = tiny.predict_frame([item], sensors=sensors, whole_sweep=False)  # type: ignore[arg-type]
            found = projecting(tiny).predict_frame([item], sensors=sensors, whole_sweep=False)  # type: ignore[arg-type]
            np.testing.assert_array_equal(found.points, expected.points)
            np.testing.assert_array_equal(found.pixels["pinhole"], expected.pixels["pinhole"])
            np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-5)


def test_points_alone_are_labelled_through_virtual_views(tiny: Model) -> None:
    expected, found = tiny(points_lidar=cloud()), projecting(tiny)(points_lidar=cloud())
    assert found.view_names == expected.view_names
    assert np.mean(found.points == expected.points) >= 0.999
    assert projecting(tiny)(np.zeros((64, 96, 3), np.uint8)).view_names == ("camera",)


def test_prepared_views_are_taken_as_they_are(tiny: Model) -> None:
    view = project_sample(sample(cloud()), tiny.size)
    expected, found = tiny.predict_views([view])[0], projecting(tiny).predict_views([view])[0]
    np.testing.assert_array_equal(found.points, expected.points)
    assert len(found.points) == len(view.index)


def test_a_gpu_projects_unless_told_otherwise_and_a_processor_does_not(tiny: Model, tmp_path: Path) -> None:
    assert isinstance(tiny.session, TorchSession) and not tiny.session.projects
    path = save_tiny_model(tmp_path / "other.safetensors")
    network = load(path).session.network  # type: ignore[attr-defined]
    assert TorchSession(network, "meta").projects
    assert not TorchSession(network, "meta", projects=False).projects


@pytest.mark.parametrize(("where", "cameras"), [("pandaset/002", 2), ("kitti_raw", 1)])
def test_labels_of_real_frames_are_those_of_the_projection_on_the_host(
    shared_data: Path, where: str, cameras: int
) -> None:
    model, log = load("student"), open_log(shared_data / where)
    model.size = (184, 320) if cameras > 1 else (192, 624)
    samples = log.frame(log.frames[0], log.cameras[:cameras])
    ground = fit_ground(samples[0].points_lidar)
    for item in samples:
        stacked = stack_raw([raw_view(item, SIZE, ground)])
        assert_same(on_device(stacked), 0, project_sample(item, SIZE, ground))
    expected, found = model.predict_frame(samples), projecting(model, 1).predict_frame(samples)
    assert np.mean(found.points == expected.points) >= 0.999
    for name, labels in expected.pixels.items():
        assert np.mean(found.pixels[name] == labels) >= 0.999
