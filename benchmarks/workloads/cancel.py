"""P3: what a timeout costs that does not strike: a delay posted, and cancelled."""

from __future__ import annotations

import asyncio
import random
import sched
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asynctask
from asynctask import AsyncTaskPool, DelayTask
from asynctask.testing import reset_default_pool

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asynctask import AsyncTask

BREATH = 1_000
"""An event loop gets a turn after so many, for that is when it throws cancelled timers away."""


def ran() -> None:
    """Fail: what was cancelled must not run."""
    raise AssertionError


def delays(count: int) -> list[float]:
    """Give delays from 10 to 60 s, the same for every contestant."""
    numbers = random.Random(1)
    return [numbers.uniform(10, 60) for _ in range(count)]


def _post_and_cancel(
    post: Callable[[Callable[[], None], float], AsyncTask[None]], count: int
) -> float:
    """Time post and cancel. Checked: a cancel of the same kind says that it took effect."""
    times = delays(count)
    with undisturbed():
        start = time.perf_counter()
        for delay in times:
            post(ran, delay).cancel()
        elapsed = time.perf_counter() - start
    task = post(ran, 60)
    check(task.cancel() and task.cancelled(), "a cancel had no effect")
    return elapsed / count * 1e9


def own_pool(count: int, pending: int) -> Sample:
    """`post_delay_task` and `cancel`. Checked: the pool has counted as many cancelled."""
    with AsyncTaskPool() as pool:
        for delay in delays(pending):
            pool.post_delay_task(ran, delay)
        sample = {"ns": _post_and_cancel(pool.post_delay_task, count)}
        stats = pool.stats()
        check(stats.cancelled == count + 1, f"{stats.cancelled} cancelled of {count + 1}")
        check(stats.pending_timers == pending, f"{stats.pending_timers} pending of {pending}")
    check(pool.stats().completed == 0, "a cancelled task ran")
    return sample


def default_pool(count: int) -> Sample:
    """`asynctask.post_task(callback, DelayTask(delay))` and `cancel`, the option made each time."""
    pool = asynctask.get_async_task()
    times = delays(count)
    post = asynctask.post_task
    with undisturbed():
        start = time.perf_counter()
        for delay in times:
            post(ran, DelayTask(delay)).cancel()
        elapsed = time.perf_counter() - start
    stats = pool.stats()
    check(stats.cancelled == count, f"{stats.cancelled} cancelled of {count}")
    check(stats.completed == 0, "a cancelled task ran")
    reset_default_pool()
    return {"ns": elapsed / count * 1e9}


def call_later(peer: str, count: int, pending: int) -> Sample:
    """`loop.call_later` and `cancel`, on the loop's thread. Checked: the last is cancelled."""
    times = delays(count)

    async def post_and_cancel() -> float:
        loop = asyncio.get_running_loop()
        waiting = [loop.call_later(delay, ran) for delay in delays(pending)]
        with undisturbed():
            start = time.perf_counter()
            for at in range(0, count, BREATH):
                for delay in times[at : at + BREATH]:
                    handle = loop.call_later(delay, ran)
                    handle.cancel()
                await asyncio.sleep(0)
            elapsed = time.perf_counter() - start
        check(handle.cancelled(), "a cancel had no effect")
        check(not any(timer.cancelled() for timer in waiting), "another timer was cancelled")
        for timer in waiting:
            timer.cancel()
        return elapsed

    with peers.event_loop(peer) as loop:
        return {"ns": loop.run_until_complete(post_and_cancel()) / count * 1e9}


def sched_enter(count: int, pending: int) -> Sample:
    """`sched.enter` and `cancel`, which looks through all. Checked: the others are left."""
    scheduler = sched.scheduler(time.monotonic)
    for delay in delays(pending):
        scheduler.enter(delay, 0, ran)
    times = delays(count)
    with undisturbed():
        start = time.perf_counter()
        for delay in times:
            scheduler.cancel(scheduler.enter(delay, 0, ran))
        elapsed = time.perf_counter() - start
    left = len(scheduler.queue)
    check(left == pending, f"{left} left of {pending}")
    return {"ns": elapsed / count * 1e9}


def thread_timer(count: int) -> Sample:
    """`threading.Timer.start` and `cancel`. Checked: all threads end, and none has run."""
    timers = []
    with undisturbed():
        start = time.perf_counter()
        for delay in delays(count):
            timer = threading.Timer(delay, ran)
            timer.start()
            timer.cancel()
            timers.append(timer)
        elapsed = time.perf_counter() - start
    for timer in timers:
        timer.join()
    check(all(timer.finished.is_set() for timer in timers), "a cancel had no effect")
    return {"ns": elapsed / count * 1e9}


def apscheduler(count: int) -> Sample:
    """`add_job` with a date, and `remove`. Checked: no job is left."""
    now = datetime.now(UTC)
    dates = [now + timedelta(seconds=delay) for delay in delays(count)]
    with peers.scheduler() as scheduler:
        with undisturbed():
            start = time.perf_counter()
            for date in dates:
                scheduler.add_job(ran, "date", run_date=date).remove()
            elapsed = time.perf_counter() - start
        check(not scheduler.get_jobs(), "a removal had no effect")
    return {"ns": elapsed / count * 1e9}


def workloads(scale: Scale) -> Sequence[Workload]:
    """P3, on an empty pool and beside 100,000 that wait."""
    count = scale.pick(100_000, 30_000)
    few = scale.pick(500, 200)
    pending = 100_000
    rounds = scale.turns(5, 2, 9)
    metric = Metric("ns", "ns for both")
    return [
        Workload(
            "P3",
            "post a delay of 10 to 60 s, cancel it",
            [metric],
            [
                Case("post_delay_task(f, d).cancel()", lambda: own_pool(count, 0), ours=True),
                Case("post_task(f, DelayTask(d)).cancel()", lambda: default_pool(count), ours=True),
                Case(
                    "asyncio call_later",
                    lambda: call_later("asyncio", count, 0),
                    at_least={"ns": 8},
                ),
                Case(
                    "uvloop call_later",
                    lambda: call_later(peers.UVLOOP, count, 0),
                    needs=peers.UVLOOP,
                    at_least={"ns": 5},
                ),
                Case("sched enter, cancel", lambda: sched_enter(count, 0)),
                Case("threading.Timer", lambda: thread_timer(few)),
                Case(
                    "APScheduler add_job, remove",
                    lambda: apscheduler(few),
                    needs=peers.APSCHEDULER,
                    at_least={"ns": 100},
                ),
            ],
            rounds,
        ),
        Workload(
            "P3",
            f"the same, with {pending:,} others pending",
            [metric],
            [
                Case("post_delay_task(f, d).cancel()", lambda: own_pool(count, pending), ours=True),
                Case(
                    "asyncio call_later",
                    lambda: call_later("asyncio", count, pending),
                    at_least={"ns": 8},
                ),
                Case(
                    "uvloop call_later",
                    lambda: call_later(peers.UVLOOP, count, pending),
                    needs=peers.UVLOOP,
                    at_least={"ns": 5},
                ),
                Case("sched enter, cancel", lambda: sched_enter(10, pending)),
            ],
            scale.turns(3, 1, 5),
        ),
    ]
