import numpy as np
import pytest

from fusionseg.labels import DRIVING12, ClassTable, table_from_sets
from fusionseg.metrics import (
    Confusion,
    bootstrap_change,
    bootstrap_miou,
    class_accuracy,
    dice,
    frequency_weighted_iou,
    group_names,
    groups_of,
    iou,
    mean_class_accuracy,
    mean_over,
    merge,
    pixel_accuracy,
    score,
)


def table(*sets: tuple[str, ...]) -> ClassTable:
    return table_from_sets("abcd", {name: (i, i, i) for i, name in enumerate("abcd")}, sets)


def u8(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint8)


def counted(labels: np.ndarray, predictions: np.ndarray, classes: ClassTable) -> Confusion:
    confusion = Confusion(classes)
    confusion.add(labels, predictions)
    return confusion


# true a: 3 right, 1 as b; true b: 2 right, 2 as a, 1 unanswered; c never true, predicted once (for b)
MATRIX = np.array([[3, 1, 0, 0], [2, 2, 1, 1], [0, 0, 0, 0]])


def test_known_answers() -> None:
    np.testing.assert_allclose(iou(MATRIX), [3 / 6, 2 / 7, np.nan])
    np.testing.assert_allclose(class_accuracy(MATRIX), [3 / 4, 2 / 6, np.nan])
    np.testing.assert_allclose(dice(MATRIX), [6 / 9, 4 / 9, np.nan])
    assert pixel_accuracy(MATRIX) == pytest.approx(5 / 10)
    assert mean_class_accuracy(MATRIX) == pytest.approx((3 / 4 + 2 / 6) / 2)
    assert frequency_weighted_iou(MATRIX) == pytest.approx((4 * 3 / 6 + 6 * 2 / 7) / 10)
    assert mean_over(iou(MATRIX)) == pytest.approx((3 / 6 + 2 / 7) / 2)
    assert mean_over(iou(MATRIX), np.array([False, True, True])) == pytest.approx(2 / 7)


def test_nothing_to_score_is_nan_not_zero() -> None:
    empty = np.zeros((3, 3), dtype=np.int64)
    for figure in (pixel_accuracy, mean_class_accuracy, frequency_weighted_iou):
        assert np.isnan(figure(empty))
    assert np.isnan(mean_over(iou(empty)))


def test_counts_leave_out_ignored_labels_and_keep_missing_answers() -> None:
    confusion = counted(u8(0, 0, 1, 255, 255, 4), u8(0, 255, 2, 0, 255, 3), table(("c", "d")))
    expected = np.zeros((5, 5), dtype=np.int64)
    expected[0, 0] = expected[0, 4] = expected[1, 2] = expected[4, 3] = 1
    np.testing.assert_array_equal(confusion.counts, expected)


def test_counts_add_up_over_calls_and_shapes() -> None:
    confusion = counted(u8(0, 1), u8(0, 1), table())
    confusion.add(np.zeros((2, 3), dtype=np.uint8), np.ones((2, 3), dtype=np.uint8))
    assert confusion.counts[0, 1] == 6
    assert confusion.counts.sum() == 8


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (u8(0, 1), u8(0), "expected the same"),
        (u8(5), u8(0), "label 5 is not in class table abcd"),
        (u8(0), u8(4), "prediction 4 is no class of table abcd"),
        (u8(255), u8(254), None),
    ],
)
def test_values_outside_the_table_are_named(labels: np.ndarray, predictions: np.ndarray, message: str | None) -> None:
    if message is None:
        assert counted(labels, predictions, table(("c", "d"))).counts.sum() == 0
        return
    with pytest.raises(ValueError, match=message):
        counted(labels, predictions, table(("c", "d")))


