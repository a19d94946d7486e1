"""The specification of the Go library that this one renders, statement by statement.

Each is stated twice: exactly, on the manual clock, and on the real clock, where a noisy machine may
make things later, but never earlier.
"""

import threading
import time

import asynctask
import pytest
from asynctask import CancelledError, DelayTask, IntervalTask, IntervalWithDelayTask

pytestmark = pytest.mark.usefixtures("default_pool")


class Counter:
    """A callback that adds ten, and remembers when."""

    def __init__(self):
        self.total = 0
        self.times = []

    def __call__(self):
        """Count."""
        self.times.append(time.monotonic())
        self.total += 10


def test_a_posted_task_is_finished_after_10_ms(timed, clock):
    """A task that is posted without options runs now."""
    count = Counter()
    task = timed.post_task(count)
    clock.advance(0.010)
    assert task.finished()
    assert count.total == 10


def test_a_posted_task_is_finished_really():
    """A task that is posted without options runs now, on the real clock."""
    count = Counter()
    task = asynctask.post_task(count)
    task.wait_for_finished(20)
    assert task.finished()
    assert (count.total, task.called_times()) == (10, 1)


def test_an_interval_of_20_ms_runs_5_times_in_110_ms(timed, clock):
    """An interval runs once per period, first after one, and no more once it was stopped."""
    count = Counter()
    task = timed.post_task(count, IntervalTask(0.020))
    clock.advance(0.110)
    assert (count.total, task.called_times()) == (50, 5)
    task.stop_and_wait(20)
    clock.advance(10)
    assert (count.total, task.called_times()) == (50, 5)


def test_an_interval_of_20_ms_runs_5_times_really():
    """An interval's runs are never early on the real clock, and end with `stop_and_wait`."""
    count = Counter()
    posted = time.monotonic()
    task = asynctask.post_task(count, IntervalTask(0.020))
    task.wait_for_finished_count(5, 20)
    assert time.monotonic() - posted >= 0.100
    task.stop_and_wait(20)
    total = count.total
    for number, at in enumerate(count.times, 1):
        assert at - posted >= number * 0.020
    asynctask.sleep(0.050)  # two periods more
    assert count.total == total
    assert task.called_times() * 10 == total


def test_a_delay_of_5_ms_is_over_within_12_ms(timed, clock):
    """A delay is over at its deadline, and not before."""
    count = Counter()
    task = timed.post_task(count, DelayTask(0.005))
    clock.advance(0.004999999)
    assert not task.finished()
    clock.advance(0.000000001)
    assert task.finished()
    clock.advance(0.007)
    assert (count.total, task.called_times()) == (10, 1)


def test_a_delay_of_5_ms_is_over_really():
    """A delay is never early on the real clock."""
    count = Counter()
    posted = time.monotonic()
    task = asynctask.post_task(count, DelayTask(0.005))
    task.wait_for_finished(20)
    assert count.times[0] - posted >= 0.005
    assert count.total == 10


@pytest.mark.parametrize(
    "options",
    [(IntervalWithDelayTask(0.005, 0.020),), (DelayTask(0.005), IntervalTask(0.020))],
)
def test_5_ms_then_every_20_ms_runs_6_times_in_110_ms(timed, clock, options):
    """A start delay replaces the first interval."""
    count = Counter()
    task = timed.post_task(count, *options)
    clock.advance(0.110)
    assert (count.total, task.called_times()) == (60, 6)
    task.stop_and_wait(20)
    clock.advance(10)
    assert task.called_times() == 6


def test_5_ms_then_every_20_ms_runs_6_times_really():
    """With a start delay no run is early on the real clock."""
    count = Counter()
    posted = time.monotonic()
    task = asynctask.post_task(count, IntervalWithDelayTask(0.005, 0.020))
    task.wait_for_finished_count(6, 20)
    task.stop_and_wait(20)
    assert task.called_times() >= 6
    for number, at in enumerate(count.times):
        assert at - posted >= 0.005 + number * 0.020


def test_a_group_of_two_adds_up_to_1710():
    """A group's wait returns when both of its tasks have run."""
    total = []
    group = asynctask.get_async_task().group_context()
    group.submit(total.append, 10)
    group.submit(total.append, 1700)
    group.wait(20)
    assert sum(total) == 1710


def test_a_cancelled_group_runs_nothing_and_says_so(one, gate):
    """Tasks of a group that have not started when it is cancelled never do."""
    gate.hold(one)
    total = []
    group = one.group_context(20)
    tasks = [group.submit(total.append, 10), group.submit(total.append, 1700)]
    group.cancel()
    with pytest.raises(CancelledError):
        group.wait(20)
    gate.open()
    one.submit(int).result(20)  # comes after them in the queue
    assert total == []
    assert [task.cancelled() for task in tasks] == [True, True]


def test_a_groups_deadline_cancels_what_has_not_started(one, gate):
    """Tasks of a group that have not started when its deadline passes never do."""
    gate.hold(one)
    total = []
    group = one.group_context(0.010)
    group.submit(total.append, 10)
    group.submit(total.append, 1700)
    with pytest.raises(TimeoutError):
        group.wait(20)
    gate.open()
    one.submit(int).result(20)
    assert total == []


def test_waiting_for_100_runs_times_out_after_8_or_9(timed, clock):
    """A wait for more runs than the time allows raises, and the series goes on."""
    count = Counter()
    task = timed.post_task(count, IntervalWithDelayTask(0.006, 0.015))
    clock.advance(0.006)
    task.wait_for_finished(0)
    assert count.total == 10
    clock.advance(0.120)
    with pytest.raises(TimeoutError):
        task.wait_for_finished_count(100, 0)
    assert task.called_times() - 1 in (8, 9)
    task.stop_and_wait(20)


def test_waiting_for_100_runs_times_out_really():
    """The same wait on the real clock times out no earlier than asked, with no run early."""
    count = Counter()
    posted = time.monotonic()
    task = asynctask.post_task(count, IntervalWithDelayTask(0.006, 0.015))
    task.wait_for_finished(20)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        task.wait_for_finished_count(100, 0.12)
    assert time.monotonic() - began >= 0.12
    task.stop_and_wait(20)
    for number, at in enumerate(count.times):
        assert at - posted >= 0.006 + number * 0.015


def test_a_task_cancelled_before_it_ran_was_never_called(one, gate):
    """`stop_and_wait` on a task that is still queued takes it out."""
    gate.hold(one)
    count = Counter()
    task = one.post_task(count)
    task.stop_and_wait(0)
    gate.open()
    one.submit(int).result(20)
    assert (count.total, task.called_times(), task.finished()) == (0, 0, False)


def test_the_go_names_are_there_in_snake_case():
    """`post_async_task`, `post_delay_task` and `post_interval_task` post as their names say."""
    pool = asynctask.get_async_task()
    ran = threading.Event()
    assert pool.post_async_task(lambda: "now").result(20) == "now"
    assert pool.post_delay_task(lambda: "later", 0.001).result(20) == "later"
    series = pool.post_interval_task(ran.set, 0.001)
    assert ran.wait(20)
    series.stop_and_wait(20)
    assert series.called_times() >= 1
    assert not series.is_running()


def test_wait_and_exit_does_nothing_when_nothing_was_posted():
    """`wait_and_exit` on an unused default pool is True at once, and the pool can still be used."""
    assert asynctask.wait_and_exit() is True
    assert asynctask.post_task(lambda: 1).result(20) == 1
