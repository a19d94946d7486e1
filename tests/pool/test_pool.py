"""The pool: an executor, with counts, sizes, and workers that come and go."""

import concurrent.futures as cf
import contextlib
import gc
import inspect
import os
import random
import sysconfig
import threading
import time
import weakref

import asynctask
import pytest
from asynctask import (
    AsyncTaskPool,
    DelayTask,
    IntervalTask,
    PoolShutdown,
    PoolStats,
    QueueFull,
)
from helpers.threads import join, start


def test_a_pool_is_an_executor(pool):
    """An `AsyncTaskPool` is a `concurrent.futures.Executor`."""
    assert isinstance(pool, cf.Executor)
    assert issubclass(AsyncTaskPool, cf.Executor)


def test_the_parameters_are_those_of_the_library():
    """The first parameters of the pool are those of `ThreadPoolExecutor`, in order."""
    ours = list(inspect.signature(AsyncTaskPool).parameters)
    theirs = [
        name
        for name, parameter in inspect.signature(cf.ThreadPoolExecutor).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD  # 3.14's `ctxkwargs`, for its subclasses
    ]
    assert ours[: len(theirs)] == theirs


def test_the_default_tiers_are_those_of_the_ancestor(make_pool, clock):
    """5 ms x 200, 1 s x 120 and 120 s x 720 nest, and make a wheel of a day."""
    pool = make_pool(1, clock=clock, tiers=((0.005, 200), (1.0, 120), (120.0, 720)))
    task = pool.post_task(int, DelayTask(86_401))
    clock.advance(86_400)
    assert not task.done()
    clock.advance(1)
    assert task.result(0) == 0


def test_max_workers_is_that_of_the_library_by_default(make_pool):
    """Without a number, a pool has `min(32, cpus + 4)` workers at most."""
    assert make_pool().stats().max_workers == min(32, len(os.sched_getaffinity(0)) + 4)
    assert make_pool(None).stats().max_workers == make_pool().stats().max_workers
    assert make_pool(3).stats().max_workers == 3
    assert make_pool(max_workers=3).stats().max_workers == 3
    assert make_pool(3)._max_workers == 3  # where those look who know the library from inside


def test_map_gives_results_in_order(pool):
    """`map` calls in parallel and gives results in the order of the arguments."""
    assert list(pool.map(pow, range(100), [2] * 100)) == [n**2 for n in range(100)]
    assert list(pool.map(str, [])) == []
    assert list(pool.map(lambda a, b: a + b, [1, 2, 3], [10, 20])) == [11, 22]


def test_map_begins_before_its_arguments_have_ended(pool):
    """The first of a great many calls does not wait for the last argument."""
    begun = threading.Event()

    def arguments():
        for n in range(1000):
            if n == 500:
                assert begun.wait(30)
            yield n

    results = pool.map(lambda n: begun.set() or n, arguments())
    assert list(results) == list(range(1000))


def test_what_came_before_an_argument_that_fails_is_called(pool, until):
    """`map` raises what its arguments raise, and has posted those that there were."""
    seen = []

    def arguments():
        yield from range(3)
        raise LookupError

    with pytest.raises(LookupError):
        pool.map(seen.append, arguments())
    until(lambda: sorted(seen) == [0, 1, 2])


