"""P9 and P16: what a main thread that only computes feels of what goes on beside it.

It counts small pieces of work, alone and in company by turns in the same process. A share of its
speed is that of a window of 10 ms, of what it does alone in the turns before and after; a stall is
the time from the end of one piece to the end of the next.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any, Protocol

from asynctask import AsyncTaskPool

from benchmarks import peers
from benchmarks.harness import (
    Case,
    Metric,
    Sample,
    Scale,
    Workload,
    check,
    percentile,
    undisturbed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

MS = 1_000_000
WINDOW = 10 * MS
SLICE = 250 * MS
HOUR = 3600.0
RATE = 1_000
PENDING = 100_000
LEAD = 0.010
PATIENCE = 30.0
CHAINS = 50
WORKERS = 8

clock = time.perf_counter_ns


def compute(until: int) -> list[int]:
    """Work until then; give the instants at which each piece of about 10 us was done."""
    done = [clock()]
    while done[-1] < until:
        for _ in range(300):
            pass
        done.append(clock())
    return done


def speeds(done: Sequence[int]) -> list[float]:
    """Count the pieces in each whole window."""
    counts = [0] * ((done[-1] - done[0]) // WINDOW + 1)
    for at in done[1:]:
        counts[(at - done[0]) // WINDOW] += 1
    return [float(count) for count in counts[:-1]]


def felt(company: Callable[[], AbstractContextManager[object]], turns: int) -> Sample:
    """Compute alone, in company, alone, and so on."""
    shares: list[float] = []
    stalls: list[float] = []
    with undisturbed():
        alone = speeds(compute(clock() + SLICE))
        for _ in range(turns):
            with company():
                done = compute(clock() + SLICE)
            after = speeds(compute(clock() + SLICE))
            solo = statistics.fmean([*alone, *after])
            shares.extend(100 * speed / solo for speed in speeds(done))
            stalls.append(max(b - a for a, b in itertools.pairwise(done)) / MS)
            alone = after
    return {"share": shares, "low": shares, "stall": stalls}


class Ticks:
    """Delays of what fires while the main thread computes. Checked: all of it fired."""

    def __init__(self) -> None:
        self.delays = [LEAD + number / RATE for number in range(SLICE * RATE // 1000 // MS)]
        self.far = [HOUR + number % 3600 for number in range(PENDING)]
        self._left = len(self.delays)
        self._over = threading.Event()

    def tick(self) -> None:
        """Fire. The runs of a contestant may overlap, but not here: each holds the GIL."""
        self._left -= 1
        if not self._left:
            self._over.set()

    def wait(self) -> None:
        """Wait for the last of them."""
        check(self._over.wait(PATIENCE), f"{self._left} of {len(self.delays)} did not fire")


@contextmanager
def pool_with_timers(**options: Any) -> Iterator[None]:
    """`post_delay_task`. Checked as well: the others wait."""
    ticks = Ticks()
    with AsyncTaskPool(**options) as pool:
        for delay in ticks.far:
            pool.post_delay_task(ticks.tick, delay)
        for delay in ticks.delays:
            pool.post_delay_task(ticks.tick, delay)
        yield
        ticks.wait()
        pending = pool.stats().pending_timers
        check(pending == PENDING, f"{pending} wait of {PENDING}")


@contextmanager
def loop_with_timers(peer: str) -> Iterator[None]:
    """`call_later`, on a loop in a thread of its own."""
    ticks = Ticks()

    def post() -> None:
        for delay in [*ticks.far, *ticks.delays]:
            loop.call_later(delay, ticks.tick)
        posted.set()

    posted = threading.Event()
    with peers.loop_thread(peer) as loop:
        loop.call_soon_threadsafe(post)
        check(posted.wait(PATIENCE), "the loop did not start")
        yield
        ticks.wait()


@contextmanager
def timers_of(
    make: Callable[[], AbstractContextManager[peers.Enter]], *, has_far: bool = False
) -> Iterator[None]:
    """Post from this thread; the far ones too, unless each takes a thread or 50 us to post."""
    ticks = Ticks()
    with make() as enter:
        for delay in [*(ticks.far if has_far else ()), *ticks.delays]:
            enter(delay, ticks.tick)
        yield
        ticks.wait()


class Chains(Protocol):
    """Makes callbacks endless: each posts itself again."""

    def __call__(
        self, pool: Any, method: str, end: Callable[[], object], /
    ) -> tuple[Callable[[], int], Callable[[], None]]:
        """Start them.

        Returns:
            What counts the runs so far, and what makes each chain call *end* instead of itself.
        """


def python_chains(
    pool: Any, method: str, end: Callable[[], object]
) -> tuple[Callable[[], int], Callable[[], None]]:
    """Chains of Python functions that do no more than count and go on."""
    post = getattr(pool, method)
    counter = itertools.count()
    step = counter.__next__
    is_over = False

    def again() -> None:
        step()
        if is_over:
            end()
        else:
            post(again)

    def stop() -> None:
        nonlocal is_over
        is_over = True

    for _ in range(CHAINS):
        post(again)
    return step, stop


def builtin_chains(
    pool: AsyncTaskPool, method: str, end: Callable[[], object]
) -> tuple[Callable[[], int], Callable[[], None]]:
    """Chains in which no Python code runs: partials of the pool's method with themselves."""
    post = getattr(pool, method)
    links: list[Any] = [functools.partial(post) for _ in range(CHAINS)]

    def stop() -> None:
        for link in links:
            link.__setstate__((end, (), {}, {}))

    for link in links:
        link.__setstate__((post, (link,), {}, {}))
        post(link)
    return lambda: pool.stats().completed, stop


