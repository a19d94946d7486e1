"""P7 and P8: how late a timer's callback starts; never early.

P7 on a machine with nothing else to do, P8 beside a main thread that only computes.
"""

from __future__ import annotations

import asyncio
import functools
import random
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asynctask import AsyncTaskPool

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    Make = Callable[[], AbstractContextManager[peers.Enter]]
    Run = Callable[[Make, Sequence["Timer"]], Sample]

MS = 1_000_000
RATE = 200
"""Timers posted in a second: few enough for every peer to be idle nearly all of the time."""
SHORTEST = 1 * MS
LEAD = 50 * MS
BUSY_LEAD = 400 * MS
"""All timers of P8 are posted within it, before the main thread begins to compute."""
PATIENCE = 30.0

now = time.monotonic_ns


@dataclass(frozen=True)
class Timer:
    """Both instants are fixed before anything is posted, in nanoseconds from the start.

    The delay that is asked for is what is left until the deadline when the post happens, so a post
    that is late, because the peer or the machine is busy, does not move what it is held against.
    """

    post_at: int
    deadline: int


def plan(count: int, rate: int | None, longest: float, seed: int) -> list[Timer]:
    """Lay out timers, at *rate* a second or all at once; delays from 1 ms to *longest* seconds."""
    numbers = random.Random(seed)
    timers = []
    for number in range(count):
        at = 0 if rate is None else int((number + numbers.random()) * 1e9 / rate)
        timers.append(Timer(at, at + numbers.randint(SHORTEST, int(longest * 1_000 * MS))))
    return timers


class Record:
    """Who was called when; the end of the last call is an event."""

    def __init__(self, timers: Sequence[Timer], lead: int = LEAD) -> None:
        self.start = now() + lead
        self.timers = timers
        self.late = [0] * len(timers)
        self._called: list[int] = []
        self.over = threading.Event()
        self.on_over: Callable[[], object] = self.over.set

    def deadline(self, index: int) -> int:
        """Give the deadline of a timer on the monotonic clock."""
        return self.start + self.timers[index].deadline

    def left(self, index: int) -> float:
        """Give the seconds until the deadline of a timer."""
        return max(0, self.deadline(index) - now()) / 1e9

    def callback(self, index: int) -> Callable[[], None]:
        """Make the callback of a timer."""
        deadline = self.deadline(index)

        def call() -> None:
            at = now()
            self.late[index] = at - deadline
            self._called.append(index)
            if len(self._called) == len(self.timers):
                self.on_over()

        return call

    def post_all(self, post: Callable[[int], object]) -> None:
        """Post each timer at its time, from the calling thread, which sleeps in between."""
        for index in sorted(range(len(self.timers)), key=lambda i: self.timers[i].post_at):
            left = self.start + self.timers[index].post_at - now()
            if left > 0:
                time.sleep(left / 1e9)
            post(index)

    def sample(self) -> Sample:
        """Give the figures. Checked: each timer was called, and once."""
        check(
            sorted(self._called) == list(range(len(self.timers))), "a timer was lost, or came twice"
        )
        us = [late / 1e3 for late in self.late]
        return {
            "p50": us,
            "p99": us,
            "max": us,
            "early": [float(late < 0) for late in self.late],
        }


@contextmanager
def pool_timers(**options: Any) -> Iterator[peers.Enter]:
    """`post_delay_task`, on a pool that has worked."""
    with AsyncTaskPool(**options) as pool:
        pool.submit(time.sleep, 0).result()
        yield lambda delay, callback: pool.post_delay_task(callback, delay)


def idle(make: Make, timers: Sequence[Timer]) -> Sample:
    """Post them from the calling thread, which sleeps in between."""
    with make() as enter:
        record = Record(timers)
        record.post_all(lambda i: enter(record.left(i), record.callback(i)))
        check(record.over.wait(PATIENCE), "a timer was lost")
        return record.sample()


def busy(make: Make, timers: Sequence[Timer]) -> Sample:
    """Post them from the calling thread, which computes then."""
    with make() as enter:
        record = Record(timers, BUSY_LEAD)
        record.post_all(lambda i: enter(record.left(i), record.callback(i)))
        return compute(record)


def ours(run: Run, timers: Sequence[Timer], **options: Any) -> Sample:
    """Checked as well: none of ours is early, to the nanosecond."""
    sample = run(functools.partial(pool_timers, **options), timers)
    check(not sum(sample["early"]), "a timer was early")
    return sample