def test_only_sets_that_occur_are_merged() -> None:
    classes = table(("a", "b"), ("c", "d"))
    assert groups_of(np.array([9, 9, 9, 9, 0, 0]), classes) == ((0,), (1,), (2,), (3,))
    groups = groups_of(np.array([9, 9, 9, 9, 0, 1]), classes)
    assert groups == ((0,), (1,), (2, 3))
    assert group_names(groups, classes) == ["a", "b", "c|d"]


def test_sets_that_share_a_class_join() -> None:
    classes = table(("a", "c"), ("c", "d"))
    assert groups_of(np.array([1, 1, 1, 1, 1, 1]), classes) == ((0, 2, 3), (1,))
    classes = table(("a", "d"), ("b", "c"), ("c", "d"))
    assert groups_of(np.array([0, 0, 0, 0, 1, 1, 1]), classes) == ((0, 1, 2, 3),)


def test_pandaset_other_static_object_merges_barrier_and_static_object_alone() -> None:
    counts = np.zeros(len(DRIVING12) + len(DRIVING12.sets), dtype=np.int64)
    counts[DRIVING12.label_of(("barrier", "static_object"))] = 5
    groups = groups_of(counts, DRIVING12)
    names = group_names(groups, DRIVING12)
    assert len(groups) == 11
    assert names[4] == "barrier|static_object"
    assert names[:4] + names[5:] == [n for n in DRIVING12.names if n not in ("barrier", "static_object")]


def test_a_merged_class_takes_any_of_its_members() -> None:
    classes = table(("c", "d"))
    # a set label answered with either member, and a member answered with the other, are all right
    confusion = counted(u8(4, 4, 2, 4, 0), u8(2, 3, 3, 0, 3), classes)
    groups = groups_of(confusion.counts.sum(axis=1), classes)
    np.testing.assert_array_equal(merge(confusion.counts, groups, classes), [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 3, 0]])


def test_merge_refuses_a_set_that_lies_across_groups() -> None:
    confusion = counted(u8(4), u8(2), table(("c", "d")))
    with pytest.raises(ValueError, match=r"c\|d occurs but its classes are not merged"):
        merge(confusion.counts, ((0,), (1,), (2,), (3,)), table(("c", "d")))


def test_same_figures_as_torchmetrics() -> None:
    import torch
    from torchmetrics.functional import accuracy, f1_score, jaccard_index

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500).astype(np.uint8)
    predictions = np.where(rng.random(500) < 0.6, labels, rng.integers(0, 4, 500)).astype(np.uint8)
    labels[::17] = 255
    matrix = merge(counted(labels, predictions, table()).counts, ((0,), (1,), (2,), (3,)), table())
    options = {"task": "multiclass", "num_classes": 4, "ignore_index": 255}
    pair = torch.from_numpy(predictions).long(), torch.from_numpy(labels).long()
    np.testing.assert_allclose(iou(matrix), jaccard_index(*pair, **options, average="none"), atol=1e-6)
    np.testing.assert_allclose(dice(matrix), f1_score(*pair, **options, average="none"), atol=1e-6)
    np.testing.assert_allclose(class_accuracy(matrix), accuracy(*pair, **options, average="none"), atol=1e-6)
    assert pixel_accuracy(matrix) == pytest.approx(accuracy(*pair, **options, average="micro").item(), abs=1e-6)
    assert mean_class_accuracy(matrix) == pytest.approx(accuracy(*pair, **options, average="macro").item(), abs=1e-6)
    weighted = jaccard_index(*pair, **options, average="weighted").item()
    assert frequency_weighted_iou(matrix) == pytest.approx(weighted, abs=1e-6)


def noisy_frames(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 30, (count, 3, 4)) + 60 * np.eye(3, 4, dtype=np.int64)


def test_interval_holds_the_estimate_and_is_the_same_again() -> None:
    frames = noisy_frames(8)
    chosen = np.ones(3, dtype=bool)
    low, high = bootstrap_miou(frames, chosen)
    assert low < mean_over(iou(frames.sum(axis=0))) < high
    assert bootstrap_miou(frames, chosen) == (low, high)


