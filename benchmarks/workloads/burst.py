"""P12: how long a post takes while a great many timers come due at the same instant."""

from __future__ import annotations

import itertools
import threading
import time
from array import array
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from asynctask import AsyncTaskPool

from benchmarks import peers
from benchmarks.harness import (
    Case,
    Disturbed,
    Metric,
    Sample,
    Scale,
    Workload,
    check,
    percentile,
    undisturbed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MS = 1_000_000
HOUR = 3600.0
AHEAD = 50 * MS
"""The posts begin so long before the deadline."""
TOGETHER = 200
"""Posts between two looks at whether it is over."""
PATIENCE = 60.0
LIMIT = 20_000 * MS
"""What is not over so long after the deadline never will be."""
MOST = 5
"""Posts for each timer at most, after the deadline: whoever runs them before its timers would
never be over."""

now = time.monotonic_ns
noop = int


def stalls(
    post: Callable[[Callable[[], object]], object],
    deadline: int,
    left: Callable[[], int],
    count: int,
) -> Sample:
    """Post in a row, from before the deadline until none of the timers is left, but not for ever.

    What each post took is given of those that ended after the deadline. Checked: it ends.
    """
    ends = array("q")
    took = array("q")
    late = 0
    with undisturbed():
        time.sleep(max(0, deadline - AHEAD - now()) / 1e9)
        # Once more where all of them ran before anything was posted after the deadline.
        while (start := now()) < deadline or left() or not late:
            check(
                start < deadline + LIMIT,
                f"{left():,} of {count:,} timers are left, after {len(took):,} posts",
            )
            if late > MOST * count:
                time.sleep(0.001)
                continue
            for _ in range(TOGETHER):
                post(noop)
                end = now()
                took.append(end - start)
                ends.append(end)
                start = end
            if start > deadline:
                late += TOGETHER
    us = [lasted / 1e3 for lasted, end in zip(took, ends, strict=True) if end > deadline]
    check(us, "all was over before the deadline")
    return {"p50": us, "p99.9": us, "max": us, "took": (start - deadline) / MS}


def post_at_once(post: Callable[[float], Any], count: int) -> int:
    """Post so many timers, *post* takes the delay, for one instant, and give the instant.

    It is far enough ahead: eight times what a twentieth of them, which are cancelled, says; the
    heaps of the loops become slower as they grow, the more so when all deadlines are the same.
    """
    start = now()
    handles = [post(HOUR) for _ in range(count // 20)]
    took = now() - start
    for handle in handles:
        handle.cancel()
    deadline = now() + 8 * 20 * took + 2 * AHEAD
    for _ in range(count):
        post((deadline - now()) / 1e9)
    if now() >= deadline - AHEAD:
        message = "not all were posted in time"
        raise Disturbed(message)
    return deadline


def drained(count: int) -> Sample:
    """Only the timer thread works: the one worker waits for an event, without the GIL.

    Checked: the timers are all in the queue in the end, and run when the worker is free.
    """
    free = threading.Event()
    counter = itertools.count()
    step = counter.__next__
    with AsyncTaskPool(1) as pool:
        blocked = pool.submit(free.wait)
        deadline = post_at_once(lambda delay: pool.post_delay_task(step, delay), count)
        sample = stalls(pool.post_task, deadline, lambda: pool.stats().pending_timers, count)
        check(not blocked.done(), "the worker did not wait")
        free.set()
        pool.shutdown()
    ran = next(counter)
    check(ran == count, f"{ran} ran of {count}")
    return sample


class Countdown:
    """Counts calls down, and says when it is over. Checked: there were no more."""

    def __init__(self, count: int) -> None:
        self._counter = itertools.count(1)
        self._count = count
        self._last = 0
        self._over = threading.Event()

    def call(self) -> None:
        """Count."""
        self._last = number = next(self._counter)
        if number == self._count:
            self._over.set()

    def left(self) -> int:
        """Give how many there are still, give or take what is being counted; 0 when it is over."""
        return 0 if self._over.is_set() else max(1, self._count - self._last)

    def check(self) -> None:
        """See that no more were called."""
        check(next(self._counter) == self._count + 1, "a timer was lost, or came twice")


def run(count: int) -> Sample:
    """The callbacks run as well, and want the GIL. Checked: all run."""
    countdown = Countdown(count)
    with AsyncTaskPool() as pool:
        pool.submit(int).result()
        deadline = post_at_once(lambda delay: pool.post_delay_task(countdown.call, delay), count)
        sample = stalls(pool.post_task, deadline, countdown.left, count)
    countdown.check()
    return sample


def event_loop(peer: str, count: int) -> Sample:
    """`call_soon_threadsafe` to a loop in a thread of its own, which has the timers."""
    countdown = Countdown(count)
    posted: Future[int] = Future()
    with peers.loop_thread(peer) as loop:

        def post() -> None:
            try:
                deadline = post_at_once(lambda delay: loop.call_later(delay, countdown.call), count)
            except Disturbed as error:
                posted.set_exception(error)
            else:
                posted.set_result(deadline)

        loop.call_soon_threadsafe(post)
        deadline = posted.result(PATIENCE)
        sample = stalls(loop.call_soon_threadsafe, deadline, countdown.left, count)
    countdown.check()
    return sample


def post_metrics(most: float | None, *, is_longest_compared: bool = True) -> list[Metric]:
    """What is said of posts beside a burst, here and of the core; *most* is the target."""
    return [
        Metric("p50", "a post, p50, us", reduce=percentile(0.5), digits=2),
        Metric(
            "p99.9",
            "a post, p99.9, us",
            at_most=most,
            reduce=percentile(0.999),
            digits=1,
            is_drawn=True,
        ),
        Metric("max", "a post, longest, us", reduce=max, compared=is_longest_compared),
    ]


def workloads(scale: Scale) -> Sequence[Workload]:
    """P12, with the callbacks held back and with them run."""
    count = scale.pick(200_000, 50_000, 1_000_000)
    run_too = scale.pick(100_000, 30_000, 1_000_000)
    rounds = scale.turns(2, 1)

    def metrics(most: float | None) -> list[Metric]:
        return [*post_metrics(most), Metric("took", "until it was over, ms", digits=1)]

    return [
        Workload(
            "P12",
            f"posts while {count:,} timers come due at once; nothing runs",
            metrics(100),
            [Case("post_task", lambda: drained(count), ours=True)],
            rounds,
            note="the one worker is held, without the GIL: what is left is the timer thread",
        ),
        Workload(
            "P12",
            f"posts while {run_too:,} timers come due at once, and they run",
            metrics(None),
            [
                Case("post_task", lambda: run(run_too), ours=True),
                *peers.loops("{} call_soon_threadsafe", lambda peer: event_loop(peer, run_too)),
            ],
            rounds,
            note="callbacks and posts want the GIL: a post may wait for the interpreter's 5 ms; at "
            f"most {MOST} posts for each timer, for uvloop runs them first, and would not be over",
        ),
    ]
