"""P1: what a task costs from its post to the end of its run."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import asynctask
from asynctask import AsyncTaskPool
from asynctask.testing import reset_default_pool

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor, Future

WARM_UP = 200


def noop() -> None:
    """Do nothing."""


def kept(post: Callable[[Callable[[], None]], Future[None]], count: int) -> Sample:
    """Post no-ops and keep their handles; the clock stops when the last one has its result.

    Checked: every handle is done, and its result is there.
    """
    post(noop).result()
    for handle in [post(noop) for _ in range(WARM_UP)]:
        handle.result()
    with undisturbed():
        start = time.perf_counter()
        handles = [post(noop) for _ in range(count)]
        handles[-1].result()
        elapsed = time.perf_counter() - start
    # Other workers may be a task or two behind the one that ran the last.
    check(all(handle.result() is None for handle in handles), "a task has no result")
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


def workloads(scale: Scale) -> Sequence[Workload]:
    """P1, with the handles kept and dropped."""
    count = scale.pick(50_000, 20_000)
    rounds = scale.turns(7, 3)
    jobs = scale.pick(1_000, 300)
    least = {"ns": 30}
    target = Metric("ns", "ns each, handle kept", at_most=600)
    return [
        Workload(
            "P1",
            f"post a no-op and run it; {count:,} posted in a row by one thread",
            [target],
            [
                Case("asynctask.post_task", lambda: default_pool(count), ours=True),
                Case("AsyncTaskPool.post_task", lambda: own_pool("post_task", count), ours=True),
                Case("AsyncTaskPool.submit", lambda: own_pool("submit", count), ours=True),
                Case("ThreadPoolExecutor.submit", lambda: executor(count, None), at_least=least),
                Case("the same, 1 worker", lambda: executor(count, 1), at_least=least),
                Case("APScheduler add_job", lambda: apscheduler(jobs), needs=peers.APSCHEDULER),
            ],
            rounds,
        ),
        Workload(
            "P1",
            "the same, fire and forget: handles dropped, callbacks count themselves",
            [Metric("ns", "ns each, handle dropped")],
            [
                Case(
                    "AsyncTaskPool.post_task",
                    lambda: dropped(AsyncTaskPool, "post_task", count),
                    ours=True,
                ),
                Case(
                    "ThreadPoolExecutor.submit",
                    lambda: dropped(ThreadPoolExecutor, "submit", count),
                ),
            ],
            rounds,
        ),
    ]
