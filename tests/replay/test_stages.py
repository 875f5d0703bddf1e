import threading
import time

import pytest

from fusionseg.replay.stages import run_stages


def test_jobs_keep_their_order_and_none_is_lost():
    slow = iter([0.0, 0.02, 0.0, 0.01] * 5)

    def double(job):
        time.sleep(next(slow))
        return 2 * job

    assert list(run_stages(range(20), [double, lambda job: job + 1])) == [2 * i + 1 for i in range(20)]
    assert list(run_stages([], [double])) == []


def test_stages_work_at_the_same_time():
    # each stage waits until the other works on a job too: one after the other would never meet
    both = threading.Barrier(2)

    def meet(job):
        if 0 < job < 4:
            both.wait(timeout=10)
        return job

    def meet_next(job):
        if job < 3:
            both.wait(timeout=10)
        return job

    assert list(run_stages(range(5), [meet, meet_next])) == list(range(5))


def test_a_slow_stage_holds_the_source_back():
    asked = []

    def source():
        for i in range(50):
            asked.append(i)
            yield i

    for taken, job in enumerate(run_stages(source(), [lambda job: job], room=1)):
        time.sleep(0.002)
        # one being taken, one waiting after each of source and stage, one in the hands of each
        assert job == taken and len(asked) <= taken + 5


def test_a_stage_leaves_jobs_out():
    assert list(run_stages(range(6), [lambda job: job if job % 2 else None])) == [1, 3, 5]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_came_before_an_error_goes_through_and_the_error_is_raised(place):
    def breaks(job):
        if job == 3:
            raise ValueError("job 3")
        return job

    stages = [breaks if i == place else (lambda job: job) for i in range(3)]
    found = []
    with pytest.raises(ValueError, match="job 3"):
        for job in run_stages(range(100), stages):
            found.append(job)
    assert found == [0, 1, 2]


def test_an_error_of_the_source_is_raised_after_its_jobs():
    def source():
        yield from range(3)
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="gone"):
        for job in run_stages(source(), [lambda job: job]):
            found.append(job)
    assert found == [0, 1, 2]


def test_closing_stops_all_threads():
    before = threading.active_count()
    jobs = run_stages(iter(int, 1), [lambda job: job, lambda job: job])
    assert next(jobs) == 0 and threading.active_count() == before + 3
    jobs.close()
    assert threading.active_count() == before