def test_interval_narrows_with_frames_and_is_a_point_when_all_are_equal() -> None:
    chosen = np.ones(3, dtype=bool)
    few, many = (np.diff(bootstrap_miou(noisy_frames(n), chosen))[0] for n in (4, 64))
    assert many < few / 2
    same = np.repeat(noisy_frames(1), 5, axis=0)
    assert bootstrap_miou(same, chosen) == pytest.approx((float(mean_over(iou(same[0]))),) * 2)


def test_bootstrap_is_over_frames() -> None:
    # one frame all right, one all wrong: resamples of two frames give 0, 1/3 or 1 with 1/4, 1/2, 1/4
    frames = np.array([[[4, 0], [0, 4]], [[0, 4], [4, 0]]])
    assert bootstrap_miou(frames, np.ones(2, dtype=bool)) == (0.0, 1.0)


def test_score_names_what_it_leaves_out() -> None:
    classes = table(("c", "d"))
    labels = np.repeat(u8(0, 1, 4), (50, 3, 40))
    predictions = np.repeat(u8(0, 1, 0, 2), (50, 2, 1, 40))
    confusion = counted(labels, predictions, classes)
    groups = groups_of(confusion.counts.sum(axis=1), classes)
    figures = score([confusion], groups, min_count=10)
    assert figures is not None
    assert figures["counts"] == {"a": 50, "b": 3, "c|d": 40}
    assert figures["iou"] == pytest.approx({"a": 50 / 51, "b": 2 / 3, "c|d": 1.0})
    assert figures["miou"] == pytest.approx((50 / 51 + 1) / 2)
    assert figures["miou_all"] == pytest.approx((50 / 51 + 2 / 3 + 1) / 3)
    assert figures["miou_interval"] is None, "one frame does not tell how much frames differ"
    twice = score([confusion, confusion], groups, min_count=10)
    assert twice is not None
    assert twice["miou_interval"] == pytest.approx([figures["miou"]] * 2)
    assert figures["accuracy"] == pytest.approx(92 / 93)
    assert figures["left_out"] == ["b"]


def test_score_without_enough_of_any_class_or_any_label() -> None:
    groups = ((0,), (1,), (2,), (3,))
    figures = score([counted(u8(0, 0), u8(0, 1), table())], groups, min_count=2000)
    assert figures is not None
    assert figures["miou"] is None
    assert figures["miou_interval"] is None
    assert figures["miou_all"] == pytest.approx(0.5)
    assert figures["iou"] == {"a": 0.5, "b": None, "c": None, "d": None}
    assert score([counted(u8(255), u8(1), table())], groups) is None
    assert score([], groups) is None


def test_change_is_paired() -> None:
    before = noisy_frames(16)
    chosen = np.ones(3, dtype=bool)
    same = bootstrap_change(before, before, chosen)
    assert same.mean == (0.0, 0.0) and same.classes == [(0.0, 0.0)] * 3
    # every frame gains the same, whatever it is like: surer than either mean IoU is by itself
    after = before + 30 * np.eye(3, 4, dtype=np.int64)
    low, high = bootstrap_change(before, after, chosen).mean
    gain = mean_over(iou(after.sum(axis=0))) - mean_over(iou(before.sum(axis=0)))
    assert 0 < low < gain < high
    assert high - low < np.diff(bootstrap_miou(before, chosen))[0] / 2
    assert bootstrap_change(after, before, chosen).mean == pytest.approx((-high, -low))


def test_change_of_a_class_that_no_frame_holds_is_unknown() -> None:
    frames = noisy_frames(4)
    frames[:, 1] = 0
    change = bootstrap_change(frames, frames, np.ones(3, dtype=bool))
    assert np.isnan(change.classes[1]).all() and change.classes[0] == (0.0, 0.0)
    with pytest.raises(ValueError, match="expected the same frames"):
        bootstrap_change(frames, frames[:3], np.ones(3, dtype=bool))
