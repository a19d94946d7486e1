"""Shutdown: what it refuses, runs, cancels and waits for."""

import collections
import threading
import time

import pytest
from asynctask import (
    CancelledError,
    DelayTask,
    IntervalTask,
    PoolShutdown,
)
from helpers.threads import join, start


@pytest.mark.parametrize("method", ["submit", "try_submit", "post_task", "post_async_task"])
def test_posting_after_shutdown_is_refused(one, method):
    """A pool that is shut down says so, in the words of the library."""
    one.shutdown()
    with pytest.raises(PoolShutdown) as caught:
        getattr(one, method)(int)
    assert str(caught.value).startswith("cannot schedule new futures after shutdown")


@pytest.mark.parametrize("post", ["post_delay_task", "post_interval_task"])
def test_posting_for_later_after_shutdown_is_refused(one, post):
    """Nor does a pool that is shut down take delays and intervals."""
    one.shutdown()
    with pytest.raises(PoolShutdown, match=r"^cannot schedule new futures after shutdown"):
        getattr(one, post)(int, 1)
    with pytest.raises(PoolShutdown, match=r"^cannot schedule new futures after shutdown"):
        one.after(1)


def test_shutdown_runs_what_is_queued_and_cancels_timers(one, gate):
    """Queued tasks run; delays and series are cancelled, for nobody would wait for them."""
    gate.hold(one)
    queued = [one.submit(int) for _ in range(10)]
    timers = [
        one.post_task(int, DelayTask(1000)),
        one.post_task(int, IntervalTask(1000)),
        one.after(1000),
    ]
    one.shutdown(wait=False)
    assert all(task.cancelled() for task in timers)
    assert not any(task.done() for task in queued)
    gate.open()
    one.shutdown()
    assert [task.result(0) for task in queued] == [0] * 10


def test_shutdown_with_cancel_futures_cancels_what_is_queued(one, gate):
    """With `cancel_futures` only what runs is waited for."""
    running = gate.hold(one)
    queued = [one.submit(int) for _ in range(10)]
    one.shutdown(wait=False, cancel_futures=True)
    assert all(task.cancelled() for task in queued)
    assert not running.done()
    gate.open()
    one.shutdown()
    assert running.result(0) == "through"


def test_shutdown_may_be_called_again(one, gate):
    """A second shutdown may cancel what the first would have run, and a third changes nothing."""
    gate.hold(one)
    queued = one.submit(int)
    one.shutdown(wait=False)
    assert not queued.done()
    one.shutdown(wait=False, cancel_futures=True)
    assert queued.cancelled()
    gate.open()
    one.shutdown()
    one.shutdown(wait=True)


def test_shutdown_of_an_unused_pool_returns(make_pool):
    """A pool that was never used is shut down at once."""
    assert make_pool(4).shutdown() is None
    assert make_pool(4, min_workers=4).wait_and_exit(20) is True


def test_shutdown_waits_for_a_series_in_a_run(one, gate):
    """The run of a series that is going is waited for, and is its last."""
    series = one.post_task(gate, IntervalTask(0.001))
    gate.wait()
    one.shutdown(wait=False)
    assert not series.done()
    gate.open()
    one.shutdown()
    assert series.cancelled()
    assert series.called_times() == 1


def test_many_threads_shut_down_at_once(make_pool):
    """Any number of threads may wait for the same shutdown."""
    pool = make_pool(2)
    ran = []
    for n in range(100):
        pool.submit(ran.append, n)
    threads = [start(pool.shutdown) for _ in range(8)]
    join(*threads)
    assert len(ran) == 100


def test_shutdown_while_others_post(make_pool):
    """Every task that was accepted runs, or its handle says that it was cancelled."""
    for cancel_futures in (False, True) * 5:
        pool = make_pool(2)
        accepted = []
        started = threading.Barrier(5)

        def post(pool=pool, accepted=accepted, started=started):
            started.wait(20)
            try:
                while True:
                    accepted.append(pool.submit(int))
                    accepted.append(pool.post_task(int, DelayTask(0.0001)))
            except PoolShutdown:
                pass

        threads = [start(post) for _ in range(4)]
        started.wait(20)
        pool.submit(int).result(20)
        pool.shutdown(cancel_futures=cancel_futures)
        join(*threads)
        outcomes = collections.Counter(
            "cancelled" if task.cancelled() else task.result(20) for task in accepted
        )
        assert outcomes[0] + outcomes["cancelled"] == len(accepted)
        stats = pool.stats()
        assert stats.submitted == len(accepted) + 1 == stats.successful + stats.cancelled


def test_wait_and_exit_says_whether_it_was_in_time(one, gate):
    """`wait_and_exit` is False when the time was not enough, and cancels what is left."""
    gate.hold(one)
    queued = one.submit(int)
    timer = one.post_task(int, DelayTask(1000))
    began = time.monotonic()
    assert one.wait_and_exit(0.02) is False
    assert time.monotonic() - began >= 0.02
    assert queued.cancelled()
    assert timer.cancelled()
    gate.open()
    assert one.wait_and_exit(20) is True
    assert one.wait_and_exit(0) is True


def test_wait_and_exit_gives_up_after_a_second_by_default(one, gate):
    """Without a timeout, what runs is waited for one second, and no longer."""
    gate.hold(one)
    began = time.monotonic()
    assert one.wait_and_exit() is False
    assert 1 <= time.monotonic() - began < 15
    gate.open()
    assert one.wait_and_exit(None) is True


def test_wait_and_exit_lets_queued_tasks_finish(one):
    """Queued tasks get the time to run."""
    tasks = [one.submit(int) for _ in range(1000)]
    assert one.wait_and_exit(20) is True
    assert all(task.done() and not task.cancelled() for task in tasks)


def test_an_interrupted_block_frees_who_waits(one, gate):
    """Who waits for a task that a shutdown cancels is told so."""
    gate.hold(one)
    queued = one.submit(int)
    caught = []

    def wait():
        try:
            queued.result(20)
        except CancelledError as error:
            caught.append(error)

    thread = start(wait)
    one.shutdown(wait=False, cancel_futures=True)
    thread.join(20)
    assert len(caught) == 1
