"""P1 as curves: what a post costs beside so many others, and from so many threads."""

from __future__ import annotations

import functools
import itertools
import sched
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any, TypeAlias

from asynctask import AsyncTaskPool

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

Post: TypeAlias = "Callable[[Sequence[float]], None]"
"""Posts timers with these delays; or as many tasks, at once."""

HOUR = 3600
TIMED = 1_000
"""Posts that are timed at each place, if the place has so many."""
SMALL = 1_000
"""Up to here a place is gone through several times, for it has few posts to time."""
AGAIN = 20
WORKERS = 8

noop = int
"""Builtin: what is measured is the post."""


def growth(make: Callable[[], AbstractContextManager[Post]], places: Sequence[int]) -> Sample:
    """Post until so many wait at each place in turn, and time the posts that come then.

    They are at most nine for each that waits, so that they stay before the next place.
    """
    took: dict[int, list[float]] = {place: [] for place in places}
    small = [place for place in places if place <= SMALL]
    clock = time.perf_counter_ns
    for chosen in [*[small] * AGAIN, places]:
        with make() as post, undisturbed():
            posted = 0
            for place in chosen:
                post(_delays(range(posted, place)))
                timed = range(place, place + min(9 * place, TIMED))
                delays = _delays(timed)
                start = clock()
                post(delays)
                took[place].append((clock() - start) / len(delays))
                posted = timed.stop
    each = {place: statistics.median(times) for place, times in took.items()}
    return {
        **{str(place): ns for place, ns in each.items()},
        "growth": each[max(places)] / each[SMALL],
    }


def _delays(numbers: range) -> list[float]:
    """Give delays from one to two hours, in no order."""
    return [HOUR + number * 7919 % HOUR for number in numbers]


@contextmanager
def pool_with_timers() -> Iterator[Post]:
    """`post_delay_task`; handles dropped. Checked: all of them wait."""
    pool = AsyncTaskPool()
    posted = 0

    def post(delays: Sequence[float]) -> None:
        nonlocal posted
        posted += len(delays)
        post_one = pool.post_delay_task
        for delay in delays:
            post_one(noop, delay)

    yield post
    pending = pool.stats().pending_timers
    check(pending == posted, f"{pending} wait of {posted}")
    pool.shutdown()


@contextmanager
def loop_with_timers(peer: str) -> Iterator[Post]:
    """`call_later` on a loop that stands still meanwhile; handles dropped."""
    with peers.event_loop(peer) as loop:

        def post(delays: Sequence[float]) -> None:
            post_one = loop.call_later
            for delay in delays:
                post_one(delay, noop)

        yield post


@contextmanager
def sched_with_timers() -> Iterator[Post]:
    """`sched.enter`; nothing runs it."""
    scheduler = sched.scheduler(time.monotonic)

    def post(delays: Sequence[float]) -> None:
        post_one = scheduler.enter
        for delay in delays:
            post_one(delay, 0, noop)

    yield post


@contextmanager
def scheduler_with_jobs() -> Iterator[Post]:
    """`add_job` with a date."""
    now = datetime.now(UTC)
    with peers.scheduler() as scheduler:

        def post(delays: Sequence[float]) -> None:
            post_one = scheduler.add_job
            for delay in delays:
                post_one(noop, "date", run_date=now + timedelta(seconds=delay))

        yield post


@contextmanager
def queue(make: Callable[[int], Any], method: str) -> Iterator[Post]:
    """A pool whose one worker waits until the last task was posted. Checked: all of them run."""
    counter = itertools.count()
    free, over = threading.Event(), threading.Event()
    posted = 0
    with make(1) as pool:
        post_one = getattr(pool, method)

        def counted() -> None:
            next(counter)

        def post(delays: Sequence[float]) -> None:
            nonlocal posted
            posted += len(delays)
            for _ in delays:
                post_one(counted)

        post_one(free.wait)
        yield post
        free.set()
        post_one(over.set)
        check(over.wait(600), "a task was lost")
    ran = next(counter)
    check(ran == posted, f"{ran} ran of {posted}")


