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


@pytest.mark.parametrize("method", ["submit", "try_submit", "post_task", "post_async_task"])
def test_posting_after_shutdown_is_refused(make_pool, method):
    """A pool that is shut down says so, in the words of the library."""
    pool = make_pool(1)
    pool.shutdown()
    with pytest.raises(PoolShutdown) as caught:
        getattr(pool, method)(int)
    assert str(caught.value).startswith("cannot schedule new futures after shutdown")


@pytest.mark.parametrize("post", ["post_delay_task", "post_interval_task"])
def test_posting_for_later_after_shutdown_is_refused(make_pool, post):
    """Nor does a pool that is shut down take delays and intervals."""
    pool = make_pool(1)
    pool.shutdown()
    with pytest.raises(PoolShutdown, match=r"^cannot schedule new futures after shutdown"):
        getattr(pool, post)(int, 1)
    with pytest.raises(PoolShutdown, match=r"^cannot schedule new futures after shutdown"):
        pool.after(1)


def test_shutdown_runs_what_is_queued_and_cancels_timers(make_pool, gate):
    """Queued tasks run; delays and series are cancelled, for nobody would wait for them."""
    pool = make_pool(1)
    pool.submit(gate)
    gate.wait()
    queued = [pool.submit(int) for _ in range(10)]
    timers = [
        pool.post_task(int, DelayTask(1000)),
        pool.post_task(int, IntervalTask(1000)),
        pool.after(1000),
    ]
    pool.shutdown(wait=False)
    assert all(task.cancelled() for task in timers)
    assert not any(task.done() for task in queued)
    gate.open()
    pool.shutdown()
    assert [task.result(0) for task in queued] == [0] * 10


def test_shutdown_with_cancel_futures_cancels_what_is_queued(make_pool, gate):
    """With `cancel_futures` only what runs is waited for."""
    pool = make_pool(1)
    running = pool.submit(gate)
    gate.wait()
    queued = [pool.submit(int) for _ in range(10)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(task.cancelled() for task in queued)
    assert not running.done()
    gate.open()
    pool.shutdown()
    assert running.result(0) == "through"


def test_shutdown_may_be_called_again(make_pool, gate):
    """A second shutdown may cancel what the first would have run, and a third changes nothing."""
    pool = make_pool(1)
    pool.submit(gate)
    gate.wait()
    queued = pool.submit(int)
    pool.shutdown(wait=False)
    assert not queued.done()
    pool.shutdown(wait=False, cancel_futures=True)
    assert queued.cancelled()
    gate.open()
    pool.shutdown()
    pool.shutdown(wait=True)


def test_shutdown_of_an_unused_pool_returns(make_pool):
    """A pool that was never used is shut down at once."""
    assert make_pool(4).shutdown() is None
    assert make_pool(4, min_workers=4).wait_and_exit(20) is True


def test_shutdown_waits_for_a_series_in_a_run(make_pool, gate):
    """The run of a series that is going is waited for, and is its last."""
    pool = make_pool(1)
    series = pool.post_task(gate, IntervalTask(0.001))
    gate.wait()
    pool.shutdown(wait=False)
    assert not series.done()
    gate.open()
    pool.shutdown()
    assert series.cancelled()
    assert series.called_times() == 1


def test_many_threads_shut_down_at_once(make_pool):
    """Any number of threads may wait for the same shutdown."""
    pool = make_pool(2)
    ran = []
    for n in range(100):
        pool.submit(ran.append, n)
    threads = [threading.Thread(target=pool.shutdown) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
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

        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait(20)
        pool.submit(int).result(20)
        pool.shutdown(cancel_futures=cancel_futures)
        for thread in threads:
            thread.join(20)
        outcomes = collections.Counter(
            "cancelled" if task.cancelled() else task.result(20) for task in accepted
        )
        assert outcomes[0] + outcomes["cancelled"] == len(accepted)
        stats = pool.stats()
        assert stats.submitted == len(accepted) + 1 == stats.successful + stats.cancelled


def test_wait_and_exit_says_whether_it_was_in_time(make_pool, gate):
    """`wait_and_exit` is False when the time was not enough, and cancels what is left."""
    pool = make_pool(1)
    pool.submit(gate)
    gate.wait()
    queued = pool.submit(int)
    timer = pool.post_task(int, DelayTask(1000))
    began = time.monotonic()
    assert pool.wait_and_exit(0.02) is False
    assert time.monotonic() - began >= 0.02
    assert queued.cancelled()
    assert timer.cancelled()
    gate.open()
    assert pool.wait_and_exit(20) is True
    assert pool.wait_and_exit(0) is True


def test_wait_and_exit_gives_up_after_a_second_by_default(make_pool, gate):
    """Without a timeout, what runs is waited for one second, and no longer."""
    pool = make_pool(1)
    pool.submit(gate)
    gate.wait()
    began = time.monotonic()
    assert pool.wait_and_exit() is False
    assert 1 <= time.monotonic() - began < 15
    gate.open()
    assert pool.wait_and_exit(None) is True


def test_wait_and_exit_lets_queued_tasks_finish(make_pool):
    """Queued tasks get the time to run."""
    pool = make_pool(1)
    tasks = [pool.submit(int) for _ in range(1000)]
    assert pool.wait_and_exit(20) is True
    assert all(task.done() and not task.cancelled() for task in tasks)


def test_an_interrupted_block_frees_who_waits(make_pool, gate):
    """Who waits for a task that a shutdown cancels is told so."""
    pool = make_pool(1)
    pool.submit(gate)
    gate.wait()
    queued = pool.submit(int)
    caught = []

    def wait():
        try:
            queued.result(20)
        except CancelledError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    pool.shutdown(wait=False, cancel_futures=True)
    thread.join(20)
    assert len(caught) == 1