def test_map_raises_what_a_call_raised(pool):
    """The first failure comes out where its result would have."""
    results = pool.map(lambda n: 10 // n, [5, 2, 0, 1])
    assert [next(results), next(results)] == [2, 5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_times_out(pool, gate):
    """`map` with a timeout raises `TimeoutError` where it ran out."""
    with pytest.raises(TimeoutError):
        list(pool.map(gate, [1], timeout=0.01))
    gate.open()


def test_map_dropped_half_way_cancels_the_rest(one, gate):
    """Leaving a `map` early cancels what has not started, as with any executor."""
    ran = []
    results = one.map(lambda n: (ran.append(n), gate() if n else None), range(10))
    next(results)
    gate.wait()
    results.close()
    gate.open()
    one.submit(int).result(20)
    assert ran == [0, 1]


def test_leaving_the_block_waits_for_everything():
    """A `with` block ends when every task that was posted in it has run."""
    ran = []
    with AsyncTaskPool(2) as pool:
        assert isinstance(pool, AsyncTaskPool)
        for n in range(100):
            pool.submit(ran.append, n)
    assert sorted(ran) == list(range(100))
    with pytest.raises(PoolShutdown):
        pool.submit(print)


def test_leaving_the_block_with_an_exception_waits_too():
    """An exception in the block comes out after the tasks have run."""
    ran = []
    with pytest.raises(LookupError), AsyncTaskPool(1) as pool:
        pool.submit(ran.append, 1)
        raise LookupError
    assert ran == [1]


# Workers.


def test_workers_come_on_demand_and_leave(make_pool, until):
    """A pool has no worker before the first post, no more than needed, and none once idle."""
    pool = make_pool(4, "comes", idle_timeout=0.01)
    assert pool.stats()[:3] == (4, 0, 0)
    pool.submit(int).result(20)
    stats = pool.stats()
    assert stats.running_workers + stats.idle_workers <= 1
    until(lambda: pool.stats().idle_workers == 0)
    until(lambda: not any(t.name.startswith("comes") for t in threading.enumerate()))
    assert pool.submit(lambda: "again").result(20) == "again"


def test_min_workers_stay(make_pool, until):
    """`min_workers` stay when idle, the others leave."""
    pool = make_pool(4, min_workers=2, idle_timeout=0.01)
    barrier = threading.Barrier(4)
    for task in [pool.submit(barrier.wait, 20) for _ in range(4)]:
        task.result(20)
    until(lambda: pool.stats().idle_workers == 2)
    time.sleep(0.1)  # ten times as long as the others waited
    assert pool.stats().idle_workers == 2


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="a post may come before the worker has looked into the queue again",
)
def test_an_idle_worker_is_reused(pool, until):
    """A task that finds a worker idle starts no other."""
    threads = set()
    for _ in range(100):
        threads.add(pool.submit(threading.get_ident).result(20))
        until(lambda: not pool.stats().running_workers)
    assert len(threads) == 1
    assert pool.stats().idle_workers == 1


def test_never_more_workers_than_asked_for(make_pool):
    """At no time do more callbacks run than `max_workers`."""
    pool = make_pool(3)
    lock = threading.Lock()
    inside = most = 0

    def run():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.0005)
        with lock:
            inside -= 1

    for task in [pool.submit(run) for _ in range(300)]:
        task.result(20)
    assert 1 <= most <= 3


def test_dropping_a_pool_loses_nothing():
    """Tasks of a pool that nobody has any more run, later ones too."""
    pool = AsyncTaskPool(1, min_workers=1)
    tasks = [pool.submit(lambda: 1), pool.post_task(lambda: 2, DelayTask(0.005))]
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    assert [task.result(20) for task in tasks] == [1, 2]


def test_a_dropped_pools_workers_leave(until):
    """Even `min_workers` leave when nobody can post any more."""
    pool = AsyncTaskPool(2, "dropped", min_workers=1, idle_timeout=0.01)
    pool.submit(int).result(20)
    del pool
    gc.collect()
    until(lambda: not any(t.name.startswith("dropped") for t in threading.enumerate()))


def test_an_idle_pool_is_collected():
    """A pool that was never used goes without a trace."""
    gone = weakref.ref(AsyncTaskPool(1))
    gc.collect()
    assert gone() is None


# The initializer.


def test_the_initializer_runs_once_on_each_worker(make_pool):
    """`initializer(*initargs)` is called on a worker before its first task."""
    local = threading.local()
    calls = []

    def initializer(*args):
        calls.append((threading.get_ident(), args))
        local.value = args

    pool = make_pool(3, "init", initializer, (1, "two"))
    barrier = threading.Barrier(3)

    def read():
        barrier.wait(20)
        return threading.get_ident(), local.value

    seen = [task.result(20) for task in [pool.submit(read) for _ in range(3)]]
    assert sorted(calls) == sorted(seen)
    assert {args for _, args in seen} == {(1, "two")}
    assert pool.submit(lambda: local.value).result(20) == (1, "two")


