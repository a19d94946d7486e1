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
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from asynctask import AsyncTaskPool

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def asynctask(timers: Sequence[Timer]) -> Sample:
    """`post_delay_task`. Checked as well: none is early, to the nanosecond."""
    with AsyncTaskPool() as pool:
        pool.submit(time.sleep, 0).result()
        record = Record(timers)
        record.post_all(lambda i: pool.post_delay_task(record.callback(i), record.left(i)))
        check(record.over.wait(PATIENCE), "a timer was lost")
        sample = record.sample()
    check(min(record.late) >= 0, f"early by {-min(record.late)} ns")
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


def thread_timer(timers: Sequence[Timer]) -> Sample:
    """`threading.Timer`."""
    record = Record(timers)
    record.post_all(lambda i: threading.Timer(record.left(i), record.callback(i)).start())
    check(record.over.wait(PATIENCE), "a timer was lost")
    return record.sample()


def _date(left: float) -> datetime:
    """Give a date that is so far ahead, in whole microseconds rounded up: never early itself."""
    return datetime.fromtimestamp(time.time() + left + 1e-6, UTC)


def apscheduler(timers: Sequence[Timer]) -> Sample:
    """`add_job` with a date, which is of the wall clock and in whole microseconds."""
    with peers.scheduler() as scheduler:
        record = Record(timers)

        record.post_all(
            lambda i: scheduler.add_job(record.callback(i), "date", run_date=_date(record.left(i)))
        )
        check(record.over.wait(PATIENCE), "a timer was lost")
        return record.sample()


def sched_thread(timers: Sequence[Timer]) -> Sample:
    """`sched`, in a thread of its own."""
    with peers.SchedThread() as scheduler:
        record = Record(timers)
        record.post_all(lambda i: scheduler.enter(record.left(i), record.callback(i)))
        check(record.over.wait(PATIENCE), "a timer was lost")
    return record.sample()


def compute(record: Record) -> Sample:
    """Keep the calling thread busy until the last timer has been called."""
    end = now() + int(PATIENCE * 1e9)
    while not record.over.is_set():
        for _ in range(1_000):
            pass
        check(now() < end, "a timer was lost")
    return record.sample()


def busy_asynctask(timers: Sequence[Timer], **options: Any) -> Sample:
    """`post_delay_task` beside a computing main thread. Checked as well: none is early."""
    with AsyncTaskPool(**options) as pool:
        pool.submit(time.sleep, 0).result()
        record = Record(timers, BUSY_LEAD)
        record.post_all(lambda i: pool.post_delay_task(record.callback(i), record.left(i)))
        sample = compute(record)
    check(min(record.late) >= 0, f"early by {-min(record.late)} ns")
    return sample


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


def busy_thread_timer(timers: Sequence[Timer]) -> Sample:
    """`threading.Timer` beside a computing main thread."""
    record = Record(timers, BUSY_LEAD)
    record.post_all(lambda i: threading.Timer(record.left(i), record.callback(i)).start())
    return compute(record)


def busy_apscheduler(timers: Sequence[Timer]) -> Sample:
    """`add_job` beside a computing main thread."""
    with peers.scheduler() as scheduler:
        record = Record(timers, BUSY_LEAD)
        record.post_all(
            lambda i: scheduler.add_job(record.callback(i), "date", run_date=_date(record.left(i)))
        )
        return compute(record)


def busy_sched(timers: Sequence[Timer]) -> Sample:
    """`sched`, in a thread of its own, beside a computing main thread."""
    with peers.SchedThread() as scheduler:
        record = Record(timers, BUSY_LEAD)
        record.post_all(lambda i: scheduler.enter(record.left(i), record.callback(i)))
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
            _cases(
                few,
                (asynctask, event_loop, sched_thread, thread_timer, apscheduler),
                "{} call_later",
            ),
            scale.turns(2, 1, 3),
        ),
        Workload(
            "P7",
            f"early runs among {len(many):,} posted at once, {delays}",
            [early],
            [
                Case("post_delay_task", functools.partial(asynctask, many), ours=True),
                Case("asyncio call_later", functools.partial(event_loop, "asyncio", many)),
                Case(
                    "uvloop call_later",
                    functools.partial(event_loop, peers.UVLOOP, many),
                    needs=peers.UVLOOP,
                ),
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
    cases = _cases(
        timers,
        (busy_asynctask, busy_loop, busy_sched, busy_thread_timer, busy_apscheduler),
        "{} in a thread",
    )
    quiet = Case(
        "the same, nudge=False",
        functools.partial(busy_asynctask, timers, nudge=False),
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
    timers: Sequence[Timer], runs: Sequence[Callable[..., Sample]], loops: str
) -> list[Case]:
    ours, loop, sched, thread, scheduler = runs
    return [
        Case("post_delay_task", functools.partial(ours, timers), ours=True),
        Case(loops.format("asyncio"), functools.partial(loop, "asyncio", timers)),
        Case(
            loops.format("uvloop"),
            functools.partial(loop, peers.UVLOOP, timers),
            needs=peers.UVLOOP,
        ),
        Case("sched in a thread", functools.partial(sched, timers)),
        Case("threading.Timer", functools.partial(thread, timers)),
        Case(
            "APScheduler add_job",
            functools.partial(scheduler, timers),
            needs=peers.APSCHEDULER,
        ),
    ]