def produced(make: Callable[[], Any], method: str, places: Sequence[int], count: int) -> Sample:
    """Let so many threads post at once, the same number in all. Checked: all of them run."""
    sample = {}
    for producers in places:
        counter = itertools.count()
        with make() as pool:
            sample[str(producers)] = _produce(getattr(pool, method), counter, producers, count)
        ran = next(counter)
        check(ran == count, f"{ran} ran of {count}")
    return sample


def _produce(
    post: Callable[[Callable[[], object]], object],
    counter: itertools.count[int],
    producers: int,
    count: int,
) -> float:
    """Give the nanoseconds for each, until all have run."""
    over = threading.Event()
    barrier = threading.Barrier(producers + 1)

    def counted() -> None:
        if next(counter) == count - 1:
            over.set()

    def produce() -> None:
        barrier.wait()
        for _ in range(count // producers):
            post(counted)

    threads = [threading.Thread(target=produce) for _ in range(producers)]
    for thread in threads:
        thread.start()
    with undisturbed():
        barrier.wait()
        start = time.perf_counter()
        check(over.wait(60), "a task was lost")
        elapsed = time.perf_counter() - start
    for thread in threads:
        thread.join()
    return elapsed / count * 1e9


def _curve(places: Sequence[int], what: str) -> list[Metric]:
    return [Metric(str(place), f"ns, {place:,} {what}", at=place) for place in places]


def _decades(most: int) -> list[int]:
    return [10**power for power in range(len(str(most)))]


def workloads(scale: Scale) -> Sequence[Workload]:
    """P1 beside timers, beside tasks, and by producers."""
    rounds = scale.turns(2, 1)
    most = scale.pick(1_000_000, 100_000, 10_000_000)
    fewer = scale.pick(100_000, 10_000, 1_000_000)
    # Python's heaps take as much memory as we do, and several times as long.
    timers, queued = _decades(most), _decades(most)
    theirs, few = _decades(min(most, 1_000_000)), _decades(fewer)
    jobs = _decades(scale.pick(1_000, 1_000, 10_000))
    count = scale.pick(24_000, 9_600, 48_000)
    producers = [1, 2, 3, 4, 6, 8]
    flat = Metric(
        "growth",
        f"with the most, times what it is with {SMALL:,}",
        at_most=2,
        compared=False,
        digits=2,
    )
    scheduler = functools.partial(growth, scheduler_with_jobs, jobs)
    return [
        Workload(
            "P1",
            "post a timer of 1 to 2 h beside others that wait",
            [*_curve(timers, "timers pending"), flat],
            [
                Case("post_delay_task", lambda: growth(pool_with_timers, timers), ours=True),
                *peers.loops(
                    "{} call_later", lambda peer: growth(lambda: loop_with_timers(peer), theirs)
                ),
                Case("sched enter", lambda: growth(sched_with_timers, few)),
                Case("APScheduler add_job", scheduler, needs=peers.APSCHEDULER),
            ],
            rounds,
            note="the median of what each of up to 1,000 posts takes",
            axis="timers pending",
        ),
        Workload(
            "P1",
            "post a task behind others that wait for the one worker",
            [*_curve(queued, "tasks queued"), flat],
            [
                Case(
                    "AsyncTaskPool.post_task",
                    lambda: growth(lambda: queue(AsyncTaskPool, "post_task"), queued),
                    ours=True,
                ),
                Case(
                    "ThreadPoolExecutor.submit",
                    lambda: growth(lambda: queue(ThreadPoolExecutor, "submit"), few),
                ),
                Case(
                    "multiprocessing ThreadPool",
                    lambda: growth(lambda: queue(ThreadPool, "apply_async"), few),
                ),
            ],
            rounds,
            axis="tasks queued",
        ),
        Workload(
            "P1",
            f"post {count:,} no-ops from several threads at once, and run them; handles dropped",
            _curve(producers, "producers"),
            [
                Case(
                    "AsyncTaskPool.post_task",
                    lambda: produced(AsyncTaskPool, "post_task", producers, count),
                    ours=True,
                ),
                Case(
                    "ThreadPoolExecutor.submit",
                    lambda: produced(ThreadPoolExecutor, "submit", producers, count),
                ),
                Case(
                    "multiprocessing ThreadPool",
                    lambda: produced(lambda: ThreadPool(WORKERS), "apply_async", producers, count),
                ),
            ],
            rounds,
            axis="producers",
        ),
    ]
