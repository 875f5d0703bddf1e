"""Views to arrays: padding of sides and of point counts, and where a cell is on the padded grid."""

from dataclasses import replace

import numpy as np
from test_collate import H, W, make_view

from fusionseg.data.collate import collate
from fusionseg.data.stack import stack

ROWS, COLUMNS = H // 4, W // 4


def test_padding_moves_cells_to_the_wider_grid_and_nothing_else() -> None:
    views = [make_view(5), make_view(3, seed=1)]
    plain, padded = stack(views, 4), stack(views, 4, multiple=32, bucket=8)
    assert plain.grid == padded.grid == (ROWS, COLUMNS) == (10, 14)
    assert padded.image.shape == (2, 64, 64, 3) and padded.lidar.shape == (2, 8, 16, 16)
    np.testing.assert_array_equal(padded.image[:, :H, :W], plain.image)
    np.testing.assert_array_equal(padded.lidar[:, :, :ROWS, :COLUMNS], plain.lidar)
    assert padded.image[:, H:].max() == padded.image[:, :, W:].max() == 0
    assert padded.lidar[:, :, ROWS:].max() == padded.lidar[..., COLUMNS:].max() == 0
    # cell (row, column) is row * 14 + column on the one grid and row * 16 + column on the other
    np.testing.assert_array_equal(padded.cell[0, :5], plain.cell[0] // 14 * 16 + plain.cell[0] % 14)
    assert (padded.cell[0, 5:] == -1).all() and (padded.cell[1, 3:] == -1).all()
    np.testing.assert_array_equal(padded.points[1, :3], plain.points[1, :3])


def test_no_point_at_all_still_fills_a_bucket() -> None:
    none = make_view(0)
    assert stack([none], 4).cell.shape == (1, 0)
    filled = stack([none], 4, bucket=8)
    assert filled.cell.tolist() == [[-1] * 8]
    assert filled.present.tolist() == [[1, 0]]
    assert stack([make_view(8)], 4, bucket=8).cell.shape == (1, 8)
    assert stack([make_view(9)], 4, bucket=8).cell.shape == (1, 16)


def test_tensors_are_these_arrays() -> None:
    views = [make_view(5), make_view(3, seed=1)]
    arrays, batch = stack(views, 4), collate(views, 4)
    for name in ("lidar", "present", "points", "cell"):
        np.testing.assert_array_equal(getattr(arrays, name), getattr(batch, name).numpy())
    np.testing.assert_array_equal(arrays.image.transpose(0, 3, 1, 2), batch.image.numpy())


def test_a_view_that_fills_its_input_is_not_copied() -> None:
    view = make_view(5)
    assert view.image is not None
    assert np.shares_memory(stack([view], 4).image, view.image)
    assert not np.shares_memory(stack([view], 4, multiple=32).image, view.image)
    # what torch could not take as it is
    for image in (view.image[:, ::-1], np.asfortranarray(view.image), view.image.copy()):
        image.flags.writeable = image.flags.c_contiguous is False
        other = stack([replace(view, image=image)], 4).image
        assert other.flags.carray
        np.testing.assert_array_equal(other[0], image)