def event_loop(peer: str, timers: Sequence[Timer]) -> Sample:
    """`call_later` on the loop's own thread, posted by a coroutine that sleeps in between."""

    async def post_all(record: Record) -> None:
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        record.on_over = lambda: over.set_result(None)
        for index in sorted(range(len(timers)), key=lambda i: timers[i].post_at):
            left = record.start + timers[index].post_at - now()
            if left > 0:
                await asyncio.sleep(left / 1e9)
            loop.call_later(record.left(index), record.callback(index))
        await asyncio.wait_for(over, PATIENCE)

    with peers.event_loop(peer) as loop:
        loop.run_until_complete(asyncio.sleep(0))
        record = Record(timers)
        loop.run_until_complete(post_all(record))
    return record.sample()


def compute(record: Record) -> Sample:
    """Keep the calling thread busy until the last timer has been called."""
    end = now() + int(PATIENCE * 1e9)
    while not record.over.is_set():
        for _ in range(1_000):
            pass
        check(now() < end, "a timer was lost")
    return record.sample()


def busy_loop(peer: str, timers: Sequence[Timer]) -> Sample:
    """`call_later` on a loop in a thread of its own, which posts all of them first."""
    record = Record(timers, BUSY_LEAD)
    posted = threading.Event()

    def post_all() -> None:
        record.post_all(lambda i: loop.call_later(record.left(i), record.callback(i)))
        posted.set()

    with peers.loop_thread(peer) as loop:
        loop.call_soon_threadsafe(post_all)
        check(posted.wait(PATIENCE), "the loop did not start")
        return compute(record)


def workloads(scale: Scale) -> Sequence[Workload]:
    """P7: lateness of a few hundred a second, and early runs among 100,000; P8."""
    longest = scale.pick(0.5, 0.2, 1.5)
    few = plan(scale.pick(240, 60, 600), RATE, longest, seed=1)
    many = plan(scale.pick(100_000, 20_000), None, longest, seed=2)
    delays = f"delays 1 ms to {longest:g} s"
    early = Metric("early", "early runs", at_most=0, reduce=sum, compared=False)
    return [
        Workload(
            "P7",
            f"lateness of {RATE} timers a second, {delays}, deadlines fixed beforehand",
            _metrics(170, 2_000, early),
            _cases(few, idle, event_loop, "{} call_later"),
            scale.turns(2, 1, 3),
        ),
        Workload(
            "P7",
            f"early runs among {len(many):,} posted at once, {delays}",
            [early],
            [
                Case("post_delay_task", functools.partial(ours, idle, many), ours=True),
                *peers.loops("{} call_later", lambda peer: event_loop(peer, many)),
            ],
            scale.turns(1, 1, 3),
        ),
        _beside_computing(scale, early),
    ]


def _metrics(p50: float | None, p99: float | None, early: Metric) -> list[Metric]:
    return [
        Metric("p50", "p50, us", at_most=p50, reduce=percentile(0.5), is_drawn=True),
        Metric("p99", "p99, us", at_most=p99, reduce=percentile(0.99)),
        Metric("max", "max, us", reduce=max),
        early,
    ]


def _beside_computing(scale: Scale, early: Metric) -> Workload:
    seconds = scale.pick(1.25, 0.5, 3.0)
    timers = plan(int(RATE * seconds), None, seconds, seed=3)
    has_nudge = sys.version_info >= (3, 13)
    cases = _cases(timers, busy, busy_loop, "{} in a thread")
    quiet = Case(
        "the same, nudge=False",
        functools.partial(ours, busy, timers, nudge=False),
        skip=None if has_nudge else "as above, up to CPython 3.12",
        is_control=True,
    )
    note = "all are posted before it begins; up to CPython 3.12 the interpreter does not look at"
    return Workload(
        "P8",
        f"lateness of {RATE} timers a second beside a main thread that only computes",
        _metrics(300 if has_nudge else None, 4_000 if has_nudge else None, early),
        [cases[0], quiet, *cases[1:]],
        scale.turns(2, 1, 3),
        note=f"{note} a nudge in time, and there is no target",
    )


def _cases(
    timers: Sequence[Timer], run: Run, loop: Callable[[str, Sequence[Timer]], Sample], loops: str
) -> list[Case]:
    def case(name: str, make: Make, needs: str | None = None) -> Case:
        return Case(name, lambda: run(make, timers), needs=needs)

    return [
        Case("post_delay_task", lambda: ours(run, timers), ours=True),
        *peers.loops(loops, lambda peer: loop(peer, timers)),
        case("sched in a thread", peers.sched_timers),
        case("threading.Timer", peers.thread_timers),
        case("APScheduler add_job", peers.job_timers, peers.APSCHEDULER),
    ]
