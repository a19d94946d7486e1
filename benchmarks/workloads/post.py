"""P1: what a task costs from its post to the end of its run."""

from __future__ import annotations

import functools
import itertools
import operator
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import asynctask
from asynctask import AsyncTaskPool
from asynctask.testing import reset_default_pool

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Executor

WARM_UP = 200
WORKERS = 8
"""Of the peers that have no number of their own."""

get = operator.methodcaller("get")


def noop() -> None:
    """Do nothing."""


def kept(
    post: Callable[[Callable[[], None]], Any],
    count: int,
    result: Callable[[Any], object] = Future.result,
    callback: Callable[[], None] = noop,
) -> Sample:
    """Post no-ops and keep their handles; the clock stops when the last one has its result.

    Checked: every handle is done, and its result is there.
    """
    for handle in [post(callback) for _ in range(WARM_UP)]:
        result(handle)
    with undisturbed():
        start = time.perf_counter()
        handles = [post(callback) for _ in range(count)]
        result(handles[-1])
        elapsed = time.perf_counter() - start
    # Other workers may be a task or two behind the one that ran the last.
    check(all(result(handle) is None for handle in handles), "a task has no result")
    return {"ns": elapsed / count * 1e9}


def dropped(make: Callable[[], Executor], method: str, count: int) -> Sample:
    """Post callbacks that count themselves, and let go of every handle but the last.

    Checked: when the pool has been shut down, as many have run as were posted.
    """
    counter = itertools.count()
    # One iterator for all threads: a step of it is atomic.
    step = counter.__next__

    def counted() -> None:
        step()

    with make() as pool:
        post = getattr(pool, method)
        for _ in range(WARM_UP):
            last = post(counted)
        last.result()
        with undisturbed():
            start = time.perf_counter()
            for _ in range(count - 1):
                post(counted)
            post(counted).result()
            elapsed = time.perf_counter() - start
    ran = next(counter)
    check(ran == count + WARM_UP, f"{ran} ran of {count + WARM_UP}")
    return {"ns": elapsed / count * 1e9}


def default_pool(count: int) -> Sample:
    """`asynctask.post_task`: the default pool, whose queue holds 10,000 and makes us wait."""
    sample = kept(asynctask.post_task, count)
    reset_default_pool()
    return sample


def own_pool(method: str, count: int) -> Sample:
    """Post by a method of a pool with an unbounded queue, as the peers' are."""
    with AsyncTaskPool() as pool:
        return kept(getattr(pool, method), count)


def executor(count: int, workers: int | None) -> Sample:
    """`ThreadPoolExecutor.submit`."""
    with ThreadPoolExecutor(workers) as pool:
        return kept(pool.submit, count)


def thread_pool(count: int) -> Sample:
    """`multiprocessing.pool.ThreadPool.apply_async`."""
    with ThreadPool(WORKERS) as pool:
        return kept(pool.apply_async, count, get)


def gevent_pool(count: int) -> Sample:
    """`gevent.threadpool.ThreadPool.spawn`, which waits for a free thread."""
    with peers.gevent_pool(WORKERS) as pool:
        return kept(pool.spawn, count, get)


class Owner:
    """Has a method to be called."""

    def method(self) -> None:
        """Do nothing."""


def of_kind(make: Callable[[], Any], method: str, count: int) -> Sample:
    """Post each kind of callback that programs have; handles kept."""
    kinds: dict[str, Callable[[], None]] = {
        "function": noop,
        "builtin": [].clear,
        "method": Owner().method,
        "partial": functools.partial(noop),
    }
    with make() as pool:
        post = getattr(pool, method)
        return {
            kind: kept(post, count, callback=callback)["ns"] for kind, callback in kinds.items()
        }


def apscheduler(count: int) -> Sample:
    """`add_job` without a trigger, which means now; checked by the last run's event."""
    over = threading.Event()
    counter = itertools.count(1)

    def counted() -> None:
        if next(counter) == count:
            over.set()

    with peers.scheduler() as scheduler, undisturbed():
        start = time.perf_counter()
        for _ in range(count):
            scheduler.add_job(counted)
        check(over.wait(60), f"not all of {count} jobs ran")
        elapsed = time.perf_counter() - start
    return {"ns": elapsed / count * 1e9}