def test_the_initializer_is_freed_by_whoever_comes_last(run_python):
    """A pool that is dropped before its workers have left leaves its initializer to the last."""
    printed = run_python(
        """
        from asynctask import AsyncTaskPool

        freed = []

        class Initializer:
            def __call__(self):
                pass

            def __del__(self):
                freed.append(None)

        for _ in range(200):
            pool = AsyncTaskPool(1, initializer=Initializer(), idle_timeout=0.001)
            pool.submit(int).result(20)
            del pool
        import time
        end = time.monotonic() + 20
        while len(freed) < 200 and time.monotonic() < end:
            time.sleep(0.001)
        print(len(freed))
        """
    )
    assert printed == "200\n"


# Sizes.


def test_resize_up_starts_more_workers(one, gate):
    """A larger pool works off what is queued at once."""
    gate.hold(one)
    task = one.submit(lambda: "second")
    with pytest.raises(TimeoutError):
        task.result(0.01)
    one.resize(2)
    assert task.result(20) == "second"
    assert one.stats().max_workers == 2


def test_resize_down_ends_workers_after_their_tasks(make_pool, make_gate, until):
    """A smaller pool has as many workers as asked for once the surplus ones are through."""
    pool = make_pool(4)
    gates = [make_gate() for _ in range(4)]
    for gate in gates:
        pool.submit(gate)
    for gate in gates:
        gate.wait()
    pool.resize(1)
    queued = [pool.submit(int) for _ in range(10)]
    for gate in gates:
        gate.open()
    for task in queued:
        assert task.result(20) == 0
    until(lambda: pool.stats().running_workers + pool.stats().idle_workers <= 1)


def test_resize_ends_idle_workers(make_pool, until):
    """Idle workers beyond the new size leave."""
    pool = make_pool(4)
    barrier = threading.Barrier(4)
    for task in [pool.submit(barrier.wait, 20) for _ in range(4)]:
        task.result(20)
    pool.resize(2)
    until(lambda: pool.stats().idle_workers <= 2)
    assert pool.submit(lambda: 1).result(20) == 1


