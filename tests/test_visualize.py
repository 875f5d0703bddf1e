import numpy as np
import pytest

from fusionseg.labels import DRIVING12
from fusionseg.visualize import (
    BACKGROUND,
    birds_eye,
    dark_canvas,
    depth_colours,
    draw_points,
    legend,
    overlay,
    perspective,
    side_by_side,
    stack,
    write_text,
)

RED, GREEN = (255, 0, 0), (0, 255, 0)


def colours(*rows):
    return np.array(rows, dtype=np.uint8)


def test_overlay_blends_by_alpha_and_leaves_unknown_alone():
    image = np.full((2, 2, 3), 100, dtype=np.uint8)
    labels = np.array([[0, 255], [10, 10]], dtype=np.uint8)
    drawn = overlay(image, labels, DRIVING12.palette, alpha=0.25)
    road = 0.75 * 100 + 0.25 * np.array(DRIVING12.colours[0])
    np.testing.assert_allclose(drawn[0, 0], road, atol=1)
    np.testing.assert_array_equal(drawn[0, 1], [100, 100, 100])
    assert (image == 100).all()


def test_overlay_brings_labels_to_the_image():
    labels = np.array([[0, 10]], dtype=np.uint8)
    drawn = overlay(dark_canvas(4, 8), labels, DRIVING12.palette, alpha=1.0)
    assert tuple(drawn[3, 3]) == DRIVING12.colours[0]
    assert tuple(drawn[0, 4]) == DRIVING12.colours[10]


def test_overlay_refuses_an_alpha_outside_the_range():
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        overlay(dark_canvas(2, 2), np.zeros((2, 2), np.uint8), DRIVING12.palette, alpha=1.5)


def test_nearer_point_stays_on_top_whatever_the_order():
    uv = np.array([[3.0, 2.0], [3.0, 2.0]])
    for order in ([0, 1], [1, 0]):
        depth = np.array([5.0, 9.0])[order]
        drawn = draw_points(dark_canvas(5, 7), uv, colours(RED, GREEN)[order], depth, size_px=1)
        assert tuple(drawn[2, 3]) == RED
        assert (drawn != BACKGROUND).any(axis=2).sum() == 1


def test_point_squares_are_centred_and_clipped_at_the_border():
    drawn = draw_points(dark_canvas(6, 6), np.array([[0.0, 0.0], [3.0, 4.0]]), colours(RED, GREEN), size_px=3)
    rows, columns = np.nonzero((drawn == GREEN).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 5, 2, 4)
    assert (drawn == RED).all(axis=2).sum() == 4


def test_points_that_are_nowhere_are_not_drawn():
    uv = np.array([[np.nan, 1.0], [np.inf, 1.0], [-50.0, 1.0], [1e12, 1.0]])
    drawn = draw_points(dark_canvas(4, 4), uv, colours(RED, RED, RED, RED), np.ones(4))
    np.testing.assert_array_equal(drawn, dark_canvas(4, 4))
    empty = draw_points(dark_canvas(4, 4), np.zeros((0, 2)), np.zeros((0, 3), np.uint8), np.zeros(0))
    np.testing.assert_array_equal(empty, dark_canvas(4, 4))


def test_near_is_red_and_far_is_blue():
    near, far = depth_colours(np.array([1.0, 500.0])).astype(int)
    assert near[0] > near[2] + 50
    assert far[2] >= far[0]
    assert depth_colours(np.zeros(0)).shape == (0, 3)


def test_legend_shows_every_colour_at_any_width():
    for width in (90, 300, 1280):
        strip = legend(DRIVING12.names, DRIVING12.colours, width)
        assert strip.shape[1] == width
        for colour in DRIVING12.colours:
            assert (strip == colour).all(axis=2).sum() >= 200


def test_panels_keep_sizes():
    one, two = dark_canvas(10, 20), dark_canvas(20, 20)
    assert side_by_side([one, two], gap_px=4).shape == (10, 20 + 4 + 10, 3)
    assert stack([one, two[:, :7]]).shape == (30, 20, 3)


def test_text_leaves_its_argument_alone():
    canvas = np.full((40, 200, 3), 255, dtype=np.uint8)
    drawn = write_text(canvas, "frame 7")
    assert (canvas == 255).all()
    assert (drawn != 255).any()
    assert (drawn[30:] == 255).all()


def test_birds_eye_has_forward_up_and_left_on_the_left():
    points = np.array([[20, 0, 0, 0], [0, 20, 0, 0], [np.nan, 0, 0, 0]], dtype=np.float32)
    drawn = birds_eye(points, colours(RED, GREEN, GREEN), size_px=81, reach_m=40.0, point_px=1)
    assert tuple(drawn[20, 40]) == RED
    assert tuple(drawn[40, 20]) == GREEN
    assert (drawn == GREEN).all(axis=2).sum() == 1


def test_perspective_looks_ahead_from_behind_and_above():
    points = np.array([[0, 0, 0, 0], [20, 0, 0, 0], [0, 3, 0, 0], [-30, 0, 0, 0], [np.nan, 0, 0, 0]], dtype=np.float32)
    paint = colours(RED, GREEN, (0, 0, 255), (255, 255, 0), (255, 255, 255))
    picture = perspective(points, paint, 401, 401, back_m=10.0, up_m=10.0, down_rad=np.pi / 4)

    def middle_of(colour):
        return np.argwhere((picture == colour).all(axis=2)).mean(axis=0)

    # the sensor is where the view looks; 0.75 * 401 px focal length, sqrt(200) m away
    np.testing.assert_allclose(middle_of(RED), [200, 200], atol=1)
    # 20 m ahead: depth 40/sqrt(2), height 20/sqrt(2) above the axis
    np.testing.assert_allclose(middle_of(GREEN), [200 - 0.75 * 401 / 2, 200], atol=1)
    np.testing.assert_allclose(middle_of((0, 0, 255)), [200, 200 - 3 * 0.75 * 401 / np.sqrt(200)], atol=1)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 4