def batch(run: Callable[[Callable[[int], int], range], Iterable[int]], count: int) -> Sample:
    """Time so many calls of `abs`, posted together. Checked: every result, in order."""
    check(next(iter(run(abs, range(-WARM_UP, 0)))) == WARM_UP, "a result is wrong")
    with undisturbed():
        start = time.perf_counter()
        results = list(run(abs, range(-count, 0)))
        elapsed = time.perf_counter() - start
    check(results == list(range(count, 0, -1)), "a result is wrong, or not in its place")
    return {"ns": elapsed / count * 1e9}


def grouped(count: int) -> Sample:
    """`TaskGroup`: posted one by one in the block, whose end waits for all."""
    with AsyncTaskPool() as pool:

        def run(call: Callable[[int], int], numbers: range) -> Iterable[int]:
            with pool.group() as group:
                for number in numbers:
                    group.submit(call, number)
            return group.results()

        return batch(run, count)


def waited(count: int) -> Sample:
    """What the standard library has for a group: `ThreadPoolExecutor.submit`, and `wait`."""
    with ThreadPoolExecutor() as pool:

        def run(call: Callable[[int], int], numbers: range) -> Iterable[int]:
            futures = [pool.submit(call, number) for number in numbers]
            wait(futures)
            return [future.result() for future in futures]

        return batch(run, count)


def mapped(make: Callable[[], Any], count: int) -> Sample:
    """`map`, as each has it."""
    with make() as pool:
        return batch(pool.map, count)


def workloads(scale: Scale) -> Sequence[Workload]:
    """P1, with the handles kept and dropped, and in batches."""
    count = scale.pick(40_000, 10_000)
    rounds = scale.turns(5, 2, 9)
    few = scale.pick(10_000, 5_000)
    jobs = scale.pick(1_000, 300)
    spawned = scale.pick(2_000, 1_000)
    many = scale.pick(10_000, 2_000)
    least = {"ns": 30}
    return [
        Workload(
            "P1",
            f"post a no-op and run it; {count:,} posted in a row by one thread",
            [Metric("ns", "ns each, handle kept", at_most=600)],
            [
                Case("asynctask.post_task", lambda: default_pool(count), ours=True),
                Case("AsyncTaskPool.post_task", lambda: own_pool("post_task", count), ours=True),
                Case("AsyncTaskPool.submit", lambda: own_pool("submit", count), ours=True),
                Case("ThreadPoolExecutor.submit", lambda: executor(count, None), at_least=least),
                Case("ThreadPoolExecutor, 1 worker", lambda: executor(count, 1), at_least=least),
                Case("multiprocessing ThreadPool", lambda: thread_pool(count)),
                Case("gevent ThreadPool", lambda: gevent_pool(spawned), needs=peers.GEVENT),
                Case("APScheduler add_job", lambda: apscheduler(jobs), needs=peers.APSCHEDULER),
            ],
            rounds,
        ),
        Workload(
            "P1",
            "the same, fire and forget: handles dropped, callbacks count themselves",
            [Metric("ns", "ns each, handle dropped", at_most=600)],
            [
                Case(
                    "AsyncTaskPool.post_task",
                    lambda: dropped(AsyncTaskPool, "post_task", count),
                    ours=True,
                ),
                Case(
                    "ThreadPoolExecutor.submit",
                    lambda: dropped(ThreadPoolExecutor, "submit", count),
                    at_least=least,
                ),
            ],
            rounds,
        ),
        Workload(
            "P1",
            "the same, by the kind of callback; handles kept",
            [
                Metric(kind, f"ns each, a {kind}", at_most=600)
                for kind in ("function", "builtin", "method", "partial")
            ],
            [
                Case(
                    "AsyncTaskPool.post_task",
                    lambda: of_kind(AsyncTaskPool, "post_task", few),
                    ours=True,
                ),
                Case(
                    "ThreadPoolExecutor.submit",
                    lambda: of_kind(ThreadPoolExecutor, "submit", few),
                ),
            ],
            rounds,
        ),
        Workload(
            "P1",
            f"in batches: abs of {many:,} numbers, and the results in order",
            [Metric("ns", "ns each")],
            [
                Case("AsyncTaskPool.map", lambda: mapped(AsyncTaskPool, many), ours=True),
                Case("TaskGroup", lambda: grouped(many), ours=True),
                Case("ThreadPoolExecutor.map", lambda: mapped(ThreadPoolExecutor, many)),
                Case("ThreadPoolExecutor, wait", lambda: waited(many)),
                Case(
                    "multiprocessing ThreadPool.map",
                    lambda: mapped(lambda: ThreadPool(WORKERS), many),
                    at_least={"ns": 2},
                ),
            ],
            rounds,
            note="ThreadPool.map puts 1/32 of the numbers in a task; the others one",
        ),
    ]