@contextmanager
def endless(make: Callable[[], Any], method: str, start: Chains) -> Iterator[Callable[[], int]]:
    """Give what counts the runs. Checked: each chain goes on until it is ended."""
    ended = threading.Semaphore(0)
    with make() as pool:
        count, stop = start(pool, method, ended.release)
        yield count
        stop()
        for _ in range(CHAINS):
            check(ended.acquire(timeout=PATIENCE), "a chain has broken")


def beside(make: Callable[[], Any], method: str, start: Chains, turns: int) -> Sample:
    """Compute beside endless callbacks."""
    rates: list[float] = []

    @contextmanager
    def company() -> Iterator[None]:
        with endless(make, method, start) as count:
            began, before = clock(), count()
            yield
            rates.append((count() - before) / (clock() - began) * MS)

    return {**felt(company, turns), "rate": statistics.fmean(rates)}


def workloads(scale: Scale) -> Sequence[Workload]:
    """P9 and P16."""
    turns = scale.pick(2, 1, 4)
    rounds = scale.turns(2, 1, 3)

    def metrics(at_least: float, at_most: float | None, *others: Metric) -> list[Metric]:
        return [
            Metric(
                "share",
                "main thread's speed, % of alone",
                at_least=at_least,
                reduce=statistics.fmean,
                compared=False,
                digits=1,
                is_drawn=True,
            ),
            Metric(
                "low",
                "in the slowest 1 % of windows",
                reduce=percentile(0.01),
                compared=False,
                is_more_better=True,
            ),
            Metric(
                "stall",
                "main thread's longest stall, ms",
                at_most=at_most,
                reduce=max,
                compared=False,
                digits=1,
            ),
            *others,
        ]

    def timers(name: str, company: Callable[[], Any], **keywords: Any) -> Case:
        return Case(name, lambda: felt(company, turns), **keywords)

    def chains(
        name: str, make: Callable[[], Any], method: str, start: Chains = python_chains
    ) -> Case:
        is_ours = method == "post_task"  # the peers have no such method
        return Case(name, lambda: beside(make, method, start, turns), ours=is_ours)

    pool = f"AsyncTaskPool, {WORKERS} workers"
    window = f"windows of {WINDOW // MS} ms"
    done = Metric(
        "rate",
        "callbacks run meanwhile, thousand a second",
        compared=False,
        digits=1,
        is_more_better=True,
    )
    few = SLICE * RATE // 1000 // MS
    return [
        Workload(
            "P9",
            f"speed of a computing main thread, {PENDING:,} timers pending, {RATE:,} fire a second",
            metrics(97, None),
            [
                timers("post_delay_task", pool_with_timers, ours=True),
                *peers.loops(
                    "{} in a thread", lambda peer: felt(lambda: loop_with_timers(peer), turns)
                ),
                timers("sched in a thread", lambda: timers_of(peers.sched_timers, has_far=True)),
                timers(f"threading.Timer, {few} pending", lambda: timers_of(peers.thread_timers)),
                timers(
                    f"APScheduler, {few} pending",
                    lambda: timers_of(peers.job_timers),
                    needs=peers.APSCHEDULER,
                ),
                timers("nothing: what the measurement itself says", nullcontext, is_control=True),
            ],
            rounds,
            note=f"{window}; alone and with timers by turns of {SLICE // MS} ms",
        ),
        Workload(
            "P16",
            f"speed of a computing main thread beside {CHAINS} endless Python callbacks",
            metrics(40, 50, done),
            [
                chains(pool, lambda: AsyncTaskPool(WORKERS), "post_task"),
                chains(
                    f"ThreadPoolExecutor, {WORKERS} workers",
                    lambda: ThreadPoolExecutor(WORKERS),
                    "submit",
                ),
                chains("ThreadPoolExecutor, 1 worker", lambda: ThreadPoolExecutor(1), "submit"),
                chains(
                    f"multiprocessing ThreadPool, {WORKERS} workers",
                    lambda: ThreadPool(WORKERS),
                    "apply_async",
                ),
            ],
            rounds,
            note=f"{window}; alone and beside them by turns; each callback posts itself again",
        ),
        Workload(
            "P16",
            f"the same beside {CHAINS} endless builtin callbacks, which no bytecode interrupts",
            metrics(40, 50, done),
            [chains(pool, lambda: AsyncTaskPool(WORKERS), "post_task", builtin_chains)],
            rounds,
            note="a functools.partial of post_task, with itself; the peers' own are Python",
        ),
    ]
