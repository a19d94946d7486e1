"""Waits inside a callback never deadlock a pool, however few its workers."""

import concurrent.futures as cf
import threading
import time

import pytest
from asynctask import (
    DelayTask,
    IntervalTask,
)


def test_waits_nested_50_deep_on_one_worker(make_pool):
    """A callback may wait for a task that waits for a task, on a single worker."""
    pool = make_pool(1)

    def nest(depth):
        return 0 if depth == 0 else 1 + pool.submit(nest, depth - 1).result(20)

    assert pool.submit(nest, 50).result(20) == 50


def test_a_wait_for_a_delayed_task_on_the_only_worker(make_pool):
    """A callback may wait for a delay, though it holds the only worker."""
    pool = make_pool(1)

    def wait():
        began = time.monotonic()
        at = pool.post_task(time.monotonic, DelayTask(0.01)).result(20)
        return at - began

    assert pool.submit(wait).result(20) >= 0.01


def test_a_wait_for_a_series_on_the_only_worker(make_pool):
    """A callback may wait for runs of a series, and stop it."""
    pool = make_pool(1)

    def wait():
        series = pool.post_task(int, IntervalTask(0.001))
        series.wait_for_finished_count(3, 20)
        series.stop_and_wait(20)
        return series.called_times()

    assert pool.submit(wait).result(20) >= 3


@pytest.mark.parametrize("wait", ["result", "exception", "wait_for_finished", "group", "map"])
def test_every_kind_of_wait_on_the_only_worker(make_pool, wait):
    """Whatever a callback waits with, it does not deadlock the pool."""
    pool = make_pool(1)

    def inner():
        return 7

    def outer():
        if wait == "group":
            with pool.group() as group:
                group.submit(inner)
            return group.results()[0]
        if wait == "map":
            return next(pool.map(lambda _: inner(), [0]))
        task = pool.submit(inner)
        getattr(task, wait)(20)
        return task.result(0)

    assert pool.submit(outer).result(20) == 7


LIBRARY = {
    "wait": lambda task: cf.wait([task], 20).done,
    "as_completed": lambda task: list(cf.as_completed([task], 20)),
}


@pytest.mark.parametrize("wait", LIBRARY.values(), ids=LIBRARY)
def test_the_librarys_wait_on_the_only_worker(make_pool, wait):
    """`concurrent.futures.wait` in a callback does not deadlock the pool either."""
    pool = make_pool(1)
    assert pool.submit(lambda: len(wait(pool.submit(int)))).result(20) == 1


def test_two_tasks_that_wait_for_a_third(make_pool):
    """A lent worker runs what others wait for, and is taken back."""
    pool = make_pool(2)
    ready = threading.Barrier(3)
    go = threading.Event()
    third = []

    def wait():
        ready.wait(20)
        assert go.wait(20)
        return third[0].result(20)

    waiters = [pool.submit(wait) for _ in range(2)]
    ready.wait(20)
    third.append(pool.post_task(lambda: "third", DelayTask(0.005)))
    go.set()
    assert [task.result(20) for task in waiters] == ["third"] * 2


def test_lent_workers_go_back(make_pool, until):
    """After nested waits a pool has no more workers than it may."""
    pool = make_pool(1)

    def nest(depth):
        return depth and pool.post_task(nest, DelayTask(0), args=(depth - 1,)).result(20)

    assert pool.submit(nest, 20).result(20) == 0
    assert pool.submit(lambda: pool.post_task(int, DelayTask(0.005)).result(20)).result(20) == 0
    until(lambda: pool.stats().running_workers + pool.stats().idle_workers <= 1)


def test_a_wait_across_pools(make_pool):
    """Callbacks of one pool may wait for tasks of another, and the other way round."""
    one, two = make_pool(1), make_pool(1)

    def ping(depth):
        return depth and 1 + two.submit(pong, depth - 1).result(20)

    def pong(depth):
        return depth and 1 + one.submit(ping, depth - 1).result(20)

    assert one.submit(ping, 20).result(20) == 20


def test_a_wait_with_a_timeout_in_a_callback(make_pool, gate):
    """A timeout in a callback is kept."""
    pool = make_pool(1)

    def wait():
        task = pool.post_task(int, DelayTask(1000))
        began = time.monotonic()
        try:
            task.result(0.02)
        except TimeoutError:
            return time.monotonic() - began

    assert pool.submit(wait).result(20) >= 0.02


def test_recursive_divide_and_conquer(make_pool):
    """A recursion whose every level posts and waits ends, on two workers."""
    pool = make_pool(2)

    def fibonacci(n):
        if n < 2:
            return n
        left, right = pool.submit(fibonacci, n - 1), pool.submit(fibonacci, n - 2)
        return left.result(20) + right.result(20)

    assert fibonacci(12) == 144
