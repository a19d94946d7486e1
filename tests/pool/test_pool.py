"""The pool: an executor, with counts, sizes, shutdown, and waits that never deadlock."""

import collections
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
    CancelledError,
    DelayTask,
    IntervalTask,
    PoolShutdown,
    PoolStats,
    QueueFull,
)


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


def test_map_dropped_half_way_cancels_the_rest(make_pool, gate):
    """Leaving a `map` early cancels what has not started, as with any executor."""
    pool = make_pool(1)
    ran = []
    results = pool.map(lambda n: (ran.append(n), gate() if n else None), range(10))
    next(results)
    gate.wait()
    results.close()
    gate.open()
    pool.submit(int).result(20)
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


def test_resize_up_starts_more_workers(make_pool, gate):
    """A larger pool works off what is queued at once."""
    pool = make_pool(1)
    pool.submit(gate)
    gate.wait()
    task = pool.submit(lambda: "second")
    with pytest.raises(TimeoutError):
        task.result(0.01)
    pool.resize(2)
    assert task.result(20) == "second"
    assert pool.stats().max_workers == 2


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

    poster = threading.Thread(target=post_all)
    poster.start()
    while not posted.is_set():
        stats = pool.stats()
        assert stats.completed + stats.cancelled + stats.dropped <= stats.submitted
    poster.join()
    pool.shutdown()
    stats = pool.stats()
    assert stats.completed + stats.cancelled == stats.submitted


def test_a_refused_post_is_not_counted(make_pool):
    """What was not accepted was not submitted."""
    pool = make_pool(1)
    pool.shutdown()
    for options in ([], [DelayTask(1)], [IntervalTask(1)]):
        with pytest.raises(PoolShutdown):
            pool.post_task(int, *options)
    assert pool.stats().submitted == 0


# Shutdown.


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


# Waits inside a callback.


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

    threads = [threading.Thread(target=storm, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
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
