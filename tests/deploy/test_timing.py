from itertools import pairwise

import pytest

from fusionseg.deploy.timing import interleaved, pace, percentiles


class FakeTime:
    """A clock that only sleeping and labelling move."""

    def __init__(self, takes_s: list[float]) -> None:
        self.now_s = 100.0
        self.takes_s = takes_s
        self.ran: list[int] = []

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds

    def run(self, frame: int) -> None:
        self.ran.append(frame)
        self.now_s += self.takes_s[frame]

    def pace(self, frames: int) -> dict[str, float]:
        return pace(self.run, frames, clock=lambda: self.now_s, sleep=self.sleep).as_dict()


def test_percentiles_of_known_numbers():
    assert percentiles([float(v) for v in range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([]) is None


def test_every_round_runs_all_and_none_follows_the_same_one_always():
    rounds = list(interleaved(3, 40))
    assert all(sorted(order) == [0, 1, 2] for order in rounds)
    assert list(interleaved(3, 40)) == rounds
    followed = {pair for order in rounds for pair in pairwise(order)}
    assert len(followed) == 6
    assert list(interleaved(1, 2)) == [[0], [0]]


def test_a_model_that_keeps_up_misses_nothing():
    time = FakeTime([0.03] * 5)
    assert time.pace(5) == {
        "frames": 5,
        "in_time": 5,
        "missed": 0,
        "late": 0,
        "missed_share": 0.0,
        "period_ms": 100.0,
    }
    # the first frame is due after one period, the last after five
    assert time.now_s == pytest.approx(100.53)


def test_reading_the_clock_takes_time_and_makes_no_frame_late():
    time = FakeTime([0.03] * 3)

    def clock() -> float:
        time.now_s += 1e-6
        return time.now_s

    assert pace(time.run, 3, clock=clock, sleep=time.sleep).in_time == 3


def test_a_frame_due_while_one_runs_is_late_and_gives_way_to_the_next():
    # frame 1 takes 250 ms: frames 2 and 3 come meanwhile, frame 4 finds the model free
    time = FakeTime([0.05, 0.25, 0.05, 0.05, 0.05, 0.05])
    found = time.pace(6)
    assert time.ran == [0, 1, 4, 5]
    assert (found["in_time"], found["missed"], found["late"]) == (3, 1, 2)
    assert found["missed_share"] == 0.5


def test_a_model_always_too_slow_labels_every_second_frame_and_none_in_time():
    time = FakeTime([0.15] * 4)
    found = time.pace(4)
    assert time.ran == [0, 2]
    assert (found["in_time"], found["missed"], found["late"], found["missed_share"]) == (0, 2, 2, 1.0)


def test_a_sleep_that_ends_early_does_not_start_a_frame_before_it_is_due():
    time = FakeTime([0.01] * 3)
    began: list[float] = []

    def run(frame: int) -> None:
        began.append(time.now_s)
        time.run(frame)

    # wakes up after at most 30 ms
    pace(run, 3, clock=lambda: time.now_s, sleep=lambda seconds: time.sleep(min(seconds, 0.03)))
    assert began == pytest.approx([100.1, 100.2, 100.3])


def test_no_frames_cannot_be_paced():
    with pytest.raises(ValueError, match="frames is 0"):
        FakeTime([]).pace(0)