def test_resize_while_everything_happens(make_pool):
    """Resizing at any time loses no task."""
    pool = make_pool(2)
    ran = []
    tasks = []
    for n in range(2000):
        tasks.append(pool.submit(ran.append, n))
        if n % 20 == 0:
            pool.resize(n // 20 % 7 + 1)
    for task in tasks:
        task.result(20)
    assert sorted(ran) == list(range(2000))


# Counts.


def test_stats_are_a_named_tuple(pool):
    """The counts have names, in the order of the design."""
    stats = pool.stats()
    assert isinstance(stats, PoolStats)
    assert stats._fields == (
        "max_workers",
        "running_workers",
        "idle_workers",
        "waiting",
        "pending_timers",
        "submitted",
        "successful",
        "failed",
        "cancelled",
        "dropped",
        "completed",
        "skipped_runs",
        "missed_runs",
        "running_elsewhere",
    )
    assert stats == (4, *[0] * 13)


def test_stats_say_what_is_where(make_pool, clock, make_gate):
    """At each moment a task is counted where it is."""
    pool = make_pool(2, clock=clock)
    gates = [make_gate(), make_gate()]
    for gate in gates:
        pool.submit(gate)
    for gate in gates:
        gate.wait()
    queued = [pool.submit(int), pool.submit(int, "x"), pool.submit(int)]
    pool.post_task(int, DelayTask(1))
    pool.post_task(int, IntervalTask(1))
    stats = pool.stats()
    assert (stats.running_workers, stats.idle_workers) == (2, 0)
    assert (stats.waiting, stats.pending_timers, stats.submitted) == (3, 2, 7)
    assert (stats.completed, stats.cancelled) == (0, 0)
    queued[2].cancel()
    stats = pool.stats()
    assert (stats.waiting, stats.cancelled) == (2, 1)
    for gate in gates:
        gate.open()
    assert queued[1].exception(20)
    queued[0].result(20)
    clock.advance(1)
    stats = pool.stats()
    assert (stats.running_workers, stats.waiting, stats.pending_timers) == (0, 0, 1)
    assert (stats.successful, stats.failed, stats.cancelled, stats.completed) == (4, 1, 1, 5)
    pool.shutdown()
    stats = pool.stats()
    assert (stats.idle_workers, stats.pending_timers) == (0, 0)
    assert stats.submitted == stats.completed + stats.cancelled == 7


@pytest.mark.parametrize("post", ["map", "submit", "delayed", "refused"])
def test_never_are_more_tasks_over_than_submitted(make_pool, post):
    """Whenever somebody looks, what is over has been counted as submitted."""
    pool = make_pool(2, queue_size=2 if post == "refused" else None, on_full="raise")
    posted = threading.Event()

    def post_all():
        for _ in range(3_000):
            if post == "map":
                list(pool.map(int, range(3)))
            elif post == "submit":
                [pool.submit(int) for _ in range(3)]
            elif post == "delayed":
                [pool.post_task(int, DelayTask(0)) for _ in range(3)]
            else:
                with contextlib.suppress(QueueFull):
                    list(pool.map(int, range(5)))
        posted.set()

    poster = start(post_all)
    while not posted.is_set():
        stats = pool.stats()
        assert stats.completed + stats.cancelled + stats.dropped <= stats.submitted
    poster.join()
    pool.shutdown()
    stats = pool.stats()
    assert stats.completed + stats.cancelled == stats.submitted


def test_a_refused_post_is_not_counted(one):
    """What was not accepted was not submitted."""
    one.shutdown()
    for options in ([], [DelayTask(1)], [IntervalTask(1)]):
        with pytest.raises(PoolShutdown):
            one.post_task(int, *options)
    assert one.stats().submitted == 0


def test_a_storm(make_pool):
    """Posting, moving, stopping, cancelling and resizing at once lose nothing and count right."""
    pool = make_pool(3, idle_timeout=0.001)
    tasks = []
    starts = threading.Barrier(4)

    def storm(seed):
        choose = random.Random(seed)  # noqa: S311
        starts.wait(20)
        posts = [
            lambda: pool.submit(int),
            lambda: pool.post_task(int, DelayTask(choose.random() / 100)),
            lambda: pool.post_task(int, IntervalTask(0.000_1 + choose.random() / 1000)),
            lambda: pool.after(choose.random() / 100),
        ]
        others = [
            lambda: choose.choice(tasks).cancel(),
            lambda: choose.choice(tasks).reschedule(choose.random() / 100),
            lambda: choose.choice(tasks).stop(),
            lambda: pool.resize(choose.randrange(1, 6)),
        ]
        for _ in range(750):
            tasks.append(choose.choice(posts)())
            choose.choice(others)()

    threads = [start(storm, seed) for seed in range(4)]
    join(*threads)
    for task in tasks:
        if not task.done():
            task.stop_and_wait(20)
    pool.shutdown()
    assert all(task.done() for task in tasks)
    stats = pool.stats()
    assert stats.submitted == len(tasks) == stats.successful + stats.cancelled
    assert (stats.failed, stats.waiting, stats.pending_timers, stats.running_workers) == (0,) * 4


# try_submit.


def test_try_submit_gives_a_handle_or_none(make_pool, gate):
    """`try_submit` posts if there is room, and says None otherwise, whatever the policy."""
    pool = make_pool(1, queue_size=1)
    assert pool.try_submit(gate).called_times() == 0
    gate.wait()
    queued = pool.try_submit(lambda: 2)
    assert pool.try_submit(lambda: 3) is None
    assert pool.stats().submitted == 2
    gate.open()
    assert queued.result(20) == 2
    assert make_pool(1).try_submit(lambda: 4).result(20) == 4


def test_the_current_task_can_be_asked_of_any_pool(make_pool):
    """`current_task` knows the task of whatever pool runs the callback."""
    for _ in range(2):
        pool = make_pool(1)
        task = pool.post_task(lambda: asynctask.current_task().name, name="mine")
        assert task.result(20) == "mine"
